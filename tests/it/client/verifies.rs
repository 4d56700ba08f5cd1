//! `verify`: what gpg and sigsh have made is good, and nothing that was touched.

use super::BuildServer;
use crate::world::{Outcome, succeed};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Keys of gpg, in a home of their own.
struct Gpg<'a>(&'a BuildServer);

impl Gpg<'_> {
    fn new(server: &BuildServer) -> Gpg<'_> {
        fs::create_dir(server.path("gnupg")).unwrap();
        fs::set_permissions(server.path("gnupg"), fs::Permissions::from_mode(0o700)).unwrap();
        Gpg(server)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.0.program("gpg", &["--quiet", "--batch", "--yes", "--passphrase", ""]);
        command.args(arguments).env("GNUPGHOME", self.0.path("gnupg"));
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        String::from_utf8(succeed(&mut self.command(arguments)).stdout).unwrap()
    }

    /// A key that expires so, and its fingerprint.
    fn key(&self, name: &str, more: &[&str], expire: &str) -> String {
        self.run(&[more, &["--quick-gen-key", name, "ed25519", "sign", expire]].concat());
        let list = self.run(&["--with-colons", "--list-keys", name]);
        list.lines().find(|line| line.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap().to_owned()
    }

    fn export(&self, name: &str, file: &str) {
        self.run(&["--output", file, "--export", name]);
    }
}

/// Each line of a good outcome, without its date.
#[track_caller]
fn good(outcome: &Outcome) -> Vec<String> {
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
    let text = String::from_utf8(outcome.out.clone()).unwrap();
    let line = |line: &str| {
        let (rest, date) = line.rsplit_once(", ").unwrap();
        assert!(date.starts_with("20") && date.ends_with('Z') && date.len() == 20, "{line}");
        rest.to_owned()
    };
    text.lines().map(line).collect()
}

#[track_caller]
fn bad(outcome: &Outcome, line: &str) {
    assert_eq!((outcome.code, outcome.out.len()), (Some(65), 0), "{outcome:?}");
    assert_eq!(outcome.err, format!("sigsh-client: error: {line}\n"));
}

fn fingerprint(key: &str) -> String {
    let pinned = sigsh::openpgp::Pinned::read(&fs::read(format!("/etc/sigsh/{key}.pgp")).unwrap()).unwrap();
    pinned.certs()[0].fingerprint().to_hex()
}

#[test]
fn what_sigsh_signed() {
    let server = BuildServer::new("build1", &["ed25519", "rsa2048"], "");
    let keys = ["ed25519", "rsa2048"].map(|key| format!("signed by {}, Test {key} <{key}@example.org>", fingerprint(key)));
    let [ed25519, rsa2048] = &keys;
    server.write("a", "- content\r\nof lines\n");
    server.write("b", "");
    let run = |arguments: &[&str]| server.run(arguments, b"");
    for arguments in
        [&["sign", "a", "b"][..], &["sign", "--text", "-o", "a.asc", "a"], &["sign", "-k", "rsa2048", "-o", "other", "a"]]
    {
        assert_eq!(run(arguments).code, Some(0));
    }
    let verified = good(&run(&["verify", "a", "b"]));
    assert_eq!(verified, ["ok: a (a.sig): ", "ok: a (a.asc): ", "ok: b (b.sig): "].map(|what| what.to_owned() + ed25519));
    assert_eq!(good(&run(&["verify", "--signature", "other", "a"])), [format!("ok: a (other): {rsa2048}")]);
    bad(
        &run(&["verify", "-k", "ed25519", "--signature", "other", "a"]),
        "other: the signature is not good: it is not by a key of the pinned certificate",
    );
    // A text beside its message, and the message alone.
    for (file, arguments) in
        [("a", &["verify", "a"][..]), ("a.asc", &["verify", "a.asc"]), ("a", &["verify", "--signature", "a.asc", "a"])]
    {
        fs::remove_file(server.path("a.asc")).unwrap();
        assert_eq!(run(&["sign", "--cleartext", "a"]).code, Some(0));
        let beside = if file == "a" { "a (a.asc)" } else { "a.asc" };
        assert_eq!(good(&run(arguments)).last(), Some(&format!("ok: {beside}: {ed25519}")));
    }
    server.write("a", "- content\r\nof lines");
    bad(&run(&["verify", "--signature", "a.sig", "a"]), "a.sig: the signature is not good: it is not on these bytes");
    // The end of the last line is nothing of a message.
    assert_eq!(good(&run(&["verify", "--signature", "a.asc", "a"])).len(), 1);
    server.write("a", "- content\r\nof lies\n");
    bad(&run(&["verify", "--signature", "a.asc", "a"]), "a.asc: the signature is not good: it is not on these bytes");

    // Each of several keys.
    server.write("c", "c");
    assert_eq!(run(&["sign", "-a", "-k", "ed25519", "-k", "rsa2048", "c"]).code, Some(0));
    let both = [format!("ok: c (c.ed25519.asc): {ed25519}"), format!("ok: c (c.rsa2048.asc): {rsa2048}")];
    assert_eq!(good(&run(&["verify", "-k", "ed25519", "-k", "rsa2048", "c"])), both);
    assert_eq!(good(&run(&["verify", "c"])), both);
    fs::rename(server.path("c.rsa2048.asc"), server.path("saved")).unwrap();
    let none = "c: the signature is not good: there is none: neither c.rsa2048.sig nor c.rsa2048.asc";
    bad(&run(&["verify", "-k", "ed25519", "-k", "rsa2048", "c"]), none);
    fs::copy(server.path("c.ed25519.asc"), server.path("c.rsa2048.asc")).unwrap();
    let outcome = run(&["verify", "-k", "ed25519", "-k", "rsa2048", "c"]);
    assert_eq!((outcome.code, outcome.err.lines().count()), (Some(65), 1), "{outcome:?}");
    assert!(outcome.err.contains("c.rsa2048.asc: the signature is not good: it is not by a key of the pinned"), "{outcome:?}");
    // A job that asks for nothing is mistaken.
    assert_eq!(run(&["verify"]).code, Some(64));
    assert_eq!(run(&["verify", "--signature", "other", "a", "b"]).code, Some(64));
}

#[test]
fn what_gpg_signed() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let gpg = Gpg::new(&server);
    let primary = gpg.key("Gpg <gpg@example.org>", &[], "never");
    server.write("f", "- one\nFrom two \t\n\n");
    let verify = |signature: &str| {
        let mut command = server.command(&["verify", "--certificate", "gpg.pgp", "--signature", signature, "f"]);
        // There is no host, and none is needed.
        command.env_remove("HOME");
        crate::world::finish(command, b"")
    };
    gpg.export("gpg@example.org", "gpg.pgp");
    let forms: [(&str, &[&str]); 5] = [
        ("binary", &["--detach-sign"]),
        ("armored", &["--armor", "--detach-sign"]),
        ("lines", &["--textmode", "--detach-sign"]),
        ("message", &["--clearsign"]),
        ("sha256", &["--digest-algo", "SHA256", "--clearsign"]),
    ];
    for (name, arguments) in forms {
        gpg.run(&[arguments, &["--output", name, "f"]].concat());
        let expected = format!("ok: f ({name}): signed by {primary}, Gpg <gpg@example.org>");
        assert_eq!(good(&verify(name)), [expected], "{name}");
    }
    assert_eq!(good(&server.run(&["verify", "--certificate", "gpg.pgp", "message"], b"")).len(), 1);
    // By a subkey.
    gpg.run(&["--quick-add-key", &primary, "ed25519", "sign", "never"]);
    gpg.export("gpg@example.org", "gpg.pgp");
    gpg.run(&["--output", "sub", "--detach-sign", "f"]);
    let line = &good(&verify("sub"))[0];
    assert!(line.contains(&format!(" (a subkey of {primary}), Gpg <")) && !line.contains(&format!("by {primary}")), "{line}");

    for (name, arguments, why) in [
        ("inline", &["--compress-algo", "none", "--sign"][..], "not a signature"),
        ("sha1", &["--digest-algo", "SHA1", "--detach-sign"], "made by SHA1"),
        ("two", &["-u", &primary, "-u", &format!("{primary}!"), "--detach-sign"], "not one signature alone"),
    ] {
        gpg.run(&[arguments, &["--output", name, "f"]].concat());
        bad(&verify(name), &format!("{name}: the signature is not good: {why}"));
    }
    for (name, ahead) in [("far", 400_000_000), ("near", 60)] {
        let date = succeed(Command::new("date").args(["-u", "-d", &format!("{ahead} seconds"), "+%Y%m%dT%H%M%S!"])).stdout;
        gpg.run(&["--faked-system-time", String::from_utf8(date).unwrap().trim(), "--output", name, "--detach-sign", "f"]);
        let outcome = verify(name);
        let line =
            outcome.err.split(' ').map(|word| if word.parse::<u64>().is_ok_and(|n| n.abs_diff(ahead) < 20) { "N" } else { word });
        assert_eq!(
            (outcome.code, line.collect::<Vec<_>>().join(" ")),
            (
                Some(65),
                format!(
                    "sigsh-client: error: {name}: the signature is not good: it was made N seconds in the future: one of the two clocks \
                     is wrong\n"
                )
            )
        );
    }
}

/// Cut, empty, doubled, exchanged: of each form.
#[test]
fn what_was_touched() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    server.write("f", "one\ntwo\n");
    server.write("g", "another\n");
    for (name, arguments) in [("sig", &["sign"][..]), ("asc", &["sign", "-a"]), ("message", &["sign", "--cleartext"])] {
        let outcome = server.run(&[arguments, &["-o", name, "f"]].concat(), b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let whole = server.read(name);
        let verify = |bytes: &[u8]| {
            server.write("s", bytes);
            server.run(&["verify", "--signature", "s", "f"], b"")
        };
        good(&verify(&whole));
        let end = if name == "sig" { whole.len() } else { whole.len() - 1 };
        for cut in (0..end).step_by(7).chain([1, end - 1]) {
            let outcome = verify(&whole[..cut]);
            assert_eq!((outcome.code, outcome.out.len()), (Some(65), 0), "{name} cut at {cut}: {outcome:?}");
        }
        for (what, bytes) in [
            ("empty", Vec::new()),
            ("doubled", [&whole[..], &whole].concat()),
            ("longer", [&whole[..], b"x"].concat()),
            ("longer by a line", [&whole[..], b"x\n"].concat()),
            ("later", [b"x\n", &whole[..]].concat()),
            ("large", vec![0x88; 100_000]),
        ] {
            let outcome = verify(&bytes);
            assert_eq!((outcome.code, outcome.out.len()), (Some(65), 0), "{name} {what}: {outcome:?}");
        }
        for at in (0..whole.len()).step_by(if name == "sig" { 1 } else { 5 }) {
            let mut other = whole.clone();
            other[at] ^= 1;
            let outcome = verify(&other);
            // What of an armor or a header means nothing is as it was; the signature verifies all the same.
            assert!(outcome.code == Some(65) || outcome.code == Some(0) && name != "sig", "{name} at {at}: {outcome:?}");
        }
        bad(
            &server.run(&["verify", "--signature", name, "g"], b""),
            &format!("{name}: the signature is not good: it is not on these bytes"),
        );
    }
    let missing = server.run(&["verify", "f", "none", "g"], b"");
    let lines = [
        "f: the signature is not good: there is none: neither f.sig nor f.asc",
        "none: no such file or directory",
        "g: the signature is not good: there is none: neither g.sig nor g.asc",
    ];
    assert_eq!((missing.code, missing.err), (Some(65), lines.map(|line| format!("sigsh-client: error: {line}\n")).concat()));
    // Whatever stands beside the file counts, and one that is bad is enough.
    fs::copy(server.path("sig"), server.path("f.sig")).unwrap();
    server.write("f.asc", "");
    let outcome = server.run(&["verify", "f"], b"");
    assert_eq!(
        (outcome.code, outcome.err.as_str()),
        (Some(65), "sigsh-client: error: f.asc: the signature is not good: it is empty\n")
    );
    assert!(outcome.out.starts_with(b"ok: f (f.sig): signed by "), "{outcome:?}");
}

/// By a key that had expired, or is revoked.
#[test]
fn what_a_dead_key_signed() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let gpg = Gpg::new(&server);
    server.write("f", "f");
    let day = |day: &str| ["--faked-system-time".to_owned(), format!("202501{day}T000000!")];
    let (first, second, fifth) = (day("01"), day("02"), day("05"));
    let words = |day: &'_ [String; 2]| -> [String; 2] { day.clone() };
    let at = |day: &[String; 2], arguments: &[&str]| {
        let words = words(day);
        gpg.run(&[&[words[0].as_str(), words[1].as_str()], arguments].concat())
    };
    let primary = gpg.key("Old <old@example.org>", &[&first[0], &first[1]], "3d");
    gpg.export("old@example.org", "expired.pgp");
    at(&second, &["--output", "before", "--detach-sign", "f"]);
    at(&second, &["--quick-set-expire", &primary, "0"]);
    at(&fifth, &["--output", "after", "--detach-sign", "f"]);
    let verify = |certificate: &str, signature: &str| {
        server.run(&["verify", "--certificate", certificate, "--signature", signature, "f"], b"")
    };
    // What was signed in time, gpgv refuses now, and so do apt and pacman.
    let since = "the signature is not good: it is by a key that has expired since, or was revoked: sign it again";
    bad(&verify("expired.pgp", "before"), &format!("before: {since}"));
    let dead =
        "the signature is not good: it is by a key that could not sign when it was made: expired, revoked, or not for signing";
    bad(&verify("expired.pgp", "after"), &format!("after: {dead}"));
    gpg.export("old@example.org", "extended.pgp");
    good(&verify("extended.pgp", "after"));
    let revocation = fs::read_to_string(server.path(&format!("gnupg/openpgp-revocs.d/{primary}.rev"))).unwrap();
    server.write("revocation", revocation.replace(":-----BEGIN", "-----BEGIN"));
    gpg.run(&["--import", "revocation"]);
    gpg.export("old@example.org", "revoked.pgp");
    for signature in ["before", "after"] {
        bad(&verify("revoked.pgp", signature), &format!("{signature}: {dead}"));
    }
    // By a subkey, whose primary key alone is expired, or revoked: at once, or for a reason that spares what was signed before.
    let primary = gpg.key("Sub <sub@example.org>", &[&first[0], &first[1]], "never");
    at(&first, &["--quick-add-key", &primary, "ed25519", "sign", "never"]);
    at(&second, &["--output", "sub", "--detach-sign", "f"]);
    gpg.export("sub@example.org", "sub.pgp");
    good(&verify("sub.pgp", "sub"));
    at(&fifth, &["--quick-set-expire", &primary, "3d"]);
    gpg.export("sub@example.org", "sub-expired.pgp");
    // gpg replaces what the primary key said of itself before.
    bad(&verify("sub-expired.pgp", "sub"), &format!("sub: {dead}"));
    let revoke = |reason: &str, certificate: &str| {
        let loopback = ["--quiet", "--no-tty", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""];
        let words = ["--command-fd", "0", "--output", "revocation", "--gen-revoke", &primary];
        let mut command = server.program("gpg", &[&loopback[..], &words].concat());
        command.env("GNUPGHOME", server.path("gnupg"));
        let outcome = crate::world::finish(command, format!("y\n{reason}\n\ny\n").as_bytes());
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        fs::create_dir(server.path(reason)).unwrap();
        fs::set_permissions(server.path(reason), fs::Permissions::from_mode(0o700)).unwrap();
        for arguments in [&["--import", "sub.pgp", "revocation"][..], &["--output", certificate, "--export", &primary]] {
            succeed(server.program("gpg", &["--quiet", "--batch", "--yes"]).args(arguments).env("GNUPGHOME", server.path(reason)));
        }
    };
    revoke("1", "compromised.pgp");
    bad(&verify("compromised.pgp", "sub"), &format!("sub: {dead}"));
    revoke("3", "retired.pgp");
    bad(&verify("retired.pgp", "sub"), &format!("sub: {since}"));
}

/// Whatever it accepts gpgv and sqv accept: of armors and messages that somebody has touched.
#[test]
fn what_is_accepted_others_accept() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    server.write("f", "one\n- two \n");
    server.write("g", "one\n- two \n");
    for arguments in [&["sign", "-a", "-o", "asc", "f"][..], &["sign", "--cleartext", "-o", "message", "f"]] {
        assert_eq!(server.run(arguments, b"").code, Some(0));
    }
    let keyring = "/etc/sigsh/ed25519.pgp";
    let (mut accepted, mut tried) = (0, 0);
    for name in ["asc", "message"] {
        let whole = server.read(name);
        let text = String::from_utf8(whole.clone()).unwrap();
        let mut altered = Vec::new();
        for at in (0..whole.len()).step_by(16) {
            for change in [1, 0x20, 0x80] {
                let mut other = whole.clone();
                other[at] ^= change;
                altered.push(other);
            }
            for byte in [&b""[..], b" ", b"\n", b"\r", b"=", b"\0"] {
                let skipped = usize::from(byte.is_empty());
                altered.push([&whole[..at], byte, &whole[at + skipped..]].concat());
            }
        }
        let lines = text.split_inclusive('\n').collect::<Vec<_>>();
        let more = [
            "\n",
            " \n",
            "Hash: SHA512\n",
            "Hash: SHA256\n",
            "Hash: hello you\n",
            "Hash: SHA256, SHA512\n",
            "Comment: x\n",
            "Version: x\n",
            "x\n",
            "=AAAA\n",
        ];
        for at in 0..=lines.len() {
            let (before, after) = lines.split_at(at);
            let join = |middle: &[&str], skipped: usize| {
                [before, middle, after.get(skipped..).unwrap_or_default()].concat().concat().into_bytes()
            };
            altered.push(join(&[], 1));
            altered.push(join(&after.get(..1).unwrap_or_default().repeat(2), 1));
            for line in more {
                altered.extend([join(&[line], 0), join(&[line], 1)]);
            }
        }
        altered.extend([text.replace('\n', "\r\n").into_bytes(), text.replace("Hash: SHA512\n", "").into_bytes()]);
        altered.extend(["\n", "\n\n \t\n"].map(|end| (text.clone() + end).into_bytes()));
        altered.push(text.replace("SHA512", "SHA384").into_bytes());
        for bytes in altered {
            tried += 1;
            server.write("s", &bytes);
            let arguments = if name == "asc" { &["verify", "--signature", "s", "g"][..] } else { &["verify", "s"] };
            if server.run(arguments, b"").code != Some(0) {
                continue;
            }
            accepted += 1;
            let files = if name == "asc" { &["s", "g"][..] } else { &["s"] };
            for (program, keyring) in [("gpgv", keyring), ("sqv", keyring)] {
                // The sqv of the tests' machine reads no messages.
                if program == "sqv" && name == "message" {
                    continue;
                }
                let outcome = crate::world::finish(server.program(program, &[&["--keyring", keyring], files].concat()), b"");
                assert_eq!(outcome.code, Some(0), "{program}: {:?}: {outcome:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }
    assert!(accepted > 10 && tried > 500, "{accepted} of {tried}");
}
