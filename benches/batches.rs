//! How many signatures a second a batch makes, against the bare token in the same run. Run by `just bench`, as root inside
//! `tests/inside.sh`. `SIGSH_BENCH_ENTRIES` makes it shorter.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]
#![allow(dead_code, missing_docs, unreachable_pub)]

#[path = "../tests/it/world.rs"]
mod world;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use world::{HOME, PIN, account, as_account, changed, ssh_key, succeed, user_auth, world};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const SOFTHSM2_CONF: &str = "/etc/sigsh/softhsm2.conf";
const SESSIONS: [usize; 3] = [1, 2, 4];

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if let Some(key) = std::env::var_os("SIGSH_BARE_TOKEN") {
        let count = std::env::var("SIGSH_BARE_COUNT").unwrap().parse().unwrap();
        return bare_token(&key.into_string().unwrap(), count);
    }
    world();
    let entries = std::env::var("SIGSH_BENCH_ENTRIES").map_or(10_000, |text| text.parse().unwrap());
    let tar = archive(entries);
    println!("\n{entries} files of 1.5 KiB on SoftHSM: signatures a second, and their ratio to the bare token of one session");
    println!("{:<9}{:>9}{:>12}{:>16}{:>16}", "key", "sessions", "C_Sign", "sign-tar", "over ssh");
    for key in ["rsa4096", "ed25519"] {
        let mut one = None;
        for sessions in SESSIONS {
            let bare = bare(key, entries, sessions);
            let one = *one.get_or_insert(bare);
            let config = changed(&[
                ("[token.hsm]\n", &format!("[token.hsm]\nsessions = {sessions}\n")),
                ("keys = [\"rsa2048\"", "inputs = [\"artifact\", \"tar\", \"state\"]\nkeys = [\"rsa2048\""),
            ]);
            let direct = rate(entries, direct(&config, &format!("sign-tar {key}"), &tar));
            println!("{key:<9}{sessions:>9}{bare:>12.0}{:>16}", figure(direct, one));
        }
    }
}

fn figure(rate: f64, one: f64) -> String {
    format!("{rate:.0} ({:.2})", rate / one)
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// A tar of so many files, no two of which are the same.
fn archive(entries: usize) -> String {
    let directory = format!("{HOME}/files");
    fs::create_dir_all(&directory).unwrap();
    for number in 0..entries {
        let text = format!("{number:08} ").repeat(171);
        fs::write(format!("{directory}/package-{number:05}.rpm"), &text[..1536]).unwrap();
    }
    let path = format!("{HOME}/files.tar");
    succeed(Command::new("tar").args(["-C", &directory, "--sort=name", "-cf", &path, "."]));
    path
}

/// Signs without ssh: what sshd hands over is set by hand.
fn direct(config: &std::path::Path, request: &str, input: &str) -> Duration {
    let mut command = as_account("/usr/bin/sigsh");
    command.arg("--config").arg(config).env("SSH_USER_AUTH", user_auth("build1")).env("SSH_ORIGINAL_COMMAND", request);
    let began = Instant::now();
    let mut child = command.stdin(File::open(input).unwrap()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut to = File::create(format!("{HOME}/answer")).unwrap();
    std::io::copy(&mut out, &mut to).unwrap();
    assert!(child.wait().unwrap().success());
    began.elapsed()
}

/// C_Sign alone, again and again, in so many processes at once.
fn bare(key: &str, count: usize, sessions: usize) -> f64 {
    let start = || {
        let mut command = as_account(std::env::current_exe().unwrap());
        command.arg("--bench").env("SOFTHSM2_CONF", SOFTHSM2_CONF);
        command.env("SIGSH_BARE_TOKEN", key).env("SIGSH_BARE_COUNT", (count / sessions).to_string());
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let children = (0..sessions).map(|_| start()).collect::<Vec<_>>();
    let seconds = children.into_iter().map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().parse::<f64>().unwrap()
    });
    count as f64 / seconds.fold(0.0, f64::max)
}

fn bare_token(key: &str, count: usize) {
    let module = Pkcs11::new(MODULE).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let label = |slot: &cryptoki::slot::Slot| module.get_token_info(*slot).unwrap().label() == "release";
    let slot = module.get_slots_with_token().unwrap().into_iter().find(label).unwrap();
    let session = module.open_ro_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(key.into())];
    let found = session.find_objects(&template).unwrap()[0];
    let (mechanism, length) = match key {
        "ed25519" => (Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), 64),
        _ => (Mechanism::RsaPkcs, 83),
    };
    let data = vec![7; length];
    let began = Instant::now();
    for _ in 0..count {
        assert!(!session.sign(&mechanism, found, &data).unwrap().is_empty());
    }
    println!("{}", began.elapsed().as_secs_f64());
    std::mem::forget(session);
}
