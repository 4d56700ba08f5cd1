//! What a token can do wrong: whatever it is, nothing leaves, in bounded time, and the journal says why. And what comes before the
//! token is asked: an input that is not whole never gets that far.

use crate::world::{
    CONFIG, HOME, Outcome, PIN, PIN_FILE, Session, account, as_account, calls, changed, faulty, field, finish_child, patient,
    records, scratch, secret, succeed, verify, world,
};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SHORT: (&str, &str) = ("timeout = \"20s\"", "timeout = \"2s\"");
const URI: &str = "pkcs11:token=release";
const KEY_URI: &str = "pkcs11:object=ed25519;id=%07";
const CERTIFICATE: &str = "/etc/sigsh/ed25519.pgp";

const FAILED: &str = "the token failed";
const DIED: &str = "the token process failed";
const HUNG: &str = "the token did not answer in time";
const MISSING: &str = "the signing key is not in the token, or not alone";
const PIN_REFUSED: &str = "the token does not accept its PIN";
const WRONG: &str = "the token made a wrong signature";
const CERTIFICATE_BAD: &str = "the key's certificate cannot be used";
const NOT_SET_UP: &str = "sigsh is not set up properly on this host";

/// Generous: what takes seconds may take many on a busy machine, but nothing waits for ever.
const BOUND: Duration = Duration::from_secs(60);

fn session(config: &Path, key: &str) -> Session {
    let mut session = Session::new(config).client("build1").request(&format!("sign {key}"));
    session.command.process_group(0);
    session
}

/// Runs a session to its end, which leaves no process of it.
fn sign(config: &Path, key: &str) -> Outcome {
    ended(session(config, key).start(), b"artifact")
}

fn ended(child: Child, input: &[u8]) -> Outcome {
    let group = child.id();
    let outcome = finish_child(child, input);
    assert!(outcome.took < BOUND, "{outcome:?}");
    alone(group);
    outcome
}

/// The same with an input that does not end.
fn ended_without_input(mut child: Child) -> Outcome {
    let (pid, stdin, began) = (child.id(), child.stdin.take(), Instant::now());
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert!(began.elapsed() < BOUND);
    alone(pid);
    let err = String::from_utf8(output.stderr).unwrap();
    Outcome { code: output.status.code(), out: output.stdout, err, records: of(pid), took: began.elapsed() }
}

fn of(pid: u32) -> Vec<serde_json::Value> {
    records(&format!("_PID={pid}"))
}

/// The living processes of a group, by name.
pub fn group(group: u32) -> Vec<(i32, String)> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let Ok(stat) = fs::read_to_string(entry.unwrap().path().join("stat")) else { continue };
        let (Some((pid, rest)), Some((_, after))) = (stat.split_once(" ("), stat.rsplit_once(") ")) else { continue };
        let words = after.split(' ').collect::<Vec<_>>();
        if words[0] != "Z" && words[2] == group.to_string() {
            members.push((pid.parse().unwrap(), rest.rsplit_once(") ").unwrap().0.to_owned()));
        }
    }
    members.sort();
    members
}

pub fn alone(pid: u32) {
    patient(|| group(pid).is_empty());
}

/// Changes a text in a configuration, in its place.
fn edit(config: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(config).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    fs::write(config, text.replace(from, to)).unwrap();
}

/// A PIN file of a test's own.
fn pin_file(pin: &str) -> String {
    let path = format!("/etc/sigsh/{}.pin", scratch().rsplit('/').next().unwrap());
    secret(&path, pin);
    path
}

/// A copy of the host's SoftHSM store, and the changes of a configuration that uses it.
fn own_store() -> [(&'static str, String); 2] {
    let directory = format!("/var/lib/sigsh-test/{}", scratch().rsplit('/').next().unwrap());
    fs::create_dir_all(&directory).unwrap();
    let store = format!("{directory}/tokens");
    succeed(Command::new("cp").args(["-a", "/var/lib/sigsh/tokens", &store]));
    let conf = format!("{directory}/softhsm2.conf");
    fs::write(&conf, format!("directories.tokendir = {store}\nlog.level = ERROR\n")).unwrap();
    [("/etc/sigsh/softhsm2.conf", conf), ("/var/lib/sigsh/tokens", store)]
}

fn never_asked(count: &Path) {
    assert_eq!((calls(count, "C_Login"), calls(count, "C_SignInit"), calls(count, "C_Sign")), (0, 0, 0));
}

#[test]
fn the_counting_module_counts() {
    world();
    let (config, count) = faulty("", &[]);
    let outcome = sign(&config, "ed25519");
    verify("ed25519", outcome.signature(), b"artifact");
    for function in ["C_Initialize", "C_OpenSession", "C_Login", "C_SignInit", "C_Finalize"] {
        assert_eq!(calls(&count, function), 1, "{function}");
    }
}

#[test]
fn every_fault_is_a_failure() {
    world();
    // Fault, the client's line, the journal's reason, and how often the module was asked to log in and to sign.
    let table = [
        ("crash-load", DIED, "died: it was ended by SIG", 0, 0),
        ("fail-initialize", FAILED, "the module failed: C_Initialize returned CKR_GENERAL_ERROR", 0, 0),
        ("crash-initialize", DIED, "SIGSEGV", 0, 0),
        ("exit-initialize", DIED, "died: it left with code ", 0, 0),
        ("no-slots", MISSING, "selects 0 tokens instead of one", 0, 0),
        ("garbage-info", MISSING, "selects 0 tokens instead of one", 0, 0),
        ("pin-low", PIN_REFUSED, "its PIN was wrong before; it is not tried", 0, 0),
        ("pin-final", PIN_REFUSED, "one try of its PIN is left; it is not tried", 0, 0),
        ("pin-locked", PIN_REFUSED, "its PIN is locked; it is not tried", 0, 0),
        ("fail-login", FAILED, "the module failed: C_Login returned CKR_FUNCTION_FAILED", 1, 0),
        ("wrong-pin", PIN_REFUSED, "the PIN is wrong", 1, 0),
        ("removed", FAILED, "the module failed: C_SignInit returned CKR_DEVICE_REMOVED", 1, 1),
        ("fail-sign", FAILED, "the module failed: C_Sign returned CKR_FUNCTION_FAILED", 1, 1),
        ("crash-sign", DIED, "SIGSEGV", 1, 1),
        ("exit-sign", DIED, "died: it left with code ", 1, 1),
    ];
    for (fault, line, reason, logins, signatures) in table {
        let (config, count) = faulty(fault, &[]);
        sign(&config, "ed25519").fails(69, line, "failed", reason);
        assert_eq!((calls(&count, "C_Login"), calls(&count, "C_SignInit")), (logins, signatures), "{fault}");
    }
}

#[test]
fn what_hangs_is_killed() {
    world();
    std::thread::scope(|scope| {
        for (fault, logins) in [("hang-load", 0), ("hang-initialize", 0), ("hang-login", 1), ("hang-sign", 1)] {
            scope.spawn(move || {
                let (config, count) = faulty(fault, &[SHORT]);
                sign(&config, "ed25519").fails(69, HUNG, "failed", "did not answer within its timeout");
                assert_eq!(calls(&count, "C_Login"), logins, "{fault}");
            });
        }
        for fault in ["hang-load", "hang-initialize", "crash-load"] {
            scope.spawn(move || {
                // Whoever uploads for hours learns of it at once.
                let (config, _) = faulty(fault, &[SHORT]);
                let outcome = ended_without_input(session(&config, "ed25519").start());
                let (line, reason) = if fault == "crash-load" { (DIED, "died") } else { (HUNG, "timeout") };
                outcome.fails(69, line, "failed", reason);
            });
        }
    });
}

#[test]
fn what_happens_after_the_signature_harms_nobody() {
    world();
    for fault in ["hang-finalize", "crash-finalize"] {
        let (config, count) = faulty(fault, &[]);
        let outcome = sign(&config, "ed25519");
        verify("ed25519", outcome.signature(), b"artifact");
        assert_eq!(calls(&count, "C_Finalize"), 1, "{fault}");
    }
}

#[test]
fn a_wrong_signature_never_leaves() {
    world();
    for key in ["rsa2048", "nistp256", "ed25519"] {
        for (fault, line, reason) in [
            ("wrong-signature", WRONG, "the self-check failed"),
            ("zero-signature", WRONG, "the self-check failed"),
            ("short-signature", WRONG, "which is no signature by this kind of key"),
            ("empty-signature", WRONG, "the token returned 0 bytes"),
            ("long-signature", WRONG, "the token returned 4096 bytes"),
            ("other-digest", WRONG, "the self-check failed"),
        ] {
            let (config, count) = faulty(fault, &[]);
            let outcome = sign(&config, key);
            outcome.fails(69, line, "failed", reason);
            assert_eq!(calls(&count, "C_SignInit"), 1, "{fault}");
            assert_eq!(outcome.records.iter().map(|record| field(record, "SIGSH_EVENT")).collect::<Vec<_>>(), ["intent", "failed"]);
        }
    }
}

#[test]
fn what_a_module_prints_goes_nowhere() {
    world();
    let (config, _) = faulty("print", &[]);
    let outcome = sign(&config, "ed25519");
    verify("ed25519", outcome.signature(), b"artifact");
}

#[test]
fn modules_that_are_none() {
    world();
    let text = "/etc/sigsh/not-a-module.so";
    fs::write(text, "#!/bin/sh\n").unwrap();
    for (module, reason) in [
        ("/usr/lib/softhsm/absent.so", "cannot open /usr/lib/softhsm/absent.so: no such file"),
        (text, "the module failed: "),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "C_GetFunctionList"),
        ("/usr/lib/softhsm", "/usr/lib/softhsm is not a regular file"),
    ] {
        let config = changed(&[("/usr/lib/softhsm/libsofthsm2.so", module)]);
        let outcome = sign(&config, "ed25519");
        match outcome.code {
            Some(78) if reason.ends_with("regular file") => outcome.fails(78, NOT_SET_UP, "refused", reason),
            _ => outcome.fails(69, FAILED, "failed", reason),
        }
    }
}

#[test]
fn files_that_others_could_have_written_or_read() {
    world();
    let nobody = 65534;
    let secret = pin_file(PIN);
    let refused = |config: &Path, count: &Path, reason: &str| {
        sign(config, "ed25519").fails(78, NOT_SET_UP, "refused", reason);
        assert_eq!(calls(count, "C_Initialize"), 0);
    };
    let (config, count) = faulty("", &[(PIN_FILE, &secret)]);
    let module = count.with_file_name("module.so");
    sign(&config, "ed25519").signature();
    fs::write(&count, "").unwrap();

    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&config, &count, "is readable by others (mode 644)");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o660)).unwrap();
    refused(&config, &count, "is writable by group or others (mode 660)");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(&module, fs::Permissions::from_mode(0o775)).unwrap();
    refused(&config, &count, "is writable by group or others (mode 775)");
    fs::set_permissions(&module, fs::Permissions::from_mode(0o755)).unwrap();
    chown(&module, Some(nobody), None).unwrap();
    refused(&config, &count, "belongs to user 65534");
    chown(&module, Some(0), None).unwrap();
    chown(module.parent().unwrap(), Some(nobody), None).unwrap();
    refused(&config, &count, "belongs to user 65534");
    chown(module.parent().unwrap(), Some(0), None).unwrap();

    let state = format!("{}/state", module.parent().unwrap().display());
    fs::create_dir(&state).unwrap();
    chown(&state, Some(account().0), Some(account().1)).unwrap();
    edit(&config, "[audit]\n", &format!("[audit]\nledger = false\nstate = \"{state}\"\n"));
    refused(&config, &count, "is readable by others (mode 755)");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    sign(&config, "ed25519").signature();
}

#[test]
fn a_token_that_is_not_there_or_not_alone() {
    world();
    let absent = changed(&[(URI, "pkcs11:token=absent")]);
    sign(&absent, "ed25519").fails(69, MISSING, "failed", "the token's uri selects 0 tokens instead of one");

    let store = own_store();
    let mut init = as_account("softhsm2-util");
    init.args(["--init-token", "--free", "--label", "second", "--pin", PIN, "--so-pin", PIN]);
    succeed(init.env("SOFTHSM2_CONF", &store[0].1));
    let mut changes = store.each_ref().map(|(from, to)| (*from, to.as_str())).to_vec();
    let (alone, count) = faulty("", &changes);
    sign(&alone, "ed25519").signature();
    assert_eq!(calls(&count, "C_Login"), 1);
    changes.push((URI, "pkcs11:model=SoftHSM%20v2"));
    let (two, count) = faulty("", &changes);
    // Other tests may have made tokens before the store was copied.
    let tokens = fs::read_dir(&store[1].1).unwrap().count();
    assert!(tokens >= 2);
    sign(&two, "ed25519").fails(69, MISSING, "failed", &format!("the token's uri selects {tokens} tokens instead of one"));
    never_asked(&count);
}

#[test]
fn a_key_that_is_not_there_or_not_alone() {
    world();
    let absent = changed(&[(KEY_URI, "pkcs11:object=absent")]);
    sign(&absent, "ed25519").fails(69, MISSING, "failed", "the key's uri selects 0 private keys instead of one");

    let store = own_store();
    let changes = store.each_ref().map(|(from, to)| (*from, to.as_str()));
    let (config, count) = faulty("", &changes);
    edit(&config, KEY_URI, "pkcs11:object=ed25519;id=%77");
    succeed(Command::new("sigsh-admin").arg("--config").arg(&config).args([
        "key",
        "generate",
        "ed25519",
        "--algorithm",
        "ed25519",
    ]));
    edit(&config, "pkcs11:object=ed25519;id=%77", "pkcs11:object=ed25519");
    fs::write(&count, "").unwrap();
    sign(&config, "ed25519").fails(69, MISSING, "failed", "the key's uri selects 2 private keys instead of one");
    assert_eq!(calls(&count, "C_SignInit"), 0);
    edit(&config, "\"pkcs11:object=ed25519\"", &format!("\"{KEY_URI}\""));
    sign(&config, "ed25519").signature();
}

#[test]
fn the_certificate_of_another_key() {
    world();
    let other = gpg(&["ed25519", "sign", "0"], "--export");
    for (key, certificate, another) in [
        ("rsa2048", "/etc/sigsh/rsa2048.pgp", "/etc/sigsh/rsa3072.pgp"),
        ("ed25519", CERTIFICATE, "/etc/sigsh/nistp256.pgp"),
        ("ed25519", CERTIFICATE, &other),
    ] {
        let (config, count) = faulty("", &[]);
        edit(&config, &format!("certificate = \"{certificate}\""), &format!("certificate = \"{another}\""));
        let outcome = sign(&config, key);
        outcome.fails(78, CERTIFICATE_BAD, "refused", "the certificate is not that of the key in the token");
        assert_eq!(calls(&count, "C_SignInit"), 0);
    }
    // A token may keep its public keys to itself: then the signature shows it.
    let (config, count) = faulty("no-public", &[]);
    sign(&config, "ed25519").signature();
    edit(&config, &format!("\"{CERTIFICATE}\""), &format!("\"{other}\""));
    sign(&config, "ed25519").fails(69, WRONG, "failed", "the self-check failed");
    assert_eq!(calls(&count, "C_SignInit"), 2);
}

/// Makes a key with gpg and writes what it exports by `export` to a file, whose path it returns.
fn gpg(kind: &[&str], export: &str) -> String {
    let home = scratch();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let gpg = |arguments: &[&str]| {
        let mut command = Command::new("gpg");
        command.args(["--homedir", &home, "--quiet", "--batch", "--pinentry-mode", "loopback", "--passphrase", ""]);
        succeed(command.args(arguments)).stdout
    };
    gpg(&[&["--quick-generate-key", "Other <other@example.org>"], kind].concat());
    if export == "revoked" {
        let revocation = fs::read_dir(format!("{home}/openpgp-revocs.d")).unwrap().next().unwrap().unwrap().path();
        // A colon keeps gpg's own revocation from being imported by mistake.
        edit(&revocation, ":-----BEGIN", "-----BEGIN");
        gpg(&["--import", revocation.to_str().unwrap()]);
    }
    let bytes = gpg(&[if export == "revoked" { "--export" } else { export }]);
    assert!(!bytes.is_empty());
    let _ = Command::new("gpgconf").args(["--homedir", &home, "--kill", "all"]).status();
    let path = format!("/etc/sigsh/{}.pgp", home.rsplit('/').next().unwrap());
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn certificates_that_cannot_be_used() {
    world();
    let certificate = fs::read(CERTIFICATE).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = format!("/etc/sigsh/certificate-{name}.pgp");
        fs::write(&path, bytes).unwrap();
        path
    };
    let two = [&certificate[..], &fs::read("/etc/sigsh/nistp256.pgp").unwrap()].concat();
    for (path, reason) in [
        (file("empty", b""), "the certificate cannot be read"),
        (file("garbage", b"not a certificate\n"), "the certificate cannot be read"),
        (file("cut", &certificate[..certificate.len() / 2]), "the certificate "),
        (file("two", &two), "the certificate "),
        (gpg(&["ed25519", "sign", "0"], "--export-secret-keys"), "the certificate holds a secret key"),
        (gpg(&["ed25519", "cert", "0"], "--export"), "the certificate has no key that may sign"),
        (gpg(&["ed25519", "sign", "0"], "revoked"), "the certificate was revoked on 2"),
    ] {
        let (config, count) = faulty("", &[(CERTIFICATE, &path)]);
        let outcome = ended_without_input(session(&config, "ed25519").start());
        outcome.fails(78, CERTIFICATE_BAD, "refused", reason);
        assert_eq!(outcome.records.len(), 1);
        never_asked(&count);
    }
    let large = file("large", &vec![b'x'; (1 << 20) + 1]);
    for (path, reason) in [(large.as_str(), "it is larger than 1048576 bytes"), ("/etc/sigsh/absent.pgp", "no such file")] {
        let (config, count) = faulty("", &[(CERTIFICATE, path)]);
        ended_without_input(session(&config, "ed25519").start()).fails(78, NOT_SET_UP, "refused", reason);
        never_asked(&count);
    }
}

#[test]
fn an_expired_certificate() {
    world();
    let (config, count) = faulty("", &[(CERTIFICATE, "/etc/sigsh/expired.pgp")]);
    let mut create = Command::new("sigsh-admin");
    create.arg("--config").arg(&config).args(["certificate", "create", "ed25519", "--user-id", "Short <s@example.org>"]);
    succeed(create.args(["--expires", "1s"]));
    fs::write(&count, "").unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    sign(&config, "ed25519").fails(78, CERTIFICATE_BAD, "refused", "the certificate expired on 2");
    never_asked(&count);
}

#[test]
fn a_wrong_pin_is_tried_once() {
    world();
    for fault in ["", "wrong-pin"] {
        let pin = pin_file("4712");
        let (config, count) = faulty(fault, &[(PIN_FILE, &pin)]);
        sign(&config, "ed25519").fails(69, PIN_REFUSED, "failed", "the PIN is wrong");
        for key in ["ed25519", "rsa2048"] {
            sign(&config, key).fails(69, PIN_REFUSED, "failed", "it is not tried again");
        }
        assert_eq!(calls(&count, "C_Login"), 1);
        // Another wrong one: once more.
        secret(&pin, "4713\n");
        sign(&config, "ed25519").fails(69, PIN_REFUSED, "failed", "the PIN is wrong");
        sign(&config, "ed25519").fails(69, PIN_REFUSED, "failed", "it is not tried again");
        assert_eq!((calls(&count, "C_Login"), calls(&count, "C_SignInit")), (2, 0));
        if fault.is_empty() {
            secret(&pin, &format!("{PIN}\n"));
            sign(&config, "ed25519").signature();
            sign(&config, "ed25519").signature();
            assert_eq!(calls(&count, "C_Login"), 4);
        }
    }
}

#[test]
fn a_wrong_pin_is_tried_once_by_64_sessions() {
    world();
    let (config, count) = faulty("", &[(PIN_FILE, &pin_file("4712"))]);
    let sessions = (0..64).map(|_| session(&config, "ed25519").start()).collect::<Vec<_>>();
    let outcomes = sessions.into_iter().map(|child| finish_child(child, b"artifact")).collect::<Vec<_>>();
    let mut tried = 0;
    for outcome in outcomes {
        outcome.fails(69, PIN_REFUSED, "failed", "PIN");
        tried += usize::from(outcome.records.iter().any(|record| field(record, "SIGSH_REASON") == "the PIN is wrong"));
    }
    assert_eq!((tried, calls(&count, "C_Login")), (1, 1));
}

#[test]
fn pin_files_without_a_pin() {
    world();
    let long = "4".repeat(300);
    for pin in ["", "\n4711\n", &long] {
        let (config, count) = faulty("", &[(PIN_FILE, &pin_file(pin))]);
        sign(&config, "ed25519").fails(69, FAILED, "failed", "the PIN file holds no PIN on its first line");
        never_asked(&count);
    }
    let (config, count) = faulty("", &[(PIN_FILE, "/etc/sigsh/absent.pin")]);
    sign(&config, "ed25519").fails(69, FAILED, "failed", "cannot open /etc/sigsh/absent.pin");
    never_asked(&count);
}

/// Some tokens are vague about a wrong PIN: one that was never right is not tried again, one that was right is.
#[test]
fn a_login_that_fails_for_no_clear_reason() {
    world();
    let failure = "C_Login returned CKR_FUNCTION_FAILED";
    let (config, count) = faulty("fail-login", &[]);
    sign(&config, "ed25519").fails(69, FAILED, "failed", failure);
    edit(&config, "\"fail-login\"", "\"\"");
    sign(&config, "ed25519").fails(69, PIN_REFUSED, "failed", "its first use failed; it is not tried again");
    assert_eq!(calls(&count, "C_Login"), 1);

    let (config, count) = faulty("none", &[]);
    edit(&config, "\"none\"", "\"\"");
    sign(&config, "ed25519").signature();
    edit(&config, "MODULE_FAULT = \"\"", "MODULE_FAULT = \"fail-login\"");
    sign(&config, "ed25519").fails(69, FAILED, "failed", failure);
    edit(&config, "\"fail-login\"", "\"\"");
    sign(&config, "ed25519").signature();
    assert_eq!(calls(&count, "C_Login"), 3);
}

/// A token that says so without having been asked for the PIN has not shown that it is right.
#[test]
fn a_token_that_is_logged_in_already() {
    world();
    let (config, count) = faulty("C_Login=256", &[]);
    sign(&config, "ed25519").fails(69, MISSING, "failed", "the key's uri selects 0 private keys instead of one");
    edit(&config, "\"C_Login=256\"", "\"fail-login\"");
    sign(&config, "ed25519").fails(69, FAILED, "failed", "C_Login returned CKR_FUNCTION_FAILED");
    sign(&config, "ed25519").fails(69, PIN_REFUSED, "failed", "its first use failed; it is not tried again");
    assert_eq!(calls(&count, "C_Login"), 2);
}

/// What ends before the login has not sent the PIN, and spends no try of it.
#[test]
fn a_session_that_ends_before_its_login() {
    world();
    for (fault, line, reason) in [("no-slots", MISSING, "selects 0 tokens"), ("pin-low", PIN_REFUSED, "its PIN was wrong before")] {
        let (config, count) = faulty(fault, &[]);
        sign(&config, "ed25519").fails(69, line, "failed", reason);
        never_asked(&count);
        edit(&config, &format!("\"{fault}\""), "\"\"");
        sign(&config, "ed25519").signature();
        assert_eq!(calls(&count, "C_Login"), 1);
    }
}

/// Nobody knows what the token made of a PIN whose first login was cut off: it may have counted a wrong one, and the next could be the
/// last. So it is not tried again until the PIN file changes. A PIN that has been right before is tried again.
#[test]
fn a_session_killed_in_its_first_login() {
    world();
    let pin = pin_file(PIN);
    let (config, count) = faulty("hang-login", &[(PIN_FILE, &pin)]);
    let killed = |logins| {
        let mut child = session(&config, "ed25519").start();
        child.stdin.take().unwrap().write_all(b"artifact").unwrap();
        patient(|| calls(&count, "C_Login") == logins);
        killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (None, 0));
    };
    killed(1);
    edit(&config, "\"hang-login\"", "\"\"");
    sign(&config, "ed25519").fails(69, PIN_REFUSED, "failed", "its first use failed; it is not tried again");
    assert_eq!(calls(&count, "C_Login"), 1);
    secret(&pin, PIN);
    sign(&config, "ed25519").signature();
    edit(&config, "MODULE_FAULT = \"\"", "MODULE_FAULT = \"hang-login\"");
    killed(3);
    edit(&config, "\"hang-login\"", "\"\"");
    sign(&config, "ed25519").signature();
}

#[test]
fn a_busy_token() {
    world();
    let (config, count) = faulty("", &[SHORT]);
    sign(&config, "ed25519").signature();
    let text = fs::read_to_string(&config).unwrap();
    let token = text.split("[token.").nth(1).unwrap().split(']').next().unwrap();
    let marker = File::open(format!("/var/lib/sigsh/state/pin.{token}")).unwrap();
    let turn = Flock::lock(marker, FlockArg::LockExclusive).unwrap();
    sign(&config, "ed25519").fails(75, "the token is busy", "refused", "other sessions kept the token's login busy");
    assert_eq!(calls(&count, "C_Login"), 1);
    drop(turn);
    sign(&config, "ed25519").signature();
}

/// A long upload does not hold the token: others sign meanwhile.
#[test]
fn a_slow_upload_keeps_nobody_waiting() {
    world();
    let (config, count) = faulty("", &[SHORT]);
    let mut slow = session(&config, "ed25519").start();
    slow.stdin.as_mut().unwrap().write_all(b"art").unwrap();
    patient(|| calls(&count, "C_Initialize") == 1);
    for _ in 0..2 {
        sign(&config, "ed25519").signature();
    }
    assert_eq!(calls(&count, "C_Login"), 2);
    let outcome = ended(slow, b"ifact");
    verify("ed25519", outcome.signature(), b"artifact");
}

#[test]
fn a_killed_monitor_takes_its_children_along() {
    world();
    let (config, _) = faulty("hang-load", &[]);
    let child = session(&config, "ed25519").start();
    let pid = child.id();
    let names = || group(pid).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    patient(|| names() == ["sigsh", "sigsh-hasher", "sigsh-token"]);
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"");
    alone(pid);
}

#[test]
fn an_input_that_is_not_whole_does_not_reach_the_token() {
    world();
    let digest = "--digest sha512:".to_owned() + &"00".repeat(64);
    for (request, input, line, reason) in [
        ("sign ed25519 --size 9", "artifact", "the input has 8 bytes, not the declared number", "8 bytes"),
        ("sign ed25519 --size 7", "artifact", "the input is longer than declared or allowed", "it is too long"),
        (&format!("sign ed25519 {digest}"), "artifact", "the input has not the declared digest", "declared digest"),
        ("sign ed25519", "", "the input is empty", "empty"),
        ("sign ed25519 --size 1", "", "the input is empty", "empty"),
    ] {
        let (config, count) = faulty("", &[]);
        let outcome = Session::new(&config).client("build1").request(request).run(input.as_bytes());
        outcome.fails(65, line, "failed", reason);
        assert_eq!(outcome.records.len(), 1, "{outcome:?}");
        never_asked(&count);
    }
}

#[test]
fn a_client_that_freezes() {
    world();
    for (limits, line, reason) in [
        ("idle = \"1s\"", "the input stopped coming", "it stopped coming"),
        ("idle = \"60s\"\ntotal = \"1s\"", "the input took longer than a session may", "total time is over"),
    ] {
        let (config, count) = faulty("", &[("idle = \"10s\"", limits)]);
        let mut child = session(&config, "ed25519").start();
        child.stdin.as_mut().unwrap().write_all(b"art").unwrap();
        ended_without_input(child).fails(65, line, "failed", reason);
        never_asked(&count);
    }
}

#[test]
fn a_client_that_is_gone() {
    world();
    let (config, count) = faulty("", &[]);
    let mut child = session(&config, "ed25519").start();
    child.stdin.as_mut().unwrap().write_all(b"art").unwrap();
    patient(|| calls(&count, "C_Initialize") == 1);
    drop((child.stdout.take(), child.stdin.take()));
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    alone(pid);
    let err = String::from_utf8(output.stderr).unwrap();
    let outcome = Outcome { code: output.status.code(), out: vec![], err, records: of(pid), took: Duration::ZERO };
    outcome.fails(65, "the client has gone away", "failed", "the reader of standard output is gone");
    assert_eq!(outcome.records.len(), 1);
    never_asked(&count);
}

/// The same through sshd: the client is killed in mid-upload, and the server sees the end of the input.
#[test]
fn an_ssh_client_that_is_killed() {
    world();
    let (config, count) = faulty("", &[]);
    let (host_key, sshd_config) = (format!("{HOME}/killed_host"), format!("{HOME}/killed_config"));
    succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &host_key]));
    let include = "Include /etc/ssh/sshd_config.d/50-sigsh.conf";
    let own = format!("ListenAddress 127.0.0.1:2299\nHostKey {host_key}\nPidFile none\nUsePAM no\n{include}\n");
    fs::write(&sshd_config, own).unwrap();
    // sshd can start sigsh with no other configuration than the host's; so for this one it is another file.
    let script = format!("mount --bind {} {CONFIG} && exec /usr/sbin/sshd -D -e -f {sshd_config}", config.display());
    let mut sshd = Command::new("unshare");
    sshd.args(["--mount", "sh", "-c", &script]).stderr(File::create(format!("{HOME}/killed.log")).unwrap());
    let mut sshd = sshd.spawn().unwrap();
    patient(|| std::net::TcpStream::connect(("127.0.0.1", 2299)).is_ok());

    let start = |name: &str| {
        let mut command = world().ssh_command("build1");
        command.args(["-p", "2299", &format!("sign ed25519 --name {name}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let outcome = finish_child(start("whole"), b"artifact");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    verify("ed25519", &outcome.out, b"artifact");
    assert_eq!(calls(&count, "C_SignInit"), 1);
    fs::write(&count, "").unwrap();

    for name in (0..8).map(|number| format!("killed{number}")) {
        let mut child = start(&name);
        // More than the connection's window and all pipes hold: when it is written, the hasher has read some of it.
        child.stdin.as_mut().unwrap().write_all(&vec![b'x'; 8 << 20]).unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait_with_output().unwrap().stdout, b"");
        let matching = format!("SIGSH_NAME={name}");
        patient(|| !records(&matching).is_empty());
        let records = records(&matching);
        let [record] = &records[..] else { panic!("{records:#?}") };
        assert_eq!((field(record, "SIGSH_EVENT"), field(record, "SIGSH_CODE")), ("failed", "65"));
        assert_eq!(field(record, "SIGSH_REASON"), "the reader of standard output is gone");
    }
    never_asked(&count);
    sshd.kill().unwrap();
    sshd.wait().unwrap();
}

/// What a sandbox must stop. Whether the process is killed for it or merely refused is in the table of calls; what could be denied
/// lets the session sign.
const TRIALS: [(&str, bool); 11] = [
    ("exec", true),
    ("fork", true),
    ("socket", true),
    ("socket-unix", false),
    ("ptrace", true),
    ("kill-parent", true),
    ("mmap-exec", true),
    ("chmod", true),
    ("open-read", false),
    ("open-write", false),
    ("truncate", true),
];

pub fn noted(count: &Path) -> Vec<String> {
    let text = fs::read_to_string(count).unwrap();
    text.lines().filter(|line| !line.starts_with("C_")).map(str::to_owned).collect()
}

#[test]
fn a_module_that_tries_to_get_out() {
    world();
    for (trial, killed) in TRIALS {
        for fault in [trial.to_owned(), format!("{trial}-load")] {
            let (config, count) = faulty(&fault, &[]);
            let target = count.with_file_name("target");
            let before = fs::metadata(&target).unwrap().permissions();
            let outcome = sign(&config, "ed25519");
            if killed {
                outcome.fails(69, DIED, "failed", "SIGSYS");
                assert_eq!(noted(&count), [""; 0], "{fault}");
            } else {
                verify("ed25519", outcome.signature(), b"artifact");
                let denied = noted(&count);
                assert!(!denied.is_empty() && denied.iter().all(|line| *line == format!("DENIED {fault}")), "{denied:?}");
            }
            assert_eq!((fs::read(&target).unwrap(), fs::metadata(&target).unwrap().permissions()), (b"untouched".to_vec(), before));
        }
    }
}

/// The trials are no empty gestures: the same module, under the same account, gets out of a program without a sandbox.
#[test]
fn outside_the_sandbox_every_trial_succeeds() {
    world();
    for (trial, _) in TRIALS {
        let fault = format!("{trial}-load");
        let (_, count) = faulty("", &[]);
        let mut command = as_account("sh");
        // A shell of its own as the parent that may be killed.
        command.args(["-c", "pkcs11-tool --module \"$0\" --list-slots; true"]).arg(count.with_file_name("module.so"));
        command.env("SOFTHSM2_CONF", "/etc/sigsh/softhsm2.conf").env("MODULE_FAULT", &fault);
        command.env("MODULE_COUNT", &count).env("MODULE_TARGET", count.with_file_name("target"));
        let _ = command.stdin(Stdio::null()).output().unwrap();
        patient(|| noted(&count).contains(&format!("ESCAPED {fault}")));
    }
}

#[test]
fn the_faulty_module_refuses_faults_that_it_does_not_know() {
    world();
    let (config, _) = faulty("misspelt", &[]);
    sign(&config, "ed25519").fails(69, FAILED, "failed", "the module failed");
}
