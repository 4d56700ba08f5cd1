//! What comes out stands before gpgv and sqv, and only that comes out.

use super::BuildServer;
use super::faults::{Fake, Way};
use crate::world::{HOME, Outcome, succeed, verify, verify_file};
use std::fs;

#[track_caller]
fn well(outcome: &Outcome) {
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
}

#[test]
fn a_file_gets_its_signature() {
    let server = BuildServer::new("build1", &["ed25519", "rsa3072"], "");
    let file = server.write("artifact", b"content\r\n");
    let outcome = server.run(&["sign", "artifact"], b"");
    well(&outcome);
    assert!(outcome.out.is_empty());
    verify_file("ed25519", &format!("{file}.sig"), &file);
    well(&server.run(&["sign", "-k", "rsa3072", "--armor", "artifact"], b""));
    verify_file("rsa3072", &format!("{file}.asc"), &file);
    assert!(server.read("artifact.asc").starts_with(b"-----BEGIN PGP SIGNATURE-----\n"));
    let first = server.read("artifact.sig");
    let again = server.run(&["sign", "artifact"], b"");
    assert_eq!((again.code, again.err.lines().next()), (Some(73), Some("sigsh-client: error: artifact.sig exists already")));
    assert_eq!(server.read("artifact.sig"), first);
    server.write("artifact", b"other content");
    well(&server.run(&["sign", "--force", "artifact"], b""));
    verify_file("ed25519", &format!("{file}.sig"), &file);
    assert_eq!(server.files(), ["artifact", "artifact.asc", "artifact.sig"]);
}

#[test]
fn standard_input_to_standard_output() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let outcome = server.run(&["sign"], b"through a pipe");
    well(&outcome);
    verify("ed25519", &outcome.out, b"through a pipe");
    well(&server.run(&["sign", "-o", "out.sig", "-"], b"to a file"));
    verify("ed25519", &server.read("out.sig"), b"to a file");
    let file = server.write("f", b"x");
    let outcome = server.run(&["sign", "-o", "-", "f"], b"");
    well(&outcome);
    verify("ed25519", &outcome.out, &fs::read(file).unwrap());
}

/// In one connection, as a tar: each gets its own, in any number, with whatever names.
#[test]
fn many_files_by_many_keys() {
    let server = BuildServer::new("build1", &["ed25519", "rsa2048"], "");
    let names = (0..30).map(|number| format!("f {number}-ä\n{}", "x".repeat(number * 8))).collect::<Vec<_>>();
    for name in &names {
        server.write(name, name);
    }
    let names = names.iter().map(String::as_str).collect::<Vec<_>>();
    well(&server.run(&[&["sign", "--"], &names[..]].concat(), b""));
    well(&server.run(&[&["sign", "-a", "-k", "ed25519", "-k", "rsa2048", "--"], &names[..]].concat(), b""));
    for name in names {
        verify("ed25519", &server.read(&format!("{name}.sig")), name.as_bytes());
        for key in ["ed25519", "rsa2048"] {
            verify(key, &server.read(&format!("{name}.{key}.asc")), name.as_bytes());
        }
    }
}

/// Files above the threshold go as hash states, the others do not.
#[test]
fn large_files_go_by_state() {
    let table = "keys = [\"ed25519\", \"rsa2048\"]\ninputs = [\"artifact\", \"tar\", \"state\"]";
    let server = BuildServer::admitted("stater", table, &["ed25519", "rsa2048"], "state-above = \"1MB\"");
    let large = vec![7; 3_000_000];
    for (name, bytes) in [("a", &large[..]), ("b", b"small"), ("c", &large[1..]), ("d", b"small, too")] {
        server.write(name, bytes);
    }
    well(&server.run(&["sign", "-k", "ed25519", "-k", "rsa2048", "a", "b", "c", "d"], b""));
    for name in ["a", "b", "c", "d"] {
        for key in ["ed25519", "rsa2048"] {
            verify_file(key, &server.path(&format!("{name}.{key}.sig")), &server.path(name));
        }
    }
}

#[test]
fn texts_in_both_forms() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let text = "- dash\nFrom here\n\ttrailing \t\nlast";
    let file = server.write("Release", text);
    well(&server.run(&["sign", "--cleartext", "-o", "InRelease", "Release"], b""));
    let message = String::from_utf8(server.read("InRelease")).unwrap();
    assert!(message.starts_with("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n- - dash\n- From here\n"), "{message}");
    let opened = server.program("gpgv", &["--keyring", "/etc/sigsh/ed25519.pgp", "--output", "-", "InRelease"]).output().unwrap();
    assert!(opened.status.success(), "{opened:?}");
    well(&server.run(&["sign", "--text", "Release"], b""));
    server.write("Release", text.replace('\n', "\r\n"));
    verify_file("ed25519", &format!("{file}.sig"), &file);
}

/// What a host has signed before it had enough is not signed twice: the rest comes as the rate allows.
#[test]
fn more_files_than_a_host_takes_at_once() {
    let table = "keys = [\"ed25519\"]\ninputs = [\"artifact\", \"tar\", \"state\"]\nrate = \"2/s\"\nburst = 2";
    for (client, more) in [("patient", ""), ("patient-state", "state-above = \"1\"")] {
        let server = BuildServer::admitted(client, table, &["ed25519"], more);
        let names = (10..22).map(|number| number.to_string()).collect::<Vec<_>>();
        names.iter().for_each(|name| drop(server.write(name, name)));
        let outcome = server.run(&["sign"].into_iter().chain(names.iter().map(String::as_str)).collect::<Vec<_>>(), b"");
        assert_eq!((outcome.code, outcome.out.len()), (Some(0), 0), "{outcome:?}");
        assert!(outcome.err.contains("too many signatures"), "{outcome:?}");
        for name in names {
            verify("ed25519", &server.read(&format!("{name}.sig")), name.as_bytes());
        }
    }
}

/// A signature over the right bytes, but one of long ago; and one that will be worth nothing tomorrow.
#[test]
fn neither_an_old_signature_nor_one_that_expires() {
    for (made, why) in [
        ("--faked-system-time 20240101T000000", "it is an old one, of 2024-01-01T00:00:0"),
        ("--default-sig-expire 1d", "it expires"),
        ("", ""),
    ] {
        let fake = Fake::new(Way::Sign, "cat >/dev/null; cat $D/ours");
        let gpg = |line: &str| {
            let mut command = fake.server.program("gpg", &["--batch", "--quiet", "--homedir", ".fake", "--passphrase", ""]);
            succeed(command.args(shlex::split(line).unwrap()))
        };
        gpg("--faked-system-time 20230101T000000 --quick-generate-key old@example.org ed25519 sign never");
        gpg(&format!("{made} --output .fake/ours --detach-sign f1"));
        gpg("--output .fake/certificate --export");
        succeed(&mut fake.server.program("gpgconf", &["--homedir", ".fake", "--kill", "all"]));
        let outcome = fake.run(&["--certificate", ".fake/certificate"]);
        if why.is_empty() {
            well(&outcome);
            continue;
        }
        assert_eq!((outcome.code, fake.server.files()), (Some(76), vec!["f1".to_owned()]), "{outcome:?}");
        assert!(outcome.err.contains(&format!("the signature is not good: {why}")), "{outcome:?}");
    }
}

/// What a user's ssh_config makes of ssh is not what a signature needs.
#[test]
fn whatever_ssh_config_says() {
    for (settings, more) in [
        ("ForkAfterAuthentication yes\nStdinNull yes\nSessionType none\n", ""),
        ("ForkAfterAuthentication yes\nStdinNull yes\nSessionType subsystem\n", "reuse = false"),
        ("RemoteCommand echo\nRequestTTY force\nLogLevel DEBUG3\n", ""),
        ("ControlMaster auto\nControlPath /nowhere/socket\nEscapeChar x\n", "reuse = false"),
    ] {
        let server = BuildServer::new("build1", &["ed25519"], more);
        let include = format!("{settings}Include {HOME}/ssh_config\n");
        let config = server.write(".config/ssh", include);
        let toml = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
        server.write(".config/sigsh/client.toml", toml.replace(&format!("{HOME}/ssh_config"), &config));
        let outcome = server.run(&["sign"], b"content");
        well(&outcome);
        verify("ed25519", &outcome.out, b"content");
    }
    // An ssh that keeps silent about why it has failed is not taken for a host that is down.
    let more = "retry = \"1s\"\nlocal-fallback = [\"touch\", \"fallen\"]";
    let server = BuildServer::new("build1", &["ed25519"], more).with_ssh(&["-oLogLevel=QUIET", "-oPubkeyAuthentication=no"]);
    let outcome = server.run(&["sign"], b"content");
    assert_eq!((outcome.code, server.files().len()), (Some(69), 0), "{outcome:?}");
}

/// Who must declare a digest signs many files, too.
#[test]
fn digests_are_declared_for_many_files() {
    let server = BuildServer::new("careful", &["ed25519"], "digest = true");
    for name in ["a", "b"] {
        server.write(name, name);
    }
    well(&server.run(&["sign", "a", "b"], b""));
    for name in ["a", "b"] {
        verify("ed25519", &server.read(&format!("{name}.sig")), name.as_bytes());
    }
    let without = BuildServer::new("careful", &["ed25519"], "");
    without.write("a", "a");
    assert_eq!(without.run(&["sign", "a"], b"").code, Some(77));
}

/// All of them or none, whichever way each goes: what must go on its own is not there when the next is refused.
#[test]
fn nothing_is_there_when_one_is_refused() {
    let server = BuildServer::new("small", &["ed25519"], "");
    server.write("a", "a");
    server.write("b", [b'x'; 4000]);
    for options in [&["--cleartext"][..], &[]] {
        let outcome = server.run(&[&["sign", "a", "b"], options].concat(), b"");
        assert!(outcome.code != Some(0), "{outcome:?}");
        assert_eq!(server.files(), ["a", "b"]);
    }
}

/// At a terminal, and only there: files, bytes, rate and time, in one line that fits.
#[test]
fn progress_fits_the_terminal() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    server.write("large", vec![0; 100_000_000]);
    for columns in [80, 40] {
        let line = format!("stty rows 10 cols {columns}; sigsh-client sign --force large");
        let shown = succeed(server.program("script", &["-qec", &line, "/dev/null"]).env("TERM", "xterm")).stdout;
        let shown = String::from_utf8(shown).unwrap();
        let lines = shown.split(['\r', '\n']).map(plain).filter(|line| !line.trim().is_empty()).collect::<Vec<_>>();
        let strange =
            lines.iter().filter(|line| !line.starts_with(['0', '1']) || line.chars().count() > columns).collect::<Vec<_>>();
        assert!(strange.is_empty(), "{columns}: {strange:#?}");
        assert!(lines.iter().any(|line| line.contains("MiB/95.37 MiB")), "{lines:#?}");
    }
}

/// Without what moves a cursor.
fn plain(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        all + part.trim_start_matches(|c: char| c.is_ascii_digit() || ";?".contains(c)).get(1..).unwrap_or_default()
    })
}
