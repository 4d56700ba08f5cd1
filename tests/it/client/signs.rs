//! What comes out stands before gpgv and sqv, and only that comes out.

use super::BuildServer;
use crate::world::{Outcome, verify, verify_file};
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
    let table = "keys = [\"ed25519\"]\ninputs = [\"artifact\", \"tar\", \"state\"]\nrate = \"8/s\"\nburst = 8";
    for (client, more) in [("patient", ""), ("patient-state", "state-above = \"1\"")] {
        let server = BuildServer::admitted(client, table, &["ed25519"], more);
        let names = (10..40).map(|number| number.to_string()).collect::<Vec<_>>();
        names.iter().for_each(|name| drop(server.write(name, name)));
        let outcome = server.run(&["sign"].into_iter().chain(names.iter().map(String::as_str)).collect::<Vec<_>>(), b"");
        assert_eq!((outcome.code, outcome.out.len()), (Some(0), 0), "{outcome:?}");
        assert!(outcome.err.contains("too many signatures; trying again\n"), "{outcome:?}");
        for name in names {
            verify("ed25519", &server.read(&format!("{name}.sig")), name.as_bytes());
        }
    }
}
