//! ostree and flatpak sign through gpgme.

use super::fixture::{Host, Ran, run};

fn ostree(host: &Host, arguments: &[&str]) -> Ran {
    run(host.signer("ostree").arg("--repo=repo").args(arguments))
}

/// Commits a tree of one file, and signs the summary of the repository.
fn commit(host: &Host) -> Ran {
    host.write("tree/hello", "hello\n");
    ostree(host, &["init", "--mode=archive"]).succeeds();
    let sign = format!("--gpg-sign={}", host.front.fingerprint);
    ostree(host, &["commit", "--branch=main", "--subject=one", &sign, "tree"])
}

#[test]
fn ostree_pulls_what_ostree_signed() {
    for key in ["rsa4096", "ed25519"] {
        let host = Host::new(key);
        commit(&host).succeeds();
        // Wherever its keyring is said to be, the key is ours.
        let sign = format!("--gpg-sign={}", host.front.fingerprint);
        ostree(&host, &["summary", "--update", &sign, "--gpg-homedir=tree"]).succeeds();

        let url = format!("file://{}/repo", host.home);
        let import = format!("--gpg-import={}", host.front.certificate);
        let verifies = |arguments: &[&str]| host.verifies("ostree", &[&["--repo=anyone/repo"], arguments].concat());
        verifies(&["init", "--mode=archive"]);
        verifies(&["remote", "add", &import, "--set=gpg-verify-summary=true", "origin", &url, "main"]);
        verifies(&["pull", "origin", "main"]);
        let text = verifies(&["show", "origin:main"]);
        assert!(
            text.contains("Found 1 signature:") && text.contains(&format!("Good signature from \"{}\"", host.front.user_id)),
            "{text}"
        );
        host.has_no_keyring();
    }
}

#[test]
fn ostree_commits_nothing_unsigned() {
    let host = Host::refused("rsa4096");
    commit(&host).fails(1, "error: ");
    assert_eq!(ostree(&host, &["refs"]).succeeds().lines().count(), 1, "a branch");
}

/// Exports an application that is one file.
fn export(host: &Host) -> Ran {
    let metadata = "[Application]\nname=org.example.Tiny\nruntime=org.example.Platform/x86_64/1\nsdk=org.example.Sdk/x86_64/1\n";
    host.write("app/metadata", metadata);
    host.write("app/files/hello", "hello\n");
    host.write("app/export/.keep", "");
    run(host.signer("flatpak").args([
        "build-export",
        "--arch=x86_64",
        &format!("--gpg-sign={}", host.front.fingerprint),
        "repo",
        "app",
    ]))
}

/// flatpak asks the system's bus for parental controls before it installs: a bus on which nobody answers says that there are none.
const INSTALL: &str = "DBUS_SYSTEM_BUS_ADDRESS=$DBUS_SESSION_BUS_ADDRESS exec flatpak --user install -y --no-deps --no-related \
    --arch=x86_64 tiny org.example.Tiny";

#[test]
fn flatpak_installs_what_flatpak_signed() {
    let host = Host::new("rsa4096");
    export(&host).succeeds();
    host.signs("flatpak", &["build-update-repo", &format!("--gpg-sign={}", host.front.fingerprint), "repo"]);

    let import = format!("--gpg-import={}", host.front.certificate);
    let url = format!("file://{}/repo", host.home);
    host.verifies("flatpak", &["--user", "remote-add", &import, "tiny", &url]);
    host.verifies("dbus-run-session", &["--", "sh", "-c", INSTALL]);
    let list = host.verifies("flatpak", &["--user", "list", "--all", "--columns=application,origin"]);
    assert!(list.contains("org.example.Tiny\ttiny"), "{list}");
    host.has_no_keyring();
}

#[test]
fn flatpak_exports_nothing_unsigned() {
    let host = Host::refused("rsa4096");
    export(&host).fails(1, "error: Failure signing commit file");
    assert_eq!(ostree(&host, &["refs"]).succeeds().lines().count(), 1, "a branch");
}
