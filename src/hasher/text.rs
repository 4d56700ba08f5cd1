//! Texts: what of their lines is hashed, and how they stand in a cleartext-signed message. Nothing here allocates once it is made.

use super::Fault;
use crate::hash_state::Form;
use nix::errno::Errno;
use std::io::{self, BufWriter, Write};
use std::os::fd::BorrowedFd;

/// The longest line in bytes, without its ending. GnuPG cuts lines off at 19,995 (`MAX_LINELEN` in its g10/textfilter.c).
pub const MAX_LINE: usize = 19_990;

/// Puts lines together from pieces that may be cut anywhere.
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// With room for the longest line.
    #[expect(clippy::new_without_default, reason = "nobody wants a default one")]
    pub fn new() -> Lines {
        Lines { rest: Vec::with_capacity(MAX_LINE + 2) }
    }

    /// Hands each line that is whole, with its ending, to `take`.
    fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = piece.ends_with(b"\n");
            if whole && self.rest.is_empty() {
                take(piece)?;
                continue;
            }
            if self.rest.len() + piece.len() > MAX_LINE + 2 {
                return Err(Fault::LongLine);
            }
            self.rest.extend_from_slice(piece);
            if whole {
                take(&self.rest)?;
                self.rest.clear();
            }
        }
        Ok(())
    }
}

/// What of a line counts in a text, and whether the line is ended.
fn content(line: &[u8]) -> Result<(&[u8], bool), Fault> {
    let (content, ended) = match line {
        [content @ .., b'\r', b'\n'] | [content @ .., b'\n'] => (content, true),
        content => (content, false),
    };
    match content {
        long if long.len() > MAX_LINE => Err(Fault::LongLine),
        // GnuPG takes it for a blank at the end of a line, Sequoia for the end of one.
        strange if strange.contains(&b'\r') => Err(Fault::CarriageReturn),
        // GnuPG takes this one for a blank, too.
        strange if without_blanks(strange).ends_with(b"\0") => Err(Fault::Nul),
        content => Ok((content, ended)),
    }
}

/// RFC 9580 §7.2: spaces and tabs at the end of a line.
fn without_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    line.get(..line.len() - blanks).unwrap_or_default()
}

/// Hashes a text, and writes it down where it is to leave with its signature.
pub struct Text<W: Write> {
    form: Form,
    lines: Lines,
    writer: Writer<W>,
    begun: bool,
}

/// The text of the message, and its length so far.
struct Writer<W: Write> {
    body: BufWriter<W>,
    length: u64,
}

impl<W: Write> Text<W> {
    /// Of this form, which writes the text of a cleartext-signed message to `body`.
    pub fn new(form: Form, lines: Lines, body: BufWriter<W>) -> Text<W> {
        Text { form, lines, writer: Writer { body, length: 0 }, begun: false }
    }

    /// Takes in what has come, wherever it was cut, and hands what of it counts to `hash`; of what is no text, nothing.
    pub fn update(&mut self, bytes: &[u8], mut hash: impl FnMut(&[u8])) -> Result<(), Fault> {
        if self.form == Form::Binary {
            return Ok(());
        }
        let Text { form, lines, writer, begun } = self;
        lines.feed(bytes, |line| take(*form, line, begun, writer, &mut hash))
    }

    /// Takes in a last line that is not ended, and tells the length of what was written. The next text begins.
    pub fn finish(&mut self, mut hash: impl FnMut(&[u8])) -> Result<u64, Fault> {
        let Text { form, lines, writer, begun } = self;
        // An empty text is one empty line in a cleartext-signed message, as GnuPG has it.
        if !lines.rest.is_empty() || *form == Form::Cleartext && !*begun {
            take(*form, &lines.rest, begun, writer, &mut hash)?;
        }
        lines.rest.clear();
        *begun = false;
        writer.body.flush().map_err(|error| fault(&error))?;
        Ok(std::mem::take(&mut writer.length))
    }
}

fn take<W: Write>(
    form: Form,
    line: &[u8],
    begun: &mut bool,
    writer: &mut Writer<W>,
    hash: &mut impl FnMut(&[u8]),
) -> Result<(), Fault> {
    let (content, ended) = content(line)?;
    if form != Form::Cleartext {
        hash(content);
        hash(if ended { b"\r\n" } else { b"" });
        return Ok(());
    }
    // RFC 9580 §7.2: blanks at the end of a line do not count, nor does the end of the last line.
    hash(if *begun { b"\r\n" } else { b"" });
    *begun = true;
    hash(without_blanks(content));
    // RFC 9580 §7.2: a line that begins with a dash must be escaped, one that begins with "From " should.
    let escape: &[u8] = if content.starts_with(b"-") || content.starts_with(b"From ") { b"- " } else { b"" };
    for part in [escape, line, if ended { b"" } else { b"\n" }] {
        writer.body.write_all(part).map_err(|error| fault(&error))?;
        writer.length = writer.length.saturating_add(part.len().try_into().unwrap_or(u64::MAX));
    }
    Ok(())
}

fn fault(error: &io::Error) -> Fault {
    Fault::Body(error.raw_os_error().unwrap_or(Errno::EIO as i32))
}

/// The file in memory, as something to write to. The descriptor stays the monitor's: it is never closed here.
pub(super) struct Memory<'a>(pub(super) BorrowedFd<'a>);

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_state::{HashAlgorithm, HashState};

    type Result = std::result::Result<(Vec<u8>, Vec<u8>), Fault>;

    /// Digest and body, taken in piece by piece.
    fn stream<'a>(form: Form, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result {
        let mut state = HashState::new(HashAlgorithm::Sha256);
        let mut text = Text::new(form, Lines::new(), BufWriter::with_capacity(7, Vec::new()));
        let room = text.lines.rest.capacity();
        for piece in pieces {
            if form == Form::Binary {
                state.update(piece);
            }
            text.update(piece, |bytes| state.update(bytes))?;
        }
        let length = text.finish(|bytes| state.update(bytes))?;
        assert_eq!(text.lines.rest.capacity(), room, "it was reallocated");
        let body = text.writer.body.into_inner().unwrap();
        assert_eq!(body.len() as u64, length);
        Ok((state.finish(), body))
    }

    /// The same as a person would write it down, with the whole text at hand.
    fn whole(form: Form, text: &[u8]) -> Result {
        let digest = |bytes: &[u8]| {
            let mut state = HashState::new(HashAlgorithm::Sha256);
            state.update(bytes);
            state.finish()
        };
        if form == Form::Binary {
            return Ok((digest(text), Vec::new()));
        }
        let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let last = lines.len() - 1;
        for (number, line) in lines.iter_mut().enumerate() {
            if number < last && line.last() == Some(&b'\r') {
                line.pop();
            }
            if line.len() > MAX_LINE {
                return Err(Fault::LongLine);
            }
            if line.contains(&b'\r') {
                return Err(Fault::CarriageReturn);
            }
            if String::from_utf8_lossy(line).trim_end_matches([' ', '\t']).ends_with('\0') {
                return Err(Fault::Nul);
            }
        }
        if form == Form::Text {
            return Ok((digest(&lines.join(&b"\r\n"[..])), Vec::new()));
        }
        let mut body = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b"-") || line.starts_with(b"From ") {
                body.extend(b"- ");
            }
            body.extend(line);
        }
        if !body.ends_with(b"\n") {
            body.push(b'\n');
        }
        if lines.len() > 1 && lines[last].is_empty() {
            lines.pop();
        }
        for line in &mut lines {
            while matches!(line.last(), Some(b' ' | b'\t')) {
                line.pop();
            }
        }
        Ok((digest(&lines.join(&b"\r\n"[..])), body))
    }

    const FORMS: [Form; 3] = [Form::Binary, Form::Text, Form::Cleartext];

    #[test]
    fn what_rfc_9580_says() {
        for (form, text, hashed, body) in [
            (Form::Text, &b"a\nb\r\n"[..], &b"a\r\nb\r\n"[..], &b""[..]),
            (Form::Text, b"a \n\t", b"a \r\n\t", b""),
            (Form::Cleartext, b"a \t\n-b\n\nFrom c", b"a\r\n-b\r\n\r\nFrom c", b"a \t\n- -b\n\n- From c\n"),
            (Form::Cleartext, b"a\r\n\r\n\n", b"a\r\n\r\n", b"a\r\n\r\n\n"),
            (Form::Cleartext, b"", b"", b"\n"),
            (Form::Cleartext, b"\n", b"", b"\n"),
            (Form::Cleartext, b"- \r\n", b"-", b"- - \r\n"),
        ] {
            let digest = whole(Form::Binary, hashed).unwrap().0;
            assert_eq!(stream(form, [text]), Ok((digest, body.to_vec())), "{:?}", text.escape_ascii().to_string());
        }
    }

    #[test]
    fn ambiguous_texts_are_refused() {
        for text in [&b"a\rb\n"[..], b"a\r\r\n", b"a\r", b"\r", b"\n\r", b"a \r \n"] {
            for form in [Form::Text, Form::Cleartext] {
                assert_eq!(stream(form, [text]), Err(Fault::CarriageReturn), "{:?}", text.escape_ascii().to_string());
            }
        }
        for text in [&b"a\0\n"[..], b"\0", b"a\0 \t\r\n", b"a\n\0\0"] {
            for form in [Form::Text, Form::Cleartext] {
                assert_eq!(stream(form, [text]), Err(Fault::Nul), "{:?}", text.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn the_length_of_a_line_is_exact() {
        for ending in [&b""[..], b"\n", b"\r\n"] {
            for (length, outcome) in
                [(MAX_LINE, None), (MAX_LINE + 1, Some(Fault::LongLine)), (MAX_LINE * 3, Some(Fault::LongLine))]
            {
                let text = [&b"a\n"[..], &vec![b'-'; length], ending].concat();
                for form in [Form::Text, Form::Cleartext] {
                    for piece in [1, 1000, MAX_LINE, text.len()] {
                        assert_eq!(stream(form, text.chunks(piece)).err(), outcome, "{length} {ending:?} by {piece}");
                    }
                }
            }
        }
    }

    /// Wherever a read ends: in two pieces, in three, and byte by byte.
    #[test]
    fn no_cut_changes_anything() {
        let text = b"-a \r\n\r\n\t\nFrom b\n-- \t\r\n\n\xff\0 c\r\n From\n- ";
        for form in FORMS {
            let expected = whole(form, text);
            assert_eq!(stream(form, text.chunks(1)), expected);
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let pieces = [&text[..first], &text[first..second], &text[second..]];
                    assert_eq!(stream(form, pieces), expected, "{form:?} {first} {second}");
                }
            }
        }
    }

    /// Texts made by chance of what matters, cut by chance.
    #[test]
    fn the_stream_does_as_the_whole() {
        let mut seed = 1u64;
        let mut next = |below: usize| {
            // Knuth's MMIX generator: a failure repeats.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        const PARTS: [&[u8]; 11] = [b"\n", b"\r\n", b"\r", b" ", b"\t", b"-", b"From ", b"F", b"a", b"\0", b"\xff"];
        let mut good = 0;
        for _ in 0..20_000 {
            // A lone carriage return ends most texts that may have one: leave it out half of the time.
            let skip = next(2) == 0;
            let parts = (0..next(12)).map(|_| PARTS[next(PARTS.len())]).filter(|part| !skip || *part != b"\r");
            let text = parts.collect::<Vec<_>>().concat();
            for form in FORMS {
                let expected = whole(form, &text);
                good += usize::from(expected.is_ok());
                assert_eq!(stream(form, text.chunks(1 + next(4))), expected, "{form:?} {:?}", text.escape_ascii().to_string());
            }
        }
        assert!(good > 30_000, "{good}");
    }

    #[test]
    fn a_body_that_cannot_be_written_is_a_fault() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        // The reading end: it takes no bytes.
        let body = BufWriter::with_capacity(4, Memory(std::os::fd::AsFd::as_fd(&reader)));
        let mut text = Text::new(Form::Cleartext, Lines::new(), body);
        assert_eq!(text.update(b"longer than four bytes\n", |_| ()), Err(Fault::Body(Errno::EBADF as i32)));
        drop(writer);
    }
}
