//! The hasher: sees the artifact's bytes and has no secrets. It turns them into a hash state and leaves. A text that is to leave with
//! its signature it writes down, in a file in memory that the monitor sends on and never reads.
//!
//! The first half of this file runs in the monitor, [`run`] is the process itself.

mod pace;
mod source;
pub mod tar;
mod text;

pub use source::Source;
pub use text::MAX_LINE;

use crate::channel::{self, Channel, ChannelError, after};
use crate::hash_state::{Body, Form, HashAlgorithm, HashState, Hashed, Salt, StateError};
use crate::process::{Child, Ending};
use crate::sandbox;
use crate::sandbox::syscalls::{MEMFD, MEMFD_BEFORE_6_3};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, ftruncate};
use serde::{Deserialize, Serialize};
use source::{READ, Stdin};
use std::io::{BufWriter, Write};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use text::{Lines, Memory, Text};

/// How long a hasher that has answered may take to leave.
const LEAVE: Duration = Duration::from_secs(5);

/// The start message: until it comes, not a byte is read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The hash to compute.
    pub algorithm: HashAlgorithm,
    /// What to compute it of.
    pub form: Form,
    /// What to hash first.
    pub salt: Option<Salt>,
    /// The greatest number of bytes to take.
    pub limit: u64,
    /// How long to wait for the next byte.
    pub idle: Duration,
    /// How many bytes must come in a second, on the whole.
    pub throughput: u64,
}

impl Start {
    /// Whether the state that is signed is another than that of the bytes.
    fn is_claimed(&self) -> bool {
        self.form != Form::Binary || self.salt.is_some()
    }

    /// How many bytes the state has taken in, salt and all, when so many came: in a text, each may be the end of a line, which is hashed
    /// as two; in cleartext, each may be a blank, which is not hashed.
    fn hashed(&self, bytes: u64) -> RangeInclusive<u64> {
        let salt = self.salt.as_ref().map_or(0, |salt| salt.bytes(self.algorithm).len()).try_into().unwrap_or(u64::MAX);
        let (least, most) = match self.form {
            Form::Binary => (bytes, bytes),
            Form::Text => (bytes, bytes.saturating_mul(2)),
            Form::Cleartext => (0, bytes.saturating_mul(2)),
        };
        least.saturating_add(salt)..=most.saturating_add(salt)
    }

    /// How many bytes were written down, when so many came.
    fn written(&self, bytes: u64) -> RangeInclusive<u64> {
        match self.form {
            Form::Cleartext => bytes.max(1)..=bytes.saturating_mul(2).saturating_add(2).min(MAX_BODY),
            Form::Binary | Form::Text => 0..=0,
        }
    }
}

/// The longest text of a cleartext-signed message in bytes: at worst every second byte, and a last one, begins a line with a dash.
const MAX_BODY: u64 = 2 * Form::MAX_CLEARTEXT + 2;

/// The one answer.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The input has ended; this is the exported state, that of the bytes as they came where it is another, and the length of the text
    /// that was written down.
    Done(Vec<u8>, Option<Vec<u8>>, u64),
    /// It was given up.
    Fault(Fault),
}

/// The same on the wire, but borrowed: the hasher must not allocate once its filter stands.
#[derive(Serialize)]
enum ReportRef<'a> {
    Done(&'a [u8], Option<&'a [u8]>, u64),
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
    /// More bytes than a cleartext-signed message may have.
    #[error("it is too long to be signed as cleartext")]
    LongCleartext,
    /// A line of a text has more than [`MAX_LINE`] bytes.
    #[error("it has a line of more than {MAX_LINE} bytes")]
    LongLine,
    /// A carriage return in a text, and no line feed after it.
    #[error("it has a carriage return that is not followed by a line feed")]
    CarriageReturn,
    /// A line of a text ends with a byte of zero.
    #[error("it has a line that ends with a NUL byte")]
    Nul,
    /// `read(2)` failed with this errno.
    #[error("read failed with {}", Errno::from_raw(*.0))]
    Read(i32),
    /// Writing the text down failed with this errno.
    #[error("the text could not be kept: {}", Errno::from_raw(*.0))]
    Body(i32),
    /// The input ends before the tar does.
    #[error("it is a tar that is cut off")]
    TarCut,
    /// What should be a header of a tar is none.
    #[error("it is not a tar, or a broken one")]
    TarHeader,
    /// Programs that unpack it do not agree on a name, a size or a kind.
    #[error("it is a tar that programs read differently")]
    TarAmbiguous,
    /// A hard or a symbolic link.
    #[error("it is a tar with a link")]
    TarLink,
    /// A device or a fifo.
    #[error("it is a tar with a device or a fifo")]
    TarDevice,
    /// A part of a volume, a dump, or what nobody knows.
    #[error("it is a tar with an entry that is no file")]
    TarKind,
    /// A name that is empty, absolute, has `..` or NUL, is that of a directory, or has more than [`tar::MAX_NAME`] bytes.
    #[error("it is a tar with a bad name")]
    TarName,
    /// The map of a sparse file does not fit it.
    #[error("it is a tar with a sparse file whose map is wrong")]
    TarSparse,
    /// An extended header of more than [`tar::MAX_EXTENSION`] bytes, or a sparse file of too many regions.
    #[error("it is a tar that says too much of one entry")]
    TarLarge,
    /// Something follows the end.
    #[error("it is a tar that has something behind its end")]
    TarTrailing,
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
    body: OwnedFd,
    started: Option<Start>,
}

impl Hasher {
    /// Forks the process, with a file in memory for a text. To be called before anything is read.
    ///
    /// # Errors
    /// What `fork(2)` and `memfd_create(2)` say.
    pub fn fork(run: fn(Channel, BorrowedFd<'_>)) -> Result<Hasher, Errno> {
        let body = memory()?;
        let child = Child::fork(c"sigsh-hasher", &[0, body.as_raw_fd()], |channel| run(channel, body.as_fd()))?;
        Ok(Hasher { child, body, started: None })
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
    pub fn finish(mut self) -> Result<Hashed, HasherError> {
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
            Report::Done(state, claimed, length) => import(&start, &state, claimed.as_deref(), length, self.body),
            Report::Fault(fault) => Err(HasherError::Input(fault)),
        }
    }
}

/// Takes what somebody says who may lie: no more than what an honest hasher could have said of some input.
fn import(start: &Start, state: &[u8], claimed: Option<&[u8]>, length: u64, file: OwnedFd) -> Result<Hashed, HasherError> {
    let state = HashState::import(start.algorithm, state, *start.hashed(start.limit).end())?;
    let claimed = claimed.map(|bytes| HashState::import(start.algorithm, bytes, start.limit)).transpose()?;
    let size = |state: &HashState| state.size().unwrap_or(u64::MAX);
    let bytes = size(claimed.as_ref().unwrap_or(&state));
    let plausible = start.hashed(bytes).contains(&size(&state)) && start.written(bytes).contains(&length);
    if claimed.is_some() != start.is_claimed() || !plausible {
        return Err(ChannelError::Nonsense.into());
    }
    let body = (start.form == Form::Cleartext).then_some(Body { file, length });
    Ok(Hashed { state, claimed, body })
}

/// A file in memory of a fixed size, none of which is there before it is written.
fn memory() -> Result<OwnedFd, Errno> {
    let make = |flags: i32| memfd_create(c"sigsh-text", MFdFlags::from_bits_retain(flags.cast_unsigned()));
    let file = match make(MEMFD) {
        Err(Errno::EINVAL) => make(MEMFD_BEFORE_6_3)?,
        made => made?,
    };
    ftruncate(&file, MAX_BODY.try_into().unwrap_or(i64::MAX))?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL))?;
    Ok(file)
}

/// The process. Its filter allows `read`, `ppoll`, `write` to the channel and to the file for a text, and `exit_group`.
pub fn run(channel: Channel, body: BorrowedFd<'_>) {
    let mut buffer = vec![0; READ];
    let (lines, writer) = (Lines::new(), BufWriter::with_capacity(READ, Memory(body)));
    let stdin = std::io::stdin();
    if sandbox::enter_hasher(&channel, body).is_err() {
        return;
    }
    let Ok(start) = channel.receive::<Start>() else { return };
    let mut text = Text::new(start.form, lines, writer);
    let _ = match hash(start, stdin.as_fd(), &mut buffer, &mut text) {
        Ok((state, Some(claimed), length)) => {
            state.export(|state| claimed.export(|claimed| channel.send(&ReportRef::Done(state, Some(claimed), length))))
        }
        Ok((state, None, length)) => state.export(|state| channel.send(&ReportRef::Done(state, None, length))),
        Err(fault) => channel.send(&ReportRef::Fault(fault)),
    };
    // At once: to free the buffer or close the channel would take calls that the filter forbids.
    sys::exit(0)
}

/// What is signed, what came where that is another, and the length of the text that was written down.
type Hashes = (HashState, Option<HashState>, u64);

fn hash<W: Write>(start: Start, stdin: BorrowedFd<'_>, buffer: &mut [u8], text: &mut Text<W>) -> Result<Hashes, Fault> {
    let overlong = if start.form.limit() == start.limit { Fault::LongCleartext } else { Fault::Overlong };
    let mut state = HashState::salted(start.algorithm, start.salt.as_ref());
    let mut claimed = start.is_claimed().then(|| HashState::new(start.algorithm));
    let mut source = Stdin::new(stdin, buffer, start.idle, start.throughput);
    let mut left = start.limit;
    loop {
        let bytes = source.look()?;
        if bytes.is_empty() {
            let length = text.finish(&mut state)?;
            return Ok((state, claimed, length));
        }
        let length = bytes.len();
        left = u64::try_from(length).ok().and_then(|length| left.checked_sub(length)).ok_or(overlong)?;
        if let Some(claimed) = &mut claimed {
            claimed.update(bytes);
        }
        text.update(bytes, &mut state)?;
        source.take(length);
    }
}
