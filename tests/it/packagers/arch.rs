//! makepkg and repo-add sign, pacman installs.

use super::fixture::{Host, run};
use std::fs;
use std::process::Command;

const PKGBUILD: &str = "pkgname=tiny\npkgver=1\npkgrel=1\narch=(any)\nurl=https://example.org\n\
    package() { install -Dm644 /dev/null \"$pkgdir/usr/share/tiny\"; }\n";
const PACKAGE: &str = "tiny-1-1-any.pkg.tar.gz";

/// What makepkg needs to sign, and no more.
fn makepkg(host: &Host, more: &[&str]) -> Command {
    host.write("PKGBUILD", PKGBUILD);
    let mut command = host.signer("makepkg");
    command.args(["--nodeps", "--force"]).args(more);
    command.env("GPGKEY", &host.front.fingerprint).env("PACKAGER", &host.front.user_id);
    command
}

/// A system of its own that trusts the certificate and has the account's directory for its only repository.
fn system(host: &Host) -> impl Fn(&[&str]) -> super::fixture::Ran + use<> {
    let root = format!("{}/root", host.home);
    fs::create_dir_all(format!("{root}/var/lib/pacman")).unwrap();
    let config = format!("{}/pacman.conf", host.home);
    let keyring = format!("{root}/gnupg");
    let text = format!(
        "[options]\nRootDir={root}\nDBPath={root}/var/lib/pacman/\nCacheDir={root}/cache/\nGPGDir={keyring}\nLogFile={root}/log\n\
         Architecture=auto\nSigLevel=Required DatabaseRequired\n[tiny]\nServer=file://{}\n",
        host.home
    );
    fs::write(&config, text).unwrap();
    let trust: [&[&str]; 3] = [&["--init"], &["--add", &host.front.certificate], &["--lsign-key", &host.front.fingerprint]];
    for arguments in trust {
        run(Command::new("pacman-key").args(["--gpgdir", &keyring]).args(arguments)).succeeds();
    }
    move |arguments| run(Command::new("pacman").args(["--config", &config, "--noconfirm"]).args(arguments))
}

#[test]
fn pacman_installs_what_makepkg_and_repo_add_signed() {
    let host = Host::new("rsa4096");
    let text = run(&mut makepkg(&host, &["--sign"])).succeeds();
    assert!(text.contains(&format!("Created signature file {PACKAGE}.sig")), "{text}");
    host.gpgv(&format!("{PACKAGE}.sig"), PACKAGE);

    let key = host.front.fingerprint.clone();
    // It verifies by the real gpg, to which the front end leaves that.
    host.signs("gpg", &["--quiet", "--batch", "--import", &host.front.certificate]);
    // Twice: a second time there is a signature already, and it must be the new one.
    for _ in 0..2 {
        let text = host.signs("repo-add", &["--sign", "--verify", "--key", &key, "tiny.db.tar.gz", PACKAGE]);
        assert!(text.contains("Created signature file 'tiny.db.tar.gz.sig'"), "{text}");
        assert!(text.contains("Created signature file 'tiny.files.tar.gz.sig'"), "{text}");
        host.gpgv("tiny.db.sig", "tiny.db");
        host.gpgv("tiny.files.sig", "tiny.files");
    }

    let pacman = system(&host);
    pacman(&["-Sy", "tiny"]).succeeds();
    assert!(host.exists("root/usr/share/tiny"));
    pacman(&["-Fy"]).succeeds();

    // repo-remove signs as repo-add does.
    host.signs("repo-remove", &["--sign", "--key", &key, "tiny.db.tar.gz", "tiny"]);
    host.gpgv("tiny.db.sig", "tiny.db");
    pacman(&["-Syy"]).succeeds();
    pacman(&["-S", "tiny"]).fails(1, "target not found: tiny");
}

#[test]
fn makepkg_fails_without_a_signature() {
    let host = Host::refused("rsa4096");
    run(&mut makepkg(&host, &["--sign"])).fails(16, "Failed to sign package file");
    assert!(!host.exists(&format!("{PACKAGE}.sig")));
    // makepkg throws away what gpg says, so the front end has a log of its own.
    let log = String::from_utf8(host.read("log")).unwrap();
    assert!(log.ends_with("]: signer@127.0.0.1: you are not identified\n"), "{log}");
}

/// repo-add puts the new database in place all the same, beside the signature of the old one: pacman must refuse it.
#[test]
fn pacman_refuses_what_repo_add_could_not_sign() {
    let host = Host::new("rsa4096");
    run(&mut makepkg(&host, &["--sign"])).succeeds();
    host.signs("repo-add", &["--sign", "--key", &host.front.fingerprint, "tiny.db.tar.gz", PACKAGE]);
    let pacman = system(&host);
    pacman(&["-Sy"]).succeeds();
    let before = host.read("tiny.db.tar.gz.sig");

    let mut command = host.refusing("rsa4096").signer("repo-remove");
    run(command.args(["--sign", "--key", &host.front.fingerprint, "tiny.db.tar.gz", "tiny"]))
        .fails(0, "Failed to sign package database file 'tiny.db.tar.gz'");
    assert_eq!(host.read("tiny.db.tar.gz.sig"), before);
    pacman(&["-Syy"]).fails(1, "invalid or corrupted database (PGP signature)");
}
