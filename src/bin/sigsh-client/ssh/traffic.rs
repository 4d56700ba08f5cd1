//! The two pipes to ssh, and how long nothing has come through them.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, BufRead, BufReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::process::ChildStdout;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What goes to ssh and comes from it.
pub(super) struct Traffic {
    began: Instant,
    timeout: Duration,
    last: AtomicU64,
    written: Mutex<u64>,
    received: AtomicBool,
    signed: AtomicBool,
}

impl Traffic {
    /// Nothing yet.
    pub(super) fn new(timeout: Duration) -> Traffic {
        Traffic { began: Instant::now(), timeout, last: 0.into(), written: 0.into(), received: false.into(), signed: false.into() }
    }

    fn moved(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Whether any answer has come.
    pub(super) fn has_answer(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether a signature has come, whole.
    pub(super) fn has_signed(&self) -> bool {
        self.signed.load(Ordering::Relaxed)
    }

    /// How many bytes were written. Who holds it lets nobody write.
    pub(super) fn written(&self) -> MutexGuard<'_, u64> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a pipe can be used: as long as the host may be silent.
    fn wait(&self, pipe: impl AsFd, flags: PollFlags) -> io::Result<()> {
        loop {
            let silence = self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)));
            if silence > self.timeout {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match poll(&mut [PollFd::new(&pipe, flags)], Some(&Timespec { tv_sec: 0, tv_nsec: 200_000_000 })) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What is sent to the host. The pipe never blocks: who does not read would hold us for ever.
pub(super) struct Sending<'a>(pub(super) PipeWriter, pub(super) &'a Traffic);

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Sending(pipe, traffic) = self;
        loop {
            let mut all = traffic.written();
            match pipe.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => drop(all),
                Err(error) => return Err(error),
                Ok(written) => {
                    *all += written as u64;
                    traffic.moved();
                    return Ok(written);
                }
            }
            traffic.wait(&*pipe, PollFlags::OUT)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What comes from it.
pub(super) struct Receiving<'a>(pub(super) ChildStdout, pub(super) &'a Traffic);

impl Read for Receiving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Receiving(stdout, traffic) = self;
        // A byte now and then is no answer, so it does not count.
        traffic.wait(&*stdout, PollFlags::IN)?;
        let length = stdout.read(buffer)?;
        traffic.received.fetch_or(length > 0, Ordering::Relaxed);
        Ok(length)
    }
}

/// What a host answers.
pub(crate) struct Answer<'a>(pub(super) BufReader<Receiving<'a>>);

impl Answer<'_> {
    /// A signature has come, so the host is not silent, and has begun.
    pub(crate) fn signed(&self) {
        let traffic = self.0.get_ref().1;
        traffic.signed.store(true, Ordering::Relaxed);
        traffic.moved();
    }
}

impl Read for Answer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl BufRead for Answer<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.0.consume(bytes);
    }
}
