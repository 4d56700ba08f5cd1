//! The old gpg, when no host can be reached, and only then.

use super::BuildServer;
use super::faults::fails;
use super::hosts::{large, odd_host};
use crate::world::{HOME, finish, succeed};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

/// A gpg with a key of its own, whose certificate is pinned beside the host's. Its command line.
fn old_gpg(server: &BuildServer, pinned: bool) -> String {
    let home = server.path(".old");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();
    let gpg =
        |arguments: &[&str]| succeed(Command::new("/usr/bin/gpg").args(["--homedir", &home, "--batch"]).args(arguments)).stdout;
    gpg(&["--passphrase", "", "--quick-generate-key", "Old <old@example.org>", "ed25519", "sign", "never"]);
    let own = gpg(&["--export"]);
    server.write(".old.pgp", &own);
    for key in ["ed25519", "rsa2048"].iter().filter(|_| pinned) {
        let path = format!("/etc/sigsh/{}-{key}.pgp", server.directory.rsplit('/').next().unwrap());
        fs::write(&path, [fs::read(format!("/etc/sigsh/{key}.pgp")).unwrap(), own.clone()].concat()).unwrap();
        let text = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
        server.write(".config/sigsh/client.toml", text.replace(&format!("/etc/sigsh/{key}.pgp"), &path));
    }
    format!("gpg --homedir {home} --batch --quiet")
}

const DOWN: &str = "hosts = [\"ssh://signer@127.0.0.1:1\", \"ssh://signer@127.0.0.1:2\"]\nretry = \"1s\"\nstate-above = \"1MiB\"";

#[test]
fn the_old_gpg_signs_when_every_host_is_down() {
    let server = BuildServer::new("build1", &["ed25519", "rsa2048"], DOWN);
    let fallback = old_gpg(&server, true);
    for (name, bytes) in [("a", &b"text\n- dash\n"[..]), ("b", b"content"), ("large", &large())] {
        server.write(name, bytes);
    }
    let gpgv = |arguments: &[&str]| {
        let keyring = server.path(".old.pgp");
        succeed(server.program("gpgv", &[&["--keyring", &keyring], arguments].concat()).env("GNUPGHOME", HOME))
    };
    let made = |options: &[&str], signatures: &[[&str; 2]]| {
        let outcome = server.run(&[&["sign", "--local-fallback", &fallback], options].concat(), b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let said =
            "sigsh-client: warning: ssh://signer@127.0.0.1:1: ssh: connect to host 127.0.0.1 port 1: Connection refused; ssh://";
        assert!(outcome.err.lines().all(|line| line.starts_with(said)), "{outcome:?}");
        assert!(
            outcome.err.lines().last().unwrap().ends_with("no host can be reached, so gpg signs on this machine"),
            "{outcome:?}"
        );
        for [signature, file] in signatures {
            gpgv(&[signature, file]);
        }
    };
    made(&["a"], &[["a.sig", "a"]]);
    made(&["--force", "--armor", "a"], &[["a.asc", "a"]]);
    made(&["--force", "a", "b"], &[["a.sig", "a"], ["b.sig", "b"]]);
    made(&["large"], &[["large.sig", "large"]]);
    made(&["-k", "rsa2048", "-k", "ed25519", "a", "large"], &[["a.rsa2048.sig", "a"], ["large.ed25519.sig", "large"]]);
    made(&["--force", "--text", "a"], &[["a.sig", "a"]]);
    made(&["--force", "--cleartext", "a"], &[]);
    assert!(String::from_utf8(gpgv(&["--output", "-", "a.asc"]).stdout).unwrap().starts_with("text\n- dash"));
    let outcome = server.run(&["sign", "--local-fallback", &fallback], b"through a pipe");
    server.write("piped.sig", &outcome.out);
    server.write("piped", "through a pipe");
    gpgv(&["piped.sig", "piped"]);
    // To the system's log, too.
    let trace = format!("{}/trace", server.directory);
    let strace = [
        "-f",
        "-qq",
        "-s",
        "400",
        "-e",
        "trace=sendto",
        "-o",
        &trace,
        "sigsh-client",
        "sign",
        "-f",
        "--local-fallback",
        &fallback,
        "a",
    ];
    succeed(&mut server.program("strace", &strace));
    let trace = fs::read_to_string(trace).unwrap();
    assert!(
        trace.contains("\"<11>sigsh-client[") && trace.contains("so gpg signs on this machine") && trace.contains("/dev/log"),
        "{trace}"
    );
}

/// By the configuration, and where gpg itself is sigsh-client.
#[test]
fn the_front_end_falls_back_to_the_real_gpg() {
    let server = BuildServer::new("build1", &["ed25519", "rsa2048"], DOWN);
    let fallback = old_gpg(&server, true).split(' ').map(str::to_owned).collect::<Vec<_>>();
    let text = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
    server.write(".config/sigsh/client.toml", format!("local-fallback = {fallback:?}\n{text}"));
    server.write("f", "content");
    let outcome = finish(server.gpg("--detach-sign f"), b"");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    succeed(server.program("gpgv", &["--keyring", &server.path(".old.pgp"), "f.sig", "f"]).env("GNUPGHOME", HOME));
    // Never itself.
    let ourselves = format!("{}/.front/gpg", server.directory);
    let outcome = server.run(&["sign", "-f", "--local-fallback", &ourselves, "f"], b"");
    fails(&outcome, 69, "the local fallback: ");
}

#[test]
fn the_old_gpg_does_not_sign_what_a_host_refuses_nor_what_does_not_verify() {
    let not = |hosts: &[&str], code: i32, text: &str| {
        let more = format!("hosts = {hosts:?}\nretry = \"1s\"");
        let server = BuildServer::new("build1", &["ed25519"], &more);
        server.write("f", "content");
        let outcome = server.run(&["sign", "--local-fallback", "touch called", "f"], b"");
        fails(&outcome, code, text);
        assert_eq!(server.files(), ["f"], "{outcome:?}");
    };
    let down = "ssh://signer@127.0.0.1:1";
    not(&[down, &odd_host(2265)], 77, "it gives no reason");
    not(&[down, &odd_host(2261)], 75, "too many sessions");
    not(&[&odd_host(2262), down], 78, "configuration");
    not(&["ssh://nobody@127.0.0.1:2222", down], 77, "Permission denied");
    let server = BuildServer::new("build1", &["ed25519"], DOWN);
    let strange = old_gpg(&server, false);
    server.write("f", "content");
    for (command, code, text) in [
        (strange.as_str(), 76, "gpg: the signature is not good: it is not by a key of the pinned certificate"),
        ("false", 69, "the local fallback: false: it has failed"),
        ("true", 69, "the local fallback: true: it has failed"),
        ("echo", 76, "echo: the signature is not good"),
        ("sh -c yes", 69, "the local fallback: sh: it is too long"),
        ("no-such-program -u x", 69, "the local fallback: no-such-program: there is no such program"),
        ("'", 64, "this is no command"),
        ("", 64, "this is no command"),
    ] {
        let outcome = server.run(&["sign", "--local-fallback", command, "f"], b"");
        if code == 64 {
            assert_eq!(outcome.code, Some(64), "{outcome:?}");
        } else {
            fails(&outcome, code, text);
        }
        assert_eq!(server.files(), ["f"], "{command}");
    }
    // Where it is the same at the next attempt, nobody waits for it.
    let more = format!("hosts = [\"{}\"]\nretry = \"60s\"", odd_host(2260));
    let server = BuildServer::new("build1", &["ed25519", "rsa2048"], &more);
    let fallback = old_gpg(&server, true);
    server.write("f", "content");
    let outcome = server.run(&["sign", "--local-fallback", &fallback, "f"], b"");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.took < Duration::from_secs(20), "{outcome:?}");
}
