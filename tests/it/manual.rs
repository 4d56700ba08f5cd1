//! What the manual says can be typed in.

use crate::world::{HOME, PORT, admit, scratch, ssh_key, succeed, verify_file, world};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_examples_work_as_they_stand() {
    world();
    admit("manual", "keys = [\"ed25519\", \"rsa4096\"]\ninputs = [\"artifact\", \"tar\", \"state\"]");
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man/sigsh.8.md")).unwrap();
    let section = |title: &str| page.split_once(&format!("\n# {title}\n")).unwrap().1.split("\n# ").next().unwrap();
    let commands = |title: &str| section(title).trim_matches('\n').split("\n\n").filter(|text| text.starts_with("    "));
    // The keys of this host are called otherwise.
    let lines = commands("EXAMPLES").chain(commands("MANY FILES")).collect::<Vec<_>>().join("\n");
    assert_eq!(lines.lines().count(), 12, "{lines}");
    let lines = lines.replace("sign release", "sign ed25519").replace("release next", "ed25519 rsa4096");

    let directory = scratch();
    fs::create_dir_all(format!("{directory}/repository/os")).unwrap();
    for file in ["package.deb", "f", "Release", "a.rpm", "b c.rpm", "repository/os/kernel", "repository/index"] {
        fs::write(format!("{directory}/{file}"), format!("{file}\n")).unwrap();
    }
    fs::write(format!("{directory}/b c.rpm"), "").unwrap();
    std::os::unix::fs::symlink("os/kernel", format!("{directory}/repository/link")).unwrap();
    fs::hard_link(format!("{directory}/f"), format!("{directory}/repository/f")).unwrap();
    let documents = include_str!("../../fuzz/corpus/state_document/client-short").trim_end();
    fs::write(format!("{directory}/requests.json"), format!("{documents}\n{documents}\n")).unwrap();
    let ssh = format!("ssh -F {HOME}/ssh_config -p {PORT} -i {} -o HostName=127.0.0.1", ssh_key("manual"));
    let script = format!("set -euo pipefail\nssh() {{ command {ssh} \"$@\"; }}\n{lines}\n");
    let output = succeed(Command::new("bash").args(["-c", &script]).current_dir(&directory));
    assert_eq!((output.stdout.len(), output.stderr.len()), (0, 0), "{output:?}");

    for (key, signature, file) in [
        ("ed25519", "package.deb.sig", "package.deb"),
        ("ed25519", "package.deb.asc", "package.deb"),
        ("ed25519", "f.sig", "f"),
        ("ed25519", "a.rpm.sig", "a.rpm"),
        ("ed25519", "b c.rpm.sig", "b c.rpm"),
        ("ed25519", "a.rpm.ed25519.asc", "a.rpm"),
        ("rsa4096", "a.rpm.rsa4096.asc", "a.rpm"),
        ("ed25519", "repository/os/kernel.sig", "repository/os/kernel"),
        ("ed25519", "repository/index.sig", "repository/index"),
        ("ed25519", "repository/link.sig", "repository/link"),
        ("ed25519", "repository/f.sig", "repository/f"),
    ] {
        verify_file(key, &format!("{directory}/{signature}"), &format!("{directory}/{file}"));
    }
    assert!(!Path::new(&format!("{directory}/repository/os.sig")).exists());
    let read = |file: &str| fs::read_to_string(format!("{directory}/{file}")).unwrap();
    assert_eq!(read("responses.json").lines().count(), 2);
    assert!(read("InRelease").starts_with("-----BEGIN PGP SIGNED MESSAGE-----\n"));
    assert_eq!(fs::read(format!("{directory}/release.pgp")).unwrap(), fs::read("/etc/sigsh/ed25519.pgp").unwrap());
}

/// What is said of tars that break off: which of them a tar notices by itself.
#[test]
fn what_a_tar_notices_of_a_batch_that_failed() {
    world();
    let directory = scratch();
    fs::write(format!("{directory}/a"), "a").unwrap();
    std::os::unix::fs::symlink("a", format!("{directory}/b")).unwrap();
    let ssh = format!("ssh -F {HOME}/ssh_config -i {} signer@127.0.0.1", ssh_key("limited"));
    // By the tar that unpacks: the entry, and what came before it; a refusal.
    for unpack in ["tar -x", "bsdtar -xf -"] {
        for (pack, request, left) in [("tar -c a b", "sign-tar", true), ("tar -c a", "sign-tar other", false)] {
            let line = format!("rm -f a.sig; {pack} | {ssh} {request} | {unpack}");
            let output = Command::new("bash").args(["-c", &line]).current_dir(&directory).output().unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert_ne!(output.status.code(), Some(0), "{line}: {err}");
            assert!(err.contains("sigsh: error: "), "{line}: {err}");
            assert_eq!(Path::new(&format!("{directory}/a.sig")).exists(), left, "{line}: {err}");
        }
        // By nobody but the shell: a file that was not there, a connection that broke after a signature.
        for (line, code) in [
            (format!("tar -c a missing | {ssh} sign-tar | {unpack}"), Some(0)),
            (format!("set -o pipefail; tar -c a missing | {ssh} sign-tar | {unpack}"), Some(2)),
            (format!("tar -c a | {ssh} sign-tar | head -c 1024 | {unpack}"), Some(0)),
        ] {
            let output = Command::new("bash").args(["-c", &line]).current_dir(&directory).output().unwrap();
            assert_eq!(output.status.code(), code, "{line}: {}", String::from_utf8_lossy(&output.stderr));
            verify_file("ed25519", &format!("{directory}/a.sig"), &format!("{directory}/a"));
        }
    }
}
