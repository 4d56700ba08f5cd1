//! An input of `sign-state`: one signing request a line.

mod document;

pub use document::{Document, DocumentError, MAX_DOCUMENT, MAX_FILE_NAME};

use super::Fault;
use super::source::Source;

/// Takes an input apart into documents.
pub(super) struct States {
    line: Vec<u8>,
}

impl States {
    /// Allocates all that is needed for lines.
    pub(super) fn new() -> States {
        States { line: Vec::with_capacity(MAX_DOCUMENT) }
    }

    /// The next document; `None` at the end. Blank lines are passed over, and the last line need not be ended.
    ///
    /// # Errors
    /// [`Fault::Document`], and what `source` says.
    pub(super) fn next(&mut self, source: &mut impl Source) -> Result<Option<Document<'_>>, Fault> {
        while self.read(source)? {
            if !self.line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
                return Document::decode(&self.line).map(Some).map_err(Fault::Document);
            }
        }
        Ok(None)
    }

    /// Reads a line; false at the end.
    fn read(&mut self, source: &mut impl Source) -> Result<bool, Fault> {
        self.line.clear();
        loop {
            let bytes = source.look()?;
            if bytes.is_empty() {
                return Ok(!self.line.is_empty());
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let piece = end.and_then(|end| bytes.get(..end)).unwrap_or(bytes);
            if self.line.len() + piece.len() > MAX_DOCUMENT {
                return Err(Fault::Document(DocumentError::Long));
            }
            self.line.extend_from_slice(piece);
            let taken = piece.len() + usize::from(end.is_some());
            source.take(taken);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An input that comes in pieces.
    struct Pieces<'a>(Vec<&'a [u8]>);

    impl Source for Pieces<'_> {
        fn look(&mut self) -> Result<&[u8], Fault> {
            self.0.retain(|piece| !piece.is_empty());
            Ok(self.0.first().copied().unwrap_or_default())
        }

        fn take(&mut self, bytes: usize) {
            self.0[0] = &self.0[0][bytes..];
        }
    }

    /// Names of the files, and how it ended.
    fn read(pieces: Vec<&[u8]>) -> (Vec<String>, Result<(), Fault>) {
        let (mut states, mut source, mut names) = (States::new(), Pieces(pieces), Vec::new());
        loop {
            match states.next(&mut source) {
                Ok(Some(document)) => names.push(document.file_name.into_owned()),
                Ok(None) => return (names, Ok(())),
                Err(fault) => return (names, Err(fault)),
            }
        }
    }

    const DOCUMENT: &str = include_str!("../../fuzz/corpus/state_document/client-short");

    fn documents(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| DOCUMENT.replace("hello.txt", name)).collect()
    }

    #[test]
    fn every_cut_gives_the_same_documents() {
        let [a, b, c] = documents(&["a", "b", "c"]).try_into().unwrap();
        for text in [format!("{a}\n{b}\n{c}\n"), format!("{a}\r\n\n{b}\n \t\r\n{c}"), format!("\n\n{a}\n{b}\n{c}\n\n\r")] {
            let bytes = text.as_bytes();
            for cut in 0..bytes.len() {
                let (head, tail) = bytes.split_at(cut);
                assert_eq!(read(vec![head, tail]), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], Ok(())), "{cut}");
            }
            for size in 1..100 {
                assert_eq!(read(bytes.chunks(size).collect()).0, ["a", "b", "c"], "{size}");
            }
        }
    }

    #[test]
    fn an_input_that_ends_early_or_has_none() {
        for text in ["", "\n", "\n \n\r\n", " "] {
            assert_eq!(read(vec![text.as_bytes()]), (vec![], Ok(())), "{text:?}");
        }
        let [a, b] = documents(&["a", "b"]).try_into().unwrap();
        let text = format!("{a}\n{b}");
        for end in a.len() + 2..text.len() {
            assert_eq!(read(vec![&text.as_bytes()[..end]]), (vec!["a".to_owned()], Err(Fault::Document(DocumentError::Malformed))));
        }
        // Two in one line are none, nor is one in two lines.
        let malformed = (vec![], Err(Fault::Document(DocumentError::Malformed)));
        assert_eq!(read(vec![a.as_bytes(), b.as_bytes()]), malformed);
        assert_eq!(read(vec![a.replace(r#","optional""#, ",\n\"optional\"").as_bytes()]), malformed);
    }

    #[test]
    fn a_line_that_is_too_long_is_not_read_to_its_end() {
        let long = |length: usize| " ".repeat(length);
        for size in [1, 1000, MAX_DOCUMENT, 1 << 20] {
            let most = long(MAX_DOCUMENT) + "\n" + DOCUMENT;
            assert_eq!(read(most.as_bytes().chunks(size).collect()).0, ["hello.txt"], "blanks are a blank line");
            let over = long(MAX_DOCUMENT + 1) + "\n";
            assert_eq!(read(over.as_bytes().chunks(size).collect()).1, Err(Fault::Document(DocumentError::Long)));
        }
    }
}
