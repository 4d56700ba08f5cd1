//! Nobody gets anywhere who has taken over the hasher or the token process: `tests/evil.rs` puts liars in their place. Each ends with its
//! code, nothing on stdout, a record, in bounded time, and with no process left.

use crate::sandbox::installed;
use crate::world::{
    CONFIG, Outcome, Session, all_of, calls, changed, faulty, field, finish_child, patient, records, verify, world,
};
use crate::{trixie, v6};
use openpgp::crypto::mpi;
use openpgp::parse::Parse;
use sequoia_openpgp as openpgp;
use sha2::{Digest, Sha512};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

const DATA: &[u8] = b"what the client sends";

/// How long a session may take at most: twice the longest timeout of the configuration, on a busy machine.
const BOUND: Duration = Duration::from_secs(90);

/// What a client sees and the journal says: code, line, event, a part of the reason.
pub type Ending = (i32, &'static str, &'static str, &'static str);

pub const fn internal(reason: &'static str) -> Ending {
    (70, "internal error", "failed", reason)
}
pub const DIED: Ending = (69, "the token process failed", "failed", "the token process died");
pub const NONSENSE: Ending = (69, "the token process failed", "failed", "the token process sent nonsense");
pub const HUNG: Ending = (69, "the token did not answer in time", "failed", "within its timeout");
pub const WRONG: Ending = (69, "the token made a wrong signature", "failed", "");
const FAULT: Ending = (69, "the token failed", "failed", "the module failed: ?[2Jx?SIGSH_EVENT=signed?SIGSH_CLIENT=other");
pub const OTHER_KEY: Ending = (78, "the key's certificate cannot be used", "refused", "is not that of the key in the token");

/// A session with evil in it. Where `held`, the client keeps sending: the session must not wait for its end.
fn session(config: &Path, mode: &str, request: &str, held: bool) -> Outcome {
    session_of(config, mode, request, if held { b"" } else { DATA }, held)
}

/// The same for an input.
pub fn session_of(config: &Path, mode: &str, request: &str, input: &[u8], held: bool) -> Outcome {
    let program = installed("evil");
    let link = program.with_extension(mode);
    // Another thread may have made it.
    let _ = symlink(&program, &link);
    let mut session = Session::of(link.to_str().unwrap(), config).client("build1").request(request);
    session.command.env("EVIL_MODE", mode);
    let began = Instant::now();
    let mut child = session.start();
    let outcome = if held {
        let pid = child.id();
        let mut stdin = child.stdin.take();
        stdin.as_mut().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        let (code, err) = (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
        Outcome { code, out: output.stdout, err, records: records(&format!("_PID={pid}")), took: began.elapsed() }
    } else {
        finish_child(child, input)
    };
    assert!(began.elapsed() < BOUND, "{mode}: {:?}", began.elapsed());
    patient(|| left(mode).is_empty());
    outcome
}

/// Processes of a mode that still run.
fn left(mode: &str) -> Vec<String> {
    let mark = format!("EVIL_MODE={mode}\0");
    let is = |path: &Path| {
        fs::read(path.join("environ")).is_ok_and(|block| block.windows(mark.len()).any(|window| window == mark.as_bytes()))
    };
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| is(path)).map(|path| path.display().to_string()).collect()
}

#[track_caller]
fn demand(mode: &str, outcome: &Outcome, (code, line, event, reason): Ending) {
    outcome.fails(code, line, event, reason);
    assert!(outcome.records.iter().all(|record| field(record, "SIGSH_EVENT") != "signed"), "{mode}: {outcome:#?}");
    assert!(outcome.records.iter().all(|record| field(record, "SIGSH_CLIENT") == "build1"), "{mode}: {outcome:#?}");
}

#[test]
fn an_evil_hasher_gets_nowhere() {
    // With a code or by a signal; one that is about to leave may be killed first.
    const GONE: &str = "the hasher failed: it ";
    const NO_MESSAGE: &str = "the process sent nonsense";
    const NO_STATE: &str = "not a hash state";
    const ENDING: &str = GONE;
    let table = [
        ("leaves-at-once", internal(GONE)),
        ("exits-1-at-once", internal(GONE)),
        ("dies-at-once-kill", internal(GONE)),
        ("silent", internal(GONE)),
        ("dies-before-kill", internal(GONE)),
        ("dies-before-segv", internal(GONE)),
        ("empty-message", internal(GONE)),
        ("dies-after-kill", internal("SIGKILL")),
        ("dies-after-segv", internal("SIGSEGV")),
        ("exits-1-after", internal(ENDING)),
        ("other-hash", internal(NO_STATE)),
        ("short", internal(NO_STATE)),
        ("long", internal(NO_STATE)),
        ("no-state", internal(NO_STATE)),
        ("rest-of-a-block", internal(NO_STATE)),
        ("tail", internal(NO_STATE)),
        ("oversized", internal(NO_MESSAGE)),
        ("huge", internal(NO_MESSAGE)),
        ("garbage", internal(NO_MESSAGE)),
        ("more-than-a-message", internal(NO_MESSAGE)),
        ("cut-message", internal(NO_MESSAGE)),
        ("empty-message-after", internal(ENDING)),
        ("twice", internal(ENDING)),
        ("two-different", internal(ENDING)),
        ("late-second", internal(ENDING)),
        ("stays", internal(ENDING)),
        ("fault-twice", internal(ENDING)),
        ("count-max", internal("more bytes than the limit")),
        ("count-wraps", internal("more bytes than the limit")),
        ("count-above-limit", internal("more bytes than the limit")),
        ("unreachable", internal("not the initial value")),
        ("more-than-read", internal("more bytes than the limit")),
        ("less-than-read", (65, "the input has 20 bytes, not the declared number", "failed", "")),
        ("nothing", (65, "the input is empty", "failed", "")),
        ("other-data", (65, "the input has not the declared digest", "failed", "")),
        ("fault-idle", (65, "the input stopped coming", "failed", "")),
        ("fault-overlong", (65, "the input is longer than declared or allowed", "failed", "")),
        ("fault-read", (65, "the input cannot be read", "failed", "")),
    ];
    world();
    let (config, count) = faulty("", &[]);
    let digest = hex::encode(Sha512::digest(DATA));
    let request = format!("sign ed25519 --size {} --digest sha512:{digest}", DATA.len());
    all_of(table, |(mode, ending)| {
        let mode = format!("hasher-{mode}");
        demand(&mode, &session(&config, &mode, &request, false), ending);
    });
    assert_eq!(calls(&count, "C_SignInit"), 0);
    assert_eq!(calls(&count, "C_Login"), 0);

    let good = session(&config, "hasher-good", &request, false);
    verify("ed25519", good.signature(), DATA);
    assert!(calls(&count, "C_SignInit") > 0);
}

/// One that lies about a text, or about the salt of v6.
#[test]
fn an_evil_hasher_of_texts_gets_nowhere() {
    const NONSENSE: Ending = (70, "internal error", "failed", "the hasher failed: the process sent nonsense");
    const TOO_LONG: Ending = (70, "internal error", "failed", "more bytes than the limit");
    const CLEARTEXT: &str = "sign ed25519 --cleartext --size 21";
    const TEXT: &str = "sign ed25519 --type text --size 21";
    let carriage = "the text has a carriage return without a line feed, which verifiers read differently";
    let table = [
        (CLEARTEXT, "text-unclaimed", NONSENSE),
        (CLEARTEXT, "text-shorter", NONSENSE),
        (CLEARTEXT, "text-longer", NONSENSE),
        (CLEARTEXT, "text-beyond-the-file", NONSENSE),
        (CLEARTEXT, "text-endless", NONSENSE),
        (CLEARTEXT, "text-hashes-more", TOO_LONG),
        ("sign ed25519 --cleartext", "text-hashes-more", NONSENSE),
        ("sign ed25519 --cleartext", "text-hashes-far-more", TOO_LONG),
        (CLEARTEXT, "text-claims-more", TOO_LONG),
        (CLEARTEXT, "text-claims-nothing", NONSENSE),
        (CLEARTEXT, "text-claims-nonsense", internal("not a hash state")),
        (CLEARTEXT, "good", NONSENSE),
        (CLEARTEXT, "fault-carriage-return", (65, carriage, "failed", "")),
        (CLEARTEXT, "fault-body", internal("the text could not be kept: EIO")),
        (TEXT, "good", NONSENSE),
        (TEXT, "text-good", NONSENSE),
        (TEXT, "text-unclaimed", NONSENSE),
        (TEXT, "text-hashes-more", TOO_LONG),
        ("sign ed25519", "binary-claims", NONSENSE),
        ("sign ed25519", "binary-has-a-text", NONSENSE),
        ("sign ed25519", "text-good", NONSENSE),
    ];
    world();
    let (config, count) = faulty("", &[]);
    all_of(table, |(request, mode, ending)| {
        let mode = format!("hasher-{mode}");
        demand(&mode, &session(&config, &mode, request, false), ending);
    });
    for (mode, ending) in [("salt-missing", NONSENSE), ("salt-too-long", NONSENSE), ("good", NONSENSE)] {
        let mode = format!("hasher-{mode}");
        demand(&mode, &session(v6::config(), &mode, "sign ed25519", false), ending);
    }
    assert_eq!((calls(&count, "C_SignInit"), calls(&count, "C_Login")), (0, 0));
}

/// What the monitor cannot see, for it reads neither text nor salt: then what leaves is no more than was said, and nobody accepts it.
#[test]
fn what_an_evil_hasher_spoils_is_worth_nothing() {
    world();
    let head = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n";
    for (mode, text) in [
        ("text-good", [DATA, b"\n"].concat()),
        ("text-grown", [DATA, b"\n"].concat()),
        ("text-other", vec![b'x'; DATA.len() + 1]),
        ("text-unwritten", vec![0; 2 * DATA.len() + 2]),
    ] {
        let outcome = session(Path::new(CONFIG), &format!("hasher-{mode}"), "sign ed25519 --cleartext", false);
        let expected = [&head[..], &text, b"-----BEGIN PGP SIGNATURE-----\n"].concat();
        assert!(outcome.signature().starts_with(&expected) && outcome.out.len() < expected.len() + 400, "{mode}: {outcome:?}");
        assert_eq!(trixie::cleartext("/etc/sigsh/ed25519.pgp", &outcome.out).is_some(), text.starts_with(DATA), "{mode}");
    }
    let outcome = session(v6::config(), "hasher-salt-other", "sign ed25519", false);
    assert!(!trixie::accepts(&v6::certificate("ed25519"), outcome.signature(), DATA));
}

#[test]
fn an_evil_token_process_gets_nowhere() {
    world();
    let slow = changed(&[("timeout = \"20s\"", "timeout = \"60s\"")]);
    let hangs = changed(&[("timeout = \"20s\"", "timeout = \"4s\"")]);
    fs::create_dir_all("/usr/lib/sigsh-test").unwrap();
    fs::write("/usr/lib/sigsh-test/replay", earlier_signature()).unwrap();

    let mut table: Vec<(String, Ending)> = Vec::new();
    for stage in ["load", "loaded", "open", "opened", "sign"] {
        let mut row = |act: &str, ending| table.push((format!("at-{stage}-{act}"), ending));
        for death in ["leave", "exit-1", "kill", "segv", "empty"] {
            row(death, DIED);
        }
        for nonsense in ["nonsense", "oversized", "huge", "trailing"] {
            row(nonsense, NONSENSE);
        }
        row("hang", HUNG);
        row("fault", FAULT);
        // Answers to what was not asked, or not yet.
        if stage != "load" {
            row("loaded", NONSENSE);
        }
        if stage != "open" {
            row("open", NONSENSE);
        }
        // One that comes before its question is taken for the answer, and judged as such.
        row("signed", if ["opened", "sign"].contains(&stage) { WRONG } else { NONSENSE });
    }
    for signature in ["zero-signature", "replay"] {
        table.push((signature.to_owned(), (WRONG.0, WRONG.1, WRONG.2, "the self-check failed")));
    }
    for (signature, reason) in [
        ("empty-signature", "the token returned 0 bytes"),
        ("short-signature", "the token returned 63 bytes"),
        ("long-signature", "the token returned 65 bytes"),
        ("digest-as-signature", "the self-check failed"),
    ] {
        table.push((signature.to_owned(), (WRONG.0, WRONG.1, WRONG.2, reason)));
    }
    for other in ["other-key-rsa", "other-key-ec"] {
        table.push((other.to_owned(), OTHER_KEY));
    }
    for altered in ["real-other-digest", "real-flipped"] {
        table.push((altered.to_owned(), (WRONG.0, WRONG.1, WRONG.2, "the self-check failed")));
    }
    all_of(&table, |(mode, ending)| {
        let config = if mode.ends_with("-hang") { &hangs } else { &slow };
        let hears_at_once = ["at-load-", "at-loaded-"].iter().any(|stage| mode.starts_with(stage)) && mode != "at-loaded-hang";
        let outcome = session(config, &format!("token-{mode}"), "sign ed25519", hears_at_once);
        demand(mode, &outcome, *ending);
        assert_eq!(outcome.records.len() > 1, !hears_at_once, "{mode}: an intent before the token is asked, and only then");
    });
}

/// Whatever happens behind a true signature does no harm: it is checked, and the process is ended.
#[test]
fn what_follows_a_true_signature_does_no_harm() {
    world();
    let config = changed(&[]);
    all_of(["good", "stays", "chatty", "dies"], |act| {
        let outcome = session(&config, &format!("token-real-{act}"), "sign ed25519", false);
        verify("ed25519", outcome.signature(), DATA);
    });
}

/// The raw value of a signature by the same key over the same data, of an earlier session.
fn earlier_signature() -> Vec<u8> {
    let outcome = world().session("build1", "sign ed25519").run(DATA);
    // Another second makes another signature.
    std::thread::sleep(Duration::from_millis(1100));
    match openpgp::Packet::from_bytes(outcome.signature()).unwrap() {
        openpgp::Packet::Signature(signature) => match signature.mpis() {
            mpi::Signature::EdDSA { r, s } => [r.value_padded(32).unwrap(), s.value_padded(32).unwrap()].concat(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}
