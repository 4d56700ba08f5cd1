//! What is signed: files that can be read again and again, whatever they came from.

use crate::error::Error;
use rustix::fs::OFlags;
use sigsh::config::values::Name;
use sigsh::hash_state::{Form, HashAlgorithm, HashState, Wanted};
use sigsh::hasher::text::{Lines, Text};
use sigsh::request::Digest;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How much is read at a time, in bytes.
pub(crate) const PIECE: usize = 256 * 1024;

/// What messages call it.
const STDIN: &str = "standard input";

/// An artifact.
pub(crate) struct Input {
    /// Where it is; nowhere when it came through a descriptor.
    pub(crate) path: Option<PathBuf>,
    /// What has no path that leads to it again. All else is opened when it is read: there may be more files than descriptors.
    held: Option<File>,
    start: u64,
    /// Its length in bytes.
    pub(crate) length: u64,
    then: Identity,
    /// When we came to it.
    pub(crate) opened: SystemTime,
    /// What a guarded key demands, by its name, as words of a request: its digest, and what vouches for it.
    pub(crate) vouched: BTreeMap<Option<Name>, Vec<String>>,
}

/// What tells a file from another one, and from itself when it was written to: device, number, size, time.
#[derive(PartialEq, Eq)]
struct Identity(u64, u64, u64, i64, i64);

impl Identity {
    fn of(of: &Metadata) -> Identity {
        Identity(of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec())
    }
}

impl Input {
    /// Opens a file. A pipe is read to its end.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub(crate) fn open(path: &Path) -> Result<Input, Error> {
        let failed = |error| Error::Input(path.to_owned(), error);
        let file = File::open(path).map_err(failed)?;
        let then = file.metadata().map_err(failed)?;
        if !then.is_file() {
            return Input::of(file, Some(path.to_owned()));
        }
        Ok(Input {
            path: Some(path.to_owned()),
            held: None,
            start: 0,
            length: then.len(),
            then: Identity::of(&then),
            opened: SystemTime::now(),
            vouched: BTreeMap::new(),
        })
    }

    /// Takes what is open already: standard input, or a descriptor that was inherited. There must be something in it.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub(crate) fn take(file: File) -> Result<Input, Error> {
        Input::of(file, None)
    }

    fn of(mut file: File, path: Option<PathBuf>) -> Result<Input, Error> {
        let failed = |error| Error::Input(path.clone().unwrap_or_else(|| STDIN.into()), error);
        let metadata = file.metadata().map_err(failed)?;
        let start = match &metadata {
            metadata if metadata.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
            metadata if metadata.is_file() => file.stream_position().map_err(failed)?,
            _ => {
                file = spooled(file).map_err(|error| Error::File(std::env::temp_dir(), error))?;
                0
            }
        };
        let then = file.metadata().map_err(failed)?;
        let length = then.len().saturating_sub(start);
        if length == 0 {
            return Err(failed(empty()));
        }
        let (held, then, opened) = (Some(file), Identity::of(&then), SystemTime::now());
        Ok(Input { path, held, start, length, then, opened, vouched: BTreeMap::new() })
    }

    /// Its device and number, as the system tells files apart.
    pub(crate) fn number(&self) -> (u64, u64) {
        (self.then.0, self.then.1)
    }

    /// The very file that was there at first.
    fn file(&self) -> Result<File, Error> {
        let failed = |error| Error::Input(self.display(), error);
        let file = match (&self.held, &self.path) {
            (Some(file), _) => file.try_clone(),
            // Not to wait for anybody, should it be a pipe by now.
            (None, Some(path)) => File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path),
            (None, None) => Err(io::ErrorKind::NotFound.into()),
        };
        let file = file.map_err(failed)?;
        if Identity::of(&file.metadata().map_err(failed)?) == self.then { Ok(file) } else { Err(Error::Changed(self.display())) }
    }

    /// The same without its first line: a passphrase that nobody needs.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Input`] when nothing is left.
    pub(crate) fn skip_line(&mut self) -> Result<(), Error> {
        let mut byte = [0];
        let file = self.file()?;
        while self.length > 0 && byte != *b"\n" {
            file.read_exact_at(&mut byte, self.start).map_err(|error| Error::Io(STDIN, error))?;
            (self.start, self.length) = (self.start + 1, self.length - 1);
        }
        if self.length == 0 { Err(Error::Input(self.display(), empty())) } else { Ok(()) }
    }

    /// For messages.
    pub(crate) fn display(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| STDIN.into())
    }

    /// Its own name, without the directory.
    pub(crate) fn name(&self) -> Option<&OsStr> {
        self.path.as_deref().and_then(Path::file_name)
    }

    /// Hands on its bytes, all of them or an error.
    ///
    /// # Errors
    /// [`Error::Input`], [`Error::Changed`] when it has become shorter, and those of `give`.
    pub(crate) fn read(&self, mut give: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let file = self.file()?;
        let mut buffer = vec![0; usize::try_from(self.length).unwrap_or(PIECE).min(PIECE)];
        let mut at = 0;
        while at < self.length {
            let room = usize::try_from(self.length - at).unwrap_or(PIECE).min(PIECE);
            let room = buffer.get_mut(..room).unwrap_or_default();
            match file.read_at(room, self.start + at) {
                Ok(0) => return Err(Error::Changed(self.display())),
                Ok(length) => {
                    give(room.get(..length).unwrap_or_default())?;
                    at += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Input(self.display(), error)),
            }
        }
        Ok(())
    }

    /// What a signature of this kind hashes of it, and the text as a cleartext-signed message has it.
    ///
    /// # Errors
    /// As [`Input::read`]; [`Error::Input`] for what is no text.
    pub(crate) fn hash(&self, wanted: &Wanted) -> Result<(HashState, Vec<u8>), Error> {
        let mut state = HashState::begin(wanted);
        let mut body = Vec::new();
        let mut text = Text::new(wanted.form, Lines::new(), BufWriter::new(&mut body));
        let no_text = |fault| Error::Input(self.display(), io::Error::other(format!("{fault}")));
        self.read(|bytes| {
            if wanted.form == Form::Binary {
                state.update(bytes);
            }
            text.update(bytes, |bytes| state.update(bytes)).map_err(no_text)
        })?;
        text.finish(|bytes| state.update(bytes)).map_err(no_text)?;
        drop(text);
        Ok((state, body))
    }

    /// Its digest, also as a word of a request.
    ///
    /// # Errors
    /// As [`Input::read`].
    pub(crate) fn digest(&self, algorithm: HashAlgorithm) -> Result<(Digest, String), Error> {
        let bytes = self.hash(&Wanted::plain(algorithm))?.0.finish();
        let word = format!("--digest={}:{}", algorithm.name(), hex::encode(&bytes));
        Ok((Digest { algorithm, bytes }, word))
    }

    /// Demands that what was signed is what is there now.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub(crate) fn is_unchanged(&self) -> Result<(), Error> {
        let now = match (&self.held, &self.path) {
            (None, Some(path)) => path.metadata(),
            (Some(file), _) => file.metadata(),
            (None, None) => Err(io::ErrorKind::NotFound.into()),
        };
        let same = now.is_ok_and(|now| Identity::of(&now) == self.then);
        if same { Ok(()) } else { Err(Error::Changed(self.display())) }
    }

    /// The name for the host's log: words of a request are printable.
    pub(crate) fn log_name(&self) -> Option<String> {
        let encode = |byte: &u8| match byte {
            b'%' => "%25".to_owned(),
            byte if byte.is_ascii_graphic() || *byte == b' ' => char::from(*byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        self.name().map(|name| name.as_bytes().iter().map(encode).collect())
    }

    /// Goes back to the start, for a program that inherits it.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub(crate) fn again(&self) -> Result<File, Error> {
        let failed = |error| Error::Input(self.display(), error);
        let mut file = self.file()?;
        file.seek(SeekFrom::Start(self.start)).map_err(failed)?;
        Ok(file)
    }
}

fn empty() -> io::Error {
    io::Error::other("it is empty: whatever should have written it has failed")
}

/// All that comes through a pipe, in a file without a name.
fn spooled(mut pipe: File) -> io::Result<File> {
    let mut spool = tempfile::tempfile()?;
    io::copy(&mut pipe, &mut spool)?;
    Ok(spool)
}

/// Reads to the end, but no more than this.
///
/// # Errors
/// What reading says, and when there is more.
pub(crate) fn read_at_most(source: &mut dyn Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(io::Error::other("it is too long")) } else { Ok(bytes) }
}
