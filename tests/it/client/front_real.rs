//! The real gpg: which one it is, and that it is never ourselves.

use super::BuildServer;
use crate::world::{Outcome, finish, verify};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

const OURS: &str = "/usr/bin/sigsh-client";
const LOOP: &str =
    "sigsh-gpg: error: gpg leads back to sigsh-client\nsigsh-gpg: hint: name the real one by gpg = \"…\" in client.toml\n";

fn server(more: &str) -> BuildServer {
    let server = BuildServer::new("build1", &["ed25519"], &format!("log = false\n{more}"));
    for directory in ["a", "b", "bare"] {
        fs::create_dir(server.path(directory)).unwrap();
    }
    server
}

fn script(server: &BuildServer, name: &str, text: &str) {
    let path = server.write(name, format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// The gpg of a directory, with this PATH; killed when it never ends.
fn run(server: &BuildServer, program: &str, path: &[&str], line: &str) -> Outcome {
    let program = server.path(program);
    let words = shlex::split(line).unwrap();
    let arguments = [vec!["20", &program], words.iter().map(String::as_str).collect()].concat();
    let mut command = server.program("/usr/bin/timeout", &arguments);
    let path = path.iter().map(|path| if path.starts_with('/') { (*path).to_owned() } else { server.path(path) });
    command.env("PATH", path.collect::<Vec<_>>().join(":"));
    finish(command, b"x")
}

fn printed(outcome: &Outcome) -> (Option<i32>, String) {
    (outcome.code, String::from_utf8_lossy(&outcome.out).into_owned() + &outcome.err)
}

#[test]
fn what_leads_back_is_refused() {
    let server = server("");
    // Two copies, none of which knows the other.
    for name in ["a/gpg", "b/gpg"] {
        fs::copy(OURS, server.path(name)).unwrap();
    }
    for line in ["-e -r x", "-b -u nobody@example.org"] {
        assert_eq!(printed(&run(&server, "a/gpg", &["a", "b"], line)), (Some(2), LOOP.to_owned()), "{line}");
    }
    // A wrapper that means the first gpg of PATH.
    script(&server, "bare/gpg", "gpg \"$@\"; exit 5");
    let back = run(&server, "a/gpg", &["a", "bare", "/usr/bin"], "-e -r x");
    assert_eq!(printed(&back), (Some(5), LOOP.to_owned()));
    // The configuration names ourselves: the very file, a link to it, a copy.
    symlink(OURS, server.path("b/link")).unwrap();
    for gpg in [OURS, &server.path("b/link"), &server.path("b/gpg")] {
        let text = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
        let text = text.lines().filter(|line| !line.starts_with("gpg = ")).collect::<Vec<_>>().join("\n");
        server.write(".config/sigsh/client.toml", format!("gpg = \"{gpg}\"\n{text}\n"));
        symlink(OURS, server.path("bare/ours")).ok();
        fs::rename(server.path("bare/ours"), server.path("a/gpg")).unwrap();
        assert_eq!(printed(&run(&server, "a/gpg", &["a", "/usr/bin"], "-e -r x")), (Some(2), LOOP.to_owned()), "{gpg}");
    }
}

/// Nor does the local fallback sign by a copy of ourselves, whose fallback it would be again.
#[test]
fn the_local_fallback_is_not_ourselves() {
    let server = server("hosts = [\"ssh://signer@127.0.0.1:1\"]\nretry = \"1s\"");
    fs::copy(OURS, server.path("b/gpg")).unwrap();
    let text = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
    server.write(".config/sigsh/client.toml", format!("local-fallback = [\"{}\"]\n{text}", server.path("b/gpg")));
    symlink(OURS, server.path("a/gpg")).unwrap();
    let (code, said) = printed(&run(&server, "a/gpg", &["a", "/usr/bin"], "--batch -b"));
    let back = "sigsh-gpg: error: the local fallback: it leads back to sigsh-client\n";
    let end = format!("{back}sigsh-gpg: error: the local fallback: {}: it has failed\n", server.path("b/gpg"));
    assert!(code == Some(2) && said.ends_with(&end) && said.matches("error").count() == 2, "{said}");
}

/// Links of both kinds are ourselves, and looked over.
#[test]
fn the_first_that_is_not_ourselves() {
    let server = server("");
    fs::copy(OURS, server.path("client")).unwrap();
    symlink("../client", server.path("a/gpg")).unwrap();
    fs::hard_link(server.path("client"), server.path("b/gpg")).unwrap();
    for name in ["a/gpg2", "a/gpg-sq", "a/sigsh-gpg", "b/gpg2"] {
        symlink(server.path("client"), server.path(name)).unwrap();
    }
    script(&server, "bare/gpg", "echo gpg \"$@\"");
    let path = ["a", "b", "bare", "/usr/bin"];
    for (name, found) in [("a/gpg", "gpg"), ("b/gpg", "gpg"), ("a/sigsh-gpg", "gpg"), ("a/gpg-sq", "gpg")] {
        assert_eq!(printed(&run(&server, name, &path, "--import x")), (Some(0), format!("{found} --import x\n")), "{name}");
    }
    // By the same name, where there is one.
    for name in ["gpg2", "gpg-sq"] {
        script(&server, &format!("bare/{name}"), &format!("echo {name} \"$@\""));
        let called = run(&server, &format!("a/{name}"), &path, "--import x");
        assert_eq!(printed(&called), (Some(0), format!("{name} --import x\n")));
    }
    // None at all.
    fs::remove_file(server.path("bare/gpg")).unwrap();
    let hint = "sigsh-gpg: hint: install gnupg, or name it by gpg = \"…\" in client.toml\n";
    let none = run(&server, "a/gpg", &["a", "b", "bare"], "--import x");
    assert_eq!(printed(&none), (Some(2), format!("sigsh-gpg: error: there is no other gpg for this\n{hint}")));
    let nobody = run(&server, "a/gpg", &["a", "b", "bare"], "--status-fd 2 -b -u nobody@example.org");
    let said = format!(
        "[GNUPG:] INV_SGNR 9 nobody@example.org\n[GNUPG:] FAILURE sign 17\nsigsh-gpg: error: no key here is called \
         'nobody@example.org', and there is no other gpg to ask\n{hint}"
    );
    assert_eq!(printed(&nobody), (Some(2), said));
}

#[test]
fn every_name_signs() {
    let server = server("");
    let path = server.front();
    for name in ["gpg", "gpg2", "gpg-sq", "sigsh-gpg"] {
        let mut command = server.program(&server.path(&format!(".front/{name}")), &["--batch", "--detach-sign"]);
        command.env("PATH", &path);
        let outcome = finish(command, b"x");
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{name}");
        verify("ed25519", &outcome.out, b"x");
    }
}
