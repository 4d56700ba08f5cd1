//! rpmsign and createrepo_c's index.

use super::fixture::{Host, run};
use std::fs;

const SPEC: &str = "Name: tiny\nVersion: 1\nRelease: 1\nSummary: tiny\nLicense: none\nBuildArch: noarch\n%description\ntiny\n\
    %install\nmkdir -p %{buildroot}/usr/share\necho hello >%{buildroot}/usr/share/tiny\n%files\n/usr/share/tiny\n";

/// Builds so many packages, each under its own name.
fn build(host: &Host, names: &[&str]) {
    host.write("tiny.spec", SPEC);
    host.signs("rpmbuild", &["--quiet", "-bb", "--define", &format!("_topdir {}", host.home), "tiny.spec"]);
    for name in names {
        host.write(name, host.read("RPMS/noarch/tiny-1-1.noarch.rpm"));
    }
    host.signs("sigsh-client", &["setup", "rpm", "signer/.rpmmacros"]);
    // The key of a host that verifies.
    host.verifies("rpmkeys", &["--dbpath", &format!("{}/anyone/db", host.home), "--import", &host.front.armored]);
}

fn rpmsign(host: &Host, arguments: &[&str]) -> super::fixture::Ran {
    run(host.configured("rpmsign").arg("--addsign").args(arguments))
}

fn rpmkeys(host: &Host, package: &str) -> super::fixture::Ran {
    let database = format!("{}/anyone/db", host.home);
    run(host.anyone("rpmkeys").args(["--dbpath", &database, "--define", "_pkgverify_level all", "-Kv", package]))
}

#[test]
fn rpmkeys_accepts_what_rpmsign_signed() {
    for key in ["rsa3072", "rsa4096", "ed25519"] {
        let host = Host::new(key);
        build(&host, &["unsigned.rpm", "signed.rpm", "again.rpm"]);
        rpmkeys(&host, "unsigned.rpm").fails(1, "Header RSA signature: NOTFOUND");
        rpmsign(&host, &["signed.rpm", "again.rpm"]).succeeds();
        rpmsign(&host, &["--digest-algo=sha512", "again.rpm"]).succeeds();
        let id = host.front.fingerprint[24..].to_lowercase();
        for package in ["signed.rpm", "again.rpm"] {
            let text = rpmkeys(&host, package).succeeds();
            assert!(text.contains(&format!("key ID {}: OK", &id[8..])) && text.contains("Header V4 "), "{text}");
        }
        host.has_no_keyring();
    }
}

#[test]
fn rpmkeys_accepts_signatures_of_header_and_payload() {
    let host = Host::new("rsa4096");
    build(&host, &["old.rpm"]);
    rpmsign(&host, &["--rpmv3", "old.rpm"]).succeeds();
    let text = rpmkeys(&host, "old.rpm").succeeds();
    assert!(text.contains("\n    Header V4 RSA/SHA") && text.contains("\n    V4 RSA/SHA"), "{text}");
}

#[test]
fn rpmsign_leaves_the_package_as_it_was() {
    let host = Host::refused("rsa4096");
    build(&host, &["a.rpm", "b.rpm"]);
    let before = host.read("a.rpm");
    // Its exit code is the number of packages that it could not sign.
    rpmsign(&host, &["a.rpm", "b.rpm"]).fails(2, "error: gpg exec failed (2)");
    assert!(host.read("a.rpm") == before && host.read("b.rpm") == before);
    assert_eq!(fs::read_dir(&host.home).unwrap().filter(|entry| format!("{entry:?}").contains(".rpm")).count(), 2, "a leftover");
}

#[test]
fn an_index_of_packages_is_signed() {
    let host = Host::new("rsa4096");
    build(&host, &["repo/tiny.rpm"]);
    host.signs("createrepo_c", &["--quiet", "repo"]);
    let key = host.front.fingerprint.clone();
    host.signs("gpg", &["--detach-sign", "--armor", "--local-user", &key, "repo/repodata/repomd.xml"]);
    assert!(host.read("repo/repodata/repomd.xml.asc").starts_with(b"-----BEGIN PGP SIGNATURE-----\n"));
    host.gpgv("repo/repodata/repomd.xml.asc", "repo/repodata/repomd.xml");

    // Nothing is overwritten unless it is asked for.
    let before = host.read("repo/repodata/repomd.xml.asc");
    let again = ["--batch", "--detach-sign", "--armor", "repo/repodata/repomd.xml"];
    run(host.signer("gpg").args(again)).fails(2, "repomd.xml.asc exists already");
    assert_eq!(host.read("repo/repodata/repomd.xml.asc"), before);
    run(host.signer("gpg").arg("--yes").args(again)).succeeds();
    host.gpgv("repo/repodata/repomd.xml.asc", "repo/repodata/repomd.xml");
}

#[test]
fn no_signature_of_an_index_is_left() {
    let host = Host::refused("rsa4096");
    build(&host, &["repo/tiny.rpm"]);
    host.signs("createrepo_c", &["--quiet", "repo"]);
    run(host.signer("gpg").args(["--detach-sign", "--armor", "repo/repodata/repomd.xml"])).fails(2, "");
    assert!(!host.exists("repo/repodata/repomd.xml.asc"));
}
