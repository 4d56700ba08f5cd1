//! sigsh-client: on the build server. Has files signed by a sigsh host over the system's ssh, and lets nothing out that does not verify.

mod approve;
mod batch;
mod doctor;
mod endorse;
mod error;
mod evidence;
mod fallback;
mod gpg;
mod hosts;
mod input;
mod log;
mod output;
mod program;
mod progress;
mod runtime;
mod settings;
mod setup;
mod sign;
mod ssh;
mod targets;
mod verify;

use clap::{CommandFactory, Parser, Subcommand};
use error::Error;
use input::Input;
use nix::sys::signal::{SigSet, Signal};
use output::Target;
use settings::{Key, Options, Settings};
use sigsh::hash_state::Form;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Has files signed by a sigsh host
#[derive(Debug, Parser)]
#[command(name = "sigsh-client", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign files: FILE.sig, or FILE.asc with --armor or --cleartext; standard input to standard output
    Sign(Sign),
    /// Say that this build has made files: FILE.endorsement, for a key that demands it
    Endorse(endorse::Endorse),
    /// Approve files, for a key that demands it: FILE.NAME.approval
    Approve(approve::Approve),
    /// Do what gpg would do with these arguments, and sign on the host
    #[command(disable_help_flag = true, override_usage = "sigsh-client [OPTIONS] gpg [ARGUMENT]...")]
    Gpg,
    /// Let gpg, rpm, git or reprepro sign with it
    #[command(subcommand)]
    Setup(setup::Command),
    /// Verify files that are signed: FILE.sig, FILE.asc, or cleartext-signed ones
    Verify(verify::Verify),
    /// Look at hosts, certificates, clocks and verifiers; sign a test in every way
    Doctor,
    /// Print completions for a shell
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// Those that have a directory for completions.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, clap::Args)]
struct Sign {
    /// ASCII armor
    #[arg(short, long, conflicts_with = "cleartext")]
    armor: bool,
    /// A message that holds the text and its signature
    #[arg(long)]
    cleartext: bool,
    /// Sign the lines of a text, however they end
    #[arg(long, conflicts_with = "cleartext")]
    text: bool,
    /// Where the signature of a single file goes; - is standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Replace signatures that are there already
    #[arg(short, long)]
    force: bool,
    /// A command like gpg that signs when every host is down: 'gpg --batch -u FINGERPRINT'
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    local_fallback: Option<Words>,
    #[command(flatten)]
    evidence: evidence::Files,
    /// What is signed; - is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// The names under which this program is gpg.
const GPG: [&str; 4] = ["gpg", "gpg2", "gpg-sq", "sigsh-gpg"];

fn main() -> ExitCode {
    // A file that grows beyond RLIMIT_FSIZE is an error then, and no death.
    let _ = SigSet::from(Signal::SIGXFSZ).thread_block();
    let words = std::env::args_os().collect::<Vec<_>>();
    let name = words.first().map(PathBuf::from).unwrap_or_default();
    if let Some(name) = name.file_name().filter(|name| GPG.iter().any(|gpg| name == gpg)) {
        return gpg::run(name, words.get(1..).unwrap_or_default(), &Options::default());
    }
    // What follows `gpg` is gpg's alone.
    for (ours, gpgs) in (1..=words.len()).map(|at| words.split_at(at)).filter(|(ours, _)| ours.ends_with(&["gpg".into()])) {
        if let Ok(Arguments { options, command: Command::Gpg }) = Arguments::try_parse_from(ours) {
            return gpg::run("sigsh-gpg".as_ref(), gpgs, &options);
        }
    }
    let outcome = Arguments::try_parse_from(&words).map_err(|error| {
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS }
    });
    match outcome.map(run) {
        Ok(Ok(code)) | Err(code) => code,
        Ok(Err(error)) => {
            error.print();
            ExitCode::from(error.code())
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    match arguments.command {
        Command::Gpg => Ok(gpg::run("sigsh-gpg".as_ref(), &[], &arguments.options)),
        Command::Sign(command) => {
            let mut settings = Settings::load(&arguments.options)?;
            settings.local_fallback = command.local_fallback.clone().unwrap_or(settings.local_fallback);
            sign_files(&settings, &arguments.options, &command).map(|()| ExitCode::SUCCESS)
        }
        Command::Endorse(command) => endorse::run(&command, &arguments.options).map(|()| ExitCode::SUCCESS),
        Command::Approve(command) => approve::run(&command, &arguments.options).map(|()| ExitCode::SUCCESS),
        Command::Verify(command) => verify::run(&command, &arguments.options).map(|good| ExitCode::from(if good { 0 } else { 65 })),
        Command::Completions { shell } => completions(shell).map(|()| ExitCode::SUCCESS),
        Command::Doctor => doctor::run(&arguments.options).map(|good| ExitCode::from(u8::from(!good))),
        Command::Setup(command) => setup::run(&command, &arguments.options).map(|()| ExitCode::SUCCESS),
    }
}

/// From the very description that parses.
fn completions(shell: Shell) -> Result<(), Error> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "sigsh-client", &mut script);
    // In bash's, a hyphen is written in two ways that never meet (<https://github.com/clap-rs/clap/issues/6421>).
    let script = String::from_utf8_lossy(&script).replace("sigsh__subcmd__client", "sigsh__client");
    Target::Stdout.write(script.as_bytes())
}

/// Signs by the keys that were named, or the first one.
fn sign_files(settings: &Settings, options: &Options, command: &Sign) -> Result<(), Error> {
    let form = match command {
        Sign { cleartext: true, .. } => Form::Cleartext,
        Sign { text: true, .. } => Form::Text,
        _ => Form::Binary,
    };
    let armor = command.armor || command.cleartext;
    let stdin = [PathBuf::from("-")];
    let files = if command.files.is_empty() { &stdin[..] } else { &command.files };
    let mut keys = settings.keys.get(..options.keys.len().max(1)).unwrap_or(&settings.keys).to_vec();
    if !command.evidence.is_empty() {
        if files.len() * keys.len() > 1 {
            let why = "--endorsement, --approval and --break-glass are of one file and one key, and there are several";
            return Err(Error::Usage(why.to_owned()));
        }
        keys.iter_mut().for_each(|key| key.guarded = true);
    }
    if command.output.is_some() && files.len() * keys.len() > 1 {
        return Err(Error::Usage("--output names one file, and there are several signatures".to_owned()));
    }
    let mut names = HashSet::new();
    if let Some(name) = keys.iter().filter_map(|key| key.name.as_deref()).find(|name| !names.insert(*name)) {
        return Err(Error::Usage(format!("key '{name}' is named twice")));
    }
    let target = |file: &Path, key: &Key| match command.output.as_deref() {
        Some(path) if path == Path::new("-") => Target::Stdout,
        Some(path) => Target::File { path: path.to_owned(), force: command.force },
        None if file == Path::new("-") => Target::Stdout,
        None => Target::File { path: beside(file, Some(key).filter(|_| keys.len() > 1), armor), force: command.force },
    };
    let targets = files.iter().map(|file| keys.iter().map(|key| target(file, key)).collect()).collect::<Vec<Vec<Target>>>();
    targets.iter().flatten().try_for_each(Target::check)?;
    let mut inputs = files.iter().map(|file| open(file)).collect::<Result<Vec<_>, _>>()?;
    targets::distinct(targets.iter().flatten(), &inputs)?;
    for key in keys.iter().filter(|key| key.guarded) {
        inputs.iter_mut().try_for_each(|input| command.evidence.bring(input, key))?;
    }
    sign::sign(settings, &keys, &inputs, form, |input, key, signed| {
        let target = targets.get(input).and_then(|targets| targets.get(key));
        target.map_or(Ok(()), |target| target.write(&signed.bytes(armor)?))
    })
}

/// A command, as a shell takes it apart.
type Words = Vec<String>;

fn words(text: &str) -> Result<Words, String> {
    shlex::split(text).filter(|words| !words.is_empty()).ok_or_else(|| "this is no command".to_owned())
}

fn open(file: &Path) -> Result<Input, Error> {
    if file != Path::new("-") {
        return Input::open(file);
    }
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| Error::Io("standard input", error))?;
    Input::take(File::from(stdin))
}

/// The name of a signature: FILE.sig, FILE.asc; FILE.KEY.sig where each of several keys has its own.
fn beside(file: &Path, key: Option<&Key>, armor: bool) -> PathBuf {
    let mut name = OsString::from(file);
    if let Some(key) = key.and_then(|key| key.name.as_deref()) {
        name.push(format!(".{key}"));
    }
    name.push(if armor { ".asc" } else { ".sig" });
    name.into()
}
