//! The ledger: no signature without its lines, and no line that could be changed, taken out or cut off without anybody seeing it.

use crate::world::{
    Outcome, Session, account, as_account, calls, changed, faulty, field, finish_child, patient, scratch, succeed, world,
};
use sha2::{Digest, Sha256};
use sigsh::audit::ledger::line::{Line, hash};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

const UNRECORDED: &str = "the ledger cannot record this, so nothing is signed";
const NOT_SET_UP: &str = "sigsh is not set up properly on this host";
const JOURNAL: &str = "journal = \"/run/systemd/journal/socket\"";

/// A ledger of its own, in a directory of root's, with a state directory and a token module of its own.
pub struct Own {
    pub config: PathBuf,
    pub count: PathBuf,
    pub directory: PathBuf,
    pub ledger: PathBuf,
    pub lock: PathBuf,
    pub journald: Option<Child>,
}

impl Own {
    pub fn new() -> Own {
        let own = Own::bare("/run/systemd/journal/socket");
        own.init();
        own
    }

    /// Not yet initialised.
    pub fn bare(socket: &str) -> Own {
        Own::faulty(socket, "", &[])
    }

    /// Not yet initialised, with a fault of the module's and further changes of the configuration.
    pub fn faulty(socket: &str, fault: &str, more: &[(&str, &str)]) -> Own {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        world();
        let directory = PathBuf::from(format!("/var/lib/sigsh-ledger/{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let (state, ledger) = (directory.join("state"), directory.join("books/ledger.jsonl"));
        fs::create_dir_all(&state).unwrap();
        fs::create_dir_all(ledger.parent().unwrap()).unwrap();
        chown(&state, Some(account().0), Some(account().1)).unwrap();
        mode(&state, 0o700);
        let audit = format!("journal = \"{socket}\"\nledger = \"{}\"\nstate = \"{}\"", ledger.display(), state.display());
        let (config, count) = faulty(fault, &[&[(JOURNAL, audit.as_str())], more].concat());
        Own { config, count, lock: state.join("ledger.lock"), directory, ledger, journald: None }
    }

    /// With a journald that has no records but this ledger's.
    pub fn with_journald(name: &str) -> Own {
        Own::with_journald_and(name, &[])
    }

    /// The same with further changes of the configuration.
    pub fn with_journald_and(name: &str, more: &[(&str, &str)]) -> Own {
        let keep = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nRateLimitBurst=0\nRuntimeMaxUse=1G\n";
        fs::write(format!("/etc/systemd/journald@{name}.conf"), keep).unwrap();
        let mut journald = Command::new("/lib/systemd/systemd-journald");
        let null = || Stdio::null();
        let child = journald.arg(name).stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
        let socket = format!("/run/systemd/journal.{name}/socket");
        patient(|| Path::new(&socket).exists());
        let mut own = Own::faulty(&socket, "", more);
        own.journald = Some(child);
        own.init();
        own
    }

    pub fn init(&self) {
        let report = self.admin(&["ledger", "init"]);
        assert_eq!((report.code, report.err.as_str()), (Some(0), ""), "{report:?}");
    }

    pub fn admin(&self, arguments: &[&str]) -> Report {
        let mut command = Command::new("sigsh-admin");
        Report::of(command.arg("--config").arg(&self.config).args(arguments))
    }

    pub fn session(&self) -> Session {
        Session::new(&self.config).client("build1").request("sign ed25519 --name f")
    }

    pub fn sign(&self) -> Outcome {
        self.session().run(b"artifact")
    }

    #[track_caller]
    pub fn signs(&self) {
        let outcome = self.sign();
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    }

    /// Nothing is signed, nobody asked the token to, and the journal says why.
    #[track_caller]
    pub fn refuses(&self, code: i32, line: &str, event: &str, reason: &str) {
        fs::write(&self.count, "").unwrap();
        let outcome = self.sign();
        outcome.fails(code, line, event, reason);
        let last = outcome.records.last().unwrap();
        assert_eq!((field(last, "SIGSH_SEQ"), field(last, "SIGSH_LEDGER")), ("", ""));
        assert_eq!((calls(&self.count, "C_Login"), calls(&self.count, "C_SignInit")), (0, 0), "{outcome:#?}");
        assert!(outcome.took < Duration::from_secs(60), "{outcome:#?}");
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.ledger).unwrap()
    }

    pub fn lines(&self) -> Vec<Line> {
        lines(&self.bytes()).into_iter().map(|line| Line::parse(line).unwrap()).collect()
    }

    /// Writes the whole file anew, as only root can.
    pub fn rewrite(&self, bytes: &[u8]) {
        succeed(Command::new("chattr").arg("-a").arg(&self.ledger));
        fs::write(&self.ledger, bytes).unwrap();
    }

    pub fn append(&self, bytes: &[u8]) {
        File::options().append(true).open(&self.ledger).unwrap().write_all(bytes).unwrap();
    }

    /// Both verifiers, which must be of one opinion; what sigsh's says.
    #[track_caller]
    pub fn verify(&self, arguments: &[&str]) -> Report {
        let report = self.admin(&[&["ledger", "verify"], arguments].concat());
        let files = self.files();
        let mut python = Command::new("python3");
        python.arg("tests/ledger.py");
        if let [.., "--head", head] = arguments {
            python.args(["--head", head]);
        }
        let other = Report::of(python.args(&files));
        if !arguments.contains(&"--journal") {
            // With files alone it does not know what sessions know.
            let files = files.iter().map(|file| file.to_str().unwrap()).collect::<Vec<_>>();
            let bare = self.admin(&[&["ledger", "verify"], arguments, &files].concat());
            assert_eq!(bare.code, other.code, "{bare:#?} {other:#?}");
        }
        report
    }

    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.ledger.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        let mut rotated = entries.filter(|path| path.to_str().unwrap().contains(".jsonl-")).collect::<Vec<_>>();
        rotated.sort_by_key(|path| path.to_str().unwrap().rsplit_once('-').unwrap().1.parse::<u64>().unwrap());
        rotated.push(self.ledger.clone());
        rotated
    }

    pub fn head(&self) -> String {
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
pub struct Report {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Report {
    pub fn of(command: &mut Command) -> Report {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Report { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The lines that begin with this word.
    #[track_caller]
    pub fn said(&self, word: &str) -> Vec<&str> {
        self.out.lines().filter_map(|line| line.strip_prefix(word)).collect()
    }

    /// One error, with these words.
    #[track_caller]
    pub fn finds(&self, words: &str) {
        let errors = self.said("error: ");
        assert_eq!((self.code, errors.len()), (Some(1), 1), "{self:#?}");
        assert!(errors[0].contains(words), "{errors:?} {words}");
        assert!(self.said("proved: ").is_empty(), "{self:#?}");
    }

    #[track_caller]
    pub fn fails(&self, words: &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:#?}");
        assert!(self.err.starts_with("sigsh-admin: error: ") && self.err.contains(words), "{self:#?}");
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n').collect()
}

pub fn joined(lines: &[&[u8]]) -> Vec<u8> {
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
        (74, "the ledger has no record to go on from", |own| own.append(&vec![b'x'; 1 << 25])),
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
pub fn mounted(own: &Own, size: &str) {
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
    let whole = text.lines().filter(|line| line.ends_with('}') && line.contains("\"event\":\"signed\""));
    assert_eq!(whole.count(), signed);
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
    assert!(
        report.said("warning: ").contains(&"1 intents have no end: their sessions were killed, run still, or could not write on"),
        "{report:#?}"
    );
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
    let words = "since the heads were kept, nothing up to their lines, the last of them 3, was rewritten or cut off";
    assert_eq!((report.code, report.said("proved: ")), (Some(0), vec![words]), "{report:#?}");
    assert_eq!(report.said("not proved: "), ["that nothing behind line 3 was rewritten or cut off"]);
    let report = journal();
    let words = "since the journal has records of them, no line up to 5 that it knows was rewritten or cut off";
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
    own.verify(&[]).finds("sessions are refused by it: the ledger was edited: line 5");
    own.verify(&["--head", &first]).finds(":3: line 3 is not the one of the head: it was rewritten");
    let report = journal();
    assert_eq!((report.code, report.said("error: ").len()), (Some(1), 4), "{report:#?}");
    assert!(report.out.contains(":2: line 2 is not the one that the journal knows"), "{report:#?}");
    // Cut off.
    own.rewrite(&joined(&lines(&good)[..2]));
    own.verify(&[]).finds("sessions are refused by it: the ledger was cut off: it ends before line 5");
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
pub fn attributes(path: &Path) -> String {
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

#[test]
fn show_finds_what_was_signed() {
    let own = Own::new();
    own.signs();
    Session::new(&own.config).client("limited").request("sign ed25519 --name 'evil name'").run(b"other");
    let all = own.admin(&["ledger", "show"]);
    let rows = all.out.lines().collect::<Vec<_>>();
    assert_eq!((all.code, rows.len()), (Some(0), 6), "{all:#?}");
    assert_eq!(rows[0], "    SEQ TIME                EVENT       CLIENT       KEY          DIGEST       WHAT");
    let digest = hex::encode(sha2::Sha512::digest(b"other"));
    let time = own.lines()[4].time()[..19].replace('T', " ");
    assert_eq!(rows[5], format!("      5 {time} signed      limited      ed25519      {}… evil%20name", &digest[..11]));
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
    assert_eq!((report.code, report.said("proved: since the heads").len()), (Some(0), 1), "{report:#?}");
    own.rewrite(&joined(&lines(&own.bytes())[..4]));
    run(verify).finds("line 5 of the head is missing");
}

/// What an operator has looked into need not stop the host for ever; what has happened stays to be seen.
#[test]
fn an_operator_can_go_on_from_what_is_there() {
    type Spoil = fn(&Own, &[u8]);
    let cut: Spoil = |own, good| own.rewrite(&joined(&lines(good)[..2]));
    let edited: Spoil = |own, good| own.rewrite(String::from_utf8_lossy(good).replacen("build1", "build2", 1).as_bytes());
    let hole: Spoil =
        |own, good| own.rewrite(&[&joined(&lines(good)[..2]), &[0; 500][..], b"\n", &joined(&lines(good)[3..])].concat());
    for (spoil, verdict) in [(cut, None), (edited, Some("its prev is not the hash")), (hole, Some("is not the hash"))] {
        let own = Own::new();
        own.signs();
        own.signs();
        let head = own.head();
        spoil(&own, &own.bytes());
        fs::write(&own.count, "").unwrap();
        if own.sign().code == Some(0) {
            // The edited line is behind the head, where no session looks.
            assert!(verdict.is_some());
        }
        let report = own.admin(&["ledger", "rotate", "--accept"]);
        assert_eq!((report.code, own.files().len()), (Some(0), 2), "{report:?}");
        own.signs();
        match verdict {
            None => assert_eq!(own.verify(&[]).code, Some(0)),
            Some(wrong) => own.verify(&[]).finds(wrong),
        }
        assert_eq!(own.verify(&["--head", &head]).code, Some(1));
    }
}

/// After a power failure, say: the ledger is ahead of its head by more than is looked at.
#[test]
fn a_head_that_lags_far_behind() {
    let own = Own::new();
    own.signs();
    let bytes = own.bytes();
    let mut last = lines(&bytes).last().unwrap().to_vec();
    let (mut seq, reason, mut more) = (own.lines().last().unwrap().seq, "x".repeat(700), vec![]);
    while more.len() < 3 << 20 {
        seq += 1;
        let fields = [("event", "failed"), ("reason", reason.as_str())];
        last = Line::new(seq, hash(&last), SystemTime::now(), fields).unwrap().1;
        more.extend_from_slice(&[&last[..], b"\n"].concat());
    }
    own.append(&more);
    for _ in 0..2 {
        own.signs();
    }
    assert_eq!(own.verify(&[]).code, Some(0));
    assert_eq!(own.lines().len() as u64, seq + 4);
}

/// A line like that of `rotate`, by who can append and no more, ends nothing.
#[test]
fn an_end_that_does_not_belong_there() {
    let own = Own::new();
    own.signs();
    let (line, bytes) = Line::new(4_000_000_000, [0; 32], SystemTime::now(), [("event", "rotate")]).unwrap();
    assert_eq!(line.event(), "rotate");
    own.append(&[&bytes[..], b"\n"].concat());
    own.refuses(74, UNRECORDED, "failed", "the ledger was edited: line 4 is not the one that was written");
    for command in ["rotate", "head"] {
        let report = own.admin(&["ledger", command]);
        assert_eq!((report.code, own.files().len()), (Some(1), 1), "{report:?}");
    }
    own.verify(&[]).finds(":4: its seq is 4000000000");
}
