//! sigsh-admin: for the operator of the signing host.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod account;
mod certificate;
mod check;
mod client;
mod demands;
mod grant;
mod journald;
mod key;
mod ledger;
mod limits;
mod sshd;

use clap::{Parser, Subcommand};
use sigsh::audit::ledger::LedgerError;
use sigsh::config::{self, Config, ConfigError};
use sigsh::openpgp::OpenpgpError;
use sigsh::sandbox::{self, SandboxError};
use sigsh::token::{Fault, TokenError};
use sigsh::trusted::TrustError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Set up and check a signing host
#[derive(Parser)]
#[command(name = "sigsh-admin", version, disable_help_subcommand = true)]
struct Arguments {
    /// The configuration
    #[arg(long, global = true, value_name = "FILE", default_value = config::DEFAULT)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keys in a token
    #[command(subcommand)]
    Key(key::Command),
    /// OpenPGP certificates of keys
    #[command(subcommand)]
    Certificate(certificate::Command),
    /// The ledger: the durable record of who signed what
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// Permits for builds that this host gives by itself
    #[command(subcommand)]
    Grant(grant::Command),
    /// Check configuration, ownership, tokens, certificates, journal, ledger, sandbox and sshd's settings; sign once with every key
    Check(check::Options),
}

/// What went wrong, and what to do.
#[derive(Debug, thiserror::Error)]
enum AdminError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Openpgp(#[from] OpenpgpError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Book(#[from] LedgerError),
    #[error("{0}")]
    Ledger(String),
    #[error("the configuration says that there is no ledger (ledger = false)")]
    NoLedger,
    #[error("{0} exists already, and a ledger is never overwritten")]
    LedgerExists(PathBuf),
    #[error("the process that works as the account: {0}")]
    Child(String),
    #[error("there is no [key.{0}] in the configuration")]
    NoKey(String),
    #[error("{0} exists already, and is not overwritten")]
    Exists(PathBuf),
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error("cannot become the account '{0}': {1}")]
    Account(String, String),
    #[error("{0} is not a public ssh key or certificate: {1}")]
    SshKey(PathBuf, String),
    #[error("cannot start a process: {0}")]
    Process(#[from] nix::errno::Errno),
    #[error("the token does not show the public half of its key")]
    NoPublic,
    #[error("key '{0}' takes no endorsement by a MAC")]
    NoMac(String),
    #[error("that is longer than the key's max-age of {}", humantime::format_duration(*.0))]
    TooLong(Duration),
    #[error(
        "the certificate of key '{0}' has several signing keys, or one of version 6: nobody can endorse or approve what they sign"
    )]
    Unguardable(String),
}

impl AdminError {
    /// One line, and at most a hint.
    fn print(&self) {
        eprintln!("sigsh-admin: error: {self}");
        if let Some(hint) = self.hint() {
            eprintln!("sigsh-admin: hint: {hint}");
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            AdminError::Exists(_) => "move it away first, if you mean to make a new certificate",
            AdminError::LedgerExists(_) => {
                "'sigsh-admin ledger rotate' begins a new file that continues it, or finishes what was interrupted"
            }
            AdminError::Account(..) => "systemd-sysusers makes the account from sysusers.d/sigsh.conf",
            AdminError::Token(TokenError::Fault(Fault::PinTried | Fault::PinIncorrect)) => {
                "write the right PIN into the PIN file: sigsh tries again when the file has changed"
            }
            AdminError::Token(TokenError::Fault(Fault::PinLow(_))) => "log in once with the token's own tool",
            AdminError::Token(TokenError::Fault(Fault::Tokens(..))) => "pkcs11-tool --module MODULE -L lists the tokens",
            AdminError::Openpgp(OpenpgpError::OnlyV6) => {
                "say --openpgp v6; the verifiers that know version 4 alone know no such key"
            }
            AdminError::Token(TokenError::Fault(Fault::Keys(_) | Fault::Half)) => {
                "pkcs11-tool --module MODULE -l -O lists the keys"
            }
            AdminError::NoMac(_) => "name a file of 32 random bytes as mac-file of its endorsement, as sigsh.toml(5) shows",
            AdminError::NoPublic => "make the public key visible under the same label and id as the private key",
            _ => return None,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = sandbox::harden().map_err(AdminError::from).and_then(|()| match &arguments.command {
        Command::Key(command) => key::run(command, &Config::for_admin(&arguments.config, false)?).map(|()| true),
        Command::Certificate(command) => certificate::run(command, &Config::for_admin(&arguments.config, false)?).map(|()| true),
        Command::Ledger(command) => ledger::run(command, &arguments.config),
        Command::Grant(command) => grant::run(command, &Config::for_admin(&arguments.config, false)?),
        Command::Check(options) => check::run(options, &arguments.config),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            error.print();
            ExitCode::FAILURE
        }
    }
}
