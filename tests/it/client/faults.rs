//! Whatever a host answers: nothing but its good signatures gets into a file, and one line says what is wrong.

use super::BuildServer;
use crate::batch::{END, entry};
use crate::world::{Outcome, verify, world};
use sigsh::openpgp::verify::Detached;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// How files are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    Sign,
    Tar,
    State,
}
use Way::{Sign, State, Tar};

pub const WAYS: [Way; 3] = [Sign, Tar, State];

/// More than a pipe and ssh hold.
const LENGTH: usize = 3_000_000;

fn content(number: usize) -> Vec<u8> {
    format!("line of {number}\n").repeat(LENGTH / 10).into_bytes()
}

/// Made once by the host itself: of both files by the key, of both by another key, of both as texts.
fn signatures() -> &'static [[Vec<u8>; 2]; 3] {
    static MADE: OnceLock<[[Vec<u8>; 2]; 3]> = OnceLock::new();
    let make = |request| [1, 2].map(|number| world().session("build1", request).run(&content(number)).signature().to_vec());
    MADE.get_or_init(|| ["sign ed25519", "sign rsa2048", "sign ed25519 --type text"].map(make))
}

impl Way {
    /// These signatures as an answer.
    fn answer(self, signatures: &[&[u8]]) -> Vec<u8> {
        let json = |signature: &[u8]| {
            // What is no signature goes in as it is.
            let armor = Detached::read(signature).map(|it| it.to_bytes(true).unwrap()).unwrap_or(signature.to_vec());
            let armor = String::from_utf8_lossy(&armor).into_owned();
            format!("{}\n", serde_json::json!({ "version": "1.0.0", "signature": armor })).into_bytes()
        };
        match self {
            Sign => signatures.concat(),
            Tar => signatures.iter().flat_map(|signature| entry(b"f.sig", signature)).chain(END).collect(),
            State => signatures.iter().flat_map(|signature| json(signature)).collect(),
        }
    }
}

/// A build server whose ssh does what a script says. `$D` has answers: `good`, `key` (of another key), `file` (of another file), `type`
/// (of a text), `doubled` (two in each), `more` (one too many), `short` (the last bytes missing).
pub struct Fake {
    pub server: BuildServer,
    way: Way,
}

impl Fake {
    pub fn new(way: Way, script: &str) -> Fake {
        Fake::with(way, script, "retry = \"1s\"")
    }

    pub fn with(way: Way, script: &str, more: &str) -> Fake {
        let state = if way == State { "state-above = \"1KiB\"\n" } else { "" };
        let server = BuildServer::new("build1", &["ed25519"], &format!("{state}{more}"));
        let [good, key, text] = signatures();
        let own = if way == Sign { 1 } else { 2 };
        let refs = |pair: &'static [Vec<u8>; 2]| [&pair[0][..], &pair[1]];
        let answer = |pair: [&[u8]; 2]| way.answer(&pair[..own]);
        let doubled = good.clone().map(|signature| signature.repeat(2));
        let whole = answer(refs(good));
        let more = if way == Sign { doubled[0].clone() } else { way.answer(&[&good[0], &good[1], &good[1]]) };
        let short = if way == Tar { &whole[..600] } else { &whole[..whole.len() - 1] };
        fs::create_dir_all(server.path(".fake")).unwrap();
        for (name, bytes) in [
            ("good", &whole[..]),
            ("key", &answer(refs(key))),
            ("file", &answer([&good[1], &good[0]])),
            ("type", &answer(refs(text))),
            ("doubled", &answer([&doubled[0], &doubled[1]])),
            ("more", &more),
            ("short", short),
            ("ssh", format!("#!/bin/sh\nD={}\ncd $D/..\n{script}\n", server.path(".fake")).as_bytes()),
        ] {
            server.write(&format!(".fake/{name}"), bytes);
        }
        fs::set_permissions(server.path(".fake/ssh"), Permissions::from_mode(0o755)).unwrap();
        for number in 1..=own {
            let path = server.write(&format!("f{number}"), content(number));
            // What is written at once bears the same date.
            File::options().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        Fake { server, way }
    }

    pub fn names(&self) -> &'static [&'static str] {
        if self.way == Sign { &["f1"] } else { &["f1", "f2"] }
    }

    pub fn command(&self, options: &[&str]) -> std::process::Command {
        let mut command = self.server.command(&[&["sign"], options, self.names()].concat());
        command.env("PATH", format!("{}:/usr/bin:/bin", self.server.path(".fake")));
        command
    }

    pub fn run(&self, options: &[&str]) -> Outcome {
        crate::world::finish(self.command(options), b"")
    }

    /// All names in its directory, hidden ones, too.
    pub fn listing(&self) -> Vec<String> {
        listing(&self.server.directory)
    }
}

pub fn listing(directory: &str) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Demands one error line, that says so; at most a hint; no control characters; warnings before them.
#[track_caller]
pub fn fails(outcome: &Outcome, code: i32, text: &str) {
    assert_eq!((outcome.code, outcome.out.len()), (Some(code), 0), "{outcome:#?}");
    let lines = outcome.err.lines().skip_while(|line| line.starts_with("sigsh-client: warning: ")).collect::<Vec<_>>();
    let error = lines[0].strip_prefix("sigsh-client: error: ").unwrap_or_else(|| panic!("{outcome:#?}"));
    assert!(error.contains(text), "{text}: {outcome:#?}");
    assert!(lines.len() == 1 || lines.len() == 2 && lines[1].starts_with("sigsh-client: hint: "), "{outcome:#?}");
    assert!(!outcome.err.chars().any(|c| c.is_control() && c != '\n'), "{outcome:#?}");
}

/// What goes wrong: the script, the exit code, what the error says, for each way.
const FAULTS: &[(&str, i32, [&str; 3])] = &[
    // It refuses.
    ("echo 'sigsh: error: key not permitted' >&2; exit 77", 77, ["127.0.0.1: key not permitted"; 3]),
    ("cat >/dev/null; echo 'sigsh: error: no more' >&2; echo 'sigsh: hint: ask' >&2; exit 65", 65, ["127.0.0.1: no more"; 3]),
    ("cat >/dev/null; echo 'sigsh: error: the token is down' >&2; exit 69", 69, ["127.0.0.1: the token is down"; 3]),
    ("cat >/dev/null; exit 3", 69, ["127.0.0.1: it gives no reason"; 3]),
    ("echo 'sigsh: error: bad configuration' >&2; exit 78", 78, ["127.0.0.1: bad configuration"; 3]),
    ("echo 'sigsh: error: too many' >&2; exit 75", 75, ["127.0.0.1: too many"; 3]),
    ("echo 'sh: 1: sigsh: not found' >&2; exit 127", 69, ["127.0.0.1: sh: 1: sigsh: not found"; 3]),
    // It dies: before, while and after it reads, in the middle of its answer, behind it.
    ("echo 'Connection reset by peer' >&2; exit 255", 69, ["127.0.0.1: Connection reset by peer"; 3]),
    ("kill -9 $$", 69, ["127.0.0.1: it gives no reason"; 3]),
    ("head -c 1 >/dev/null; exit 255", 69, ["the connection broke after the host had begun"; 3]),
    ("cat >/dev/null; exit 255", 69, ["the connection broke after the host had begun"; 3]),
    ("cat >/dev/null; kill -9 $$", 69, ["the connection broke after the host had begun"; 3]),
    ("cat >/dev/null; head -c 50 $D/good; exit 255", 69, ["the connection broke after the host had begun"; 3]),
    ("cat >/dev/null; cat $D/short; exit 255", 69, ["the connection broke after the host had begun"; 3]),
    ("cat >/dev/null; cat $D/good; exit 255", 69, ["the connection broke after the host had begun"; 3]),
    ("cat >/dev/null; cat $D/good; kill -9 $$", 69, ["the connection broke after the host had begun"; 3]),
    // It signs, and says that it has not.
    ("cat >/dev/null; cat $D/good; echo 'sigsh: error: no record' >&2; exit 74", 74, ["127.0.0.1: no record"; 3]),
    ("cat >/dev/null; cat $D/good; echo 'sigsh: error: busy' >&2; exit 75", 75, ["127.0.0.1: busy"; 3]),
    ("cat >/dev/null; cat $D/good; exit 1", 69, ["127.0.0.1: it gives no reason"; 3]),
    // It says that all is well.
    ("cat >/dev/null", 76, ["the answer ended too early"; 3]),
    ("cat >/dev/null; cat $D/short", 76, ["the signature is not good", "ended too early", "ended too early"]),
    ("cat >/dev/null; head -c 50 $D/good", 76, ["the signature is not good", "ended too early", "ended too early"]),
    ("cat >/dev/null; yes garbage | head -c 2000", 76, ["the signature is not good", "not what was asked for", "it is no JSON"]),
    ("cat >/dev/null; head -c 2000 /dev/zero", 76, ["the signature is not good", "ended too early", "ended too early"]),
    ("cat >/dev/null; cat $D/key", 76, ["the signature is not good: it is not by a key of the pinned certificate"; 3]),
    ("cat >/dev/null; cat $D/file", 76, ["the signature is not good: it is not on these bytes"; 3]),
    ("cat >/dev/null; cat $D/type", 76, ["the signature is not good: of another type than was asked for"; 3]),
    ("cat >/dev/null; cat $D/doubled", 76, ["the signature is not good"; 3]),
    ("cat >/dev/null; cat $D/more", 76, ["not one signature alone", "more signatures than files", "more signatures than files"]),
    (
        "cat >/dev/null; cat $D/good; echo x",
        76,
        ["not one signature alone", "not what was asked for", "more signatures than files"],
    ),
    (
        "cat >/dev/null; cat $D/good $D/good",
        76,
        ["not one signature alone", "not what was asked for", "more signatures than files"],
    ),
    ("cat >/dev/null; cat $D/good; yes", 76, ["too long", "not what was asked for", "more signatures than files"]),
    ("cat >/dev/null; yes", 76, ["too long", "not what was asked for", "it is no JSON"]),
    ("cat >/dev/null; cat /etc/sigsh/ed25519.pgp", 76, ["not a signature", "ended too early", "it is no JSON"]),
    // It has time.
    ("cat >/dev/null; exec sleep 1000", 69, ["127.0.0.1: it does not answer"; 3]),
    ("exec sleep 1000", 69, ["127.0.0.1: it does not answer"; 3]),
    ("cat >/dev/null; while :; do printf ' '; sleep 0.1; done", 69, ["127.0.0.1: it does not answer"; 3]),
    ("cat >/dev/null; cat $D/good; exec sleep 1000", 69, ["127.0.0.1: it does not answer"; 3]),
    ("cat >/dev/null; cat $D/good; exec >/dev/null; sleep 1000 & exit 255", 69, ["the connection broke"; 3]),
    // It is of many words, and such as do something.
    ("printf 'sigsh: error: \\033[2J\\a\\rno\\303\\251\\342\\200\\256\\n' >&2; exit 77", 77, ["127.0.0.1: ?[2J??noé?"; 3]),
    ("cat >/dev/null; printf 'a\\033]0;b\\a\\n' >&2; exit 1", 69, ["127.0.0.1: a?]0;b?"; 3]),
    ("cat >/dev/null; yes noise | head -n 800000 >&2; exit 1", 69, ["127.0.0.1: noise"; 3]),
    ("cat >/dev/null; head -c 5000000 /dev/zero >&2; exit 1", 69, ["127.0.0.1: ????"; 3]),
    ("for i in 1 2 3; do echo 'sigsh: error: e' >&2; echo 'sigsh: hint: h' >&2; done; exit 77", 77, ["127.0.0.1: e"; 3]),
];

/// Without an old signature, and with one that is to be replaced.
fn changes_nothing(way: Way, script: &str, code: i32, text: &str) {
    let timeout = if text.contains("it does not answer") { "1s" } else { "60s" };
    let fake = Fake::with(way, script, &format!("retry = \"1s\"\ntimeout = \"{timeout}\""));
    let before = fake.listing();
    fails(&fake.run(&[]), code, text);
    assert_eq!(fake.listing(), before, "{way:?} {script}");
    for name in fake.names() {
        fake.server.write(&format!("{name}.sig"), "old");
    }
    let before = fake.listing();
    let outcome = fake.run(&["--force"]);
    fails(&outcome, code, text);
    assert!(outcome.took < Duration::from_secs(30), "{way:?} {script}: {outcome:?}");
    assert_eq!(fake.listing(), before, "{way:?} {script}");
    for name in fake.names() {
        assert_eq!(fake.server.read(&format!("{name}.sig")), b"old", "{way:?} {script}");
    }
}

#[test]
fn whatever_a_host_does_wrong_leaves_no_file() {
    std::thread::scope(|scope| {
        for (number, way) in WAYS.into_iter().enumerate() {
            scope.spawn(move || {
                for (script, code, texts) in FAULTS {
                    changes_nothing(way, script, *code, texts[number]);
                }
            });
        }
    });
}

/// The table's other side: the same scripts' good answer is one.
#[test]
fn a_good_answer_is_taken() {
    for way in WAYS {
        for script in ["cat >/dev/null; cat $D/good", "cat >/dev/null; cat $D/good; printf '\\033[2J' >&2"] {
            let fake = Fake::new(way, script);
            let outcome = fake.run(&[]);
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
            for (number, name) in fake.names().iter().enumerate() {
                verify("ed25519", &fake.server.read(&format!("{name}.sig")), &content(number + 1));
            }
        }
    }
}

/// A state is a line: there is nothing left to read.
#[test]
fn an_answer_that_comes_too_early_or_has_no_end() {
    for way in [Sign, Tar] {
        changes_nothing(way, "cat $D/good", 76, "it came before the end of the input");
        changes_nothing(way, "head -c 70000 >/dev/null; cat $D/good", 76, "it came before the end of the input");
        changes_nothing(way, "cat $D/good; exec sleep 1000", 69, "it does not answer");
    }
    // Zeros are what may stand behind the end of a tar, for as long as it takes.
    for (way, code, text) in [(Sign, 76, "too long"), (Tar, 69, "it does not answer"), (State, 76, "a line is too long")] {
        changes_nothing(way, "cat >/dev/null; cat /dev/zero", code, text);
    }
}
