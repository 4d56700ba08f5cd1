//! The chain: each line holds the hash of the one before it, and its own place.

use super::line::{Hash, Line, MAX_LINE, hash};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{self, BufRead, Read};

/// Why a line does not continue the chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Lines were taken out, put in, or exchanged.
    #[error("its seq is {0}, and its place is {1}")]
    Seq(u64, u64),
    /// It, or the line before it, was changed.
    #[error("its prev is not the hash of the line before it")]
    Prev,
    /// The clock went back.
    #[error("its time is earlier than that of a line before it")]
    Time,
    /// `rotate` ends a file.
    #[error("it stands behind the line that ended its file")]
    BehindEnd,
    /// A file begins with `init` or `continue`, and nothing else does.
    #[error("this is not how the first line of a ledger looks")]
    First,
    /// See [`ChainError::First`].
    #[error("only the first line of a file may be '{0}'")]
    Begins(String),
    /// A file that goes on after another one, which was not ended.
    #[error("the file before it was not ended by 'rotate'")]
    NotEnded,
    /// A signature that nobody announced.
    #[error("it is 'signed' without an 'intent' before it in its session")]
    NoIntent,
}

/// A place in the chain: behind this line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which line it is, from 1. Torn lines count.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// The time of the last record up to here.
    pub time: String,
    /// Whether this line ended its file.
    pub ended: bool,
}

impl Place {
    /// Behind this record, whatever came before it.
    pub fn at(line: &Line, bytes: &[u8]) -> Place {
        Place { seq: line.seq, hash: hash(bytes), time: line.time().to_owned(), ended: line.event() == "rotate" }
    }

    /// Goes on over a record.
    ///
    /// # Errors
    /// [`ChainError`], when it does not continue the chain.
    pub fn follow(&mut self, line: &Line, hash: Hash) -> Result<(), ChainError> {
        if line.seq != self.seq + 1 {
            return Err(ChainError::Seq(line.seq, self.seq + 1));
        }
        if line.prev != self.hash {
            return Err(ChainError::Prev);
        }
        if line.time() < self.time.as_str() {
            return Err(ChainError::Time);
        }
        *self = Place { seq: line.seq, hash, time: line.time().to_owned(), ended: line.event() == "rotate" };
        Ok(())
    }

    /// Goes on over a line that is no record: torn by a crash or a full disk. It counts.
    pub fn pass(&mut self, hash: Hash) {
        (self.seq, self.hash) = (self.seq + 1, hash);
    }
}

/// A line as it was read, for whoever looks on.
pub struct Seen<'a> {
    /// Its place.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// The record, and its bytes; `None` when it is torn.
    pub record: Option<(&'a Line, &'a [u8])>,
    /// The number of the line in its file, from 1.
    pub number: u64,
}

/// Walks over all lines of the files of one chain, in order. Keeps nothing but what has no end yet.
#[derive(Default)]
pub struct Walk {
    place: Option<Place>,
    /// By session, and by the signature's number in it where it makes many.
    intents: HashMap<(String, String), u64>,
}

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The line of this number is wrong.
    #[error("{1}")]
    Line(u64, ChainError),
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
}

impl Walk {
    /// Where it has come to; `None` before the first line.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// How many intents have no end: their sessions were killed, or run still.
    pub fn open(&self) -> u64 {
        self.intents.values().sum()
    }

    /// Walks over the next file.
    ///
    /// # Errors
    /// Any [`WalkError`].
    pub fn file(&mut self, mut input: impl BufRead, mut each: impl FnMut(&Seen<'_>)) -> Result<(), WalkError> {
        let mut bytes = Vec::new();
        let mut number = 0;
        while let Some(hash) = next(&mut input, &mut bytes)? {
            number += 1;
            let line = Line::parse(&bytes);
            let seq = self.step(line.as_ref(), hash, number == 1).map_err(|error| WalkError::Line(number, error))?;
            each(&Seen { seq, hash, record: line.as_ref().map(|line| (line, bytes.as_slice())), number });
        }
        if number == 0 { Err(WalkError::Line(1, ChainError::First)) } else { Ok(()) }
    }

    fn step(&mut self, line: Option<&Line>, hash: Hash, first: bool) -> Result<u64, ChainError> {
        let event = line.map_or("", Line::event);
        if !first && ["init", "continue"].contains(&event) {
            return Err(ChainError::Begins(event.to_owned()));
        }
        let place = match (&mut self.place, line) {
            (None, Some(line)) if event == "continue" || event == "init" && (line.seq, line.prev) == (1, [0; 32]) => {
                let place = Place { seq: line.seq, hash, time: line.time().to_owned(), ended: false };
                return Ok(self.place.insert(place).seq);
            }
            (None, _) => return Err(ChainError::First),
            (Some(_), _) if first && event != "continue" => return Err(ChainError::First),
            (Some(place), _) if first && !place.ended => return Err(ChainError::NotEnded),
            (Some(place), _) if !first && place.ended => return Err(ChainError::BehindEnd),
            (Some(place), _) => place,
        };
        match line {
            None => place.pass(hash),
            Some(line) => {
                place.follow(line, hash)?;
                let signature = (line.field("session").to_owned(), line.field("entry").to_owned());
                match event {
                    "intent" => *self.intents.entry(signature).or_default() += 1,
                    "signed" => match self.intents.get_mut(&signature) {
                        None => return Err(ChainError::NoIntent),
                        Some(1) => drop(self.intents.remove(&signature)),
                        Some(more) => *more -= 1,
                    },
                    // They stand before the intent that rests on them.
                    "endorsement" | "approval" => {}
                    _ => drop(self.intents.remove(&signature)),
                }
            }
        }
        Ok(place.seq)
    }
}

/// Reads a line without its newline, of which more than a record may have is hashed and not kept; its hash, or `None` at the end.
fn next(input: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<Option<Hash>> {
    let limit = MAX_LINE as u64 + 2;
    bytes.clear();
    if input.by_ref().take(limit).read_until(b'\n', bytes)? == 0 {
        return Ok(None);
    }
    if bytes.pop_if(|byte| *byte == b'\n').is_some() || (bytes.len() as u64) < limit {
        return Ok(Some(hash(bytes)));
    }
    let mut hasher = Sha256::new_with_prefix(&*bytes);
    let mut rest = Vec::new();
    while input.by_ref().take(limit).read_until(b'\n', &mut rest)? > 0 {
        let last = rest.pop_if(|byte| *byte == b'\n').is_some();
        hasher.update(&rest);
        rest.clear();
        if last {
            break;
        }
    }
    Ok(Some(hasher.finalize().into()))
}
