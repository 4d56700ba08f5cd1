//! An HSM behind TCP: a module that speaks to `tests/hsm.rs`, a SoftHSM in other processes. And what its sandbox leaves of the network.

use super::{Daemon, Key, Lab, suite};
use crate::sandbox::{installed, misfits};
use crate::token::noted;
use crate::world::{
    CONFIG, PIN, Session, account_file, as_account, changed, faulty, field, finish, patient, records, softhsm, succeed, user_auth,
    verify, world,
};
use sigsh::sandbox::Profile;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// What speaks to it, where the account can load it.
fn module() -> PathBuf {
    installed("libmodule.so")
}

/// Starts the HSM: itself, and its port.
fn hsm(name: &str) -> (Daemon, u16) {
    world();
    let lock = format!("/var/lib/sigsh-test/{name}.lock");
    fs::create_dir_all("/var/lib/sigsh-test").unwrap();
    account_file(&lock, b"");
    let mut command = as_account(installed("hsm"));
    command.arg(lock).env("SOFTHSM2_CONF", "/etc/sigsh/softhsm2.conf").stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Daemon(child), line.trim().parse().unwrap())
}

#[test]
fn network_passes() {
    let (_hsm, port) = hsm("network");
    softhsm("network");
    // By a name, whose resolution tries much that the sandbox refuses.
    let table = format!(
        "module = \"{}\"\nuri = \"pkcs11:token=network\"\nsandbox = \"network\"\nconnect = [{port}]\nsessions = 1\n\
         environment = {{ MODULE_HSM = \"localhost:{port}\" }}\n",
        module().display()
    );
    let keys = ["ed25519", "rsa2048", "nistp256"].map(Key::named).into();
    let lab = Lab { forgive: Some(forgive), ..Lab::new("network", table, PIN, keys) };
    suite(&lab);
    let config = lab.config(&[]);
    let sessions = lab.keys.iter().map(|key| (lab.session(&config, &format!("sign {}", key.name)), &b"artifact"[..]));
    assert_eq!(misfits(Profile::Network, sessions.collect()), [""; 0]);
}

/// This HSM's store remembers a wrong PIN, until somebody logs in with the right one.
fn forgive() {
    let mut command = as_account("pkcs11-tool");
    command.args(["--module", "/usr/lib/softhsm/libsofthsm2.so", "--token-label", "network", "--login", "--pin", PIN, "-O"]);
    succeed(command.env("SOFTHSM2_CONF", "/etc/sigsh/softhsm2.conf"));
}

/// What becomes of a trial.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    Works,
    Denied,
    Killed,
}
use Fate::{Denied, Killed, Works};

/// What a module tries of the network, and what becomes of it before the login and after.
const TRIALS: [(&str, Fate, Fate); 12] = [
    ("thread", Works, Killed),
    ("tcp", Works, Killed),
    ("tcp6", Works, Killed),
    ("tcp-other", Denied, Killed),
    ("fastopen", Killed, Killed),
    ("udp", Denied, Killed),
    ("mptcp", Denied, Killed),
    ("netlink", Denied, Killed),
    ("socket-unix", Denied, Killed),
    ("listen", Killed, Killed),
    ("exec", Killed, Killed),
    ("fork", Killed, Killed),
];

/// Somebody who listens, on one port of both families, and counts who comes.
struct Listener {
    port: u16,
    came: Arc<AtomicU32>,
}

impl Listener {
    fn new() -> Listener {
        let four = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = four.local_addr().unwrap().port();
        let came = Arc::new(AtomicU32::new(0));
        for listener in [four, TcpListener::bind((Ipv6Addr::LOCALHOST, port)).unwrap()] {
            let came = came.clone();
            thread::spawn(move || {
                listener.incoming().for_each(|_| {
                    came.fetch_add(1, Ordering::SeqCst);
                })
            });
        }
        Listener { port, came }
    }

    fn came(&self) -> u32 {
        self.came.load(Ordering::SeqCst)
    }
}

#[test]
fn a_module_that_tries_the_network() {
    let (_hsm, hsm) = hsm("trials");
    let (listed, other) = (Listener::new(), Listener::new());
    let fates = TRIALS.map(|(trial, load, sign)| [(format!("{trial}-load"), load), (trial.to_owned(), sign)]);
    for (fault, fate) in fates.into_iter().flatten() {
        let environment = format!(
            "MODULE_HSM = \"127.0.0.1:{hsm}\", MODULE_PORT = \"{}\", MODULE_OTHER = \"{}\", MODULE_FAULT",
            listed.port, other.port
        );
        let connect = format!("sandbox = \"network\"\nsessions = 1\nconnect = [{hsm}, {}]", listed.port);
        let (config, count) = faulty(&fault, &[("MODULE_FAULT", &environment), ("sandbox = \"softhsm\"", &connect)]);
        let came = listed.came();
        let outcome = Session::new(&config).client("build1").request("sign ed25519").run(b"artifact");
        let told = match fate {
            Killed => {
                outcome.fails(69, "the token process failed", "failed", "SIGSYS");
                vec![]
            }
            fate => {
                verify("ed25519", outcome.signature(), b"artifact");
                vec![format!("{} {fault}", if fate == Works { "ESCAPED" } else { "DENIED" })]
            }
        };
        assert_eq!(noted(&count), told, "{fault}");
        let connects = fate == Works && fault.starts_with("tcp");
        patient(|| listed.came() == came + u32::from(connects));
    }
    assert_eq!(other.came(), 0);
}

/// The trials are no empty gestures: the same module, under the same account, gets out of a program without a sandbox.
#[test]
fn outside_the_sandbox_every_trial_of_the_network_succeeds() {
    let (_hsm, hsm) = hsm("outside");
    let (listed, other) = (Listener::new(), Listener::new());
    for (trial, _, _) in TRIALS {
        let (_, count) = faulty("", &[]);
        let mut command = as_account("pkcs11-tool");
        command.arg("--module").arg(module()).arg("--list-slots").env("MODULE_HSM", format!("127.0.0.1:{hsm}"));
        command.env("MODULE_PORT", listed.port.to_string()).env("MODULE_OTHER", other.port.to_string());
        command.env("MODULE_COUNT", &count).env("MODULE_FAULT", format!("{trial}-load"));
        let _ = command.stdin(Stdio::null()).output().unwrap();
        assert!(noted(&count).contains(&format!("ESCAPED {trial}-load")), "{trial}");
    }
    patient(|| other.came() == 2);
}

/// Kernels before 6.7 have no rules for ports: a token that needs them is not used there.
#[test]
fn a_kernel_that_cannot_keep_a_token_to_its_ports() {
    world();
    // Asked for its version of Landlock, it says 3; what is called in place of that, a filter lets pass.
    let old = |when: &str, program: &str, config: &Path| {
        let mut command = as_account("strace");
        let inject = format!("inject=landlock_create_ruleset:retval=3:syscall=getppid:when={when}");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=landlock_create_ruleset", "-e", &inject]);
        command.args([program, "--config"]).arg(config);
        command.env("SSH_USER_AUTH", user_auth("build1")).env("SSH_CONNECTION", "192.0.2.1 4000 192.0.2.2 22");
        command
    };
    let network = changed(&[("sandbox = \"softhsm\"", "sandbox = \"network\"\nconnect = [1792]")]);
    // Every other call makes rules.
    let outcome = finish(old("1+2", "/usr/bin/sigsh", &network), b"artifact");
    outcome.fails_quietly(78, "this host cannot confine sigsh");
    let record = records("SIGSH_CODE=78").into_iter().rfind(|record| field(record, "SIGSH_REASON").contains("TCP ports")).unwrap();
    assert!(field(&record, "SIGSH_REASON").starts_with("the kernel cannot keep a token to its TCP ports, which takes Linux 6.7"));
    for (config, told) in [(network.as_path(), true), (Path::new(CONFIG), false)] {
        // `check` makes none before it has asked all.
        let mut check = old("1..20", "/usr/bin/sigsh-admin", config);
        let said = String::from_utf8(check.arg("check").output().unwrap().stdout).unwrap();
        assert_eq!(said.contains("error: sandbox: the kernel cannot keep a token to its TCP ports"), told, "{said}");
    }
}
