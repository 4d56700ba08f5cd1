//! What goes wrong on the build server itself, and what its files may be like.

use super::BuildServer;
use super::faults::{Fake, Way, fails, listing};
use crate::world::{Outcome, finish, patient, scratch, succeed, verify, verify_file};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

fn good() -> Fake {
    Fake::new(Way::Sign, "cat >/dev/null; cat $D/good")
}

/// A small file system of its own.
fn small(server: &BuildServer, options: &str) {
    fs::create_dir(server.path("full")).unwrap();
    succeed(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs", &server.path("full")]));
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let fake = good();
    small(&fake.server, "size=16k");
    fake.server.write("full/f.sig", "old");
    let mut rest = File::create(fake.server.path("full/rest")).unwrap();
    while rest.write_all(&[0; 512]).is_ok() {}
    drop(rest);
    for options in [&["--force", "-o", "full/f.sig"][..], &["-o", "full/new.sig"]] {
        fails(&fake.run(options), 74, &format!("{}: no space left on device", options.last().unwrap()));
        assert_eq!(listing(&fake.server.path("full")), ["f.sig", "rest"]);
        assert_eq!(fake.server.read("full/f.sig"), b"old");
    }
    // Where standard input is kept until it is signed.
    let mut command = fake.server.command(&["sign"]);
    command.env("TMPDIR", fake.server.path("full"));
    fails(&finish(command, &[0; 100_000]), 74, "/full: no space left on device");
    assert_eq!(listing(&fake.server.path("full")), ["f.sig", "rest"]);
    succeed(Command::new("umount").arg(fake.server.path("full")));
}

#[test]
fn a_file_may_be_no_longer_than_is_allowed() {
    let fake = good();
    let limited = |options: &str, input: &[u8]| {
        let path = format!("{}:/usr/bin:/bin", fake.server.path(".fake"));
        let script = format!("ulimit -f 0; exec sigsh-client sign {options}");
        let mut command = fake.server.program("bash", &["-c", &script]);
        command.env("PATH", path);
        finish(command, input)
    };
    fake.server.write("f1.sig", "old");
    let before = fake.listing();
    fails(&limited("--force f1", b""), 74, "f1.sig: file too large");
    fails(&limited("-o new f1", b""), 74, "new: file too large");
    fails(&limited("", b"input"), 74, "/tmp: file too large");
    assert_eq!((fake.listing(), fake.server.read("f1.sig")), (before, b"old".to_vec()));
}

#[test]
fn targets_that_cannot_be() {
    let fake = good();
    fs::create_dir_all(fake.server.path("d.sig")).unwrap();
    fs::create_dir_all(fake.server.path("locked")).unwrap();
    succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "ro", "tmpfs", &fake.server.path("locked")]));
    symlink("nowhere", fake.server.path("dangling")).unwrap();
    let before = fake.listing();
    let long = "n".repeat(256);
    for (options, code, text) in [
        (&["-o", "d.sig"][..], 74, "d.sig: is a directory"),
        (&["-f", "-o", "d.sig"], 74, "d.sig: is a directory"),
        (&["-o", "d.sig/"], 74, "d.sig/: is a directory"),
        (&["-o", "missing/f"], 74, "missing/f: no such file or directory"),
        (&["-o", "locked/f"], 74, "locked/f: read-only file system"),
        (&["-o", "f1/x"], 74, "f1/x: not a directory"),
        (&["-o", "dangling"], 73, "dangling exists already"),
        (&["-o", &long], 74, ": file name too long"),
        (&["-f", "-o", "f1"], 64, "f1 is one of the files that are signed"),
        (&["-f", "-o", "./../f1/.././f1"], 74, ": "),
        (&["-o", "x", "f1"], 64, "--output names one file"),
    ] {
        fails(&fake.run(options), code, text);
        assert_eq!(fake.listing(), before, "{options:?}");
    }
    assert_eq!(fs::metadata(fake.server.path("f1")).unwrap().len(), 3_000_000);
    succeed(Command::new("umount").arg(fake.server.path("locked")));
}

/// As somebody who may not do everything.
#[test]
fn directories_and_files_of_others() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    for (name, mode) in [("", 0o755), ("write-only", 0o333), ("read-only", 0o555), (".run", 0o700)] {
        let path = server.path(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&path, Some(4242), Some(4242)).unwrap();
    }
    // ssh has nothing to do with users who have no name.
    succeed(Command::new("useradd").args(["--uid", "4242", "--no-create-home", "builder"]));
    let certificate = server.path(".certificate");
    fs::copy("/etc/sigsh/ed25519.pgp", &certificate).unwrap();
    let text = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
    server.write(".config/sigsh/client.toml", text.replace("/etc/sigsh/ed25519.pgp", &certificate));
    let key = server.path(".id");
    fs::copy(crate::world::ssh_key("build1"), &key).unwrap();
    std::os::unix::fs::chown(&key, Some(4242), None).unwrap();
    let server = server.with_ssh(&["-i", &key]);
    let unreadable = server.write("unreadable", "x");
    fs::set_permissions(unreadable, Permissions::from_mode(0o000)).unwrap();
    server.write("f", "content");
    let run = |arguments: &[&str]| {
        let as_other = ["--reuid=4242", "--regid=4242", "--clear-groups", "sigsh-client", "sign"];
        finish(server.program("setpriv", &[&as_other, arguments].concat()), b"")
    };
    fails(&run(&["unreadable"]), 66, "unreadable: permission denied");
    fails(&run(&["missing"]), 66, "missing: no such file or directory");
    fails(&run(&["-o", "read-only/f", "f"]), 74, "read-only/f: permission denied");
    let outcome = run(&["-o", "write-only/f", "f"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
    verify_file("ed25519", &server.path("write-only/f"), &server.path("f"));
    assert_eq!(server.files(), ["f", "read-only", "unreadable", "write-only"]);
}

#[test]
fn what_is_no_file_is_written_to_and_not_replaced() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    server.write("f", "content");
    let null = || fs::metadata("/dev/null").unwrap();
    let before = (null().ino(), null().mode(), null().rdev());
    for options in ["-o /dev/null", "-f -o /dev/null", "-o null", "-f -o null"] {
        let _ = symlink("/dev/null", server.path("null"));
        let outcome = server.run(&[&["sign"], &options.split(' ').collect::<Vec<_>>()[..], &["f"]].concat(), b"");
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{options} {outcome:?}");
    }
    assert_eq!((null().ino(), null().mode(), null().rdev()), before);
    assert!(fs::symlink_metadata(server.path("null")).unwrap().is_symlink());
    fs::remove_file(server.path("null")).unwrap();
    fails(&server.run(&["sign", "-o", "/dev/full", "f"], b""), 74, "/dev/full: no space left on device");
    for (script, out) in [
        ("mkfifo p; cat p >out & sigsh-client sign -o p f && wait && rm p", "out"),
        ("sigsh-client sign -o /dev/stdout f | cat >out", "out"),
        // To where the shell is in that file, and not over its beginning.
        ("(echo begin; sigsh-client sign -af -o /dev/stdout f; echo end) >all; sed -e 1d -e '$d' all >out; rm all", "out"),
        ("sigsh-client sign -o /proc/self/fd/5 f 5>out", "out"),
        ("sigsh-client sign -f -o /dev/fd/1 f >>out", "out"),
    ] {
        let outcome = finish(server.program("bash", &["-c", script]), b"");
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{script} {outcome:?}");
        verify_file("ed25519", &server.path(out), &server.path("f"));
        assert!(fs::symlink_metadata("/dev/stdout").unwrap().is_symlink());
        fs::remove_file(server.path("out")).unwrap();
        assert_eq!(server.files(), ["f"]);
    }
    for (script, code, text) in [
        ("sigsh-client sign -o - f >&-", 74, "standard output: it is closed"),
        ("sigsh-client sign -o - f >/dev/full", 74, "standard output: no space left on device"),
        ("sigsh-client sign -o - f | true; exit ${PIPESTATUS[0]}", 74, "standard output: broken pipe"),
        ("sigsh-client sign <&-", 66, "standard input: it is empty"),
        ("sigsh-client sign -o /dev/fd/77 f", 74, "/dev/fd/77: bad file descriptor"),
    ] {
        fails(&finish(server.program("bash", &["-c", script]), b""), code, text);
    }
    // Nobody hears the error, and it is one.
    let outcome = finish(server.program("bash", &["-c", "sigsh-client sign missing 2>/dev/full"]), b"");
    assert_eq!(outcome.code, Some(66));
    assert_eq!(server.files(), ["f"]);
}

#[test]
fn modes_are_those_of_the_umask() {
    let fake = good();
    for (umask, mode) in [("022", 0o644), ("077", 0o600), ("002", 0o664), ("777", 0o000)] {
        for force in ["", "--force"] {
            let _ = fs::remove_file(fake.server.path("f1.sig"));
            if !force.is_empty() {
                fake.server.write("f1.sig", "old");
            }
            let mut command = fake.server.program("sh", &["-c", &format!("umask {umask}; sigsh-client sign {force} f1")]);
            command.env("PATH", format!("{}:/usr/bin:/bin", fake.server.path(".fake")));
            assert_eq!(finish(command, b"").code, Some(0));
            assert_eq!(fs::metadata(fake.server.path("f1.sig")).unwrap().mode() & 0o7777, mode, "{umask} {force}");
        }
    }
}

/// Where files must have names (NFS), and where /proc is not mounted.
#[test]
fn file_systems_that_know_no_file_without_a_name() {
    let fake = good();
    fs::create_dir(fake.server.path("sub")).unwrap();
    let target = fake.server.path("sub/f1.sig");
    let inject = |more: &[&str], force: bool| {
        let arguments = [
            &["-qq", "-o", "/dev/null"][..],
            more,
            &["sigsh-client", "sign", "-o", &target],
            if force { &["--force"][..] } else { &[] },
            &["f1"],
        ];
        let mut command = fake.server.program("strace", &arguments.concat());
        command.env("PATH", format!("{}:/usr/bin:/bin", fake.server.path(".fake")));
        finish(command, b"")
    };
    for more in
        [&["-P", &fake.server.path("sub"), "-e", "inject=openat,open:error=EOPNOTSUPP"][..], &["-e", "inject=linkat:error=ENOENT"]]
    {
        for force in [false, true] {
            let _ = fs::remove_file(fake.server.path("sub/f1.sig"));
            if force {
                fake.server.write("sub/f1.sig", "old");
            }
            let outcome = inject(more, force);
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{more:?} {outcome:?}");
            verify_file("ed25519", &fake.server.path("sub/f1.sig"), &fake.server.path("f1"));
            assert_eq!(fs::metadata(fake.server.path("sub/f1.sig")).unwrap().mode() & 0o7777, 0o644);
            assert_eq!(listing(&fake.server.path("sub")), ["f1.sig"]);
        }
    }
}

/// What is done to the file while it is sent.
#[test]
fn a_file_that_changes_gets_no_signature() {
    for way in [Way::Sign, Way::Tar, Way::State] {
        for change in [
            "truncate -s 1000 f1",
            "echo more >>f1",
            "printf x | dd of=f1 conv=notrunc status=none",
            "rm f1",
            "cp f1 f3; mv f3 f1",
            "rm f1; mkdir f1",
            "rm f1; ln -s /dev/zero f1",
        ] {
            // The fake host has read a part of it, waits until it has changed, and signs what was there before.
            let fake = Fake::new(way, &format!("head -c 100000 >/dev/null; {change}; cat >/dev/null; cat $D/good"));
            let outcome = fake.run(&[]);
            fails(&outcome, 65, "f1 changed in the meantime");
            assert!(!fake.listing().contains(&"f1.sig".to_owned()), "{way:?} {change}");
            let _ = fs::remove_dir_all(&fake.server.directory);
        }
        // Before it is sent once more.
        let again = Fake::with(way, "cat >/dev/null; rm -f f1; mkfifo f1; exit 75", "retry = \"1s\"");
        fails(&again.run(&[]), if way == Way::State { 75 } else { 65 }, if way == Way::State { "" } else { "f1 changed" });
    }
}

#[test]
fn nothing_is_signed_in_place_of_something() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    server.write("empty", "");
    fs::create_dir(server.path("d")).unwrap();
    for input in ["", "</dev/null", "<empty"] {
        let script = if input.is_empty() { "true | sigsh-client sign".to_owned() } else { format!("sigsh-client sign {input}") };
        fails(
            &finish(server.program("sh", &["-c", &script]), b""),
            66,
            "standard input: it is empty: whatever should have written it has failed",
        );
    }
    fails(&server.run(&["sign", "d"], b""), 66, "d: is a directory");
    fails(&server.run(&["sign", "d/"], b""), 66, "d/: is a directory");
    fails(&server.run(&["sign", "empty", "d"], b""), 66, "d: is a directory");
    assert_eq!(server.files(), ["d", "empty"]);
    // A file that is empty, is named: it is what somebody means.
    assert_eq!(server.run(&["sign", "empty"], b"").code, Some(0));
    verify("ed25519", &server.read("empty.sig"), b"");
    assert_eq!(server.run(&["sign", "-f", "empty", "-a", "empty"], b"").code, Some(64));
}

#[test]
fn each_signature_has_a_place_of_its_own() {
    let server = BuildServer::new("build1", &["ed25519", "rsa2048"], "");
    for name in ["a", "b"] {
        server.write(name, name);
    }
    fs::create_dir(server.path("d")).unwrap();
    server.write("d/a", "another a");
    symlink(".", server.path("link")).unwrap();
    let before = server.files();
    for (arguments, text) in [
        (&["a", "a"][..], "two signatures would go to a.sig"),
        (&["a", "./a"], "two signatures would go to ./a.sig"),
        (&["a", "link/a"], "two signatures would go to link/a.sig"),
        (&["-k", "ed25519", "-k", "ed25519", "a"], "key 'ed25519' is named twice"),
        (&["-k", "ed25519", "-k", "rsa2048", "-"], "two signatures would go to standard output"),
    ] {
        fails(&server.run(&[&["sign"], arguments].concat(), b"input"), 64, text);
        assert_eq!(server.files(), before);
    }
    // Of one name in two directories.
    assert_eq!(server.run(&["sign", "a", "d/a"], b"").code, Some(0));
    verify("ed25519", &server.read("a.sig"), b"a");
    verify("ed25519", &server.read("d/a.sig"), b"another a");
    // A signature is a file like others, but not while it is replaced.
    fails(&server.run(&["sign", "-f", "a", "a.sig"], b""), 64, "a.sig is one of the files that are signed");
    assert_eq!(server.run(&["sign", "a.sig"], b"").code, Some(0));
    // All or none: the second exists already.
    fails(&server.run(&["sign", "b", "a"], b""), 73, "a.sig exists already");
    assert!(!server.files().contains(&"b.sig".to_owned()));
}

#[test]
fn names_of_every_kind() {
    let server = BuildServer::new("build1", &["ed25519"], "state-above = \"1MiB\"");
    let names: Vec<Vec<u8>> = vec![
        b"a\nb".to_vec(),
        b"-rf".to_vec(),
        b"--force".to_vec(),
        b"\xff\xfe\x80".to_vec(),
        b" ".to_vec(),
        b"'\"$(id)`id`\\;&|<>*?[!".to_vec(),
        b"%s%n%%".to_vec(),
        "ä€😀\u{202e}".into(),
        b"\x01\x1b[2J\x7f\r\t".to_vec(),
        b"...".to_vec(),
        b"n".repeat(251),
    ];
    for (number, name) in names.iter().enumerate() {
        fs::write(format!("{}/", server.directory) + "x", "").unwrap();
        fs::write(std::path::Path::new(&server.directory).join(OsStr::from_bytes(name)), format!("content {number}")).unwrap();
    }
    let run = |options: &[&str], names: &[Vec<u8>]| {
        let mut command = server.command(&[&["sign"], options].concat());
        command.arg("--").args(names.iter().map(|name| OsStr::from_bytes(name)));
        finish(command, b"")
    };
    let well = |outcome: Outcome| {
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
        for (number, name) in names.iter().enumerate() {
            let signature = [name, &b".sig"[..]].concat();
            let path = std::path::Path::new(&server.directory).join(OsStr::from_bytes(&signature));
            verify("ed25519", &fs::read(&path).unwrap(), format!("content {number}").as_bytes());
        }
    };
    well(run(&[], &names));
    for name in &names {
        assert_eq!(run(&["-f"], std::slice::from_ref(name)).code, Some(0), "{name:?}");
    }
    well(run(&["-f"], &names));
    // Too long for its ending, and for the system.
    let name = "n".repeat(255);
    server.write(&name, "x");
    fails(&server.run(&["sign", &name], b""), 74, ".sig: file name too long");
    let deep = format!("{}/{}", server.directory, "d".repeat(200));
    let mut path = deep.clone();
    for _ in 0..18 {
        fs::create_dir(&path).unwrap();
        path += &format!("/{}", "d".repeat(200));
    }
    let path = format!("{}/f", path.rsplit_once('/').unwrap().0);
    assert!(path.len() > 3500);
    fs::write(&path, "deep").unwrap();
    assert_eq!(server.run(&["sign", &path], b"").code, Some(0));
    verify("ed25519", &fs::read(path + ".sig").unwrap(), b"deep");
}

#[test]
fn ten_thousand_files_by_few_descriptors() {
    let table = "keys = [\"ed25519\"]";
    let server = BuildServer::admitted("thousands", table, &["ed25519"], "");
    for number in 0..10_000 {
        server.write(&format!("f{number}"), format!("content {number}"));
    }
    let script = "ulimit -n 64; ls | xargs -n 10000 sigsh-client sign";
    let outcome = finish(server.program("bash", &["-c", script]), b"");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(server.files().len(), 20_000);
    for number in (0..10_000).step_by(999) {
        verify("ed25519", &server.read(&format!("f{number}.sig")), format!("content {number}").as_bytes());
    }
    let _ = Write::write_all(&mut std::io::stderr(), format!("10,000 files: {:?}\n", outcome.took).as_bytes());
    fs::remove_dir_all(&server.directory).unwrap();
}

/// A request names eight of them at most.
#[test]
fn more_keys_than_a_request_may_name() {
    let keys = (0..17).map(|number| format!("many{number}")).collect::<Vec<_>>();
    let fake = Fake::new(Way::Tar, "echo \"$*\" >>$D/requests; cat >/dev/null; exit 77");
    let mut text = String::from_utf8(fake.server.read(".config/sigsh/client.toml")).unwrap();
    for key in &keys {
        text += &format!("[key.{key}]\ncertificate = \"/etc/sigsh/ed25519.pgp\"\n");
    }
    fake.server.write(".config/sigsh/client.toml", text);
    let options = keys.iter().flat_map(|key| ["-k", key.as_str()]).collect::<Vec<_>>();
    fails(&fake.run(&options), 77, "it gives no reason");
    let requests = String::from_utf8(fake.server.read(".fake/requests")).unwrap();
    assert!(requests.ends_with("-- signer@127.0.0.1 sign-tar many0 many1 many2 many3 many4 many5 many6 many7\n"), "{requests}");
    // By the host itself: nine of them, of which seven are different keys.
    let table = "keys = [\"ed25519\", \"rsa2048\", \"rsa3072\", \"rsa4096\", \"nistp256\", \"nistp384\", \"nistp521\"]";
    let server = BuildServer::admitted("manykeys", table, &crate::world::KEYS, "");
    server.write("f", "content");
    let options = crate::world::KEYS.iter().flat_map(|key| ["-k", key]).collect::<Vec<_>>();
    let outcome = server.run(&[&["sign"], &options[..], &["f"]].concat(), b"");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
    for key in crate::world::KEYS {
        verify(key, &server.read(&format!("f.{key}.sig")), b"content");
    }
}

/// A pipe as a file, and one that never ends while its reader is killed.
#[test]
fn pipes_are_files_too() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let spool = scratch();
    succeed(Command::new("mkfifo").arg(server.path("p")));
    let outcome = finish(server.program("sh", &["-c", "echo content >p & sigsh-client sign -o out p"]), b"");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
    verify("ed25519", &server.read("out"), b"content\n");
    let mut command = server.command(&["sign"]);
    let mut child = command.env("TMPDIR", &spool).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let stdin = child.stdin.take();
    stdin.as_ref().unwrap().write_all(&[0; 100_000]).unwrap();
    patient(|| {
        fs::read_dir(format!("/proc/{}/fd", child.id()))
            .unwrap()
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.to_string_lossy().starts_with(&spool)))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(listing(&spool), [""; 0]);
}
