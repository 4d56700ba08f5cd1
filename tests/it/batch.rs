//! What can go wrong in the middle of a batch: at the client's end, in the token, in the books. What was released is good and recorded,
//! the rest is not released, and all that was begun has an end.

use crate::audit::fill;
use crate::ledger::{Own, lines, mounted};
use crate::token::{alone, group};
use crate::world::{Outcome, Session, calls, field, patient, records, succeed, verify, world};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sigsh::audit::ledger::line::Line;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};
use tar::{Archive, Builder, EntryType, Header};

pub const JOURNAL: &str = "/run/systemd/journal/socket";
const LIMITS: &str = "idle = \"10s\"";

/// Whatever hangs here would hang for longer.
const BOUND: Duration = Duration::from_secs(60);

/// A file of a tar as GNU tar writes it: its headers and its content. The archive's end is `END`.
pub fn entry(name: &[u8], content: &[u8]) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, Path::new(std::ffi::OsStr::from_bytes(name)), content).unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - END.len());
    bytes
}

/// A header as it is, for what no program writes.
pub fn raw(name: &[u8], kind: EntryType, link: &str, size: u64) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

pub const END: [u8; 1024] = [0; 1024];

/// So many files, `file-1` and on.
pub fn files(number: usize) -> Vec<u8> {
    (1..=number).flat_map(|number| entry(format!("file-{number}").as_bytes(), &content(number))).collect()
}

pub fn content(number: usize) -> Vec<u8> {
    format!("content {number}\n").repeat(number * 100).into_bytes()
}

/// A session with one signature out and the second under way, and what is left to send.
pub fn half_a_batch(session: Session) -> (Running, Vec<u8>) {
    let (mut running, second) = (Running::of(session), entry(b"2", b"second"));
    running.send(&[&entry(b"1", b"first")[..], &second[..512]].concat());
    running.receive(1);
    (running, [&second[512..], &END].concat())
}

/// The signatures in an answer, as far as they are whole.
pub fn signatures(out: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut archive = Archive::new(out);
    for file in archive.entries().unwrap() {
        let Ok(mut file) = file else { break };
        let (name, mut bytes) = (file.path_bytes().into_owned(), Vec::new());
        if file.read_to_end(&mut bytes).is_err() || bytes.len() as u64 != file.size() {
            break;
        }
        found.push((name, bytes));
    }
    found
}

/// Whether GNU tar and bsdtar find the answer good.
pub fn tools(out: &[u8]) -> [bool; 2] {
    ["tar", "bsdtar"].map(|tool| {
        let mut child =
            Command::new(tool).arg("-tf-").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(out);
        child.wait().unwrap().success()
    })
}

pub fn session(config: impl AsRef<std::ffi::OsStr>, request: &str) -> Session {
    let mut session = Session::new(config).client("build1").request(request);
    session.command.process_group(0);
    session
}

/// A session in the middle of its batch.
pub struct Running {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub read: Vec<u8>,
    began: Instant,
}

impl Running {
    pub fn start(config: &Path, request: &str) -> Running {
        Running::of(session(config, request))
    }

    pub fn of(session: Session) -> Running {
        let mut child = session.start();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Running { child, stdin, stdout, read: vec![], began: Instant::now() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stdin.as_mut().unwrap().write_all(bytes);
    }

    /// Reads until so many signatures have come.
    pub fn receive(&mut self, number: usize) {
        let mut buffer = [0; 4096];
        while signatures(&self.read).len() < number {
            let length = self.stdout.as_mut().unwrap().read(&mut buffer).unwrap();
            assert!(length > 0, "{}", signatures(&self.read).len());
            self.read.extend(&buffer[..length]);
        }
    }

    /// Sends what is left, and waits for the end.
    pub fn end_with(mut self, rest: &[u8]) -> Outcome {
        self.send(rest);
        self.stdin = None;
        self.end()
    }

    /// Waits for the end; an input that is open stays so until then. No process is left.
    pub fn end(mut self) -> Outcome {
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_end(&mut self.read).unwrap();
        }
        self.end_unread()
    }

    pub fn end_unread(self) -> Outcome {
        let pid = self.child.id();
        let outcome = self.ended();
        Outcome { records: records(&format!("_PID={pid}")), ..outcome }
    }

    /// The same without a look at the journal.
    pub fn end_quietly(mut self) -> Outcome {
        self.stdout.take().unwrap().read_to_end(&mut self.read).unwrap();
        self.ended()
    }

    fn ended(self) -> Outcome {
        let pid = self.child.id();
        let output = self.child.wait_with_output().unwrap();
        let took = self.began.elapsed();
        assert!(took < BOUND, "{took:?}");
        alone(pid);
        let err = String::from_utf8(output.stderr).unwrap();
        Outcome { code: output.status.code(), out: self.read, err, records: vec![], took }
    }

    pub fn tokens(&self) -> Vec<i32> {
        group(self.child.id()).into_iter().filter(|(_, name)| name == "sigsh-token").map(|(pid, _)| pid).collect()
    }
}

/// What became of each signature: its events in order, in the ledger, which the journal's must be.
#[track_caller]
pub fn fates(own: &Own, records: &[Value]) -> BTreeMap<u64, Vec<String>> {
    let session = field(&records[0], "SIGSH_SESSION");
    let mut kept: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for line in lines(&own.bytes()).into_iter().filter_map(Line::parse) {
        if line.field("session") == session && !line.field("entry").is_empty() {
            kept.entry(line.field("entry").parse().unwrap()).or_default().push(line.event().to_owned());
        }
    }
    kept
}

#[track_caller]
fn journalled(records: &[Value]) -> BTreeMap<u64, Vec<String>> {
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.get("SIGSH_ENTRY").is_some()) {
        found.entry(field(record, "SIGSH_ENTRY").parse().unwrap()).or_default().push(field(record, "SIGSH_EVENT").to_owned());
    }
    found
}

/// Demands of a batch of `files` that went wrong: the error, so many signatures released, in order, good and recorded; an end for
/// whatever else was begun; the same in both books; and an answer that tar calls broken.
#[track_caller]
pub fn broken(own: &Own, outcome: &Outcome, code: i32, line: &str, released: usize) {
    recorded(own, outcome, code, line, released, content);
    assert_eq!(tools(&outcome.out), [false, false]);
}

/// The same of files with any contents, and for a client that has not read to the end.
#[track_caller]
pub fn recorded(own: &Own, outcome: &Outcome, code: i32, line: &str, released: usize, content: impl Fn(usize) -> Vec<u8>) {
    let records = &outcome.records;
    assert_eq!(outcome.code, Some(code), "{:?}", outcome.err);
    assert!(outcome.err.starts_with(&format!("sigsh: error: {line}\n")), "{:?} {line}", outcome.err);
    let found = signatures(&outcome.out);
    let names = found.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>();
    assert_eq!(names, (1..=released).map(|number| format!("file-{number}.sig")).collect::<Vec<_>>());
    let all = fates(own, records);
    let of_journal = journalled(records);
    assert!(
        all.iter().all(|(entry, events)| of_journal
            .get(entry)
            .is_some_and(|other| other == events || events[..] == other[..events.len()]))
    );
    for (entry, events) in &all {
        let good: &[&str] = if *entry <= released as u64 { &["intent", "signed"] } else { &["intent", "failed"] };
        // Made, but too late; or not even begun.
        let other = [&["intent", "signed", "failed"][..], &["failed"], &["refused"]];
        assert!(events == good || *entry > released as u64 && other.iter().any(|other| events == other), "{entry}: {events:?}");
    }
    for (number, (_, signature)) in (1..).zip(&found) {
        verify("ed25519", signature, &content(number));
        let is = |record: &&Value| {
            [("SIGSH_EVENT", "signed"), ("SIGSH_ENTRY", &number.to_string())]
                .iter()
                .all(|(name, value)| field(record, name) == *value)
        };
        let signed = records.iter().find(is).unwrap();
        let digest = hex::encode(Sha256::digest(signature));
        let fields = ["SIGSH_NAME", "SIGSH_SIGNATURE_SHA256"].map(|name| field(signed, name));
        assert_eq!(fields, [&format!("file-{number}"), &digest]);
    }
    let last = records.last().unwrap();
    assert_eq!(field(last, "SIGSH_CODE"), code.to_string(), "{last:#}");
    assert!(["failed", "refused"].contains(&field(last, "SIGSH_EVENT")) && !field(last, "SIGSH_REASON").is_empty(), "{last:#}");
    let report = own.verify(&[]);
    assert_eq!((report.code, report.said("warning: ").iter().any(|it| it.contains("no end"))), (Some(0), false), "{report:#?}");
}

fn own(fault: &str, more: &[(&str, &str)]) -> Own {
    let own = Own::faulty(JOURNAL, fault, more);
    own.init();
    own
}

/// A batch of so many files, all of them sent at once.
fn batch(own: &Own, number: usize) -> Outcome {
    let mut running = Running::start(&own.config, "sign-tar ed25519");
    let bytes = [files(number), END.to_vec()].concat();
    let mut stdin = running.stdin.take().unwrap();
    let writer = thread::spawn(move || drop(stdin.write_all(&bytes)));
    let outcome = running.end();
    writer.join().unwrap();
    outcome
}

#[test]
fn a_batch_that_stops_or_trickles_or_takes_too_long() {
    world();
    let trickle = "idle = \"1s\"\nthroughput = \"1KiB\"";
    thread::scope(|scope| {
        // What it may, how much of the sixth file is sent, what follows now and then, what becomes of it.
        for (limits, part, more, line) in [
            ("idle = \"1s\"", 700, &b""[..], "file-6: the input stopped coming"),
            ("idle = \"1s\"", 0, b"", "the input stopped coming"),
            (trickle, 700, b"x", "file-6: the input comes too slowly"),
            ("idle = \"60s\"\ntotal = \"2s\"", 700, b"", "the input took longer than a session may"),
        ] {
            scope.spawn(move || {
                let own = own("", &[(LIMITS, limits)]);
                let mut running = Running::start(&own.config, "sign-tar ed25519");
                running.send(&files(5));
                running.send(&entry(b"file-6", &content(6))[..part]);
                running.receive(5);
                let mut stdin = running.stdin.take().unwrap();
                let slowly = thread::spawn(move || {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_secs(20) && stdin.write_all(more).is_ok() {
                        sleep(Duration::from_millis(100));
                        // To write nothing tells nothing.
                        if more.is_empty() && began.elapsed() > Duration::from_secs(6) {
                            break;
                        }
                    }
                });
                let outcome = running.end();
                assert!(outcome.took < Duration::from_secs(15), "{outcome:?}");
                broken(&own, &outcome, 65, line, 5);
                slowly.join().unwrap();
            });
        }
    });
}

#[test]
fn a_batch_without_an_end_ends_when_its_time_is_over() {
    let own = own("", &[(LIMITS, "idle = \"60s\"\ntotal = \"2s\"")]);
    let mut running = Running::start(&own.config, "sign-tar ed25519");
    let mut stdin = running.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        let mut sent = 0;
        let small = (1..).map(|number: u32| entry(format!("file-{number}").as_bytes(), b"x"));
        for bytes in small {
            if stdin.write_all(&bytes).is_err() {
                return sent;
            }
            sent += 1;
        }
        sent
    });
    let outcome = running.end();
    assert!(outcome.took < Duration::from_secs(15), "{:?}", outcome.took);
    let sent = writer.join().unwrap();
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(65), "sigsh: error: the input took longer than a session may\n"));
    let found = signatures(&outcome.out);
    assert!(found.len() > 10 && found.len() <= sent, "{} {sent}", found.len());
    for (entry, events) in fates(&own, &outcome.records) {
        let released = entry <= found.len() as u64;
        // The time may have ended between the record and the release.
        let expected: &[&[&str]] =
            if released { &[&["intent", "signed"]] } else { &[&["intent", "failed"], &["intent", "signed", "failed"]] };
        assert!(expected.iter().any(|expected| events == *expected), "{entry}: {events:?}");
    }
    assert_eq!(tools(&outcome.out), [false, false]);
}

#[test]
fn a_client_that_stops_reading_its_answers() {
    let own = own("", &[]);
    let mut running = Running::start(&own.config, "sign-tar ed25519");
    let mut stdin = running.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        let small = (1..1000).map(|number| entry(format!("file-{number}").as_bytes(), &content(1)));
        small.into_iter().all(|bytes| stdin.write_all(&bytes).is_ok())
    });
    running.receive(5);
    let (mut read, mut stdout) = (std::mem::take(&mut running.read), running.stdout.take().unwrap());
    let mut outcome = running.end_unread();
    assert!(!writer.join().unwrap());
    stdout.read_to_end(&mut read).unwrap();
    outcome.out = read;
    let found = signatures(&outcome.out);
    assert!(found.len() > 20, "{}", found.len());
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(74), "sigsh: error: cannot write to standard output\n"));
    let (last, next) = (outcome.records.last().unwrap(), (found.len() + 1).to_string());
    let fields = ["SIGSH_REASON", "SIGSH_ENTRY"].map(|name| field(last, name));
    assert_eq!(fields, ["undelivered: ETIMEDOUT: Connection timed out", next.as_str()]);
    for (entry, events) in fates(&own, &outcome.records) {
        let expected: &[&[&str]] = match entry {
            entry if entry <= found.len() as u64 => &[&["intent", "signed"]],
            _ => &[&["intent", "signed", "failed"], &["intent", "failed"]],
        };
        assert!(expected.iter().any(|expected| events == *expected), "{entry}: {events:?}");
    }
    assert_eq!(own.verify(&[]).code, Some(0));
}

#[test]
fn a_producer_or_a_client_that_dies_in_mid_batch() {
    // The producer: its file ends early.
    let producer = own("", &[]);
    let mut running = Running::start(&producer.config, "sign-tar ed25519");
    running.send(&files(5));
    running.send(&entry(b"file-6", &content(6))[..700]);
    drop(running.stdin.take());
    let outcome = running.end();
    broken(&producer, &outcome, 65, "file-6: the tar is cut off", 5);
    // Between two files: a tar without an end, which nobody but sigsh minds.
    let mut running = Running::start(&producer.config, "sign-tar ed25519");
    running.send(&files(5));
    drop(running.stdin.take());
    broken(&producer, &running.end(), 65, "the tar is cut off", 5);
    // The client: both ends at once, while the sixth is on its way.
    let client = own("", &[]);
    let mut running = Running::start(&client.config, "sign-tar ed25519");
    running.send(&files(5));
    running.receive(5);
    running.send(&entry(b"file-6", &content(6))[..700]);
    drop((running.stdout.take(), running.stdin.take()));
    let outcome = running.end_unread();
    assert!(outcome.took < Duration::from_secs(20), "{outcome:?}");
    recorded(&client, &outcome, 65, "file-6: the tar is cut off", 5, content);
    // The reader alone, and the producer goes on.
    let reader = own("", &[]);
    let mut running = Running::start(&reader.config, "sign-tar ed25519");
    running.send(&files(5));
    running.receive(5);
    drop(running.stdout.take());
    running.send(&entry(b"file-6", &content(6)));
    let outcome = running.end_unread();
    recorded(&reader, &outcome, 65, "the client has gone away", 5, content);
    assert_eq!(calls(&reader.count, "C_SignInit"), 5);
}

/// Through sshd: the client, killed, is missed by nobody but the books.
#[test]
fn an_ssh_client_that_is_killed_in_mid_batch() {
    let mut command = world().ssh_command("build1");
    command.arg("sign-tar ed25519").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for number in 0..20 {
        stdin.write_all(&entry(format!("killed-in-batch-{number}").as_bytes(), &content(1))).unwrap();
    }
    let mut out = vec![0; 4096];
    child.stdout.as_mut().unwrap().read_exact(&mut out).unwrap();
    child.kill().unwrap();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    child.wait().unwrap();
    let first = records("SIGSH_NAME=killed-in-batch-0");
    let session = format!("SIGSH_SESSION={}", field(&first[0], "SIGSH_SESSION"));
    patient(|| records(&session).last().is_some_and(|last| !field(last, "SIGSH_CODE").is_empty()));
    let all = records(&session);
    let last = all.last().unwrap();
    assert!(["65", "74"].contains(&field(last, "SIGSH_CODE")), "{last:#}");
    for (entry, events) in journalled(&all) {
        assert!(events.len() > 1 && events[0] == "intent", "{entry}: {events:?}");
    }
    for (name, signature) in signatures(&out) {
        assert!(name.starts_with(b"killed-in-batch-"));
        verify("ed25519", &signature, &content(1));
    }
}

/// By two keys, each file takes two of the rate, or none: no file gets one of its signatures alone.
#[test]
fn several_keys_take_as_many_of_the_rate_or_none() {
    let table = "keys = [\"rsa2048\"";
    let rated = |burst: u64| own("", &[(table, &format!("rate = \"1/h\"\nburst = {burst}\n{table}"))]);
    let run = |own: &Own| session(&own.config, "sign-tar ed25519 nistp256").run(&[files(3), END.to_vec()].concat());
    let few = run(&rated(1));
    let error = "sigsh: error: more keys than you may sign with at once\nsigsh: hint: name at most 1 of them\n";
    assert_eq!((few.code, few.err.as_str(), signatures(&few.out).len()), (Some(77), error, 0));
    let own = rated(5);
    let some = run(&own);
    let names = signatures(&some.out).into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect::<Vec<_>>();
    assert_eq!(names, ["file-1.ed25519.sig", "file-1.nistp256.sig", "file-2.ed25519.sig", "file-2.nistp256.sig"]);
    assert_eq!((some.code, some.err.lines().next()), (Some(75), Some("sigsh: error: file-3: too many signatures")));
    // One is left, and one file needs two: in an hour.
    let again = run(&own);
    let hint = again.err.lines().nth(1).unwrap();
    let seconds = hint.strip_prefix("sigsh: hint: try again in ").unwrap().strip_suffix(" seconds").unwrap();
    assert_eq!((again.code, (3500..=3600).contains(&seconds.parse::<u64>().unwrap())), (Some(75), true), "{hint}");
}

/// A client that takes its answers slowly, when all of its files have come, keeps nobody from the token.
#[test]
fn a_client_that_reads_slowly_keeps_no_turn() {
    let own = own("", &[("[token.", "[token.")]);
    let text = fs::read_to_string(&own.config).unwrap();
    let at = text.find("]\nmodule").unwrap() + 2;
    fs::write(&own.config, format!("{}sessions = 1\nqueue = \"20s\"\n{}", &text[..at], &text[at..])).unwrap();
    // More than a pipe holds of answers, and fewer than may be on their way.
    let mut slow = Running::start(&own.config, "sign-tar ed25519");
    slow.stdin.take().unwrap().write_all(&[files(100), END.to_vec()].concat()).unwrap();
    let other = session(&own.config, "sign ed25519").run(b"meanwhile");
    verify("ed25519", other.signature(), b"meanwhile");
    assert_eq!((slow.end().code, other.took < Duration::from_secs(15)), (Some(0), true), "{:?}", other.took);
}

#[test]
fn the_rate_ends_a_batch_and_not_a_signature_earlier() {
    let table = "keys = [\"rsa2048\"";
    let own = own("", &[(table, &format!("rate = \"1/h\"\nburst = 7\n{table}"))]);
    let outcome = batch(&own, 12);
    broken(&own, &outcome, 75, "file-8: too many signatures", 7);
    let hint = outcome.err.lines().nth(1).unwrap();
    let seconds =
        hint.strip_prefix("sigsh: hint: try again in ").unwrap().strip_suffix(" seconds").unwrap().parse::<u64>().unwrap();
    assert!((3500..=3600).contains(&seconds), "{hint}");
    // Nothing is left; and who gets nothing at all is told so in a way that tar sees.
    let again = batch(&own, 1);
    assert_eq!((again.code, tools(&again.out)), (Some(75), [false, false]), "{again:?}");
}

/// What was read, and not asked for because nobody had a turn at the token, costs nothing.
#[test]
fn what_this_host_could_not_make_of_a_batch_is_given_back() {
    let (table, turns) = ("keys = [\"rsa2048\"", "timeout = \"20s\"\nsessions = 1\nqueue = \"1s\"");
    let own = own("wait-sign", &[("timeout = \"20s\"", turns), (table, &format!("rate = \"1/h\"\nburst = 50\n{table}"))]);
    let left = || {
        let report = own.admin(&["check", "--client", "build1"]);
        let line = report.out.lines().find(|line| line.ends_with(" left now")).unwrap_or_else(|| panic!("{report:#?}"));
        line.split("; ").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let mut other = session(&own.config, "sign ed25519").start();
    other.stdin.take().unwrap().write_all(b"artifact").unwrap();
    patient(|| calls(&own.count, "C_Sign") > 0);
    for request in ["sign-tar ed25519", "sign-tar ed25519 rsa2048"] {
        let mut running = Running::start(&own.config, request);
        running.send(&files(12));
        let outcome = running.end();
        assert_eq!((outcome.code, tools(&outcome.out)), (Some(75), [false, false]), "{outcome:?}");
    }
    fs::remove_file(own.count.with_file_name("target")).unwrap();
    assert_eq!(other.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(left(), 49);
}

#[test]
fn a_token_that_fails_in_mid_batch() {
    world();
    let short = ("timeout = \"20s\"", "timeout = \"2s\"");
    thread::scope(|scope| {
        for (fault, line) in [
            ("fail-sign@8", "the token failed"),
            ("removed@8", "the token failed"),
            ("wrong-signature@8", "the token made a wrong signature"),
            ("other-digest@8", "the token made a wrong signature"),
            ("short-signature@8", "the token made a wrong signature"),
            ("hang-sign@8", "the token did not answer in time"),
            ("crash-sign@8", "the token process failed"),
            ("exit-sign@8", "the token process failed"),
        ] {
            scope.spawn(move || {
                let own = own(fault, &[short]);
                let outcome = batch(&own, 20);
                broken(&own, &outcome, 69, line, 7);
                let last = outcome.records.last().unwrap();
                assert_eq!((field(last, "SIGSH_ENTRY"), field(last, "SIGSH_NAME")), ("8", "file-8"), "{fault}: {last:#}");
            });
        }
    });
}

/// One of several: what the others have made behind what is missing is of no use, be it much or little.
#[test]
fn one_of_two_token_processes_fails_in_mid_batch() {
    for (fault, line) in [("crash-sign@6", "the token process failed"), ("wrong-signature@6", "the token made a wrong signature")] {
        let own = own(fault, &[("timeout = \"20s\"", "timeout = \"20s\"\nsessions = 2")]);
        let outcome = batch(&own, 30);
        let released = signatures(&outcome.out).len();
        assert!(released <= 10, "{released}");
        broken(&own, &outcome, 69, line, released);
    }
}

/// It has nothing to do when it dies: the monitor sees it, and does not spin.
#[test]
fn a_token_process_that_dies_while_it_has_nothing_to_do() {
    let own = own("", &[(LIMITS, "idle = \"60s\"")]);
    let mut running = Running::start(&own.config, "sign-tar ed25519");
    running.send(&files(5));
    running.receive(5);
    let [token] = running.tokens()[..] else { panic!() };
    kill(Pid::from_raw(token), Signal::SIGKILL).unwrap();
    let outcome = running.end();
    assert!(outcome.took < Duration::from_secs(20), "{outcome:?}");
    broken(&own, &outcome, 69, "the token process failed", 5);
}

#[test]
fn a_journal_that_stops_in_mid_batch() {
    let name = "batch-journal";
    let mut own = Own::with_journald(name);
    let socket = format!("/run/systemd/journal.{name}/socket");
    let mut running = Running::start(&own.config, "sign-tar ed25519");
    running.send(&files(5));
    running.receive(5);
    let journald = Pid::from_raw(own.journald.as_ref().unwrap().id() as i32);
    kill(journald, Signal::SIGSTOP).unwrap();
    fill(&socket);
    for number in 6..20 {
        running.send(&entry(format!("file-{number}").as_bytes(), &content(number)));
    }
    let pid = running.child.id();
    let mut outcome = running.end();
    kill(journald, Signal::SIGCONT).unwrap();
    assert_eq!(signatures(&outcome.out).len(), 5);
    let line = "sigsh: error: the journal cannot record this, so nothing is signed\n";
    assert_eq!((outcome.code, outcome.err.as_str(), calls(&own.count, "C_SignInit")), (Some(74), line, 5));
    succeed(Command::new("journalctl").args([&format!("--namespace={name}"), "--sync"]));
    let mut journalctl = Command::new("journalctl");
    journalctl.args([&format!("--namespace={name}"), "-q", "-o", "json", "-t", "sigsh", &format!("_PID={pid}")]);
    let text = String::from_utf8(succeed(&mut journalctl).stdout).unwrap();
    outcome.records = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fates = fates(&own, &outcome.records);
    for (entry, events) in &fates {
        assert_eq!(*events, ["intent", if *entry <= 5 { "signed" } else { "failed" }], "{entry}");
    }
    let report = own.verify(&["--journal"]);
    assert_eq!((report.code, report.out.contains("no end")), (Some(0), false), "{report:#?}");
    own.journald.as_mut().unwrap().kill().unwrap();
}

#[test]
fn a_disk_that_fills_in_mid_batch() {
    let own = Own::bare(JOURNAL);
    mounted(&own, "32k");
    own.init();
    let mut running = Running::start(&own.config, "sign-tar ed25519");
    let mut released = 0;
    // One by one: so that each has a line of its own.
    while released < 200 && running.child.try_wait().unwrap().is_none() {
        running.send(&entry(format!("file-{}", released + 1).as_bytes(), &content(1)));
        let mut buffer = [0; 4096];
        let length = running.stdout.as_mut().unwrap().read(&mut buffer).unwrap();
        running.read.extend(&buffer[..length]);
        released = signatures(&running.read).len();
        if length == 0 {
            break;
        }
    }
    let outcome = running.end();
    let found = signatures(&outcome.out);
    let line = "sigsh: error: the ledger cannot record this, so nothing is signed";
    assert!(outcome.code == Some(74) && outcome.err.starts_with(line) && found.len() > 5, "{} {:?}", found.len(), outcome.err);
    let fates = fates(&own, &outcome.records);
    for (number, (_, signature)) in (1..).zip(&found) {
        verify("ed25519", signature, &content(1));
        assert_eq!(fates[&number], ["intent", "signed"]);
    }
    assert!(fates.iter().all(|(entry, events)| *entry <= found.len() as u64 || *events != ["intent", "signed"]), "{fates:?}");
    assert_eq!(tools(&outcome.out), [false, false]);
    succeed(Command::new("umount").arg(own.ledger.parent().unwrap()));
}

#[test]
fn several_processes_share_a_token() {
    for sessions in [2, 4] {
        let own = own("", &[("timeout = \"20s\"", &format!("timeout = \"20s\"\nsessions = {sessions}"))]);
        let mut running = Running::start(&own.config, "sign-tar ed25519 rsa2048");
        running.send(&files(1));
        running.receive(2);
        assert_eq!(running.tokens().len(), sessions);
        running.send(&(2..=30).flat_map(|number| entry(format!("file-{number}").as_bytes(), &content(number))).collect::<Vec<_>>());
        running.send(&END);
        drop(running.stdin.take());
        let outcome = running.end();
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
        let found = signatures(&outcome.out);
        assert_eq!(found.len(), 60);
        for (at, (name, signature)) in found.iter().enumerate() {
            let (number, key) = (at / 2 + 1, ["ed25519", "rsa2048"][at % 2]);
            assert_eq!(String::from_utf8_lossy(name), format!("file-{number}.{key}.sig"));
            if number % 5 == 0 {
                verify(key, signature, &content(number));
            }
        }
        assert_eq!(calls(&own.count, "C_Login"), sessions);
        assert_eq!(calls(&own.count, "C_SignInit"), 60);
        let fates = fates(&own, &outcome.records);
        assert!(fates.len() == 60 && fates.values().all(|events| *events == ["intent", "signed"]), "{fates:?}");
    }
}

/// Turns at a token: a batch takes those that are free, waits for one at least, and gives all of them back.
#[test]
fn turns_of_a_batch() {
    let turns = "timeout = \"20s\"\nsessions = 2\nqueue = \"1s\"";
    let mut own = own("wait-sign", &[("timeout = \"20s\"", turns)]);
    let good = own.config.with_extension("good.toml");
    fs::write(&good, fs::read_to_string(&own.config).unwrap().replace("MODULE_FAULT = \"wait-sign\", ", "")).unwrap();
    // One turn is another's, who keeps it.
    let mut other = session(&own.config, "sign ed25519").start();
    other.stdin.take().unwrap().write_all(b"artifact").unwrap();
    patient(|| calls(&own.count, "C_Sign") > 0);
    own.config.clone_from(&good);
    let mut running = Running::start(&good, "sign-tar ed25519");
    running.send(&files(5));
    running.receive(5);
    assert_eq!(running.tokens().len(), 1);
    // Now none is free.
    let line = "the token is busy";
    session(&good, "sign ed25519").run(b"artifact").fails(75, line, "refused", "were taken for 1s");
    let late = batch(&own, 3);
    assert_eq!((late.code, signatures(&late.out).len(), tools(&late.out)), (Some(75), 0, [false, false]), "{late:?}");
    // Both are given back.
    running.send(&END);
    drop(running.stdin.take());
    assert_eq!(running.end().code, Some(0));
    fs::remove_file(own.count.with_file_name("target")).unwrap();
    let output = other.wait_with_output().unwrap();
    verify("ed25519", &output.stdout, b"artifact");
    let mut running = Running::start(&good, "sign-tar ed25519");
    running.send(&files(2));
    running.receive(2);
    assert_eq!(running.tokens().len(), 2);
    running.send(&END);
    drop(running.stdin.take());
    assert_eq!(running.end().code, Some(0));
}
