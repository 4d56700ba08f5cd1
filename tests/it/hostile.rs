//! Hostile requests, generated: each session ends as documented, with one error line or a good result, and leaves well-formed records
//! with nothing of the client's outside the fields that are meant for it.

use crate::world::{Session, changed, field, world};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// What no field may hold but those for the client's own words.
const MARK: &str = "INJECTED";

/// How a binary signature packet begins (RFC 9580 §4.2).
const SIGNATURE: u8 = 0xc2;

/// In `SSH_ORIGINAL_COMMAND`; the kernel takes no longer variable.
const LONGEST: usize = 130_000;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    fn bytes(&mut self, longest: usize, from: u8, to: u8) -> Vec<u8> {
        let length = self.below(longest) + 1;
        (0..length).map(|_| from + self.below(usize::from(to - from) + 1) as u8).collect()
    }

    fn word(&mut self) -> Vec<u8> {
        match self.below(12) {
            0 => self.bytes(40, 1, 31),
            1 => self.bytes(40, 0x80, 0xff),
            2 => self.bytes(80, b' ', b'~'),
            3 => {
                let length = [255, 256, 511, 512, 513, 768, 4096, 16_370, 16_383, 16_384, 16_385, 65_536, LONGEST][self.below(13)];
                self.of::<[u8]>(&[b"x", b"%", b"'", b"-", b" ", b"\n", b"\xff", b"ab "]).repeat(length)[..length].to_vec()
            }
            4 => self.of(INJECTIONS).as_bytes().to_vec(),
            5 => self.of(SHELL).as_bytes().to_vec(),
            6 => self.of(OPTIONS).as_bytes().to_vec(),
            7 => self.of(PATHS).as_bytes().to_vec(),
            8 => self.of(UNICODE).as_bytes().to_vec(),
            9 => self.of(NUMBERS).as_bytes().to_vec(),
            10 => self.of(DIGESTS).as_bytes().to_vec(),
            _ => self.of(GOOD).as_bytes().to_vec(),
        }
    }

    /// A request, and whether it must be signed.
    fn request(&mut self) -> (Vec<u8>, bool) {
        let word = self.word();
        let join = |before: &str, word: &[u8]| [before.as_bytes(), word].concat();
        let request = match self.below(10) {
            0 => word,
            1 | 2 => {
                let mut words = word;
                for _ in 0..self.below(6) {
                    words.extend(self.of(&[" ", "  ", "\t", "\n", "\r\n", ";", "", " -- "]).as_bytes());
                    words.extend(self.word());
                }
                words
            }
            3 => join("sign ed25519 --name ", &word),
            4 | 5 => {
                let name = String::from_utf8_lossy(&word).replace('\0', "");
                let request = format!("sign --name={}", shlex::try_quote(&name).unwrap());
                let good = request.len() <= 16 * 1024 && request.bytes().all(|byte| (b' '..=b'~').contains(&byte));
                return (request.into_bytes(), good);
            }
            6 => join("sign --size ", self.of(NUMBERS).as_bytes()),
            7 => join("sign --digest ", self.of(DIGESTS).as_bytes()),
            8 => join(self.of(&["certificate ", "help ", "version ", "sign ", "sign --armor "]), &word),
            _ => {
                let mut good = self.of(GOOD).as_bytes().to_vec();
                for _ in 0..=self.below(3) {
                    let (at, byte) = (self.below(good.len()), self.below(255) as u8 + 1);
                    match self.below(3) {
                        0 => good[at] = byte,
                        1 => good.insert(at, byte),
                        _ if good.len() > 1 => drop(good.remove(at)),
                        _ => {}
                    }
                }
                good
            }
        };
        (request, false)
    }
}

const INJECTIONS: &[&str] = &[
    "\nSIGSH_EVENT=signed\nMESSAGE=INJECTED\n",
    "sign\nSIGSH_CLIENT=INJECTED\nPRIORITY=0",
    "\nMESSAGE\n\x08\x01\x01\x01\x01\x01\x01\x01INJECTED\n",
    "SIGSH_EVENT=signed SIGSH_KEY=INJECTED",
    "MESSAGE=INJECTED",
    "_UID=0\nSYSLOG_IDENTIFIER=INJECTED\n\n",
    "sign --name 'a\nSIGSH_REASON=INJECTED'",
    "\x1b]0;INJECTED\x07\x1b[2J",
    "\r\nsigsh: error: INJECTED\r\n",
    "%0aMESSAGE%3dINJECTED%00",
    "{\"MESSAGE\":\"INJECTED\"}",
];
const SHELL: &[&str] = &[
    "; id",
    "| sh",
    "&& reboot",
    "> /etc/passwd",
    "$(id)",
    "`id`",
    "${HOME}",
    "$IFS",
    "*?[a-z]",
    "~root",
    "!!",
    "#",
    "(",
    "{a,b}",
    "\\",
    "'",
    "\"",
    "'\"",
    "$'\\n'",
    "a\\",
    "%n%n%s%s%x",
    "{}{:?}",
    "%99999999d",
    "\\x0a\\u{a}",
];
const OPTIONS: &[&str] = &[
    "-",
    "--",
    "---",
    "-c",
    "-h",
    "-V",
    "--help",
    "--version",
    "--config",
    "--config=/etc/shadow",
    "--armor=INJECTED",
    "--size",
    "--size=",
    "--name",
    "--name=",
    "--digest",
    "--digest=",
    "--armor --armor",
    "--no-armor",
    "-armor",
    "--ARMOR",
    "--type text",
    "--cleartext",
    "--output=/etc/sigsh/INJECTED",
    "@/etc/passwd",
    "-oProxyCommand=id",
];
const PATHS: &[&str] = &[
    "../../../../etc/passwd",
    "/proc/self/environ",
    "/etc/sigsh/hsm.pin",
    "//host/share",
    "C:\\INJECTED",
    "/usr/bin/sigsh",
    "sigsh",
    "./-",
    "file:///etc/passwd",
    "/dev/stdin",
    "/dev/fd/3",
];
const UNICODE: &[&str] = &[
    "\u{202e}gnp.exe",
    "ŝign",
    "sign\u{200d}",
    "\u{feff}sign",
    "ｓｉｇｎ",
    "\u{2028}INJECTED",
    "🔑",
    "e\u{301}\u{301}\u{301}",
    "\u{a0}",
    "\u{85}",
];
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-1",
    "7",
    "8",
    "9",
    "+8",
    "08",
    "0x8",
    "8.0",
    "8k",
    "1e3",
    " 8",
    "'8 '",
    "８",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1_000",
    "NaN",
    "∞",
    "''",
];
/// One of them is that of `artifact`.
const DIGESTS: &[&str] = &[
    "sha512:",
    "sha512:00",
    "sha512:zz",
    ":",
    "sha512",
    "md5:d41d8cd98f00b204e9800998ecf8427e",
    "SHA512:00",
    "sha512:INJECTED",
    "sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "sha512:00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "sha512:14697440701c3885f7c8d5faa59f336b471ca86332034eff0d3fddc02dc9b18b8356e840db54823c8fd2f2cbd0906969cf132cf8bb9c73dc769b4ffd817bd23d",
];
const GOOD: &[&str] = &[
    "sign",
    "sign ed25519",
    "sign --armor",
    "sign --size 8",
    "sign ed25519 --armor --size=8 --name INJECTED",
    "certificate",
    "certificate ed25519 --armor",
    "help",
    "version",
];

fn run(config: &Path, request: &[u8], as_shell: bool) -> (u32, Output) {
    let mut session = Session::new(config).client("limited");
    if as_shell {
        session.command.arg("-c").arg(OsStr::from_bytes(request));
    } else {
        session.command.env("SSH_ORIGINAL_COMMAND", OsStr::from_bytes(request));
    }
    let mut child = session.start();
    // It fits the pipe; who refuses does not read it.
    let _ = child.stdin.take().unwrap().write_all(b"artifact");
    (child.id(), child.wait_with_output().unwrap())
}

/// The records of these processes since this second, by process: one look for all of them.
fn records(pids: impl Iterator<Item = u32>, since: u64) -> BTreeMap<u32, Vec<Value>> {
    assert!(Command::new("journalctl").arg("--sync").status().unwrap().success());
    let mut journal = Command::new("journalctl");
    journal.args(["-q", "-o", "json", "--all", &format!("--since=@{since}")]).args(pids.map(|pid| format!("_PID={pid}")));
    let output = journal.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut records: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        records.entry(field(&record, "_PID").parse().unwrap()).or_default().push(record);
    }
    records
}

/// The fields that sigsh(8) explains, and what every record has.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../docs/man/sigsh.8.md");
    let words = page.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
    let ours = words.filter(|word| word.starts_with("SIGSH_"));
    ours.chain(["MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER"]).map(str::to_owned).collect()
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// How one session ended.
struct End {
    request: Vec<u8>,
    must_sign: bool,
    output: Output,
    records: Vec<Value>,
}

impl End {
    fn judge(&self, documented: &BTreeSet<String>) {
        let events = self.records.iter().map(|record| field(record, "SIGSH_EVENT")).collect::<Vec<_>>();
        let err = std::str::from_utf8(&self.output.stderr).unwrap();
        let code = self.output.status.code().unwrap();
        if code == 0 {
            assert!(!self.output.stdout.is_empty() && err.is_empty());
            let signs = self.output.stdout.first() == Some(&SIGNATURE)
                || [&b"-----BEGIN PGP SIGNATURE-----\n"[..], b"-----BEGIN PGP SIGNED MESSAGE-----\n"]
                    .iter()
                    .any(|armor| self.output.stdout.starts_with(armor));
            assert_eq!(events, if signs { vec!["intent", "signed"] } else { vec![] });
            assert!(signs || !self.must_sign);
        } else {
            assert!([64, 65, 77].contains(&code) && !self.must_sign && self.output.stdout.is_empty());
            let lines = err.lines().collect::<Vec<_>>();
            assert!(lines[0].starts_with("sigsh: error: ") && lines.len() <= 2 && err.ends_with('\n'));
            assert!(lines.iter().all(|line| is_plain(line)) && lines[1..].iter().all(|line| line.starts_with("sigsh: hint: ")));
            assert!(events == ["refused"] || (code == 65 && events == ["failed"]), "{events:?}");
            assert_eq!(field(&self.records[0], "SIGSH_CODE"), code.to_string());
            assert!(field(&self.records[0], "MESSAGE").ends_with(&lines[0]["sigsh: error".len()..]));
        }
        for record in &self.records {
            for (name, value) in record.as_object().unwrap().iter().filter(|(name, _)| !name.starts_with('_')) {
                // A field that stands twice, or is no text, is an array.
                let text = value.as_str().unwrap_or_else(|| panic!("{name}"));
                assert!(documented.contains(name) && is_plain(text) && text.len() <= 768, "{name}");
                assert!(["SIGSH_REQUEST", "SIGSH_NAME"].contains(&name.as_str()) || !text.contains(MARK), "{name}");
            }
            assert_eq!((field(record, "SYSLOG_IDENTIFIER"), field(record, "SIGSH_PEER")), ("sigsh", "192.0.2.1:4000"));
            assert!(
                ["", "limited"].contains(&field(record, "SIGSH_CLIENT")) && ["", "ed25519"].contains(&field(record, "SIGSH_KEY"))
            );
            assert_eq!(field(record, "SIGSH_SESSION"), field(&self.records[0], "SIGSH_SESSION"));
            let logged = percent_encoding::percent_decode_str(field(record, "SIGSH_REQUEST")).collect::<Vec<_>>();
            assert!(self.request.starts_with(&logged) && logged.len() >= self.request.len().min(150));
        }
    }
}

fn sessions(number: usize, seed: u64) {
    const BATCH: usize = 500;
    world();
    let config = changed(&[]);
    let documented = documented();
    let (mut names, mut signed) = (BTreeSet::new(), 0);
    for batch in 0..number.div_ceil(BATCH) {
        let first = batch * BATCH;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let next = AtomicUsize::new(first);
        let work = || {
            let mut ended = Vec::new();
            loop {
                let session = next.fetch_add(1, Ordering::Relaxed);
                if session >= number.min(first + BATCH) {
                    return ended;
                }
                let mut random = Random(seed.wrapping_add(session as u64));
                let (mut request, must_sign) = random.request();
                request.retain(|byte| *byte != 0);
                request.truncate(LONGEST);
                // `sigsh -c sigsh` asks for nothing.
                let as_shell = session.is_multiple_of(4) && !request.ends_with(b"sigsh");
                let (pid, output) = run(&config, &request, as_shell);
                ended.push((session, pid, End { request, must_sign, output, records: Vec::new() }));
            }
        };
        let ended = thread::scope(|scope| {
            let workers = (0..4).map(|_| scope.spawn(work)).collect::<Vec<_>>();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        });
        let mut records = records(ended.iter().map(|(_, pid, _)| *pid), since);
        for (session, pid, mut end) in ended {
            end.records = records.remove(&pid).unwrap_or_default();
            let judged = std::panic::catch_unwind(|| end.judge(&documented));
            let shown = String::from_utf8_lossy(&end.request[..end.request.len().min(600)]);
            assert!(judged.is_ok(), "session {session}, seed {seed}: {shown:?}\n{:?}\n{:#?}", end.output, end.records);
            signed += usize::from(end.records.len() == 2);
            names.extend(end.records.first().map(|record| field(record, "SIGSH_SESSION").to_owned()));
        }
        assert!(records.is_empty(), "{records:#?}");
    }
    assert!(names.iter().all(|name| name.len() == 32) && names.len() > number * 9 / 10, "{}", names.len());
    assert!(signed > number / 20, "{signed}");
}

#[test]
fn a_thousand_hostile_requests() {
    sessions(1000, 1);
}

#[test]
#[ignore = "takes a quarter of an hour: just soak"]
fn a_hundred_thousand_hostile_requests() {
    sessions(100_000, SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
}
