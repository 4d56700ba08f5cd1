//! Where the stored bytes of a file belong. GNU tar's manual, "Storing Sparse Files", has the four ways to write it down.

use super::header::{BLOCK, Header, number};
use super::read::fill;
use super::{Fault, Source};

/// A file of more regions is refused. A megabyte, of which is touched what is used.
const MOST: usize = 65_536;

/// A stretch of bytes of the file that are stored.
#[derive(Clone, Copy)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The regions of one file, in order.
pub(super) struct Map {
    pub(super) regions: Vec<Region>,
    /// Of the file, holes and all.
    pub(super) size: u64,
    end: u64,
    pub(super) stored: u64,
}

impl Map {
    pub(super) fn new() -> Map {
        Map { regions: Vec::with_capacity(MOST), size: 0, end: 0, stored: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.regions.clear();
        (self.size, self.end, self.stored) = (0, 0, 0);
    }

    /// A file without holes.
    pub(super) fn plain(&mut self, size: u64) -> Result<(), Fault> {
        self.push(0, size)?;
        self.finish(size, size)
    }

    pub(super) fn push(&mut self, offset: u64, length: u64) -> Result<(), Fault> {
        if self.regions.len() >= MOST {
            return Err(Fault::TarLarge);
        }
        // GNU tar begins each in a block of its own, libarchive where the last has ended.
        let is_apart = length > 0 && !self.stored.is_multiple_of(BLOCK as u64);
        if offset < self.end || is_apart {
            return Err(Fault::TarSparse);
        }
        self.end = offset.checked_add(length).ok_or(Fault::TarSparse)?;
        self.stored = self.stored.checked_add(length).ok_or(Fault::TarSparse)?;
        self.regions.push(Region { offset, length });
        Ok(())
    }

    /// All regions are there: they must be what is stored, and the last, an empty one maybe, must end with the file, which GNU tar makes no
    /// longer than that. Without any, libarchive takes the file for a plain one.
    pub(super) fn finish(&mut self, size: u64, stored: u64) -> Result<(), Fault> {
        self.size = size;
        let right = self.end == size && self.stored == stored && !self.regions.is_empty();
        right.then_some(()).ok_or(Fault::TarSparse)
    }

    /// The old one: four regions in the header, and 21 in each block between it and the data.
    pub(super) fn old(&mut self, header: &Header, stored: u64, source: &mut impl Source) -> Result<(), Fault> {
        let sparse = |_| Fault::TarSparse;
        let size = number(header.bytes(483, 12)).map_err(sparse)?;
        let mut more = self.table(header.bytes(386, 96), header.byte(482))?;
        while more {
            let mut block = [0; BLOCK];
            fill(source, &mut block)?;
            let [table @ .., _, _, _, _, _, _, _, _] = &block;
            more = self.table(table, block.get(504).copied().unwrap_or_default())?;
        }
        self.finish(size, stored)
    }

    /// Says whether a block with more follows.
    fn table(&mut self, table: &[u8], extended: u8) -> Result<bool, Fault> {
        let mut full = true;
        for entry in table.chunks_exact(24) {
            let (offset, length) = entry.split_at_checked(12).ok_or(Fault::TarSparse)?;
            // libarchive stops at the one field, GNU tar at the other.
            if entry.iter().all(|byte| *byte == 0) {
                full = false;
                continue;
            }
            if !full {
                return Err(Fault::TarSparse);
            }
            let sparse = |_| Fault::TarSparse;
            self.push(number(offset).map_err(sparse)?, number(length).map_err(sparse)?)?;
        }
        // Behind a list that has ended libarchive reads on, and GNU tar does not.
        if extended != 0 && !full { Err(Fault::TarSparse) } else { Ok(extended != 0) }
    }

    /// Version 0.1: in one record.
    pub(super) fn list(&mut self, list: &[u8]) -> Result<(), Fault> {
        let mut numbers = list.split(|byte| *byte == b',').map(|text| decimal(text).ok_or(Fault::TarSparse));
        while let Some(offset) = numbers.next() {
            self.push(offset?, numbers.next().ok_or(Fault::TarSparse)??)?;
        }
        Ok(())
    }

    /// Version 1.0: in front of the data, in whole blocks.
    pub(super) fn front(&mut self, size: u64, mut stored: u64, source: &mut impl Source) -> Result<(), Fault> {
        let (mut block, mut at) = ([0; BLOCK], BLOCK);
        let mut number = || {
            let (mut digits, mut length) = ([0; 20], 0);
            loop {
                if at == BLOCK {
                    stored = stored.checked_sub(BLOCK as u64).ok_or(Fault::TarSparse)?;
                    fill(source, &mut block)?;
                    at = 0;
                }
                let byte = block.get(at).copied().unwrap_or_default();
                at += 1;
                if byte == b'\n' {
                    return digits.get(..length).and_then(decimal).ok_or(Fault::TarSparse);
                }
                *digits.get_mut(length).ok_or(Fault::TarSparse)? = byte;
                length += 1;
            }
        };
        for _ in 0..number()? {
            self.push(number()?, number()?)?;
        }
        self.finish(size, stored)
    }
}

/// Digits, and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let add =
        |value: u64, byte: &u8| value.checked_mul(10)?.checked_add(u64::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?));
    let value = text.iter().try_fold(0, add)?;
    (!text.is_empty() && i64::try_from(value).is_ok()).then_some(value)
}
