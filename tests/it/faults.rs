//! Whatever a module answers, to whichever call: an error, garbage, nothing at all. Each session ends in time, with the right code, one
//! error line, nothing on stdout and one final record; and no fault has a PIN sent twice.

use crate::batch::{END, entry, signatures};
use crate::world::{PIN_FILE, Session, account_file, all_of, calls, feed, field, fingerprint, records, verify, world};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What sigsh calls for a signature.
const FUNCTIONS: [&str; 14] = [
    "C_GetFunctionList",
    "C_Initialize",
    "C_GetSlotList",
    "C_GetTokenInfo",
    "C_OpenSession",
    "C_Login",
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_FindObjectsFinal",
    "C_GetAttributeValue",
    "C_SignInit",
    "C_Sign",
    "C_CloseSession",
    "C_Finalize",
];

/// Those that it calls again, in one session.
const AGAIN: [&str; 5] = ["C_GetSlotList", "C_FindObjects", "C_GetAttributeValue", "C_SignInit", "C_Sign"];

/// All that PKCS#11 3.2 has a name for (§5.1), and some that it has not.
#[rustfmt::skip]
const CODES: [u64; 105] = [
    0x1, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0x9, 0xa, 0x10, 0x11, 0x12, 0x13, 0x1b, 0x20, 0x21, 0x30, 0x31, 0x32, 0x33, 0x40, 0x41,
    0x50, 0x51, 0x54, 0x60, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x70, 0x71, 0x82, 0x90, 0x91, 0xa0, 0xa1, 0xa2,
    0xa3, 0xa4, 0xb0, 0xb1, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xc0, 0xc1, 0xd0, 0xd1, 0xe0, 0xe1, 0xe2, 0xf0, 0xf1, 0xf2, 0x100,
    0x101, 0x102, 0x103, 0x104, 0x105, 0x110, 0x112, 0x113, 0x114, 0x115, 0x120, 0x121, 0x130, 0x140, 0x141, 0x150, 0x160, 0x170,
    0x180, 0x190, 0x191, 0x1a0, 0x1a1, 0x1b0, 0x1b1, 0x1b2, 0x1b3, 0x1b9, 0x1c0, 0x200, 0x201, 0x202, 0x203, 0x204, 0x210, 0x7fffffff,
    0x80000000, 0xffffffff, 0x100000000, u64::MAX,
];

/// Answers that are no error to their function, or that sigsh can do without.
const HARMLESS: [(&str, &[u64]); 3] =
    [("C_GetAttributeValue", &[0x11, 0x12, 0x150]), ("C_CloseSession", &CODES), ("C_Finalize", &CODES)];

/// Lies about what was filled in: function, answer, exit code.
const LIES: [(&str, &str, i32); 27] = [
    ("C_GetSlotList", "zero", 69),
    ("C_GetSlotList", "long", 69),
    ("C_GetSlotList", "huge", 69),
    ("C_GetSlotList", "unavailable", 69),
    ("C_GetSlotList", "garbage", 69),
    ("C_GetTokenInfo", "zero", 69),
    ("C_GetTokenInfo", "garbage", 69),
    ("C_OpenSession", "zero", 69),
    ("C_OpenSession", "garbage", 69),
    ("C_FindObjects", "zero", 69),
    ("C_FindObjects", "long", 69),
    ("C_FindObjects", "huge", 69),
    ("C_FindObjects", "unavailable", 69),
    ("C_FindObjects", "garbage", 69),
    ("C_FindObjects", "endless", 69),
    // Not a key of RSA, and with no point of a curve: only the signature can show whose it is.
    ("C_GetAttributeValue", "zero", 0),
    ("C_GetAttributeValue", "unavailable", 0),
    ("C_GetAttributeValue", "long", 69),
    ("C_GetAttributeValue", "huge", 69),
    // Another key's.
    ("C_GetAttributeValue", "garbage", 78),
    ("C_Sign", "zero", 69),
    ("C_Sign", "long", 69),
    ("C_Sign", "huge", 69),
    ("C_Sign", "unavailable", 69),
    ("C_Sign", "garbage", 69),
    ("C_CloseSession", "crash", 0),
    ("C_Finalize", "crash", 0),
];

/// Lies that do not matter when the second call tells them: the search is over, and half a public key is none.
const HARMLESS_AGAIN: [(&str, &str); 3] =
    [("C_FindObjects", "zero"), ("C_FindObjects", "garbage"), ("C_GetAttributeValue", "garbage")];

/// What a module does, and how the session must end.
#[derive(Clone, Copy, Debug)]
struct Case {
    function: &'static str,
    answer: Answer,
    /// At its second call, and only then.
    again: bool,
    code: i32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Code(u64),
    Lie(&'static str),
}

fn error(function: &'static str, value: u64) -> Case {
    let harmless = HARMLESS.iter().any(|(of, values)| *of == function && values.contains(&value));
    let code = match (function, value) {
        _ if harmless => 0,
        // CKR_SESSION_COUNT.
        ("C_OpenSession", 0xb1) => 75,
        _ => 69,
    };
    Case { function, answer: Answer::Code(value), again: false, code }
}

/// What does not depend on the value of an error: lies, deaths and silence.
fn lies() -> Vec<Case> {
    let lies = LIES.map(|(function, lie, code)| Case { function, answer: Answer::Lie(lie), again: false, code });
    let last = |function: &str| HARMLESS.iter().any(|(of, values)| *of == function && values.len() == CODES.len());
    let fatal = FUNCTIONS.iter().flat_map(|function| {
        let code = if last(function) { 0 } else { 69 };
        ["hang", "crash"].map(|fault| Case { function, answer: Answer::Lie(fault), again: false, code })
    });
    lies.into_iter().chain(fatal).collect()
}

fn again(cases: &[Case]) -> Vec<Case> {
    let harmless = |case: &Case| HARMLESS_AGAIN.iter().any(|(of, told)| (case.function, case.answer) == (*of, Answer::Lie(told)));
    let again = |case: &Case| Case { again: true, code: if harmless(case) { 0 } else { case.code }, ..*case };
    cases.iter().filter(|case| AGAIN.contains(&case.function)).map(again).collect()
}

/// Where the sessions of one test keep what is theirs.
struct Bench {
    directory: String,
    client: String,
    number: AtomicUsize,
}

impl Bench {
    fn new(client: &str) -> Bench {
        world();
        let directory = format!("/var/lib/sigsh-test/{client}");
        fs::create_dir_all(&directory).unwrap();
        let built = Path::new(env!("CARGO_BIN_EXE_sigsh")).parent().unwrap().join("examples/libmodule.so");
        fs::copy(built, format!("{directory}/module.so")).unwrap();
        Bench { directory, client: client.to_owned(), number: AtomicUsize::new(0) }
    }

    /// A configuration for one fault, with a token of its own name, and so a PIN marker of its own. And where the module counts.
    fn config(&self, fault: &str) -> (PathBuf, PathBuf) {
        let Bench { directory, client, number } = self;
        let name = format!("{client}{}", number.fetch_add(1, Ordering::Relaxed));
        let count = format!("{directory}/{name}");
        account_file(&count, b"");
        let config = format!(
            "account = \"signer\"\n[token.{name}]\nmodule = \"{directory}/module.so\"\nuri = \"pkcs11:token=release\"\n\
             pin-file = \"{PIN_FILE}\"\nsandbox = \"softhsm\"\nread = [\"/var/lib/sigsh/tokens\"]\nwrite = [\"{count}\"]\n\
             environment = {{ SOFTHSM2_CONF = \"/etc/sigsh/softhsm2.conf\", MODULE_FAULT = \"{fault}\", MODULE_COUNT = \"{count}\" }}\n\
             timeout = \"{timeout}\"\n\
             [key.k]\ntoken = \"{name}\"\nuri = \"pkcs11:object=ed25519;id=%07\"\ncertificate = \"/etc/sigsh/ed25519.pgp\"\n\
             [client.{client}]\nssh-keys = [\"{ssh}\"]\nkeys = [\"k\"]\ninputs = [\"artifact\", \"tar\"]\n\
             [limits]\nsessions = 4096\nrefusals = \"1000000/s\"\n",
            // Who waits for something that comes, waits for it on a busy machine.
            timeout = if fault.contains("=hang") { "1s" } else { "20s" },
            ssh = fingerprint("build1"),
        );
        let path = format!("/etc/sigsh/{name}.toml");
        fs::write(&path, config).unwrap();
        (path.into(), count.into())
    }

    /// Runs a session with one fault. What the journal says of it is looked at later, at once for all.
    fn run(&self, case: Case) -> (u32, Case) {
        let Case { function, answer, again, code } = case;
        let answer = match answer {
            Answer::Code(value) => value.to_string(),
            Answer::Lie(lie) => lie.to_owned(),
        };
        let (config, count) = self.config(&format!("{function}={answer}{}", if again { "@2" } else { "" }));
        let batch = again && function.starts_with("C_Sign");
        let input = if batch { [entry(b"1", b"data"), entry(b"2", b"data"), END.to_vec()].concat() } else { b"data".to_vec() };
        let (pid, output) = session(&config, if batch { "sign-tar" } else { "sign" }, &input);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{case:?} {err}");
        let good = match (batch, code) {
            (true, _) => signatures(&output.stdout).into_iter().map(|(_, signature)| signature).collect(),
            (false, 0) => vec![output.stdout],
            (false, _) => {
                assert_eq!(output.stdout, b"", "{case:?}");
                vec![]
            }
        };
        assert!(good.len() <= 1, "{case:?}");
        good.iter().for_each(|signature| verify("ed25519", signature, b"data"));
        let mut lines = err.lines();
        let told = lines.next().is_some_and(|line| line.starts_with("sigsh: error: the ")) || code == 0 && err.is_empty();
        assert!(told && lines.all(|line| line.starts_with("sigsh: hint: ")) && err.lines().count() <= 2, "{case:?} {err}");
        assert!(calls(&count, "STRUCK") > 0, "{case:?} was not tried");
        assert!(calls(&count, "C_Login") <= 1, "{case:?}");
        (pid, case)
    }

    /// Each of these faults, and then what the journal says.
    fn all(&self, cases: Vec<Case>) {
        let ended = Mutex::new(Vec::new());
        all_of(cases, |case| {
            let session = self.run(case);
            ended.lock().unwrap().push(session);
        });
        let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for record in records(&format!("SIGSH_CLIENT={}", self.client)) {
            told.entry(field(&record, "_PID").to_owned()).or_default().push(record);
        }
        for (pid, case) in ended.into_inner().unwrap() {
            recorded(case, &told[&pid.to_string()]);
        }
    }
}

fn session(config: &Path, request: &str, input: &[u8]) -> (u32, Output) {
    let began = Instant::now();
    let child = Session::new(config).client("build1").request(request).start();
    let (pid, output) = (child.id(), feed(child, input));
    assert!(began.elapsed() < Duration::from_secs(60));
    (pid, output)
}

fn recorded(case: Case, records: &[Value]) {
    let last = records.last().unwrap();
    let (event, code, reason) = (field(last, "SIGSH_EVENT"), field(last, "SIGSH_CODE"), field(last, "SIGSH_REASON"));
    let signed = records.iter().filter(|record| field(record, "SIGSH_EVENT") == "signed").count();
    let ended = records.iter().filter(|record| ["failed", "refused"].contains(&field(record, "SIGSH_EVENT"))).count();
    if case.code == 0 {
        return assert_eq!((event, signed, ended), ("signed", 1, 0), "{case:?} {records:#?}");
    }
    assert_eq!(code, case.code.to_string(), "{case:?}");
    assert!(["failed", "refused"].contains(&event) && signed <= usize::from(case.again), "{case:?} {records:#?}");
    assert!(ended == 1 || case.again, "{case:?} {records:#?}");
    // The operator learns which call it was.
    if let (Answer::Code(_), true) = (case.answer, case.function != "C_Login") {
        assert!(reason.contains(&format!("{} returned ", case.function)), "{case:?} {reason}");
    }
}

/// One code for each function, each code once, all codes of a login; and all else that a function can do.
#[test]
fn whatever_a_module_answers() {
    let lies = lies();
    let mut cases = [lies.clone(), again(&lies)].concat();
    cases.extend(CODES.iter().zip(FUNCTIONS.iter().cycle()).map(|(value, function)| error(function, *value)));
    cases.extend(CODES.map(|value| error("C_Login", value)));
    cases.push(error("C_OpenSession", 0xb1));
    cases.extend(again(&FUNCTIONS.map(|function| error(function, 0x30))));
    Bench::new("faults").all(cases);
}

#[test]
#[ignore = "every code of every function: just soak"]
fn whatever_a_module_answers_to_every_call() {
    let cases = FUNCTIONS.iter().flat_map(|function| CODES.map(|value| error(function, value))).collect::<Vec<_>>();
    let twice = again(&cases);
    Bench::new("more-faults").all([cases, twice].concat());
}
