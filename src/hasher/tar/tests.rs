//! Archives made by hand, whole and cut.

mod mutated;
mod refused;
mod tools;
mod unpacked;

use super::header::BLOCK;
use super::read::ZEROS;
use super::*;
use crate::hash_state::{HashAlgorithm, HashState};
use std::fmt::Debug;

/// A name, a size, and the SHA-512 of the content.
type Found = (Vec<u8>, u64, Vec<u8>);

/// Bytes that come in pieces of a fixed length.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
    come: usize,
}

impl Source for Pieces<'_> {
    fn look(&mut self) -> Result<&[u8], Fault> {
        if self.come == 0 {
            self.come = self.piece.min(self.rest.len());
        }
        Ok(&self.rest[..self.come])
    }

    fn take(&mut self, bytes: usize) {
        self.come -= bytes;
        self.rest = &self.rest[bytes..];
    }
}

fn sha512(bytes: &[u8]) -> Vec<u8> {
    let mut state = HashState::new(HashAlgorithm::Sha512);
    state.update(bytes);
    state.finish()
}

/// All files of an archive, and what ended it.
fn walk(tar: &mut Tar, source: &mut impl Source, most: u64) -> (Vec<Found>, Result<(), Fault>) {
    let mut found = Vec::new();
    let mut step = |tar: &mut Tar| {
        if !tar.next(source)? {
            return Ok(false);
        }
        let (mut state, mut size) = (HashState::new(HashAlgorithm::Sha512), 0);
        tar.content(source, |piece| {
            assert!(!piece.is_empty() && piece.len() <= ZEROS.len());
            size += piece.len() as u64;
            state.update(piece);
            if size > most { Err(Fault::Overlong) } else { Ok(()) }
        })?;
        assert_eq!(size, tar.size());
        check_name(tar.name()).unwrap();
        found.push((tar.name().to_vec(), size, state.finish()));
        Ok(true)
    };
    loop {
        match step(tar) {
            Ok(true) => {}
            Ok(false) => return (found, Ok(())),
            Err(fault) => return (found, Err(fault)),
        }
    }
}

fn room(tar: &Tar) -> [usize; 3] {
    [tar.name.capacity(), tar.extension.capacity(), tar.map.regions.capacity()]
}

/// The same of bytes that come in such pieces.
fn read_by(archive: &[u8], piece: usize) -> (Vec<Found>, Result<(), Fault>) {
    let mut tar = Tar::new();
    let before = room(&tar);
    let mut source = Pieces { rest: archive, piece, come: 0 };
    let read = walk(&mut tar, &mut source, u64::MAX);
    assert_eq!(room(&tar), before, "it was reallocated");
    assert!(read.1.is_err() || source.rest.is_empty());
    read
}

fn read(archive: &[u8]) -> Result<Vec<Found>, Fault> {
    let (found, end) = read_by(archive, usize::MAX);
    end.map(|()| found)
}

#[track_caller]
fn assert_reads<T: AsRef<[u8]> + Debug>(archive: &[u8], files: &[(T, &[u8])]) {
    let files = files.iter().map(|(name, content)| (name.as_ref().to_vec(), content.len() as u64, sha512(content)));
    assert_eq!(read(archive), Ok(files.collect()));
}

const USTAR: &[u8] = b"ustar\x0000";
const GNU: &[u8] = b"ustar  \0";

/// A header with a sum, and whatever else is to stand somewhere.
fn header(name: &[u8], kind: u8, size: usize, magic: &[u8], rest: &[(usize, &[u8])]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    put(100, b"0000644\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(257, magic);
    rest.iter().for_each(|(at, bytes)| put(*at, bytes));
    summed(block)
}

fn summed(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].fill(b' ');
    let sum: u32 = block[..BLOCK].iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// A header and its data.
fn entry(name: &[u8], kind: u8, magic: &[u8], data: &[u8]) -> Vec<u8> {
    [header(name, kind, data.len(), magic, &[]), padded(data)].concat()
}

fn file(name: &[u8], data: &[u8]) -> Vec<u8> {
    entry(name, b'0', USTAR, data)
}

/// An extended header of these records.
fn pax(kind: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    entry(b"pax", kind, USTAR, &records.iter().flat_map(|(key, value)| record(key.as_bytes(), value)).collect::<Vec<_>>())
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key, b"=", value, b"\n"].concat();
    let length = (1..7).map(|digits| rest.len() + digits).find(|length| length.to_string().len() + rest.len() == *length);
    [length.unwrap().to_string().as_bytes(), &rest].concat()
}

fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
    [&parts.concat()[..], &[0; 2 * BLOCK]].concat()
}

/// Something of all that is understood, each part for itself.
fn parts() -> Vec<Vec<u8>> {
    let sparse = [(386, &b"00000000002\x0000000000003\x0000000000007\x0000000000000\0"[..]), (483, b"00000000007\0")];
    let plain = [("mtime", &b"1.5"[..]), ("path", b"new\nline"), ("size", b"4"), ("SCHILY.xattr.x", b"=\0\n")];
    let new = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"s10"),
        ("GNU.sparse.realsize", b"2000"),
    ];
    let old = [("GNU.sparse.size", &b"9"[..]), ("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"1,2,9,0")];
    let map = padded(b"3\n600\n512\n1200\n2\n2000\n0\n");
    vec![
        file(b"./ustar", b"one"),
        header(b"name", b'0', 0, USTAR, &[(345, b"deep/prefix")]),
        entry(b"directory", b'5', USTAR, b""),
        entry(b"v7", 0, b"", &[b'7'; 512]),
        entry(b"v7-directory/", 0, b"", b""),
        [entry(b"@", b'L', GNU, &[b"long-directory", &[b'd'; 200][..], b"/\0"].concat()), entry(b"short", b'5', GNU, b"")].concat(),
        [entry(b"@", b'L', GNU, &[b'l'; 300]), entry(b"short", b'0', GNU, &[b'L'; 700])].concat(),
        [header(b"old-sparse", b'S', 3, GNU, &sparse), padded(b"abc")].concat(),
        [pax(b'g', &[("comment", b"4a0c\n")]), pax(b'x', &plain), file(b"short", b"four")].concat(),
        [pax(b'x', &new), file(b"GNUSparseFile.0/s10", &[&map[..], &[b'z'; 512], b"xy"].concat())].concat(),
        [pax(b'x', &old), file(b"s01", b"xy")].concat(),
        entry(b"contiguous", b'7', USTAR, b"7"),
    ]
}

/// All of them, and an end as long as tars have it.
fn everything() -> Vec<u8> {
    [archive(&parts()), vec![0; 3000]].concat()
}

fn files_of_everything() -> Vec<(Vec<u8>, Vec<u8>)> {
    let middle = [&[0; 600][..], &[b'z'; 512], &[0; 88], b"xy", &[0; 798]].concat();
    [
        (&b"./ustar"[..], &b"one"[..]),
        (b"deep/prefix/name", b""),
        (b"v7", &[b'7'; 512]),
        (&[b'l'; 300], &[b'L'; 700]),
        (b"old-sparse", b"\0\0abc\0\0"),
        (b"new\nline", b"four"),
        (b"s10", &middle),
        (b"s01", b"\0xy\0\0\0\0\0\0"),
        (b"contiguous", b"7"),
    ]
    .map(|(name, content)| (name.to_vec(), content.to_vec()))
    .to_vec()
}

#[test]
fn all_that_is_understood() {
    let files = files_of_everything();
    let files = files.iter().map(|(name, content)| (name, &content[..])).collect::<Vec<_>>();
    assert_reads(&everything(), &files);
    assert_reads::<&[u8]>(&archive(&[]), &[]);
    // The sum of signed bytes.
    let mut old = header(b"\xff\xfe", b'0', 0, b"", &[]);
    let sum = u32::from_str_radix(std::str::from_utf8(&old[148..154]).unwrap(), 8).unwrap();
    old[148..156].copy_from_slice(format!("{:06o}\0 ", sum - 512).as_bytes());
    assert_reads(&archive(&[old]), &[(b"\xff\xfe", b"")]);
}

/// In pieces of any length: the same.
#[test]
fn no_cut_changes_anything() {
    let archive = everything();
    let whole = read_by(&archive, usize::MAX);
    for piece in (1..600).chain([1023, 1024, 1025, 4096, 8191]) {
        assert_eq!(read_by(&archive, piece), whole, "{piece}");
    }
}

/// What is there before the cut is found, and then it is a cut, wherever that is.
#[test]
fn half_an_archive_is_no_archive() {
    let archive = everything();
    let whole = archive.len() - 3000;
    let (found, _) = read_by(&archive, usize::MAX);
    for length in 0..whole {
        let (some, end) = read_by(&archive[..length], 4096);
        assert_eq!(end, Err(Fault::TarCut), "{length}");
        assert!(found.starts_with(&some), "{length}");
    }
    for length in [whole, whole + 1, whole + BLOCK, archive.len()] {
        assert_eq!(read(&archive[..length]).as_ref(), Ok(&found), "{length}");
    }
}

/// A file need not be taken to get to the next; and it is handed out only once.
#[test]
fn what_is_not_taken_is_passed_over() {
    let archive = everything();
    let (mut tar, mut source, mut names) = (Tar::new(), Pieces { rest: &archive, piece: 700, come: 0 }, Vec::new());
    while tar.next(&mut source).unwrap() {
        names.push(tar.name().to_vec());
        if names.len() % 2 == 0 {
            tar.content(&mut source, |_| Ok(())).unwrap();
            tar.content(&mut source, |_| panic!("twice")).unwrap();
        }
    }
    assert!(tar.name().is_empty());
    assert_eq!(names, files_of_everything().into_iter().map(|(name, _)| name).collect::<Vec<_>>());
}

/// Bytes, many zeros, and more bytes.
struct Long<'a>([&'a [u8]; 2], u64);

impl Source for Long<'_> {
    fn look(&mut self) -> Result<&[u8], Fault> {
        let Long([before, after], zeros) = self;
        let some = &ZEROS[..ZEROS.len().min(*zeros as usize)];
        Ok([before, some, after].into_iter().find(|bytes| !bytes.is_empty()).unwrap_or_default())
    }

    fn take(&mut self, bytes: usize) {
        let Long([before, after], zeros) = self;
        match (before.is_empty(), *zeros) {
            (false, _) => *before = &before[bytes..],
            (true, 0) => *after = &after[bytes..],
            (true, _) => *zeros -= bytes as u64,
        }
    }
}

/// Nine GiB that are stored: to the byte, and on.
#[test]
fn sizes_of_more_than_33_bits() {
    let size = (9 << 30) + 1u64;
    let binary = [&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat();
    let gnu = header(b"long", b'0', 0, GNU, &[(124, &binary)]);
    let posix = [pax(b'x', &[("size", size.to_string().as_bytes())]), header(b"long", b'0', 0, USTAR, &[])].concat();
    for before in [gnu, posix] {
        let after = archive(&[file(b"next", b"1")]);
        let (mut tar, mut source) = (Tar::new(), Long([&before, &after], size.next_multiple_of(BLOCK as u64)));
        assert_eq!((tar.next(&mut source), tar.size()), (Ok(true), size));
        let mut come = 0;
        tar.content(&mut source, |piece| {
            come += piece.len() as u64;
            Ok(())
        })
        .unwrap();
        assert_eq!((come, tar.next(&mut source), tar.name()), (size, Ok(true), &b"next"[..]));
        assert_eq!((tar.size(), tar.next(&mut source)), (1, Ok(false)));
    }
}
