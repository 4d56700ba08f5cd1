//! How often something was used: the intents in the ledger that bear its name, whether or not their signatures were made.
//!
//! The ledger is read backwards, in pieces, as far as what is counted can reach back. Where its file begins later, the files before it,
//! which `rotate` has ended, are read as well.

use super::LedgerError;
use super::chain::Place;
use super::file::Fields;
use super::line::{Hash, Line, MAX_LINE, hash};
use crate::trusted;
use crate::warrant::Quota;
use memchr::{memchr, memmem, memrchr};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How much is read at once in bytes: several lines.
const PIECE: usize = 4 * MAX_LINE;

/// How many files before the ledger's are opened at most.
const MAX_FILES: usize = 256;

/// What is counted, and how often it was found so far.
#[derive(Default)]
pub struct Count {
    quotas: Vec<(Quota, u64)>,
    /// Where the part of the file begins that was not looked at.
    until: u64,
}

impl Count {
    /// Counts what stands in a ledger now.
    ///
    /// # Errors
    /// [`LedgerError::UsedUp`], [`LedgerError::Past`], [`LedgerError::Read`].
    pub(super) fn of(quotas: &[Quota], ledger: &File, length: u64, past: &Past) -> Result<Count, LedgerError> {
        let mut count = Count { quotas: quotas.iter().map(|quota| (quota.clone(), 0)).collect(), until: 0 };
        let Some(since) = quotas.iter().map(|quota| quota.since).min() else { return Ok(count) };
        count.until = whole(ledger, length)?;
        let mut reached = count.look(ledger, 0, count.until, since)?;
        for (file, length) in &past.files {
            reached = reached || count.look(file, 0, *length, since)?;
        }
        if !reached && !past.complete {
            return Err(LedgerError::Past);
        }
        count.check().map(|()| count)
    }

    /// Counts what has been appended since, up to here: in one's turn.
    ///
    /// # Errors
    /// [`LedgerError::UsedUp`], [`LedgerError::Read`].
    pub(super) fn go_on(&mut self, ledger: &File, length: u64) -> Result<(), LedgerError> {
        self.look(ledger, self.until, length, SystemTime::UNIX_EPOCH)?;
        self.until = length;
        self.check()
    }

    /// Whether the next one may be.
    fn check(&self) -> Result<(), LedgerError> {
        let used_up = self.quotas.iter().find(|(quota, used)| *used >= quota.max);
        used_up.map_or(Ok(()), |(quota, _)| Err(LedgerError::UsedUp(quota.max)))
    }

    /// Whether an intent among these records will be counted by each name.
    pub(super) fn is_borne_by(&self, records: &[&Fields<'_>]) -> bool {
        let is =
            |(name, value): &(&str, &str), quota: &Quota| *name == "permits" && value.split(' ').any(|word| word == quota.name);
        let intent = |fields: &&&Fields<'_>| fields.contains(&("event", "intent"));
        let bears = |quota: &Quota| records.iter().filter(intent).any(|fields| fields.iter().any(|field| is(field, quota)));
        self.quotas.iter().all(|(quota, _)| bears(quota))
    }

    /// Whether those who count later find these lines: none is from before the time to which they look back.
    ///
    /// # Errors
    /// [`LedgerError::Early`].
    pub(super) fn finds(&self, places: &[Place]) -> Result<(), LedgerError> {
        let is_early = |place: &Place| self.quotas.iter().any(|(quota, _)| comes_before(&place.time, quota.since));
        if places.iter().any(is_early) { Err(LedgerError::Early) } else { Ok(()) }
    }

    /// Counts in a part of a file, from its end on. Tells whether it has come to a record from before this time, behind which none can
    /// be that counts.
    fn look(&mut self, file: &File, from: u64, to: u64, since: SystemTime) -> Result<bool, LedgerError> {
        let mut piece = vec![0; PIECE];
        let mut end = to;
        while end > from && !self.quotas.is_empty() {
            let start = end.saturating_sub(PIECE as u64).max(from);
            piece.resize(usize::try_from(end - start).unwrap_or_default(), 0);
            file.read_exact_at(&mut piece, start).map_err(LedgerError::Read)?;
            let cut = match piece.split_last() {
                _ if start == from => Some(0),
                Some((_, rest)) => memchr(b'\n', rest).map(|at| at + 1),
                None => None,
            };
            // A line longer than this is no record.
            let Some(lines) = cut.and_then(|cut| piece.get(cut..)) else {
                end = start;
                continue;
            };
            for (quota, used) in &mut self.quotas {
                *used += intents(lines, quota);
            }
            end -= lines.len() as u64;
            let first = lines.split(|byte| *byte == b'\n').find_map(Line::parse);
            if first.is_some_and(|line| is_before(&line, since)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// How many intents in some lines count for this.
fn intents(mut lines: &[u8], quota: &Quota) -> u64 {
    let finder = memmem::Finder::new(&quota.name);
    let bears = |line: &Line| line.event() == "intent" && line.field("permits").split(' ').any(|word| word == quota.name);
    let mut found = 0;
    while let Some((before, rest)) = finder.find(lines).and_then(|at| lines.split_at_checked(at)) {
        let start = memrchr(b'\n', before).map_or(0, |at| at + 1);
        let length = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = lines.get(start..before.len() + length).and_then(Line::parse);
        found += u64::from(line.is_some_and(|line| bears(&line) && !is_before(&line, quota.since)));
        lines = rest.get(length..).unwrap_or_default();
    }
    found
}

fn is_before(line: &Line, time: SystemTime) -> bool {
    comes_before(line.time(), time)
}

fn comes_before(one: &str, other: SystemTime) -> bool {
    humantime::parse_rfc3339(one).is_ok_and(|one| one < other)
}

/// Up to where lines are whole: another one may just be on its way into the file.
fn whole(file: &File, length: u64) -> Result<u64, LedgerError> {
    let mut end = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(MAX_LINE + 1)];
    let start = length - end.len() as u64;
    file.read_exact_at(&mut end, start).map_err(LedgerError::Read)?;
    Ok(start + memrchr(b'\n', &end).map_or(0, |at| at as u64 + 1))
}

/// The files before the ledger's, from the last to the first, with their lengths; and whether nothing was ever counted before them.
#[derive(Default)]
pub struct Past {
    files: Vec<(File, u64)>,
    complete: bool,
}

impl Past {
    /// Opens those that `rotate` has ended after this time: each is the one that the next goes on from. One that is not there is missed
    /// only where something is counted that reaches back as far.
    ///
    /// # Errors
    /// [`LedgerError::Read`].
    pub(super) fn open(path: &Path, ledger: &File, since: SystemTime) -> Result<Past, LedgerError> {
        let mut past = Past::default();
        let mut first = first(ledger)?;
        while let Some(line) = first.take() {
            past.complete = line.event() == "init" && line.field("reason").is_empty();
            if line.event() != "continue" || is_before(&line, since) || past.files.len() == MAX_FILES {
                break;
            }
            let before = candidates(path, &line).find_map(|path| trusted::open(&path).ok().filter(|file| ends(&file.file, &line)));
            if let Some(before) = before {
                first = self::first(&before.file)?;
                past.files.push((before.file, before.stat.st_size.cast_unsigned()));
            }
        }
        Ok(past)
    }
}

/// Where the file may be that this line goes on from: it has the name of the ledger until `rotate` has given it its own.
fn candidates(path: &Path, line: &Line) -> impl Iterator<Item = PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let archive = line.field("file");
    let is_archive = archive.strip_prefix(&name).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'));
    let names = [Some(format!("{name}.new")), is_archive.then(|| archive.to_owned())];
    names.into_iter().flatten().map(|name| path.with_file_name(name))
}

/// Whether the last line of a file is the one that this line goes on from.
fn ends(file: &File, next: &Line) -> bool {
    last(file).is_ok_and(|last| last.is_some_and(|(seq, hash)| (seq + 1, hash) == (next.seq, next.prev)))
}

fn last(file: &File) -> Result<Option<(u64, Hash)>, LedgerError> {
    let length = file.metadata().map_err(LedgerError::Read)?.len();
    let mut end = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(MAX_LINE + 2)];
    let start = length - end.len() as u64;
    file.read_exact_at(&mut end, start).map_err(LedgerError::Read)?;
    let line = end.strip_suffix(b"\n").and_then(|end| end.rsplit(|byte| *byte == b'\n').next()).unwrap_or_default();
    Ok(Line::parse(line).filter(|line| line.event() == "rotate").map(|record| (record.seq, hash(line))))
}

fn first(file: &File) -> Result<Option<Line>, LedgerError> {
    let mut start = vec![0; MAX_LINE + 1];
    let length = file.read_at(&mut start, 0).map_err(LedgerError::Read)?;
    Ok(start.get(..length).and_then(|start| start.split(|byte| *byte == b'\n').next()).and_then(Line::parse))
}

#[cfg(test)]
mod tests;
