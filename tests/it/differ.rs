//! One content, three ways in: as it is, in a tar, as a hash state. What is signed is the same, and so is what the records say of it.

use crate::batch::{END, JOURNAL, Running, entry, signatures};
use crate::ledger::Own;
use crate::world::{HOME, Session, scratch, succeed};
use serde_json::{Value, json};
use sigsh::audit::ledger::line::Line;
use sigsh::hash_state::{HashAlgorithm, HashState};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

fn random(below: u64) -> usize {
    (getrandom::u64().unwrap() % below) as usize
}

/// Around the ends of blocks and of what is padded, some small ones, some longer than what is read at once.
fn content() -> Vec<u8> {
    const BORDERS: [usize; 16] = [0, 1, 55, 56, 63, 64, 65, 111, 112, 113, 127, 128, 129, 255, 256, 257];
    let size = match random(8) {
        0..4 => BORDERS[random(16)],
        4..7 => random(5000),
        _ => random(300 * 1024 + 1),
    };
    let mut bytes = vec![0; size];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// Writes in pieces of any size.
fn write(mut to: impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let most = [300, 70_000, 1 << 20][random(3)];
        let (piece, rest) = bytes.split_at((1 + random(most)).min(bytes.len()));
        to.write_all(piece).unwrap();
        bytes = rest;
    }
}

/// A batch of this input: its answer.
fn batch(own: &Own, request: &str, input: Vec<u8>) -> Vec<u8> {
    let mut running = Running::start(&own.config, request);
    let stdin = running.stdin.take().unwrap();
    let writer = thread::spawn(move || write(stdin, &input));
    let outcome = running.end();
    writer.join().unwrap();
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    outcome.out
}

fn stream(own: &Own, name: usize, content: &[u8]) -> Vec<u8> {
    let request = format!("sign ed25519 --name {name} --size {}", content.len());
    let mut child = Session::new(&own.config).client("build1").request(&request).start();
    let stdin = child.stdin.take().unwrap();
    // No answer comes before the last byte.
    write(stdin, content);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
    output.stdout
}

fn document(name: usize, content: &[u8]) -> Vec<u8> {
    let mut state = HashState::new(HashAlgorithm::Sha512);
    state.update(content);
    let input = json!({"type": "sha2-0.11-SHA512-state", "content": state.export(<[u8]>::to_vec)});
    let required = json!({"input": input, "output": {"type": "OpenPGPv4"}});
    let document = json!({"version": "1.0.0", "required": required, "optional": {"file-name": name.to_string()}});
    format!("{document}\n").into_bytes()
}

fn armored(response: &[u8]) -> Vec<u8> {
    serde_json::from_slice::<Value>(response).unwrap()["signature"].as_str().unwrap().as_bytes().to_vec()
}

/// Does `work` for all numbers below, by two at once.
fn each<T: Send>(number: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < number));
        numbers.map(|at| (at, work(at))).collect::<Vec<_>>()
    };
    let mut done = thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, made)| made).collect()
}

/// So many contents; sqv looks at one of `sample`.
fn same(number: usize, sample: usize) {
    let keys = "keys = [\"rsa2048\"";
    let own = Own::faulty(JOURNAL, "", &[(keys, &format!("inputs = [\"artifact\", \"tar\", \"state\"]\n{keys}"))]);
    own.init();
    let contents = (0..number).map(|_| content()).collect::<Vec<_>>();
    let streamed = each(number, |at| stream(&own, at, &contents[at]));
    let named = |at: usize| at.to_string().into_bytes();
    let tar = contents.iter().enumerate().flat_map(|(at, content)| entry(&named(at), content)).chain(END).collect();
    let tarred = signatures(&batch(&own, "sign-tar ed25519", tar));
    let states = contents.iter().enumerate().flat_map(|(at, content)| document(at, content)).collect();
    let answer = batch(&own, "sign-state ed25519", states);
    let stated = answer.split_inclusive(|byte| *byte == b'\n').map(armored).collect::<Vec<_>>();
    assert_eq!((tarred.len(), stated.len()), (number, number));

    let signed = own.lines().into_iter().filter(|line| line.event() == "signed");
    let by_name = |line: &Line| ((line.field("mode").to_owned(), line.field("name").to_owned()), line.field("sha512").to_owned());
    let recorded = signed.map(|line| by_name(&line)).collect::<HashMap<_, _>>();
    assert_eq!(recorded.len(), 3 * number);
    each(number, |at| {
        let (directory, size) = (scratch(), contents[at].len());
        let file = format!("{directory}/f");
        fs::write(&file, &contents[at]).unwrap();
        let sum = String::from_utf8(succeed(Command::new("sha512sum").arg(&file)).stdout).unwrap();
        assert_eq!(tarred[at].0, format!("{at}.sig").as_bytes());
        for (mode, signature) in [("artifact", &streamed[at]), ("tar", &tarred[at].1), ("state", &stated[at])] {
            assert_eq!(recorded[&(mode.to_owned(), at.to_string())], sum[..128], "{mode} of {size} bytes");
            let sig = format!("{directory}/{mode}");
            fs::write(&sig, signature).unwrap();
            let verifiers = if at % sample == 0 { &["gpgv", "sqv"][..] } else { &["gpgv"] };
            for verifier in verifiers {
                let mut command = Command::new(verifier);
                succeed(command.args(["--keyring", "/etc/sigsh/ed25519.pgp", &sig, &file]).env("GNUPGHOME", HOME));
            }
        }
        fs::remove_dir_all(directory).unwrap();
    });
    assert_eq!(own.verify(&[]).code, Some(0));
}

#[test]
fn three_hundred_contents_three_ways() {
    same(300, 20);
}

#[test]
#[ignore = "takes minutes: just soak"]
fn ten_thousand_contents_three_ways() {
    same(10_000, 1);
}
