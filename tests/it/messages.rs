//! The examples that the fuzz targets of messages between the processes begin with: in `fuzz/corpus` stands what is made here.
//! Where a message has changed, `sh tests/inside.sh cargo test --test it -- --ignored messages::write` writes them anew.

use serde::Serialize;
use sigsh::channel::{MAX_MESSAGE, decode};
use sigsh::config::Input;
use sigsh::hash_state::{Form, HashAlgorithm, HashState, Salt, StateError, Wanted};
use sigsh::hasher::{DocumentError, Fault, Go, MAX_WANTED, Report, Start};
use sigsh::openpgp::{Composite, Scheme};
use sigsh::token::{Answer, Request};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ALL: [HashAlgorithm; 3] = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];

/// Those whose examples are made here.
const TARGETS: [&str; 4] = ["start", "report", "hashed", "token_request"];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn bytes(message: &impl Serialize) -> Vec<u8> {
    let mut buffer = vec![0; MAX_MESSAGE];
    postcard::to_slice(message, &mut buffer).unwrap().to_vec()
}

fn start(input: Input, form: Form) -> Start {
    Start { input, form, limit: 16 << 30, idle: Duration::from_secs(30), throughput: 1024 }
}

fn go(wanted: &[Wanted]) -> Go {
    let mut go = [None; MAX_WANTED];
    go.iter_mut().zip(wanted).for_each(|(to, from)| *to = Some(*from));
    Go(go)
}

fn file(name: &str, wanted: &[Wanted], data: &[u8], text: u64) -> Report {
    let state = |wanted: &Wanted| {
        let mut state = HashState::begin(wanted);
        state.update(data);
        state.export(<[u8]>::to_vec)
    };
    Report::Artifact { name: name.as_bytes().to_vec(), states: wanted.iter().map(state).collect(), text }
}

/// Target, name, content.
fn examples() -> Vec<(&'static str, String, Vec<u8>)> {
    // A fixed one: 32 bytes, as they are on the wire.
    let salt = decode::<Salt>(&[7; 32]).unwrap();
    let plain = Wanted::plain(HashAlgorithm::Sha512);
    let salted = Wanted { salt: Some(salt), ..plain };
    let with = |form| Wanted { form, ..plain };
    let largest = [vec![salted; 8], vec![plain]].concat();
    let mut found = Vec::new();
    for (name, input, form, wanted, report) in [
        ("sign", Input::Artifact, Form::Binary, vec![plain], file("", &[plain], b"data", 0)),
        ("sign-v6", Input::Artifact, Form::Binary, vec![salted, plain], file("", &[salted, plain], b"data", 0)),
        ("text", Input::Artifact, Form::Text, vec![with(Form::Text), plain], file("", &[with(Form::Text), plain], b"data", 0)),
        (
            "cleartext",
            Input::Artifact,
            Form::Cleartext,
            vec![with(Form::Cleartext), plain],
            file("", &[with(Form::Cleartext), plain], b"data", 5),
        ),
        ("tar", Input::Tar, Form::Binary, vec![plain], file("dir/a.rpm", &[plain], &[0; 300], 0)),
        ("tar-empty-file", Input::Tar, Form::Binary, vec![plain], file("a", &[plain], b"", 0)),
        ("tar-two-hashes", Input::Tar, Form::Binary, ALL.map(Wanted::plain).to_vec(), file("a", &ALL.map(Wanted::plain), b"a", 0)),
        ("tar-v6", Input::Tar, Form::Binary, vec![salted, plain], file("a", &[salted, plain], &[0; 128], 0)),
        ("tar-largest", Input::Tar, Form::Binary, largest.clone(), file(&"n".repeat(4000), &largest, b"a", 0)),
        ("state", Input::State, Form::Binary, vec![plain], file("a b.pkg", &[plain], &[0; 5000], 0)),
    ] {
        let (start, go) = (start(input, form), go(&wanted));
        found.push(("start", format!("start-{name}"), bytes(&start)));
        found.push(("start", format!("go-{name}"), bytes(&go)));
        found.push(("report", format!("file-{name}"), bytes(&report)));
        found.push(("hashed", name.to_owned(), bytes(&(start, go, report))));
    }
    for name in ["../a", "/a", "a/../../b", ""] {
        let said = (start(Input::Tar, Form::Binary), go(&[plain]), file(name, &[plain], b"a", 0));
        found.push(("hashed", format!("name-{}", name.replace('/', "_")), bytes(&said)));
    }
    for (number, fault) in [
        Fault::Idle,
        Fault::Read(5),
        Fault::State(StateError::TooLong),
        Fault::Document(DocumentError::Malformed),
        Fault::TarCut,
        Fault::TarTrailing,
    ]
    .into_iter()
    .enumerate()
    {
        found.push(("report", format!("fault-{number}"), bytes(&Report::Fault(fault, b"a\n\x1b".to_vec()))));
    }
    found.push(("report", "end".to_owned(), bytes(&Report::End)));
    let sign = |key, scheme, length| Request::Sign(key, scheme, vec![b'd'; length]);
    for (name, request) in [
        ("open", Request::Open),
        ("leave", Request::Leave),
        ("sign-rsa", sign(0, Scheme::RsaPkcs, 83)),
        ("sign-ecdsa", sign(7, Scheme::Ecdsa, 32)),
        ("sign-eddsa", sign(1, Scheme::Eddsa, 64)),
        ("sign-mldsa65", sign(2, Scheme::Composite(Composite::MlDsa65Ed25519), 64)),
        ("sign-mldsa87", sign(3, Scheme::Composite(Composite::MlDsa87Ed448), 32)),
    ] {
        found.push(("token_request", name.to_owned(), bytes(&request)));
    }
    found
}

#[test]
fn the_corpus_is_of_todays_messages() {
    for (target, name, content) in examples() {
        let path = corpus().join(target).join(&name);
        assert_eq!(fs::read(&path).ok(), Some(content), "{}", path.display());
    }
    let files = |target: &str| fs::read_dir(corpus().join(target)).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    for target in TARGETS {
        assert_eq!(files(target).count(), examples().iter().filter(|(other, ..)| *other == target).count(), "{target}");
    }
    assert!(files("answer").all(|packet| decode::<Answer>(&packet).is_ok()));
}

#[test]
#[ignore = "writes to the checkout, where a message has changed"]
fn write() {
    for target in TARGETS {
        let _ = fs::remove_dir_all(corpus().join(target));
        fs::create_dir_all(corpus().join(target)).unwrap();
    }
    for (target, name, content) in examples() {
        fs::write(corpus().join(target).join(name), content).unwrap();
    }
}
