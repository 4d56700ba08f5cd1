//! Extended headers: POSIX.1-2017 pax, "pax Extended Header". Where GNU tar and libarchive read one differently, it is refused.

use super::Fault;
use super::sparse::{Map, decimal};

/// What the records say of the next entry, as far as that matters here.
#[derive(Default)]
pub(super) struct Pax<'a> {
    /// Its name. That of a sparse file goes before the other, which is made up.
    path: Option<&'a [u8]>,
    sparse_path: Option<&'a [u8]>,
    /// What it is a link to.
    pub(super) link: Option<&'a [u8]>,
    /// How much is stored of it.
    pub(super) size: Option<u64>,
    major: Option<u64>,
    minor: Option<u64>,
    real_size: Option<u64>,
    old_size: Option<u64>,
    regions: Option<u64>,
    map: Option<&'a [u8]>,
    offset: Option<u64>,
}

/// Where to find out which bytes of the file are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sparse {
    /// In front of the data. The file's size.
    Front(u64),
    /// It was in the records. The file's size.
    Known(u64),
}

impl<'a> Pax<'a> {
    /// Takes the records in; regions that they name go to the map.
    pub(super) fn read(records: &'a [u8], map: &mut Map) -> Result<Pax<'a>, Fault> {
        let mut pax = Pax::default();
        each(records, |key, value| pax.take(key, value, map))?;
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &'a [u8], map: &mut Map) -> Result<(), Fault> {
        match key {
            b"path" => once(&mut self.path, Some(value)),
            b"linkpath" => once(&mut self.link, Some(value)),
            b"size" => once(&mut self.size, decimal(value)),
            b"GNU.sparse.name" => once(&mut self.sparse_path, Some(value)),
            b"GNU.sparse.major" => once(&mut self.major, decimal(value)),
            b"GNU.sparse.minor" => once(&mut self.minor, decimal(value)),
            b"GNU.sparse.realsize" => once(&mut self.real_size, decimal(value)),
            b"GNU.sparse.size" => once(&mut self.old_size, decimal(value)),
            b"GNU.sparse.numblocks" => once(&mut self.regions, decimal(value)),
            // Version 0.1. Without their number first, GNU tar has no room for them.
            b"GNU.sparse.map" if self.regions.is_some() => once(&mut self.map, Some(value)),
            // Version 0.0: a pair of records for each region. GNU tar needs their number first.
            b"GNU.sparse.offset" if self.regions.is_some() => once(&mut self.offset, decimal(value)),
            b"GNU.sparse.numbytes" => {
                let offset = self.offset.take().ok_or(Fault::TarSparse)?;
                map.push(offset, decimal(value).ok_or(Fault::TarSparse)?)
            }
            key if matters(key) => Err(Fault::TarAmbiguous),
            _ => Ok(()),
        }
    }

    pub(super) fn name(&self) -> Option<&'a [u8]> {
        self.sparse_path.or(self.path)
    }

    /// Which of the three versions it is, if any.
    pub(super) fn sparse(&self, map: &mut Map) -> Result<Option<Sparse>, Fault> {
        let regions = map.regions.len();
        if self.offset.is_some() || self.map.is_some() && regions > 0 {
            return Err(Fault::TarSparse);
        }
        match (self.major, self.minor, self.real_size, self.old_size, self.regions) {
            (None, None, None, None, None) if self.map.is_none() && self.sparse_path.is_none() => Ok(None),
            (Some(1), Some(0), Some(size), None, None) if self.map.is_none() => Ok(Some(Sparse::Front(size))),
            (None, None, None, Some(size), Some(number)) => {
                self.map.map_or(Ok(()), |list| map.list(list))?;
                if u64::try_from(map.regions.len()) == Ok(number) { Ok(Some(Sparse::Known(size))) } else { Err(Fault::TarSparse) }
            }
            _ => Err(Fault::TarSparse),
        }
    }
}

/// A global header, which holds for all entries from here on: programs do not agree on how, so it may say nothing of use here.
pub(super) fn global(records: &[u8]) -> Result<(), Fault> {
    each(records, |key, _| if matters(key) { Err(Fault::TarAmbiguous) } else { Ok(()) })
}

/// Whether somebody reads a file's name, content or kind from it.
fn matters(key: &[u8]) -> bool {
    matches!(key, b"path" | b"linkpath" | b"size" | b"GNU.dumpdir" | b"SCHILY.realsize" | b"SCHILY.filetype" | b"SUN.holesdata")
        || key.starts_with(b"GNU.sparse.")
        || key.starts_with(b"GNU.volume.")
}

/// A second one goes before the first, says POSIX. Nobody writes that.
fn once<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), Fault> {
    let value = value.ok_or(Fault::TarHeader)?;
    if slot.replace(value).is_some() { Err(Fault::TarAmbiguous) } else { Ok(()) }
}

/// Hands on all records, `LENGTH KEY=VALUE\n`, the length being that of the whole. A value may have any bytes.
fn each<'a>(mut records: &'a [u8], mut take: impl FnMut(&[u8], &'a [u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut is_cut = false;
    while !records.is_empty() {
        let (key, value, rest) = record(records).ok_or(Fault::TarHeader)?;
        // Before version 3.4, libarchive read up to a NUL.
        if is_cut && matters(key) {
            return Err(Fault::TarAmbiguous);
        }
        take(key, value)?;
        is_cut |= value.contains(&0);
        records = rest;
    }
    Ok(())
}

fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let digits = records.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length = decimal(records.get(..digits)?)?;
    let (record, rest) = records.split_at_checked(usize::try_from(length).ok()?)?;
    let [b' ', text @ .., b'\n'] = record.get(digits..)? else { return None };
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let key = text.get(..equals)?;
    // GNU tar passes over more blanks, and looks for the sign up to a NUL.
    let plain = !matches!(key, [] | [b' ' | b'\t', ..]) && !key.contains(&0);
    plain.then_some((key, text.get(equals + 1..)?, rest))
}
