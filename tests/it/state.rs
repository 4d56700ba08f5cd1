//! Hash states in place of files: Signstar's own client, made by `tests/signstar.sh`, and whatever else comes in its format.

use crate::world::{
    HOME, Outcome, PORT, Session, admit, built, changed, field, finish, patient, records, scratch, ssh_key, succeed, verify, world,
};
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};
use sigsh::failure::Failure;
use sigsh::hash_state::{HashAlgorithm, HashState};
use sigsh::hasher::{Document, Fault, HasherError, MAX_DOCUMENT};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Signstar's client, set up for one user.
struct Signstar {
    agent: Child,
    config: String,
    directory: String,
}

impl Signstar {
    /// With this key of its client table, and an agent of its own, without which it does not work.
    fn new(client: &str, key: &str) -> Signstar {
        world();
        admit(client, &format!("keys = [\"{key}\"]\nrequest = \"sign-state\"\ninputs = [\"artifact\", \"state\"]"));
        let directory = scratch();
        let (socket, config) = (format!("{directory}/agent"), format!("{directory}/config.toml"));
        let agent = Command::new("ssh-agent").args(["-D", "-a", &socket]).stdout(Stdio::null()).spawn().unwrap();
        patient(|| Path::new(&socket).exists());
        succeed(Command::new("ssh-add").args(["-q", &ssh_key(client)]).env("SSH_AUTH_SOCK", &socket));
        // Without the comment, which the client would compare with the host's.
        let public = |path: String| {
            let line = fs::read_to_string(path + ".pub").unwrap();
            line.split(' ').take(2).collect::<Vec<_>>().join(" ")
        };
        let (host, user) = (public(format!("{HOME}/sshd_host")), public(ssh_key(client)));
        let mut text = section().split_once("```toml\n").unwrap().1.split_once("```").unwrap().0.to_owned();
        for (from, to) in [
            ("signing.example.org ssh-ed25519 AAAA…", format!("127.0.0.1 {host}")),
            ("signing.example.org", "127.0.0.1".to_owned()),
            ("port = 22", format!("port = {PORT}")),
            ("/run/user/1000/ssh-agent.socket", socket),
            ("ssh-ed25519 AAAA…", user),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, &to);
        }
        fs::write(&config, text).unwrap();
        Signstar { agent, config, directory }
    }

    /// Has a file of this name and content signed.
    fn send(&self, name: &str, data: &[u8]) -> Outcome {
        let program = built().parent().unwrap().join("signstar/bin/signstar-request-signature");
        assert!(program.exists(), "{} is missing: run sh tests/signstar.sh", program.display());
        let path = format!("{}/{name}", self.directory);
        fs::write(&path, data).unwrap();
        let line = section().lines().map(str::trim).find(|line| line.starts_with("signstar-request-signature")).unwrap();
        let mut command = Command::new(program);
        for word in line.split(' ').skip(1).take_while(|word| *word != ">") {
            command.arg(if word == "signstar.toml" {
                &self.config
            } else if word == "FILE" {
                &path
            } else {
                word
            });
        }
        finish(command, b"")
    }
}

impl Drop for Signstar {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// What the manual says of it.
fn section() -> &'static str {
    let page = include_str!("../../docs/man/sigsh.8.md");
    page.split_once("# HASH STATES\n").unwrap().1.split_once("\n# ").unwrap().0
}

/// The signature in a response, which holds nothing else.
#[track_caller]
fn signature(response: &[u8]) -> Vec<u8> {
    let value = serde_json::from_slice::<Value>(response).unwrap();
    assert_eq!((value.as_object().unwrap().len(), &value["version"]), (2, &Value::from("1.0.0")), "{value}");
    let armored = value["signature"].as_str().unwrap();
    assert!(armored.starts_with("-----BEGIN PGP SIGNATURE-----\n"), "{armored}");
    armored.as_bytes().to_vec()
}

#[test]
fn signstars_client_gets_signatures_that_verifiers_accept() {
    for key in ["rsa4096", "nistp256", "ed25519"] {
        let client = format!("signstar-{key}");
        let signstar = Signstar::new(&client, key);
        for size in [1, 127, 128, 129, 3_000_000] {
            let (name, data) = (format!("a {size}%"), vec![b'x'; size]);
            let outcome = signstar.send(&name, &data);
            assert_eq!(outcome.code, Some(0), "{outcome:#?}");
            verify(key, &signature(&outcome.out), &data);
            let digest = hex::encode(Sha512::digest(&data));
            let found = records(&format!("SIGSH_SHA512={digest}"));
            let last = found.iter().rfind(|record| field(record, "SIGSH_CLIENT") == client).unwrap();
            let fields = ["SIGSH_EVENT", "SIGSH_MODE", "SIGSH_SIZE", "SIGSH_NAME", "SIGSH_KEY"].map(|name| field(last, name));
            assert_eq!(fields, ["signed", "state", &size.to_string(), &format!("a%20{size}%25"), key]);
        }
    }
}

/// A session of a client that may send states.
fn session(request: &str) -> Session {
    world();
    let config = changed(&[("keys = [\"rsa2048\"", "inputs = [\"state\"]\nkeys = [\"rsa2048\"")]);
    Session::new(config).client("build1").request(request)
}

/// One request as Signstar's client writes it, of a state that has taken in "hello".
const HELLO: &str = include_str!("../../fuzz/corpus/state_document/client-short");

#[test]
fn many_documents_get_as_many_lines_in_order() {
    let many = vec![HELLO; 50].join("\n");
    for text in [many.clone(), format!("\n{many}\r\n\n")] {
        let outcome = session("sign-state ed25519").run(text.as_bytes());
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
        let lines = outcome.out.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>();
        assert_eq!(lines.len(), 50);
        for line in lines {
            assert!(line.ends_with(b"\n"));
            verify("ed25519", &signature(line), b"hello");
        }
    }
}

/// Which Signstar does not have: each length of the rest, by every kind of key.
#[test]
fn states_of_sha256_are_signed() {
    world();
    let mut changes = vec![("keys = [\"rsa2048\"".to_owned(), "inputs = [\"state\"]\nkeys = [\"rsa2048\"".to_owned())];
    let keys = ["rsa4096", "nistp256", "ed25519"];
    for key in keys {
        let certificate = format!("certificate = \"/etc/sigsh/{key}.pgp\"\n");
        changes.push((certificate.clone(), certificate + "hash = \"sha256\"\n"));
    }
    let changes = changes.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect::<Vec<_>>();
    let config = changed(&changes);
    for key in keys {
        let files = [0, 1, 63, 64, 65, 1000].map(|size| vec![b'x'; size]);
        let document = |data: &Vec<u8>| {
            let mut hash = Sha256::new();
            hash.update(data);
            let mut request = serde_json::from_str::<Value>(HELLO).unwrap();
            let state = sha2::digest::common::hazmat::SerializableState::serialize(&hash);
            request["required"]["input"]["type"] = Value::from("sha2-0.11-SHA256-state");
            request["required"]["input"]["content"] = Value::from(state.to_vec());
            request.to_string() + "\n"
        };
        let text = files.iter().map(document).collect::<String>();
        let outcome = Session::new(&config).client("build1").request(&format!("sign-state {key}")).run(text.as_bytes());
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
        let answers = outcome.out.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>();
        assert_eq!(answers.len(), files.len());
        for (answer, data) in answers.iter().zip(&files) {
            verify(key, &signature(answer), data);
            let digest = hex::encode(Sha256::digest(data));
            let of = |record: &&Value| field(record, "SIGSH_EVENT") == "signed" && field(record, "SIGSH_SHA256") == digest;
            assert_eq!(outcome.records.iter().filter(of).count(), 1, "{key} {}", data.len());
        }
    }
}

#[test]
fn no_document_makes_the_hasher_do_what_it_may_not() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/state_document");
    let mut files = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    files.sort();
    let read = |path| (format!("{path:?}"), fs::read(path).unwrap());
    let mut documents = files.iter().map(read).collect::<Vec<_>>();
    documents.push(("long".to_owned(), vec![b' '; MAX_DOCUMENT + 1]));
    for (name, bytes) in documents {
        // Alone, and after enough others to have used up what the heap has to spare.
        for ahead in [0, 20] {
            let text = [[HELLO.as_bytes(), b"\n"].concat().repeat(ahead), bytes.clone()].concat();
            let outcome = session("sign-state ed25519").run(&text);
            let answers = outcome.out.split_inclusive(|byte| *byte == b'\n').count();
            match Document::decode(&bytes) {
                Ok(document) if document.algorithm == HashAlgorithm::Sha512 => {
                    assert_eq!((outcome.code, answers), (Some(0), ahead + 1), "{name}: {outcome:#?}");
                }
                Ok(_) => assert_ne!(outcome.code, Some(70), "{name}: {outcome:#?}"),
                Err(error) => {
                    let failure = Failure::from(HasherError::Input(Fault::Document(error), Vec::new()));
                    let failure = failure.about(&format!("document {}", ahead + 1));
                    assert_eq!((outcome.code, outcome.err), (Some(65), failure.text()), "{name}");
                    assert_eq!(answers, ahead, "{name}");
                }
            }
        }
    }
}

/// Answers are lines, and after a bad document there are no more of them: each of those before is whole, good and recorded.
#[test]
fn a_bad_document_ends_a_batch() {
    let valid = [HELLO, "\n"].concat().repeat(5);
    let other = HELLO.replace("\"version\":\"1.0.0\"", "\"version\":\"2.0.0\"");
    for (bad, line) in [
        ("garbage\n", "it "),
        (other.as_str(), "it "),
        (&HELLO[..200], "it "),
        (&HELLO.replace("[8,201,", "[8,201,999,"), "it "),
        (&HELLO.replace(",5,104,", ",4,104,"), "the hash state is none that hashing leads to"),
    ] {
        let outcome = session("sign-state ed25519").run([&valid, bad, "\n", &valid].concat().as_bytes());
        let line = format!("sigsh: error: document 6: {line}");
        assert!(outcome.code == Some(65) && outcome.err.starts_with(&line), "{outcome:#?}");
        let answers = outcome.out.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>();
        assert!(answers.len() == 5 && answers.iter().all(|answer| answer.ends_with(b"\n")), "{outcome:#?}");
        for answer in answers {
            verify("ed25519", &signature(answer), b"hello");
        }
        let events = |event: &str| outcome.records.iter().filter(|record| field(record, "SIGSH_EVENT") == event).count();
        assert_eq!([events("intent"), events("signed"), events("failed")], [5, 5, 1]);
        assert_eq!(field(outcome.records.last().unwrap(), "SIGSH_CODE"), "65");
    }
}

#[test]
fn states_that_nobody_comes_to_by_hashing_are_not_signed() {
    // Where what stands: the eight words, 64 bytes; the number of blocks, 16; the length of the rest, 1; the rest and zeros, 127.
    for (at, byte) in [(0, 9), (71, 1), (79, 0x80), (80, 128), (80, 255), (80, 4), (207, 1)] {
        let mut request = serde_json::from_str::<Value>(HELLO).unwrap();
        request["required"]["input"]["content"][at] = Value::from(byte);
        let outcome = session("sign-state ed25519").run(request.to_string().as_bytes());
        assert_eq!((outcome.code, outcome.out.len()), (Some(65), 0), "{at} {byte}: {outcome:#?}");
        assert_eq!(outcome.records.last().map(|record| field(record, "SIGSH_EVENT")), Some("failed"), "{at} {byte}");
    }
}

#[test]
fn the_example_of_the_manual_is_a_request() {
    let examples = section().split("```json\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect::<Vec<_>>();
    let [request, response] = examples.try_into().unwrap();
    // As one line, which is what a newline between two tokens makes no difference to.
    let line = request.replace('\n', " ");
    let document = Document::decode(line.as_bytes()).unwrap();
    let state = HashState::import(document.algorithm, document.state(), u64::MAX).unwrap();
    assert_eq!((&*document.file_name, state.finish()), ("hello.txt", Sha512::digest(b"hello").to_vec()));
    assert_eq!(response.as_bytes(), sigsh::response::response("-----BEGIN PGP SIGNATURE-----\n\n…".as_bytes()));
}
