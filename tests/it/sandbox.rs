//! Each process's own sandbox stops what it must: tried from within (`tests/probe.rs`), seen on real sessions from outside, and no row of
//! its tables stands there without need.

use crate::world::{
    CONFIG, PIN, Session, account, account_file, as_account, calls, changed, faulty, field, finish_child, patient, records,
    scratch, secret, succeed, world,
};
use sigsh::sandbox::syscalls::{BEGINNING, HASHER, Libc, MONITOR, Row, When};
use sigsh::sandbox::{self, Profile};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

const HOME: &str = "/usr/lib/sigsh-test/home";

/// A process, or a time in its life, and the tables that are in force there; the first is its own.
type Process = (String, Vec<Vec<Row>>);

/// The processes of a session with a token of this kind, in a build with this C library.
fn processes_of(libc: Libc, profile: Profile) -> [Process; 5] {
    let [beginning, hasher, monitor] = [BEGINNING, HASHER, MONITOR].map(|rows| of(libc, rows.to_vec()));
    let [load, sign] = [profile.load(), profile.sign()].map(|rows| of(libc, rows));
    [
        ("begin", vec![beginning, hasher.clone(), monitor.clone(), load.clone()]),
        ("hasher", vec![hasher]),
        ("monitor", vec![monitor]),
        ("token-load", vec![load]),
        ("token-sign", vec![sign]),
    ]
    .map(|(process, tables)| (process.to_owned(), tables))
}

/// All that `tests/probe.rs` can enter, but for `none`: for each profile what all share on a host with such a token, the token process
/// before login, and after.
fn processes() -> Vec<Process> {
    let every = Profile::ALL.map(Profile::load).concat();
    let [beginning, hasher, monitor] = [BEGINNING, HASHER, MONITOR].map(<[Row]>::to_vec);
    let begin = vec![beginning.clone(), hasher.clone(), monitor.clone(), every];
    let of_profiles = Profile::ALL.into_iter().flat_map(|profile| {
        let before = vec![beginning.clone(), monitor.clone(), profile.load()];
        let stages = [("settled", before), ("load", vec![profile.load()]), ("sign", vec![profile.sign()])];
        stages.map(|(stage, tables)| (format!("{profile:?}-{stage}").to_lowercase(), tables))
    });
    let all = [("begin", begin), ("hasher", vec![hasher]), ("monitor", vec![monitor.clone()])];
    let all = all.map(|(process, tables)| (process.to_owned(), tables)).into_iter().chain(of_profiles);
    all.map(|(process, tables)| (process, tables.into_iter().map(|rows| of(Libc::OURS, rows)).collect())).collect()
}

/// The rows of a build with this C library.
fn of(libc: Libc, rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter().filter(|row| row.is_of(libc)).collect()
}

/// All ways to open a file.
const OPENS: &[&str] = &[
    "open-read",
    "open-pin",
    "open-directory",
    "open-at-descriptor",
    "open-proc-self",
    "open-proc-root",
    "open-proc-descriptor",
    "open-write",
    "open-append",
    "open-create",
];

/// What the monitor may do as long as it reads the configuration and forks.
#[rustfmt::skip]
const BEFORE: &[&str] = &[
    "stat-path", "ftruncate", "write-other", "write-stdout", "pwrite-other", "sendfile-stdout", "kill-child",
    // Landlock leaves children alone, where the kernel has signal scopes.
    "kill-parent", "kill-sibling", "kill-all", "kill-second-child", "kill-other-child", "kill-group-of-child",
    "socket-unix", "socketpair", "connect-decoy", "mmap-exec",
];

/// What nobody leaves a token behind TCP but that: the probe's own sockets are none of its.
const TCP: &[&str] = &["socket-inet", "connect-decoy", "sendto-decoy"];

/// What a process may do, by its table and with its reason there, and what therefore proves nothing there.
const MAY: [(&str, &[&[&str]]); 21] = [
    ("begin", &[OPENS, BEFORE, TCP]),
    ("hasher", &[]),
    ("monitor", &[&["write-other", "write-stdout", "sendfile-stdout", "pwrite-other", "kill-child", "kill-second-child"]]),
    ("softhsm-settled", &[OPENS, BEFORE]),
    ("softhsm-load", &[&["stat-path", "ftruncate", "write-other", "write-stdout", "pwrite-other", "mmap-exec"]]),
    ("softhsm-sign", &[&["stat-path", "write-other", "write-stdout"]]),
    ("p11kit-settled", &[OPENS, BEFORE]),
    ("p11kit-load", &[&["write-other", "write-stdout", "pwrite-other"]]),
    ("p11kit-sign", &[&["write-other", "write-stdout"]]),
    ("kryoptic-settled", &[OPENS, BEFORE]),
    ("kryoptic-load", &[&["stat-path", "write-other", "write-stdout", "pwrite-other", "mmap-exec"]]),
    ("kryoptic-sign", &[&["stat-path", "write-other", "write-stdout"]]),
    ("tpm-settled", &[OPENS, BEFORE]),
    ("tpm-load", &[&["stat-path", "write-other", "write-stdout", "pwrite-other", "mmap-exec"]]),
    ("tpm-sign", &[&["stat-path", "write-other", "write-stdout"]]),
    ("pcsc-settled", &[OPENS, BEFORE]),
    // Sockets with a path are not Landlock's to forbid before ABI 9: docs/THREATS.md.
    ("pcsc-load", &[&["stat-path", "write-other", "write-stdout", "pwrite-other", "mmap-exec", "socket-unix", "connect-decoy"]]),
    ("pcsc-sign", &[&["stat-path", "write-other", "write-stdout"]]),
    ("network-settled", &[OPENS, BEFORE, TCP]),
    ("network-load", &[&["stat-path", "write-other", "write-stdout", "pwrite-other", "mmap-exec"], TCP]),
    ("network-sign", &[&["write-other", "write-stdout", "sendto-decoy"]]),
];

/// What becomes of an action that a process may not do. Landlock's refusals, and calls that libraries try and can do without, fail.
fn refusal(process: &str, action: &str) -> &'static str {
    let other_socket = ["socket-inet6", "socket-netlink", "socket-mptcp"].contains(&action);
    match (process, action) {
        (_, "clone3") if ["begin", "pcsc-load", "network-load"].contains(&process) || process.ends_with("settled") => "errno 38",
        ("begin" | "tpm-settled" | "tpm-load", "unlink") => "errno 13",
        ("begin" | "network-settled" | "network-load", _) if other_socket => "errno 13",
        ("network-load", "socket-unix") => "errno 13",
        ("kryoptic-sign", _) if OPENS.contains(&action) => "errno 2",
        ("softhsm-load" | "softhsm-sign", "socket-unix") => "errno 97",
        ("softhsm-load" | "softhsm-sign" | "kryoptic-load" | "tpm-load" | "pcsc-load" | "network-load", _)
            if OPENS.contains(&action) =>
        {
            "errno 13"
        }
        _ => KILLED,
    }
}

/// What an ordinary process of the account may not do either, on this host or on any: the killing is the proof.
const NOBODY_MAY: [&str; 13] = [
    // Where the kernel knows of it.
    "socket-mptcp",
    "open-by-handle",
    "chmod-pin",
    "mount",
    "chroot",
    "io_uring",
    "bpf",
    "userfaultfd",
    "keyctl",
    "perf",
    "entry-of-32-bits",
    // There is no such group.
    "kill-group-of-child",
    // Everybody may, but not while other tests run under the account.
    "kill-all",
];

const KILLED: &str = "signal 31";

/// The probe with all that it needs; one test at a time works on it.
struct Probe {
    program: PathBuf,
    sibling: Child,
    _decoys: (UnixListener, UnixDatagram),
    _turn: MutexGuard<'static, ()>,
}

impl Probe {
    fn new() -> Probe {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        world();
        let _ = fs::remove_dir_all(HOME);
        fs::create_dir_all(HOME).unwrap();
        let (uid, gid) = account();
        chown(HOME, Some(uid), Some(gid)).unwrap();
        let decoys =
            (UnixListener::bind(format!("{HOME}/decoy")).unwrap(), UnixDatagram::bind(format!("{HOME}/decoy-datagram")).unwrap());
        for decoy in ["decoy", "decoy-datagram"] {
            fs::set_permissions(format!("{HOME}/{decoy}"), fs::Permissions::from_mode(0o666)).unwrap();
        }
        let program = installed("probe");
        fs::create_dir_all("/usr/lib/sigsh-test/tpm").unwrap();
        for name in ["device", "tpm2_pkcs11.sqlite3.lock"] {
            account_file(&format!("/usr/lib/sigsh-test/tpm/{name}"), b"");
        }
        let mut probe = Probe { program, sibling: sleep(), _decoys: decoys, _turn: turn };
        probe.reset();
        probe
    }

    /// Everything as it was before an action.
    fn reset(&mut self) {
        for name in ["new", "decoy2"] {
            let path = Path::new(HOME).join(name);
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir(&path);
        }
        account_file(&format!("{HOME}/file"), b"untouched");
        if self.sibling.try_wait().unwrap().is_some() {
            self.sibling = sleep();
        }
    }

    fn is_untouched(&mut self) -> bool {
        let names = fs::read_dir(HOME).unwrap().map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>();
        let stat = fs::metadata(format!("{HOME}/file")).unwrap();
        names.len() == 3
            && fs::read(format!("{HOME}/file")).unwrap() == b"untouched"
            && (stat.mode() & 0o777, stat.uid()) == (0o600, account().0)
            && self.sibling.try_wait().unwrap().is_none()
    }

    fn try_action(&self, process: &str, action: &str) -> String {
        let mut command = as_account(&self.program);
        let output = command.args([process, action]).env("PROBE_SIBLING", self.sibling.id().to_string()).output().unwrap();
        if output.status.code().is_none() {
            return "its parent is dead".to_owned();
        }
        assert!(output.status.success(), "{process} {action}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn actions(&self) -> Vec<String> {
        let output = succeed(as_account(&self.program).arg("list"));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.sibling.kill();
        let _ = self.sibling.wait();
    }
}

fn sleep() -> Child {
    let child = as_account("sleep").arg("1000").spawn().unwrap();
    // Not setpriv any more, and no longer root's.
    patient(|| fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() == "sleep\n");
    child
}

/// Copies a test program to where the account can run it, whatever the checkout's permissions. By `cp`: a file that this process had
/// open for writing could still be so in a child of another thread, and would not be executed ("Text file busy").
pub fn installed(name: &str) -> PathBuf {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let built = Path::new(env!("CARGO_BIN_EXE_sigsh")).parent().unwrap().join("examples").join(name);
    fs::create_dir_all("/usr/lib/sigsh-test").unwrap();
    let path = Path::new("/usr/lib/sigsh-test").join(name);
    if !path.exists() {
        succeed(Command::new("cp").args([&built, &path]));
    }
    path
}

#[test]
fn each_action_works_where_nobody_forbids_it() {
    let mut probe = Probe::new();
    for action in probe.actions().iter().filter(|action| !NOBODY_MAY.contains(&action.as_str())) {
        probe.reset();
        let outcome = probe.try_action("none", action);
        assert_eq!(outcome, if action == "kill-parent" { "its parent is dead" } else { "done" }, "{action}");
    }
}

#[test]
fn each_process_is_stopped() {
    let mut probe = Probe::new();
    let actions = probe.actions();
    for (process, may) in MAY {
        let actions = actions.iter().map(String::as_str).filter(|action| !may.iter().any(|some| some.contains(action)));
        let expected = actions.clone().map(|action| format!("{action} {}", refusal(process, action))).collect::<Vec<_>>();
        let outcomes = probe.try_action(process, &actions.collect::<Vec<_>>().join(","));
        assert_eq!(outcomes.lines().collect::<Vec<_>>(), expected, "{process}");
    }
    assert!(probe.is_untouched());
}

/// Whatever the kernel has now or will have soon: a call without a row kills, and so does one by the numbers of the x32 ABI. In a
/// process that has gone on from the beginning, it is enough to try what is allowed there.
#[test]
fn every_call_without_a_row_kills() {
    const X32: i64 = 0x4000_0000;
    // uretprobe and uprobe: the kernel lets them pass every filter, and kills whoever calls them from elsewhere than its own trampoline.
    let exempt = |number: &i64| cfg!(target_arch = "x86_64") && [335, 336].contains(number);
    let mut probe = Probe::new();
    let mut possible = (0..600).chain([1 << 20]).filter(|number| !exempt(number)).collect::<BTreeSet<_>>();
    possible.extend([0, 1, 2, 9, 39, 57, 59, 257, 520].map(|number| X32 + number));
    for (process, tables) in processes() {
        let allowed = tables.concat().iter().map(|row| row.number).collect::<BTreeSet<_>>();
        let numbers = possible.difference(&allowed).map(i64::to_string).collect::<Vec<_>>();
        let outcomes = probe.try_action(&process, &numbers.join(","));
        let survived = outcomes.lines().filter(|line| !line.ends_with(KILLED)).collect::<Vec<_>>();
        assert_eq!((outcomes.lines().count(), survived), (numbers.len(), vec![]), "{process}");
        if process == "begin" {
            possible = allowed;
        }
    }
    assert!(probe.is_untouched());
}

/// The processes of a session that waits for input: monitor, hasher, one or several of tokens.
struct Waiting {
    child: Child,
    pids: Vec<u32>,
}

impl Waiting {
    fn start(session: Session) -> Waiting {
        Waiting::of(session, 1)
    }

    fn of(session: Session, tokens: usize) -> Waiting {
        let child = session.start();
        let monitor = child.id();
        let named = |name: &str| {
            let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
            let is = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
            children.split_whitespace().map(|pid| pid.parse().unwrap()).filter(is).collect::<Vec<u32>>()
        };
        patient(|| named("sigsh-hasher").len() == 1 && named("sigsh-token").len() == tokens);
        let pids = [vec![monitor], named("sigsh-hasher"), named("sigsh-token")].concat();
        // The monitor polls all, the hasher standard input, and a token process, its module loaded, reads its channel.
        let calls = [libc::SYS_ppoll, libc::SYS_ppoll].into_iter().chain(std::iter::repeat(libc::SYS_read));
        for (pid, call) in pids.iter().zip(calls) {
            patient(|| fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap().starts_with(&format!("{call} ")));
        }
        Waiting { child, pids }
    }

    fn status(&self, process: usize, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pids[process])).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("{field}: {status}")).to_owned()
    }

    /// What its descriptors are, by number.
    fn descriptors(&self, process: usize) -> Vec<(u32, String)> {
        let kind = |(number, target): (u32, String)| (number, target.split(":[").next().unwrap().to_owned());
        self.targets(process).into_iter().map(kind).collect()
    }

    /// The same, and of sockets and pipes, which.
    fn targets(&self, process: usize) -> Vec<(u32, String)> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pids[process])).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let target = fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
            (entry.file_name().to_string_lossy().parse().unwrap(), target)
        });
        let mut entries = entries.collect::<Vec<_>>();
        entries.sort();
        entries
    }

    /// Whether these bytes stand anywhere in its memory.
    fn remembers(&self, process: usize, bytes: &[u8]) -> bool {
        remembers(self.pids[process], bytes)
    }
}

/// Whether these bytes stand anywhere in the memory of a process.
pub fn remembers(pid: u32, bytes: &[u8]) -> bool {
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let ranges = maps.lines().filter(|line| line.split(' ').nth(1).unwrap().starts_with('r')).map(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap())
    });
    let mut read = 0;
    let found = ranges.into_iter().any(|(from, to)| {
        let mut content = vec![0; (to - from) as usize];
        // The kernel's own pages at the end cannot be read.
        let length = memory.read_at(&mut content, from).unwrap_or(0);
        read += length;
        content[..length].windows(bytes.len()).any(|window| window == bytes)
    });
    assert!(found || read > 1 << 20, "only {read} bytes could be read");
    found
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_waiting_session_is_confined() {
    let waiting = Waiting::start(world().session("build1", "sign ed25519"));
    let mut own_sleep = sleep();
    let mut watched = waiting.pids.to_vec();
    watched.push(own_sleep.id());
    for (number, pid) in watched.iter().enumerate() {
        let open_to_the_account = *pid == own_sleep.id();
        let can = |program: &str, arguments: &[&str]| as_account(program).args(arguments).output().unwrap().status.success();
        for file in ["environ", "mem", "maps", "stat", "fd"] {
            let root = fs::metadata(format!("/proc/{pid}/{file}")).unwrap().uid() == 0;
            assert_eq!(root, !open_to_the_account, "{number} {file}");
        }
        assert_eq!(can("cat", &[&format!("/proc/{pid}/environ")]), open_to_the_account, "{number}");
        assert_eq!(can("ls", &[&format!("/proc/{pid}/fd/")]), open_to_the_account, "{number}");
        let mut strace = as_account("strace");
        strace.args(["-qq", "-o", "/dev/null", "-p", &pid.to_string()]);
        if open_to_the_account {
            let mut tracer = strace.spawn().unwrap();
            patient(|| !fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("TracerPid:\t0\n"));
            tracer.kill().unwrap();
            tracer.wait().unwrap();
        } else {
            let output = strace.output().unwrap();
            assert!(String::from_utf8_lossy(&output.stderr).contains("Operation not permitted"), "{number} {output:?}");
        }
    }
    for process in 0..3 {
        assert_eq!((waiting.status(process, "NoNewPrivs").as_str(), waiting.status(process, "Seccomp").as_str()), ("1", "2"));
        assert_eq!(waiting.status(process, "Threads"), "1");
        let limits = fs::read_to_string(format!("/proc/{}/limits", waiting.pids[process])).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
    }
    let kinds = |process| waiting.descriptors(process).into_iter().map(|(_, kind)| kind).collect::<Vec<_>>();
    assert_eq!(waiting.descriptors(1)[0], (0, "pipe".to_owned()));
    let (null, text) = ("/dev/null", "/memfd:sigsh-text (deleted)");
    assert_eq!(kinds(1), ["pipe", text, "socket"], "the hasher");
    assert_eq!(kinds(2), [null, null, null, "/var/lib/sigsh/state/pin.hsm", "socket"], "the token process");
    let state = |name: &str| format!("/var/lib/sigsh/state/{name}");
    let mut monitor = kinds(0);
    monitor.sort();
    let (refusals, sessions, lock) = (state("refusals.build1"), state("sessions.build1"), state("ledger.lock"));
    let (ledger, certificate) = ("/var/lib/sigsh/ledger.jsonl", "/etc/sigsh/ed25519.pgp");
    let expected =
        ["/", certificate, text, ledger, ledger, &lock, &refusals, &sessions, "pipe", "pipe", "socket", "socket", "socket"];
    assert_eq!(monitor, expected, "the monitor: two channels, the journal, the ledger, and what it shares with other sessions");
    own_sleep.kill().unwrap();
    own_sleep.wait().unwrap();
}

/// In a batch with three token processes of two tokens, nobody has an end of another's channel, and a turn is held by its own process.
#[test]
fn each_process_of_a_batch_has_its_own_descriptors() {
    world();
    let text = fs::read_to_string(CONFIG).unwrap();
    let table = text.split_once("[token.hsm]\n").unwrap().1.split_once("[key.").unwrap().0;
    let config = changed(&[
        ("[token.hsm]\n", &format!("[token.other]\n{table}[token.hsm]\nsessions = 2\n")),
        ("[key.ed25519]\ntoken = \"hsm\"", "[key.ed25519]\ntoken = \"other\""),
    ]);
    let waiting = Waiting::of(Session::new(config).client("build1").request("sign-tar rsa2048 ed25519"), 3);
    let kinds = |process| {
        let mut kinds = waiting.descriptors(process).into_iter().map(|(_, kind)| kind).collect::<Vec<_>>();
        kinds.sort();
        kinds
    };
    let state = |name: &str| format!("/var/lib/sigsh/state/{name}");
    let (null, text) = ("/dev/null", "/memfd:sigsh-text (deleted)");
    assert_eq!(kinds(1), [text, "pipe", "socket"], "the hasher");
    for process in [2, 3] {
        assert_eq!(kinds(process), [null, null, null, &state("pin.hsm"), &state("token.hsm"), "socket"], "a token process");
    }
    assert_eq!(kinds(4), [null, null, null, &state("pin.other"), "socket"], "that of the other token");
    let (rsa, ed25519) = ("/etc/sigsh/rsa2048.pgp", "/etc/sigsh/ed25519.pgp");
    let ledger = "/var/lib/sigsh/ledger.jsonl";
    let shared = ["ledger.lock", "refusals.build1", "sessions.build1", "token.hsm", "token.hsm"].map(state);
    let [lock, refusals, sessions, one, two] = &shared;
    let files = ["/", ed25519, rsa, text, ledger, ledger, lock, refusals, sessions, one, two, "pipe", "pipe"];
    // To the hasher, to each token process, to the journal.
    assert_eq!(kinds(0), [&files[..], &["socket"; 5]].concat(), "the monitor");

    let sockets =
        |process| waiting.targets(process).into_iter().map(|(_, target)| target).filter(|target| target.starts_with("socket:"));
    let all = (0..5).flat_map(sockets).collect::<Vec<_>>();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (9, 9), "{all:?}");
}

#[test]
fn the_pin_is_in_the_memory_of_the_token_process_alone() {
    const DISTINCT: &str = "correct-horse-0815-staple";
    world();
    secret("/etc/sigsh/distinct.pin", DISTINCT);
    // Nobody logs in before the last byte: the token need not know this PIN.
    let config = changed(&[("/etc/sigsh/hsm.pin", "/etc/sigsh/distinct.pin")]);
    let waiting = Waiting::start(Session::new(config).client("build1").request("sign ed25519"));
    assert_eq!([0, 1, 2].map(|process| waiting.remembers(process, DISTINCT.as_bytes())), [false, false, true]);
}

/// What the client's side of ssh can set does not reach the module: only the configuration's environment does.
#[test]
fn the_module_sees_the_configured_environment_alone() {
    let stray = format!("{HOME}-stray");
    fs::create_dir_all("/usr/lib/sigsh-test").unwrap();
    world();
    account_file(&stray, b"");
    let run = |config: &Path, count: &str| {
        let mut session = Session::new(config).client("build1").request("sign ed25519");
        session.command.env("MODULE_COUNT", count).env("MODULE_FAULT", "fail-sign");
        finish_child(session.start(), b"data")
    };
    let (config, count) = faulty("", &[]);
    run(&config, &stray).signature();
    assert_eq!((calls(&count, "C_Sign") > 0, fs::read(&stray).unwrap().len()), (true, 0));
}

/// A death by a signal that dumps core elsewhere leaves none.
#[test]
fn no_core_is_dumped() {
    let mut waiting = Waiting::start(world().session("build1", "sign ed25519"));
    // To wait for it would close it, and end the input.
    let _stdin = waiting.child.stdin.take();
    succeed(Command::new("kill").args(["-SEGV", &waiting.pids[2].to_string()]));
    assert_eq!(waiting.child.wait().unwrap().code(), Some(69));
    let records = records(&format!("_PID={}", waiting.pids[0]));
    let reason = field(records.last().unwrap(), "SIGSH_REASON");
    assert!(reason.contains("ended by SIGSEGV"), "{reason}");

    let mut waiting = Waiting::start(world().session("build1", "sign ed25519"));
    succeed(Command::new("kill").args(["-SEGV", &waiting.pids[0].to_string()]));
    let status = waiting.child.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(libc::SIGSEGV), false));
    // Neither of the two others outlives the monitor.
    patient(|| waiting.pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
}

/// Without a configuration there is no token: whatever the client says is read under the narrowest filter.
#[test]
fn a_session_without_a_configuration_is_narrowed_down_all_the_same() {
    world();
    let trace = format!("{}/trace", scratch());
    let mut session = Session::new(Path::new("/nonexistent")).client("build1");
    let mut command = Command::new("strace");
    command.args(["-qq", "-e", "trace=seccomp,landlock_restrict_self,write", "-o", &trace]);
    command.arg(session.command.get_program()).args(session.command.get_args());
    session.command = command;
    assert_eq!(finish_child(session.start(), b"").code, Some(78));
    let trace = fs::read_to_string(&trace).unwrap();
    let calls = trace.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| name).collect::<Vec<_>>();
    let told = calls.iter().position(|name| *name == "write").unwrap();
    let [begun, settled] = [&Profile::ALL[..], &[]].map(|profiles| filters(&sandbox::before(profiles)));
    let [mut expected, narrow] =
        [begun, settled].map(|filters| [vec!["landlock_restrict_self"], vec!["seccomp"; filters]].concat());
    expected.extend(narrow);
    assert_eq!(calls[..told], expected);
}

/// The filters of a table: one that kills, and one for each errno.
fn filters(table: &[Row]) -> usize {
    let errno = |row: &Row| match row.when {
        When::Fails(errno) => Some((errno, false)),
        When::FailsElse(errno) => Some((errno, true)),
        _ => None,
    };
    1 + table.iter().filter_map(errno).collect::<BTreeSet<_>>().len()
}

/// What one session called, by table.
#[derive(Default)]
struct Calls(BTreeMap<&'static str, BTreeSet<String>>);

impl Calls {
    /// Reads what `strace -f -o FILE` has written. Each process's calls belong to the table whose filter was installed last.
    fn read(&mut self, libc: Libc, profile: Profile, trace: &str) {
        let token = [(0, "begin"), (filters(&profile.load()), "token-load"), (filters(&profile.sign()), "token-sign")];
        let own = [(0, "begin"), (filters(HASHER), "hasher")];
        // A static build has no modules.
        let all = if libc == Libc::Musl { &[Profile::P11Kit][..] } else { &Profile::ALL };
        let [begun, settled] = [all, &[profile]].map(|profiles| filters(&sandbox::before(profiles)));
        let monitor = [(0, ""), (begun, "begin"), (settled, "begin"), (filters(MONITOR), "monitor")];
        assert_eq!((filters(HASHER), filters(MONITOR)), (1, 1));

        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        // A module's threads, and whose they are: forks return no parent_tid. A filter for all threads counts for them, too.
        let mut threads: BTreeMap<&str, &str> = BTreeMap::new();
        for line in trace.lines() {
            if let (Some((pid, _)), Some((_, rest))) = (line.split_once(' '), line.split_once("parent_tid=[")) {
                threads.insert(rest.split_once(']').unwrap().0, pid);
            }
            let (pid, call) = line.split_once(' ').unwrap();
            let call = call.trim_start();
            if call.starts_with("prctl(PR_SET_NAME, \"sigsh-hasher\"") {
                names.insert(pid, "hasher");
            } else if call.starts_with("prctl(PR_SET_NAME, \"sigsh-token\"") {
                names.insert(pid, "token");
            }
        }
        let mut installed: BTreeMap<&str, usize> = BTreeMap::new();
        for line in trace.lines() {
            let (pid, call) = line.split_once(' ').unwrap();
            let pid = threads.get(pid).unwrap_or(&pid);
            let call = call.trim_start();
            assert!(!call.contains("SIGSYS"), "{line}");
            // `???` stands for a call of a process that was killed before strace could read which.
            let Some((name, _)) = call.split_once('(').filter(|_| !call.starts_with(['<', '+', '-', '?'])) else { continue };
            let so_far = installed.entry(pid).or_default();
            let stages: &[(usize, &'static str)] = match names.get(pid) {
                Some(&"hasher") => &own,
                Some(_) => &token,
                None => &monitor,
            };
            let mut needed = 0;
            let mut stage = "";
            for (more, name) in stages {
                needed += more;
                if *so_far >= needed {
                    stage = name;
                }
            }
            self.0.entry(stage).or_default().insert(name.to_owned());
            *so_far += usize::from(name == "seccomp");
        }
    }

    /// Calls without a row, and rows without a call.
    fn compare(&self, processes: &[Process]) -> Vec<String> {
        let mut wrong = Vec::new();
        for (process, tables) in processes {
            let seen = &self.0[process.as_str()];
            let rows = tables.concat();
            let known = |call: &&String| rows.iter().any(|row| row.name == **call);
            wrong.extend(seen.iter().filter(|call| !known(call)).map(|call| format!("{process}: {call} has no row")));
            let idle = tables[0].iter().filter(|row| row.always_seen && !seen.contains(row.name));
            wrong.extend(idle.map(|row| format!("{process}: {} was not called", row.name)));
        }
        wrong
    }
}

/// Runs sessions on their input under strace, each of which must end with this code.
fn traced<T: AsRef<[u8]>>(libc: Libc, profile: Profile, sessions: impl IntoIterator<Item = (Session, T, i32)>) -> Calls {
    let mut calls = Calls::default();
    for (mut session, input, code) in sessions {
        let trace = format!("{}/trace", scratch());
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", &trace]).arg(session.command.get_program()).args(session.command.get_args());
        command.env_clear().envs(session.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        session.command = command;
        let outcome = finish_child(session.start(), input.as_ref());
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        calls.read(libc, profile, &fs::read_to_string(&trace).unwrap());
    }
    calls
}

/// What is wrong with a token's tables: calls without a row, rows without a call, in sessions that sign these data.
pub fn misfits(profile: Profile, sessions: Vec<(Session, &[u8])>) -> Vec<String> {
    let sessions = sessions.into_iter().map(|(session, input)| (session, input, 0));
    traced(Libc::OURS, profile, sessions).compare(&processes_of(Libc::OURS, profile)[3..])
}

/// The same of all processes, in a build with this C library.
pub fn all_misfits(libc: Libc, profile: Profile, sessions: impl IntoIterator<Item = (Session, Vec<u8>, i32)>) -> Vec<String> {
    traced(libc, profile, sessions).compare(&processes_of(libc, profile))
}

/// A state of "hello".
const DOCUMENT: &[u8] = include_bytes!("../../fuzz/corpus/state_document/client-short");

/// A tar of this format with what it has: a directory, a long name, a sparse file, and many files.
pub fn archive(format: &str) -> Vec<u8> {
    let directory = scratch();
    let long = format!("{}/{}", "d".repeat(80), "n".repeat(if format == "ustar" { 80 } else { 200 }));
    fs::create_dir(format!("{directory}/{}", "d".repeat(80))).unwrap();
    fs::write(format!("{directory}/{long}"), b"a long name").unwrap();
    for number in 0..150 {
        fs::write(format!("{directory}/{number}"), vec![b'x'; number * 100]).unwrap();
    }
    let sparse = fs::File::create(format!("{directory}/sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    sparse.write_at(b"in the middle", 1 << 20).unwrap();
    let sparse = if format == "ustar" { "--no-check-device" } else { "--sparse" };
    succeed(Command::new("tar").args(["-c", sparse, &format!("--format={format}"), "-C", &directory, "."])).stdout
}

#[test]
fn every_row_is_needed() {
    world();
    let fresh = "/etc/sigsh/fresh.pin";
    secret(fresh, PIN);
    let first =
        changed(&[("/etc/sigsh/hsm.pin", fresh), ("[token.hsm]", "[token.fresh]"), ("token = \"hsm\"", "token = \"fresh\"")]);
    let list = "/etc/sigsh/revoked_keys";
    fs::write(list, "# nobody\n").unwrap();
    let revoking = changed(&[("[token.hsm]", &format!("revoked-keys = \"{list}\"\n[token.hsm]"))]);
    let absent = changed(&[("pkcs11:token=release", "pkcs11:token=absent")]);
    let config = PathBuf::from(CONFIG);
    let limited = changed(&[
        ("[token.hsm]\n", "[token.hsm]\nsessions = 1\n"),
        ("keys = [\"rsa2048\"", "rate = \"1000000/s\"\nkeys = [\"rsa2048\""),
    ]);
    let sessions = [
        (&limited, "build1", "sign ed25519", 0),
        (&config, "build1", "sign rsa4096", 0),
        (&config, "build1", "sign ed25519", 0),
        (&config, "build1", "sign nistp256 --armor", 0),
        (&config, "build1", "sign ed25519 --cleartext", 0),
        (&first, "build1", "sign nistp521", 0),
        (&absent, "build1", "sign", 69),
        (&revoking, "build1", "sign ed25519", 0),
        (&config, "build1", "certificate", 0),
        (&config, "build1", "help", 0),
        (&config, "build1", "sign ed25519 --size 1", 65),
        (&config, "limited", "sign rsa4096", 77),
        (&config, "stranger", "sign", 77),
        (&config, "build1", "rm", 64),
    ];
    let two = changed(&[
        ("[token.hsm]\n", "[token.hsm]\nsessions = 2\n"),
        ("keys = [\"rsa2048\"", "inputs = [\"tar\", \"state\"]\nkeys = [\"rsa2048\""),
    ]);
    let archives = ["gnu", "oldgnu", "posix", "ustar"].map(archive);
    let texts = succeed(Command::new("tar").args(["-c", "-C", env!("CARGO_MANIFEST_DIR"), "README.md", "Cargo.toml"])).stdout;
    let broken = |whole: &[u8]| whole[..whole.len() - 20_000].to_vec();
    let many = [DOCUMENT, b"\n"].concat().repeat(200);
    let batches = [
        ("sign-tar rsa2048 ed25519", 0, archives[0].clone()),
        ("sign-tar nistp256 ed25519 --armor", 0, archives[1].clone()),
        ("sign-tar ed25519", 0, archives[2].clone()),
        ("sign-tar ed25519 --type text", 0, texts),
        ("sign-tar ed25519", 0, archives[3].clone()),
        ("sign-tar ed25519", 65, broken(&archives[0])),
        ("sign-tar rsa2048 ed25519", 65, b"data".to_vec()),
        ("sign-state ed25519", 0, many.clone()),
        ("sign-state rsa2048", 65, [&many[..], b"{}"].concat()),
    ];
    let sessions = sessions.map(|(config, client, request, code)| (config, client, request, code, b"data".to_vec()));
    let batches = batches.map(|(request, code, input)| (&two, "build1", request, code, input));
    let sessions = sessions
        .into_iter()
        .chain(batches)
        .map(|(config, client, request, code, input)| (Session::new(config).client(client).request(request), input, code));
    assert_eq!(all_misfits(Libc::OURS, Profile::Softhsm, sessions), [""; 0]);
}
