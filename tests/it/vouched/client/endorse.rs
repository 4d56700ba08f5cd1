//! What a build says of its files.

use super::super::new_key;
use super::super::openpgp::Gpg;
use super::*;
use crate::world::{secret, succeed, verify_file};
use sha2::{Digest, Sha512};

#[test]
fn a_build_endorses_by_gpg() {
    let gpg = Gpg::new();
    let operator = gpg.key("Alice <alice@example.org>", "ed25519", "cert,sign");
    let build = gpg.key("build 7", "ed25519", "sign");
    gpg.certify(&operator, &build, &format!("grant@sigsh=key=vouched-gpg;host={HOST};max=64"), "7200");
    fs::write("/etc/sigsh/vouched-gpg.operators", gpg.export(&operator)).unwrap();
    let server = guarded_by("vouched-gpg", &[], "endorsement = { openpgp = \"/etc/sigsh/vouched-gpg.operators\" }");
    let endorse = |arguments: &[&str]| {
        let mut command = server.command(&["endorse", "--openpgp"]);
        command.args(arguments).env("GNUPGHOME", &gpg.home);
        // What is called gpg there is sigsh-client.
        command.env("PATH", server.front());
        finish(command, b"")
    };
    says(&endorse(&["build 7", "f"]), 0, &[]);
    says(&server.run(&["sign", "f"], b""), 0, &["sigsh-client: with f.endorsement"]);
    verify_file("ed25519", &server.path("f.sig"), &server.path("f"));
    let error = "sigsh-client: error: ";
    says(
        &endorse(&["build 7", "f"]),
        73,
        &[&format!("{error}f.endorsement exists already"), "sigsh-client: hint: --force replaces it"],
    );
    let outcome = endorse(&["build 8", "-o", "g", "f"]);
    assert!(outcome.code == Some(69) && outcome.err.ends_with("error: gpg: it has failed\n"), "{outcome:#?}");
    assert!(!server.files().contains(&"g".to_owned()));
}

/// What `sigsh-admin grant mac` prints goes to the build by a pipe, and into no argument.
#[test]
fn a_build_endorses_by_a_nonce() {
    world();
    secret("/etc/sigsh/vouched-nonce.mac", "correct-horse-4711-staple-magnet");
    let server = guarded_by("vouched-nonce", &[], "endorsement = { mac-file = \"/etc/sigsh/vouched-nonce.mac\" }");
    let grant = ["grant", "mac", "--key", "vouched-nonce", "--id", "build-7", "--expires", "2h"];
    let line = succeed(Command::new("sigsh-admin").args(grant)).stdout;
    says(&server.run(&["endorse", "--mac", "-", "f"], &line), 0, &[]);
    says(&server.run(&["sign", "f"], b""), 0, &["sigsh-client: with f.endorsement"]);
    verify_file("ed25519", &server.path("f.sig"), &server.path("f"));
    let script = "import hmac, sys; k, t = sys.argv[1:]; print(hmac.digest(bytes.fromhex(k), t.encode(), 'sha512').hex())";
    let line = String::from_utf8(line).unwrap();
    let [_, key, host, id, begin, end, max, nonce] = line.trim_end().split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let (size, digest) = (FILE.len(), hex::encode(Sha512::digest(FILE)));
    let text = format!(
        "endorse-v1\nkey {key}\nhost {host}\nid {id}\nnot-before {begin}\nnot-after {end}\nmax {max}\nsize {size}\n\
         digest sha512:{digest}\n"
    );
    let mac = String::from_utf8(succeed(Command::new("python3").args(["-c", script, nonce, &text])).stdout).unwrap();
    assert_eq!(String::from_utf8(server.read("f.endorsement")).unwrap(), format!("mac-v1 {id} {begin} {end} {max} {mac}"));
    let over = line.replace(end, "2026-01-02T03:04:05Z");
    for (text, code, why) in [
        (over.as_str(), 65, "-: it has expired"),
        ("rubbish", 65, "-: this is not what 'sigsh-admin grant mac' prints"),
        (&"x".repeat(5000), 66, "-: it is too long"),
    ] {
        let outcome = server.run(&["endorse", "-f", "--mac", "-", "f"], text.as_bytes());
        says(&outcome, code, &[&format!("sigsh-client: error: {why}")]);
    }
}

#[test]
fn a_build_endorses_several_or_none() {
    let ca = new_key("ed25519");
    let server = BuildServer::new("build1", &["ed25519"], "");
    let certificate = permit(&ca, "ed25519");
    server.write("f", FILE);
    server.write("g", b"");
    let endorse = |more: &[&str], input: &[u8]| server.run(&[&["endorse", "--ssh", &certificate], more].concat(), input);
    says(&endorse(&["f", "nowhere"], b""), 66, &["sigsh-client: error: nowhere: no such file or directory"]);
    assert_eq!(server.files(), ["f", "g"]);
    says(&endorse(&["f", "g"], b""), 0, &[]);
    // By hand, as a certificate's signature is looked at.
    let authority = fs::read_to_string(format!("{ca}.pub")).unwrap();
    server.write("builds", format!("* cert-authority,namespaces=\"artifact@sigsh\" {authority}"));
    for file in ["f", "g"] {
        let script = format!("ssh-keygen -Y verify -f builds -I build@ed25519 -n artifact@sigsh -s {file}.endorsement < {file}");
        succeed(&mut server.program("sh", &["-c", &script]));
    }
    says_first(&endorse(&["f"], b""), 73, "sigsh-client: error: f.endorsement exists already");
    let plain = new_key("ed25519");
    let why = "this key has no certificate: name the \u{2026}-cert.pub that an operator has made of it";
    let line = format!("sigsh-client: error: {plain}: {why}");
    says(&server.run(&["endorse", "-f", "--ssh", &plain, "f"], b""), 65, &[&line]);
    says(&endorse(&["-f", "f"], b""), 0, &[]);
    says(&endorse(&["-o", "x", "f", "g"], b""), 64, &["sigsh-client: error: --output names one file, and there are several"]);
    says(&endorse(&["-f", "-o", "f", "f"], b""), 64, &["sigsh-client: error: f is one of the files that are signed"]);
    let outcome = endorse(&["-"], FILE);
    assert!(outcome.code == Some(0) && outcome.out.starts_with(b"-----BEGIN SSH SIGNATURE-----\n"), "{outcome:#?}");
    // Nothing is configured where artifacts are built, and the hash is SHA-512; or it says what the hash is.
    let config = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
    fs::remove_file(server.path(".config/sigsh/client.toml")).unwrap();
    says(&endorse(&["-k", "release", "-f", "f"], b""), 0, &[]);
    for (hash, code, line) in [("sha256", 0, ""), ("sha384", 64, "no ssh key endorses by sha384: use --openpgp or --mac")] {
        server.write("hash.toml", format!("{config}hash = \"{hash}\"\n"));
        let outcome = endorse(&["--config", "hash.toml", "-f", "f"], b"");
        assert!(outcome.code == Some(code) && outcome.err.contains(line), "{outcome:#?}");
    }
    says_first(
        &endorse(&["--config", "hash.toml", "-k", "other", "f", "-f"], b""),
        78,
        "sigsh-client: error: there is no [key.other] in the configuration",
    );
}

#[test]
fn what_ssh_keygen_gives_is_looked_at() {
    let (ca, carol, dave) = (new_key("ed25519"), Person::new("carol"), Person::new("dave"));
    let server = guarded_by("vouched-fake", &[&carol], TWO);
    let certificate = permit(&ca, "vouched-fake");
    let (key, plain) = (&carol.key, certificate.replace("-cert.pub", ".pub"));
    let sign = "exec /usr/bin/ssh-keygen -q -Y sign -n";
    let approve = || carol.command(&server, &["--yes", "f"]);
    let endorse = || server.command(&["endorse", "--ssh", &certificate, "f"]);
    type Make<'a> = &'a dyn Fn() -> Command;
    for (make, script, why) in [
        (&approve as Make<'_>, "exit 1".to_owned(), "it has failed"),
        (&approve, "kill -KILL $$".to_owned(), "it has failed"),
        (&approve, "cat >/dev/null".to_owned(), "it has written nothing"),
        (&approve, "echo rubbish".to_owned(), "what it has written is no such signature"),
        (&approve, "head -c 100000 /dev/zero".to_owned(), "it is too long"),
        (&approve, format!("{sign} approve@other -f {key}"), "what it has written is no such signature"),
        (&approve, format!("{sign} approve@sigsh -f {}", dave.key), "it has signed by another key"),
        (&approve, format!("echo x | {sign} approve@sigsh -f {key}"), "its signature is not good"),
        (&endorse, "exit 1".to_owned(), "it has failed"),
        (&endorse, "head -c 3; echo x".to_owned(), "what it has written is no such signature"),
        (&endorse, format!("{sign} artifact -f {certificate}"), "what it has written is no such signature"),
        (&endorse, format!("{sign} artifact@sigsh -O hashalg=sha256 -f {certificate}"), "what it has written is no such signature"),
        (&endorse, format!("echo x | {sign} artifact@sigsh -f {certificate}"), "its signature is not good"),
    ] {
        let mut command = make();
        command.env("PATH", fake(&server, "ssh-keygen", &script));
        let outcome = finish(command, b"");
        let end = format!("sigsh-client: error: ssh-keygen: {why}\n");
        assert!(outcome.code == Some(69) && outcome.err.ends_with(&end), "{script} {outcome:#?}");
        assert_eq!(server.files(), ["f"], "{script}");
    }
    let mut command = endorse();
    command.env("PATH", fake(&server, "ssh-keygen", &format!("{sign} artifact@sigsh -f {plain}")));
    let why = "this key has no certificate: name the \u{2026}-cert.pub that an operator has made of it";
    says(&finish(command, b""), 65, &[&format!("sigsh-client: error: {certificate}: {why}")]);
    for (script, why) in [
        ("exit 2", "it has failed"),
        ("echo rubbish", "its signature is not good: "),
        ("cat >/dev/null; cat $HOME/f.text.sig", "its signature is not good: of another type than was asked for"),
    ] {
        let gpg = Gpg::new();
        gpg.key("b", "ed25519", "sign");
        let path = server.path(".f.text.sig");
        let script = script.replace("$HOME/f.text.sig", &path);
        succeed(Command::new("gpg").args([
            "--homedir",
            &gpg.home,
            "--batch",
            "--yes",
            "--textmode",
            "-o",
            &path,
            "-b",
            &server.path("f"),
        ]));
        let mut command = server.command(&["endorse", "--openpgp", "b", "f"]);
        command.env("PATH", fake(&server, "gpg", &script));
        let outcome = finish(command, b"");
        assert!(outcome.code == Some(69) && outcome.err.contains(&format!("error: gpg: {why}")), "{script} {outcome:#?}");
        assert_eq!(server.files(), ["f"], "{script}");
    }
}
