//! A Debian 13, out of the archive that `tests/trixie.sh` has made: its sqv, gpgv and apt judge by the rules of the day.

use crate::world::{built, succeed};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where it is. Nothing that is written there stays, as everywhere on this machine.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let archive = built().parent().unwrap().join("trixie.tar.gz");
        assert!(archive.exists(), "{} is missing: run sh tests/trixie.sh", archive.display());
        let root = PathBuf::from("/srv/trixie");
        fs::create_dir_all(&root).unwrap();
        succeed(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&root));
        succeed(Command::new("mount").args(["--rbind", "/dev"]).arg(root.join("dev")));
        // Where its apt does not find it: apt judges by sqv, as on any Debian 13.
        fs::rename(root.join("usr/bin/gpgv"), root.join("usr/lib/gpgv")).unwrap();
        root
    })
}

/// A fresh directory in it: as it sees it, and as we do.
pub fn scratch() -> (String, PathBuf) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let inside = format!("/srv/{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let outside = root().join(inside.trim_start_matches('/'));
    fs::create_dir(&outside).unwrap();
    (inside, outside)
}

/// Runs a program of it.
pub fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("chroot");
    command.arg(root()).arg(program).args(arguments).env_clear().env("PATH", "/usr/bin:/usr/sbin").env("LC_ALL", "C.UTF-8");
    command.output().unwrap()
}

/// Whether its sqv accepts a detached signature.
pub fn accepts(certificate: &str, signature: &[u8], data: &[u8]) -> bool {
    let (inside, outside) = scratch();
    fs::copy(certificate, outside.join("cert")).unwrap();
    fs::write(outside.join("sig"), signature).unwrap();
    fs::write(outside.join("data"), data).unwrap();
    let path = |name: &str| format!("{inside}/{name}");
    let output = run("sqv", &["--keyring", &path("cert"), "--signature-file", &path("sig"), &path("data")]);
    fs::remove_dir_all(outside).unwrap();
    output.status.success()
}

/// Demands that it does.
#[track_caller]
pub fn verify(certificate: &str, signature: &[u8], data: &[u8]) {
    assert!(accepts(certificate, signature, data));
}

/// What its sqv makes of a cleartext-signed message: the text, where it is good.
pub fn cleartext(certificate: &str, message: &[u8]) -> Option<Vec<u8>> {
    text("sqv", &["--cleartext"], certificate, message)
}

/// What its gpgv does.
pub fn gpgv(certificate: &str, message: &[u8]) -> Option<Vec<u8>> {
    text("/usr/lib/gpgv", &["--homedir", "/srv"], certificate, message)
}

fn text(program: &str, options: &[&str], certificate: &str, message: &[u8]) -> Option<Vec<u8>> {
    let (inside, outside) = scratch();
    fs::copy(certificate, outside.join("cert")).unwrap();
    fs::write(outside.join("message"), message).unwrap();
    let path = |name: &str| format!("{inside}/{name}");
    let files = ["--keyring", &path("cert"), "--output", &path("text"), &path("message")];
    let output = run(program, &[options, &files[..]].concat());
    let text = output.status.success().then(|| fs::read(outside.join("text")).unwrap());
    fs::remove_dir_all(outside).unwrap();
    text
}

/// Demands that its apt takes a repository whose InRelease is made by `sign`, with its default policy and this certificate alone, and
/// installs a package from it; and that it takes no Release that was changed afterwards.
#[track_caller]
pub fn apt(name: &str, certificate: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) {
    let (inside, outside) = scratch();
    for directory in ["tree/DEBIAN", "lists/partial", "archives/partial"] {
        fs::create_dir_all(outside.join(directory)).unwrap();
    }
    let control =
        format!("Package: tiny-{name}\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: tiny\n");
    fs::write(outside.join("tree/DEBIAN/control"), &control).unwrap();
    let package = outside.join("tiny.deb");
    succeed(Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(outside.join("tree")).arg(&package));
    let figures = |path: &Path| (hex::encode(Sha256::digest(fs::read(path).unwrap())), fs::metadata(path).unwrap().len());
    let (digest, size) = figures(&package);
    let packages = outside.join("Packages");
    fs::write(&packages, format!("{control}Filename: ./tiny.deb\nSize: {size}\nSHA256: {digest}\n")).unwrap();
    let (digest, size) = figures(&packages);
    let date = String::from_utf8(succeed(Command::new("date").arg("-Ru")).stdout).unwrap();
    let release = format!("Origin: Test\nSuite: tiny\nDate: {date}SHA256:\n {digest} {size} Packages\n");
    fs::copy(certificate, outside.join("key.gpg")).unwrap();
    fs::write(outside.join("list"), format!("deb [signed-by={inside}/key.gpg] file:{inside} ./\n")).unwrap();

    let paths = [("Dir::Etc::sourcelist", "/list"), ("Dir::State::lists", "/lists"), ("Dir::Cache", "")];
    let options = paths.iter().map(|(option, path)| format!("{option}={inside}{path}"));
    let more = ["Dir::Etc::sourceparts=-", "APT::Sandbox::User=root", "APT::Update::Error-Mode=any", "DPkg::Lock::Timeout=60"]
        .map(str::to_owned);
    let options = options.chain(more).map(|option| format!("-o{option}")).collect::<Vec<_>>();
    let get = |arguments: &[&str]| {
        let output = run("apt-get", &options.iter().map(String::as_str).chain(arguments.iter().copied()).collect::<Vec<_>>());
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let good = String::from_utf8(sign(release.as_bytes())).unwrap();
    for changed in [good.replace("Suite: tiny", "Suite: evil"), good.replace("Origin: Test\n", ""), release] {
        fs::write(outside.join("InRelease"), changed).unwrap();
        let (success, said) = get(&["update"]);
        assert!(!success && said.contains("is not signed"), "{name}: {said}");
    }
    fs::write(outside.join("InRelease"), good).unwrap();
    let (success, said) = get(&["update"]);
    assert!(success && !said.contains("W:"), "{name}: {said}");
    let (success, said) = get(&["install", "--yes", &format!("tiny-{name}")]);
    assert!(success && said.contains(&format!("Setting up tiny-{name}")), "{name}: {said}");
}
