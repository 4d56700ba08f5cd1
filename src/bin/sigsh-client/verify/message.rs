//! Cleartext-signed messages (RFC 9580 §7): one text and its signature, and nothing around them.

use crate::input::read_at_most;
use sigsh::hash_state::{Form, HashState, Wanted};
use sigsh::hasher::text::{Lines, Text};
use sigsh::openpgp::BadSignature;
use sigsh::openpgp::verify::dearmor;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

/// The largest message in bytes: dashes are escaped, so it is longer than its text.
pub(super) const LIMIT: u64 = 3 * Form::MAX_CLEARTEXT;

/// How a message begins.
pub(super) const BEGIN: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &[u8] = b"-----BEGIN PGP SIGNATURE-----";

/// Whether a file is one, by how it begins.
///
/// # Errors
/// What reading says.
pub(super) fn is_message(file: &Path) -> io::Result<bool> {
    use std::io::Read;
    let begin = read_at_most(&mut File::open(file)?.take(BEGIN.len() as u64), LIMIT)?;
    Ok(begin == BEGIN)
}

/// The parts of a message.
pub(super) struct Message<'a> {
    /// With its dashes escaped, in lines.
    text: Vec<&'a [u8]>,
    /// The names in all Hash headers.
    pub(super) hashes: Vec<&'a str>,
    /// Binary.
    pub(super) signature: Vec<u8>,
}

impl Message<'_> {
    /// Takes it apart. What other programs would leave out or show as part of the text is an error.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub(super) fn read(bytes: &[u8]) -> Result<Message<'_>, BadSignature> {
        let wrong = |what: &str| BadSignature(what.to_owned());
        let (mut at, mut text, mut hashes, mut headers) = (0, Vec::new(), Vec::new(), true);
        for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            match without_end(line) {
                BEGIN if number == 0 => {}
                _ if number == 0 => return Err(wrong("it does not begin as a cleartext-signed message does")),
                b"" if headers => headers = false,
                header if headers => {
                    let names = header.strip_prefix(b"Hash: ").and_then(|names| std::str::from_utf8(names).ok());
                    let names = names.ok_or_else(|| wrong("before its text stands what is no Hash header"))?;
                    hashes.extend(names.split(',').map(|name| name.trim_matches(' ')));
                }
                BEGIN_SIGNATURE => {
                    let signature = dearmor(bytes.get(at..).unwrap_or_default())?;
                    return Ok(Message { text, hashes, signature });
                }
                dashed if dashed.starts_with(b"-") && !dashed.starts_with(b"- ") => {
                    return Err(wrong("a dash in its text is not escaped"));
                }
                _ => text.push(line),
            }
            at += line.len();
        }
        Err(wrong("its signature is missing"))
    }

    /// Hashes the text.
    ///
    /// # Errors
    /// [`BadSignature`] for what is no text.
    pub(super) fn hash(&self, wanted: &Wanted) -> Result<HashState, BadSignature> {
        let no_text = |fault| BadSignature(format!("{fault}"));
        let mut state = HashState::begin(wanted);
        let mut text = Text::new(Form::Cleartext, Lines::new(), BufWriter::new(io::sink()));
        for line in &self.text {
            let line = line.strip_prefix(b"- ").unwrap_or(line);
            text.update(line, |bytes| state.update(bytes)).map_err(no_text)?;
        }
        text.finish(|bytes| state.update(bytes)).map_err(no_text)?;
        Ok(state)
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n- - a\nb\n\n-----BEGIN PGP SIGNATURE-----\n\nabcd\n\
                         -----END PGP SIGNATURE-----\n";

    #[test]
    fn a_message_is_taken_apart() {
        for text in [WHOLE.to_owned(), WHOLE.replace('\n', "\r\n"), WHOLE.replace("Hash: SHA512\n", "")] {
            let message = Message::read(text.as_bytes()).unwrap();
            assert_eq!(message.text.iter().map(|line| without_end(line)).collect::<Vec<_>>(), [&b"- - a"[..], b"b", b""]);
            assert_eq!(message.signature, [0x69, 0xb7, 0x1d]);
            assert_eq!(message.hashes.is_empty(), !text.contains("Hash: "), "{:?}", message.hashes);
        }
    }

    /// What somebody might take for signed although it is not.
    #[test]
    fn nothing_stands_around_it() {
        for (from, to, why) in [
            ("-----BEGIN PGP SIGNED", "x\n-----BEGIN PGP SIGNED", "it does not begin as a cleartext-signed message does"),
            ("-----BEGIN PGP SIGNED", "\n-----BEGIN PGP SIGNED", "it does not begin as a cleartext-signed message does"),
            ("MESSAGE-----\n", "MESSAGE----- \n", "it does not begin as a cleartext-signed message does"),
            ("Hash: SHA512\n", "Comment: this is signed\n", "before its text stands what is no Hash header"),
            ("\n\n- - a", "\n \n- - a", "before its text stands what is no Hash header"),
            ("- - a", "-a", "a dash in its text is not escaped"),
            ("- - a", "-----BEGIN PGP SIGNED MESSAGE-----", "a dash in its text is not escaped"),
            ("-----END PGP SIGNATURE-----\n", "-----END PGP SIGNATURE-----\nmore\n", "not one armored signature alone"),
            ("-----END PGP SIGNATURE-----\n", "", "not one armored signature alone"),
            ("abcd\n", "-----END PGP SIGNATURE-----\n-----BEGIN PGP SIGNATURE-----\n", "not one armored signature alone"),
            ("-----BEGIN PGP SIGNATURE", "----BEGIN PGP SIGNATURE", "a dash in its text is not escaped"),
        ] {
            assert!(WHOLE.contains(from), "{from}");
            let text = WHOLE.replacen(from, to, 1);
            assert_eq!(Message::read(text.as_bytes()).err(), Some(BadSignature(why.to_owned())), "{text}");
        }
        for cut in 0..WHOLE.len() - 1 {
            assert!(Message::read(&WHOLE.as_bytes()[..cut]).is_err(), "{cut}");
        }
        let hashes =
            |line: &str| Message::read(WHOLE.replace("Hash: SHA512\n", line).as_bytes()).map(|message| message.hashes.join("|"));
        assert_eq!(hashes("Hash: SHA512, SHA256\nHash: x y\n").as_deref(), Ok("SHA512|SHA256|x y"));
        // The end of the last line is nothing of it.
        assert!(Message::read(&WHOLE.as_bytes()[..WHOLE.len() - 1]).is_ok());
    }
}
