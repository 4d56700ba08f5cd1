//! A child process: forked and never exec'ed, tied to its parent's life, spoken to through one channel.

use crate::channel::{self, Channel, after};
use crate::sandbox::syscalls::{MEMFD, MEMFD_BEFORE_6_3};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, SealFlag, fcntl, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, ftruncate, getppid};
use std::ffi::CStr;
use std::fmt;
use std::os::fd::{OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long a killed process is waited for. One that waits for a device in the kernel cannot even be killed: it is left to init.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a killed process is looked at; most are gone at once.
const POLL: Duration = Duration::from_micros(200);

/// How a process ended, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending(pub Option<WaitStatus>);

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(WaitStatus::Exited(_, code)) => write!(f, "it left with code {code}"),
            Some(WaitStatus::Signaled(_, signal, _)) => write!(f, "it was ended by {signal}"),
            _ => f.write_str("it cannot be ended"),
        }
    }
}

/// A forked process and our end of the channel to it. Dropping it kills it.
pub struct Child {
    pid: Option<Pid>,
    channel: Channel,
}

impl Child {
    /// Forks a process that runs `body` and leaves. It keeps the standard descriptors in `keep` and its end of the channel, and
    /// nothing else that its parent has open.
    ///
    /// # Errors
    /// What `socketpair(2)` and `fork(2)` say.
    pub fn fork(name: &CStr, keep: &[RawFd], body: impl FnOnce(Channel)) -> Result<Child, Errno> {
        let (ours, theirs) = Channel::pair()?;
        ours.do_not_block()?;
        let parent = nix::unistd::getpid();
        if let Some(pid) = sys::fork()? {
            return Ok(Child { pid: Some(pid), channel: ours });
        }
        let _ = prctl::set_name(name);
        let alone =
            prctl::set_pdeathsig(Signal::SIGKILL).and_then(|()| sys::close_all_but(&[keep, &[theirs.number()]].concat())).is_ok();
        // A parent that died before the line above sends no signal: look.
        if alone && getppid() == parent {
            body(theirs);
        }
        sys::exit(0)
    }

    /// Our end of the channel.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Its process id, as long as it has not been ended.
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Kills the process if it still runs, and tells how it ended. A process that had ended by itself keeps its own ending.
    pub fn end(&mut self) -> Ending {
        Ending(self.reap())
    }

    fn reap(&mut self) -> Option<WaitStatus> {
        let pid = self.pid.take()?;
        let _ = kill(pid, Signal::SIGKILL);
        let deadline = after(PATIENCE);
        loop {
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if Instant::now() < deadline => {
                    let _ = channel::wait([], after(POLL).min(deadline));
                }
                Err(Errno::EINTR) => {}
                status => return status.ok(),
            }
        }
    }
}

/// What gives nothing and takes what is written: /dev/null. In a root without devices it is an empty file in memory, which takes nothing.
///
/// # Errors
/// What `open(2)` and `memfd_create(2)` say.
pub(crate) fn null() -> Result<OwnedFd, Errno> {
    match openat(AT_FDCWD, "/dev/null", OFlag::O_RDWR, Mode::empty()) {
        Err(Errno::ENOENT) => memory(c"sigsh-null", 0, SealFlag::F_SEAL_WRITE),
        opened => opened,
    }
}

/// A file in memory of a fixed size, none of which is there before it is written. No seal is added later.
///
/// # Errors
/// What `memfd_create(2)` says.
pub(crate) fn memory(name: &CStr, size: i64, seal: SealFlag) -> Result<OwnedFd, Errno> {
    let make = |flags: i32| memfd_create(name, MFdFlags::from_bits_retain(flags.cast_unsigned()));
    let file = match make(MEMFD) {
        Err(Errno::EINVAL) => make(MEMFD_BEFORE_6_3)?,
        made => made?,
    };
    ftruncate(&file, size)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL | seal))?;
    Ok(file)
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
