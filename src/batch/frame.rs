//! How signatures leave: alone, as the files of a tar, as documents.

use crate::failure::Failure;
use crate::hash_state::Body;
use crate::output;
use crate::request::Request;
use crate::response::response;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;
use tar::{Builder, EntryType, Header};

/// What standard output is.
pub enum Frame {
    /// One signature.
    Plain,
    /// A tar of signatures.
    Tar(Box<Builder<Vec<u8>>>),
    /// A document on each line.
    Lines,
}

/// A signature that may leave.
pub struct Signed {
    /// The packet, armored or not.
    pub bytes: Vec<u8>,
    /// When it was made.
    pub created: SystemTime,
    /// What stands before a text that leaves with its signature, and the text.
    pub text: Option<(String, Body)>,
}

impl Frame {
    /// What a request is answered with.
    pub fn of(request: &Request) -> Frame {
        match request {
            Request::SignTar(_) => Frame::tar(),
            Request::SignState(_) => Frame::Lines,
            _ => Frame::Plain,
        }
    }

    /// A tar, from its beginning.
    pub fn tar() -> Frame {
        Frame::Tar(Box::new(Builder::new(Vec::new())))
    }

    /// Writes a signature; in a tar, under this name.
    ///
    /// # Errors
    /// When it was not taken whole.
    pub fn deliver(&mut self, name: &[u8], signed: &Signed) -> Result<(), Failure> {
        match (self, &signed.text) {
            (Frame::Plain, Some((head, body))) => output::deliver_cleartext(head, body, &signed.bytes),
            (Frame::Plain, None) => output::deliver(&signed.bytes),
            (Frame::Tar(tar), _) => {
                append(tar, name, signed).map_err(Failure::unframed)?;
                output::deliver(&std::mem::take(tar.get_mut()))
            }
            (Frame::Lines, _) => output::deliver(&response(&signed.bytes)),
        }
    }

    /// Writes the end.
    ///
    /// # Errors
    /// When it was not taken whole.
    pub fn end(&mut self) -> Result<(), Failure> {
        let Frame::Tar(tar) = self else { return Ok(()) };
        tar.finish().map_err(Failure::unframed)?;
        output::deliver(&std::mem::take(tar.get_mut()))
    }

    /// Ends it so that whoever takes it apart sees that it failed. A tar ends in an extended header whose data is missing: GNU and BSD tar
    /// both demand them, while the plain end of the input may satisfy them.
    pub fn fail(&self) {
        if let Frame::Tar(_) = self {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            header.set_size(512);
            header.set_cksum();
            output::try_to_write(header.as_bytes());
        }
    }
}

fn append(tar: &mut Builder<Vec<u8>>, name: &[u8], signed: &Signed) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(signed.bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(signed.created.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs()));
    tar.append_data(&mut header, Path::new(OsStr::from_bytes(name)), signed.bytes.as_slice())
}
