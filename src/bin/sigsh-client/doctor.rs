//! `doctor`: one line a finding, with the remedy. Everything that a build will do is tried, on each host, by each key.

mod host;
mod key;
mod known;
mod verifiers;

use crate::error::{Error, clean};
use crate::gpg::real;
use crate::log::Log;
use crate::output::Target;
use crate::settings::{self, Key, Options, Settings};
use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Prints findings and remembers whether one of them is an error.
#[derive(Default)]
struct Findings {
    errors: bool,
}

impl Findings {
    fn ok(&self, what: &str) {
        print("ok", what);
    }

    fn warning(&self, what: &str) {
        print("warning", what);
    }

    fn error(&mut self, what: &str) {
        print("error", what);
        self.errors = true;
    }
}

/// Nobody is left to be told that a line was not taken.
fn print(word: &str, what: &str) {
    let _ = Target::Stdout.write(format!("{word}: {}\n", clean(what)).as_bytes());
}

/// Runs all checks. `false` when one found an error.
///
/// # Errors
/// [`Error::Io`] when there is no place for what is signed.
pub(crate) fn run(options: &Options) -> Result<bool, Error> {
    let mut findings = Findings::default();
    let settings = match Settings::load(options) {
        Ok(settings) => settings,
        Err(error) => {
            let hint = error.hint().map_or_else(String::new, |hint| format!("; {hint}"));
            findings.error(&format!("configuration: {error}{hint}"));
            return Ok(false);
        }
    };
    configuration(&findings, &settings, options)?;
    settings.keys.iter().for_each(|key| key::certificate(&mut findings, key));
    programs(&mut findings, &settings, options);
    let mut samples = Vec::new();
    for name in &settings.hosts {
        host::examine(&mut findings, &settings, name, &mut samples)?;
    }
    for (key, samples) in &samples {
        verifiers::examine(&mut findings, options, key, samples)?;
    }
    Ok(!findings.errors)
}

fn configuration(findings: &Findings, settings: &Settings, options: &Options) -> Result<(), Error> {
    let path = settings::path(options)?;
    let path = path.map_or_else(|| "options and variables alone".to_owned(), |path| path.display().to_string());
    findings.ok(&format!("configuration: {path}; hosts: {}", settings.hosts.join(", ")));
    // Those of the configuration are refused; this one was named by whoever runs us.
    let named = options.certificate.clone().or_else(|| env::var_os("SIGSH_CERTIFICATE").map(PathBuf::from));
    let named = named.and_then(|path| path.canonicalize().ok());
    if let Some(Err(error)) = named.map(|path| sigsh::trusted::open(&path)) {
        findings.warning(&format!("{error}; whoever can write it decides whose signatures are good: chown and chmod it"));
    }
    Ok(())
}

/// What is needed beside us.
fn programs(findings: &mut Findings, settings: &Settings, options: &Options) {
    if in_path(OsStr::new("ssh")).is_none() {
        findings.error("there is no ssh in PATH; install openssh-client");
    }
    match real::find(OsStr::new("gpg"), options) {
        Some(gpg) if real::is_this(&gpg) => {
            findings.error(&format!("{} is sigsh-client itself; name the real gpg by gpg = \"…\" in client.toml", gpg.display()));
        }
        Some(gpg) if is_program(&gpg) => findings.ok(&format!("the real gpg: {}", gpg.display())),
        Some(gpg) => findings.error(&format!("{} is no program; name the real gpg by gpg = \"…\" in client.toml", gpg.display())),
        None => findings.warning("there is no real gpg: what is not signing will fail in tools that call gpg; install gnupg"),
    }
    match in_path(OsStr::new("gpg")) {
        Some(gpg) if real::is_this(&gpg) => findings.ok(&format!("gpg in PATH is sigsh-client: {}", gpg.display())),
        Some(gpg) => findings.ok(&format!(
            "gpg in PATH is not sigsh-client but {}; 'sigsh-client setup gpg DIR' is for tools that call gpg",
            gpg.display()
        )),
        None => {}
    }
    if let Some(program) = settings.local_fallback.first() {
        // As it is found when it is needed.
        let path = if program.contains('/') { Some(PathBuf::from(program)) } else { real::in_path(OsStr::new(program)) };
        match path.filter(|path| is_program(path) && !real::is_this(path)) {
            Some(path) => findings.ok(&format!("local fallback: {}", path.display())),
            None => findings.error(&format!("local fallback: there is no program {program}; install it, or remove local-fallback")),
        }
    }
    let logged = match &settings.log {
        Log::Syslog => {
            UnixDatagram::unbound().and_then(|socket| socket.connect("/dev/log")).map_err(|error| ("syslog".into(), error))
        }
        Log::File(path) => File::options().append(true).create(true).open(path).map(drop).map_err(|error| (path.clone(), error)),
        Log::Off => Ok(()),
    };
    if let Err((to, error)) = logged {
        let error = Error::File(to, error);
        findings.warning(&format!("log of gpg's calls: {error}; set log = \"/a/file\" or false in client.toml"));
    }
}

/// The program that a shell would start.
fn in_path(name: &OsStr) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    if Path::new(name).is_absolute() {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    env::split_paths(&path).map(|directory| directory.join(name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// For messages.
fn title(key: &Key) -> String {
    key.name.as_deref().map_or_else(|| "the first key".to_owned(), |name| format!("key '{name}'"))
}
