//! The ledger: no signature without its lines, and no line that could be changed, taken out or cut off without anybody seeing it.

use crate::world::{
    Outcome, Session, account, as_account, calls, changed, faulty, field, finish_child, patient, scratch, succeed, verify, world,
};
use sha2::{Digest, Sha256};
use sigsh::audit::ledger::chain::{Walk, WalkError};
use sigsh::audit::ledger::line::{Line, hash};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const UNRECORDED: &str = "the ledger cannot record this, so nothing is signed";
const NOT_SET_UP: &str = "sigsh is not set up properly on this host";
const JOURNAL: &str = "journal = \"/run/systemd/journal/socket\"";

/// A ledger of its own, in a directory of root's, with a state directory and a token module of its own.
struct Own {
    config: PathBuf,
    count: PathBuf,
    directory: PathBuf,
    ledger: PathBuf,
    lock: PathBuf,
    journald: Option<Child>,
}

impl Own {
    fn new() -> Own {
        let own = Own::bare("/run/systemd/journal/socket");
        own.init();
        own
    }

    /// Not yet initialised.
    fn bare(socket: &str) -> Own {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        world();
        let directory = PathBuf::from(format!("/var/lib/sigsh-ledger/{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let (state, ledger) = (directory.join("state"), directory.join("books/ledger.jsonl"));
        fs::create_dir_all(&state).unwrap();
        fs::create_dir_all(ledger.parent().unwrap()).unwrap();
        chown(&state, Some(account().0), Some(account().1)).unwrap();
        mode(&state, 0o700);
        let audit = format!("journal = \"{socket}\"\nledger = \"{}\"\nstate = \"{}\"", ledger.display(), state.display());
        let (config, count) = faulty("", &[(JOURNAL, &audit)]);
        Own { config, count, lock: state.join("ledger.lock"), directory, ledger, journald: None }
    }

    /// With a journald that has no records but this ledger's.
    fn with_journald(name: &str) -> Own {
        let keep = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nRateLimitBurst=0\nRuntimeMaxUse=1G\n";
        fs::write(format!("/etc/systemd/journald@{name}.conf"), keep).unwrap();
        let mut journald = Command::new("/lib/systemd/systemd-journald");
        let null = || Stdio::null();
        let child = journald.arg(name).stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
        let socket = format!("/run/systemd/journal.{name}/socket");
        patient(|| Path::new(&socket).exists());
        let mut own = Own::bare(&socket);
        own.journald = Some(child);
        own.init();
        own
    }

    fn init(&self) {
        let report = self.admin(&["ledger", "init"]);
        assert_eq!((report.code, report.err.as_str()), (Some(0), ""), "{report:?}");
    }

    fn admin(&self, arguments: &[&str]) -> Report {
        let mut command = Command::new("sigsh-admin");
        Report::of(command.arg("--config").arg(&self.config).args(arguments))
    }

    fn session(&self) -> Session {
        Session::new(&self.config).client("build1").request("sign ed25519 --name f")
    }

    fn sign(&self) -> Outcome {
        self.session().run(b"artifact")
    }

    #[track_caller]
    fn signs(&self) {
        let outcome = self.sign();
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    }

    /// Nothing is signed, nobody asked the token to, and the journal says why.
    #[track_caller]
    fn refuses(&self, code: i32, line: &str, event: &str, reason: &str) {
        fs::write(&self.count, "").unwrap();
        let outcome = self.sign();
        outcome.fails(code, line, event, reason);
        let last = outcome.records.last().unwrap();
        assert_eq!((field(last, "SIGSH_SEQ"), field(last, "SIGSH_LEDGER")), ("", ""));
        assert_eq!((calls(&self.count, "C_Login"), calls(&self.count, "C_SignInit")), (0, 0), "{outcome:#?}");
        assert!(outcome.took < Duration::from_secs(60), "{outcome:#?}");
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.ledger).unwrap()
    }

    fn lines(&self) -> Vec<Line> {
        lines(&self.bytes()).into_iter().map(|line| Line::parse(line).unwrap()).collect()
    }

    /// Writes the whole file anew, as only root can.
    fn rewrite(&self, bytes: &[u8]) {
        succeed(Command::new("chattr").arg("-a").arg(&self.ledger));
        fs::write(&self.ledger, bytes).unwrap();
    }

    fn append(&self, bytes: &[u8]) {
        File::options().append(true).open(&self.ledger).unwrap().write_all(bytes).unwrap();
    }

    /// Both verifiers, which must be of one opinion; what sigsh's says.
    #[track_caller]
    fn verify(&self, arguments: &[&str]) -> Report {
        let report = self.admin(&[&["ledger", "verify"], arguments].concat());
        let files = self.files();
        let mut python = Command::new("python3");
        python.arg("tests/ledger.py");
        if let [.., "--head", head] = arguments {
            python.args(["--head", head]);
        }
        let other = Report::of(python.args(&files));
        if !arguments.contains(&"--journal") {
            assert_eq!(report.code, other.code, "{report:#?} {other:#?}");
        }
        report
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.ledger.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        let mut rotated = entries.filter(|path| path.to_str().unwrap().contains(".jsonl-")).collect::<Vec<_>>();
        rotated.sort_by_key(|path| path.to_str().unwrap().rsplit_once('-').unwrap().1.parse::<u64>().unwrap());
        rotated.push(self.ledger.clone());
        rotated
    }

    fn head(&self) -> String {
        let report = self.admin(&["ledger", "head"]);
        assert_eq!((report.code, report.err.as_str()), (Some(0), ""));
        report.out.trim_end().to_owned()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(journald) = &mut self.journald {
            let _ = journald.kill();
            let _ = journald.wait();
        }
    }
}

#[derive(Debug)]
struct Report {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Report {
    fn of(command: &mut Command) -> Report {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Report { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The lines that begin with this word.
    #[track_caller]
    fn said(&self, word: &str) -> Vec<&str> {
        self.out.lines().filter_map(|line| line.strip_prefix(word)).collect()
    }

    /// One error, with these words.
    #[track_caller]
    fn finds(&self, words: &str) {
        let errors = self.said("error: ");
        assert_eq!((self.code, errors.len()), (Some(1), 1), "{self:#?}");
        assert!(errors[0].contains(words), "{errors:?} {words}");
        assert!(self.said("proved: ").is_empty(), "{self:#?}");
    }

    #[track_caller]
    fn fails(&self, words: &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:#?}");
        assert!(self.err.starts_with("sigsh-admin: error: ") && self.err.contains(words), "{self:#?}");
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n').collect()
}

fn joined(lines: &[&[u8]]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect()
}

#[test]
fn a_signature_has_two_lines_and_each_record_their_hashes() {
    let own = Own::new();
    let outcome = own.sign();
    let signature = outcome.signature();
    let bytes = own.bytes();
    let lines = lines(&bytes);
    let [init, intent, signed] = own.lines().try_into().unwrap();
    assert_eq!([init.seq, intent.seq, signed.seq], [1, 2, 3]);
    assert_eq!([init.prev, intent.prev, signed.prev], [[0; 32], hash(lines[0]), hash(lines[1])]);
    assert_eq!([init.event(), intent.event(), signed.event()], ["init", "intent", "signed"]);
    assert_eq!(signed.field("signature_sha256"), hex::encode(Sha256::digest(signature)));
    for ((line, bytes), record) in [(intent, lines[1]), (signed, lines[2])].iter().zip(&outcome.records) {
        assert_eq!(
            (field(record, "SIGSH_SEQ"), field(record, "SIGSH_LEDGER")),
            (line.seq.to_string().as_str(), hex::encode(hash(bytes)).as_str())
        );
        // Whatever the journal knows, the ledger knows, by the same names.
        let facts =
            record.as_object().unwrap().iter().filter_map(|(name, value)| Some((name.strip_prefix("SIGSH_")?, value.as_str()?)));
        let facts = facts.filter(|(name, _)| !["SEQ", "LEDGER"].contains(name)).collect::<Vec<_>>();
        assert!(facts.len() > 10, "{facts:?}");
        for (name, value) in facts {
            assert_eq!(line.field(&name.to_lowercase()), value, "{name}");
        }
        assert_eq!(
            serde_json::from_slice::<serde_json::Map<_, _>>(bytes).unwrap().len(),
            3 + record.as_object().unwrap().keys().filter(|name| name.starts_with("SIGSH_")).count() - 2
        );
        let time = humantime::parse_rfc3339(line.time()).unwrap();
        assert!(time.elapsed().unwrap_or_default() < Duration::from_secs(60));
    }
    let report = own.verify(&[]);
    assert_eq!((report.code, report.said("ok: ").len(), report.said("warning: ").len()), (Some(0), 1, 0), "{report:#?}");
}

#[test]
fn refusals_do_not_fill_it_and_what_was_begun_has_an_end() {
    let own = Own::new();
    let before = own.bytes();
    for (request, code) in [("sign nobody", 77), ("rm", 64), ("sign ed25519 --size 1", 65)] {
        let outcome = Session::new(&own.config).client("build1").request(request).run(b"artifact");
        assert_eq!(outcome.code, Some(code), "{outcome:#?}");
        assert_eq!(field(outcome.records.last().unwrap(), "SIGSH_SEQ"), "");
    }
    assert_eq!(own.bytes(), before);
    // After the intent: a certificate of another key.
    let other = fs::read_to_string(&own.config).unwrap().replace("/etc/sigsh/ed25519.pgp", "/etc/sigsh/rsa2048.pgp");
    fs::write(own.directory.join("other.toml"), other).unwrap();
    let outcome = Session::new(own.directory.join("other.toml")).client("build1").request("sign ed25519").run(b"artifact");
    assert_eq!(outcome.code, Some(78), "{outcome:#?}");
    let events = own.lines().iter().map(|line| line.event().to_owned()).collect::<Vec<_>>();
    assert_eq!(events, ["init", "intent", "refused"]);
    let last = own.lines().pop().unwrap();
    assert_eq!((last.field("code"), last.field("reason")), ("78", field(&outcome.records[1], "SIGSH_REASON")));
    // Nobody takes the signature.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut child = own.session().command.stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"artifact").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(74));
    let events = own.lines().iter().skip(3).map(|line| line.event().to_owned()).collect::<Vec<_>>();
    assert_eq!(events, ["intent", "signed", "failed"]);
    assert_eq!(own.lines().pop().unwrap().field("reason"), "undelivered: ENOSPC: No space left on device");
    assert_eq!(own.verify(&[]).said("warning: "), [""; 0]);
}

#[test]
fn without_a_ledger_only_where_the_operator_says_so() {
    world();
    let config = changed(&[(JOURNAL, &format!("{JOURNAL}\nledger = false"))]);
    let outcome = Session::new(&config).client("build1").request("sign ed25519").run(b"artifact");
    outcome.signature();
    assert!(outcome.records.iter().all(|record| record.get("SIGSH_SEQ").is_none()));
    let report = Report::of(Command::new("sigsh-admin").arg("--config").arg(&config).args(["ledger", "init"]));
    report.fails("the configuration says that there is no ledger");
}

/// What can be wrong with it, as a session sees it: exit code, and the reason in the journal.
#[test]
fn nothing_is_signed_where_it_is_not_as_it_must_be() {
    type Flaw = (i32, &'static str, fn(&Own));
    let flaws: [Flaw; 17] = [
        (74, "there is no ledger {}: 'sigsh-admin ledger init' makes it", |own| {
            fs::rename(&own.ledger, own.directory.join("away")).unwrap()
        }),
        (74, "the ledger has no record to go on from", |own| own.rewrite(b"")),
        (74, "the ledger was cut off: it ends before line 3", |own| {
            let bytes = own.bytes();
            own.rewrite(&joined(&lines(&bytes)[..2]));
        }),
        (74, "the ledger was cut off: it ends before line 3", |own| {
            let bytes = own.bytes();
            own.rewrite(&bytes[..bytes.len() - 1]);
        }),
        (74, "the ledger was edited: line 3 is not the one that was written: it was changed", |own| {
            let text = String::from_utf8(own.bytes()).unwrap();
            own.rewrite(text.replacen("build1", "build2", 4).as_bytes());
        }),
        (
            74,
            "the ledger was edited: line 4 is not the one that was written: its prev is not the hash of the line before it",
            |own| {
                let line = Line::new(4, [7; 32], SystemTime::now(), [("event", "intent")]).unwrap().1;
                own.append(&joined(&[&line]));
            },
        ),
        (74, "the ledger was edited: line 4 is not the one that was written: its seq is 5, and its place is 4", |own| {
            let line = Line::new(5, last(own).1, SystemTime::now(), [("event", "intent")]).unwrap().1;
            own.append(&joined(&[&line]));
        }),
        // Without the head the last records must at least agree with each other.
        (
            74,
            "the ledger was edited: line 3 is not the one that was written: its prev is not the hash of the line before it",
            |own| {
                let text = String::from_utf8(own.bytes()).unwrap();
                own.rewrite(text.replacen("build1", "build2", 1).as_bytes());
                fs::remove_file(&own.lock).unwrap();
            },
        ),
        (74, "the ledger has grown by more than a MiB since line 3, the last one known to be on the disk", |own| {
            own.append(&vec![b'x'; 1 << 21])
        }),
        (74, "the clock says ", |own| {
            let line = Line::new(4, last(own).1, SystemTime::now() + Duration::from_secs(3600), [("event", "intent")]).unwrap().1;
            own.append(&joined(&[&line]));
        }),
        (75, "the ledger's file was ended by 'sigsh-admin ledger rotate'", |own| {
            let line = Line::new(4, last(own).1, SystemTime::now(), [("event", "rotate")]).unwrap().1;
            own.append(&joined(&[&line]));
        }),
        (78, "{} is a symbolic link", |own| {
            fs::rename(&own.ledger, own.directory.join("away")).unwrap();
            symlink(own.directory.join("away"), &own.ledger).unwrap();
        }),
        (78, "{} has another name, too (a hard link)", |own| fs::hard_link(&own.ledger, own.directory.join("other")).unwrap()),
        (78, "{} belongs to user 65534; it must belong to the user that sigsh runs as", |own| {
            mode(&own.ledger, 0o660);
            chown(&own.ledger, Some(65534), None).unwrap();
        }),
        (78, "cannot open {}: permission denied", |own| chown(&own.ledger, Some(0), Some(0)).unwrap()),
        (78, "{} is writable by group or others (mode 660)", |own| mode(&own.ledger, 0o660)),
        (78, "{parent} is writable by group or others (mode 777)", |own| mode(own.ledger.parent().unwrap(), 0o1777)),
    ];
    for (code, reason, spoil) in flaws {
        let own = Own::new();
        own.signs();
        succeed(Command::new("chattr").arg("-a").arg(&own.ledger));
        spoil(&own);
        let (line, event) = match code {
            74 => (UNRECORDED, "failed"),
            75 => ("the ledger was just rotated", "refused"),
            _ => (NOT_SET_UP, "refused"),
        };
        let reason = reason.replace("{parent}", own.ledger.parent().unwrap().to_str().unwrap());
        own.refuses(code, line, event, &reason.replace("{}", own.ledger.to_str().unwrap()));
    }
}

/// Place and hash of the last line.
fn last(own: &Own) -> (u64, [u8; 32]) {
    let bytes = own.bytes();
    let lines = lines(&bytes);
    (lines.len() as u64, hash(lines[lines.len() - 1]))
}

#[test]
fn a_pipe_or_a_directory_in_its_place() {
    let own = Own::new();
    succeed(Command::new("chattr").arg("-a").arg(&own.ledger));
    fs::remove_file(&own.ledger).unwrap();
    succeed(Command::new("mkfifo").arg(&own.ledger));
    chown(&own.ledger, Some(account().0), None).unwrap();
    // Nobody reads it.
    own.refuses(74, UNRECORDED, "failed", "cannot open the ledger");
    fs::remove_file(&own.ledger).unwrap();
    fs::create_dir(&own.ledger).unwrap();
    chown(&own.ledger, Some(account().0), None).unwrap();
    own.refuses(74, UNRECORDED, "failed", "is a directory");
}

#[test]
fn who_holds_the_lock_delays_and_who_locks_the_ledger_does_not() {
    let own = Own::new();
    let reader = File::open(&own.ledger).unwrap();
    reader.lock().unwrap();
    own.signs();
    let holder = File::open(&own.lock).unwrap();
    holder.lock().unwrap();
    own.refuses(74, UNRECORDED, "failed", "the ledger's lock in the state directory: other sessions kept it locked");
    // As soon as it is given up, those who wait go on.
    let child = own.session().start();
    thread::sleep(Duration::from_millis(500));
    drop(holder);
    assert_eq!(finish_child(child, b"artifact").code, Some(0));
    own.verify(&[]);
}

/// A small file system of its own for the ledger.
fn mounted(own: &Own, size: &str) {
    let directory = own.ledger.parent().unwrap();
    succeed(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("mode=0755,size={size}"), "tmpfs"]).arg(directory));
}

#[test]
fn a_full_disk() {
    let own = Own::bare("/run/systemd/journal/socket");
    mounted(&own, "16k");
    own.init();
    let mut signed = 0;
    let refused = loop {
        fs::write(&own.count, "").unwrap();
        let outcome = own.sign();
        if outcome.code == Some(0) {
            signed += 1;
            assert!(signed < 100);
            continue;
        }
        break outcome;
    };
    assert!(signed > 5, "{signed}");
    refused.fails(74, UNRECORDED, "failed", "cannot write to the ledger: ");
    let reason = field(refused.records.last().unwrap(), "SIGSH_REASON");
    assert!(reason.contains("No space left on device") || reason.contains("bytes"), "{reason}");
    // Whatever was appended, no signature left that has not both of its lines.
    let text = String::from_utf8(own.bytes()).unwrap();
    assert_eq!(text.matches("\"event\":\"signed\"").count(), signed);
    // The next one finds it full before it has asked anybody.
    own.refuses(74, UNRECORDED, "failed", "cannot write to the ledger: ");
    // With room again all goes on; what was torn stays, and is named.
    succeed(Command::new("mount").args(["-o", "remount,size=1m"]).arg(own.ledger.parent().unwrap()));
    own.signs();
    let report = own.verify(&[]);
    assert_eq!(report.code, Some(0), "{report:#?}");
    succeed(Command::new("umount").arg(own.ledger.parent().unwrap()));
}

#[test]
fn a_file_system_that_is_read_only() {
    let own = Own::bare("/run/systemd/journal/socket");
    mounted(&own, "1m");
    own.init();
    own.signs();
    succeed(Command::new("mount").args(["-o", "remount,ro"]).arg(own.ledger.parent().unwrap()));
    own.refuses(74, UNRECORDED, "failed", "cannot open the ledger");
    succeed(Command::new("mount").args(["-o", "remount,rw"]).arg(own.ledger.parent().unwrap()));
    own.signs();
    succeed(Command::new("umount").arg(own.ledger.parent().unwrap()));
}

#[test]
fn what_a_crash_leaves_stays_and_counts() {
    let own = Own::new();
    let crashes: [(&[u8], bool); 6] = [
        (b"{\"client\":\"build1\",\"ev", true),
        (b"{\"client\":\"bu", false),
        (&[0; 700], false),
        (b"\n", false),
        (b"\xff\xfe\n\n{}\n", false),
        (&[b'y'; 20_000], true),
    ];
    let mut torn = 0;
    for (bytes, forget) in crashes {
        own.signs();
        own.append(bytes);
        torn += lines(bytes).len();
        if forget {
            // A power failure may leave a head that is no head.
            fs::write(&own.lock, [b'7'; 256]).unwrap();
        }
        own.signs();
        let report = own.verify(&[]);
        let warnings = report.said("warning: ");
        assert_eq!((report.code, warnings.len()), (Some(0), torn + 1), "{report:#?}");
        assert_eq!(warnings[torn], format!("{torn} lines are torn, as a crash or a full disk leaves them"));
    }
    let warnings = own.verify(&[]);
    let first = format!("{}:4: line 4 is torn: no record, but a part of the chain", own.ledger.display());
    assert_eq!(warnings.said("warning: ")[0], first);
    // A record without its newline is a record.
    let line =
        Line::new(last(&own).0 + 1, last(&own).1, SystemTime::now(), [("event", "intent"), ("session", "killed")]).unwrap().1;
    own.append(&line);
    own.signs();
    let report = own.verify(&[]);
    assert!(report.said("warning: ").contains(&"1 intents have no end: their sessions were killed, or run still"), "{report:#?}");
}

/// Both verifiers on many variants of one file: `None` when it is good, else the number of the first bad line; with and without the
/// head of the original.
fn opinions(variants: &[Vec<u8>], head: (u64, [u8; 32])) -> Vec<[Option<u64>; 2]> {
    opinions_of_files(variants, usize::MAX, head)
}

/// The same where a second file begins after this many bytes. Its lines are counted from 1001.
fn opinions_of_files(variants: &[Vec<u8>], split: usize, head: (u64, [u8; 32])) -> Vec<[Option<u64>; 2]> {
    const PYTHON: &str = "import os, sys; sys.path.insert(0, 'tests'); sys.stdout, out = open('/dev/null', 'w'), sys.stdout\n\
        import ledger; d, n, head = sys.argv[1], int(sys.argv[2]), (int(sys.argv[3]), sys.argv[4])\n\
        for i in range(n):\n    files = [f for f in (f'{d}/{i}', f'{d}/{i}+') if os.path.exists(f)]\n\
        \x20   print(*(ledger.verify(files, h) for h in (None, head)), sep='\\t', file=out)";
    let directory = scratch();
    let path = |number: usize| format!("{directory}/{number}");
    let files = |variant: &'_ Vec<u8>| match variant.split_at_checked(split) {
        Some((first, second)) => (first.to_vec(), Some(second.to_vec())),
        None => (variant.clone(), None),
    };
    for (number, variant) in variants.iter().enumerate() {
        let (first, second) = files(variant);
        fs::write(path(number), first).unwrap();
        if let Some(second) = second {
            fs::write(path(number) + "+", second).unwrap();
        }
    }
    let mut python = Command::new("python3");
    python.env("PYTHONDONTWRITEBYTECODE", "1").args(["-c", PYTHON, &directory, &variants.len().to_string()]);
    let output = succeed(python.args([head.0.to_string(), hex::encode(head.1)]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), variants.len());
    let theirs = text.lines().enumerate().map(|(number, line)| {
        let line_of = |rest: &str| rest.split_once(':').unwrap().0.parse::<u64>().unwrap();
        let parse = |text: &str| match text.strip_prefix(&path(number)) {
            None if text == "None" => None,
            None => Some(0),
            Some(rest) => Some(rest.strip_prefix(':').map_or_else(|| 1000 + line_of(&rest[2..]), line_of)),
        };
        let (alone, anchored) = line.split_once('\t').unwrap();
        [parse(alone), parse(anchored)]
    });
    let ours = variants.iter().map(|variant| {
        let (mut met, mut walk) = (Some(0), Walk::default());
        let (first, second) = files(variant);
        let outcomes = [Some(first), second].into_iter().flatten().zip([0, 1000]).map(|(file, before)| {
            let outcome = walk.file(&file[..], |seen| {
                if seen.seq == head.0 {
                    met = (seen.hash != head.1).then_some(before + seen.number);
                }
            });
            match outcome {
                Ok(()) => None,
                Err(WalkError::Line(number, _)) => Some(before + number),
                Err(WalkError::Read(error)) => panic!("{error}"),
            }
        });
        let alone = outcomes.fold(None, Option::or);
        // What breaks the chain is named, even where the head would break later.
        [alone, alone.or(met)]
    });
    let both = theirs.zip(ours).enumerate();
    let opinions = both.map(|(number, (theirs, ours))| {
        let differ =
            [0, 1].into_iter().find(|which| theirs[*which] != ours[*which] && (theirs[*which].is_none() || ours[*which].is_none()));
        assert_eq!(differ, None, "{number}: {theirs:?} {ours:?} {:?}", String::from_utf8_lossy(&variants[number]));
        assert_eq!(theirs[0], ours[0], "{number}: {:?}", String::from_utf8_lossy(&variants[number]));
        ours
    });
    opinions.collect()
}

/// A small ledger: each line of these fields, chained.
fn small(events: &[&[(&str, &str)]]) -> Vec<u8> {
    let (mut bytes, mut prev) = (Vec::new(), [0; 32]);
    for (seq, fields) in (1..).zip(events) {
        let line = Line::new(seq, prev, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seq), fields.iter().copied())
            .unwrap()
            .1;
        prev = hash(&line);
        bytes.extend([&line[..], b"\n"].concat());
    }
    bytes
}

const EVENTS: [&[(&str, &str)]; 5] = [
    &[("event", "init")],
    &[("event", "intent"), ("session", "a"), ("name", "x\"\\\t\u{1}ü")],
    &[("event", "intent"), ("session", "b")],
    &[("event", "signed"), ("session", "b")],
    &[("event", "signed"), ("session", "a")],
];

fn head_of(bytes: &[u8]) -> (u64, [u8; 32]) {
    let lines = lines(bytes);
    (lines.len() as u64, hash(lines[lines.len() - 1]))
}

#[test]
fn two_verifiers_agree_on_every_flipped_bit() {
    world();
    let good = small(&EVENTS);
    assert_eq!(opinions(std::slice::from_ref(&good), head_of(&good)), [[None, None]]);
    let flips = (0..good.len() * 8).map(|bit| {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    let flips = flips.collect::<Vec<_>>();
    let last_line = good.len() - lines(&good)[4].len() - 1;
    let opinions = opinions(&flips, head_of(&good));
    let mut unseen = 0;
    for (bit, [alone, anchored]) in opinions.iter().enumerate() {
        // But for the newline at the very end, without which the last line is the same.
        assert!(anchored.is_some() || bit / 8 == good.len() - 1, "{bit}");
        // Without the newline before it, it is torn, and so is the one before.
        assert!(alone.is_some() || bit / 8 >= last_line - 1, "{bit}");
        unseen += usize::from(alone.is_none());
    }
    // Nothing comes after the last line: what changes there shows only against a head.
    assert!(unseen > 100, "{unseen}");
}

#[test]
fn two_verifiers_agree_on_rotated_files() {
    world();
    let events: [&[(&str, &str)]; 7] =
        [EVENTS[0], EVENTS[2], EVENTS[3], &[("event", "rotate")], &[("event", "continue"), ("file", "f-4")], EVENTS[2], EVENTS[3]];
    let good = small(&events);
    let (head, split) = (head_of(&good), joined(&lines(&good)[..4]).len());
    assert_eq!(opinions_of_files(std::slice::from_ref(&good), split, head), [[None, None]]);
    let flips = (0..good.len()).map(|byte| {
        let mut bytes = good.clone();
        bytes[byte] ^= 1 << (byte % 8);
        bytes
    });
    let last_line = good.len() - lines(&good)[6].len() - 2;
    // At the end of a file a newline is not needed.
    let ends = [split - 1, good.len() - 1];
    for (byte, [alone, anchored]) in opinions_of_files(&flips.collect::<Vec<_>>(), split, head).iter().enumerate() {
        assert!(anchored.is_some() || ends.contains(&byte), "{byte}");
        assert!(alone.is_some() || byte >= last_line || ends.contains(&byte), "{byte}");
    }
    // Cut between any two lines but the right two, no chain is left.
    for count in 1..7 {
        let at = joined(&lines(&good)[..count]).len();
        let [[alone, _]] = opinions_of_files(std::slice::from_ref(&good), at, head)[..] else { panic!() };
        assert_eq!(alone.is_none(), count == 4, "{count}");
    }
    let [[alone, _]] = opinions(std::slice::from_ref(&good), head)[..] else { panic!() };
    assert_eq!(alone, Some(5));
}

#[test]
fn two_verifiers_agree_on_every_other_change() {
    world();
    let good = small(&EVENTS);
    let head = head_of(&good);
    let all = lines(&good);
    let without = |n: usize| joined(&[&all[..n], &all[n + 1..]].concat());
    let twice = |n: usize| joined(&[&all[..=n], &all[n..]].concat());
    let swapped = |n: usize| {
        let mut lines = all.clone();
        lines.swap(n, n + 1);
        joined(&lines)
    };
    let verdicts = |variants: Vec<Vec<u8>>| opinions(&variants, head);
    // The last line taken out is a cut tail: only the head knows.
    let [.., cut] = &verdicts((0..5).map(without).collect())[..] else { panic!() };
    assert_eq!(*cut, [None, Some(0)]);
    for [alone, anchored] in verdicts((0..4).map(without).collect()) {
        assert!(alone.is_some() && anchored.is_some());
    }
    for [alone, _] in verdicts((0..5).map(twice).chain((0..4).map(swapped)).collect()) {
        assert!(alone.is_some());
    }
    // Cut anywhere: what is left is torn, or whole; and never what the head knows. A file that does not even hold its first line is none.
    let first = all[0].len();
    for (length, [alone, anchored]) in
        verdicts((0..good.len() - 1).map(|length| good[..length].to_vec()).collect()).iter().enumerate()
    {
        assert_eq!((alone.is_none(), anchored.is_some()), (length >= first, true), "{length}");
    }
    // Every hash made anew after a change: consistent with itself, and only the head knows.
    let mut events = EVENTS;
    events[1] = &[("event", "intent"), ("session", "a"), ("name", "other")];
    assert_eq!(verdicts(vec![small(&events)]), [[None, Some(5)]]);
    // What no writer writes.
    let wrong: [&[&[(&str, &str)]]; 6] = [
        &[EVENTS[1]],
        &[EVENTS[0], EVENTS[0]],
        &[EVENTS[0], EVENTS[4]],
        &[EVENTS[0], EVENTS[1], EVENTS[4], EVENTS[4]],
        &[EVENTS[0], &[("event", "rotate")], EVENTS[1]],
        &[EVENTS[0], &[("event", "continue")]],
    ];
    let numbers = wrong.map(|events| verdicts(vec![small(events)])[0][0]);
    assert_eq!(numbers, [1, 2, 2, 4, 3, 2].map(Some));
    let mut late = small(&EVENTS[..1]);
    let line = Line::new(2, hash(lines(&late)[0]), SystemTime::UNIX_EPOCH, [("event", "intent")]).unwrap().1;
    late.extend(joined(&[&line]));
    assert_eq!(verdicts(vec![late]), [[Some(2), Some(2)]]);
}

#[test]
fn verify_says_what_is_proved() {
    let own = Own::with_journald("ledger-verify");
    own.signs();
    let (first, hash) = (own.head(), hex::encode(last(&own).1));
    assert_eq!(first, format!("3:{hash}"));
    own.signs();
    let good = own.bytes();
    let journal = || {
        succeed(Command::new("journalctl").args(["--namespace=ledger-verify", "--sync"]));
        own.verify(&["--journal"])
    };

    let report = own.verify(&[]);
    let chain = format!("lines 1 to 5, the last of {}, are one chain", own.lines()[4].time());
    assert_eq!(
        report.out,
        format!(
            "ok: {chain}\nproved: the lines are consistent with each other, and no more than that\n\
             not proved: that nothing was rewritten or cut off. Who can write the file could have made it all up:\n            \
             compare with the journal (--journal) or with a head kept on another host (--head)\n"
        )
    );
    let report = own.verify(&["--head", &first]);
    let words = "up to line 3 nothing was rewritten or cut off, if whoever kept this head is to be believed";
    assert_eq!((report.code, report.said("proved: ")), (Some(0), vec![words]), "{report:#?}");
    assert_eq!(report.said("not proved: "), ["that nothing behind line 3 was rewritten or cut off"]);
    let report = journal();
    let words = "up to line 5 nothing was rewritten or cut off, if the journal is to be believed";
    assert_eq!((report.code, report.said("proved: ")), (Some(0), vec![words]), "{report:#?}");
    assert_eq!(report.said("ok: "), [&chain[..], "the journal knows 4 of these lines by the same hashes"]);
    assert_eq!(report.said("warning: "), [""; 0]);

    // Made anew from the second line on, all hashes right: alone it looks good.
    let mut forged = joined(&lines(&good)[..1]);
    for line in &lines(&good)[1..] {
        let before = lines(&forged).pop().unwrap();
        let text = String::from_utf8(line.to_vec()).unwrap().replace("build1", "build2");
        let prev = text.split_once("\"prev\":\"").unwrap().1[..64].to_owned();
        let text = text.replace(&prev, &hex::encode(sigsh::audit::ledger::line::hash(before)));
        forged.extend(joined(&[text.as_bytes()]));
    }
    own.rewrite(&forged);
    assert_eq!(own.verify(&[]).code, Some(0));
    own.verify(&["--head", &first]).finds(":3: line 3 is not the one of the head: it was rewritten");
    let report = journal();
    assert_eq!((report.code, report.said("error: ").len()), (Some(1), 4), "{report:#?}");
    assert!(report.out.contains(":2: line 2 is not the one that the journal knows"), "{report:#?}");
    // Cut off.
    own.rewrite(&joined(&lines(&good)[..2]));
    assert_eq!(own.verify(&[]).code, Some(0));
    own.verify(&["--head", &first]).finds("line 3 of the head is missing: the lines are 1 to 2");
    journal().finds("3 lines that the journal knows are missing, the first of them 3");
    // Edited.
    own.rewrite(&String::from_utf8(good.clone()).unwrap().replacen("build1", "build2", 1).into_bytes());
    own.verify(&[]).finds(&format!("{}:3: its prev is not the hash of the line before it", own.ledger.display()));
    // A line that the journal never saw is no proof of anything.
    own.rewrite(&good);
    let line = Line::new(6, last(&own).1, SystemTime::now(), [("event", "intent"), ("session", "x")]).unwrap().1;
    own.append(&joined(&[&line]));
    let warnings = journal();
    assert_eq!(warnings.code, Some(0));
    assert!(warnings.said("warning: ")[1].starts_with("1 lines of sessions have no record in the journal"), "{warnings:#?}");
    for wrong in ["3", "3:", "3:zz", "x:00"] {
        assert_eq!(own.admin(&["ledger", "verify", "--head", wrong]).code, Some(2));
    }
}

/// Where the attribute of `chattr +a` is shown.
fn attributes(path: &Path) -> String {
    String::from_utf8(succeed(Command::new("lsattr").arg(path)).stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn init_makes_what_the_account_can_only_lengthen() {
    let own = Own::bare("/run/systemd/journal/socket");
    own.admin(&["ledger", "head"]).fails("there is no ledger");
    own.admin(&["ledger", "rotate"]).fails("there is no ledger");
    let report = own.admin(&["ledger", "init"]);
    let path = own.ledger.display();
    let next = "next: keep 'sigsh-admin ledger head' on another host, daily say: see sigsh-admin(8)";
    assert_eq!(report.out, format!("made {path}\n{path} can only grow (chattr +a)\n{next}\n"));
    let meta = fs::metadata(&own.ledger).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (account().0, account().1, 0o640));
    assert!(attributes(&own.ledger).contains('a'));
    let lock = fs::metadata(&own.lock).unwrap();
    assert_eq!((lock.uid(), lock.mode() & 0o777), (account().0, 0o600));
    // Neither the account nor root can do more than append.
    for user in [as_account("sh"), Command::new("sh")] {
        for command in ["echo x > $1", "echo x 1<> $1", "truncate -s 0 $1", "rm -f $1", "mv $1 $1.x", "ln $1 $1.y"] {
            let mut user = clone(&user);
            assert!(
                !user.args(["-c", command, "-"]).arg(&own.ledger).stderr(Stdio::null()).status().unwrap().success(),
                "{command}"
            );
        }
    }
    let before = own.bytes();
    let again = own.admin(&["ledger", "init"]);
    again.fails(&format!("{path} exists already, and a ledger is never overwritten"));
    assert_eq!(own.bytes(), before);
    own.signs();
    // A new one in place of one that was moved away: the old head does not count.
    succeed(Command::new("chattr").arg("-a").arg(&own.ledger));
    fs::rename(&own.ledger, own.directory.join("away")).unwrap();
    own.init();
    own.signs();
    assert_eq!((own.lines().len(), own.verify(&[]).code), (3, Some(0)));

    let absent = Own::bare("/run/systemd/journal/socket");
    fs::remove_dir(absent.ledger.parent().unwrap()).unwrap();
    absent.admin(&["ledger", "init"]).fails("no such file or directory");
}

fn clone(command: &Command) -> Command {
    let mut other = Command::new(command.get_program());
    other.args(command.get_args());
    other
}

#[test]
fn rotation_continues_the_chain() {
    let own = Own::with_journald("ledger-rotate");
    own.signs();
    let head = own.head();
    let waiting = own.session().start();
    // Its ledger is open.
    patient(|| fs::read_dir(format!("/proc/{}/fd", waiting.id())).is_ok_and(|fds| fds.count() >= 9));
    let report = own.admin(&["ledger", "rotate"]);
    assert_eq!((report.code, report.err.as_str()), (Some(0), ""), "{report:?}");
    let [old, new] = own.files().try_into().unwrap();
    let [init, _, _, rotate] =
        lines(&fs::read(&old).unwrap()).iter().map(|line| Line::parse(line).unwrap()).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((init.event(), rotate.event(), rotate.seq), ("init", "rotate", 4));
    let name = format!("ledger.jsonl-{}-4", &rotate.time()[..10]);
    assert_eq!(old, own.ledger.with_file_name(&name));
    let first = own.lines().remove(0);
    assert_eq!((first.event(), first.seq, first.field("file")), ("continue", 5, name.as_str()));
    for file in [&old, &new] {
        let meta = fs::metadata(file).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o777, meta.nlink()), (account().0, 0o640, 1));
        assert!(attributes(file).contains('a'), "{file:?}");
    }
    // What was under way is told to come again; it signs nothing.
    let outcome = finish_child(waiting, b"artifact");
    assert_eq!((outcome.code, outcome.out.len()), (Some(75), 0), "{outcome:#?}");
    assert_eq!(outcome.err, "sigsh: error: the ledger was just rotated\nsigsh: hint: try again\n");
    own.signs();
    assert_eq!(own.admin(&["ledger", "rotate"]).code, Some(0));
    own.signs();
    assert_eq!(own.files().len(), 3);
    succeed(Command::new("journalctl").args(["--namespace=ledger-rotate", "--sync"]));
    let report = own.verify(&["--journal"]);
    assert_eq!((report.code, report.said("error: ").len()), (Some(0), 0), "{report:#?}");
    assert!(report.said("ok: ")[1].starts_with("the journal knows 6 of these lines"), "{report:#?}");
    assert_eq!(own.verify(&["--head", &head]).code, Some(0));
    // The older ones elsewhere: what is here can be verified, and what is not here is named.
    let files = own.files();
    let report = own.admin(&["ledger", "verify", files[1].to_str().unwrap(), files[2].to_str().unwrap()]);
    assert_eq!(
        (report.code, report.said("warning: ")),
        (Some(0), vec!["4 lines stand before the first of these files, and were not looked at"])
    );
    // In the wrong order, one missing, one twice: no chain.
    for wrong in [[1, 0], [0, 2], [0, 0]] {
        let [first, second] = wrong.map(|n| files[n].to_str().unwrap());
        let report = own.admin(&["ledger", "verify", first, second]);
        assert_eq!((report.code, report.said("error: ").len()), (Some(1), 1), "{report:#?}");
        let python = Report::of(Command::new("python3").args(["tests/ledger.py", first, second]));
        assert_eq!(python.code, Some(1), "{python:?}");
    }
    // An account that runs away with it changes nothing: where files lie is enough.
    let mut auditor = Command::new("setpriv");
    let copies = files.iter().map(|file| {
        let copy = format!("{}/{}", scratch(), file.file_name().unwrap().to_str().unwrap());
        fs::copy(file, &copy).unwrap();
        mode(Path::new(&copy), 0o644);
        copy
    });
    auditor.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "sigsh-admin",
        "--config",
        "/nowhere",
        "ledger",
        "verify",
    ]);
    let report = Report::of(auditor.args(copies.collect::<Vec<_>>()));
    assert_eq!((report.code, report.said("ok: ").len()), (Some(0), 1), "{report:?}");
}

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

#[test]
fn show_finds_what_was_signed() {
    let own = Own::new();
    own.signs();
    Session::new(&own.config).client("limited").request("sign ed25519 --name 'evil name'").run(b"other");
    let all = own.admin(&["ledger", "show"]);
    let rows = all.out.lines().collect::<Vec<_>>();
    assert_eq!((all.code, rows.len()), (Some(0), 6), "{all:#?}");
    assert_eq!(rows[0], "    SEQ TIME                EVENT    CLIENT       KEY          DIGEST       WHAT");
    let digest = hex::encode(sha2::Sha512::digest(b"other"));
    let time = own.lines()[4].time()[..19].replace('T', " ");
    assert_eq!(rows[5], format!("      5 {time} signed   limited      ed25519      {}… evil%20name", &digest[..11]));
    assert!(rows.iter().all(|row| row.chars().count() <= 100));
    let shown = |arguments: &[&str]| {
        let report = own.admin(&[&["ledger", "show", "--json"], arguments].concat());
        assert_eq!((report.code, report.err.as_str()), (Some(0), ""), "{report:#?}");
        let seqs = report.out.lines().map(|line| Line::parse(line.as_bytes()).unwrap().seq);
        seqs.collect::<Vec<_>>()
    };
    let signature = own.lines()[4].field("signature_sha256").to_owned();
    assert_eq!(shown(&[]), [1, 2, 3, 4, 5]);
    assert_eq!(shown(&["--client", "limited"]), [4, 5]);
    assert_eq!(shown(&["--key", "ed25519", "--event", "signed"]), [3, 5]);
    assert_eq!(shown(&["--key", "nobody"]), [0; 0]);
    assert_eq!(shown(&["--digest", &format!("sha512:{digest}")]), [4, 5]);
    assert_eq!(shown(&["--digest", &signature[..16].to_uppercase()]), [5]);
    assert_eq!(shown(&["--since", "2020-01-01", "--until", "2099-01-01 10:00:00"]), [1, 2, 3, 4, 5]);
    assert_eq!(shown(&["--since", own.lines()[3].time()]), [4, 5]);
    assert_eq!(shown(&["--until", own.lines()[3].time()]), [1, 2, 3]);
    for wrong in [["--since", "soon"], ["--digest", "xyz"]] {
        assert_eq!(own.admin(&[&["ledger", "show"], &wrong[..]].concat()).code, Some(2));
    }
    // What stands in a file that somebody has edited does not reach the terminal; and a broken chain is told.
    let line = Line::new(6, last(&own).1, SystemTime::now(), [("event", "x\u{1b}[2J\u{9b}"), ("reason", "ü")]).unwrap().1;
    own.append(&joined(&[&line, b"torn\x1b", &line]));
    let report = own.admin(&["ledger", "show"]);
    let [.., row, torn] = &report.out.lines().collect::<Vec<_>>()[..] else { panic!("{report:#?}") };
    assert_eq!(*torn, "      7 (torn: no record, but a part of the chain)");
    assert!(row.ends_with(" ?") && row.contains(" x?[2J? "), "{row}");
    assert!(!report.out.contains(['\u{1b}', '\u{9b}']));
    assert_eq!(
        (report.code, report.err),
        (Some(1), format!("sigsh-admin: error: {}:8: its seq is 6, and its place is 8\n", own.ledger.display()))
    );
}

#[test]
fn check_looks_at_the_ledger() {
    let own = Own::new();
    let sshd = "/srv/world/sshd_config";
    let findings = || {
        let report = own.admin(&["check", "--sshd-config", sshd]);
        let about = |word: &str| {
            report.said(word).into_iter().filter(|line| line.starts_with("ledger")).map(str::to_owned).collect::<Vec<_>>()
        };
        ["ok: ", "warning: ", "error: "].map(about)
    };
    let path = format!("ledger {}: ", own.ledger.display());
    let [ok, warning, error] = findings();
    assert_eq!(
        (ok, warning.len(), error.len()),
        (vec![format!("{path}goes on behind line 1, of {}", own.lines()[0].time())], 0, 0)
    );
    succeed(Command::new("chattr").arg("-a").arg(&own.ledger));
    chown(own.ledger.parent().unwrap(), Some(account().0), None).unwrap();
    own.admin(&["ledger", "rotate"]).fails("belongs to user");
    let [_, warning, _] = findings();
    assert_eq!(warning.len(), 2, "{warning:?}");
    assert!(warning[0].contains("its lines can be changed") && warning[1].contains("its directory does not belong to root"));
    chown(own.ledger.parent().unwrap(), Some(0), None).unwrap();
    let holder = File::open(&own.lock).unwrap();
    holder.lock().unwrap();
    assert_eq!(findings()[2], [format!("{path}the ledger's lock in the state directory: other sessions kept it locked")]);
    drop(holder);
    own.append(&joined(&[&Line::new(2, last(&own).1, SystemTime::now(), [("event", "rotate")]).unwrap().1]));
    assert_eq!(findings()[2], [format!("{path}a rotation was interrupted; 'sigsh-admin ledger rotate' finishes it")]);
    assert_eq!(own.admin(&["ledger", "rotate"]).code, Some(0));
    assert_eq!(findings()[2], [""; 0]);
    own.rewrite(b"{}\n");
    assert_eq!(findings()[2], [format!("{path}the ledger was cut off: it ends before line 3")]);
    fs::rename(&own.ledger, own.directory.join("away")).unwrap();
    assert_eq!(findings()[2], [format!("{path}there is no ledger {}: 'sigsh-admin ledger init' makes it", own.ledger.display())]);
    let text = fs::read_to_string(&own.config).unwrap();
    fs::write(&own.config, text.replace("ledger = \"", "ledger = false # \"")).unwrap();
    let [_, warning, error] = findings();
    assert_eq!((warning.len(), error.len()), (1, 0));
    assert!(warning[0].starts_with("ledger: there is none (ledger = false)"), "{warning:?}");
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
        child.stdin.take().unwrap().write_all(b"artifact").unwrap();
        let (monitor, target) = (child.id(), turn % 3);
        let process = || {
            let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap_or_default();
            let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let wanted = ["", "sigsh-hasher\n", "sigsh-token\n"][target];
            children.split_whitespace().find(|pid| name(pid) == wanted).map(str::to_owned)
        };
        let mut pid = (target == 0).then(|| monitor.to_string());
        let began = Instant::now();
        while pid.is_none() && began.elapsed() < Duration::from_micros(life) {
            pid = process();
        }
        // The hasher lives shorter than the token process, and this one than the monitor.
        thread::sleep(Duration::from_micros(random(life / [1, 8, 2][target])));
        if let Some(pid) = pid {
            let killed =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), nix::sys::signal::Signal::SIGKILL);
            hit[target] += usize::from(killed.is_ok());
        }
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => released.push(output.stdout),
            // It may have been killed after the last byte has left.
            _ if !output.stdout.is_empty() => released.push(output.stdout),
            // By SIGKILL, or by what its child's death looks like to it.
            code => assert!([None, Some(69), Some(70), Some(65)].contains(&code), "{output:?}"),
        }
        if turn % 10 == 9 {
            own.signs();
        }
    }
    assert!(hit.iter().all(|hits| *hits > number / 10), "{hit:?}");
    for signature in &released[..released.len().min(200)] {
        verify("ed25519", signature, b"artifact");
    }
    succeed(Command::new("journalctl").args([&format!("--namespace={name}"), "--sync"]));
    let journal =
        succeed(Command::new("journalctl").args([&format!("--namespace={name}"), "-q", "-o", "json", "SIGSH_EVENT=signed"]));
    let journal = String::from_utf8(journal.stdout).unwrap();
    let bytes = own.bytes();
    let lines = lines(&bytes).into_iter().filter_map(Line::parse).collect::<Vec<_>>();
    for signature in &released {
        let digest = hex::encode(Sha256::digest(signature));
        let signed = lines.iter().find(|line| line.field("signature_sha256") == digest).unwrap();
        assert!(lines.iter().any(|line| line.event() == "intent" && line.field("session") == signed.field("session")));
        assert!(journal.contains(&digest));
    }
    let report = own.verify(&["--journal"]);
    assert_eq!((report.code, report.said("error: ").len()), (Some(0), 0), "{report:#?}");
    assert_eq!(own.verify(&[]).code, Some(0));
    own.signs();
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
            let outcome = quiet(child, b"artifact");
            if !outcome.out.is_empty() {
                released += 1;
                let digest = hex::encode(Sha256::digest(&outcome.out));
                let shown = own.admin(&["ledger", "show", "--event", "signed", "--digest", &digest]);
                // Ed25519 makes the same signature twice in a second.
                assert!(shown.out.lines().count() >= 2, "{call} {when}: {shown:#?}");
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

/// The two commands of the man page, with another host that is this one.
#[test]
fn heads_are_kept_as_the_manual_says() {
    let page = fs::read_to_string("docs/man/sigsh-admin.8.md").unwrap();
    let section = page.split_once("# KEEPING HEADS").unwrap().1.split_once("# EXIT").unwrap().0;
    let mut commands = section.lines().filter_map(|line| line.strip_prefix("    "));
    let keep = commands.next().unwrap().strip_prefix("0 * * * * root ").unwrap();
    let (verify, directory) = (commands.next().unwrap(), scratch());
    let own = Own::new();
    fs::write(format!("{directory}/ssh"), "#!/bin/sh\n[ \"$1\" = witness@audit.example.org ] && exec sh -c \"$2\"\n").unwrap();
    let admin = format!("#!/bin/sh\nexec /usr/bin/sigsh-admin --config {} \"$@\"\n", own.config.display());
    fs::write(format!("{directory}/sigsh-admin"), admin).unwrap();
    for name in ["ssh", "sigsh-admin"] {
        mode(&Path::new(&directory).join(name), 0o755);
    }
    let run = |command: &str| {
        let path = format!("{directory}:/usr/bin:/bin");
        Report::of(Command::new("sh").args(["-c", command]).env("PATH", path).current_dir(&directory))
    };
    for _ in 0..2 {
        own.signs();
        assert_eq!(run(keep).code, Some(0));
    }
    let report = run(verify);
    assert_eq!((report.code, report.said("proved: up to line ").len()), (Some(0), 1), "{report:#?}");
    own.rewrite(&joined(&lines(&own.bytes())[..4]));
    run(verify).finds("line 5 of the head is missing");
}
