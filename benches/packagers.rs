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

use fixture::{Host, own, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

const PACKAGES: usize = 1000;
const TURNS: usize = 3;
const CALLS: usize = 101;
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

    host.signs("sigsh-client", &["setup", "rpm", "signer/.rpmmacros"]);
    let keyring = keyring(&host);
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..TURNS {
        times[0].push(rpmsign(&host, &package, None));
        times[1].push(rpmsign(&host, &package, Some(&keyring)));
    }
    let [front, local] = times.map(median);
    println!("\n{PACKAGES} packages by one rpmsign, RSA-4096, seconds: median of {TURNS}, taken in turn");
    println!("front end {front:.1}   local gpg {local:.1}   front end : local gpg {:.2}", front / local);
    println!("\nwhat a call is made of, milliseconds: median of {CALLS}");
    let steps = steps(&host);
    let mut times = [const { Vec::new() }; 5];
    for _ in 0..CALLS {
        for ((what, program, more), times) in steps.iter().zip(&mut times) {
            let mut command = host.signer(program);
            command.args(more).stdin(fs::File::open(&host.front.armored).unwrap()).stdout(Stdio::null());
            let began = Instant::now();
            assert!(command.status().unwrap().success(), "{what}");
            times.push(began.elapsed());
        }
    }
    for ((what, ..), times) in steps.iter().zip(times) {
        println!("{:6.1}  {what}", median(times) * 1e3);
    }
}

/// Calls that do more and more of what a signature needs, over a connection that stays open.
fn steps(host: &Host) -> [(&'static str, &'static str, Vec<String>); 5] {
    let config = fs::read_to_string(&host.front.config).unwrap();
    let identity = config.split('"').find(|word| word.ends_with("_key")).unwrap();
    let ssh = |request: &str| {
        let socket = format!("ControlPath={}/bench", host.front.runtime);
        let words = ["-F", &format!("{}/ssh_config", world::HOME), "-i", identity, "-o", "ControlMaster=auto", "-o", &socket];
        let words = [&words[..], &["-o", "ControlPersist=30", "-T", "signer@127.0.0.1", request]].concat();
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let gpg = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    [
        ("a program that does nothing", "true", Vec::new()),
        ("the front end without a host: --list-secret-keys", "sigsh-gpg", gpg("--list-secret-keys")),
        ("ssh, sshd and sigsh without a token: certificate", "ssh", ssh("certificate rsa4096")),
        ("ssh, sshd, sigsh and the token: sign", "ssh", ssh("sign rsa4096")),
        ("all of it: --detach-sign", "sigsh-gpg", gpg("--no-verbose --no-armor --detach-sign")),
    ]
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
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

/// Signs as many fresh packages in one run: by the front end, or by the gpg of this keyring.
fn rpmsign(host: &Host, package: &[u8], keyring: Option<&str>) -> Duration {
    let names = (0..PACKAGES).map(|number| format!("rpms/{number}.rpm")).collect::<Vec<_>>();
    for name in &names {
        host.write(name, package);
    }
    let mut command = host.configured("rpmsign");
    if let Some(keyring) = keyring {
        command.env("GNUPGHOME", keyring).args(["--define", "__gpg /usr/bin/gpg", "--define", "_gpg_name local@example.org"]);
    }
    command.arg("--addsign").args(&names);
    let began = Instant::now();
    let text = run(&mut command).succeeds();
    let time = began.elapsed();
    assert!(!text.contains("error:"), "{text}");
    assert!(names.iter().all(|name| host.read(name) != package), "not all are signed");
    time
}
