//! No signature without its records, and records that say what happened.

use crate::world::{
    Outcome, Session, account, calls, changed, faulty, field, fingerprint, finish_child, patient, records, scratch, succeed,
    verify, world,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use openpgp::Packet;
use openpgp::parse::Parse;
use sequoia_openpgp as openpgp;
use serde_json::Value;
use sha2::Digest;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const JOURNAL: &str = "journal = \"/run/systemd/journal/socket\"";
const UNRECORDED: &str = "the journal cannot record this, so nothing is signed";

/// Generous: two records may wait for two seconds each.
const BOUND: Duration = Duration::from_secs(60);

fn session(config: &Path) -> Session {
    Session::new(config).client("build1").request("sign ed25519")
}

fn events(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| field(record, "SIGSH_EVENT")).collect()
}

/// A socket in journald's place, which takes what fits its queue.
struct Listener {
    socket: UnixDatagram,
    path: String,
}

impl Listener {
    fn new() -> Listener {
        let path = format!("{}/journal", scratch());
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        Listener { socket, path }
    }

    fn faulty(&self, fault: &str) -> (std::path::PathBuf, std::path::PathBuf) {
        faulty(fault, &[(JOURNAL, &format!("journal = \"{}\"", self.path))])
    }

    /// Fills the queue with what the tests do not look for.
    fn fill(&self) {
        fill(&self.path);
    }

    fn take(&self) -> Option<String> {
        let mut buffer = [0; 8192];
        self.socket.recv(&mut buffer).ok().map(|length| String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// The events of sigsh in the queue.
    fn events(&self) -> Vec<String> {
        let event = |record: String| Some(record.lines().find_map(|line| line.strip_prefix("SIGSH_EVENT="))?.to_owned());
        std::iter::from_fn(|| self.take()).filter_map(event).collect()
    }
}

/// Sends until nothing fits. One sender's own buffer may be full before the queue is; so the next one tries.
pub fn fill(socket: &str) {
    loop {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        sender.connect(socket).unwrap();
        if sender.send(b"MESSAGE=x\n").is_err() {
            return;
        }
        while sender.send(b"MESSAGE=x\n").is_ok() {}
    }
}

/// Runs a session that writes its records elsewhere.
fn run(child: Child) -> Outcome {
    let outcome = finish_child(child, b"artifact");
    assert!(outcome.took < BOUND, "{outcome:?}");
    outcome
}

#[test]
fn without_a_journal_nothing_is_read() {
    world();
    let nobody_listens = Listener::new().path;
    let file = format!("{}/file", scratch());
    fs::write(&file, "").unwrap();
    for path in ["/run/absent/socket", &file, &nobody_listens] {
        let (config, count) = faulty("", &[(JOURNAL, &format!("journal = \"{path}\""))]);
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"artifact").unwrap();
        let mut command = session(&config).command;
        let began = Instant::now();
        // The writing end stays open.
        let output = command.stdin(reader.try_clone().unwrap()).output().unwrap();
        assert!(began.elapsed() < BOUND);
        let err = String::from_utf8(output.stderr).unwrap();
        let outcome = Outcome { code: output.status.code(), out: output.stdout, err, records: vec![], took: began.elapsed() };
        outcome.fails_quietly(74, UNRECORDED);
        assert_eq!(fs::read(&count).unwrap(), b"");
        drop((command, writer));
        let mut unread = Vec::new();
        reader.read_to_end(&mut unread).unwrap();
        assert_eq!(unread, b"artifact");
    }
}

#[test]
fn a_journal_whose_queue_is_full() {
    world();
    let listener = Listener::new();
    let (config, count) = listener.faulty("");
    listener.fill();
    run(session(&config).start()).fails_quietly(74, UNRECORDED);
    assert_eq!((calls(&count, "C_Login"), calls(&count, "C_SignInit")), (0, 0));
    assert_eq!(listener.events(), [""; 0]);
    // It is the queue and nothing else: with room in it the same session signs.
    let outcome = run(session(&config).start());
    verify("ed25519", &outcome.out, b"artifact");
    assert_eq!(listener.events(), ["intent", "signed"]);
}

#[test]
fn a_journal_that_takes_the_intent_and_no_more() {
    world();
    let listener = Listener::new();
    let (config, count) = listener.faulty("");
    listener.fill();
    listener.take().unwrap();
    run(session(&config).start()).fails_quietly(74, UNRECORDED);
    // It was signed, but nobody has it.
    assert_eq!((calls(&count, "C_SignInit"), listener.events()), (1, vec!["intent".to_owned()]));
}

#[test]
fn a_journal_that_goes_away() {
    world();
    let listener = Listener::new();
    let (config, count) = listener.faulty("");
    let mut child = session(&config).start();
    child.stdin.as_mut().unwrap().write_all(b"arti").unwrap();
    patient(|| calls(&count, "C_Initialize") == 1);
    drop(listener);
    run(child).fails_quietly(74, UNRECORDED);
    assert_eq!((calls(&count, "C_Login"), calls(&count, "C_SignInit")), (0, 0));
}

#[test]
fn a_real_journald_that_is_stopped() {
    world();
    let mut journald = Command::new("/lib/systemd/systemd-journald");
    let mut journald = journald.arg("second").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(journald.id() as i32);
    let socket = "/run/systemd/journal.second/socket";
    patient(|| Path::new(socket).exists());
    let config = changed(&[(JOURNAL, &format!("journal = \"{socket}\""))]);
    let recorded = |event: &str| {
        let mut journalctl = Command::new("journalctl");
        journalctl.args(["-q", "--namespace=second", "-t", "sigsh", "-o", "json", &format!("SIGSH_EVENT={event}")]);
        succeed(&mut journalctl).stdout.iter().filter(|byte| **byte == b'\n').count()
    };

    let mut released = 0;
    let mut sign = || {
        let outcome = run(session(&config).start());
        match outcome.code {
            Some(0) => released += 1,
            _ => outcome.fails_quietly(74, UNRECORDED),
        }
        outcome.code
    };
    assert_eq!(sign(), Some(0));
    patient(|| recorded("signed") == 1);

    kill(pid, Signal::SIGSTOP).unwrap();
    // The kernel's queue takes a few records more; they are not lost, and so their signatures may leave.
    sign();
    fill(socket);
    assert_eq!(sign(), Some(74));
    kill(pid, Signal::SIGCONT).unwrap();
    assert_eq!(sign(), Some(0));
    patient(|| recorded("signed") == released);
    assert!(recorded("intent") >= released);
    journald.kill().unwrap();
    journald.wait().unwrap();
}

#[test]
fn every_field_is_there_and_right() {
    world();
    let directory = scratch();
    let (file, data) = (format!("{directory}/pkg"), b"what was built\n");
    fs::write(&file, data).unwrap();
    let digest = String::from_utf8(succeed(Command::new("sha512sum").arg(&file)).stdout).unwrap();
    let digest = digest.split(' ').next().unwrap();
    let request = format!("sign rsa2048 --name 'a b%' --size {} --digest sha512:{digest}", data.len());
    let outcome = world().session("build1", &request).run(data);
    let Packet::Signature(signature) = Packet::from_bytes(outcome.signature()).unwrap() else { panic!("{outcome:?}") };
    let created = humantime::format_rfc3339_seconds(signature.signature_creation_time().unwrap()).to_string();
    let signature_sha256 = hex::encode(sha2::Sha256::digest(&outcome.out));
    let issuer = signature.issuer_fingerprints().next().unwrap().to_hex();
    let uid = account().0.to_string();
    let [intent, signed] = &outcome.records[..] else { panic!("{outcome:#?}") };

    let both = [
        ("SYSLOG_IDENTIFIER", "sigsh"),
        ("PRIORITY", "6"),
        ("SIGSH_SESSION", field(intent, "SIGSH_SESSION")),
        ("SIGSH_CLIENT", "build1"),
        ("SIGSH_SSH_KEY", &fingerprint("build1")),
        ("SIGSH_PEER", "192.0.2.1:4000"),
        ("SIGSH_KEY", "rsa2048"),
        ("SIGSH_FINGERPRINT", &issuer),
        ("SIGSH_MODE", "artifact"),
        ("SIGSH_NAME", "a%20b%25"),
        ("SIGSH_SIZE", "15"),
        ("SIGSH_SHA512", digest),
        ("SIGSH_DATE", &created),
        ("_UID", &uid),
        ("_COMM", "sigsh"),
    ];
    for record in [intent, signed] {
        for (name, value) in both {
            assert_eq!(field(record, name), value, "{name} in {record:#}");
        }
        assert!(
            field(record, "SIGSH_SESSION").len() == 32 && field(record, "SIGSH_SESSION").bytes().all(|b| b.is_ascii_hexdigit())
        );
        assert!(record.get("SIGSH_SHA256").is_none() && record.get("SIGSH_CODE").is_none() && record.get("SIGSH_REASON").is_none());
    }
    assert_eq!(field(signed, "SIGSH_SIGNATURE_SHA256"), signature_sha256);
    assert!(intent.get("SIGSH_SIGNATURE_SHA256").is_none());
    assert_eq!(field(intent, "MESSAGE"), "asking the token to sign for client build1 with key rsa2048");
    assert_eq!(field(signed, "MESSAGE"), "signed an artifact of 15 bytes for client build1 with key rsa2048");
    let ids = [intent, signed].map(|record| field(record, "MESSAGE_ID"));
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() == 32), "{ids:?}");
}

#[test]
fn the_digest_is_recorded_by_the_key_s_hash() {
    world();
    for (hash, tool, name) in [("sha256", "sha256sum", "SIGSH_SHA256"), ("sha384", "sha384sum", "SIGSH_SHA384")] {
        let certificate = "certificate = \"/etc/sigsh/rsa2048.pgp\"\n";
        let config = changed(&[(certificate, &format!("{certificate}hash = \"{hash}\"\n"))]);
        let outcome = Session::new(&config).client("build1").request("sign rsa2048").run(b"artifact");
        verify("rsa2048", outcome.signature(), b"artifact");
        let file = format!("{}/file", scratch());
        fs::write(&file, b"artifact").unwrap();
        let sum = String::from_utf8(succeed(Command::new(tool).arg(&file)).stdout).unwrap();
        for record in &outcome.records {
            assert_eq!(field(record, name), sum.split(' ').next().unwrap());
            assert!(record.get("SIGSH_SHA512").is_none());
        }
    }
}

#[test]
fn what_fails_and_what_is_refused_is_told_apart() {
    let failed = world().session("build1", "sign ed25519 --size 9").run(b"artifact");
    failed.fails(65, "the input has 8 bytes, not the declared number", "failed", "8 bytes");
    let refused = world().session("limited", "sign rsa2048").run(b"artifact");
    refused.fails(77, "key not permitted", "refused", "key not permitted");
    for (outcome, priority, code) in [(&failed, "3", "65"), (&refused, "4", "77")] {
        let [record] = &outcome.records[..] else { panic!("{outcome:#?}") };
        assert_eq!((field(record, "PRIORITY"), field(record, "SIGSH_CODE")), (priority, code));
        let date = humantime::parse_rfc3339(field(record, "SIGSH_DATE")).unwrap();
        assert!(date.elapsed().unwrap_or_default() < Duration::from_secs(600));
        assert!(record.get("SIGSH_SIGNATURE_SHA256").is_none());
    }
    assert_ne!(field(&failed.records[0], "SIGSH_SESSION"), field(&refused.records[0], "SIGSH_SESSION"));
}

/// Runs a session with a standard output of the test's own.
fn onto(config: &Path, stdout: Stdio) -> Outcome {
    let mut command = session(config).command;
    let mut child = command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    // Our own copies of its descriptors would keep them open.
    drop(command);
    let _ = child.stdin.take().unwrap().write_all(b"artifact");
    ended(child)
}

fn ended(child: Child) -> Outcome {
    let (pid, began) = (child.id(), Instant::now());
    let output = child.wait_with_output().unwrap();
    assert!(began.elapsed() < BOUND);
    let err = String::from_utf8(output.stderr).unwrap();
    Outcome { code: output.status.code(), out: output.stdout, err, records: records(&format!("_PID={pid}")), took: began.elapsed() }
}

#[test]
fn nobody_reads_standard_output() {
    world();
    let (config, count) = faulty("", &[]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let outcome = onto(&config, writer.into());
    outcome.fails(65, "the client has gone away", "failed", "the reader of standard output is gone");
    assert_eq!(events(&outcome.records), ["failed"]);
    assert_eq!((calls(&count, "C_Login"), calls(&count, "C_SignInit")), (0, 0));

    let (config, count) = faulty("", &[]);
    onto(&config, Stdio::null()).fails(74, "standard output is closed", "failed", "closed, or is /dev/null");
    assert_eq!(calls(&count, "C_Initialize"), 0);
}

#[test]
fn a_signature_that_is_not_taken_is_recorded_as_undelivered() {
    world();
    let (config, count) = faulty("", &[]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let outcome = onto(&config, full.into());
    outcome.fails(74, "cannot write to standard output", "failed", "undelivered: ENOSPC");
    assert_eq!((events(&outcome.records), calls(&count, "C_SignInit")), (vec!["intent", "signed", "failed"], 1));

    // The client leaves while the token signs.
    let (config, count) = faulty("wait-sign", &[]);
    let mut child = session(&config).start();
    child.stdin.take().unwrap().write_all(b"artifact").unwrap();
    patient(|| calls(&count, "C_SignInit") == 1);
    drop(child.stdout.take());
    fs::remove_file(count.with_file_name("target")).unwrap();
    let outcome = ended(child);
    outcome.fails(74, "cannot write to standard output", "failed", "undelivered: EPIPE");
    assert_eq!(events(&outcome.records), ["intent", "signed", "failed"]);
}

#[test]
fn a_client_that_never_reads_does_not_hold_its_session_for_ever() {
    world();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    // As much as a pipe holds (pipe(7)).
    writer.write_all(&[0; 65536]).unwrap();
    let outcome = onto(&faulty("", &[]).0, writer.into());
    outcome.fails(74, "cannot write to standard output", "failed", "undelivered: ETIMEDOUT");
    assert_eq!(events(&outcome.records), ["intent", "signed", "failed"]);
}
