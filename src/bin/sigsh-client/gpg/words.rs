//! A command line as GnuPG reads it: options up to the first word that is none, then what is worked on.

use super::options::{self, Arity, Known, Lost};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Why a command line cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordError {
    /// gpg has no such option.
    #[error("invalid option '{0}'")]
    Unknown(String),
    /// Several options begin so.
    #[error("option '{0}' is ambiguous")]
    Ambiguous(String),
    /// The command line ends where an argument is due, or `--name=` has none.
    #[error("missing argument for option '{0}'")]
    Missing(String),
}

/// An option, and its argument.
pub(crate) type Given = (Known, Option<OsString>);

/// The options of a command line, one after the other; then [`Words::rest`].
pub(crate) struct Words<'a> {
    arguments: &'a [OsString],
    /// What is left of bundled letters.
    letters: &'a [u8],
}

impl<'a> Words<'a> {
    /// Begins to read what stands after the program's name.
    pub(crate) fn new(arguments: &'a [OsString]) -> Words<'a> {
        Words { arguments, letters: &[] }
    }

    /// What follows the options.
    pub(crate) fn rest(&self) -> &'a [OsString] {
        self.arguments
    }

    fn take(&mut self) -> Option<&'a OsStr> {
        let (first, rest) = self.arguments.split_first()?;
        self.arguments = rest;
        Some(first)
    }

    /// The next word as an argument. Where none need be, what looks like an option is none.
    fn argument(&mut self, known: Known, called: &[u8]) -> Result<Given, WordError> {
        let optional = known.arity == Arity::Optional;
        match self.arguments.first() {
            Some(next) if optional && next.as_bytes().starts_with(b"-") => Ok((known, None)),
            Some(_) => Ok((known, self.take().map(OsStr::to_owned))),
            None if optional => Ok((known, None)),
            None => Err(WordError::Missing(shown(called))),
        }
    }

    fn long(&mut self, word: &[u8]) -> Result<Given, WordError> {
        let (name, value) = match word.iter().position(|&byte| byte == b'=') {
            Some(at) => (word.get(..at).unwrap_or_default(), word.get(at + 1..)),
            None => (word, None),
        };
        let called = [b"--", name].concat();
        let known = options::long(name).map_err(|lost| match lost {
            Lost::Unknown => WordError::Unknown(shown(&called)),
            Lost::Ambiguous => WordError::Ambiguous(shown(&called)),
        })?;
        match (known.arity, value) {
            // gpg drops an argument that the option does not take.
            (Arity::None, _) | (Arity::Optional, Some(b"")) => Ok((known, None)),
            (_, Some(b"")) => Err(WordError::Missing(shown(&called))),
            (_, Some(value)) => Ok((known, Some(OsString::from_vec(value.to_vec())))),
            (_, None) => self.argument(known, &called),
        }
    }

    fn short(&mut self, letter: u8) -> Result<Given, WordError> {
        let called = [b'-', letter];
        let known = match letter {
            b'h' | b'?' => options::long(b"help").ok(),
            letter => options::short(letter),
        };
        let known = known.ok_or_else(|| WordError::Unknown(shown(&called)))?;
        if known.arity == Arity::None {
            return Ok((known, None));
        }
        match std::mem::take(&mut self.letters) {
            [] => self.argument(known, &called),
            rest => Ok((known, Some(OsString::from_vec(rest.to_vec())))),
        }
    }
}

impl Iterator for Words<'_> {
    type Item = Result<Given, WordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((&letter, rest)) = self.letters.split_first() {
            self.letters = rest;
            return Some(self.short(letter));
        }
        let word = self.arguments.first()?.as_bytes();
        match word {
            b"--" => {
                self.take();
                None
            }
            [b'-', b'-', long @ ..] => {
                self.take();
                Some(self.long(long))
            }
            [b'-', letters @ ..] if !letters.is_empty() => {
                self.take();
                self.letters = letters;
                self.next()
            }
            _ => None,
        }
    }
}

/// What was typed, fit for one line of a message.
fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word).escape_debug().collect()
}

#[cfg(test)]
mod tests {
    use super::{WordError, Words};
    use crate::gpg::home::Home;
    use std::ffi::OsString;

    /// Options as `name` or `name=argument`, then `|` and the rest.
    fn read(line: &[&str]) -> Result<String, WordError> {
        let line: Vec<OsString> = line.iter().map(OsString::from).collect();
        let mut words = Words::new(&line);
        let mut read = Vec::new();
        for word in words.by_ref() {
            let (known, argument) = word?;
            read.push(argument.map_or(known.name.to_string(), |it| format!("{}={}", known.name, it.to_str().unwrap())));
        }
        read.push("|".to_string());
        read.extend(words.rest().iter().map(|it| it.to_str().unwrap().to_string()));
        Ok(read.join(" "))
    }

    #[test]
    fn words_are_read_as_gpg_reads_them() {
        for (line, meant) in [
            (&["-bsau", "KEY"][..], "detach-sign sign armor local-user=KEY |"),
            (&["-bsauKEY", "f"], "detach-sign sign armor local-user=KEY | f"),
            (&["-sbo", "p.sig", "--", "-"], "sign detach-sign output=p.sig | -"),
            (&["-so", "-"], "sign output=- |"),
            (&["-so", "--", "-b"], "sign output=-- detach-sign |"),
            (&["--output=a=b", "-b"], "output=a=b detach-sign |"),
            (&["--output", "-b", "f"], "output=-b | f"),
            (&["-b", "f", "--armor"], "detach-sign | f --armor"),
            (&["-b", "-", "--armor"], "detach-sign | - --armor"),
            (&["-b", "--", "--armor", "--"], "detach-sign | --armor --"),
            (&["--passphrase", "-b"], "passphrase detach-sign |"),
            (&["--passphrase", "x", "-b"], "passphrase=x detach-sign |"),
            (&["--passphrase=", "-b"], "passphrase detach-sign |"),
            (&["--passphrase=-b"], "passphrase=-b |"),
            (&["--passphrase"], "passphrase |"),
            (&["-u", ""], "local-user= |"),
            (&["", "-b"], "|  -b"),
            (&["-z0", "-z", "6"], "z=0 z=6 |"),
            (&["--armor=no"], "armor |"),
            (&["-bh"], "detach-sign help |"),
            (&[], "|"),
        ] {
            assert_eq!(read(line).as_deref(), Ok(meant), "{line:?}");
        }
        // -&12 is a file only after --.
        for (line, meant) in [
            (&["--frobnicate"][..], "invalid option '--frobnicate'"),
            (&["-bY"], "invalid option '-Y'"),
            (&["-&12"], "invalid option '-&'"),
            (&["--list"], "option '--list' is ambiguous"),
            (&["--output"], "missing argument for option '--output'"),
            (&["--output="], "missing argument for option '--output'"),
            (&["-bo"], "missing argument for option '-o'"),
            (&["--arm\nor"], "invalid option '--arm\\nor'"),
            (&["--=x"], "invalid option '--'"),
        ] {
            assert_eq!(read(line).map_err(|error| error.to_string()), Err(meant.to_string()), "{line:?}");
        }
    }

    #[test]
    fn gpg_itself_takes_and_refuses_the_same() {
        let home = Home::empty();
        for line in [
            &["-bsau", "KEY"][..],
            &["-bsauKEY"],
            &["--detach-sig"],
            &["--detach"],
            &["--force-v"],
            &["--arm", "--tex"],
            &["--passphrase", "-b"],
            &["-z0"],
            &["--list-secret-key"],
            &["--status-fd=2", "-bsau", "Name <mail>"],
            &["--frobnicate"],
            &["-bY"],
            &["-&12"],
            &["--list"],
            &["--s"],
            &["--output="],
            &["--armor=yes"],
            &["--="],
        ] {
            let status = home.command().args(line).arg("--version").status().unwrap();
            assert_eq!(status.success(), read(line).is_ok(), "{line:?}");
        }
    }
}
