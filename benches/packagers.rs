//! How long a packager's tool takes when its gpg is the front end, against a local gpg in the same run: medians and ratios.
//! Run by `just bench`, as root inside `tests/inside.sh`.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]
#![allow(dead_code, missing_docs, unreachable_pub)]

#[path = "../tests/it/packagers/fixture.rs"]
mod fixture;
#[path = "../tests/it/packagers/front.rs"]
mod front;
#[path = "../tests/it/world.rs"]
mod world;

use fixture::{Host, PATH, own, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const PACKAGES: usize = 1000;
const TURNS: usize = 3;
const SPEC: &str =
    "Name: tiny\nVersion: 1\nRelease: 1\nSummary: tiny\nLicense: none\nBuildArch: noarch\n%description\ntiny\n%files\n";

fn main() {
    // `cargo test --benches` and editors run this, too: measure only when asked.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let host = Host::new("rsa4096");
    host.write("tiny.spec", SPEC);
    host.signs("rpmbuild", &["--quiet", "-bb", "--define", &format!("_topdir {}", host.home), "tiny.spec"]);
    let package = host.read("RPMS/noarch/tiny-1-1.noarch.rpm");

    let keyring = keyring(&host);
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..TURNS {
        times[0].push(rpmsign(&host, &package, &format!("{}/gpg", host.front.directory), &host.front.fingerprint, None));
        times[1].push(rpmsign(&host, &package, "/usr/bin/gpg", "local@example.org", Some(&keyring)));
    }
    let [front, local] = times.map(|mut times: Vec<Duration>| {
        times.sort_unstable();
        times[TURNS / 2].as_secs_f64()
    });
    println!("\n{PACKAGES} packages by one rpmsign, RSA-4096, seconds: median of {TURNS}, taken in turn");
    println!("front end {front:.1}   local gpg {local:.1}   front end : local gpg {:.2}", front / local);
}

/// A key in a file, without a passphrase, and an agent of its own.
fn keyring(host: &Host) -> String {
    let keyring = format!("{}/gnupg", host.home);
    fs::create_dir(&keyring).unwrap();
    own(&keyring);
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = host.anyone("gpg");
    command.args(["--batch", "--passphrase", "", "--quick-generate-key", "local@example.org", "rsa4096", "sign", "never"]);
    run(command.env("GNUPGHOME", &keyring)).succeeds();
    keyring
}

/// Signs as many fresh packages in one run.
fn rpmsign(host: &Host, package: &[u8], gpg: &str, key: &str, keyring: Option<&str>) -> Duration {
    let names = (0..PACKAGES).map(|number| format!("rpms/{number}.rpm")).collect::<Vec<_>>();
    for name in &names {
        host.write(name, package);
    }
    let mut command = host.signer("rpmsign");
    if let Some(keyring) = keyring {
        command.env("PATH", PATH).env("GNUPGHOME", keyring);
    }
    command.args(["--define", &format!("__gpg {gpg}"), "--define", &format!("_gpg_name {key}"), "--addsign"]).args(&names);
    let began = Instant::now();
    let text = run(&mut command).succeeds();
    let time = began.elapsed();
    assert!(!text.contains("error:"), "{text}");
    assert!(names.iter().all(|name| host.read(name) != package), "not all are signed");
    time
}
