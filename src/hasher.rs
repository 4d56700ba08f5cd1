//! The hasher: sees the artifact's bytes and has no secrets. It turns them into a hash state and leaves.
//!
//! The first half of this file runs in the monitor, [`run`] is the process itself.

mod pace;

use crate::channel::{self, Channel, ChannelError, after};
use crate::hash_state::{HashAlgorithm, HashState, StateError};
use crate::process::{Child, Ending};
use crate::sandbox;
use crate::sys;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use pace::Pace;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What a read takes at most, in bytes. Larger ones gain nothing: sshd's channel hands over 32 KiB at a time.
const READ: usize = 64 * 1024;

/// How long a hasher that has answered may take to leave.
const LEAVE: Duration = Duration::from_secs(5);

/// The start message: until it comes, not a byte is read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The hash to compute.
    pub algorithm: HashAlgorithm,
    /// The greatest number of bytes to take.
    pub limit: u64,
    /// How long to wait for the next byte.
    pub idle: Duration,
    /// How many bytes must come in a second, on the whole.
    pub throughput: u64,
}

/// The one answer.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    /// The input has ended; this is the exported state.
    Done(Vec<u8>),
    /// It was given up.
    Fault(Fault),
}

/// The same on the wire, but borrowed: the hasher must not allocate once its filter stands.
#[derive(Serialize)]
enum ReportRef<'a> {
    Done(&'a [u8]),
    Fault(Fault),
}

/// Why the input could not be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// No byte arrived for the time allowed.
    #[error("it stopped coming")]
    Idle,
    /// Fewer bytes arrived than the least throughput.
    #[error("it comes too slowly")]
    Slow,
    /// More bytes than the limit.
    #[error("it is too long")]
    Overlong,
    /// `read(2)` failed with this errno.
    #[error("read failed with {}", Errno::from_raw(*.0))]
    Read(i32),
}

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum HasherError {
    /// The input's fault.
    #[error("the input cannot be hashed: {0}")]
    Input(Fault),
    /// The process's fault: nonsense, or a death.
    #[error("the hasher failed: {0}")]
    Channel(#[from] ChannelError),
    /// It sent what is not a state.
    #[error("the hasher failed: {0}")]
    State(#[from] StateError),
    /// It did not end as it should after its answer.
    #[error("the hasher failed: {0}")]
    Ending(Ending),
}

/// The monitor's handle on the hasher.
pub struct Hasher {
    child: Child,
    started: Option<Start>,
}

impl Hasher {
    /// Forks the process. To be called before anything is read.
    ///
    /// # Errors
    /// What `fork(2)` says.
    pub fn fork(run: fn(Channel)) -> Result<Hasher, Errno> {
        Ok(Hasher { child: Child::fork(c"sigsh-hasher", &[0], run)?, started: None })
    }

    /// Lets it read.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn start(&mut self, start: Start) -> Result<(), HasherError> {
        self.started = Some(start);
        match self.child.channel().send(&start) {
            Err(ChannelError::Gone) => Err(HasherError::Ending(self.child.end())),
            sent => Ok(sent?),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Option<Pid> {
        self.child.pid()
    }

    /// Where to wait for its answer.
    pub fn channel(&self) -> &Channel {
        self.child.channel()
    }

    /// Takes its answer and sees it off: exactly one message, then a clean end.
    ///
    /// # Errors
    /// Any [`HasherError`].
    pub fn finish(mut self) -> Result<HashState, HasherError> {
        let start = self.started.ok_or(ChannelError::Nonsense)?;
        let report = match self.channel().receive() {
            Err(ChannelError::Gone) => return Err(HasherError::Ending(self.child.end())),
            report => report?,
        };
        let closed = channel::wait([(self.channel().as_fd(), PollFlags::POLLIN)], after(LEAVE)) == Ok([true])
            && matches!(self.channel().receive::<Report>(), Err(ChannelError::Gone));
        match self.child.end() {
            Ending(Some(WaitStatus::Exited(_, 0))) if closed => {}
            ending => return Err(HasherError::Ending(ending)),
        }
        match report {
            Report::Done(state) => Ok(HashState::import(start.algorithm, &state, start.limit)?),
            Report::Fault(fault) => Err(HasherError::Input(fault)),
        }
    }
}

/// The process. Its filter allows `read`, `ppoll`, `write` to the channel and `exit_group`.
pub fn run(channel: Channel) {
    let mut buffer = vec![0; READ];
    let stdin = std::io::stdin();
    if sandbox::enter_hasher(&channel).is_err() {
        return;
    }
    let Ok(start) = channel.receive::<Start>() else { return };
    let _ = match hash(start, stdin.as_fd(), &mut buffer) {
        Ok(state) => state.export(|bytes| channel.send(&ReportRef::Done(bytes))),
        Err(fault) => channel.send(&ReportRef::Fault(fault)),
    };
    // At once: to free the buffer or close the channel would take calls that the filter forbids.
    sys::exit(0)
}

fn hash(start: Start, stdin: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<HashState, Fault> {
    let mut state = HashState::new(start.algorithm);
    let mut left = start.limit;
    let mut last = Instant::now();
    let mut pace = Pace::new(start.idle, start.throughput, last);
    loop {
        if channel::wait([(stdin, PollFlags::POLLIN)], pace.deadline()) == Ok([false]) {
            return Err(pace.fault(last));
        }
        match nix::unistd::read(stdin, buffer) {
            Ok(0) => return Ok(state),
            Ok(length) => {
                last = Instant::now();
                pace.received(length, last);
                left = u64::try_from(length).ok().and_then(|length| left.checked_sub(length)).ok_or(Fault::Overlong)?;
                state.update(buffer.get(..length).unwrap_or_default());
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(Fault::Read(error as i32)),
        }
    }
}
