//! How many signatures a second a batch makes, against the bare token in the same run. Run by `just bench`, as root inside
//! `tests/inside.sh`. `SIGSH_BENCH_ENTRIES` and `SIGSH_BENCH_KEY` make it shorter.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]
#![allow(dead_code, missing_docs, unreachable_pub)]

mod bare;
#[path = "../tests/it/world.rs"]
mod world;

use bare::{MODULE, SOFTHSM2_CONF};
use sigsh::hash_state::{HashAlgorithm, HashState};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use world::{CONFIG, HOME, PIN, as_account, configuration, ssh_key, succeed, user_auth, world};

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if let Some(key) = std::env::var_os("SIGSH_BARE_TOKEN") {
        let count = std::env::var("SIGSH_BARE_COUNT").unwrap().parse().unwrap();
        let time = bare::sign(&key.into_string().unwrap(), count);
        return println!("{}", time.as_secs_f64());
    }
    world();
    let sync = disk();
    let entries = std::env::var("SIGSH_BENCH_ENTRIES").map_or(10_000, |text| text.parse().unwrap());
    let inputs = [archive(entries), documents(entries)];
    println!("\n{entries} files of 1.5 KiB on SoftHSM: signatures a second, and their ratio to one session of C_Sign alone");
    println!("The ledger's disk takes {:.2} ms for a line and a sync", sync.as_secs_f64() * 1e3);
    println!("{:<9}{:>9}{:>9}{:>15}{:>15}{:>15}", "key", "sessions", "C_Sign", "sign-tar", "over ssh", "sign-state, ssh");
    let only = std::env::var("SIGSH_BENCH_KEY").ok();
    for key in ["rsa4096", "ed25519"].into_iter().filter(|key| only.as_ref().is_none_or(|only| only == key)) {
        let mut one = None;
        for sessions in [1, 2, 4] {
            settle(sessions);
            let bare = bare(key, entries, sessions);
            let one = *one.get_or_insert(bare);
            let [tar, state] = &inputs;
            let figure = |command: Command, input: &str| {
                let rate = entries as f64 / run(command, input).as_secs_f64();
                format!("{rate:.0} ({:.2})", rate / one)
            };
            let direct = figure(direct(&format!("sign-tar {key}")), tar);
            let states = figure(ssh(&format!("sign-state {key}")), state);
            verify_lines(key, entries, sessions);
            let ssh = figure(ssh(&format!("sign-tar {key}")), tar);
            verify_files(key, entries, sessions);
            println!("{key:<9}{sessions:>9}{bare:>9.0}{direct:>15}{ssh:>15}{states:>15}");
        }
    }
    peers();
    let ledger = succeed(Command::new("sigsh-admin").args(["ledger", "verify", "--journal"]));
    println!("ledger verify --journal: {}", String::from_utf8_lossy(&ledger.stdout).lines().next().unwrap_or_default());
    large();
}

/// A ledger and a state directory on a real disk, where `tests/inside.sh` has everything in memory. How long a sync takes there.
fn disk() -> Duration {
    let real = concat!(env!("CARGO_TARGET_TMPDIR"), "/ledger");
    // A ledger can only grow: that of an earlier run must be told that it may go.
    succeed(Command::new("sh").args(["-c", "test ! -e \"$0\" || chattr -R -a \"$0\"; rm -rf \"$0\"", real]));
    fs::create_dir_all(real).unwrap();
    fs::create_dir_all("/srv/disk").unwrap();
    succeed(Command::new("mount").args(["--bind", real, "/srv/disk"]));
    succeed(Command::new("install").args(["-d", "-m", "700", "-o", "signer", "-g", "signer", "/srv/disk/state"]));
    settle(1);
    succeed(Command::new("sigsh-admin").args(["ledger", "init"]));
    let mut probe = File::create("/srv/disk/probe").unwrap();
    let line = [b'x'; 1024];
    let mut times = (0..101).map(|_| {
        let began = Instant::now();
        probe.write_all(&line).unwrap();
        probe.sync_data().unwrap();
        began.elapsed()
    });
    let mut times = times.by_ref().collect::<Vec<_>>();
    times.sort_unstable();
    times[50]
}

/// Has the token bear so many sessions, and the client send what it likes.
fn settle(sessions: usize) {
    let tar = "inputs = [\"artifact\", \"tar\", \"state\"]\nkeys = [\"rsa2048\"";
    let text = configuration().replace("[token.hsm]\n", &format!("[token.hsm]\nsessions = {sessions}\n"));
    let disk = "ledger = \"/srv/disk/ledger.jsonl\"\nstate = \"/srv/disk/state\"\n";
    fs::write(CONFIG, text.replace("keys = [\"rsa2048\"", tar) + disk).unwrap();
}

fn file(number: usize) -> Vec<u8> {
    let mut bytes = format!("{number:08} ").repeat(171).into_bytes();
    bytes.truncate(1536);
    bytes
}

/// A tar of so many files, no two of which are the same.
fn archive(entries: usize) -> String {
    let directory = format!("{HOME}/files");
    fs::create_dir_all(&directory).unwrap();
    for number in 0..entries {
        fs::write(format!("{directory}/{number:05}.rpm"), file(number)).unwrap();
    }
    let path = format!("{HOME}/files.tar");
    succeed(Command::new("tar").args(["-C", &directory, "--sort=name", "-cf", &path, "."]));
    path
}

/// The same files as hash states.
fn documents(entries: usize) -> String {
    let path = format!("{HOME}/files.json");
    let lines = (0..entries).map(|number| document(HashState::new(HashAlgorithm::Sha512), &mut &file(number)[..]) + "\n");
    fs::write(&path, lines.collect::<String>()).unwrap();
    path
}

/// A signing request as Signstar's client writes it.
fn document(mut state: HashState, data: &mut impl Read) -> String {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match data.read(&mut buffer).unwrap() {
            0 => break,
            length => state.update(&buffer[..length]),
        }
    }
    let content = state.export(|bytes| serde_json::to_string(bytes).unwrap());
    format!(
        "{{\"version\":\"1.0.0\",\"required\":{{\"input\":{{\"type\":\"sha2-0.11-SHA512-state\",\"content\":{content}}},\
         \"output\":{{\"type\":\"OpenPGPv4\"}}}},\"optional\":{{}}}}"
    )
}

/// Without ssh: what sshd hands over is set by hand.
fn direct(request: &str) -> Command {
    let mut command = as_account("/usr/bin/sigsh");
    command.arg("--config").arg(CONFIG).env("SSH_USER_AUTH", user_auth("build1")).env("SSH_ORIGINAL_COMMAND", request);
    command
}

/// Over a fresh connection, of which the time counts, too.
fn ssh(request: &str) -> Command {
    let mut command = Command::new("ssh");
    command.args(["-F", &format!("{HOME}/ssh_config"), "-i", &ssh_key("build1"), "signer@127.0.0.1", request]);
    command
}

fn run(mut command: Command, input: &str) -> Duration {
    let answer = File::create(format!("{HOME}/answer")).unwrap();
    command.stdin(File::open(input).unwrap()).stdout(answer);
    let began = Instant::now();
    let status = command.status().unwrap();
    let time = began.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    time
}

/// Verifies all signatures of the first run of a key.
fn verify_files(key: &str, entries: usize, sessions: usize) {
    if sessions > 1 {
        return;
    }
    let script = "rm -f *.sig && tar -xf ../answer && ls *.sig | sed 's/.sig$//' | \
         xargs -P 2 -I {} sh -c 'gpgv -q --keyring \"$0\" {}.sig {} 2>/dev/null && echo {}' \"$0\" | wc -l";
    let mut command = Command::new("sh");
    command.args(["-c", script, &format!("/etc/sigsh/{key}.pgp")]).current_dir(format!("{HOME}/files")).env("GNUPGHOME", HOME);
    let good = String::from_utf8(succeed(&mut command).stdout).unwrap();
    assert_eq!(good.trim(), entries.to_string());
}

/// The same for documents.
fn verify_lines(key: &str, entries: usize, sessions: usize) {
    if sessions > 1 {
        return;
    }
    // As the files of a tar, they are verified in the same way.
    let directory = format!("{HOME}/lines");
    fs::create_dir_all(&directory).unwrap();
    for (number, line) in BufReader::new(File::open(format!("{HOME}/answer")).unwrap()).lines().enumerate() {
        let document: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        fs::write(format!("{directory}/{number:05}.rpm.sig"), document["signature"].as_str().unwrap()).unwrap();
    }
    succeed(Command::new("tar").args(["-C", &directory, "-cf", &format!("{HOME}/answer"), "."]));
    verify_files(key, entries, sessions);
}

/// A file after the other: gpg with a key of its own in a file, and pkcs11-tool on the same token; without ssh.
fn peers() {
    const COUNT: usize = 200;
    let home = format!("{HOME}/gnupg");
    succeed(Command::new("mkdir").args(["-m", "700", &home]));
    let gpg = || {
        let mut command = Command::new("gpg");
        command.args(["--homedir", &home, "--batch", "--quiet", "--yes", "--passphrase", "", "--pinentry-mode", "loopback"]);
        command
    };
    println!("\n{COUNT} of them one after the other, without ssh: signatures a second");
    for (key, algorithm, mechanism) in [("rsa4096", "rsa4096", "SHA512-RSA-PKCS"), ("ed25519", "ed25519", "EDDSA")] {
        let user = format!("{key}@example.org");
        succeed(gpg().args(["--quick-generate-key", &user, algorithm, "sign", "never"]));
        let began = Instant::now();
        for number in 0..COUNT {
            let path = format!("{HOME}/files/{number:05}.rpm");
            succeed(gpg().args(["--local-user", &user, "--detach-sign", "--output", &format!("{HOME}/gpg.sig"), &path]));
        }
        let gpg = COUNT as f64 / began.elapsed().as_secs_f64();
        let id = format!("{:02x}", world::KEYS.iter().position(|known| *known == key).unwrap() + 1);
        // It takes what it is given for the message: Ed25519 of a short one.
        let short = format!("{HOME}/short");
        fs::write(&short, [7; 64]).unwrap();
        let began = Instant::now();
        for number in 0..COUNT {
            let input = if key == "ed25519" { short.clone() } else { format!("{HOME}/files/{number:05}.rpm") };
            let mut command = as_account("pkcs11-tool");
            command.args(["--module", MODULE, "--token-label", "release", "--login", "--pin", PIN, "--sign"]);
            command.args(["--mechanism", mechanism, "--id", &id, "--input-file", &input]).env("SOFTHSM2_CONF", SOFTHSM2_CONF);
            succeed(&mut command);
        }
        let tool = COUNT as f64 / began.elapsed().as_secs_f64();
        println!("{key:<9} gpg --detach-sign {gpg:.0}   pkcs11-tool {tool:.0}");
    }
}

/// 10 GiB: as a stream against a remote sha512sum, and as a hash state.
fn large() {
    const SIZE: u64 = 10 << 30;
    let data = format!("{HOME}/10g");
    File::create(&data).unwrap().set_len(SIZE).unwrap();
    let mut sshd =
        world::start_sshd("root", 2225, "PermitRootLogin yes\nMatch User root\n AuthorizedKeysFile /etc/sigsh/root_keys");
    fs::copy(format!("{}.pub", ssh_key("build1")), "/etc/sigsh/root_keys").unwrap();
    let remote = || {
        let mut command = Command::new("ssh");
        command.args(["-F", &format!("{HOME}/ssh_config"), "-p", "2225", "-i", &ssh_key("build1"), "root@127.0.0.1", "sha512sum"]);
        command
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        times[0].push(run(ssh("sign ed25519"), &data));
        times[1].push(run(remote(), &data));
    }
    let [sigsh, sum] = times.map(|mut times| {
        times.sort_unstable();
        times[1].as_secs_f64()
    });
    println!("\n10 GiB, seconds: median of 3, taken in turn");
    println!("over ssh: sign {sigsh:.1}   sha512sum {sum:.1}   speed of sign : sha512sum  {:.2}", sum / sigsh);
    let began = Instant::now();
    let document = document(HashState::new(HashAlgorithm::Sha512), &mut File::open(&data).unwrap());
    let hashed = began.elapsed();
    let path = format!("{HOME}/10g.json");
    File::create(&path).unwrap().write_all(document.as_bytes()).unwrap();
    let signed = run(ssh("sign-state ed25519"), &path);
    sshd.kill().unwrap();
    sshd.wait().unwrap();
    println!(
        "by state: {} bytes sent; hashed there in {:.1}, signed in {:.2}",
        document.len(),
        hashed.as_secs_f64(),
        signed.as_secs_f64()
    );
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
