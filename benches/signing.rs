//! How long a signature takes, against a peer or a limit in the same run: medians and ratios, on whatever machine this is.
//! Run by `just bench`, as root inside `tests/inside.sh`.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]
#![allow(dead_code, missing_docs, unreachable_pub)]

mod bare;
mod measure;
#[path = "../tests/it/world.rs"]
mod world;

use bare::{MODULE, SOFTHSM2_CONF};
use measure::{median, ms, ratio, run, turns};
use std::fs::{self, File};
use std::process::{Command, Stdio};
use world::{HOME, PIN, as_account, ssh_key, succeed, user_auth, world};

fn main() {
    // `cargo test --benches` and editors run this, too: measure only when asked.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // The bare token runs in a process of its own, so that it is as cold as the others.
    if let Some(key) = std::env::var_os("SIGSH_BARE_TOKEN") {
        bare::sign(&key.into_string().unwrap(), 1);
        return;
    }
    world();
    small();
    let _peers = peers();
    multiplexed();
    large();
}

/// Ends what it holds when the measurement is over.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server's side of 1 KiB, without ssh: one process after the other, each cold.
fn small() {
    let data = format!("{HOME}/1k");
    fs::write(&data, vec![7; 1024]).unwrap();
    let short = format!("{HOME}/short");
    fs::write(&short, vec![7; 64]).unwrap();
    println!("\n1 KiB on SoftHSM, server side, milliseconds: median of 100, taken in turn");
    println!(
        "{:<10}{:>8}{:>13}{:>12}{:>11}{:>22}",
        "key", "sigsh", "pkcs11-tool", "bare token", "/bin/true", "sigsh : pkcs11-tool"
    );
    for (key, mechanism, input) in
        [("rsa4096", "SHA512-RSA-PKCS", &data), ("rsa2048", "SHA512-RSA-PKCS", &data), ("ed25519", "EDDSA", &short)]
    {
        let request = format!("sign {key}");
        let id = format!("{:02x}", world::KEYS.iter().position(|known| *known == key).unwrap() + 1);
        let mut times = turns(
            100,
            &mut [
                &mut || {
                    let mut command = as_account("/usr/bin/sigsh");
                    command.arg("--config").arg(world::CONFIG).env("SSH_USER_AUTH", user_auth("build1"));
                    run(command.env("SSH_ORIGINAL_COMMAND", &request), &data)
                },
                &mut || {
                    let mut command = as_account("pkcs11-tool");
                    command.args(["--module", MODULE, "--token-label", "release", "--login", "--pin", PIN, "--sign"]);
                    command.args(["--mechanism", mechanism, "--id", &id, "--input-file", input]);
                    run(command.env("SOFTHSM2_CONF", SOFTHSM2_CONF), &data)
                },
                &mut || {
                    let mut command = as_account(std::env::current_exe().unwrap());
                    command.arg("--bench").env("SIGSH_BARE_TOKEN", key);
                    run(command.env("SOFTHSM2_CONF", SOFTHSM2_CONF), &data)
                },
                &mut || run(&mut as_account("/bin/true"), &data),
            ],
        );
        let [sigsh, tool, bare, nothing] = [0, 1, 2, 3].map(|index| median(&mut times[index]));
        println!(
            "{key:<10}{:>8.1}{:>13.1}{:>12.1}{:>11.1}{:>22.2}",
            ms(sigsh),
            ms(tool),
            ms(bare),
            ms(nothing),
            ratio(sigsh, tool)
        );
    }
}

/// Another account on the same host: gpg with a key in a file as its forced command, and a plain shell.
fn peers() -> [Running; 2] {
    let home = format!("{HOME}/packager");
    succeed(Command::new("useradd").args([
        "--create-home",
        "--home-dir",
        &home,
        "--shell",
        "/bin/sh",
        "--password",
        "*",
        "packager",
    ]));
    fs::create_dir_all(format!("{home}/.ssh")).unwrap();
    fs::copy(format!("{}.pub", ssh_key("build1")), format!("{home}/.ssh/authorized_keys")).unwrap();
    let gpg = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            "packager",
            "--regid",
            "packager",
            "--init-groups",
            "--",
            "gpg",
            "--batch",
            "--quiet",
            "--passphrase",
            "",
        ]);
        succeed(command.args(["--pinentry-mode", "loopback"]).args(arguments).env("HOME", &home))
    };
    gpg(&["--quick-generate-key", "packager@example.org", "rsa4096", "sign", "never"]);
    let plain = Running(world::start_sshd("plain", 2223, ""));
    let command = "Match User packager\n ForceCommand exec gpg --batch --detach-sign --digest-algo SHA512";
    let forced = Running(world::start_sshd("gpg", 2224, command));
    [plain, forced]
}

/// 1 KiB over an open connection, against gpg with a key in a file as the forced command.
fn multiplexed() {
    let data = format!("{HOME}/1k");
    let master = |user: &str, port: u16| {
        let mut command = Command::new("ssh");
        let path = format!("{HOME}/{user}{port}");
        command.args(["-F", &format!("{HOME}/ssh_config"), "-p", &port.to_string(), "-i", &ssh_key("build1"), "-S", &path]);
        command.arg(format!("{user}@127.0.0.1"));
        (command, path)
    };
    for (user, port) in [("signer", world::PORT), ("packager", 2224), ("packager", 2223)] {
        let (mut command, _) = master(user, port);
        succeed(command.args(["-M", "-f", "-N"]).stdout(Stdio::null()).stderr(Stdio::null()));
    }
    let over = |user: &str, port: u16, request: &str| {
        let (mut command, _) = master(user, port);
        run(command.arg(request), &data)
    };
    let mut times = turns(
        60,
        &mut [
            &mut || over("signer", world::PORT, "sign rsa4096"),
            &mut || over("packager", 2224, ""),
            &mut || over("packager", 2223, "exec true"),
            &mut || over("signer", world::PORT, "version"),
        ],
    );
    let [sigsh, gpg, nothing, version] = [0, 1, 2, 3].map(|index| median(&mut times[index]));
    println!("\n1 KiB, RSA-4096, over ControlMaster, milliseconds: median of 60, taken in turn");
    println!(
        "sigsh {:.1}   gpg as forced command {:.1}   'true' {:.1}   'version' {:.1}",
        ms(sigsh),
        ms(gpg),
        ms(nothing),
        ms(version)
    );
    println!("sigsh : gpg  {:.2}", ratio(sigsh, gpg));
}

/// 1 GiB over a fresh connection, against a remote sha512sum.
fn large() {
    let data = format!("{HOME}/1g");
    let file = File::create(&data).unwrap();
    file.set_len(1 << 30).unwrap();
    let fresh = |user: &str, port: u16, request: &str| {
        let mut command = Command::new("ssh");
        command.args(["-F", &format!("{HOME}/ssh_config"), "-p", &port.to_string(), "-i", &ssh_key("build1")]);
        run(command.args([&format!("{user}@127.0.0.1"), request]), &data)
    };
    let mut times = turns(
        7,
        &mut [&mut || fresh("signer", world::PORT, "sign rsa4096"), &mut || fresh("packager", 2223, "sha512sum"), &mut || {
            fresh("packager", 2223, "exec cat > /dev/null")
        }],
    );
    let [sigsh, sum, nothing] = [0, 1, 2].map(|index| median(&mut times[index]));
    println!("\n1 GiB over a fresh connection, seconds: median of 7, taken in turn");
    println!(
        "sigsh {:.2}   sha512sum {:.2}   cat > /dev/null {:.2}",
        sigsh.as_secs_f64(),
        sum.as_secs_f64(),
        nothing.as_secs_f64()
    );
    println!("sigsh : sha512sum  {:.2}", ratio(sigsh, sum));
}
