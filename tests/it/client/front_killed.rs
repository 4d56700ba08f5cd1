//! A gpg that is killed at whatever call: the signature that was there, none, or the whole new one.

use super::faults::{Fake, Way};
use crate::world::finish;
use std::fs;

/// Whether there is a new signature beside the file; nothing else is left but, when one is replaced, its second name.
#[track_caller]
fn is_new(fake: &Fake, force: bool, at: &str) -> bool {
    let mut new = false;
    for name in fake.listing() {
        let signature = name == "f1.sig" || force && name.starts_with(".sigsh-");
        assert!(signature || [".config", ".fake", ".front", ".run", "f1"].contains(&&*name), "{at}: {name}");
        if signature && (!force || fake.server.read(&name) != b"old") {
            let gpgv = fake.server.program("gpgv", &["--keyring", "/etc/sigsh/ed25519.pgp", &name, "f1"]).output().unwrap();
            assert!(gpgv.status.success(), "{at}: {name}: {gpgv:?}");
            new |= name == "f1.sig";
        }
    }
    assert!(!force || fake.listing().contains(&"f1.sig".to_owned()), "{at}");
    new
}

#[test]
fn at_each_call() {
    for force in [false, true] {
        let fake = Fake::with(Way::Sign, "cat >/dev/null; cat $D/good", "retry = \"1s\"\nlog = false");
        fake.server.front();
        let (mut kills, mut whole) = (0, 0);
        for call in ["openat", "write", "fsync", "linkat", "rename", "unlink", "fcntl", "close", "wait4,waitid"] {
            for when in 1..200 {
                // Libraries and the configuration come first.
                if when < 10 && ["openat", "close"].contains(&call) {
                    continue;
                }
                let _ = fs::remove_file(fake.server.path("f1.sig"));
                if force {
                    fake.server.write("f1.sig", "old");
                }
                let inject = format!("inject={call}:signal=SIGKILL:when={when}");
                let gpg = fake.server.path(".front/gpg");
                let mut line = vec!["-qq", "-o", "/dev/null", "-e", &inject, &gpg, "--status-fd", "1", "--batch", "-b"];
                line.extend(force.then_some("--yes"));
                line.push("f1");
                let mut strace = fake.server.program("strace", &line);
                strace.env("PATH", format!("{}:/usr/bin:/bin", fake.server.path(".fake")));
                let outcome = finish(strace, b"");
                let at = format!("{force} {call} {when}");
                let new = is_new(&fake, force, &at);
                // git is told of no signature that is not there.
                assert!(new || !String::from_utf8_lossy(&outcome.out).contains("SIG_CREATED"), "{at}: {outcome:?}");
                whole += usize::from(new);
                if outcome.code == Some(0) {
                    assert!(new, "{at}");
                    break;
                }
                kills += 1;
            }
        }
        assert!(kills > 30 && whole > 8, "{kills} {whole}");
    }
}
