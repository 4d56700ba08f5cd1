//! The state directory: what the sessions of an account share. Small files, and a lock for whoever changes one.

use crate::channel::{self, after};
use crate::trusted::{self, TrustError};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::fs::{File, TryLockError};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a session that waits for its turn looks again.
const POLL: Duration = Duration::from_millis(1);

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory is not ours alone.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A file in it cannot be opened or made.
    #[error("cannot open {path}: {why}", path = .0.display(), why = .1.desc().to_lowercase())]
    Open(PathBuf, Errno),
    /// Other sessions kept it locked until the time was up.
    #[error("other sessions kept it locked")]
    Busy,
    /// The system refused.
    #[error("cannot lock it: {0}")]
    Lock(String),
}

/// The directory.
pub struct State {
    directory: OwnedFd,
    path: PathBuf,
}

impl State {
    /// Opens it: it belongs to the account, and nobody else may enter.
    ///
    /// # Errors
    /// [`StateError::Trust`].
    pub fn open(path: &Path) -> Result<State, StateError> {
        Ok(State { directory: trusted::private_directory(path)?, path: path.to_owned() })
    }

    /// Opens a file in it for reading and writing, and makes it at first.
    ///
    /// # Errors
    /// [`StateError::Open`].
    pub fn file(&self, name: &str) -> Result<File, StateError> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.directory, name, flags, Mode::from_bits_truncate(0o600)) {
            Ok(file) => Ok(file.into()),
            Err(error) => Err(StateError::Open(self.path.join(name), error)),
        }
    }
}

/// The turn of this session; others wait until it is dropped. The kernel ends the turn of a session that dies.
pub struct Turn<'a>(&'a File);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Waits for the turn to use a file, for no longer than `patience`.
///
/// # Errors
/// [`StateError::Busy`], [`StateError::Lock`].
pub fn turn(file: &File, patience: Duration) -> Result<Turn<'_>, StateError> {
    let deadline = after(patience);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Turn(file)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Err(StateError::Busy),
            Err(TryLockError::WouldBlock) => drop(channel::wait([], after(POLL).min(deadline))),
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(StateError::Lock(error.to_string())),
        }
    }
}
