//! git signs commits and tags.

use super::fixture::{Host, Ran, run};

fn git(host: &Host, arguments: &[&str]) -> Ran {
    run(host.signer("git").args(arguments))
}

/// A repository of nothing, whose commits and tags are signed by `key`.
fn repository(host: &Host, key: &str) {
    git(host, &["init", "--quiet", "--initial-branch=main"]).succeeds();
    let name = host.front.user_id.split(" <").next().unwrap();
    let mail = host.front.user_id.split(['<', '>']).nth(1).unwrap();
    for (field, value) in [("user.name", name), ("user.email", mail), ("user.signingkey", key)] {
        git(host, &["config", field, value]).succeeds();
    }
}

#[test]
fn git_verifies_commits_and_tags() {
    for key in ["rsa4096", "ed25519"] {
        let host = Host::new(key);
        repository(&host, &host.front.fingerprint);
        git(&host, &["commit", "--quiet", "--allow-empty", "--gpg-sign", "-m", "one"]).succeeds();
        git(&host, &["tag", "--sign", "-m", "one", "by-fingerprint"]).succeeds();
        git(&host, &["tag", "--local-user", &host.front.user_id, "-m", "one", "by-name"]).succeeds();
        // The committer's own name and mail are the key, where none is named.
        git(&host, &["config", "--unset", "user.signingkey"]).succeeds();
        git(&host, &["tag", "--sign", "-m", "one", "by-committer"]).succeeds();

        run(host.anyone("git").args(["verify-commit", "HEAD"])).fails(1, "No public key");
        host.verifies("gpg", &["--quiet", "--batch", "--import", &host.front.certificate]);
        let good = format!("Good signature from \"{}\"", host.front.user_id);
        for arguments in
            [["verify-commit", "HEAD"], ["verify-tag", "by-fingerprint"], ["verify-tag", "by-name"], ["verify-tag", "by-committer"]]
        {
            let text = host.verifies("git", &arguments);
            assert!(text.contains(&good), "{text}");
        }
        // The front end hands to the real gpg what it does not do itself.
        host.signs("gpg", &["--quiet", "--batch", "--import", &host.front.certificate]);
        let text = git(&host, &["verify-tag", "by-name"]).succeeds();
        assert!(text.contains(&good), "{text}");
    }
}

#[test]
fn git_makes_nothing_unsigned() {
    let host = Host::refused("rsa4096");
    repository(&host, &host.front.fingerprint);
    git(&host, &["commit", "--quiet", "--allow-empty", "-m", "unsigned"]).succeeds();
    let before = git(&host, &["rev-parse", "HEAD"]).succeeds();
    let commit = ["commit", "--quiet", "--allow-empty", "--gpg-sign", "-m", "one"];
    git(&host, &commit).fails(128, "error: gpg failed to sign the data");
    git(&host, &["tag", "--sign", "-m", "one", "v1"]).fails(128, "error: unable to sign the tag");
    assert_eq!(git(&host, &["rev-parse", "HEAD"]).succeeds(), before);
    git(&host, &["rev-parse", "--verify", "--quiet", "v1"]).fails(1, "");
}
