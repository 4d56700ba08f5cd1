//! git signs commits and tags.

use super::door::Door;
use super::fixture::{Host, Ran, run};
use std::fs;
use std::process::Command;

fn git(host: &Host, arguments: &[&str]) -> Ran {
    run(host.configured("git").args(arguments))
}

/// A repository with an unsigned commit, and a git that was told to sign.
fn repository(host: &Host) {
    host.signs("sigsh-client", &["setup", "git", "--write"]);
    git(host, &["init", "--quiet", "--initial-branch=main"]).succeeds();
    let name = host.front.user_id.split(" <").next().unwrap();
    let mail = host.front.user_id.split(['<', '>']).nth(1).unwrap();
    for (field, value) in [("user.name", name), ("user.email", mail)] {
        git(host, &["config", field, value]).succeeds();
    }
    git(host, &["commit", "--quiet", "--allow-empty", "-m", "unsigned"]).succeeds();
}

const COMMIT: [&str; 6] = ["commit", "--quiet", "--allow-empty", "--gpg-sign", "-m", "one"];

#[test]
fn git_verifies_commits_and_tags() {
    for key in ["rsa4096", "ed25519"] {
        let host = Host::new(key);
        repository(&host);
        git(&host, &["branch", "unsigned"]).succeeds();
        git(&host, &COMMIT).succeeds();
        git(&host, &["tag", "--sign", "-m", "one", "by-fingerprint"]).succeeds();
        git(&host, &["tag", "--local-user", &host.front.user_id, "-m", "one", "by-name"]).succeeds();
        // The committer's own name and mail are the key, where none is named.
        git(&host, &["config", "--global", "--unset", "user.signingKey"]).succeeds();
        git(&host, &["tag", "--sign", "-m", "one", "by-committer"]).succeeds();
        host.has_no_keyring();

        run(host.anyone("git").args(["verify-commit", "HEAD"])).fails(1, "No public key");
        host.verifies("gpg", &["--quiet", "--batch", "--import", &host.front.certificate]);
        host.write("trust", format!("{}:6:\n", host.front.fingerprint));
        host.verifies("gpg", &["--quiet", "--batch", "--import-ownertrust", "trust"]);
        let good = format!("ood signature from \"{}\"", host.front.user_id);
        for arguments in [
            &["verify-commit", "HEAD"][..],
            &["log", "--show-signature", "-1"],
            &["verify-tag", "by-fingerprint"],
            &["tag", "-v", "by-name"],
            &["tag", "-v", "by-committer"],
        ] {
            let text = host.verifies("git", arguments);
            assert!(text.contains(&good), "{text}");
        }
        // Whoever merges goes by the signature of the last commit.
        host.verifies("git", &["clone", "--quiet", "--branch=unsigned", ".", "anyone/clone"]);
        let text = host.verifies("git", &["-C", "anyone/clone", "merge", "--verify-signatures", "origin/main"]);
        assert!(text.contains(&format!("has a good GPG signature by {}", host.front.user_id)), "{text}");
        git(&host, &["checkout", "--quiet", "unsigned"]).succeeds();
        git(&host, &["commit", "--quiet", "--allow-empty", "-m", "two"]).succeeds();
        host.verifies("git", &["-C", "anyone/clone", "fetch", "--quiet"]);
        let merge = ["-C", "anyone/clone", "merge", "--verify-signatures", "origin/unsigned"];
        run(host.anyone("git").args(merge)).fails(128, "does not have a GPG signature.");

        // The front end hands to the real gpg what it does not do itself.
        host.signs("gpg", &["--quiet", "--batch", "--import", &host.front.certificate]);
        let text = git(&host, &["verify-tag", "by-name"]).succeeds();
        assert!(text.contains(&good), "{text}");
    }
}

/// Neither a commit nor a tag is made, and gpg says nothing to git but that it failed.
#[track_caller]
fn nothing_signed(host: &Host, case: &str, environment: &[(&str, &str)]) {
    let before = git(host, &["rev-parse", "HEAD"]).succeeds();
    let sign = |arguments: &[&str]| run(host.configured("git").args(arguments).envs(environment.iter().copied()));
    let commit = sign(&COMMIT);
    assert!(commit.code == Some(128) && commit.text.contains("error: gpg failed to sign the data"), "{case}: {commit:?}");
    let tag = sign(&["tag", "--sign", "-m", "one", "v1"]);
    assert!(tag.code == Some(128) && tag.text.contains("error: unable to sign the tag"), "{case}: {tag:?}");
    assert_eq!(git(host, &["rev-parse", "HEAD"]).succeeds(), before, "{case}");
    git(host, &["rev-parse", "--verify", "--quiet", "v1"]).fails(1, "");
    // What git has heard.
    host.write("payload", "tree 1\n");
    let gpg = format!("cat payload | sigsh-gpg --status-fd=2 -bsau {} >signature", host.front.fingerprint);
    let heard = run(host.signer("sh").args(["-c", &gpg]).envs(environment.iter().copied()));
    assert!(heard.code == Some(2) && heard.text.contains("[GNUPG:] FAILURE sign "), "{case}: {heard:?}");
    assert!(!heard.text.contains("SIG_CREATED") && host.read("signature").is_empty(), "{case}: {heard:?}");
}

#[test]
fn git_makes_nothing_unsigned() {
    let host = Host::refused("rsa4096");
    repository(&host);
    nothing_signed(&host, "refused", &[]);
    let host = Host::new("rsa4096");
    repository(&host);
    host.front.change("127.0.0.1", "127.0.0.1:1");
    host.front.change("log =", "retry = \"1s\"\nlog =");
    nothing_signed(&host, "nobody there", &[]);
}

/// The host is another one than it says: what it sends, and how it ends. `kill $PPID` ends sshd's own process of the session.
#[test]
fn git_believes_no_host() {
    let host = Host::new("rsa4096");
    repository(&host);
    let door = Door::forced(2282, &host, &format!("cd {}; . ./case", host.home));
    door.lead(&host);
    host.front.change("log =", "retry = \"1s\"\nlog =");
    // As long as it passes everything on, it is sigsh itself.
    let script = |text: &str| host.write("case", text);
    script("exec $SIGSH \"$SSH_ORIGINAL_COMMAND\"");
    git(&host, &COMMIT).succeeds();
    let (early, broken) = ("the answer ended too early", "after the host had begun: it may have signed");
    let not_one = "the signature is not good: not one signature alone";
    for (case, reason) in [
        ("exit 0", early),
        ("cat >/dev/null", early),
        ("cat >/dev/null; echo '-----BEGIN PGP SIGNATURE-----'", "the signature is not good: not one armored signature alone"),
        ("cat >/dev/null; head -c 1000000 /dev/zero", "the answer is not what was asked for: it is too long"),
        ("cat", "the signature is not good: not one armored signature alone"),
        ("$SIGSH sign rsa3072", "the signature is not good: it is not by a key of the pinned certificate"),
        ("cat >/dev/null; echo tree 2 | $SIGSH sign rsa4096", "the signature is not good: it is not on these bytes"),
        ("$SIGSH sign rsa4096 --type text", "the signature is not good: of another type than was asked for"),
        ("$SIGSH sign rsa4096 | head -c 300", "the signature is not good: Malformed packet: Truncated packet"),
        ("$SIGSH sign rsa4096; echo more", not_one),
        ("cat >both; $SIGSH sign rsa4096 <both; $SIGSH sign rsa4096 <both", not_one),
        ("$SIGSH certificate rsa4096", "the signature is not good: not a signature"),
        ("$SIGSH sign rsa4096; echo 'sigsh: error: the token is gone' >&2; exit 69", "the token is gone"),
        ("kill -9 $PPID", broken),
        ("cat >/dev/null; kill -9 $PPID", broken),
        ("$SIGSH sign rsa4096 | (head -c 300; kill -9 $PPID)", broken),
        ("$SIGSH sign rsa4096; kill -9 $PPID; sleep 1", broken),
    ] {
        script(case);
        host.write("log", "");
        nothing_signed(&host, case, &[]);
        let log = String::from_utf8(host.read("log")).unwrap();
        // A host that reads nothing may be gone before all was sent.
        let ends = |line: &str| line.ends_with(reason) || case == "exit 0" && line.ends_with("it came before the end of the input");
        let is_it = |line: &&str| line.contains("]: packager@127.0.0.1: ") && ends(line);
        let said = log.lines().filter(is_it).count();
        assert!(said == 3 && log.lines().count() == 3, "{case}: {log}");
    }
}

/// No room for what is signed, or nobody there to take the signature.
#[test]
fn git_hears_of_no_signature_that_is_lost() {
    let host = Host::new("rsa4096");
    repository(&host);
    host.write("full/.keep", "");
    let full = format!("{}/full", host.home);
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4k,mode=777", "tmpfs", &full])).succeeds();
    fs::write(format!("{full}/all"), [0; 4096]).unwrap();
    nothing_signed(&host, "no room", &[("TMPDIR", &full)]);

    host.write("payload", "tree 1\n");
    let gpg = format!("sigsh-gpg --status-fd=3 -bsau {} <payload 3>status", host.front.fingerprint);
    for lost in [
        format!("{gpg} >/dev/full"),
        format!("({gpg}; echo $? >code) | true; exit $(cat code)"),
        format!("{gpg} -o full/signature"),
    ] {
        // A pipe whose reader has gone, before anything is written.
        let ran = run(host.signer("sh").args(["-c", &lost.replace("| true", "| (exec <&-; sleep 1)")]));
        assert_eq!(ran.code, Some(2), "{ran:?}");
        let status = String::from_utf8(host.read("status")).unwrap();
        assert!(status.ends_with("[GNUPG:] FAILURE sign 1\n") && !status.contains("SIG_CREATED"), "{lost}: {status}");
        assert!(!host.exists("full/signature"), "{lost}");
    }
}
