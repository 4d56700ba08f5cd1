//! Killed at whatever moment: the signature that was there, none, or the whole new one.

use super::BuildServer;
use super::faults::{Fake, Way};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

/// What may be left: nothing of ours but whole signatures. Between the two calls that replace a file its new one has a name of its own.
#[track_caller]
fn whole(server: &BuildServer, files: &[&str], force: bool, at: &str) -> usize {
    let mut new = 0;
    for name in super::faults::listing(&server.directory) {
        let signature = name.ends_with(".sig") || name.starts_with(".sigsh-");
        assert!(signature || files.contains(&name.as_str()) || [".config", ".run", ".fake"].contains(&&*name), "{at}: {name}");
        assert!(!name.starts_with(".sigsh-") || force, "{at}: {name}");
        if signature && (!force || server.read(&name) != b"old") {
            let good = |file: &&&str| {
                let arguments = ["--keyring", "/etc/sigsh/ed25519.pgp", &name, file];
                server.program("gpgv", &arguments).output().unwrap().status.success()
            };
            let file = files.iter().find(good).unwrap_or_else(|| panic!("{at}: {name}"));
            assert!(name == format!("{file}.sig") || name.starts_with(".sigsh-"), "{at}: {name} {file}");
            new += 1;
        }
    }
    assert!(!force || files.iter().all(|file| fs::exists(server.path(&format!("{file}.sig"))).unwrap()), "{at}");
    new
}

fn again(fake: &Fake, force: bool) {
    for name in fake.listing().iter().filter(|name| name.ends_with(".sig")) {
        fs::remove_file(fake.server.path(name)).unwrap();
    }
    for name in fake.names().iter().filter(|_| force) {
        fake.server.write(&format!("{name}.sig"), "old");
    }
}

/// At each system call of the thread that does it all, from where it looks at the files.
#[test]
fn at_each_call() {
    for (way, force) in [(Way::Sign, false), (Way::Sign, true), (Way::Tar, true)] {
        let fake = Fake::new(way, "cat >/dev/null; cat $D/good");
        let (mut kills, mut new) = (0, 0);
        for call in
            ["openat", "write", "fsync", "linkat", "rename", "unlink", "read", "close", "poll", "newfstatat,statx", "wait4,waitid"]
        {
            for when in 1..200 {
                // Libraries and the configuration come first.
                if when < 10 && ["openat", "read", "close", "newfstatat,statx"].contains(&call) {
                    continue;
                }
                again(&fake, force);
                let inject = format!("inject={call}:signal=SIGKILL:when={when}");
                let trace = ["-qq", "-o", "/dev/null", "-e", &inject, "sigsh-client", "sign"];
                let options = if force { &["--force"][..] } else { &[] };
                let mut strace = fake.server.program("strace", &[&trace[..], options, fake.names()].concat());
                strace.env("PATH", format!("{}:/usr/bin:/bin", fake.server.path(".fake")));
                let outcome = crate::world::finish(strace, b"");
                let at = format!("{way:?} {force} {call} {when}");
                new += whole(&fake.server, fake.names(), force, &at);
                if outcome.code == Some(0) {
                    break;
                }
                kills += 1;
            }
        }
        assert!(kills > 40 && new > 10, "{kills} {new}");
        // What was left is not there for long.
        again(&fake, force);
        assert_eq!(fake.run(&["--force"]).code, Some(0));
        assert!(fake.listing().iter().all(|name| !name.starts_with(".sigsh-")), "{:?}", fake.listing());
    }
}

/// Its host, too, is in the middle of something.
#[test]
fn at_any_moment_of_a_real_one() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    server.write("f", vec![7; 3_000_000]);
    // The second one has a connection already, as all others.
    assert_eq!(server.run(&["sign", "f"], b"").code, Some(0));
    let outcome = server.run(&["sign", "--force", "f"], b"");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let life = outcome.took;
    let (mut killed, mut new) = (0, 0);
    for turn in 0..40_u32 {
        let _ = fs::remove_file(server.path("f.sig"));
        let mut command = server.command(&["sign", "f"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(life * turn / 40 + Duration::from_millis(1));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
        new += whole(&server, &["f"], false, &turn.to_string());
    }
    assert!(killed > 10, "{killed} {new}");
    let _ = fs::remove_file(server.path("f.sig"));
    assert_eq!(server.run(&["sign", "f"], b"").code, Some(0));
}
