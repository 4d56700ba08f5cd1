//! Batches in which somebody has taken over the hasher or a token process (`tests/evil/batch.rs`): they end with their code, in bounded
//! time, with no process left; what has left until then is good, and recorded.

use crate::separation::{DIED, Ending, HUNG, NONSENSE, OTHER_KEY, WRONG, internal, session_of};
use crate::v6;
use crate::world::{Outcome, Session, all_of, calls, changed, faulty, field, finish_child, scratch, verify, world};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The files `f0`, `f1`… that the liars know.
fn archive(files: usize) -> Vec<u8> {
    let file = |number| {
        let mut file = [header(&format!("f{number}"), content(number).len() as u64), content(number)].concat();
        file.resize(1024, 0);
        file
    };
    [(0..files).flat_map(file).collect(), vec![0; 1024]].concat()
}

/// A header of a tar.
pub fn header(name: &str, size: u64) -> Vec<u8> {
    let text = format!("{name:\0<100}0000644\00000000\00000000\0{size:011o}\000000000000\0        0{:\0<100}ustar\000", "");
    let mut header = text.into_bytes();
    header.resize(512, 0);
    let sum = header.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn content(number: usize) -> Vec<u8> {
    format!("content {number}").into_bytes()
}

/// What left: names and signatures.
fn left(outcome: &Outcome) -> Vec<(String, Vec<u8>)> {
    let (mut rest, mut files, mut long) = (outcome.out.as_slice(), Vec::new(), None);
    while let Some((header, data)) = rest.split_at_checked(512).filter(|(header, _)| [b'0', b'L'].contains(&header[156])) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap();
        let size = usize::from_str_radix(&text(&header[124..136]), 8).unwrap();
        match header[156] {
            b'L' => long = Some(text(&data[..size])),
            _ => files.push((long.take().unwrap_or_else(|| text(&header[..100])), data[..size].to_vec())),
        }
        rest = &data[size.next_multiple_of(512)..];
    }
    files
}

/// Whether tar finds the output whole.
fn is_whole(outcome: &Outcome) -> bool {
    let file = format!("{}/out.tar", scratch());
    fs::write(&file, &outcome.out).unwrap();
    Command::new("tar").args(["-tf", &file]).output().unwrap().status.success()
}

/// Demands this end, at most so many signatures before it, and that each of them is good and on record.
#[track_caller]
fn demand(mode: &str, outcome: &Outcome, (code, line, event, reason): Ending, most: usize) {
    assert_eq!(outcome.code, Some(code), "{mode}: {outcome:#?}");
    assert_eq!(outcome.err.lines().next(), Some(format!("sigsh: error: {line}").as_str()), "{mode}");
    let last = outcome.records.last().unwrap();
    assert_eq!((field(last, "SIGSH_EVENT"), field(last, "SIGSH_CODE")), (event, code.to_string().as_str()), "{mode}: {outcome:#?}");
    assert!(field(last, "SIGSH_REASON").contains(reason), "{mode}: {last:#?}");
    let files = left(outcome);
    assert!(files.len() <= most, "{mode}: {} signatures", files.len());
    for (number, (name, signature)) in files.iter().enumerate() {
        assert_eq!(*name, format!("f{number}.sig"), "{mode}");
        if number > 12 && number + 3 < files.len() {
            continue;
        }
        verify("ed25519", signature, &content(number));
    }
    let count = |event: &str| outcome.records.iter().filter(|record| field(record, "SIGSH_EVENT") == event).count();
    assert_eq!(count("signed"), files.len(), "{mode}: {outcome:#?}");
    // Whatever was announced has its end.
    let ends = outcome
        .records
        .iter()
        .filter(|record| ["failed", "refused"].contains(&field(record, "SIGSH_EVENT")) && !field(record, "SIGSH_ENTRY").is_empty());
    assert!(count("intent") <= count("signed") + ends.count() + 1, "{mode}: {outcome:#?}");
    assert!(!is_whole(outcome), "{mode}");
}

const NO_MESSAGE: Ending = internal("the hasher failed: the process sent nonsense");
const NO_STATE: Ending = internal("not a hash state");
const GONE: Ending = internal("the hasher failed: it ");
const NOTHING: Ending = (65, "the input holds nothing to sign", "failed", "");
const CUT: Ending = (65, "f1%0A%1B[2J: the tar is cut off", "failed", "cut off");

/// What a hasher says that is not so, by the request that it lies to.
const LIES: [(&str, &str, Ending); 30] = [
    ("", "name-too-long", NO_MESSAGE),
    ("", "name-far-too-long", NO_MESSAGE),
    ("", "name-endless", NO_MESSAGE),
    ("", "name-nul", NO_MESSAGE),
    ("", "name-absolute", NO_MESSAGE),
    ("", "name-up", NO_MESSAGE),
    ("", "name-up-inside", NO_MESSAGE),
    ("", "name-up-at-the-end", NO_MESSAGE),
    ("", "name-empty", NO_MESSAGE),
    ("", "name-directory", NO_MESSAGE),
    ("", "name-dot", NO_MESSAGE),
    ("", "states-missing", NO_MESSAGE),
    ("", "states-none", NO_MESSAGE),
    ("", "states-too-many", NO_MESSAGE),
    ("", "text", NO_MESSAGE),
    ("", "two-in-one-message", NO_MESSAGE),
    ("", "nonsense", NO_MESSAGE),
    ("", "empty-message", GONE),
    ("", "end-stays", GONE),
    ("", "end-twice", GONE),
    ("", "end-then-a-file", GONE),
    ("", "end-then-a-fault", GONE),
    ("", "end-exits-1", GONE),
    ("", "fault-stays", GONE),
    ("", "leaves", GONE),
    ("", "exits-1", GONE),
    ("", "dies", internal("SIGKILL")),
    ("", "crashes", internal("SIGSEGV")),
    ("", "fault", CUT),
    (" --type text", "states-of-two-files", NO_MESSAGE),
];

#[test]
fn an_evil_hasher_gets_nothing_signed_that_is_not_so() {
    world();
    let (config, count) = faulty("", &[]);
    all_of(LIES, |(more, act, ending)| {
        let mode = format!("hasher-batch-{act}");
        demand(&mode, &session_of(&config, &mode, &format!("sign-tar ed25519{more}"), &archive(2), false), ending, 0);
    });
    let mode = "hasher-batch-end";
    demand(mode, &session_of(&config, mode, "sign-tar ed25519", &archive(2), false), NOTHING, 0);
    // Two hashes: of one key each, and of one key and the bytes.
    let (two, _) = faulty(
        "",
        &[("certificate = \"/etc/sigsh/rsa2048.pgp\"\n", "certificate = \"/etc/sigsh/rsa2048.pgp\"\nhash = \"sha256\"\n")],
    );
    for (config, request, act, ending) in [
        (two.as_path(), "sign-tar ed25519 rsa2048", "states-exchanged", NO_STATE),
        (&two, "sign-tar ed25519 rsa2048", "states-missing", NO_MESSAGE),
        (v6::config(), "sign-tar ed25519", "states-exchanged", NO_MESSAGE),
        (v6::config(), "sign-tar ed25519", "states-of-two-files", NO_MESSAGE),
        (v6::config(), "sign-tar ed25519", "states-missing", NO_MESSAGE),
    ] {
        let mode = format!("hasher-batch-{act}");
        demand(&mode, &session_of(config, &mode, request, &archive(2), false), ending, 0);
    }
    assert_eq!((calls(&count, "C_SignInit"), calls(&count, "C_Login")), (0, 0));
}

#[test]
fn what_was_signed_before_a_hashers_lie_is_good() {
    world();
    let (config, _) = faulty("", &[]);
    all_of(LIES, |(more, act, ending)| {
        let mode = format!("hasher-batch-{act}-late");
        // With an end after it, an honest file is an honest input.
        demand(&mode, &session_of(&config, &mode, &format!("sign-tar ed25519{more}"), &archive(2), false), ending, 1);
    });
    let mode = "hasher-batch-flood";
    let outcome = session_of(&config, mode, "sign-tar ed25519", &archive(2), false);
    assert_eq!((outcome.code, left(&outcome).len()), (Some(70), 0), "more files than were asked for: {outcome:#?}");
    assert!(field(outcome.records.last().unwrap(), "SIGSH_REASON").contains("nonsense"));
}

#[test]
fn what_an_evil_hasher_may_say_is_worth_no_more_than_the_file() {
    world();
    let config = changed(&[]);
    let run = |config: &Path, act: &str| {
        let outcome = session_of(config, &format!("hasher-batch-{act}"), "sign-tar ed25519", &archive(2), false);
        assert_eq!((outcome.code, is_whole(&outcome)), (Some(0), true), "{act}: {outcome:#?}");
        left(&outcome)
    };
    let [(name, signature)] = run(&config, "good").try_into().unwrap();
    assert_eq!(name, "f1.sig");
    verify("ed25519", &signature, &content(1));
    let [(name, _)] = run(&config, "name-longest").try_into().unwrap();
    assert_eq!(name.len(), 4004);
    // Each file's signature is beside another one, which it does not fit.
    let [one, two] = run(&config, "names-exchanged").try_into().unwrap();
    verify("ed25519", &one.1, &content(0));
    verify("ed25519", &two.1, &content(1));
    assert_eq!((one.0.as_str(), two.0.as_str()), ("f1.sig", "f0.sig"));
    let [(_, signature)] = run(v6::config(), "states-salted-otherwise").try_into().unwrap();
    assert!(!crate::trixie::accepts(&v6::certificate("ed25519"), &signature, &content(1)));
}

/// The monitor never waits for one that does not read: nor for the hasher, of which it asks 128 files at the start, by the longest messages.
#[test]
fn a_hasher_that_never_reads_ends_with_the_total_time() {
    world();
    let limits = [("idle = \"10s\"", "idle = \"1s\"\ntotal = \"3s\"")];
    let v6 = fs::read_to_string(v6::config()).unwrap().replace(limits[0].0, limits[0].1);
    fs::write("/etc/sigsh/unread.toml", v6).unwrap();
    let total = (65, "the input took longer than a session may", "failed", "total time is over");
    let all = crate::world::KEYS.join(" ");
    let (config, v6) = (changed(&limits), PathBuf::from("/etc/sigsh/unread.toml"));
    for (config, keys) in [(&config, "ed25519"), (&v6, "ed25519"), (&v6, "ed25519 rsa2048"), (&v6, &all)] {
        for text in ["", " --type text"] {
            let mode = "hasher-batch-never-reads";
            let outcome = session_of(config, mode, &format!("sign-tar {keys}{text}"), &archive(2), false);
            demand(mode, &outcome, total, 0);
            assert!(outcome.took.as_secs() < 20, "{keys}: {outcome:?}");
        }
    }
}

const FAULTY: [(&str, Ending, bool); 12] = [
    ("exchanged", WRONG, false),
    ("twice", WRONG, false),
    ("unasked", WRONG, false),
    ("open-twice", NONSENSE, false),
    ("loaded", NONSENSE, false),
    ("nonsense", NONSENSE, false),
    ("dies", DIED, false),
    ("leaves", DIED, false),
    ("hangs", HUNG, false),
    ("open-once", HUNG, true),
    ("other-key", WRONG, true),
    ("open-twice", OTHER_KEY, true),
];

#[test]
fn an_evil_token_process_spoils_no_more_than_its_own() {
    world();
    let one = changed(&[("timeout = \"20s\"", "timeout = \"6s\"")]);
    let two = changed(&[("timeout = \"20s\"", "timeout = \"6s\"\nsessions = 2")]);
    let table = FAULTY.iter().flat_map(|row| [(&one, row), (&two, row)]);
    all_of(table, |(config, (act, ending, several))| {
        let mode = format!("token-batch-{act}");
        let keys = if *several { "ed25519 nistp256" } else { "ed25519" };
        let outcome = session_of(config, &mode, &format!("sign-tar {keys}"), &archive(40), false);
        if *several {
            assert_eq!((outcome.code, left(&outcome).len()), (Some(ending.0), 0), "{mode}: {outcome:#?}");
            return;
        }
        // Two processes made four each before.
        demand(&mode, &outcome, *ending, 12);
    });
    let outcome = session_of(&two, "token-batch-good", "sign-tar ed25519", &archive(40), false);
    assert_eq!((outcome.code, left(&outcome).len(), is_whole(&outcome)), (Some(0), 40, true), "{outcome:#?}");
}

/// While the client has more to send, and nothing is asked of the token.
#[test]
fn a_token_process_that_speaks_or_dies_between_two_signatures_ends_the_batch() {
    world();
    let config = changed(&[("idle = \"10s\"", "idle = \"60s\"")]);
    let table = [("dies-idle", DIED), ("leaves-idle", DIED), ("speaks-idle", NONSENSE), ("nonsense-idle", NONSENSE)];
    all_of(table, |(act, ending)| {
        let mode = format!("token-batch-{act}");
        let whole = archive(1);
        // Without the blocks of zeros that end it: there may be another file.
        let outcome = session_of(&config, &mode, "sign-tar ed25519", &whole[..1024], true);
        demand(&mode, &outcome, ending, 1);
        assert!(outcome.took.as_secs() < 50, "{mode}: {:?}", outcome.took);
    });
}

/// A real batch, one of whose processes stops in its midst.
#[test]
fn a_process_that_freezes_in_mid_batch_ends_it_in_time() {
    world();
    let total = (65, "the input took longer than a session may", "failed", "total time is over");
    for (name, times, ending) in [
        ("sigsh-hasher", [("idle = \"10s\"", "idle = \"1s\"\ntotal = \"5s\"")], total),
        ("sigsh-token", [("timeout = \"20s\"", "timeout = \"2s\"")], HUNG),
    ] {
        for sessions in ["", "sessions = 2\n"] {
            let several = ("[token.hsm]\n", format!("[token.hsm]\n{sessions}"));
            let config = changed(&[times[0], (several.0, &several.1)]);
            let mut child = Session::new(config).client("build1").request("sign-tar ed25519").start();
            let whole = archive(300);
            child.stdin.as_mut().unwrap().write_all(&whole[..200 * 1024]).unwrap();
            let mut before = vec![0; 200 * 1024];
            child.stdout.as_mut().unwrap().read_exact(&mut before).unwrap();
            for pid in children_of(child.id(), name) {
                kill(pid, Signal::SIGSTOP).unwrap();
            }
            let began = Instant::now();
            let mut outcome = finish_child(child, &whole[200 * 1024..]);
            outcome.out = [before, outcome.out].concat();
            demand(name, &outcome, ending, 200);
            assert_eq!(left(&outcome).len(), 200);
            assert!(began.elapsed() < Duration::from_secs(25), "{name}: {:?}", began.elapsed());
        }
    }
}

fn children_of(pid: u32, name: &str) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let is = |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
    children.split_whitespace().filter(is).map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}
