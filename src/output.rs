//! Standard output and error: what leaves, whole and checked, or not at all.

use crate::channel;
use crate::failure::{Exit, Failure};
use crate::hash_state::Body;
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::poll::PollFlags;
use nix::sys::sendfile::sendfile;
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How long a client may leave what it asked for unread.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many bytes a second a client takes that is slow, but not gone.
const SLOWEST: u64 = 64 * 1024;

/// What a pipe takes at once or not at all, in bytes (pipe(7)).
const PIPE_BUF: usize = 4096;

/// Puts what nobody can read in the place of standard input: the artifact is the hasher's alone. There need not be a /dev/null.
///
/// # Errors
/// What `openat(2)` says.
pub fn let_go_of_input() -> Result<(), Errno> {
    nix::unistd::close(0)?;
    // The lowest free descriptor is handed out, and nobody owns it: it stays until the end.
    std::mem::forget(openat(AT_FDCWD, "/", OFlag::O_PATH, Mode::empty())?);
    Ok(())
}

/// Demands a standard output: before anything is done for it.
///
/// # Errors
/// When it is closed.
pub fn exists() -> Result<(), Failure> {
    let stdout = std::io::stdout();
    // Where a descriptor was closed at the start, the standard library has opened /dev/null: nobody reads there.
    let is_null = |stat: nix::sys::stat::FileStat| {
        let device = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
        device && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
    };
    if fstat(stdout.as_fd()).map_or(true, is_null) {
        return Err(Failure::no_output());
    }
    Ok(())
}

/// Demands that the client is still there to take what will be written. A client that was killed looks like one that has sent its
/// last byte, but for this.
///
/// # Errors
/// When its end of standard output is gone.
pub fn has_reader() -> Result<(), Failure> {
    let stdout = std::io::stdout();
    // No event is asked for: only an error or a hang-up shows.
    match channel::wait([(stdout.as_fd(), PollFlags::empty())], Instant::now()) {
        Ok([false]) => Ok(()),
        _ => Err(Failure::client_gone("the reader of standard output is gone")),
    }
}

/// Writes what the client has asked for.
///
/// # Errors
/// When it was not taken whole: the journal is to know.
pub fn deliver(bytes: &[u8]) -> Result<(), Failure> {
    write(bytes, channel::after(PATIENCE)).map_err(Failure::undelivered)
}

/// Writes a cleartext-signed message: its head, the text from the file where the hasher has put it, the armored signature.
///
/// # Errors
/// As [`deliver`].
pub fn deliver_cleartext(head: &str, body: &Body, signature: &[u8]) -> Result<(), Failure> {
    let deadline = channel::after(PATIENCE.saturating_add(Duration::from_secs(body.length / SLOWEST)));
    let written = write(head.as_bytes(), deadline).and_then(|()| send(body, deadline)).and_then(|()| write(signature, deadline));
    written.map_err(Failure::undelivered)
}

/// Writes what says that it failed, if that is possible: it has failed already.
pub fn try_to_write(bytes: &[u8]) {
    let _ = write(bytes, channel::after(ERROR_PATIENCE));
}

/// How long standard error may be full, or standard output after a failure.
const ERROR_PATIENCE: Duration = Duration::from_secs(5);

/// Writes to standard error, a line that a pipe takes at once or not at all. That nobody reads there changes nothing.
pub fn error(text: &str) {
    let stderr = std::io::stderr();
    if channel::wait([(stderr.as_fd(), PollFlags::POLLOUT)], channel::after(ERROR_PATIENCE)) == Ok([true]) {
        let _ = nix::unistd::write(stderr, text.as_bytes());
    }
}

/// A panic is a bug: one line, no trace, and the code for it.
pub fn on_panic() {
    std::panic::set_hook(Box::new(|_| {
        error("sigsh: error: internal error\n");
        sys::exit(Exit::Software.code());
    }));
}

/// A client that does not read is waited for, but not for ever. What a poll calls writable takes PIPE_BUF bytes at once.
fn write(mut rest: &[u8], deadline: Instant) -> Result<(), Errno> {
    let stdout = std::io::stdout();
    while !rest.is_empty() {
        writable(stdout.as_fd(), deadline)?;
        match nix::unistd::write(stdout.as_fd(), rest.get(..PIPE_BUF).unwrap_or(rest)) {
            Ok(0) => return Err(Errno::EIO),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The same for a text: the kernel moves it, and this process never sees it.
fn send(body: &Body, deadline: Instant) -> Result<(), Errno> {
    let stdout = std::io::stdout();
    let length = body.length.try_into().map_err(|_| Errno::EOVERFLOW)?;
    let mut at: i64 = 0;
    while at < length {
        writable(stdout.as_fd(), deadline)?;
        let count = usize::try_from(length - at).unwrap_or(PIPE_BUF).min(PIPE_BUF);
        match sendfile(stdout.as_fd(), &body.file, Some(&mut at), count) {
            Ok(0) => return Err(Errno::EIO),
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn writable(stdout: BorrowedFd<'_>, deadline: Instant) -> Result<(), Errno> {
    match channel::wait([(stdout, PollFlags::POLLOUT)], deadline)? {
        [true] => Ok(()),
        [false] => Err(Errno::ETIMEDOUT),
    }
}
