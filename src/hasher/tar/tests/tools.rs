//! What other programs write: all that is in their archives is what is in the file system.

use super::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A directory that goes when it is dropped.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("sigsh-tar-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A program that writes a tar to its standard output.
struct Program {
    child: Child,
    buffer: Vec<u8>,
    rest: std::ops::Range<usize>,
}

impl Program {
    fn start(directory: &Path, words: &[&str]) -> Program {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(directory).env("LC_ALL", "C.UTF-8").stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));
        Program { child, buffer: vec![0; 65_536], rest: 0..0 }
    }

    fn succeeds(mut self) -> bool {
        self.child.wait().unwrap().success()
    }
}

impl Source for Program {
    fn look(&mut self) -> Result<&[u8], Fault> {
        if self.rest.is_empty() {
            self.rest = 0..self.child.stdout.as_mut().unwrap().read(&mut self.buffer).unwrap();
        }
        Ok(&self.buffer[self.rest.clone()])
    }

    fn take(&mut self, bytes: usize) {
        self.rest.start += bytes;
    }
}

/// A file of which only these bytes are not in a hole.
fn sparse(path: &Path, size: u64, data: &[(u64, &[u8])]) {
    let file = File::create_new(path).unwrap();
    file.set_len(size).unwrap();
    data.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());
}

/// Files whose names have room in a v7 header; or, deeper, in that of ustar; or in neither.
fn tree(directory: &Path, depth: usize) {
    fs::create_dir_all(directory.join("sub/empty")).unwrap();
    let mut files = vec![
        (b"empty".to_vec(), 0),
        (b"a".to_vec(), 1),
        (b"sub/block".to_vec(), 512),
        (b"sub/more than a block".to_vec(), 513),
        (b"new\nline and \\ and 'quotes\"".to_vec(), 1023),
        (b"not utf-8 \xff\xfe".to_vec(), 100_000),
        ("umlaute äöü".into(), 3),
        (b"-option=\t*".to_vec(), 20),
        // With "./" it fits in 99 bytes.
        (vec![b'l'; 97], 7),
    ];
    let deep = |names: &[usize]| names.iter().map(|length| vec![b'd'; *length]).collect::<Vec<_>>().join(&b'/');
    match depth {
        0 => {}
        1 => files.extend([(deep(&[60, 60]), 5), (deep(&[61, 80, 98]), 6), (deep(&[99]), 8)]),
        _ => files.extend([(deep(&[101]), 1), (deep(&[255]), 2), (deep(&[100, 200, 250]), 3), (deep(&[200; 12]), 4)]),
    }
    for (name, size) in files {
        let path = directory.join(OsStr::from_bytes(&name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, (0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>()).unwrap();
    }
    sparse(&directory.join("hole"), 300_000, &[]);
    sparse(&directory.join("hole at the end"), 300_000, &[(0, b"begin")]);
    sparse(&directory.join("sub/middle"), 5_000_000, &[(1_000_000, b"middle")]);
    let many = (0..200).map(|n| (n * 16_384 + 8192, &b"some"[..])).collect::<Vec<_>>();
    sparse(&directory.join("many holes"), 200 * 16_384, &many);
}

/// Names and digests.
pub(super) type Files = BTreeMap<Vec<u8>, (u64, Vec<u8>)>;

/// All files below a directory, as `tar -c .` names them.
pub(super) fn files(directory: &Path) -> Files {
    let (mut found, mut todo) = (Files::new(), vec![directory.to_owned()]);
    while let Some(next) = todo.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let name = [b"./", path.strip_prefix(directory).unwrap().as_os_str().as_bytes()].concat();
            let content = fs::read(&path).unwrap();
            found.insert(name, (content.len() as u64, sha512(&content)));
        }
    }
    found
}

const PYTHON: &str = "
import sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=getattr(tarfile, sys.argv[1])) as tar:
    for name in sys.argv[2:]:
        tar.add(name)
";

#[track_caller]
fn assert_all_is_read(directory: &Path, words: &[&str]) {
    let mut program = Program::start(directory, words);
    let mut tar = Tar::new();
    let before = room(&tar);
    let (found, end) = walk(&mut tar, &mut program, u64::MAX);
    assert_eq!(end, Ok(()), "{words:?} at {}", tar.name().escape_ascii());
    assert_eq!(room(&tar), before, "{words:?}");
    assert!(program.succeeds(), "{words:?}");
    let number = found.len();
    let found = found.into_iter().map(|(name, size, digest)| (name, (size, digest))).collect::<Files>();
    assert_eq!(found.len(), number, "{words:?}");
    let expected = files(directory);
    assert!(found == expected, "{words:?}: {:?} {:?}", found.keys(), expected.keys());
}

#[test]
fn archives_of_gnu_tar() {
    let scratch = Scratch::new("gnu");
    let tar = ["tar", "-c", "--sort=name"];
    for (depth, formats) in [(0, &["v7"][..]), (1, &["ustar"]), (2, &["oldgnu", "gnu", "posix"])] {
        let directory = scratch.0.join(depth.to_string());
        tree(&directory, depth);
        for format in formats.iter().map(|format| format!("--format={format}")) {
            assert_all_is_read(&directory, &[&tar[..], &[&format, "."]].concat());
            assert_all_is_read(&directory, &[&tar[..], &["-b", "1", &format, "."]].concat());
            if !matches!(&*format, "--format=v7" | "--format=ustar") {
                for holes in ["raw", "seek"].map(|how| format!("--hole-detection={how}")) {
                    assert_all_is_read(&directory, &[&tar[..], &["-S", &holes, &format, "."]].concat());
                }
            }
        }
    }
    let directory = scratch.0.join("2");
    for version in ["0.0", "0.1", "1.0"].map(|version| format!("--sparse-version={version}")) {
        assert_all_is_read(&directory, &[&tar[..], &["--format=posix", "-S", &version, "."]].concat());
    }
    let dereferenced =
        ["tar", "-c", "--dereference", "--hard-dereference", "--pax-option=comment=for all,mtime:=0", "--format=posix", "."];
    assert_all_is_read(&directory, &dereferenced);
}

#[test]
fn archives_of_bsdtar() {
    let scratch = Scratch::new("bsd");
    for (depth, formats) in [(0, &["v7tar"][..]), (1, &["ustar"]), (2, &["pax", "gnutar"])] {
        let directory = scratch.0.join(depth.to_string());
        tree(&directory, depth);
        for format in formats.iter().map(|format| format!("--format={format}")) {
            assert_all_is_read(&directory, &["bsdtar", "-c", "-f", "-", &format, "."]);
            assert_all_is_read(&directory, &["bsdtar", "-c", "-f", "-", "--no-read-sparse", &format, "."]);
        }
    }
}

#[test]
fn archives_of_python() {
    let scratch = Scratch::new("python");
    for (depth, formats) in [(1, &["USTAR_FORMAT"][..]), (2, &["GNU_FORMAT", "PAX_FORMAT"])] {
        let directory = scratch.0.join(depth.to_string());
        tree(&directory, depth);
        for format in formats {
            assert_all_is_read(&directory, &["python3", "-c", PYTHON, format, "."]);
        }
    }
}

const BIG: u64 = 9 << 30;
const DATA: [(u64, &[u8]); 3] = [(0, b"begin"), (5 << 30, b"middle"), (BIG - 3, b"end")];

/// Sizes that eleven octal digits cannot say.
#[test]
fn a_file_of_nine_gib() {
    let scratch = Scratch::new("big");
    sparse(&scratch.0.join("big"), BIG, &DATA);
    let sparse = ["--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"];
    let all = [
        vec!["tar", "-cS", "--format=gnu", "big"],
        vec!["tar", "-cS", "--format=oldgnu", "big"],
        vec!["bsdtar", "-cf-", "--format=pax", "big"],
    ];
    for words in sparse.iter().map(|version| vec!["tar", "-cS", "--format=posix", version, "big"]).chain(all) {
        let (mut tar, mut program) = (Tar::new(), Program::start(&scratch.0, &words));
        assert_eq!(tar.next(&mut program), Ok(true), "{words:?}");
        assert_eq!((tar.name(), tar.size()), (&b"big"[..], BIG), "{words:?}");
        let (mut at, mut found) = (0, Vec::new());
        let content = tar.content(&mut program, |piece| {
            if piece.as_ptr() != ZEROS.as_ptr() && piece != &ZEROS[..piece.len()] {
                found.extend((at..).zip(piece.iter().copied()).filter(|(_, byte)| *byte != 0));
            }
            at += piece.len() as u64;
            Ok(())
        });
        assert_eq!((content, at), (Ok(()), BIG), "{words:?}");
        let data = DATA.iter().flat_map(|(offset, bytes)| (*offset..).zip(bytes.iter().copied()));
        assert_eq!(found, data.collect::<Vec<_>>(), "{words:?}");
        assert_eq!(tar.next(&mut program), Ok(false), "{words:?}");
        assert!(program.succeeds(), "{words:?}");
    }
    // Their beginnings.
    for words in [
        vec!["tar", "-c", "--format=gnu", "big"],
        vec!["tar", "-c", "--format=posix", "big"],
        vec!["bsdtar", "-cf-", "--no-read-sparse", "--format=pax", "big"],
        vec!["bsdtar", "-cf-", "--no-read-sparse", "--format=gnutar", "big"],
        vec!["python3", "-c", PYTHON, "GNU_FORMAT", "big"],
        vec!["python3", "-c", PYTHON, "PAX_FORMAT", "big"],
    ] {
        let (mut tar, mut program) = (Tar::new(), Program::start(&scratch.0, &words));
        assert_eq!(tar.next(&mut program), Ok(true), "{words:?}");
        assert_eq!((tar.name(), tar.size()), (&b"big"[..], BIG), "{words:?}");
        let mut begin = Vec::new();
        let content = tar.content(&mut program, |piece| {
            begin.extend(piece);
            if begin.len() < 8 { Ok(()) } else { Err(Fault::Overlong) }
        });
        assert_eq!((content, &begin[..8]), (Err(Fault::Overlong), &b"begin\0\0\0"[..]), "{words:?}");
        program.child.kill().unwrap();
        assert!(!program.succeeds());
    }
}
