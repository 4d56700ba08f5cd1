//! The gpg front end: the argument lists of packagers' tools, replayed, and what they get.

use super::BuildServer;
use crate::world::{Outcome, finish, succeed, verify};
use sigsh::openpgp::Pinned;

const KEY: &str = "rsa4096";

/// The fingerprint of the key.
fn fingerprint() -> String {
    let pinned = Pinned::read(&std::fs::read(format!("/etc/sigsh/{KEY}.pgp")).unwrap()).unwrap();
    pinned.certs()[0].fingerprint().to_hex()
}

fn server() -> BuildServer {
    BuildServer::new("build1", &[KEY, "ed25519"], "log = false")
}

fn call(server: &BuildServer, line: &str, input: &[u8]) -> Outcome {
    finish(server.gpg(line), input)
}

/// The content of a cleartext-signed message, if gpgv takes it.
fn opened(server: &BuildServer, message: &[u8]) -> Vec<u8> {
    server.write("message", message);
    let keyring = format!("/etc/sigsh/{KEY}.pgp");
    let text =
        succeed(server.program("gpgv", &["--keyring", &keyring, "--output", "-", "message"]).env("GNUPGHOME", "/nowhere")).stdout;
    std::fs::remove_file(server.path("message")).unwrap();
    text
}

/// Each call of the tools that signs a file beside others: what is signed is `in`, and the signature is in the file that is named.
#[test]
fn files_are_signed_as_each_tool_calls() {
    let server = server();
    let (fpr, content) = (fingerprint(), b"content\n");
    for (line, output, armored) in [
        // makepkg, repo-add
        ("--detach-sign --use-agent --no-armor DIR/in", "in.sig", false),
        ("--detach-sign --use-agent -u FPR --no-armor DIR/in", "in.sig", false),
        // rpmsign, with standard input
        ("--no-verbose --no-armor --no-secmem-warning -u FPR -sbo in.sig -- -", "in.sig", false),
        ("--no-verbose --no-armor --no-secmem-warning --digest-algo=sha512 -u FPR -sbo in.sig -- -", "in.sig", false),
        // repomd.xml
        ("--detach-sign --armor in", "in.asc", true),
        // aptly
        (
            "-o Release.gpg --digest-algo SHA256 --armor --yes -u FPR --no-tty --batch --pinentry-mode loopback --detach-sign in",
            "Release.gpg",
            true,
        ),
        // goreleaser
        ("--output in.out --detach-sig in", "in.out", false),
        // Maven
        (
            "--batch --pinentry-mode loopback --passphrase-fd 0 --local-user FPR --armor --detach-sign --status-fd 1 --batch --no-tty --output in.asc in",
            "in.asc",
            true,
        ),
        // mkarchiso
        (
            "--batch --no-armor --no-include-key-block --output in.sig --detach-sign --default-key FPR --sender rsa4096@example.org in",
            "in.sig",
            false,
        ),
    ] {
        server.write("in", content);
        let line = line.replace("DIR", &server.directory).replace("FPR", &fpr);
        let outcome = call(&server, &line, content);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{line}: {outcome:?}");
        let signature = server.read(output);
        assert_eq!(signature.starts_with(b"-----BEGIN PGP SIGNATURE-----\n"), armored, "{line}");
        verify(KEY, &signature, content);
        let status = String::from_utf8(outcome.out).unwrap();
        assert_eq!(status.contains("[GNUPG:] SIG_CREATED D 1 10 00 "), line.contains("--status-fd"), "{line}: {status}");
        std::fs::remove_file(server.path(output)).unwrap();
        std::fs::remove_file(server.path("in")).unwrap();
        assert_eq!(server.files(), [""; 0], "{line}");
    }
}

#[test]
fn streams_are_signed_as_each_tool_calls() {
    let server = server();
    let fpr = fingerprint();
    for (line, input, signed) in [
        // git
        ("--status-fd=2 -bsau FPR", "tree 1\n", "tree 1\n"),
        ("--status-fd=2 -bsau 'Test rsa4096 <rsa4096@example.org>'", "tree 1\n", "tree 1\n"),
        // debsigs
        ("--openpgp --detach-sign --default-key FPR", "ar", "ar"),
        // Gradle: the passphrase, then the data.
        ("--local-user FPR --pinentry-mode=loopback --passphrase-fd 0 --no-tty --batch --detach-sign", "secret\njar\n", "jar\n"),
    ] {
        let outcome = call(&server, &line.replace("FPR", &fpr), input.as_bytes());
        assert_eq!(outcome.code, Some(0), "{line}: {outcome:?}");
        verify(KEY, &outcome.out, signed.as_bytes());
        let begun = format!("[GNUPG:] KEY_CONSIDERED {fpr} 0\n[GNUPG:] BEGIN_SIGNING H10\n[GNUPG:] SIG_CREATED D 1 10 00 ");
        let listens = line.contains("--status-fd");
        assert!(if listens { outcome.err.starts_with(&begun) } else { outcome.err.is_empty() }, "{line}: {outcome:?}");
        assert!(!listens || outcome.err.ends_with(&format!(" {fpr}\n")), "{outcome:?}");
    }
}

#[test]
fn messages_are_signed_as_each_tool_calls() {
    let server = server();
    let fpr = fingerprint();
    server.write("in", "Format: 3.0\n- dash\n");
    for line in [
        "--local-user FPR --clearsign --list-options no-show-policy-urls --armor --textmode --output out in",
        "--no-auto-check-trustdb --local-user FPR --clearsign --openpgp --personal-digest-preferences 'SHA512 SHA384 SHA256 SHA224' \
         --list-options no-show-policy-urls --armor --textmode --output out in",
        "--weak-digest SHA1 --weak-digest RIPEMD160 --utf8-strings --textmode --armor --openpgp --personal-digest-preferences \
         'SHA512 SHA384 SHA256 SHA224' --local-user FPR --output out --clearsign in",
        "-o out --digest-algo SHA256 --yes -u FPR --no-tty --batch --pinentry-mode loopback --clearsign in",
    ] {
        let outcome = call(&server, &line.replace("FPR", &fpr), b"");
        assert_eq!((outcome.code, outcome.err.as_str(), outcome.out.len()), (Some(0), "", 0), "{line}: {outcome:?}");
        assert_eq!(opened(&server, &server.read("out")), b"Format: 3.0\n- dash\n");
        std::fs::remove_file(server.path("out")).unwrap();
    }
}

/// What is there stays, unless the call says otherwise; and gpg's way to say no is exit code 2.
#[test]
fn what_fails_fails_as_gpg_does() {
    let server = server();
    server.write("in", "x");
    server.write("in.sig", "old");
    let exists = call(&server, "--status-fd 1 --batch --detach-sign in", b"");
    assert_eq!((exists.code, server.read("in.sig")), (Some(2), b"old".to_vec()));
    assert_eq!(exists.out, b"[GNUPG:] FAILURE sign 33587235\n");
    assert_eq!(exists.err, "sigsh-gpg: error: in.sig exists already\nsigsh-gpg: hint: --yes replaces it\n");
    for (line, words) in [
        ("--no-such-option", "invalid option '--no-such-option'"),
        ("--detach-sign absent", "absent: no such file or directory"),
        ("--sign in", "sigsh makes detached and cleartext signatures only, not signed or encrypted messages"),
        ("--sign --encrypt -r x in", "sigsh makes detached and cleartext signatures only, not signed or encrypted messages"),
        ("-b -o - in in", "several files are to be signed as one"),
        (
            "-b -o - -u rsa4096@example.org -u ed25519@example.org in",
            "several keys are to sign at once, and an output takes one signature",
        ),
        ("-b -o - --set-notation a@b=c in", "a signature by sigsh cannot have what --set-notation asks for"),
        ("-b -o - --status-fd 77 in", "the file descriptor 77 is not open"),
        ("--enable-special-filenames -b -- -&77", "the file descriptor 77 is not open"),
    ] {
        let outcome = call(&server, line, b"");
        assert_eq!((outcome.code, outcome.out.len()), (Some(2), 0), "{line}: {outcome:?}");
        assert_eq!(outcome.err.lines().next(), Some(format!("sigsh-gpg: error: {words}").as_str()), "{line}");
    }
    assert_eq!(server.files(), ["in", "in.sig"]);
}

/// git goes by the status alone: it says nothing of a signature that there is not.
#[test]
fn no_status_tells_of_a_signature_that_is_not_there() {
    let server = BuildServer::new("stranger", &[KEY], "log = false");
    let outcome = call(&server, "--status-fd=2 -bsau rsa4096@example.org", b"tree 1\n");
    assert_eq!((outcome.code, outcome.out.len()), (Some(2), 0), "{outcome:?}");
    assert!(!outcome.err.contains("SIG_CREATED") && outcome.err.contains("[GNUPG:] FAILURE sign 1\n"), "{outcome:?}");
    // The certificate is another key's than the one that signs.
    let server = BuildServer::new("build1", &["ed25519"], "log = false");
    let wrong = server.read(".config/sigsh/client.toml");
    let wrong = String::from_utf8(wrong).unwrap().replace("/etc/sigsh/ed25519.pgp", &format!("/etc/sigsh/{KEY}.pgp"));
    server.write(".config/sigsh/client.toml", wrong);
    let outcome = call(&server, "--status-fd=2 -bsau rsa4096@example.org", b"tree 1\n");
    assert_eq!((outcome.code, outcome.out.len()), (Some(2), 0), "{outcome:?}");
    assert!(
        !outcome.err.contains("SIG_CREATED") && outcome.err.contains("it is not by a key of the pinned certificate"),
        "{outcome:?}"
    );
}

#[test]
fn keys_are_listed_and_exported() {
    let server = server();
    let fpr = fingerprint();
    let listed = call(&server, &format!("--list-secret-key {fpr}"), b"");
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let colons = call(&server, &format!("--batch --with-colons --list-secret-keys -- {fpr}"), b"");
    let text = String::from_utf8(colons.out).unwrap();
    let sec = text.lines().next().unwrap().split(':').collect::<Vec<_>>();
    assert_eq!((sec[0], sec[4], sec[14]), ("sec", &fpr[24..], "+"), "{text}");
    assert!(text.contains(&format!("\nfpr:::::::::{fpr}:\n")), "{text}");
    let unknown = call(&server, "--list-secret-key 0123456789012345678901234567890123456789", b"");
    assert_eq!((unknown.code, unknown.out.len()), (Some(2), 0), "{unknown:?}");
    let exported = call(&server, &format!("--batch --no-armor --output pubring --export {fpr}"), b"");
    assert_eq!((exported.code, exported.err.as_str()), (Some(0), ""));
    assert_eq!(server.read("pubring"), std::fs::read(format!("/etc/sigsh/{KEY}.pgp")).unwrap());
}

/// Another key, another command: the real gpg's, with all that stands around.
#[test]
fn the_rest_is_the_real_gpgs() {
    let server = server();
    let digest = call(&server, "--print-md sha256", b"abc");
    assert!(String::from_utf8_lossy(&digest.out).contains("BA7816BF"), "{digest:?}");
    let real = String::from_utf8(succeed(&mut server.program("gpg", &["--version"])).stdout).unwrap();
    assert!(!real.contains("sigsh-client"), "{real}");
    server.write("in", "x");
    assert_eq!(call(&server, "-b in", b"").code, Some(0));
    for certificate in [&format!("/etc/sigsh/{KEY}.pgp"), "/etc/sigsh/ed25519.pgp"] {
        succeed(&mut server.gpg(&format!("--batch --import {certificate}")));
    }
    let verified = call(&server, "--status-fd 1 --verify in.sig in", b"");
    assert!(String::from_utf8_lossy(&verified.out).contains("[GNUPG:] GOODSIG "), "{verified:?}");
    server.write("in", "y");
    let verified = call(&server, "--status-fd 1 --verify in.sig in", b"");
    assert!(verified.code == Some(1) && String::from_utf8_lossy(&verified.out).contains("[GNUPG:] BADSIG "), "{verified:?}");
    let mut other = server.gpg("--batch --passphrase '' --quick-generate-key other@example.org ed25519 sign never");
    succeed(&mut other);
    let signed = call(&server, "--status-fd 2 -u other@example.org -b", b"x");
    assert_eq!(signed.code, Some(0), "{signed:?}");
    assert!(signed.err.contains("SIG_CREATED D 22"), "{signed:?}");
    let nobody = call(&server, "-u nobody@example.org -b", b"x");
    assert_eq!((nobody.code, nobody.out.len()), (Some(2), 0), "{nobody:?}");
}

/// A certificate may have several keys that sign: one that is demanded by `!` must have signed, or nothing is written.
#[test]
fn the_key_that_is_demanded_is_the_one_that_signs() {
    let server = BuildServer::new("build1", &[KEY], "");
    let gpg = |line: &str| {
        succeed(&mut server.program("gpg", &shlex::split(line).unwrap().iter().map(String::as_str).collect::<Vec<_>>()))
    };
    let keys = || {
        let listed = String::from_utf8(gpg("--with-colons --list-secret-keys").stdout).unwrap();
        let keys = listed.lines().filter_map(|line| line.strip_prefix("fpr:::::::::"));
        keys.map(|key| key.trim_end_matches(':').to_owned()).collect::<Vec<_>>()
    };
    gpg("--batch --passphrase '' --quick-generate-key two@example.org ed25519 cert never");
    for _ in 0..2 {
        gpg(&format!("--batch --passphrase '' --quick-add-key {} ed25519 sign never", keys()[0]));
    }
    let [primary, first, second] = &keys()[..] else { panic!("{:?}", keys()) };
    let certificate = server.write("two.pgp", gpg("--export").stdout);
    let config = format!(
        "hosts = [\"signer@127.0.0.1\"]\nssh-options = [\"-p\", \"1\"]\nretry = \"1s\"\nlog = false\n\
         local-fallback = [\"/usr/bin/gpg\", \"--batch\", \"-u\", \"{first}!\"]\n[key.two]\ncertificate = \"{certificate}\"\n"
    );
    server.write(".config/sigsh/client.toml", config);
    for asked in [primary.as_str(), &format!("{first}!"), second] {
        let outcome = call(&server, &format!("--status-fd 2 -u {asked} -b"), b"x");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.err.lines().last().unwrap().ends_with(first), "{outcome:?}");
    }
    let outcome = call(&server, &format!("--status-fd 2 -u {second}! -b"), b"x");
    assert_eq!((outcome.code, outcome.out.len()), (Some(2), 0), "{outcome:?}");
    let end = format!(
        "[GNUPG:] KEY_CONSIDERED {primary} 0\n\
         [GNUPG:] FAILURE sign 1\nsigsh-gpg: error: {second} was to sign, and {first} has signed\n"
    );
    let said =
        outcome.err.lines().filter(|line| !line.starts_with("sigsh-client: ")).map(|line| format!("{line}\n")).collect::<String>();
    assert!(said.ends_with(&end), "{said}");
}

/// What gpgme passes: descriptors for data, status and log.
#[test]
fn descriptors_of_the_caller_are_used() {
    let server = server();
    server.write("data", "through a descriptor");
    let gpg = server.path(".front/gpg");
    server.front();
    let line = format!(
        "'{gpg}' --enable-special-filenames --batch --no-sk-comments --status-fd 8 --no-tty --charset utf8 --logger-fd 13 \
         --sign --detach --armor -u {} -- '-&12' 8>status 12<data 13>log >out",
        fingerprint()
    );
    succeed(&mut server.program("bash", &["-c", &line]));
    verify(KEY, &server.read("out"), b"through a descriptor");
    let status = String::from_utf8(server.read("status")).unwrap();
    assert!(status.ends_with('\n') && status.contains("[GNUPG:] SIG_CREATED D 1 10 00 "), "{status}");
    assert!(server.read("log").is_empty());
    // A passphrase stands before the data, on whichever descriptor.
    server.write("data", "secret\nafter a passphrase");
    let line = format!("'{gpg}' --enable-special-filenames --passphrase-fd 12 -b -u {} -- '-&12' 12<data >out", fingerprint());
    succeed(&mut server.program("bash", &["-c", &line]));
    verify(KEY, &server.read("out"), b"after a passphrase");
}

#[test]
fn a_log_of_its_own() {
    let server = BuildServer::new("build1", &["ed25519"], &format!("log = \"{}/log\"", crate::world::scratch()));
    let config = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
    let log = config.lines().find_map(|line| line.strip_prefix("log = ")).unwrap().trim_matches('"').to_owned();
    server.write("in", "x");
    assert_eq!(call(&server, "-b in", b"").code, Some(0));
    assert_eq!(call(&server, "-b in", b"").code, Some(2));
    let lines = std::fs::read_to_string(log).unwrap();
    let lines = lines.lines().map(|line| line.split_once("]: ").unwrap().1).collect::<Vec<_>>();
    assert!(lines[0].starts_with("in signed by "), "{lines:?}");
    assert_eq!(lines[1], "in.sig exists already");
}

/// `sigsh-client gpg`: what comes before is the client's, what comes after gpg's, be it of the same name.
#[test]
fn by_the_clients_own_name() {
    let server = server();
    let listed = server.run(&["--key", "ed25519", "gpg", "-K", "--with-colons"], b"");
    assert_eq!((listed.code, String::from_utf8(listed.out).unwrap().matches("sec:").count()), (Some(0), 1));
    let outcome = server.run(&["-k", "ed25519", "gpg", "--batch", "-b"], b"x");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    verify("ed25519", &outcome.out, b"x");
    let version = server.run(&["gpg", "--version"], b"");
    assert!(String::from_utf8(version.out).unwrap().starts_with("gpg (GnuPG) "));
}
