//! Keys that want the PIN before each signature (CKA_ALWAYS_AUTHENTICATE): one login each, and a PIN that is wrong is given once.

use crate::batch::{END, entry, signatures};
use crate::token::alone;
use crate::world::{Outcome, Session, account_file, calls, faulty, field, finish_child, verify, world};
use std::fs;
use std::path::{Path, PathBuf};

const REFUSED: &str = "the token does not accept its PIN";
const TRIED: &str = "the PIN in this PIN file was wrong, or its first use failed; it is not tried again";

/// A configuration whose keys are all of this kind, with a module that counts.
fn wary(fault: &str) -> (PathBuf, PathBuf) {
    world();
    faulty(fault, &[("{ SOFTHSM2_CONF", "{ MODULE_ALWAYS = \"1\", SOFTHSM2_CONF")])
}

fn session(config: &Path, request: &str) -> Session {
    let mut session = Session::new(config).client("build1").request(request);
    std::os::unix::process::CommandExt::process_group(&mut session.command, 0);
    session
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

fn batch(files: usize) -> Vec<u8> {
    (0..files).map(|number| entry(number.to_string().as_bytes(), b"a file")).chain([END.to_vec()]).collect::<Vec<_>>().concat()
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

/// A failure that may not have been the PIN's fault spends nothing: the PIN was right before.
#[test]
fn a_login_that_fails_otherwise_is_tried_by_the_next_session() {
    let (config, count) = wary("fail-login@1");
    for logins in [2, 4] {
        let reason = "the module failed: C_Login returned CKR_FUNCTION_FAILED";
        run(&config, "sign ed25519", b"artifact").fails(69, "the token failed", "failed", reason);
        assert_eq!((calls(&count, "C_Login"), calls(&count, "C_Sign")), (logins, 0));
    }
}
