//! What git is told.

use crate::error::Error;
use std::io;
use std::process::{Command, Stdio};

#[derive(Debug, clap::Args)]
pub(crate) struct Git {
    /// For this repository alone
    #[arg(long, conflicts_with = "global")]
    local: bool,
    /// For all repositories of this user, which is what happens without --local
    #[arg(long)]
    global: bool,
    /// Sign every commit and every tag, even when nobody asks for it
    #[arg(long)]
    always: bool,
    /// Run the commands, instead of printing them
    #[arg(long)]
    write: bool,
    /// Replace other values
    #[arg(short, long)]
    force: bool,
}

impl Git {
    /// Sets it, or returns the commands that do.
    ///
    /// # Errors
    /// [`Error::Exists`] when another value is set, [`Error::Io`] when git fails.
    pub(super) fn run(&self, program: &str, fingerprint: &str) -> Result<String, Error> {
        let scope = if self.local { "--local" } else { "--global" };
        let always: &[_] = if self.always { &[("commit.gpgSign", "true"), ("tag.gpgSign", "true")] } else { &[] };
        // git's older versions know only gpg.program; the others prefer gpg.openpgp.program.
        let ours = [
            ("gpg.format", "openpgp"),
            ("gpg.program", program),
            ("gpg.openpgp.program", program),
            ("user.signingKey", fingerprint),
        ];
        let values = [&ours, always].concat();
        if !self.write {
            let line = |(name, value)| shlex::try_join(["git", "config", scope, name, value]).map(|line| line + "\n");
            let lines = values.into_iter().map(line).collect::<Result<String, _>>();
            return lines.map_err(|error| Error::Usage(error.to_string()));
        }
        let mut todo = Vec::new();
        for &(name, value) in &values {
            match git(&[scope, "--get", name])? {
                Some(old) if old == value => {}
                Some(_) if !self.force => return Err(Error::Exists(format!("git's setting {name}").into())),
                _ => todo.push((name, value)),
            }
        }
        for (name, value) in todo {
            let set: &[_] = if self.force { &[scope, "--replace-all", name, value] } else { &[scope, name, value] };
            git(set)?.ok_or_else(|| Error::Io("git config", io::Error::other(format!("{name} is not set"))))?;
        }
        for (name, value) in values {
            let effective = git(&["--get", name])?.unwrap_or_default();
            if effective != value {
                let why = format!("it is still {effective} here: 'git config --show-origin {name}' says where");
                return Err(Error::Git(name.to_owned(), why));
            }
        }
        Ok(String::new())
    }
}

/// What `git config` says; nothing when the value is not set.
fn git(arguments: &[&str]) -> Result<Option<String>, Error> {
    let failed = |error| Error::Io("git config", error);
    let output = Command::new("git").arg("config").args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(failed)?;
    match output.status.code() {
        Some(0) => Ok(Some(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())),
        Some(1) => Ok(None),
        _ => Err(failed(io::Error::other("it has failed"))),
    }
}
