//! The ledger: a file of JSON lines, each with the hash of the one before it, on the disk before a signature leaves.
//!
//! A session looks at the tail alone; `sigsh-admin ledger verify` walks it all. Whoever is killed, or finds the disk full, may leave a
//! torn line: it stays, and counts in the chain.

pub mod chain;
pub mod count;
pub mod file;
pub mod line;

use crate::state::StateError;
use crate::trusted::TrustError;
use crate::warrant::Quota;
use chain::Place;
use count::{Count, Past};
use file::{Book, Fields, Lock};
use nix::errno::Errno;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// By how much earlier something may have begun by a clock that is not ours.
const OTHER_CLOCKS: Duration = Duration::from_secs(60);

/// Why nothing is recorded.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Nobody has opened it, or it has failed before.
    #[error("the ledger is not open")]
    Unopened,
    /// There is none.
    #[error("there is no ledger {0}: 'sigsh-admin ledger init' makes it")]
    Missing(PathBuf),
    /// It cannot be opened: a file system that was mounted read-only, say.
    #[error("cannot open the ledger {path}: {why}", path = .0.display(), why = .1.desc().to_lowercase())]
    Open(PathBuf, Errno),
    /// Somebody else could have written it.
    #[error(transparent)]
    Trust(TrustError),
    /// The lock cannot be had.
    #[error("the ledger's lock in the state directory: {0}")]
    State(#[from] StateError),
    /// Not even its first line is there.
    #[error("the ledger has no record to go on from")]
    Empty,
    /// Its end is not what it was.
    #[error("the ledger was edited: line {0} is not the one that was written: {1}")]
    Edited(u64, String),
    /// Lines are missing at its end.
    #[error("the ledger was cut off: it ends before line {0}")]
    Cut(u64),
    /// It was rotated while this session ran.
    #[error("the ledger's file was ended by 'sigsh-admin ledger rotate'")]
    Rotated(Place),
    /// The clock is wrong, or was.
    #[error("the clock says {now}, and the ledger's last line is of {last}")]
    Clock {
        /// RFC 3339.
        now: String,
        /// RFC 3339.
        last: String,
    },
    /// The clock has gone back during the session: nobody would count this.
    #[error("the clock has gone back to before what permits this could be used")]
    Early,
    /// What may be used so often has been.
    #[error("what permits this is used up: it was good for {0} signature{s}, made or tried", s = if *.0 == 1 { "" } else { "s" })]
    UsedUp(u64),
    /// Files of the ledger are missing in which that may have been used.
    #[error(
        "the ledger does not reach back as far as what permits this: the file that it goes on from is not beside it, or it was made \
         anew in place of another"
    )]
    Past,
    /// Somebody appends without waiting for the turn that this session has: by the lock of another state directory.
    #[error("somebody else has written to the ledger at the same time: was the state directory replaced?")]
    Crossed,
    /// A record longer than any may be.
    #[error("the record is too long for a line of the ledger")]
    Long,
    /// It cannot be read.
    #[error("cannot read the ledger: {0}")]
    Read(std::io::Error),
    /// The disk is full, the file system read-only, the device broken.
    #[error("cannot write to the ledger: {0}")]
    Write(std::io::Error),
    /// The disk was full in the middle of a line.
    #[error("cannot write to the ledger: it took {0} of {1} bytes")]
    Short(usize, usize),
    /// The device did not take what was written.
    #[error("cannot write the ledger to the disk: {0}")]
    Sync(std::io::Error),
}

impl From<TrustError> for LedgerError {
    fn from(error: TrustError) -> LedgerError {
        match error {
            TrustError::Open(path, Errno::ENOENT) => LedgerError::Missing(path),
            // These two mean that it belongs to somebody else.
            error @ TrustError::Open(_, Errno::EACCES | Errno::EPERM) => LedgerError::Trust(error),
            TrustError::Open(path, error) => LedgerError::Open(path, error),
            error => LedgerError::Trust(error),
        }
    }
}

/// An open ledger, and the lock that its writers share.
pub struct Ledger {
    book: Book,
    lock: Lock,
    past: Past,
}

impl Ledger {
    /// Opens both, before the sandbox forbids it; and the files before it, where something is to be counted that may be as old as `reach`.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], [`LedgerError::Open`], [`LedgerError::Trust`], [`LedgerError::State`], [`LedgerError::Read`].
    pub fn open(path: &Path, state: &Path, reach: Option<Duration>) -> Result<Ledger, LedgerError> {
        let (book, lock) = (Book::open(path)?, Lock::open(state)?);
        let since = |reach: Duration| SystemTime::now().checked_sub(reach + OTHER_CLOCKS).unwrap_or(SystemTime::UNIX_EPOCH);
        let past = reach.map_or_else(|| Ok(Past::default()), |reach| Past::open(path, book.file(), since(reach)))?;
        Ok(Ledger { book, lock, past })
    }

    /// Counts what was used so far, outside of the turn: it may take a while.
    ///
    /// # Errors
    /// [`LedgerError::UsedUp`], [`LedgerError::Past`], [`LedgerError::Read`].
    pub fn count(&self, quotas: &[Quota]) -> Result<Count, LedgerError> {
        Count::of(quotas, self.book.file(), self.book.length()?, &self.past)
    }

    /// Appends records of these fields, unless what they are counted by has meanwhile been used as often as it may. All of them are on the
    /// disk when this returns, by one sync.
    ///
    /// # Errors
    /// Any [`LedgerError`]. Some of the records may be there all the same, or a part of one.
    pub fn record(&self, records: &[&Fields<'_>], count: &mut Count) -> Result<Vec<Place>, LedgerError> {
        if !count.is_borne_by(records) {
            return Err(LedgerError::Long);
        }
        let turn = self.lock.turn()?;
        let tail = self.book.tail(self.lock.head().as_ref())?;
        count.go_on(self.book.file(), tail.length())?;
        let (places, head) = self.book.append_all(&tail, records)?;
        drop(turn);
        count.finds(&places)?;
        // Outside of the turn, so that the kernel does it once for all who wait.
        self.book.sync()?;
        self.lock.advance(&head);
        Ok(places)
    }
}
