//! The hasher: sees the artifacts' bytes and has no secrets. It turns each into a hash state, and leaves after the last. A text that is
//! to leave with its signature it writes down, in a file in memory that the monitor sends on and never reads.
//!
//! The first half of this file runs in the monitor, [`run`] is the process itself.

mod pace;
mod source;
mod state;
pub mod tar;
pub mod text;

pub use source::Source;
pub use state::{Document, DocumentError, MAX_DOCUMENT, MAX_FILE_NAME};
pub use text::MAX_LINE;

use crate::channel::{self, Channel, ChannelError, after};
use crate::config::Input;
use crate::hash_state::{Body, Form, HashState, Hashed, StateError, Wanted};
use crate::process::{Child, Ending};
use crate::request;
use crate::sandbox;
use crate::sandbox::syscalls::{MEMFD, MEMFD_BEFORE_6_3};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, ftruncate};
use serde::{Deserialize, Serialize, Serializer};
use source::{READ, Stdin};
use state::States;
use std::collections::VecDeque;
use std::io::{BufWriter, Write};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use tar::Tar;
use text::{Lines, Memory, Text};

/// How long a hasher that has answered may take to leave.
const LEAVE: Duration = Duration::from_secs(5);

/// How many hashes can be wanted of one artifact: two for each key of a request, that of the bytes as they come among them.
pub const MAX_WANTED: usize = 2 * request::MAX_KEYS;

/// How much the allocator keeps for what cannot be allocated before, in bytes: less than it would give back to the system.
const RESERVE: usize = 100 * 1024;

/// The start message: until it comes, not a byte is read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Start {
    /// What standard input is.
    pub input: Input,
    /// What of each artifact is signed.
    pub form: Form,
    /// The greatest number of bytes that an artifact may have.
    pub limit: u64,
    /// How long to wait for the next byte.
    pub idle: Duration,
    /// How many bytes must come in a second, on the whole.
    pub throughput: u64,
}

/// Asks for an artifact, which waits without it, and says what is wanted of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Go(pub [Option<Wanted>; MAX_WANTED]);

/// How many bytes a state has taken in, salt and all, when so many came: in a text, each may be the end of a line, which is hashed
/// as two; in cleartext, each may be a blank, which is not hashed.
fn hashed(wanted: &Wanted, bytes: u64) -> RangeInclusive<u64> {
    let salt = wanted.salt.map_or(0, |salt| salt.bytes(wanted.algorithm).len()).try_into().unwrap_or(u64::MAX);
    let (least, most) = match wanted.form {
        Form::Binary => (bytes, bytes),
        Form::Text => (bytes, bytes.saturating_mul(2)),
        Form::Cleartext => (0, bytes.saturating_mul(2)),
    };
    least.saturating_add(salt)..=most.saturating_add(salt)
}

/// How many bytes were written down, when so many came.
fn written(form: Form, bytes: u64) -> RangeInclusive<u64> {
    match form {
        Form::Cleartext => bytes.max(1)..=bytes.saturating_mul(2).saturating_add(2).min(MAX_BODY),
        Form::Binary | Form::Text => 0..=0,
    }
}

/// The longest text of a cleartext-signed message in bytes: at worst every second byte, and a last one, begins a line with a dash.
const MAX_BODY: u64 = 2 * Form::MAX_CLEARTEXT + 2;

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// An artifact has ended.
    Artifact {
        /// Its name, where it has one.
        name: Vec<u8>,
        /// What was wanted of it: exported states.
        states: Vec<Vec<u8>>,
        /// The length of the text that was written down.
        text: u64,
    },
    /// The input of many artifacts has ended.
    End,
    /// It was given up, in the artifact of this name.
    Fault(Fault, Vec<u8>),
}

/// The same on the wire, but borrowed: the hasher must not allocate once its filter stands.
#[derive(Serialize)]
enum ReportRef<'a> {
    Artifact { name: &'a [u8], states: Exported<'a>, text: u64 },
    End,
    Fault(Fault, &'a [u8]),
}

/// States, exported as they are serialised.
struct Exported<'a>(&'a [(Wanted, HashState)]);

struct One<'a>(&'a HashState);

impl Serialize for Exported<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(_, state)| One(state)))
    }
}

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.export(|bytes| serializer.collect_seq(bytes))
    }
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
    /// A hash state that is none, or of an artifact that is too long.
    #[error("{0}")]
    State(StateError),
    /// A hash state of another hash than the key's.
    #[error("it holds a state of another hash than the key's")]
    OtherHash,
    /// A line in place of a hash state is no request to sign one.
    #[error("a line of it {0}")]
    Document(DocumentError),
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
    /// Holes cost the sender nothing: there are more than bytes that came, and than one file of the greatest size can have.
    #[error("it is a tar with more holes than data")]
    TarHoles,
}

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum HasherError {
    /// The input's fault, in the artifact of this name.
    #[error("the input cannot be hashed: {0}")]
    Input(Fault, Vec<u8>),
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

/// What it has said.
pub enum Said {
    /// Nothing yet.
    Nothing,
    /// An artifact.
    Artifact(Hashed),
    /// That there is no more.
    End,
}

/// The monitor's handle on the hasher.
pub struct Hasher {
    child: Child,
    body: Option<OwnedFd>,
    started: Option<Start>,
    asked: VecDeque<Vec<Wanted>>,
}

impl Hasher {
    /// Forks the process, with a file in memory for a text. To be called before anything is read.
    ///
    /// # Errors
    /// What `fork(2)` and `memfd_create(2)` say.
    pub fn fork(run: fn(Channel, BorrowedFd<'_>)) -> Result<Hasher, Errno> {
        let body = memory()?;
        let child = Child::fork(c"sigsh-hasher", &[0, body.as_raw_fd()], |channel| run(channel, body.as_fd()))?;
        Ok(Hasher { child, body: Some(body), started: None, asked: VecDeque::new() })
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

    /// Asks for one more artifact, and at most [`MAX_WANTED`] hashes of it.
    ///
    /// # Errors
    /// [`HasherError::Channel`].
    pub fn go(&mut self, wanted: Vec<Wanted>) -> Result<(), HasherError> {
        let mut go = Go([None; MAX_WANTED]);
        for (to, wanted) in go.0.iter_mut().zip(&wanted) {
            *to = Some(*wanted);
        }
        self.asked.push_back(wanted);
        match self.child.channel().send(&go) {
            // It has left after its last word, which is still to be heard.
            Err(ChannelError::Gone) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Option<Pid> {
        self.child.pid()
    }

    /// Where to wait for its answers.
    pub fn channel(&self) -> &Channel {
        self.child.channel()
    }

    /// Takes its next answer, if there is one.
    ///
    /// # Errors
    /// Any [`HasherError`].
    pub fn hear(&mut self) -> Result<Said, HasherError> {
        let start = self.started.ok_or(ChannelError::Nonsense)?;
        match self.child.channel().look() {
            Ok(None) => Ok(Said::Nothing),
            Ok(Some(Report::Artifact { name, states, text })) => {
                let wanted = self.asked.pop_front().ok_or(ChannelError::Nonsense)?;
                // There is no other one, and nothing is made of this one before the hasher has come to a good end.
                if start.input == Input::Artifact {
                    self.see_off()?;
                }
                let body = if start.form == Form::Cleartext { self.body.take() } else { None };
                import(&start, name, &wanted, &states, body, text).map(Said::Artifact)
            }
            Ok(Some(Report::End)) => self.see_off().map(|()| Said::End),
            Ok(Some(Report::Fault(fault, name))) => self.see_off().and(Err(HasherError::Input(fault, name))),
            Err(ChannelError::Gone) => Err(HasherError::Ending(self.child.end())),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for it to leave as it should: without another word.
    fn see_off(&mut self) -> Result<(), HasherError> {
        let closed = channel::wait([(self.channel().as_fd(), PollFlags::POLLIN)], after(LEAVE)) == Ok([true])
            && matches!(self.channel().look::<Report>(), Err(ChannelError::Gone));
        match self.child.end() {
            Ending(Some(WaitStatus::Exited(_, 0))) if closed => Ok(()),
            ending => Err(HasherError::Ending(ending)),
        }
    }
}

/// Takes what somebody says who may lie: no more than what an honest hasher could have said of some input. `body` is the file in memory
/// where it has written down a text of `length` bytes.
///
/// # Errors
/// [`HasherError::Channel`] with [`ChannelError::Nonsense`], [`HasherError::State`].
pub fn import(
    start: &Start,
    name: Vec<u8>,
    wanted: &[Wanted],
    states: &[Vec<u8>],
    body: Option<OwnedFd>,
    length: u64,
) -> Result<Hashed, HasherError> {
    let named = match start.input {
        Input::Artifact => name.is_empty(),
        // The client unpacks a signature under it.
        Input::Tar => tar::check_name(&name).is_ok(),
        Input::State => name.len() <= MAX_FILE_NAME,
    };
    if !named || states.len() != wanted.len() {
        return Err(ChannelError::Nonsense.into());
    }
    let import = |(wanted, bytes): (&Wanted, &Vec<u8>)| {
        HashState::import(wanted.algorithm, bytes, *hashed(wanted, start.limit).end()).map(|state| (*wanted, state))
    };
    let states = wanted.iter().zip(states).map(import).collect::<Result<Vec<_>, _>>()?;
    let size = |state: &HashState| state.size().unwrap_or(u64::MAX);
    let plain = states.iter().find(|(wanted, _)| wanted.is_plain()).ok_or(ChannelError::Nonsense)?;
    let bytes = size(&plain.1);
    let plausible = |(wanted, state): &(Wanted, HashState)| hashed(wanted, bytes).contains(&size(state));
    if !states.iter().all(plausible) || !written(start.form, bytes).contains(&length) {
        return Err(ChannelError::Nonsense.into());
    }
    Ok(Hashed { name, states, body: body.map(|file| Body { file, length }) })
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
    let (mut states, mut documents, mut tar) = (Vec::with_capacity(MAX_WANTED), States::new(), Tar::new());
    let (lines, writer) = (Lines::new(), BufWriter::with_capacity(READ, Memory(body)));
    let stdin = std::io::stdin();
    // What a document may take for a moment: freed again, it stays with the allocator.
    drop(std::hint::black_box(vec![0; RESERVE]));
    if sandbox::enter_hasher(&channel, body).is_err() {
        return;
    }
    let Ok(start) = channel.receive::<Start>() else { return };
    let text = Text::new(start.form, lines, writer);
    let source = Stdin::new(stdin.as_fd(), &mut buffer, start.idle, start.throughput);
    let mut work = Work { channel: &channel, start, states: &mut states, text };
    let done = match start.input {
        Input::Artifact => work.artifact(source),
        Input::Tar => work.files(source, &mut tar),
        Input::State => work.documents(source, &mut documents),
    };
    let _ = match done {
        Ok(()) if start.input == Input::Artifact => Ok(()),
        Ok(()) => channel.send(&ReportRef::End),
        Err(fault) => channel.send(&ReportRef::Fault(fault, tar.name())),
    };
    // At once: to free the buffer or close the channel would take calls that the filter forbids.
    sys::exit(0)
}

/// What the process works with, all of it allocated before.
struct Work<'a, W: Write> {
    channel: &'a Channel,
    start: Start,
    states: &'a mut Vec<(Wanted, HashState)>,
    text: Text<W>,
}

impl<W: Write> Work<'_, W> {
    /// Waits for the word to go on, and begins what is wanted.
    fn begin(&mut self) {
        // Without it there is nobody who would want an answer.
        let Ok(Go(wanted)) = self.channel.receive() else { sys::exit(0) };
        self.states.clear();
        self.states.extend(wanted.iter().flatten().map(|wanted| (*wanted, HashState::begin(wanted))));
    }

    /// Takes in the next bytes of an artifact.
    fn update(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Work { states, text, .. } = self;
        for (_, state) in states.iter_mut().filter(|(wanted, _)| wanted.form == Form::Binary) {
            state.update(bytes);
        }
        text.update(bytes, |bytes| each_text(states, bytes))
    }

    /// Reports an artifact.
    fn end(&mut self, name: &[u8]) -> Result<(), Fault> {
        let Work { states, text, .. } = self;
        let text = text.finish(|bytes| each_text(states, bytes))?;
        if self.channel.send(&ReportRef::Artifact { name, states: Exported(self.states), text }).is_err() {
            sys::exit(0)
        }
        Ok(())
    }

    fn artifact(&mut self, mut source: impl Source) -> Result<(), Fault> {
        let overlong = if self.start.form.limit() == self.start.limit { Fault::LongCleartext } else { Fault::Overlong };
        self.begin();
        let mut left = self.start.limit;
        loop {
            let bytes = source.look()?;
            if bytes.is_empty() {
                return self.end(b"");
            }
            let length = bytes.len();
            left = u64::try_from(length).ok().and_then(|length| left.checked_sub(length)).ok_or(overlong)?;
            self.update(bytes)?;
            source.take(length);
        }
    }

    fn files(&mut self, mut source: impl Source, tar: &mut Tar) -> Result<(), Fault> {
        let mut holes = self.start.limit;
        while tar.next(&mut source)? {
            if tar.size() > self.start.limit {
                return Err(Fault::Overlong);
            }
            holes = holes.checked_sub(tar.size().saturating_sub(tar.stored())).ok_or(Fault::TarHoles)?;
            self.begin();
            tar.content(&mut source, |bytes| self.update(bytes))?;
            self.end(tar.name())?;
            holes = holes.saturating_add(tar.stored());
        }
        Ok(())
    }

    /// Somebody else has hashed these.
    fn documents(&mut self, mut source: impl Source, documents: &mut States) -> Result<(), Fault> {
        while let Some(document) = documents.next(&mut source)? {
            self.begin();
            for (wanted, state) in self.states.iter_mut() {
                if document.algorithm != wanted.algorithm {
                    return Err(Fault::OtherHash);
                }
                *state = HashState::import(document.algorithm, document.state(), self.start.limit).map_err(Fault::State)?;
            }
            self.end(document.file_name.as_bytes())?;
        }
        Ok(())
    }
}

fn each_text(states: &mut [(Wanted, HashState)], bytes: &[u8]) {
    for (_, state) in states.iter_mut().filter(|(wanted, _)| wanted.form != Form::Binary) {
        state.update(bytes);
    }
}
