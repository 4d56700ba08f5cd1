//! How signatures leave: alone, as the files of a tar, as documents.

use crate::failure::Failure;
use crate::hash_state::Body;
use crate::output;
use crate::request::Request;
use crate::response::response;
use crate::tar::{self, BLOCK};
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
            output::try_to_write(&tar::header(b"failed", BLOCK as u64, 0, b'x').repeat(times));
        }
    }
}

/// How many blocks a signature has at most: two headers, a name of 4000 bytes, and an armored signature of ML-DSA-87+Ed448, 6.6 kB.
const MOST_BLOCKS: usize = 24;

/// A signature as a file of a tar.
fn file(name: &[u8], signed: &Signed) -> Vec<u8> {
    let mut file = tar::head(name, signed.bytes.len() as u64, signed.created);
    file.extend(&signed.bytes);
    file.resize(file.len().next_multiple_of(BLOCK), 0);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hasher::tar::MAX_NAME;
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    /// ML-DSA-87+Ed448, by SHA-512, in ASCII armor, under the longest name.
    #[test]
    fn the_longest_signature_has_no_more_blocks_than_that() {
        let signed = Signed { bytes: vec![b'a'; 6604], created: SystemTime::UNIX_EPOCH, text: None };
        let length = file(&vec![b'x'; MAX_NAME], &signed).len();
        assert!((MOST_BLOCKS - 1..=MOST_BLOCKS).contains(&(length / BLOCK)), "{length}");
    }

    /// What other programs make of it: shorter than a header's name, as long, longer; UTF-8 or not.
    #[test]
    fn names_come_out_as_they_went_in() {
        let names: [Vec<u8>; 6] = [
            b"a b\nc.sig".to_vec(),
            vec![b'x'; 100],
            vec![b'x'; 101],
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
