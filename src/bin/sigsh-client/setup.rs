//! `setup`: what makes packagers' tools sign with the client.

mod files;
mod git;

use crate::GPG;
use crate::error::Error;
use crate::output::Target;
use crate::settings::{Options, Settings};
use std::env;
use std::path::{Path, PathBuf};

const GPGCONF: &str = include_str!("setup/gpgconf.sh");
const REPREPRO: &str = include_str!("setup/reprepro.sh");

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a directory for PATH, where gpg is sigsh-client; with a gpgconf for tools that use gpgme
    Gpg {
        /// Replace other links, and another gpgconf
        #[arg(short, long)]
        force: bool,
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Write rpm's macros, such as /etc/rpm/macros.sigsh or ~/.rpmmacros, or print them
    Rpm(File),
    /// Print the commands that let git sign, or run them
    Git(git::Git),
    /// Write the hook for SignWith in reprepro's conf/distributions, or print it
    Reprepro(File),
}

#[derive(Debug, clap::Args)]
pub(crate) struct File {
    /// Replace a file that is not from here
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl File {
    fn write(&self, text: &str, mode: u32) -> Result<(), Error> {
        match &self.file {
            Some(file) => files::write(file, text, mode, self.force),
            None => Target::Stdout.write(text.as_bytes()),
        }
    }
}

/// Writes it, and prints what is left to do.
///
/// # Errors
/// Those of settings, [`Error::Exists`], [`Error::File`], [`Error::Usage`].
pub(crate) fn run(command: &Command, options: &Options) -> Result<(), Error> {
    match command {
        Command::Gpg { .. } if options.is_some() => {
            Err(Error::Usage("links carry no options; write them into client.toml, or set SIGSH_CONFIG".to_owned()))
        }
        Command::Gpg { directory, force } => gpg(directory, *force),
        Command::Rpm(file) => {
            without(options, "rpm")?;
            let key = options.keys.first().map_or_else(String::new, |key| format!(" -k {key}"));
            file.write(&rpm(&front_end()?, &fingerprint(options)?)?, 0o644).map_err(|error| match error {
                // ~/.rpmmacros has macros of others.
                Error::Exists(path) => Error::Append(path, format!("sigsh-client{key} setup rpm")),
                error => error,
            })
        }
        Command::Git(git) => {
            without(options, "git")?;
            let commands = git.run(&files::text(&front_end()?)?, &fingerprint(options)?)?;
            Target::Stdout.write(commands.as_bytes())
        }
        Command::Reprepro(file) => file.write(&REPREPRO.replace("@SIGN@", &sign(options)?), 0o755),
    }
}

/// What starts the client by its name alone passes none of these on.
fn without(options: &Options, program: &str) -> Result<(), Error> {
    let given = [
        ("--config", options.config.is_some()),
        ("--host", !options.hosts.is_empty()),
        ("--certificate", options.certificate.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some(("--config", _)) => Err(Error::Usage(format!(
            "{program} starts sigsh-gpg without --config: write it to ~/.config/sigsh/client.toml or /etc/sigsh/client.toml"
        ))),
        Some((option, _)) => {
            Err(Error::Usage(format!("{program} starts sigsh-gpg without {option}: put it into the configuration file")))
        }
        None => Ok(()),
    }
}

/// Makes the directory, and prints the line that puts it into PATH.
fn gpg(directory: &Path, force: bool) -> Result<(), Error> {
    let directory = files::absolute(directory)?;
    let name = quoted(&directory)?;
    if name.contains(':') {
        return Err(Error::Usage("a directory in PATH has no ':' in its name".to_owned()));
    }
    let client = client()?;
    std::fs::create_dir_all(&directory).map_err(|error| Error::File(directory.clone(), error))?;
    GPG.iter().try_for_each(|name| files::may_link(&directory.join(name), force))?;
    // gpgconf escapes what would end a field or a line.
    let escaped = files::text(&directory.join("gpg"))?.replace('%', "%25").replace(',', "%2c");
    files::write(&directory.join("gpgconf"), &GPGCONF.replace("@GPG@", &quoted(Path::new(&escaped))?), 0o755, force)?;
    GPG.iter().try_for_each(|name| files::link(&directory.join(name), &client))?;
    Target::Stdout.write(format!("export PATH={name}:\"$PATH\"\n").as_bytes())
}

/// rpm up to 4.20 and 6 know `%__gpg`; where Sequoia signs by default, 6 must be told to use it.
fn rpm(program: &Path, fingerprint: &str) -> Result<String, Error> {
    let program = files::text(program)?.replace('%', "%%");
    Ok(format!(
        "# Written by 'sigsh-client setup rpm'. rpm reads it as /etc/rpm/macros.sigsh, for all users.\n\
         %__gpg {program}\n%_gpg_name {fingerprint}\n# rpm 6:\n%_openpgp_sign gpg\n%_openpgp_sign_id {fingerprint}\n"
    ))
}

/// The command that signs, with what was said on this command line.
fn sign(options: &Options) -> Result<String, Error> {
    let mut words = vec![quoted(&client()?)?];
    if let Some(config) = &options.config {
        words.extend(["--config".to_owned(), quoted(&files::absolute(config)?)?]);
    }
    for host in &options.hosts {
        words.extend(["--host".to_owned(), quoted(Path::new(host))?]);
    }
    if let Some(certificate) = &options.certificate {
        words.extend(["--certificate".to_owned(), quoted(&files::absolute(certificate)?)?]);
    }
    if let Some(key) = options.keys.first() {
        words.extend(["--key".to_owned(), key.to_string()]);
    }
    Ok(words.join(" ") + " sign --force")
}

/// The first key's.
fn fingerprint(options: &Options) -> Result<String, Error> {
    let settings = Settings::put_together(options)?;
    let cert = settings.keys.first().and_then(|key| key.pinned.certs().first());
    cert.map(|cert| cert.fingerprint().to_hex()).ok_or(Error::NoCertificate)
}

/// This program, without links.
fn client() -> Result<PathBuf, Error> {
    env::current_exe().and_then(|path| path.canonicalize()).map_err(|error| Error::Io("the path of sigsh-client", error))
}

/// The client under the name of a gpg: beside it, or in PATH.
fn front_end() -> Result<PathBuf, Error> {
    let client = client()?;
    let path = env::var_os("PATH").unwrap_or_default();
    let beside = client.parent().map(Path::to_owned);
    let mut found = beside.into_iter().chain(env::split_paths(&path)).map(|directory| directory.join("sigsh-gpg"));
    let found = found.find(|path| path.is_absolute() && path.canonicalize().is_ok_and(|path| path == client));
    let none = || "neither beside sigsh-client nor in PATH; 'sigsh-client setup gpg DIR' makes it".to_owned();
    found.ok_or_else(|| Error::Setting("sigsh-gpg", none()))
}

/// As a shell reads it.
fn quoted(path: &Path) -> Result<String, Error> {
    let text = files::text(path)?;
    shlex::try_quote(&text).map(String::from).map_err(|error| Error::Usage(error.to_string()))
}
