//! Archives: reprepro and aptly sign the Release files, apt reads them.

use super::debian::build;
use super::fixture::{Host, Ran, run};
use std::fs;
use std::process::Command;

/// `apt-get update` of a system that has this archive alone and trusts the certificate alone.
fn apt(host: &Host, archive: &str) -> Ran {
    let root = format!("{}/apt", host.home);
    for directory in ["lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d"] {
        fs::create_dir_all(format!("{root}/{directory}")).unwrap();
    }
    let source = format!("deb [signed-by={}] file://{}/{archive} stable main\n", host.front.certificate, host.home);
    fs::write(format!("{root}/etc/sources.list"), source).unwrap();
    let mut command = Command::new("apt-get");
    for (name, value) in
        [("Dir::Etc", "etc"), ("Dir::Etc::sourceparts", "none"), ("Dir::State::lists", "lists"), ("Dir::Cache", "cache")]
    {
        command.arg("-o").arg(format!("{name}={root}/{value}"));
    }
    // By itself a failed update is a warning, and the old index stays.
    run(command.args(["-o", "APT::Sandbox::User=root", "update", "--error-on=any"]))
}

/// apt reads InRelease; Release.gpg is for those who do not, and is judged by gpgv.
#[track_caller]
fn published(host: &Host, archive: &str) {
    let text = apt(host, archive).succeeds();
    assert!(text.contains("stable InRelease") && text.contains("main amd64 Packages"), "{text}");
    let release = format!("{archive}/dists/stable/Release");
    host.gpgv(&format!("{release}.gpg"), &release);
    fs::remove_file(format!("{}/{archive}/dists/stable/InRelease", host.home)).unwrap();
    let text = apt(host, archive).succeeds();
    assert!(text.contains("stable Release.gpg"), "{text}");
    host.has_no_keyring();
}

fn reprepro(host: &Host, sign_with: &str) -> Ran {
    build(host, &["-us", "-uc", "-ui", "-b"]).succeeds();
    let text = format!("Codename: stable\nArchitectures: amd64\nComponents: main\nSignWith: {sign_with}\n");
    host.write("archive/conf/distributions", text);
    run(host.signer("reprepro").args(["-b", "archive", "includedeb", "stable", "tiny_1_all.deb"]))
}

#[test]
fn apt_accepts_what_reprepro_signed_by_gpgme() {
    let host = Host::new("rsa4096");
    reprepro(&host, &host.front.fingerprint).succeeds();
    published(&host, "archive");
}

#[test]
fn apt_accepts_what_reprepro_signed_by_a_hook() {
    let host = Host::new("ed25519");
    host.write("archive/conf/.keep", "");
    host.signs("sigsh-client", &["setup", "reprepro", "archive/conf/hook"]);
    reprepro(&host, "!hook").succeeds();
    published(&host, "archive");
}

/// A first archive is not there at all; a second one stays the first.
#[test]
fn reprepro_publishes_nothing_unsigned() {
    for (hook, code) in [(false, 251), (true, 255)] {
        let refused = Host::refused("rsa4096");
        refused.write("archive/conf/.keep", "");
        refused.signs("sigsh-client", &["setup", "reprepro", "archive/conf/hook"]);
        let sign_with = if hook { "!hook".to_owned() } else { refused.front.fingerprint.clone() };
        reprepro(&refused, &sign_with).fails(code, "Could not finish exporting 'stable'!");
        for name in ["Release", "InRelease", "Release.gpg"] {
            assert!(!refused.exists(&format!("archive/dists/stable/{name}")), "{name}");
        }
    }
}

/// Another export finds the archive published, and it stays as it was.
#[test]
fn reprepro_leaves_the_published_archive() {
    let host = Host::new("rsa4096");
    reprepro(&host, &host.front.fingerprint).succeeds();
    let release = || ["Release", "InRelease", "Release.gpg"].map(|name| host.read(&format!("archive/dists/stable/{name}")));
    let before = release();
    let remove = ["-b", "archive", "remove", "stable", "tiny"];
    run(host.refusing("rsa4096").signer("reprepro").args(remove)).fails(251, "Could not finish exporting 'stable'!");
    assert!(release() == before);
    published(&host, "archive");
}

fn aptly(host: &Host) -> Ran {
    host.write("aptly.conf", format!("{{\"rootDir\":\"{}/aptly\",\"gpgProvider\":\"gpg\"}}", host.home));
    let aptly = |arguments: &[&str]| run(host.signer("aptly").arg("-config=aptly.conf").args(arguments));
    build(host, &["-us", "-uc", "-ui", "-b"]).succeeds();
    aptly(&["repo", "create", "-distribution=stable", "-component=main", "tiny"]).succeeds();
    aptly(&["repo", "add", "tiny", "tiny_1_all.deb"]).succeeds();
    let key = format!("-gpg-key={}", host.front.fingerprint);
    aptly(&["publish", "repo", "-batch", "-architectures=amd64,all", &key, "tiny"])
}

#[test]
fn apt_accepts_what_aptly_signed() {
    for key in ["rsa4096", "ed25519"] {
        let host = Host::new(key);
        aptly(&host).succeeds();
        published(&host, "aptly/public");
    }
}

/// aptly leaves the first Release file unsigned where it is published: apt must refuse it.
#[test]
fn apt_refuses_what_aptly_could_not_sign() {
    let host = Host::refused("rsa4096");
    aptly(&host).fails(1, "ERROR: unable to publish: unable to detached sign file");
    for name in ["InRelease", "Release.gpg"] {
        assert!(!host.exists(&format!("aptly/public/dists/stable/{name}")), "{name}");
    }
    apt(&host, "aptly/public").fails(100, "stable Release' is not signed.");
}

/// The next state of an archive is put in place when it is signed, not before.
#[test]
fn aptly_leaves_the_published_archive() {
    let host = Host::new("rsa4096");
    aptly(&host).succeeds();
    let release = || ["Release", "InRelease", "Release.gpg"].map(|name| host.read(&format!("aptly/public/dists/stable/{name}")));
    let before = release();
    host.signs("aptly", &["-config=aptly.conf", "repo", "remove", "tiny", "tiny"]);
    let key = format!("-gpg-key={}", host.front.fingerprint);
    let update = ["-config=aptly.conf", "publish", "update", "-batch", &key, "stable"];
    run(host.refusing("rsa4096").signer("aptly").args(update)).fails(1, "ERROR: unable to publish: unable to detached sign file");
    assert!(release() == before);
    published(&host, "aptly/public");
}
