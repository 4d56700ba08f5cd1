//! What others will make of the signatures: every verifier that is installed here.

use super::key::Sample;
use super::{Findings, in_path, is_program, title};
use crate::error::Error;
use crate::gpg::real;
use crate::settings::{Key, Options};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Has each verifier look at each signature.
///
/// # Errors
/// [`Error::Io`], [`Error::File`] when there is no place for them.
pub(super) fn examine(findings: &mut Findings, options: &Options, key: &Key, samples: &[Sample]) -> Result<(), Error> {
    let directory = tempfile::tempdir().map_err(|error| Error::Io("a temporary directory", error))?;
    let place = directory.path();
    let write = |name: &str, bytes: &[u8]| {
        let path = place.join(name);
        fs::write(&path, bytes).map_err(|error| Error::File(path.clone(), error))
    };
    for (name, armor) in [("key.pgp", false), ("key.asc", true)] {
        let bytes = key.pinned.export(armor).map_err(|error| Error::Io("the certificate", std::io::Error::other(error)))?;
        write(name, &bytes)?;
    }
    for (number, sample) in samples.iter().enumerate() {
        write(&number.to_string(), &sample.bytes)?;
        sample.text.map_or(Ok(()), |text| write("text", text))?;
    }
    let title = title(key);
    let mut found = false;
    for (name, program) in [
        ("gpgv", in_path(OsStr::new("gpgv"))),
        ("gpg", real::find(OsStr::new("gpg"), options).filter(|gpg| !real::is_this(gpg))),
        ("sqv", in_path(OsStr::new("sqv"))),
        ("sq", in_path(OsStr::new("sq"))),
    ] {
        let Some(program) = program.filter(|program| is_program(program)) else { continue };
        let help = help(name, &program);
        let accept = || {
            if name == "gpg" {
                run(&program, place, &["--batch", "--no-autostart", "--import", "key.pgp"])?;
            }
            let mut kinds = Vec::new();
            for (number, sample) in samples.iter().enumerate() {
                let Some(words) = words(name, &help, sample.text.is_none()) else { continue };
                let number = number.to_string();
                let files = [number.as_str(), "text"];
                let files = files.get(..if sample.text.is_some() { 2 } else { 1 }).unwrap_or_default();
                run(&program, place, &[words, files].concat()).map_err(|why| format!("{}: {why}", sample.kind))?;
                kinds.push(sample.kind);
            }
            kinds.dedup();
            Ok::<_, String>(kinds.join(", "))
        };
        let outcome = accept();
        match outcome {
            // One that is too old to be asked.
            Ok(kinds) if kinds.is_empty() => continue,
            Ok(kinds) => findings.ok(&format!("{title}: {name} accepts: {kinds}")),
            Err(why) if samples.iter().any(|sample| sample.is_v6) => {
                findings.warning(&format!("{title}: {name} here does not accept signatures of version 6: {why}; take a newer one"));
            }
            Err(why) => findings.error(&format!("{title}: {name} does not accept {why}; compare the certificate with the host's")),
        }
        found = true;
    }
    if let Some(program) = in_path(OsStr::new("rpmkeys")) {
        let import = ["--dbpath", place.join("rpm").to_str().unwrap_or("rpm"), "--import", "key.asc"].map(str::to_owned);
        match run(&program, place, &import.iter().map(String::as_str).collect::<Vec<_>>()) {
            Ok(()) => findings.ok(&format!("{title}: rpmkeys imports the certificate")),
            Err(why) => {
                findings.warning(&format!("{title}: rpmkeys does not import the certificate: {why}; rpms need another key"))
            }
        }
    }
    if !found {
        findings.warning(&format!("{title}: nobody here has verified a signature; install gpgv or sqv"));
    }
    Ok(())
}

/// What Sequoia's programs say of their options, which change with their versions.
fn help(name: &str, program: &Path) -> String {
    let words = match name {
        "sqv" => &["--help"][..],
        "sq" => &["verify", "--help"],
        _ => return String::new(),
    };
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// How it is asked about a signature, or a message; nothing, if it cannot be.
fn words(name: &str, help: &str, message: bool) -> Option<&'static [&'static str]> {
    let knows = |options: &[&str]| options.iter().all(|option| help.contains(option));
    match (name, message) {
        ("gpgv", _) => Some(&["--keyring", "./key.pgp"]),
        ("gpg", _) => Some(&["--batch", "--no-autostart", "--trust-model", "always", "--verify"]),
        ("sqv", false) => Some(&["--keyring", "key.pgp"]),
        ("sqv", true) if knows(&["--cleartext", "--output"]) => {
            Some(&["--keyring", "key.pgp", "--output", "/dev/null", "--cleartext"])
        }
        ("sq", false) if knows(&["--signer-file", "--signature-file"]) => {
            Some(&["verify", "--signer-file", "key.pgp", "--signature-file"])
        }
        ("sq", true) if knows(&["--signer-file", "--cleartext"]) => Some(&["verify", "--signer-file", "key.pgp", "--cleartext"]),
        _ => None,
    }
}

/// Runs a verifier in a home of its own; otherwise, its last words.
fn run(program: &Path, place: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(place)
        .env("GNUPGHOME", place)
        .env("SEQUOIA_HOME", place)
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("it says nothing").to_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}
