//! Texts: signed as lines, detached or in one message with their signature, and what every verifier makes of them.

use crate::trixie;
use crate::world::{
    HOME, KEYS, Outcome, Session, calls, faulty, field, finish_child, patient, records, scratch, verify, verify_file, world,
};
use sha2::{Digest, Sha256, Sha512};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

const MIB: usize = 1 << 20;
const MAX_LINE: usize = sigsh::hasher::MAX_LINE;

/// Every awkward text that verifiers agree on.
fn awkward() -> Vec<Vec<u8>> {
    let long = |length| vec![b'-'; length];
    let armor = b"-----BEGIN PGP SIGNATURE-----\n\niHUEABYKAB0WIQ\n=AAAA\n-----END PGP SIGNATURE-----\n";
    let message = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n- - a\n-----BEGIN PGP SIGNATURE-----\n\nwnUE\n-----END PGP SIGNATURE-----\n";
    let texts: [&[u8]; 29] = [
        b"\n",
        b" ",
        b"a",
        b"a\n",
        b"a\n\n\n\n",
        b"\n\n\na\n",
        b"\n\n",
        b"-",
        b"--\n- \n-\n- - a\n-a",
        b"From a\nFrom\n>From \nfrom \n From ",
        b"trailing  \nblanks\t\n \t \n\t\nand none",
        b"at the end \t ",
        b"dos\r\nlines\r\n",
        b"dos\r\nlines \t\r\n\r\n\r\n",
        b"\r\n",
        b"mixed\r\nlines\nof both\r\n",
        b"no last line feed\r\nhere",
        b"latin \xe4\xf6\xfc\xa0\n",
        b"\xff\xfe\x00u\x00t\x00f\n\x001\x006\n",
        b"\0 at the beginning, in \0 the middle\n",
        b"form feed\x0c\nvertical tab\x0b\nescape\x1b\n",
        b"next line\xc2\x85\nseparator\xe2\x80\xa8\n",
        b"Hash: SHA512\n\nComment: no header\n",
        armor,
        message,
        b"-----BEGIN PGP SIGNED MESSAGE-----",
        b"=AAAA\n\x1a\n",
        b" -----BEGIN PGP SIGNATURE-----\n\t-----END PGP SIGNATURE-----\n",
        b"\n-----BEGIN PGP SIGNATURE-----\n",
    ];
    let long = [long(MAX_LINE), [&long(MAX_LINE)[..], b"\r\n", &long(MAX_LINE), b"\n"].concat()];
    texts.iter().map(|text| text.to_vec()).chain(long).collect()
}

fn certificate(key: &str) -> String {
    format!("/etc/sigsh/{key}.pgp")
}

fn sign(request: &str, text: &[u8]) -> Outcome {
    world().session("build1", request).run(text)
}

/// What gpgv makes of a cleartext-signed message: the text, where it is good.
fn gpgv(key: &str, message: &[u8]) -> Option<Vec<u8>> {
    let directory = scratch();
    let (file, text) = (format!("{directory}/message"), format!("{directory}/text"));
    fs::write(&file, message).unwrap();
    let mut command = Command::new("gpgv");
    command.args(["--keyring", &certificate(key), "--output", &text, &file]).env("GNUPGHOME", HOME);
    let good = command.output().unwrap().status.success();
    let text = good.then(|| fs::read(&text).unwrap());
    fs::remove_dir_all(directory).unwrap();
    text
}

/// A message taken apart as apt does it: the text without blanks at the ends of lines and without its last line feed, and the signature.
fn split(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (head, rest) = message.split_at(message.windows(2).position(|two| two == b"\n\n").unwrap() + 2);
    assert_eq!(head, b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n");
    let begin = b"\n-----BEGIN PGP SIGNATURE-----\n";
    let end = rest.windows(begin.len()).position(|window| window == begin).unwrap();
    let lines = rest[..end].split(|byte| *byte == b'\n').map(|line| {
        assert!(!line.starts_with(b"-") || line.starts_with(b"- "), "{}", line.escape_ascii());
        let line = line.strip_prefix(b"- ").unwrap_or(line);
        let blanks = line.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
        &line[..line.len() - blanks]
    });
    (lines.collect::<Vec<_>>().join(&b'\n'), rest[end + 1..].to_vec())
}

/// Every verifier accepts the message, and gives the text back but for blanks at the ends of lines and the very last line's end.
#[track_caller]
fn accepted(key: &str, text: &[u8], message: &[u8]) {
    let lines = text.split_inclusive(|byte| *byte == b'\n').flat_map(|line| {
        let (line, ending) = match line {
            [line @ .., b'\r', b'\n'] => (line, &b"\r\n"[..]),
            [line @ .., b'\n'] => (line, &b"\n"[..]),
            line => (line, &b""[..]),
        };
        let blanks = line.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        [&line[..line.len() - blanks], ending].concat()
    });
    let stripped = lines.collect::<Vec<_>>();
    let shown = &text.escape_ascii().to_string()[..(text.len().min(200))];
    let ended = if stripped.ends_with(b"\n") { stripped.clone() } else { [&stripped[..], b"\n"].concat() };
    assert!(gpgv(key, message).as_ref() == Some(&ended), "gpgv: {shown}");
    assert!(trixie::gpgv(&certificate(key), message) == Some(ended), "gpgv of Debian 13: {shown}");
    let open = stripped.strip_suffix(b"\n").unwrap_or(&stripped);
    let open = open.strip_suffix(b"\r").unwrap_or(open);
    assert!(trixie::cleartext(&certificate(key), message).as_deref() == Some(open), "sqv of Debian 13: {shown}");
    let (data, signature) = split(message);
    verify(key, &signature, &data);
    trixie::verify(&certificate(key), &signature, &data);
}

#[test]
fn awkward_texts_in_one_message() {
    for text in awkward() {
        let outcome = sign("sign ed25519 --cleartext", &text);
        accepted("ed25519", &text, outcome.signature());
    }
    // Nothing is one empty line, for every verifier.
    let outcome = sign("sign ed25519 --cleartext --size 0", b"");
    accepted("ed25519", b"", outcome.signature());
}

#[test]
fn awkward_texts_detached() {
    for (number, text) in awkward().into_iter().enumerate() {
        let outcome = sign(if number % 2 == 0 { "sign ed25519 --type text" } else { "sign ed25519 --type text --armor" }, &text);
        let signature = outcome.signature();
        assert_eq!(signature.starts_with(b"-----BEGIN PGP SIGNATURE-----\n"), number % 2 == 1);
        verify("ed25519", signature, &text);
        trixie::verify(&certificate("ed25519"), signature, &text);
        // The same lines, ended in the other way.
        let unix = String::from_utf8_lossy(&text).replace("\r\n", "\n");
        if unix.len() == text.len() - text.windows(2).filter(|two| two == b"\r\n").count() {
            verify("ed25519", signature, unix.as_bytes());
            verify("ed25519", signature, unix.replace('\n', "\r\n").as_bytes());
        }
    }
    verify("ed25519", sign("sign ed25519 --type text --size 0", b"").signature(), b"");
}

/// As the tools of Debian write them.
const DSC: &[u8] =
    b"Format: 3.0 (quilt)\nSource: tiny\nBinary: tiny\nMaintainer: J\xc3\xb6rg <j@example.org>\nChecksums-Sha256:\n \
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 tiny_1.orig.tar.xz\nFiles:\n \
d41d8cd98f00b204e9800998ecf8427e 0 tiny_1.orig.tar.xz\n";
const CHANGES: &[u8] =
    b"Format: 1.8\nSource: tiny\nChanges:\n tiny (1) unstable; urgency=medium\n .\n   * - First.\n .\n  -- J <j@example.org>\n";

#[test]
fn dsc_and_changes_by_every_kind_of_key() {
    for key in KEYS {
        for text in [DSC, CHANGES] {
            let outcome = sign(&format!("sign {key} --cleartext"), text);
            accepted(key, text, outcome.signature());
        }
    }
}

#[test]
fn a_text_that_was_changed_is_refused() {
    let outcome = sign("sign ed25519 --cleartext", DSC);
    let message = String::from_utf8(outcome.signature().to_vec()).unwrap();
    for changed in
        [message.replace("tiny_1", "tiny_2"), message.replace("Format", " Format"), message.replace("\nFiles", "\n\nFiles")]
    {
        assert_ne!(changed, message);
        assert_eq!(
            (gpgv("ed25519", changed.as_bytes()), trixie::cleartext(&certificate("ed25519"), changed.as_bytes())),
            (None, None)
        );
    }
}

#[test]
fn ambiguous_texts_are_refused() {
    world();
    let (config, count) = faulty("", &[]);
    let carriage = "the text has a carriage return without a line feed, which verifiers read differently";
    let nul = "the text has a line that ends with a NUL byte, which verifiers read differently";
    let long = "the text has a line of more than 19990 bytes, which verifiers cut off";
    for (text, line) in [
        (b"a\rb\n".to_vec(), carriage),
        (b"a\r\r\n".to_vec(), carriage),
        (b"a\r".to_vec(), carriage),
        (b"\r".to_vec(), carriage),
        (b"a\0\n".to_vec(), nul),
        (b"a\n\0 \t".to_vec(), nul),
        (vec![b'x'; MAX_LINE + 1], long),
        ([&vec![b'x'; MAX_LINE + 1][..], b"\n"].concat(), long),
        (vec![b'x'; 3 * MIB], long),
    ] {
        for request in ["sign ed25519 --cleartext", "sign ed25519 --type text"] {
            let outcome = Session::new(&config).client("build1").request(request).run(&text);
            outcome.fails(65, line, "failed", "the input cannot be hashed: it has a ");
            assert_eq!(outcome.err.lines().nth(1), Some("sigsh: hint: sign its bytes instead: --type binary"));
            assert_eq!(outcome.records.len(), 1, "{outcome:#?}");
        }
        // Its bytes can be signed.
        if text.len() < 10 {
            verify("ed25519", sign("sign ed25519 --type binary", &text).signature(), &text);
        }
    }
    assert_eq!((calls(&count, "C_Login"), calls(&count, "C_SignInit")), (0, 0));
}

/// A text of this many bytes, whose every line begins with a dash: the worst that the file in memory must hold.
fn dashes(length: usize) -> Vec<u8> {
    b"-\n".iter().copied().cycle().take(length).collect()
}

#[test]
fn sixteen_mib_and_not_a_byte_more() {
    let line = "the input is longer than the 16 MiB that can be signed as cleartext";
    for odd in [0, 1] {
        let text = dashes(16 * MIB - odd);
        let outcome = sign(&format!("sign ed25519 --cleartext --size {}", text.len()), &text);
        let message = outcome.signature();
        assert_eq!(gpgv("ed25519", message), Some([&text[..], if odd == 1 { b"\n" } else { b"" }].concat()));
        let open = text.strip_suffix(b"\n").unwrap_or(&text);
        assert!(trixie::cleartext(&certificate("ed25519"), message).as_deref() == Some(open));
    }
    sign("sign ed25519 --cleartext", &dashes(16 * MIB + 1)).fails(65, line, "failed", "it is too long to be signed as cleartext");
    // By declaration: before a byte is read.
    let declared = sign("sign ed25519 --cleartext --size 16777217", b"a\rb");
    declared.fails(77, "the declared size exceeds the limit of 16777216 bytes", "refused", "limit of 16777216 bytes");
    // A client's own limit is not loosened by it.
    let small = world().session("small", "sign --cleartext").run(&[b'\n'; 1025]);
    small.fails(65, "the input is longer than declared or allowed", "failed", "it is too long");
    world().session("small", "sign --cleartext --size 1025").run(b"").fails(
        77,
        "the declared size exceeds the limit of 1024 bytes",
        "refused",
        "",
    );
}

/// The record tells which bytes came, by the hasher's word, and the signature as it left.
#[test]
fn what_is_recorded() {
    let text = b"one \r\ntwo\n-three";
    for (request, mode, claimed) in [
        ("sign ed25519", "artifact", ""),
        ("sign ed25519 --type binary", "artifact", ""),
        ("sign ed25519 --type text", "text", "yes"),
        ("sign ed25519 --type text --armor", "text", "yes"),
        ("sign ed25519 --cleartext", "cleartext", "yes"),
        ("sign ed25519 --cleartext --type text", "cleartext", "yes"),
    ] {
        let outcome = sign(request, text);
        outcome.signature();
        for record in &outcome.records {
            assert_eq!((field(record, "SIGSH_MODE"), field(record, "SIGSH_CLAIMED")), (mode, claimed));
            assert_eq!(record.get("SIGSH_CLAIMED").is_some(), claimed == "yes");
            assert_eq!(field(record, "SIGSH_SIZE"), text.len().to_string());
            assert_eq!(field(record, "SIGSH_SHA512"), hex::encode(Sha512::digest(text)));
        }
        let signature = if mode == "cleartext" { split(&outcome.out).1 } else { outcome.out.clone() };
        assert_eq!(field(&outcome.records[1], "SIGSH_SIGNATURE_SHA256"), hex::encode(Sha256::digest(&signature)));
    }
}

/// What is declared is the file, not its lines.
#[test]
fn declared_and_sent() {
    let text = b"one\ntwo \n";
    let digest = |bytes: &[u8]| format!("--digest sha512:{}", hex::encode(Sha512::digest(bytes)));
    for form in ["--type text", "--cleartext"] {
        let declared = |more: &str| sign(&format!("sign ed25519 {form} {more}"), text);
        declared(&format!("--size 9 {}", digest(text))).signature();
        declared("--size 10").fails(65, "the input has 9 bytes, not the declared number", "failed", "9 bytes");
        declared("--size 8").fails(65, "the input is longer than declared or allowed", "failed", "too long");
        for other in [&b"one\r\ntwo \r\n"[..], b"one\r\ntwo\r\n", b"one\r\ntwo"] {
            declared(&digest(other)).fails(65, "the input has not the declared digest", "failed", "declared digest");
        }
        sign(&format!("sign ed25519 {form}"), b"").fails(65, "the input is empty", "failed", "empty");
    }
}

#[test]
fn requests_that_contradict_themselves() {
    for more in ["--cleartext --armor", "--cleartext --type binary"] {
        let outcome = sign(&format!("sign ed25519 {more}"), b"text\n");
        outcome.fails(64, "--cleartext goes with neither --armor nor --type binary", "refused", "--cleartext goes with");
    }
}

/// A client that stops reading in the middle, or leaves: recorded, without the signature.
#[test]
fn a_message_that_is_not_taken() {
    let text = dashes(1 << 16);
    for code in ["undelivered: EPIPE", "undelivered: ETIMEDOUT"] {
        let mut child = world().session("build1", "sign ed25519 --cleartext").start();
        let mut stdout = child.stdout.take().unwrap();
        child.stdin.take().unwrap().write_all(&text).unwrap();
        let mut head = [0; 4096];
        stdout.read_exact(&mut head).unwrap();
        assert!(head.starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n- -\n"));
        let kept = code.ends_with("ETIMEDOUT").then_some(stdout);
        let pid = child.id();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "sigsh: error: cannot write to standard output\n");
        assert_eq!(output.status.code(), Some(74));
        let records = records(&format!("_PID={pid}"));
        let events = records.iter().map(|record| field(record, "SIGSH_EVENT")).collect::<Vec<_>>();
        assert_eq!((events, field(&records[2], "SIGSH_REASON").starts_with(code)), (vec!["intent", "signed", "failed"], true));
        let mut rest = Vec::new();
        kept.into_iter().for_each(|mut stdout| drop(stdout.read_to_end(&mut rest)));
        assert!(!rest.windows(9).any(|window| window == b"SIGNATURE"));
    }
}

/// A client that reads slowly, and one that wants it in a file.
#[test]
fn a_message_arrives_whole() {
    let text = dashes(MIB);
    let expected = b"- -\n".iter().copied().cycle().take(2 * MIB).collect::<Vec<_>>();
    let mut child = world().session("build1", "sign ed25519 --cleartext").start();
    let mut stdout = child.stdout.take().unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let (mut message, mut piece) = (Vec::new(), [0; 7777]);
    while let length @ 1.. = stdout.read(&mut piece).unwrap() {
        message.extend(&piece[..length]);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success());
    let head = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n".len();
    assert!(message[head..head + expected.len()] == expected);
    assert!(gpgv("ed25519", &message) == Some(text.clone()));

    let path = format!("{}/message", scratch());
    let mut session = world().session("build1", "sign ed25519 --cleartext");
    let mut child = session.command.stdin(Stdio::piped()).stdout(File::create(&path).unwrap()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(gpgv("ed25519", &fs::read(path).unwrap()) == Some(text));
}

/// Through sshd, whose end of standard output is no file.
#[test]
fn a_large_message_over_ssh() {
    let text = dashes(3 * MIB);
    let outcome = world().ssh("build1", "sign ed25519 --cleartext", &text);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert!(gpgv("ed25519", &outcome.out) == Some(text));
}

/// As on Debian 12: before Linux 6.3 memfd_create(2) knows one flag less.
#[test]
fn on_an_older_kernel() {
    let trace = format!("{}/trace", scratch());
    let mut session = world().session("build1", "sign ed25519 --cleartext");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", &trace, "-e", "inject=memfd_create:error=EINVAL:syscall=geteuid:when=1"]);
    command.arg(session.command.get_program()).args(session.command.get_args());
    command.env_clear().envs(session.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    session.command = command;
    let outcome = session.run(DSC);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    accepted("ed25519", DSC, &outcome.out);
    let calls = fs::read_to_string(trace).unwrap();
    let calls = calls.lines().filter(|line| line.contains("memfd_create(")).collect::<Vec<_>>();
    assert!(calls.len() == 2 && calls[0].contains("INJECTED") && calls[1].contains("MFD_ALLOW_SEALING"), "{calls:?}");
}

/// KiB of private memory.
fn private(pid: u32) -> u64 {
    let figures = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    figures.lines().filter_map(|line| line.strip_prefix("Private_")?.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

#[test]
fn a_large_text_takes_no_more_memory() {
    let text = b"a line of text\n".repeat(MIB / 15);
    let mut child = world().session("build1", "sign ed25519 --type text").start();
    let pid = child.id();
    let mut stdin = child.stdin.take().unwrap();
    for _ in 0..256 {
        stdin.write_all(&text).unwrap();
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let named = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim() == "sigsh-hasher";
    let hasher = children.split_whitespace().map(|pid| pid.parse().unwrap()).find(named).unwrap();
    let read = || fs::read_to_string(format!("/proc/{hasher}/io")).unwrap().lines().next().unwrap()[7..].parse::<usize>().unwrap();
    patient(|| read() >= 256 * text.len());
    for process in [pid, hasher] {
        assert!((1..8 << 10).contains(&private(process)), "{} KiB", private(process));
    }
    child.stdin = Some(stdin);
    let outcome = finish_child(child, b"");
    assert_eq!(field(&outcome.records[1], "SIGSH_SIZE"), (256 * text.len()).to_string());
    let (file, signature) = (format!("{}/text", scratch()), format!("{}/signature", scratch()));
    fs::write(&file, text.repeat(256)).unwrap();
    fs::write(&signature, outcome.signature()).unwrap();
    verify_file("ed25519", &signature, &file);
    fs::remove_file(file).unwrap();
}

/// InRelease, made over ssh, by the rules of Debian 13's own apt.
#[test]
fn apt_of_debian_13() {
    world();
    for key in ["rsa4096", "ed25519", "nistp256"] {
        trixie::apt(key, &certificate(key), |release| {
            let outcome = world().ssh("build1", &format!("sign {key} --cleartext"), release);
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
            outcome.out
        });
    }
}
