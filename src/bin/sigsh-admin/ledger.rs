//! `sigsh-admin ledger`. What touches the ledger's content, its lock or its head does so as the account.

mod approvals;
pub(crate) mod file;
mod show;
mod verify;

use crate::check::Findings;
use crate::{AdminError, account};
use clap::Subcommand;
use nix::unistd::User;
use sigsh::audit::ledger::chain::Place;
use sigsh::audit::ledger::file::{Book, Lock};
use sigsh::audit::ledger::{Ledger, LedgerError};
use sigsh::channel::Channel;
use sigsh::config::{Config, Key};
use sigsh::process::Child;
use sigsh::warrant::Quota;
use sigsh::warrant::approval::BREAK_GLASS;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the ledger, with its first line
    Init,
    /// End the ledger's file, and begin a new one that continues it
    Rotate {
        /// Go on from the last line as it is, where sessions refuse the ledger; the reason is recorded
        #[arg(long)]
        accept: bool,
    },
    /// Print place and hash of the last line, SEQ:HASH, to be kept on another host
    Head,
    /// Walk over all lines, and say what is proved by that
    Verify(verify::Options),
    /// Print the records
    Show(show::Options),
}

pub(crate) fn run(command: &Command, path: &Path) -> Result<bool, AdminError> {
    let config = || Config::for_admin(path, false);
    match command {
        Command::Init => file::init(&config()?).map(|()| true),
        Command::Rotate { accept } => file::rotate(&config()?, *accept).map(|()| true),
        Command::Head => {
            let config = config()?;
            as_account(account::find(&config)?.as_ref(), &[], |_| match head(&config) {
                Ok(head) => {
                    println!("{head}");
                    true
                }
                Err(error) => failed(&error),
            })
        }
        Command::Verify(options) => verify::run(options, path),
        Command::Show(options) => show::run(options, path),
    }
}

/// What a session does with the ledger before it writes, and what keeps others from writing.
pub(crate) fn check(findings: &mut Findings, config: &Config) {
    let Some(path) = config.audit.ledger() else {
        return findings.warning("ledger: there is none (ledger = false): journald holds the only record, and is no durable store");
    };
    let what = format!("ledger {}", path.display());
    match last_line(config) {
        Ok((_, place)) if place.ended => {
            findings.error(&format!("{what}: a rotation was interrupted; 'sigsh-admin ledger rotate' finishes it"));
        }
        Ok((_, place)) => findings.ok(&format!("{what}: goes on behind line {}, of {}", place.seq, place.time)),
        Err(error) => return findings.error(&format!("{what}: {error}")),
    }
    match reaches_back(config, path) {
        Ok(()) => {}
        Err(LedgerError::Past) => findings.warning(&format!(
            "{what}: it does not reach back as far as permits may: a file that it goes on from is missing, or it replaced another one"
        )),
        Err(error) => findings.error(&format!("{what}: {error}")),
    }
    if file::left(path) {
        findings
            .warning(&format!("{what}: {}.new was left by a rotation; 'sigsh-admin ledger rotate' finishes it", path.display()));
    }
    if !file::is_append_only(path) {
        findings.warning(&format!("{what}: its lines can be changed; 'chattr +a' lets it grow only, where the file system can"));
    }
    if path.parent().and_then(|parent| parent.metadata().ok()).is_none_or(|parent| parent.uid() != 0) {
        findings.warning(&format!("{what}: its directory does not belong to root, so that the ledger could be replaced"));
    }
}

/// Whether a session finds all in which something may have been used that still could be.
fn reaches_back(config: &Config, path: &Path) -> Result<(), LedgerError> {
    let of = |key: &Key| {
        let glass = key.break_glass.as_ref().map(|table| BREAK_GLASS.max_age_of(table));
        key.endorsement.as_ref().map(|table| table.max_age()).max(glass)
    };
    let Some(reach) = config.keys().filter_map(|(_, key)| of(key)).max() else { return Ok(()) };
    let since = SystemTime::now().checked_sub(reach).unwrap_or(SystemTime::UNIX_EPOCH);
    // Nothing is called so.
    let quota = Quota { name: "-".to_owned(), max: u64::MAX, since };
    Ledger::open(path, config.audit.state(), Some(reach))?.count(&[quota]).map(drop)
}

/// The configured ledger.
pub(crate) fn path(config: &Config) -> Result<&Path, AdminError> {
    config.audit.ledger().ok_or(AdminError::NoLedger)
}

/// Runs `body` in a child that has become the account, which prints for itself; tells what it returned.
pub(crate) fn as_account(user: Option<&User>, keep: &[RawFd], body: impl FnOnce(&Channel) -> bool) -> Result<bool, AdminError> {
    let mut child = Child::fork(c"sigsh-ledger", &[&[0, 1, 2], keep].concat(), |channel| {
        let good = match account::enter(user) {
            Ok(()) => body(&channel),
            Err(error) => failed(&error.into()),
        };
        let _ = channel.send(&good);
    })?;
    let good = child.channel().receive().map_err(|error| AdminError::Child(error.to_string()));
    child.end();
    good
}

/// Says what went wrong, as `main` would.
pub(crate) fn failed(error: &AdminError) -> bool {
    error.print();
    false
}

fn head(config: &Config) -> Result<String, AdminError> {
    let (book, place) = last_line(config)?;
    book.sync()?;
    Ok(format!("{}:{}", place.seq, hex::encode(place.hash)))
}

fn last_line(config: &Config) -> Result<(Book, Place), AdminError> {
    let book = Book::open(path(config)?)?;
    let lock = Lock::open(config.audit.state())?;
    let _turn = lock.turn()?;
    match book.tail(lock.head().as_ref()) {
        Ok(tail) => Ok((book, tail.place)),
        Err(LedgerError::Rotated(place)) => Ok((book, place)),
        Err(error) => Err(error.into()),
    }
}

/// A file to walk over, and how much of it: what sessions append meanwhile is not looked at.
type Part = (PathBuf, BufReader<std::io::Take<File>>);

/// The files that were named, or those of the configured ledger, in order.
fn parts(files: &[PathBuf], config: Option<&Config>) -> Result<Vec<Part>, AdminError> {
    let open = |path: &PathBuf, length| {
        let file = File::open(path).map_err(|error| AdminError::File(path.clone(), error))?;
        Ok((path.clone(), BufReader::with_capacity(1 << 16, file.take(length))))
    };
    match config {
        Some(config) if files.is_empty() => {
            let path = path(config)?;
            let lock = Lock::open(config.audit.state())?;
            let _turn = lock.turn()?;
            let length = Book::open(path)?.length()?;
            let rotated = file::rotated(path)?.into_iter().map(|path| open(&path, u64::MAX));
            rotated.chain([open(&path.to_owned(), length)]).collect()
        }
        _ => files.iter().map(|path| open(path, u64::MAX)).collect(),
    }
}
