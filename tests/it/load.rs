//! Many at once, and much at once.

use crate::taken_over::header;
use crate::world::{HOME, Session, calls, faulty, field, finish_child, patient, records, scratch, verify, world};
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// All of them sign, all verify, and each asked the token once.
fn at_once(number: usize) {
    world();
    let (config, count) = faulty("", &[]);
    let data = |n: usize| format!("artifact {n}").into_bytes();
    let sessions = (0..number).map(|_| Session::new(&config).client("build1").request("sign rsa2048").start());
    let sessions = sessions.collect::<Vec<_>>();
    // All of them have started before the first gets a byte.
    let outcomes = thread::scope(|scope| {
        let finish = |(n, child)| scope.spawn(move || finish_child(child, &data(n)));
        let threads = sessions.into_iter().enumerate().map(finish).collect::<Vec<_>>();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for (n, outcome) in outcomes.iter().enumerate() {
        verify("rsa2048", outcome.signature(), &data(n));
    }
    assert_eq!((calls(&count, "C_Login"), calls(&count, "C_SignInit")), (number, number));
}

#[test]
fn many_sessions_at_once() {
    at_once(16);
    at_once(64);
}

#[test]
#[ignore = "takes minutes: just soak"]
fn hundreds_of_sessions_at_once() {
    for _ in 0..10 {
        at_once(200);
    }
}

#[test]
fn many_connections_at_once() {
    let outcomes = thread::scope(|scope| {
        let sign = |n| scope.spawn(move || world().ssh("build1", &format!("sign ed25519 --name many{n}"), &[n]));
        let threads = (0..16).map(sign).collect::<Vec<_>>();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for (n, outcome) in (0..16).zip(outcomes) {
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
        verify("ed25519", &outcome.out, &[n]);
        let records = records(&format!("SIGSH_NAME=many{n}"));
        assert_eq!(records.iter().map(|record| field(record, "SIGSH_EVENT")).collect::<Vec<_>>(), ["intent", "signed"]);
    }
}

const GIB: u64 = 1 << 30;
/// KiB.
const LIMIT: u64 = 8 << 10;

/// Writes a GiB of which no two MiB are the same; `at_half` comes in the middle.
fn write_a_gib(to: &mut impl Write, at_half: impl FnOnce()) {
    let mut piece = (0..1u32 << 20).map(|n| (n * 7 % 253) as u8).collect::<Vec<_>>();
    let pieces = GIB / (1 << 20);
    let mut at_half = Some(at_half);
    for number in 0..pieces {
        if number == pieces / 2 {
            at_half.take().unwrap()();
        }
        piece[..8].copy_from_slice(&number.to_le_bytes());
        to.write_all(&piece).unwrap();
    }
}

/// The monitor and its children, by name.
fn processes(monitor: u32) -> Vec<(String, u32)> {
    let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
    let pids = children.split_whitespace().map(|pid| pid.parse().unwrap()).chain([monitor]);
    let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim().to_owned();
    let mut processes = pids.map(|pid| (name(pid), pid)).collect::<Vec<_>>();
    processes.sort();
    processes
}

/// A sum of figures in a file of /proc.
fn sum(file: &str, pid: u32, names: &[&str]) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let figure = |line: &str| names.iter().find_map(|name| line.strip_prefix(name))?.split_whitespace().next()?.parse::<u64>().ok();
    text.lines().filter_map(figure).sum()
}

/// Once the hasher has read this many bytes: shows how much private memory each process has, and demands that it is little.
fn frugal(monitor: u32, size: u64) {
    let processes = processes(monitor);
    let [(first, _), (second, hasher), (third, _)] = &processes[..] else { panic!("{processes:?}") };
    assert_eq!([first, second, third], ["sigsh", "sigsh-hasher", "sigsh-token"]);
    patient(|| sum("io", *hasher, &["rchar:"]) >= size);
    let private = |pid| sum("smaps_rollup", pid, &["Private_Clean:", "Private_Dirty:"]);
    let figures = processes.iter().map(|(name, pid)| (name, private(*pid))).collect::<Vec<_>>();
    // Not by println, which a test that passes swallows.
    let _ = writeln!(std::io::stderr(), "KiB of private memory after {size} bytes: {figures:?}");
    for (name, figure) in &figures[..2] {
        assert!((1..LIMIT).contains(figure), "{name}: {figure} KiB");
    }
}

fn start() -> Child {
    let child = world().session("build1", "sign rsa4096").start();
    patient(|| processes(child.id()).iter().any(|(name, _)| name == "sigsh-token"));
    child
}

#[test]
fn a_gib_takes_no_more_memory_than_a_kib() {
    let mut child = start();
    let pid = child.id();
    child.stdin.as_mut().unwrap().write_all(&[b'x'; 1024]).unwrap();
    frugal(pid, 1024);
    let outcome = finish_child(child, b"");
    verify("rsa4096", outcome.signature(), &[b'x'; 1024]);

    let mut child = start();
    let pid = child.id();
    let mut stdin = child.stdin.take().unwrap();
    write_a_gib(&mut stdin, || frugal(pid, GIB / 2 - (1 << 20)));
    frugal(pid, GIB);
    child.stdin = Some(stdin);
    let outcome = finish_child(child, b"");
    outcome.signature();
    assert_eq!(field(&outcome.records[1], "SIGSH_SIZE"), GIB.to_string());

    let signature = format!("{}/gib.sig", scratch());
    fs::write(&signature, &outcome.out).unwrap();
    for (tool, file) in [("gpgv", "-"), ("sqv", "/dev/stdin")] {
        let mut command = Command::new(tool);
        command.args(["--keyring", "/etc/sigsh/rsa4096.pgp", &signature, file]).env("GNUPGHOME", HOME);
        let mut verifier = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut data = verifier.stdin.take().unwrap();
        write_a_gib(&mut data, || ());
        drop(data);
        let output = verifier.wait_with_output().unwrap();
        assert!(output.status.success(), "{tool}: {output:#?}");
    }
}

/// How much more memory a batch may take than another one, in KiB.
const MORE: u64 = 2 << 10;

/// What a process has had in memory at most, and what of it is of no file at the end, in KiB: of the program's pages more are its own where
/// no other session runs.
type Peak = (String, [u64; 2]);

/// Signs so many files of so many bytes, of a GiB or of at most a MiB; tells what memory that took while the last one was signed and the
/// input not ended.
fn peaks(files: u64, size: u64) -> Vec<Peak> {
    let mut child = world().session("build1", "sign-tar ed25519").start();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let come = AtomicU64::new(0);
    let peaks = thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                come.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
        for number in 0..files {
            stdin.write_all(&header(&format!("dir/file-{number}.rpm"), size)).unwrap();
            if size < GIB {
                stdin.write_all(&vec![number as u8; size as usize]).unwrap();
            }
            for _ in 0..size / GIB {
                write_a_gib(&mut stdin, || ());
            }
            stdin.write_all(&[0; 512][..(512 - size as usize % 512) % 512]).unwrap();
        }
        // A header and a block for each.
        patient(|| come.load(Ordering::Relaxed) >= 1024 * files);
        let peak = |(name, pid)| (name, [sum("status", pid, &["VmHWM:"]), sum("smaps_rollup", pid, &["Anonymous:"])]);
        let peaks = processes(child.id()).into_iter().map(peak).collect::<Vec<_>>();
        stdin.write_all(&[0; 1024]).unwrap();
        drop(stdin);
        peaks
    });
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    let code = child.wait().unwrap().code();
    let last = records(&format!("_PID={}", child.id())).pop();
    assert_eq!((code, error.as_str()), (Some(0), ""), "{last:#?}");
    let _ = writeln!(std::io::stderr(), "KiB at most, and anonymous at the end, of {files} files of {size} bytes: {peaks:?}");
    peaks
}

/// None of the processes takes more memory for the second than for the first.
fn same((few, small): (u64, u64), (many, large): (u64, u64)) {
    let (first, second) = (peaks(few, small), peaks(many, large));
    assert_eq!((first.len(), second.len()), (3, 3));
    for ((name, before), (other, after)) in first.iter().zip(&second) {
        assert_eq!(name, other);
        for (before, after) in before.iter().zip(after) {
            assert!((1..=before + MORE).contains(after), "{name}: {before} KiB, {after} KiB");
        }
    }
}

#[test]
fn a_batch_takes_no_more_memory_by_its_length() {
    same((10, 1536), (2000, 1536));
}

#[test]
fn a_batch_takes_no_more_memory_by_the_size_of_a_file() {
    same((1, 1024), (1, GIB));
}

#[test]
#[ignore = "takes minutes: just soak"]
fn a_large_batch_takes_no_more_memory() {
    same((10, 1536), (10_000, 1536));
    same((1, 1024), (1, 4 * GIB));
}
