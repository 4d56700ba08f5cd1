//! Archives changed by chance, that are read: GNU tar and bsdtar take the same files out of them, or fail.

use super::tools::{Files, Scratch, files};
use super::*;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Knuth's MMIX generator: a failure repeats.
struct Chance(u64);

impl Chance {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A header, and its data without padding.
type Entry = (Vec<u8>, Vec<u8>);
type Record = (Vec<u8>, Vec<u8>);

fn entries(mut part: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    while let Some((header, rest)) = part.split_at_checked(BLOCK) {
        let size = usize::from_str_radix(std::str::from_utf8(&header[124..135]).unwrap(), 8).unwrap();
        found.push((header.to_vec(), rest[..size].to_vec()));
        part = &rest[size.next_multiple_of(BLOCK)..];
    }
    found
}

fn records(mut data: &[u8]) -> Option<Vec<Record>> {
    let mut found = Vec::new();
    while !data.is_empty() {
        let (length, _) = data.split_at_checked(data.iter().position(|byte| *byte == b' ')?)?;
        let (record, rest) = data.split_at_checked(std::str::from_utf8(length).ok()?.parse().ok()?)?;
        let text = record.get(length.len() + 1..record.len() - 1)?;
        let (key, value) = text.split_at(text.iter().position(|byte| *byte == b'=')?);
        found.push((key.to_vec(), value[1..].to_vec()));
        data = rest;
    }
    Some(found)
}

const MAGIC: [&[u8]; 3] = [&[0; 8], USTAR, GNU];
const KINDS: &[u8] = b"\x0000000005577SxgLK1";
const BYTES: [&[u8]; 12] =
    [b"\0", b"\xff", b"\x80", b" ", b"\n", b"0", b"7", b"/", b"../", b"a/", b"00000000001\0", b"00000000000 00000000000 "];
/// Where fields begin that somebody reads.
const FIELDS: [usize; 19] = [0, 1, 99, 100, 124, 135, 136, 157, 257, 263, 329, 345, 386, 475, 476, 482, 483, 495, 500];
const RECORDS: [(&[u8], &[u8]); 19] = [
    (b"path", b"n1"),
    (b"path", b"d/"),
    (b"linkpath", b"n1"),
    (b"size", b"4"),
    (b"size", b"0"),
    (b"comment", b"\0"),
    (b"hdrcharset", b"BINARY"),
    (b"mtime", b"1"),
    (b"GNU.sparse.name", b"n2"),
    (b"GNU.sparse.major", b"1"),
    (b"GNU.sparse.minor", b"0"),
    (b"GNU.sparse.realsize", b"2000"),
    (b"GNU.sparse.size", b"9"),
    (b"GNU.sparse.numblocks", b"1"),
    (b"GNU.sparse.numblocks", b"2"),
    (b"GNU.sparse.map", b"0,4"),
    (b"GNU.sparse.offset", b"0"),
    (b"GNU.sparse.numbytes", b"2"),
    (b"SCHILY.realsize", b"4"),
];

fn change_records(chance: &mut Chance, (header, data): &mut Entry) {
    let Some(mut records) = records(data) else { return };
    let at = chance.below(records.len() + 1);
    match chance.below(4) {
        0 => {
            let (key, value) = chance.one(&RECORDS);
            records.insert(at, (key.to_vec(), value.to_vec()));
        }
        1 if at < records.len() => drop(records.remove(at)),
        2 if at < records.len() => {
            let other = chance.below(records.len());
            records.swap(at, other);
        }
        _ if at < records.len() => records[at].1 = chance.one(&RECORDS).1.to_vec(),
        _ => {}
    }
    *data = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
}

fn change(chance: &mut Chance, entries: &mut Vec<Entry>) {
    let (at, other) = (chance.below(entries.len()), chance.below(entries.len()));
    match chance.below(12) {
        0..4 if b"xg".contains(&entries[at].0[156]) => change_records(chance, &mut entries[at]),
        0..6 => entries[at].0[257..265].copy_from_slice(chance.one(&MAGIC)),
        6 => entries[at].0[156] = chance.one(KINDS),
        7 => {
            let (field, bytes) = (chance.one(&FIELDS), chance.one(&BYTES));
            let room = bytes.len().min(BLOCK - field);
            entries[at].0[field..][..room].copy_from_slice(&bytes[..room]);
        }
        8 if !entries[at].1.is_empty() => {
            let byte = chance.below(entries[at].1.len());
            entries[at].1[byte] = chance.one(b"\x000129 ,\n\xff");
        }
        9 => entries.insert(other, entries[at].clone()),
        10 if entries.len() > 1 => drop(entries.remove(at)),
        _ => entries.swap(at, other),
    }
}

/// A changed archive, with so many zeros behind it that a program may go on elsewhere, and end.
fn changed(chance: &mut Chance, good: &[Vec<Entry>]) -> Vec<u8> {
    let mut entries = (0..1 + chance.below(4)).flat_map(|_| good[chance.below(good.len())].clone()).collect::<Vec<_>>();
    for _ in 0..1 + chance.below(3) {
        change(chance, &mut entries);
    }
    let parts = entries.into_iter().map(|(header, data)| [summed(header), padded(&data)].concat());
    [archive(&parts.collect::<Vec<_>>()), vec![0; 20 * BLOCK]].concat()
}

/// A name as the file system has it.
fn plain(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    std::iter::once(&b"."[..]).chain(parts).collect::<Vec<_>>().join(&b'/')
}

/// What a program takes out of the archive, if it is content with it. And which of what was found it should be: not what made place
/// for a directory of the same name that came later.
fn unpacked(directory: &Path, words: &[&str], archive: &[u8], found: &Files) -> Option<(Files, Files)> {
    fs::create_dir(directory).unwrap();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(directory).env("LC_ALL", "C.UTF-8").stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // It may have left.
    let _ = child.stdin.take().unwrap().write_all(archive);
    let is_done = child.wait().unwrap().success();
    let mut found = found.clone();
    found.retain(|name, _| !directory.join(OsStr::from_bytes(name)).is_dir());
    let theirs = is_done.then(|| files(directory));
    fs::remove_dir_all(directory).unwrap();
    theirs.map(|theirs| (theirs, found))
}

fn compare(seed: u64, number: usize) {
    let scratch = Scratch::new(&format!("unpacked-{seed}"));
    let good = parts().iter().map(|part| entries(part)).collect::<Vec<_>>();
    let (mut chance, mut compared, mut differ) = (Chance(seed), [0; 2], Vec::new());
    for trial in 0..number {
        let (archive, found) = loop {
            let archive = changed(&mut chance, &good);
            let (found, end) = walk(&mut Tar::new(), &mut Pieces { rest: &archive, piece: 4096, come: 0 }, 1 << 20);
            if end.is_ok() {
                break (archive, found);
            }
        };
        let found = found.into_iter().map(|(name, size, digest)| (plain(&name), (size, digest))).collect::<Files>();
        let programs = [&["tar", "-xf", "-", "--no-same-owner"][..], &["bsdtar", "-xf", "-", "--no-same-owner"]];
        for (compared, words) in compared.iter_mut().zip(programs) {
            let Some((theirs, found)) = unpacked(&scratch.0.join("out"), words, &archive, &found) else { continue };
            if found != theirs {
                let names = |files: &Files| files.keys().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>();
                differ.push(format!("{trial}, {}: {:?} {:?}", words[0], names(&found), names(&theirs)));
            }
            *compared += 1;
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
    assert!(compared.iter().all(|compared| *compared > number / 2), "{compared:?} of {number}");
}

#[test]
fn programs_take_out_what_is_read() {
    compare(1, 400);
}

#[test]
#[ignore = "takes minutes"]
fn programs_take_out_what_is_read_of_many() {
    compare(2, 20_000);
}
