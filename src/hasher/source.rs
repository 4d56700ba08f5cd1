//! Standard input, as whoever takes it apart sees it: what has come, and no more of it than was taken.

use super::Fault;
use super::pace::Pace;
use crate::channel;
use nix::errno::Errno;
use nix::poll::PollFlags;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// What a read takes at most, in bytes. Larger ones gain nothing: sshd's channel hands over 32 KiB at a time.
pub(super) const READ: usize = 64 * 1024;

/// Bytes that come from somewhere. Nothing here allocates.
pub trait Source {
    /// What has come and was not taken yet; waits for more where there is nothing. Empty at the end.
    ///
    /// # Errors
    /// [`Fault::Idle`], [`Fault::Slow`], [`Fault::Read`].
    fn look(&mut self) -> Result<&[u8], Fault>;

    /// Takes so many of them.
    fn take(&mut self, bytes: usize);
}

/// Standard input, within its limits of time.
pub(super) struct Stdin<'a> {
    fd: BorrowedFd<'a>,
    buffer: &'a mut [u8],
    /// Where in the buffer that begins which was not taken, and where it ends.
    rest: std::ops::Range<usize>,
    pace: Pace,
    last: Instant,
}

impl<'a> Stdin<'a> {
    /// The clock runs from now on.
    pub(super) fn new(fd: BorrowedFd<'a>, buffer: &'a mut [u8], idle: Duration, throughput: u64) -> Stdin<'a> {
        let last = Instant::now();
        Stdin { fd, buffer, rest: 0..0, pace: Pace::new(idle, throughput, last), last }
    }

    fn fill(&mut self) -> Result<(), Fault> {
        // What was done with the bytes before took a time that is not the sender's.
        let now = Instant::now();
        self.pace.pause(now.saturating_duration_since(self.last));
        self.last = now;
        loop {
            if channel::wait([(self.fd, PollFlags::POLLIN)], self.pace.deadline()) == Ok([false]) {
                return Err(self.pace.fault(self.last));
            }
            match nix::unistd::read(self.fd, self.buffer) {
                Ok(length) => {
                    self.last = Instant::now();
                    self.pace.received(length, self.last);
                    self.rest = 0..length;
                    return Ok(());
                }
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(error) => return Err(Fault::Read(error as i32)),
            }
        }
    }
}

impl Source for Stdin<'_> {
    fn look(&mut self) -> Result<&[u8], Fault> {
        if self.rest.is_empty() {
            self.fill()?;
        }
        Ok(self.buffer.get(self.rest.clone()).unwrap_or_default())
    }

    fn take(&mut self, bytes: usize) {
        self.rest.start = self.rest.start.saturating_add(bytes).min(self.rest.end);
    }
}
