//! What is signed: files that can be read again and again, whatever they came from.

use crate::error::Error;
use sigsh::hash_state::{Form, HashState, Wanted};
use sigsh::hasher::text::{Lines, Text};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How much is read at a time, in bytes.
pub(crate) const PIECE: usize = 256 * 1024;

/// An artifact.
pub(crate) struct Input {
    /// Where it is; nowhere when it came through a pipe.
    pub(crate) path: Option<PathBuf>,
    file: File,
    start: u64,
    /// Its length in bytes.
    pub(crate) length: u64,
    then: Metadata,
}

impl Input {
    /// Opens a file. A pipe is read to its end.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub(crate) fn open(path: &Path) -> Result<Input, Error> {
        let failed = |error| Error::Input(path.to_owned(), error);
        Input::of(File::open(path).map_err(failed)?, Some(path.to_owned())).map_err(failed)
    }

    /// Takes what is open already: standard input, or a descriptor that was inherited.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn take(file: File) -> Result<Input, Error> {
        Input::of(file, None).map_err(|error| Error::Io("standard input", error))
    }

    fn of(mut file: File, path: Option<PathBuf>) -> io::Result<Input> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            let mut spool = tempfile::tempfile()?;
            io::copy(&mut file, &mut spool)?;
            let then = spool.metadata()?;
            return Ok(Input { path, file: spool, start: 0, length: then.len(), then });
        }
        let start = file.stream_position()?;
        Ok(Input { path, file, start, length: metadata.len().saturating_sub(start), then: metadata })
    }

    /// The same without its first line: a passphrase that nobody needs.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn skip_line(&mut self) -> Result<(), Error> {
        let mut byte = [0];
        while self.length > 0 && byte != *b"\n" {
            self.file.read_exact_at(&mut byte, self.start).map_err(|error| Error::Io("standard input", error))?;
            (self.start, self.length) = (self.start + 1, self.length - 1);
        }
        Ok(())
    }

    /// For messages.
    pub(crate) fn display(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| "standard input".into())
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
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        while at < self.length {
            let room = usize::try_from(self.length - at).unwrap_or(PIECE).min(PIECE);
            let room = buffer.get_mut(..room).unwrap_or_default();
            match self.file.read_at(room, self.start + at) {
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

    /// Demands that what was signed is what is there now.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub(crate) fn is_unchanged(&self) -> Result<(), Error> {
        let what = |of: &Metadata| (of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec());
        let same = |now: io::Result<Metadata>| now.is_ok_and(|now| what(&now) == what(&self.then));
        let there = |path: &PathBuf| !self.then.is_file() || same(path.metadata());
        if same(self.file.metadata()) && (self.path.as_ref().is_none_or(there) || self.is_spooled()) {
            Ok(())
        } else {
            Err(Error::Changed(self.display()))
        }
    }

    /// Whether it was copied here from a pipe.
    fn is_spooled(&self) -> bool {
        self.then.nlink() == 0
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
        let mut file = self.file.try_clone().map_err(failed)?;
        file.seek(SeekFrom::Start(self.start)).map_err(failed)?;
        Ok(file)
    }
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
