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
    assert_eq!(lines.lines().count(), 14, "{lines}");
    let lines = lines.replace("sign release", "sign ed25519").replace("release next", "ed25519 rsa4096");
    // All of them have a signature by then. And once more what leaves signatures beside their files.
    let lines = lines.replace("for file in", "rm 'b c.pkg.tar.zst.sig'\nfor file in");
    let beside = lines.lines().find(|line| line.contains("--exclude")).unwrap();
    let lines = lines.replace(beside, &format!("rm repository/link\n{beside}\n{beside}"));

    let directory = scratch();
    fs::create_dir_all(format!("{directory}/repository/os")).unwrap();
    for file in ["package.deb", "f", "Release", "a.pkg.tar.zst", "b c.pkg.tar.zst", "repository/os/kernel", "repository/index"] {
        fs::write(format!("{directory}/{file}"), format!("{file}\n")).unwrap();
    }
    fs::write(format!("{directory}/b c.pkg.tar.zst"), "").unwrap();
    // More than pipes hold: the first of them are signed while the last are packed.
    for number in 0..40 {
        fs::write(format!("{directory}/repository/{number}"), vec![number; 200_000]).unwrap();
    }
    fs::create_dir(format!("{directory}/signatures")).unwrap();
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
        ("ed25519", "a.pkg.tar.zst.sig", "a.pkg.tar.zst"),
        ("ed25519", "b c.pkg.tar.zst.sig", "b c.pkg.tar.zst"),
        ("ed25519", "a.pkg.tar.zst.ed25519.asc", "a.pkg.tar.zst"),
        ("rsa4096", "a.pkg.tar.zst.rsa4096.asc", "a.pkg.tar.zst"),
        ("ed25519", "signatures/repository/os/kernel.sig", "repository/os/kernel"),
        ("ed25519", "signatures/repository/link.sig", "repository/os/kernel"),
        ("ed25519", "signatures/repository/f.sig", "repository/f"),
        ("ed25519", "repository/os/kernel.sig", "repository/os/kernel"),
        ("ed25519", "repository/index.sig", "repository/index"),
        ("ed25519", "repository/39.sig", "repository/39"),
    ] {
        verify_file(key, &format!("{directory}/{signature}"), &format!("{directory}/{file}"));
    }
    for none in ["repository/os.sig", "repository/index.sig.sig"] {
        assert!(!Path::new(&format!("{directory}/{none}")).exists(), "{none}");
    }
    let read = |file: &str| fs::read_to_string(format!("{directory}/{file}")).unwrap();
    assert_eq!(read("responses.json").lines().count(), 2);
    assert!(read("InRelease").starts_with("-----BEGIN PGP SIGNED MESSAGE-----\n"));
    assert_eq!(fs::read(format!("{directory}/release.pgp")).unwrap(), fs::read("/etc/sigsh/ed25519.pgp").unwrap());
}

/// By the line of the manual: what has a signature is left alone.
#[test]
fn a_batch_that_failed_goes_on_where_it_ended() {
    world();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man/sigsh.8.md")).unwrap();
    let (_, line) = page.split_once("\n\n    for file in ").unwrap();
    let line = format!("for file in {}", line.split_once("\n\n").unwrap().0);
    let directory = scratch();
    let (signed, late) = (["a", "b c", "d\ne"], ["y", "z"]);
    let path = |name: &str| format!("{directory}/{name}.pkg.tar.zst");
    signed.iter().chain(&late).for_each(|name| fs::write(path(name), name).unwrap());
    std::os::unix::fs::symlink("a", path("x")).unwrap();
    let ssh = format!("ssh() {{ command ssh -F {HOME}/ssh_config -o HostName=127.0.0.1 -i {} \"$@\"; }}", ssh_key("limited"));
    let run = |line: &str| {
        let script = format!("set -o pipefail\n{ssh}\n{line}");
        Command::new("bash").args(["-c", &script]).current_dir(&directory).output().unwrap()
    };
    let output = run("tar -c *.pkg.tar.zst | ssh -T signer@host sign-tar | tar -x\nexit ${PIPESTATUS[1]}");
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    let made = signed.map(|name| fs::read(path(name) + ".sig").unwrap());
    assert!(late.iter().all(|name| !Path::new(&(path(name) + ".sig")).exists()));
    fs::remove_file(path("x")).unwrap();

    let output = run(&line);
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(0), 0, 0), "{output:?}");
    assert_eq!(signed.map(|name| fs::read(path(name) + ".sig").unwrap()), made);
    signed.iter().chain(&late).for_each(|name| verify_file("ed25519", &(path(name) + ".sig"), &path(name)));
    // Nothing is left.
    assert_eq!(run(&line).status.code(), Some(2));
    let output = run(&format!("{line}\nexit ${{PIPESTATUS[2]}}"));
    assert_eq!(output.status.code(), Some(65), "{output:?}");
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
