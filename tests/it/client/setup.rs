//! What `setup` writes does what the tools need, and nothing of anybody else's is touched.

use super::BuildServer;
use crate::world::{Outcome, finish, succeed, verify_file};
use sigsh::openpgp::Pinned;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

#[track_caller]
fn well(outcome: &Outcome) -> String {
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
    String::from_utf8(outcome.out.clone()).unwrap()
}

/// Code and first line of what failed.
fn failure(outcome: &Outcome) -> (i32, &str) {
    assert!(outcome.out.is_empty(), "{outcome:?}");
    (outcome.code.unwrap(), outcome.err.lines().next().unwrap_or_default())
}

fn fingerprint(key: &str) -> String {
    let pinned = Pinned::read(&fs::read(format!("/etc/sigsh/{key}.pgp")).unwrap()).unwrap();
    pinned.certs()[0].fingerprint().to_hex()
}

fn names(directory: &str) -> Vec<String> {
    let mut names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    names.sort();
    names
}

#[test]
fn a_directory_for_the_path() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let path = server.path("a b/bin");
    for _ in 0..2 {
        assert_eq!(well(&server.run(&["setup", "gpg", "a b/bin"], b"")), format!("export PATH='{path}':\"$PATH\"\n"));
        assert_eq!(names(&path), ["gpg", "gpg-sq", "gpg2", "gpgconf", "sigsh-gpg"]);
        for name in ["gpg", "gpg-sq", "gpg2", "sigsh-gpg"] {
            assert_eq!(fs::read_link(format!("{path}/{name}")).unwrap(), Path::new("/usr/bin/sigsh-client"));
        }
        assert_eq!(fs::metadata(format!("{path}/gpgconf")).unwrap().permissions().mode() & 0o7777, 0o755);
    }
    let outcome = server.run(&["setup", "gpg", "a:b"], b"");
    assert_eq!(failure(&outcome), (64, "sigsh-client: error: a directory in PATH has no ':' in its name"));
    for option in [&["-k", "ed25519"][..], &["--config", "x"], &["--host", "h"], &["--certificate", "c"]] {
        let outcome = server.run(&[option, &["setup", "gpg", "other"]].concat(), b"");
        let line = "sigsh-client: error: links carry no options; write them into client.toml, or set SIGSH_CONFIG";
        assert_eq!(failure(&outcome), (64, line));
    }
    assert_eq!(server.files(), ["a b"]);
}

#[test]
fn somebody_elses_files_stay() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let path = server.path("bin");
    let setup = |arguments: &[&str]| server.run(&[&["setup"], arguments].concat(), b"");
    fs::create_dir(&path).unwrap();
    // The real gpg, perhaps.
    server.write("bin/gpg", "real");
    let file = format!("sigsh-client: error: {path}/gpg is a file, and no link: take another directory");
    for force in [&["gpg", "bin"][..], &["gpg", "--force", "bin"]] {
        assert_eq!(failure(&setup(force)), (64, file.as_str()));
        assert_eq!((names(&path), server.read("bin/gpg")), (vec!["gpg".to_owned()], b"real".to_vec()));
    }
    fs::remove_file(server.path("bin/gpg")).unwrap();
    for (name, what) in [("gpg2", true), ("gpgconf", false)] {
        if what {
            symlink("/usr/bin/gpg", server.path("bin/gpg2")).unwrap();
        } else {
            server.write("bin/gpgconf", "somebody's");
        }
        let exists = format!("sigsh-client: error: {path}/{name} exists already");
        let outcome = setup(&["gpg", "bin"]);
        assert_eq!(failure(&outcome), (73, exists.as_str()));
        assert_eq!(outcome.err.lines().nth(1), Some("sigsh-client: hint: --force replaces it"));
        assert_eq!(names(&path), [name]);
        well(&setup(&["gpg", "--force", "bin"]));
        fs::remove_dir_all(&path).unwrap();
        fs::create_dir(&path).unwrap();
    }
    // A link to a sigsh-client that has moved is ours.
    symlink("/opt/old/sigsh-client", server.path("bin/gpg")).unwrap();
    well(&setup(&["gpg", "bin"]));
    assert_eq!(fs::read_link(server.path("bin/gpg")).unwrap(), Path::new("/usr/bin/sigsh-client"));

    for (what, file) in [("rpm", "macros"), ("reprepro", "hook")] {
        server.write(file, "somebody's");
        assert_eq!(failure(&setup(&[what, file])), (73, format!("sigsh-client: error: {file} exists already").as_str()));
        assert_eq!(server.read(file), b"somebody's");
        well(&setup(&[what, "--force", file]));
        let written = server.read(file);
        assert_ne!(written, b"somebody's");
        well(&setup(&[what, file]));
        assert_eq!((server.read(file), well(&setup(&[what])).into_bytes()), (written.clone(), written));
    }
    let outcome = setup(&["rpm", "missing/macros"]);
    assert_eq!(failure(&outcome), (74, "sigsh-client: error: missing/macros: no such file or directory"));
    assert_eq!(server.files(), ["bin", "hook", "macros"]);
}

/// gpgme asks it for the programs and directories; all answers but one are the real one's.
#[test]
fn gpgconf_answers_as_the_real_one() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    for directory in ["first", "second"] {
        well(&server.run(&["setup", "gpg", directory], b""));
    }
    let path = format!("{}:{}:/usr/bin:/bin", server.path("first"), server.path("second"));
    let ask = |path: &str, arguments: &[&str]| {
        let mut command = server.program("gpgconf", arguments);
        // The program itself is sought in this PATH, too.
        command.env("PATH", path);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for arguments in [
        &["--list-components"][..],
        &["--list-dirs"],
        &["--list-dirs", "bindir"],
        &["--version"],
        &["--check-programs"],
        &["--bad"],
    ] {
        let (code, real) = ask("/usr/bin:/bin", arguments);
        let lines = real.lines().map(|line| match line.strip_prefix("gpg:OpenPGP:/usr/bin/gpg") {
            Some(rest) => format!("gpg:OpenPGP:{}/gpg{rest}\n", server.path("first")),
            None => format!("{line}\n"),
        });
        let expected = lines.collect::<String>();
        assert_eq!(ask(&path, arguments), (code, expected.clone()), "{arguments:?}");
        let changed = ["--list-components", "--check-programs"].contains(&arguments[0]);
        assert_eq!(expected != real, changed, "{arguments:?}");
    }
    // A machine without GnuPG has a gpg now, and nothing else.
    fs::create_dir(server.path("bare")).unwrap();
    symlink("/usr/bin/sh", server.path("bare/sh")).unwrap();
    let bare = format!("{}:{}", server.path("first"), server.path("bare"));
    assert_eq!(ask(&bare, &["--list-components"]), (Some(0), format!("gpg:OpenPGP:{}/gpg\n", server.path("first"))));
    assert_eq!(ask(&bare, &["--list-dirs"]), (Some(2), String::new()));
}

/// The real gpgme, in ostree, starts the gpg of the directory.
#[test]
fn gpgme_finds_the_client() {
    // strace waits for a connection that is kept, too.
    let server = BuildServer::new("build1", &["ed25519"], "reuse = false");
    well(&server.run(&["setup", "gpg", "bin"], b""));
    fs::create_dir(server.path("tree")).unwrap();
    succeed(&mut server.program("ostree", &["--repo=repo", "init", "--mode=archive"]));
    let sign = format!("--gpg-sign={}", fingerprint("ed25519"));
    let commit = ["--repo=repo", "commit", "--branch=main", "--subject=one", &sign, "tree"];
    let traced = ["-f", "-qq", "-s", "200", "-e", "trace=execve", "-o", "trace", "ostree"];
    let mut command = server.program("strace", &[&traced[..], &commit].concat());
    command.env("PATH", format!("{}:/usr/bin:/bin", server.path("bin")));
    succeed(&mut command);
    let trace = String::from_utf8(server.read("trace")).unwrap();
    assert!(trace.contains(&format!("execve(\"{}/gpg\", [", server.path("bin"))), "{trace}");
}

#[test]
fn rpm_starts_the_client() {
    let server = BuildServer::new("build1", &["ed25519", "rsa4096"], "");
    let directory = server.path("macros.d");
    fs::create_dir(&directory).unwrap();
    well(&server.run(&["setup", "rpm", "-k", "rsa4096", "macros.d/macros.sigsh"], b""));
    let text = String::from_utf8(server.read("macros.d/macros.sigsh")).unwrap();
    let key = fingerprint("rsa4096");
    assert_eq!(
        text.lines().filter(|line| line.starts_with('%')).collect::<Vec<_>>(),
        [
            "%__gpg /usr/bin/sigsh-gpg".to_owned(),
            format!("%_gpg_name {key}"),
            "%_openpgp_sign gpg".to_owned(),
            format!("%_openpgp_sign_id {key}"),
        ]
    );
    assert_eq!(fs::metadata(server.path("macros.d/macros.sigsh")).unwrap().permissions().mode() & 0o7777, 0o644);
    let macros = format!("/usr/lib/rpm/macros:{directory}/macros.*");
    let eval = ["--macros", &macros, "--define", "__signature_filename s", "--eval", "%__gpg_sign_cmd"];
    let command = String::from_utf8(succeed(&mut server.program("rpm", &eval)).stdout).unwrap();
    let words = command.split_whitespace().collect::<Vec<_>>();
    assert_eq!(words[..2], ["'/usr/bin/sigsh-gpg'", "gpg"], "{command}");
    assert!(command.contains(&format!("-u '{key}'")), "{command}");
    assert_eq!(fs::read_link("/usr/bin/sigsh-gpg").unwrap(), Path::new("sigsh-client"));

    let spec = "Name: tiny\nVersion: 1\nRelease: 1\nSummary: tiny\nLicense: none\nBuildArch: noarch\n%description\ntiny\n%files\n";
    server.write("tiny.spec", spec);
    let top = format!("_topdir {}", server.directory);
    succeed(&mut server.program("rpmbuild", &["--quiet", "-bb", "--define", &top, "tiny.spec"]));
    let package = "RPMS/noarch/tiny-1-1.noarch.rpm";
    // The macros of the system, as rpm has read them, and those of the file.
    let shown = String::from_utf8(succeed(&mut server.program("rpm", &["--showrc"])).stdout).unwrap();
    let path = shown.lines().find_map(|line| line.strip_prefix("Macro path: ")).map(str::to_owned);
    let macros = format!("{}:{directory}/macros.*", path.unwrap_or("/usr/lib/rpm/macros".to_owned()));
    succeed(&mut server.program("rpmsign", &["--macros", &macros, "--addsign", package]));
    server.write("key.asc", Pinned::read(&fs::read("/etc/sigsh/rsa4096.pgp").unwrap()).unwrap().export(true).unwrap());
    succeed(&mut server.program("rpmkeys", &["--dbpath", &server.path("db"), "--import", "key.asc"]));
    let check = ["--dbpath", &server.path("db"), "--define", "_pkgverify_level all", "-Kv", package];
    let checked = String::from_utf8(succeed(&mut server.program("rpmkeys", &check)).stdout).unwrap();
    assert!(checked.contains(&format!("key ID {}: OK", key[32..].to_lowercase())), "{checked}");
}

/// They start the client by its name alone.
#[test]
fn what_would_be_lost_is_refused() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let file = "put it into the configuration file";
    for program in ["git", "rpm"] {
        for (option, value, what) in [
            ("--config", ".config/sigsh/client.toml", "write it to ~/.config/sigsh/client.toml or /etc/sigsh/client.toml"),
            ("--host", "signer@127.0.0.1", file),
            ("--certificate", "/etc/sigsh/ed25519.pgp", file),
        ] {
            let line = format!("sigsh-client: error: {program} starts sigsh-gpg without {option}: {what}");
            assert_eq!(failure(&server.run(&[option, value, "setup", program], b"")), (64, line.as_str()));
        }
    }
}

/// Somebody's macros are not for --force.
#[test]
fn macros_are_appended() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let path = server.write(".rpmmacros", "%_topdir /somewhere\n");
    let outcome = server.run(&["-k", "ed25519", "setup", "rpm", ".rpmmacros"], b"");
    assert_eq!(outcome.code, Some(73));
    let hint = "append: sigsh-client -k ed25519 setup rpm >> .rpmmacros";
    assert_eq!(outcome.err, format!("sigsh-client: error: .rpmmacros exists already\nsigsh-client: hint: {hint}\n"));
    assert_eq!(
        server.run(&["setup", "rpm", &path], b"").err.lines().last(),
        Some(&*format!("sigsh-client: hint: append: sigsh-client setup rpm >> {path}"))
    );
    assert_eq!(server.read(".rpmmacros"), b"%_topdir /somewhere\n");
}

#[test]
fn git_is_told() {
    let server = BuildServer::new("build1", &["ed25519", "rsa4096"], "");
    let key = fingerprint("ed25519");
    let commands = well(&server.run(&["setup", "git"], b""));
    let program = ["gpg.program", "gpg.openpgp.program"].map(|name| format!("{name} /usr/bin/sigsh-gpg"));
    let expected = ["gpg.format openpgp", &program[0], &program[1], &format!("user.signingKey {key}")];
    assert_eq!(commands, expected.map(|set| format!("git config --global {set}\n")).concat());
    let get = |name: &str| {
        let output = server.program("git", &["config", "--global", "--get", name]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    assert_eq!(get("gpg.program"), "");
    for _ in 0..2 {
        assert_eq!(well(&server.run(&["setup", "git", "--write", "--always"], b"")), "");
        let values = ["gpg.program", "gpg.format", "user.signingKey", "commit.gpgSign", "tag.gpgSign"].map(get);
        assert_eq!(values, ["/usr/bin/sigsh-gpg", "openpgp", &key, "true", "true"]);
    }
    let other = server.run(&["-k", "rsa4096", "setup", "git", "--write"], b"");
    assert_eq!(failure(&other), (73, "sigsh-client: error: git's setting user.signingKey exists already"));
    assert_eq!(get("user.signingKey"), key);
    well(&server.run(&["-k", "rsa4096", "setup", "git", "--write", "--force"], b""));
    assert_eq!(get("user.signingKey"), fingerprint("rsa4096"));
    // What git would rather go by, twice.
    for _ in 0..2 {
        succeed(&mut server.program("git", &["config", "--global", "--add", "gpg.openpgp.program", "/usr/bin/gpg"]));
    }
    let write = ["setup", "git", "--write", "--force"];
    let other = server.run(&write[..3], b"");
    assert_eq!(failure(&other), (73, "sigsh-client: error: git's setting gpg.openpgp.program exists already"));
    well(&server.run(&[&["-k", "rsa4096"], &write[..]].concat(), b""));
    let all = succeed(&mut server.program("git", &["config", "--global", "--get-all", "gpg.openpgp.program"])).stdout;
    assert_eq!(all, b"/usr/bin/sigsh-gpg\n");
    let outside = server.run(&["setup", "git", "--local", "--write"], b"");
    assert_eq!((outside.code, outside.out.len()), (Some(74), 0), "{outside:?}");
    succeed(&mut server.program("git", &["init", "--quiet"]));
    // A repository's own setting is closer than the user's.
    succeed(&mut server.program("git", &["config", "--local", "gpg.openpgp.program", "/usr/bin/gpg"]));
    let still = "sigsh-client: error: git's setting gpg.openpgp.program: it is still /usr/bin/gpg here: 'git config --show-origin \
                 gpg.openpgp.program' says where";
    assert_eq!(failure(&server.run(&write, b"")), (78, still));
    succeed(&mut server.program("git", &["config", "--local", "--unset", "gpg.openpgp.program"]));
    well(&server.run(&["setup", "git", "--local", "--write"], b""));
    assert!(String::from_utf8(server.read(".git/config")).unwrap().contains("program = /usr/bin/sigsh-gpg"));
    let somebody = ["-c", "user.name=N", "-c", "user.email=m@example.org"];
    succeed(&mut server.program("git", &[&somebody[..], &["commit", "--quiet", "--allow-empty", "-m", "one"]].concat()));
    succeed(&mut server.program("gpg", &["--quiet", "--batch", "--import", "/etc/sigsh/ed25519.pgp"]));
    succeed(&mut server.program("git", &["verify-commit", "HEAD"]));
}

/// As reprepro calls it: what is not wanted has an empty name.
#[test]
fn the_hook_signs_both_ways() {
    let server = BuildServer::new("build1", &["ed25519", "rsa2048"], "");
    well(&server.run(&["setup", "reprepro", "-k", "rsa2048", "hook"], b""));
    server.write("Release.new", "Codename: stable\n");
    let hook = |clear: &str, detached: &str| finish(server.program("./hook", &["Release.new", clear, detached]), b"");
    for _ in 0..2 {
        well(&hook("InRelease.new", "Release.gpg.new"));
        verify_file("rsa2048", &server.path("Release.gpg.new"), &server.path("Release.new"));
        succeed(&mut server.program("gpgv", &["--keyring", "/etc/sigsh/rsa2048.pgp", "InRelease.new"]));
    }
    fs::remove_file(server.path("InRelease.new")).unwrap();
    well(&hook("", "Release.gpg.new"));
    assert!(!Path::new(&server.path("InRelease.new")).exists());
    fs::remove_file(server.path("Release.gpg.new")).unwrap();
    well(&hook("InRelease.new", ""));
    assert!(!Path::new(&server.path("Release.gpg.new")).exists());
    // When one of them fails, the hook does.
    let failed = hook("missing/InRelease.new", "Release.gpg.new");
    assert_eq!((failed.code, Path::new(&server.path("Release.gpg.new")).exists()), (Some(74), false), "{failed:?}");
}
