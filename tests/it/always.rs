//! Keys that want the PIN before each signature (CKA_ALWAYS_AUTHENTICATE): one login each, and a PIN that is wrong is given once.

use crate::batch::{END, files, half_a_batch, session, signatures};
use crate::sandbox::remembers;
use crate::token::alone;
use crate::tokens::p11kit::{Store, by_hand_for};
use crate::tokens::{Key, Lab, prepares};
use crate::world::{Outcome, PIN, PIN_FILE, account_file, calls, faulty, field, finish_child, secret, succeed, verify, world};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
const REFUSED: &str = "the token does not accept its PIN";
const TRIED: &str = "the PIN in this PIN file was wrong, or its first use failed; it is not tried again";

/// A configuration whose keys are all of this kind, with a module that counts.
fn wary(fault: &str) -> (PathBuf, PathBuf) {
    world();
    faulty(fault, &[("{ SOFTHSM2_CONF", "{ MODULE_ALWAYS = \"1\", SOFTHSM2_CONF")])
}

fn run(config: &Path, request: &str, input: &[u8]) -> Outcome {
    let child = session(config, request).start();
    let group = child.id();
    let outcome = finish_child(child, input);
    alone(group);
    outcome
}

/// The calls from the first C_SignInit on; C_Sign is called for the length, too.
fn signing(count: &Path) -> Vec<String> {
    let mut lines = fs::read_to_string(count).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    lines.drain(..lines.iter().position(|line| line == "C_SignInit").unwrap());
    lines.dedup();
    lines
}

fn batch(number: usize) -> Vec<u8> {
    [files(number), END.to_vec()].concat()
}

#[test]
fn one_login_for_each_signature() {
    let (config, count) = wary("");
    verify("ed25519", run(&config, "sign ed25519", b"artifact").signature(), b"artifact");
    let one = ["C_SignInit", "C_Login", "C_Sign"];
    assert_eq!(signing(&count), [&one[..], &["C_Finalize"]].concat());
    assert_eq!(calls(&count, "C_Login"), 2);

    account_file(count.to_str().unwrap(), b"");
    let outcome = run(&config, "sign-tar ed25519", &batch(5));
    assert_eq!((outcome.code, signatures(&outcome.out).len()), (Some(0), 5), "{outcome:#?}");
    assert_eq!(signing(&count), [&one.repeat(5)[..], &["C_Finalize"]].concat());
}

/// SoftHSM's own keys of this kind, behind a p11-kit server: it notes such logins in its store, and there it may.
#[test]
fn softhsm_signs_behind_a_server() {
    let store = Store::with_token("wary");
    let key = format!("--module {SOFTHSM} --token-label wary --login --pin {PIN} --keypairgen --key-type EC:edwards25519");
    succeed(store.tool("pkcs11-tool").args(key.split(' ')).args(["--label", "ed25519", "--always-auth"]));
    let (_server, table) = by_hand_for(Path::new(SOFTHSM), "pkcs11:token=wary", &store.environment());
    let lab = Lab::new("wary", table, PIN, vec![Key::named("ed25519").present()]);
    secret(&lab.pin_file(), PIN);
    let config = lab.config(&[]);
    prepares(&lab, &config);
    lab.signs(&config);
    let outcome = lab.session(&config, "sign-tar ed25519").run(&batch(5));
    assert_eq!((outcome.code, signatures(&outcome.out).len()), (Some(0), 5), "{outcome:#?}");
}

/// The PIN is kept for such keys alone, out of swap, and so is its marker; others' is wiped after the login.
#[test]
fn the_pin_is_kept_for_such_keys_alone() {
    const DISTINCT: &str = "correct-horse-4711-staple";
    world();
    let (store, conf, pin_file) = ("/var/lib/sigsh/kept", "/etc/sigsh/kept.conf", "/etc/sigsh/kept.pin");
    fs::create_dir(store).unwrap();
    fs::write(conf, format!("directories.tokendir = {store}\nlog.level = ERROR\n")).unwrap();
    secret(pin_file, DISTINCT);
    let words = format!("--init-token --free --label release --pin {DISTINCT} --so-pin {DISTINCT}");
    succeed(Command::new("softhsm2-util").args(words.split(' ')).env("SOFTHSM2_CONF", conf));
    let key =
        format!("--module {SOFTHSM} --login --pin {DISTINCT} --keypairgen --key-type EC:edwards25519 --label ed25519 --id 07");
    succeed(Command::new("pkcs11-tool").args(key.split(' ')).env("SOFTHSM2_CONF", conf));
    succeed(Command::new("chown").args(["-R", "signer", store]));
    for always in ["", "MODULE_ALWAYS = \"1\", "] {
        let environment = format!("{{ {always}SOFTHSM2_CONF");
        let mut changes = vec![("{ SOFTHSM2_CONF", environment.as_str()), ("/etc/sigsh/softhsm2.conf", conf)];
        changes.extend([("/var/lib/sigsh/tokens", store), (PIN_FILE, pin_file), ("/etc/sigsh/ed25519.pgp", "/etc/sigsh/kept.pgp")]);
        let (config, _) = faulty("", &changes);
        if always.is_empty() {
            let create = ["certificate", "create", "ed25519", "--user-id", "Kept <kept@example.org>"];
            succeed(Command::new("sigsh-admin").arg("--config").arg(&config).args(create));
        }
        let (running, rest) = half_a_batch(session(&config, "sign-tar ed25519"));
        let token = running.tokens()[0];
        assert_eq!(remembers(token as u32, DISTINCT.as_bytes()), !always.is_empty());
        let open = fs::read_dir(format!("/proc/{token}/fd")).unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let markers = open.filter(|path| path.starts_with("/var/lib/sigsh/state")).count();
        assert_eq!(markers, usize::from(!always.is_empty()));
        let status = fs::read_to_string(format!("/proc/{token}/status")).unwrap();
        assert!(!status.contains("VmLck:\t       0 kB"), "{status}");
        assert_eq!(running.end_with(&rest).code, Some(0));
    }
}

/// Nor is there one for a key that does not want it.
#[test]
fn no_login_for_other_keys() {
    world();
    let (config, count) = faulty("", &[]);
    run(&config, "sign ed25519", b"artifact").signature();
    assert_eq!(signing(&count), ["C_SignInit", "C_Sign", "C_Finalize"]);
}

#[test]
fn a_pin_that_is_wrong_meanwhile_is_given_once() {
    let (config, count) = wary("wrong-pin@1");
    run(&config, "sign ed25519", b"artifact").fails(69, REFUSED, "failed", "the PIN is wrong");
    assert_eq!((calls(&count, "C_Login"), calls(&count, "C_Sign")), (2, 0));
    run(&config, "sign ed25519", b"artifact").fails(69, REFUSED, "failed", TRIED);
    assert_eq!(calls(&count, "C_Login"), 2);

    // What came before stays good.
    let (config, count) = wary("wrong-pin@3");
    let outcome = run(&config, "sign-tar ed25519", &batch(5));
    assert_eq!((outcome.code, signatures(&outcome.out).len()), (Some(69), 2), "{outcome:#?}");
    assert_eq!((calls(&count, "C_Login"), calls(&count, "C_SignInit")), (4, 3));
}

#[test]
fn sessions_at_once_give_a_wrong_pin_once() {
    let (config, _) = wary("wrong-pin@1");
    let sessions = [(); 4].map(|()| session(&config, "sign ed25519").start());
    let outcomes = sessions.map(|child| finish_child(child, b"artifact"));
    let mut reasons = outcomes.iter().map(|outcome| field(outcome.records.last().unwrap(), "SIGSH_REASON")).collect::<Vec<_>>();
    reasons.sort_unstable();
    assert_eq!(reasons, [TRIED, TRIED, TRIED, "the PIN is wrong"]);
}

/// A card may have another PIN for this login than for the first: a failure that may have been the PIN's fault is not repeated, unless
/// the PIN was right before, for this one.
#[test]
fn a_login_that_fails_for_no_clear_reason() {
    let failed = "the module failed: C_Login returned CKR_FUNCTION_FAILED";
    let (config, count) = wary("fail-login@1");
    for reason in [failed, TRIED] {
        let line = if reason == TRIED { REFUSED } else { "the token failed" };
        run(&config, "sign ed25519", b"artifact").fails(69, line, "failed", reason);
        assert_eq!((calls(&count, "C_Login"), calls(&count, "C_Sign")), (2, 0));
    }

    let (config, count) = wary("fail-login@2");
    for logins in [3, 6] {
        let outcome = run(&config, "sign-tar ed25519", &batch(5));
        assert_eq!((outcome.code, signatures(&outcome.out).len()), (Some(69), 1), "{outcome:#?}");
        assert_eq!(field(outcome.records.last().unwrap(), "SIGSH_REASON"), failed);
        assert_eq!(calls(&count, "C_Login"), logins);
    }
}
