//! `sigsh-admin grant`: permits for builds that this host gives by itself.

use crate::{AdminError, account, ledger};
use clap::Subcommand;
use clap::builder::RangedU64ValueParser;
use sigsh::config::Config;
use sigsh::openpgp::SigningKey;
use sigsh::openpgp::certificate::MAX_CERTIFICATE;
use sigsh::request::Moment;
use sigsh::token::{TokenError, vouch};
use sigsh::trusted;
use sigsh::warrant::mac::{Id, MAX, PREFIX, Scope};
use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print the nonce by which a build endorses what it makes
    Mac {
        /// The key that is to sign, by its name in the configuration
        #[arg(long, value_name = "KEY")]
        key: String,
        /// What the build is called in the records: letters, digits, '.', '_' and '-'
        #[arg(long, value_name = "ID", value_parser = Id::parse)]
        id: Id,
        /// How long the build may endorse, such as 2h
        #[arg(long, value_name = "TIME", value_parser = lifetime)]
        expires: Duration,
        /// For how many signatures
        #[arg(long, value_name = "N", default_value_t = 64, value_parser = RangedU64ValueParser::<u64>::new().range(MAX))]
        max: u64,
    },
}

fn lifetime(text: &str) -> Result<Duration, &'static str> {
    let time = humantime::parse_duration(text).ok().filter(|time| time.as_secs() > 0);
    time.ok_or("it is a length of time such as 2h, and at least 1s")
}

pub(crate) fn run(command: &Command, config: &Config) -> Result<bool, AdminError> {
    ledger::as_account(account::find(config)?.as_ref(), &[], |_| match line(command, config).and_then(|line| print(&line)) {
        Ok(()) => true,
        Err(error) => ledger::failed(&error),
    })
}

/// What a build reads its nonce from.
fn line(command: &Command, config: &Config) -> Result<String, AdminError> {
    let Command::Mac { key: name, id, expires, max } = command;
    let (_, key, _) = config.key(name).ok_or_else(|| AdminError::NoKey(name.clone()))?;
    let endorsement = key.endorsement.as_ref().ok_or_else(|| AdminError::NoMac(name.clone()))?;
    let file = endorsement.mac_file.as_deref().ok_or_else(|| AdminError::NoMac(name.clone()))?;
    if *expires > endorsement.max_age() {
        return Err(AdminError::TooLong(endorsement.max_age()));
    }
    let now = SystemTime::now();
    // The host itself is to believe it: the clock is the same, and it may begin at once.
    let begin = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (not_before, not_after) = (Moment(begin), Moment(begin.saturating_add(expires.as_secs())));
    let certificate = SigningKey::read(&trusted::read(&key.certificate, MAX_CERTIFICATE)?, key.hash, now)?;
    if !certificate.can_be_guarded() {
        return Err(AdminError::Unguardable(name.clone()));
    }
    let (fingerprint, host) = (certificate.fingerprint(), config.host());
    let scope = Scope { fingerprint: &fingerprint, host, id: id.clone(), not_before, not_after, max: *max };
    let nonce = vouch::nonce(file, &scope.permit()).map_err(TokenError::Fault)?;
    Ok(format!("{PREFIX}{fingerprint} {host} {id} {not_before} {not_after} {max} {}\n", hex::encode(&nonce)))
}

/// The line is a secret, and what a program reads: nothing else is beside it.
fn print(line: &str) -> Result<(), AdminError> {
    let mut stdout = std::io::stdout().lock();
    if stdout.is_terminal() {
        eprintln!("sigsh-admin: note: who knows this line can endorse; hand it to the build alone, by standard input or in a file");
    }
    let written = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| AdminError::File("standard output".into(), error))
}
