//! The descriptors that the caller has opened for us: its status, its log, what is signed, where the signature goes.

use super::call::{Around, Stream};
use super::error::GpgError;
use super::status::Status;
use crate::error::say_to;
use crate::input::Input;
use std::fs::File;
use std::io::{self, Write};

/// They are duplicated at once: what we open ourselves must not be taken for them.
#[derive(Default)]
pub(super) struct Streams {
    open: Vec<(i32, File)>,
    status: Option<File>,
    strict: bool,
}

impl Streams {
    /// Takes those that a call names.
    pub(super) fn of<'a>(around: &Around, named: impl IntoIterator<Item = &'a Stream>) -> Result<Streams, GpgError> {
        let mut streams = Streams { strict: around.strict, ..Streams::default() };
        for stream in named {
            if let Stream::Fd(fd) = stream {
                streams.open.push((*fd, inherited(*fd)?));
            }
        }
        let listener = |stream: &Option<Stream>| match stream {
            Some(Stream::Fd(fd)) => inherited(*fd).map(Some),
            Some(Stream::File(path)) => {
                let file = File::options().append(true).create(true).open(path);
                file.map(Some).map_err(|error| GpgError::Write(path.display().to_string(), error))
            }
            Some(Stream::Standard) | None => Ok(None),
        };
        streams.status = listener(&around.status)?;
        if let Some(logger) = listener(&around.logger)? {
            say_to(logger);
        }
        Ok(streams)
    }

    /// What is to be signed.
    pub(super) fn input(&self, stream: &Stream) -> Result<Input, GpgError> {
        Ok(match stream {
            Stream::File(path) => Input::open(path)?,
            Stream::Fd(fd) => Input::take(self.file(*fd)?)?,
            Stream::Standard => Input::take(inherited(0)?)?,
        })
    }

    /// Writes to standard output or a descriptor.
    pub(super) fn write(&self, stream: &Stream, bytes: &[u8]) -> Result<(), GpgError> {
        let written = match stream {
            Stream::Fd(fd) => self.file(*fd)?.write_all(bytes),
            _ => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        };
        written.map_err(|error| GpgError::Write("the output".to_owned(), error))
    }

    /// Writes a status line, where somebody listens. As with gpg, that they are gone changes nothing unless the call says so.
    pub(super) fn status(&mut self, status: &Status<'_>) -> Result<(), GpgError> {
        let line = status.to_string();
        let written = self.status.as_mut().map_or(Ok(()), |file| file.write_all(line.as_bytes()));
        if self.strict { written.map_err(|error| GpgError::Write("the status".to_owned(), error)) } else { Ok(()) }
    }

    fn file(&self, fd: i32) -> Result<File, GpgError> {
        let found = self.open.iter().find(|(number, _)| *number == fd);
        found.and_then(|(_, file)| file.try_clone().ok()).ok_or(GpgError::Stream(fd))
    }
}

fn inherited(fd: i32) -> Result<File, GpgError> {
    sigsh::sys::inherited(fd).map(File::from).map_err(|_| GpgError::Stream(fd))
}
