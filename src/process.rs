//! A child process: forked and never exec'ed, tied to its parent's life, spoken to through one channel.

use crate::channel::{self, Channel, after};
use crate::sys;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};
use std::ffi::CStr;
use std::fmt;
use std::os::fd::RawFd;
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

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
