//! The ledger's file as a session uses it: one place to append to, and a look at the tail alone.

use super::LedgerError;
use super::chain::Place;
use super::line::{Line, MAX_LINE, hash};
use crate::state::{State, Turn, turn};
use crate::trusted;
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long a session waits for the others' turns to append.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it waits to write the head, which can lag behind.
const HEAD_PATIENCE: Duration = Duration::from_secs(1);

/// How much of the tail is looked at in bytes: more than all batches of a host leave between two heads, a MiB each at most.
const MAX_TAIL: u64 = 16 << 20;

/// The length of the head's record in bytes.
const HEAD: usize = 256;

/// The lock that all who append share. Its file also holds the head: the last line known to be on the disk.
pub struct Lock(File);

/// See [`Lock`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The line's place.
    pub seq: u64,
    hash: String,
    /// Where it ends in its file, newline included.
    end: u64,
}

impl Lock {
    /// Opens it in the state directory.
    ///
    /// # Errors
    /// [`LedgerError::State`].
    pub fn open(state: &Path) -> Result<Lock, LedgerError> {
        Ok(Lock(State::open(state)?.file("ledger.lock")?))
    }

    /// Waits for the turn to append.
    ///
    /// # Errors
    /// [`LedgerError::State`].
    pub fn turn(&self) -> Result<Turn<'_>, LedgerError> {
        Ok(turn(&self.0, PATIENCE)?)
    }

    /// The head, if one was ever written, and whole: a power failure may leave an old one, or none.
    pub fn head(&self) -> Option<Head> {
        let mut record = [0; HEAD];
        self.0.read_exact_at(&mut record, 0).ok()?;
        let text = std::str::from_utf8(&record).ok()?;
        let mut words = text.split_ascii_whitespace();
        let head = Head { seq: words.next()?.parse().ok()?, hash: words.next()?.to_owned(), end: words.next()?.parse().ok()? };
        (head.record() == record).then_some(head)
    }

    /// Moves the head on, once its line is on the disk. A head that lags behind is no harm: the next session reads a little more. So this
    /// may also fail.
    pub fn advance(&self, head: &Head) {
        let is_behind = || self.head().is_none_or(|other| other.seq < head.seq);
        // Looked at without a turn first: others may have moved it on already.
        if is_behind()
            && let Ok(_turn) = turn(&self.0, HEAD_PATIENCE)
            && is_behind()
        {
            let _ = self.set_head(head);
        }
    }

    /// Writes the head, in one's turn, once its line is on the disk.
    ///
    /// # Errors
    /// What `pwrite(2)` says.
    pub fn set_head(&self, head: &Head) -> std::io::Result<()> {
        self.0.write_all_at(&head.record(), 0)
    }

    /// Writes the head of a file that begins: on the disk, before that file takes the place of another, whose head would not fit it.
    ///
    /// # Errors
    /// What `pwrite(2)` and `fdatasync(2)` say.
    pub fn begin(&self, head: &Head) -> std::io::Result<()> {
        self.set_head(head).and_then(|()| self.0.sync_data())
    }
}

impl Head {
    /// Of fixed length, with a sum of its own.
    fn record(&self) -> [u8; HEAD] {
        let text = format!("{} {} {}", self.seq, self.hash, self.end);
        let text = format!("{text} {}\n", hex::encode(hash(text.as_bytes())));
        let mut record = [b' '; HEAD];
        for (to, from) in record.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        record
    }
}

/// The fields of a record, but for those that belong to its place.
pub type Fields<'a> = [(&'a str, &'a str)];

/// An open ledger: a descriptor that appends, and one that reads.
pub struct Book {
    append: File,
    read: File,
}

/// What the end of a ledger looks like.
#[derive(Debug)]
pub struct Tail {
    /// The last line.
    pub place: Place,
    /// The file's length in bytes.
    length: u64,
    /// Whether the last line has no newline: whoever wrote it was killed, or the disk was full.
    unended: bool,
}

impl Tail {
    /// The file's length in bytes: what comes behind is not looked at.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Book {
    /// Opens a ledger: a regular file of the account's with one link, that nobody else may write, where nobody else can put one.
    ///
    /// # Errors
    /// [`LedgerError::Missing`], [`LedgerError::Open`], [`LedgerError::Trust`].
    pub fn open(path: &Path) -> Result<Book, LedgerError> {
        let (append, read) = trusted::open_to_append(path)?;
        Ok(Book { append, read })
    }

    /// It, open for reading.
    pub fn file(&self) -> &File {
        &self.read
    }

    /// How long it is in bytes.
    ///
    /// # Errors
    /// [`LedgerError::Read`].
    pub fn length(&self) -> Result<u64, LedgerError> {
        let length = lseek(&self.read, 0, Whence::SeekEnd).map_err(|error| LedgerError::Read(error.into()))?;
        Ok(length.cast_unsigned())
    }

    /// Looks at the tail, in one's turn: from the head on it must continue the chain. Without a head, or with one that lags far behind
    /// because the machine has failed, from the first record that is near enough.
    ///
    /// # Errors
    /// [`LedgerError::Rotated`] when the file has ended; [`LedgerError::Edited`], [`LedgerError::Cut`],
    /// [`LedgerError::Empty`], [`LedgerError::Read`].
    pub fn tail(&self, head: Option<&Head>) -> Result<Tail, LedgerError> {
        let length = self.length()?;
        // A line and the newlines around it stand before what may be new.
        let line = MAX_LINE as u64 + 2;
        let window = length.saturating_sub(MAX_TAIL + line);
        let head = head.filter(|head| length.saturating_sub(head.end) <= MAX_TAIL);
        let from = head.map_or(window, |head| head.end.saturating_sub(line).max(window));
        if length == 0 {
            return Err(LedgerError::Empty);
        }
        let bytes = self.bytes(from, length)?;
        let unended = bytes.last() != Some(&b'\n');
        // The head is the next file's already.
        let last = bytes.strip_suffix(b"\n").unwrap_or(&bytes).rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let ended = Line::parse(last).filter(|line| line.event() == "rotate");
        if let Some(line) = ended.filter(|line| head.is_some_and(|head| head.seq > line.seq)) {
            return Err(LedgerError::Rotated(Place::at(&line, last)));
        }
        let (mut place, rest) = match head {
            Some(head) => {
                if head.end > length {
                    return Err(LedgerError::Cut(head.seq));
                }
                at_head(head, &bytes, from).ok_or(LedgerError::Edited(head.seq, "it was changed".to_owned()))?
            }
            None => first_record(&bytes, from > 0).ok_or(LedgerError::Empty)?,
        };
        follow(&mut place, rest)?;
        if place.ended {
            return Err(LedgerError::Rotated(place));
        }
        Ok(Tail { place, length, unended })
    }

    /// The tail as it is, whatever became of the lines before it: behind the last record that is near enough.
    ///
    /// # Errors
    /// [`LedgerError::Empty`], [`LedgerError::Read`].
    pub fn tail_as_it_is(&self) -> Result<Tail, LedgerError> {
        let length = self.length()?;
        let bytes = self.bytes(length.saturating_sub(MAX_TAIL), length)?;
        let mut place: Option<Place> = None;
        for line in bytes.strip_suffix(b"\n").unwrap_or(&bytes).split(|byte| *byte == b'\n') {
            match (Line::parse(line), &mut place) {
                (Some(record), _) => place = Some(Place::at(&record, line)),
                (None, Some(place)) => place.pass(hash(line)),
                (None, None) => {}
            }
        }
        let unended = bytes.last() != Some(&b'\n');
        Ok(Tail { place: place.ok_or(LedgerError::Empty)?, length, unended })
    }

    fn bytes(&self, from: u64, to: u64) -> Result<Vec<u8>, LedgerError> {
        let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or_default()];
        self.read.read_exact_at(&mut bytes, from).map_err(LedgerError::Read)?;
        Ok(bytes)
    }

    /// Appends a record behind the tail, in one's turn, with one call. It counts once [`Book::sync`] has returned.
    ///
    /// # Errors
    /// As [`Book::append_all`].
    pub fn append(&self, tail: &Tail, fields: &Fields<'_>) -> Result<Place, LedgerError> {
        let (mut places, _) = self.append_all(tail, &[fields])?;
        places.pop().ok_or(LedgerError::Empty)
    }

    /// The same for several, with one call for all of them: at least one.
    ///
    /// # Errors
    /// [`LedgerError::Clock`], [`LedgerError::Long`], [`LedgerError::Write`], [`LedgerError::Short`], [`LedgerError::Crossed`].
    pub fn append_all(&self, tail: &Tail, records: &[&Fields<'_>]) -> Result<(Vec<Place>, Head), LedgerError> {
        let data = if tail.unended { vec![b'\n'] } else { vec![] };
        self.write(data, tail.length, Some(&tail.place), records)
    }

    /// Writes the first line of an empty file: `after` is where the chain comes from.
    ///
    /// # Errors
    /// As [`Book::append`].
    pub fn begin(&self, after: Option<&Place>, fields: &Fields<'_>) -> Result<Head, LedgerError> {
        self.write(vec![], 0, after, &[fields]).map(|(_, head)| head)
    }

    fn write(
        &self,
        mut data: Vec<u8>,
        at: u64,
        after: Option<&Place>,
        records: &[&Fields<'_>],
    ) -> Result<(Vec<Place>, Head), LedgerError> {
        let now = SystemTime::now();
        if let Some(last) = after.map(|place| &place.time) {
            let now = humantime::format_rfc3339_nanos(now).to_string();
            if now < *last {
                return Err(LedgerError::Clock { now, last: last.clone() });
            }
        }
        let mut places: Vec<Place> = Vec::with_capacity(records.len());
        for fields in records {
            let (seq, prev) = places.last().or(after).map_or((1, [0; 32]), |place| (place.seq + 1, place.hash));
            let (line, bytes) = Line::new(seq, prev, now, fields.iter().copied()).ok_or(LedgerError::Long)?;
            data.extend(&bytes);
            data.push(b'\n');
            places.push(Place::at(&line, &bytes));
        }
        // Not again where a part was written: what stands there now is a torn line.
        match (&self.append).write(&data) {
            Ok(written) if written == data.len() => {}
            Ok(written) => return Err(LedgerError::Short(written, data.len())),
            Err(error) => return Err(LedgerError::Write(error)),
        }
        // Who appends learns by its offset where that was. What stands between was neither looked at nor counted.
        let end = lseek(&self.append, 0, Whence::SeekCur).map_err(|error| LedgerError::Read(error.into()))?;
        if end.cast_unsigned() != at + data.len() as u64 {
            return Err(LedgerError::Crossed);
        }
        let last = places.last().ok_or(LedgerError::Empty)?;
        let head = Head { seq: last.seq, hash: hex::encode(last.hash), end: at + data.len() as u64 };
        Ok((places, head))
    }

    /// Waits until all that was appended is on the disk.
    ///
    /// # Errors
    /// [`LedgerError::Sync`].
    pub fn sync(&self) -> Result<(), LedgerError> {
        self.append.sync_data().map_err(LedgerError::Sync)
    }
}

/// Goes on to the end.
fn follow(place: &mut Place, rest: &[u8]) -> Result<(), LedgerError> {
    let lines = rest.strip_suffix(b"\n").unwrap_or(rest).split(|byte| *byte == b'\n');
    for line in lines.skip(usize::from(rest.is_empty())) {
        let next = place.seq + 1;
        match Line::parse(line) {
            None => place.pass(hash(line)),
            Some(record) => {
                place.follow(&record, hash(line)).map_err(|error| LedgerError::Edited(next, error.to_string()))?;
            }
        }
    }
    Ok(())
}

/// The head's line, whose end is known, and what comes after it.
fn at_head<'a>(head: &Head, bytes: &'a [u8], from: u64) -> Option<(Place, &'a [u8])> {
    let (before, rest) = bytes.split_at_checked(usize::try_from(head.end.checked_sub(from)?).ok()?)?;
    let line = before.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()?;
    let record = Line::parse(line)?;
    let place = Place::at(&record, line);
    (place.seq == head.seq && hex::encode(place.hash) == head.hash).then_some((place, rest))
}

/// The first record in a piece of a ledger, and what comes after it. What stands before is another line's end, or torn.
fn first_record(bytes: &[u8], mid: bool) -> Option<(Place, &[u8])> {
    let mut rest = if mid { after_newline(bytes)? } else { bytes };
    loop {
        let line = rest.split(|byte| *byte == b'\n').next()?;
        let after = after_newline(rest).unwrap_or_default();
        if let Some(record) = Line::parse(line) {
            return Some((Place::at(&record, line), after));
        }
        rest = (!after.is_empty()).then_some(after)?;
    }
}

fn after_newline(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(bytes.iter().position(|byte| *byte == b'\n')? + 1..)
}
