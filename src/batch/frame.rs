//! How signatures leave: alone, as the files of a tar, as documents.

use crate::failure::Failure;
use crate::hash_state::Body;
use crate::output;
use crate::request::Request;
use crate::response::response;
use std::time::SystemTime;

/// What standard output is.
pub enum Frame {
    /// One signature.
    Plain,
    /// A tar of signatures.
    Tar,
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
            Request::SignTar(_) => Frame::Tar,
            Request::SignState(_) => Frame::Lines,
            _ => Frame::Plain,
        }
    }

    /// Writes a signature; in a tar, under this name.
    ///
    /// # Errors
    /// When it was not taken whole.
    pub fn deliver(&self, name: &[u8], signed: &Signed) -> Result<(), Failure> {
        match (self, &signed.text) {
            (Frame::Plain, Some((head, body))) => output::deliver_cleartext(head, body, &signed.bytes),
            (Frame::Plain, None) => output::deliver(&signed.bytes),
            (Frame::Tar, _) => output::deliver(&file(name, signed)),
            (Frame::Lines, _) => output::deliver(&response(&signed.bytes)),
        }
    }

    /// Writes the end.
    ///
    /// # Errors
    /// When it was not taken whole.
    pub fn end(&self) -> Result<(), Failure> {
        if matches!(self, Frame::Tar) { output::deliver(&[0; 2 * BLOCK]) } else { Ok(()) }
    }

    /// Ends it so that whoever takes it apart sees that it failed. A tar ends in an extended header whose data is missing: GNU and BSD tar
    /// both demand them, while the plain end of the input may satisfy them. Where a signature may have left in part, the header must not
    /// complete it: then there are more of them than a signature has blocks.
    pub fn fail(&self, in_part: bool) {
        if matches!(self, Frame::Tar) {
            let times = if in_part { MOST_BLOCKS + 1 } else { 1 };
            output::try_to_write(&header(b"failed", BLOCK, 0, b'x').repeat(times));
        }
    }
}

/// How many blocks a signature has at most: two headers, a name of 4000 bytes, and an armored signature of RSA-4096.
const MOST_BLOCKS: usize = 16;

/// The unit of a tar, in bytes.
const BLOCK: usize = 512;

/// How long a name fits into a header, in bytes.
const SHORT: usize = 100;

/// A signature as a file of a tar. A name that is too long for its header has one of its own before it, as GNU tar writes it: that one
/// takes any bytes, while pax demands UTF-8.
fn file(name: &[u8], signed: &Signed) -> Vec<u8> {
    let mut tar = Vec::new();
    if name.len() > SHORT {
        tar.extend(header(b"././@LongLink", name.len() + 1, 0, b'L'));
        tar.extend(name);
        // Ended by a NUL, at least.
        tar.resize((tar.len() + 1).next_multiple_of(BLOCK), 0);
    }
    let time = signed.created.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    tar.extend(header(name, signed.bytes.len(), time, b'0'));
    tar.extend(&signed.bytes);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    tar
}

/// A header in GNU's format: numbers are octal, names cut to what fits.
fn header(name: &[u8], size: usize, time: u64, kind: u8) -> Vec<u8> {
    let name = name.get(..SHORT).unwrap_or(name);
    let fields = |sum: String| {
        let numbers = format!("0000644\0{:07o}\0{:07o}\0{size:011o}\0{time:011o}\0{sum:>8}", 0, 0);
        let mut header = [name, &vec![0; SHORT - name.len()], numbers.as_bytes(), &[kind]].concat();
        header.resize(header.len() + SHORT, 0);
        header.extend(b"ustar  \0");
        header.resize(BLOCK, 0);
        header
    };
    let sum: u32 = fields(String::new()).iter().copied().map(u32::from).sum();
    fields(format!("{sum:06o}\0 "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    /// What other programs make of it: shorter than a header's name, as long, longer; UTF-8 or not.
    #[test]
    fn names_come_out_as_they_went_in() {
        let names: [Vec<u8>; 6] = [
            b"a b\nc.sig".to_vec(),
            vec![b'x'; SHORT],
            vec![b'x'; SHORT + 1],
            vec![b'\xe4'; 255],
            [&b"\xff/"[..], &vec![b'y'; 250], b"/", &vec![b'z'; 250]].concat(),
            b"./d/\xc3\xa4.sig".to_vec(),
        ];
        let signed = Signed { bytes: vec![7; 700], created: SystemTime::UNIX_EPOCH + Duration::from_secs(1), text: None };
        let tar = names.iter().flat_map(|name| file(name, &signed)).chain([0; 2 * BLOCK]).collect::<Vec<_>>();
        for program in ["tar", "bsdtar"] {
            let directory = std::env::temp_dir().join(format!("sigsh-frame-{program}-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            let mut child =
                Command::new(program).args(["-x", "-f", "-"]).current_dir(&directory).stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(&tar).unwrap();
            assert!(child.wait().unwrap().success(), "{program}");
            for name in &names {
                let path = directory.join(std::ffi::OsStr::from_bytes(name));
                assert_eq!(std::fs::read(&path).unwrap(), signed.bytes, "{program} {path:?}");
                assert_eq!(path.metadata().unwrap().modified().unwrap(), signed.created);
            }
            std::fs::remove_dir_all(directory).unwrap();
        }
    }
}
