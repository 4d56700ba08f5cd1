//! Many at once, and each of them may be killed: at random, and at every step. No signature leaves without both of its lines.

use crate::batch::{END, Running, entry, session, signatures, tools};
use crate::ledger::{Own, Report, attributes, lines};
use crate::token::group;
use crate::world::{Outcome, succeed, verify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use sigsh::audit::ledger::line::Line;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Kills `init` and `rotate` before each system call that changes something, and does the same again.
#[test]
fn what_is_killed_half_way_can_be_done_again() {
    for (command, begun) in [("init", false), ("rotate", true)] {
        let mut kills = 0;
        for call in ["openat", "fchown", "fchmod", "write", "fdatasync", "pwrite64", "unlinkat", "renameat2", "ioctl", "fsync"] {
            for when in 1..40 {
                // Libraries and the configuration are opened before; of the many others a part.
                if call == "openat" && (when < 12 || when % 4 > 0) {
                    continue;
                }
                let own = Own::bare("/run/systemd/journal/socket");
                let mut signed = 0;
                if begun {
                    own.init();
                    own.signs();
                    signed = 1;
                }
                let trace = format!("--inject={call}:signal=SIGKILL:when={when}");
                let mut strace = Command::new("strace");
                strace.args(["-f", "-qq", "-o", "/dev/null", &trace, "sigsh-admin", "--config"]).arg(&own.config);
                let report = Report::of(strace.args(["ledger", command]));
                if report.code == Some(0) {
                    break;
                }
                kills += 1;
                if begun {
                    let outcome = own.sign();
                    assert!([Some(0), Some(75)].contains(&outcome.code), "{call} {when}: {outcome:#?}");
                    signed += usize::from(outcome.code == Some(0));
                }
                let again = own.admin(&["ledger", command]);
                assert!(again.code == Some(0) || again.err.contains("exists already"), "{call} {when}: {again:?}");
                own.signs();
                let report = own.verify(&[]);
                assert_eq!(report.code, Some(0), "{call} {when}: {report:#?}");
                let text = own.files().iter().map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
                assert_eq!(text.matches("\"event\":\"signed\"").count(), signed + 1, "{call} {when}");
                assert!(!own.ledger.with_file_name("ledger.jsonl.new").exists(), "{call} {when}");
                assert!(attributes(&own.ledger).contains('a') || again.code != Some(0), "{call} {when}");
            }
        }
        assert!(kills > 10, "{command}: {kills}");
    }
}

/// This many at once: no place twice, no record lost, journal and ledger of one opinion.
fn at_once(name: &str, number: usize) {
    let own = Own::with_journald(name);
    let outcomes = thread::scope(|scope| {
        let sign = |_| scope.spawn(|| quiet(own.session().start(), b"artifact"));
        let threads = (0..number).map(sign).collect::<Vec<_>>();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for outcome in &outcomes {
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    }
    let lines = own.lines();
    assert_eq!(lines.iter().map(|line| line.seq).collect::<Vec<_>>(), (1..=2 * number as u64 + 1).collect::<Vec<_>>());
    for outcome in outcomes {
        let digest = hex::encode(Sha256::digest(&outcome.out));
        let signed = lines.iter().find(|line| line.field("signature_sha256") == digest).unwrap();
        let of_session = lines.iter().filter(|line| line.field("session") == signed.field("session"));
        assert_eq!(of_session.map(Line::event).collect::<Vec<_>>(), ["intent", "signed"]);
    }
    succeed(Command::new("journalctl").args([&format!("--namespace={name}"), "--sync"]));
    let report = own.verify(&["--journal"]);
    assert_eq!((report.code, report.said("warning: ")), (Some(0), vec![]), "{report:#?}");
    assert!(report.said("ok: ")[1].starts_with(&format!("the journal knows {} of these lines", 2 * number)), "{report:#?}");
    assert_eq!(own.verify(&[]).code, Some(0));
}

/// As [`finish_child`], without a look at the journal.
fn quiet(mut child: Child, input: &[u8]) -> Outcome {
    // Who was killed does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Outcome { code: output.status.code(), out: output.stdout, err, records: vec![], took: Duration::ZERO }
}

#[test]
fn a_hundred_sessions_at_once() {
    at_once("ledger-hundred", 100);
}

#[test]
#[ignore = "takes minutes: just soak"]
fn a_thousand_sessions_at_once() {
    at_once("ledger-thousand", 1000);
}

fn random(below: u64) -> u64 {
    getrandom::u64().unwrap() % below
}

/// Kills one of the three processes at a random moment of a session's life, this often. Whatever came out is a good signature with both
/// of its records.
fn killed(name: &str, number: usize) {
    let own = Own::with_journald(name);
    let lives = (0..5).map(|_| {
        let began = Instant::now();
        own.signs();
        began.elapsed()
    });
    let life = lives.max().unwrap().as_micros() as u64;
    let (mut released, mut hit) = (vec![], [0, 0, 0]);
    for turn in 0..number {
        let mut child = own.session().start();
        let mut stdin = child.stdin.take();
        // Another one each time: so no signature has the records of another.
        let artifact = format!("artifact {turn}");
        let give = |stdin: Option<ChildStdin>| drop(stdin.map(|mut stdin| stdin.write_all(artifact.as_bytes())));
        // Every second one waits for its input when it is killed.
        if turn % 2 == 0 {
            give(stdin.take());
        }
        let (monitor, target) = (child.id(), turn % 3);
        let process = || {
            let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap_or_default();
            let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let wanted = ["", "sigsh-hasher\n", "sigsh-token\n"][target];
            children.split_whitespace().find(|pid| name(pid) == wanted).map(str::to_owned)
        };
        let mut pid = (target == 0).then(|| monitor.to_string());
        // Until it is there, or was.
        while pid.is_none() && child.try_wait().unwrap().is_none() {
            pid = process();
        }
        // The hasher lives shorter than the token process, and this one than the monitor.
        thread::sleep(Duration::from_micros(random(life / [1, 8, 2][target])));
        if let Some(pid) = pid {
            let killed = kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL);
            hit[target] += usize::from(killed.is_ok());
        }
        give(stdin);
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => released.push((output.stdout, artifact)),
            // It may have been killed after the last byte has left.
            _ if !output.stdout.is_empty() => released.push((output.stdout, artifact)),
            // By SIGKILL, or by what its child's death looks like to it.
            code => assert!([None, Some(69), Some(70), Some(65)].contains(&code), "{output:?}"),
        }
        if turn % 10 == 9 {
            own.signs();
        }
    }
    assert!(hit.iter().all(|hits| *hits > number / 10), "{hit:?}");
    // At once: a journald with a name leaves when it has had nothing to do for half a minute.
    own.signs();
    succeed(Command::new("journalctl").args([&format!("--namespace={name}"), "--sync"]));
    let journal = succeed(Command::new("journalctl").args([&format!("--namespace={name}"), "-q", "-o", "json"]));
    let journal = String::from_utf8(journal.stdout).unwrap();
    let records = journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let text = |record: &serde_json::Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let recorded = records.map(|record| (text(&record, "SIGSH_EVENT"), text(&record, "SIGSH_SESSION"))).collect::<HashSet<_>>();
    let bytes = own.bytes();
    let lines = lines(&bytes).into_iter().filter_map(Line::parse).collect::<Vec<_>>();
    let of = |event: &'static str| lines.iter().filter(move |line| line.event() == event);
    let intents = of("intent").map(|line| line.field("session")).collect::<HashSet<_>>();
    let signed = of("signed").map(|line| (line.field("signature_sha256"), line.field("session"))).collect::<HashMap<_, _>>();
    for (signature, artifact) in &released {
        let session = signed[hex::encode(Sha256::digest(signature)).as_str()];
        let is_recorded = |event: &str| recorded.contains(&(event.to_owned(), session.to_owned()));
        assert!(intents.contains(session) && is_recorded("intent") && is_recorded("signed"), "{artifact}");
    }
    let report = own.verify(&["--journal"]);
    assert_eq!((report.code, report.said("error: ").len()), (Some(0), 0), "{report:#?}");
    assert_eq!(own.verify(&[]).code, Some(0));
    for (signature, artifact) in &released[..released.len().min(200)] {
        verify("ed25519", signature, artifact.as_bytes());
    }
    let _ = writeln!(std::io::stderr(), "{number} kills in {life} µs: hit {hit:?}, released {}; {}", released.len(), report.out);
}

/// Not at random: before each call of any of the three processes that reads, waits, locks, writes or syncs.
#[test]
fn killed_at_every_call_that_matters() {
    let own = Own::new();
    let (mut kills, mut released) = (0, 0);
    for call in ["flock", "lseek", "pread64", "write", "fdatasync", "pwrite64", "ppoll", "wait4"] {
        for when in 1..100 {
            let session = own.session().command;
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", &format!("--inject={call}:signal=SIGKILL:when={when}")]);
            strace.arg(session.get_program()).args(session.get_args());
            strace.env_clear().envs(session.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let child = strace.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let outcome = quiet(child, format!("{call} {when}").as_bytes());
            if !outcome.out.is_empty() {
                released += 1;
                let digest = hex::encode(Sha256::digest(&outcome.out));
                let shown = own.admin(&["ledger", "show", "--event", "signed", "--digest", &digest]);
                assert_eq!(shown.out.lines().count(), 2, "{call} {when}: {shown:#?}");
            }
            let report = own.verify(&[]);
            assert_eq!(report.code, Some(0), "{call} {when}: {report:#?}");
            if outcome.code == Some(0) {
                break;
            }
            kills += 1;
        }
        own.signs();
    }
    // Who is killed after the last byte has left has released a signature, too.
    assert!(kills > 25 && released < 20, "{kills} {released}");
}

#[test]
fn a_hundred_killed_sessions() {
    killed("ledger-killed", 100);
}

#[test]
#[ignore = "takes minutes: just soak"]
fn ten_thousand_killed_sessions() {
    killed("ledger-killed-soak", 10_000);
}

/// The same in a batch by two token processes, and any of the four is killed: whatever came out is good and has all of its records, as far
/// as it is whole.
fn killed_batches(name: &str, number: usize) {
    const FILES: usize = 12;
    let own = Own::with_journald_and(name, &[("timeout = \"20s\"", "timeout = \"20s\"\nsessions = 2")]);
    let input = |turn: usize, from: usize| {
        let name = |file: usize| format!("{turn}-{file}").into_bytes();
        (from..FILES).flat_map(|file| entry(&name(file), &name(file))).chain(END).collect::<Vec<_>>()
    };
    let began = Instant::now();
    let outcome = quiet(session(&own.config, "sign-tar ed25519").start(), &input(number, 0));
    assert_eq!((outcome.code, signatures(&outcome.out).len()), (Some(0), FILES), "{outcome:?}");
    let life = began.elapsed().as_micros() as u64;
    let (mut released, mut hit) = (vec![], [0; 4]);
    for turn in 0..number {
        let mut running = Running::start(&own.config, "sign-tar ed25519");
        let all = input(turn, 0);
        // Every second one waits in the middle of its input when it is killed.
        let (first, rest) = all.split_at(if turn % 2 == 0 { all.len() } else { all.len() / 2 });
        running.send(first);
        let (monitor, target) = (running.child.id(), turn % 4);
        let mut pid = None;
        while pid.is_none() && running.child.try_wait().unwrap().is_none() {
            let named = |name| group(monitor).into_iter().filter(move |(_, process)| process == name).map(|(pid, _)| pid);
            pid = match target {
                0 => Some(monitor as i32),
                1 => named("sigsh-hasher").next(),
                which => named("sigsh-token").nth(which - 2),
            };
        }
        thread::sleep(Duration::from_micros(random(life)));
        if let Some(pid) = pid {
            hit[target] += usize::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        }
        running.send(rest);
        drop(running.stdin.take());
        let outcome = running.end_quietly();
        let found = signatures(&outcome.out);
        match outcome.code {
            Some(0) => assert_eq!(found.len(), FILES),
            // Whom SIGKILL hits says nothing more.
            None => {}
            code => {
                assert!([Some(69), Some(70)].contains(&code), "{outcome:?}");
                assert_eq!(tools(&outcome.out), [false, false], "{code:?}");
            }
        }
        released.extend(found);
        if turn % 10 == 9 {
            own.signs();
        }
    }
    own.signs();
    succeed(Command::new("journalctl").args([&format!("--namespace={name}"), "--sync"]));
    let journal = succeed(Command::new("journalctl").args([&format!("--namespace={name}"), "-q", "-o", "json"]));
    let journal = String::from_utf8(journal.stdout).unwrap();
    let text = |record: &serde_json::Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let key = |record: serde_json::Value| ["SIGSH_EVENT", "SIGSH_SESSION", "SIGSH_ENTRY"].map(|name| text(&record, name));
    let recorded = journal.lines().map(|line| key(serde_json::from_str(line).unwrap())).collect::<HashSet<_>>();
    let bytes = own.bytes();
    let lines = lines(&bytes).into_iter().filter_map(Line::parse).collect::<Vec<_>>();
    let place = |line: &Line| (line.field("session").to_owned(), line.field("entry").to_owned());
    let intents = lines.iter().filter(|line| line.event() == "intent").map(place).collect::<HashSet<_>>();
    // The name tells them apart: all else may be equal within a second.
    let signed = lines.iter().filter(|line| line.event() == "signed");
    let signed = signed.map(|line| (line.field("name").to_owned(), line)).collect::<HashMap<_, _>>();
    for (name, signature) in &released {
        let name = std::str::from_utf8(name).unwrap().strip_suffix(".sig").unwrap();
        let line = signed[name];
        assert_eq!(line.field("signature_sha256"), hex::encode(Sha256::digest(signature)));
        let (session, entry) = place(line);
        let is_recorded = |event: &str| recorded.contains(&[event.to_owned(), session.clone(), entry.clone()]);
        assert!(is_recorded("intent") && is_recorded("signed") && intents.contains(&(session.clone(), entry.clone())), "{name}");
    }
    let report = own.verify(&["--journal"]);
    assert_eq!((report.code, report.said("error: ").len()), (Some(0), 0), "{report:#?}");
    assert_eq!(own.verify(&[]).code, Some(0));
    let step = released.len() / 100 + 1;
    for (name, signature) in released.iter().step_by(step) {
        verify("ed25519", signature, name.strip_suffix(b".sig").unwrap());
    }
    assert!(hit.iter().all(|hits| *hits > number / 20), "{hit:?}");
    let _ = writeln!(std::io::stderr(), "{number} kills in {life} µs: hit {hit:?}, released {}; {}", released.len(), report.out);
}

#[test]
fn forty_killed_batches() {
    killed_batches("ledger-batches", 40);
}

#[test]
#[ignore = "takes minutes: just soak"]
fn thousands_of_killed_batches() {
    killed_batches("ledger-batches-soak", 4000);
}
