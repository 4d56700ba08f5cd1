//! A token behind p11-kit, its module under an account of its own: as sshd/systemd/ starts it for each connection, and as
//! `p11-kit server` runs by hand.

use super::peer::{CALLS, Fault, Peer};
use super::{Daemon, Key, Lab, suite};
use crate::batch::{END, files, half_a_batch, session};
use crate::sandbox::misfits;
use crate::token::group;
use crate::world::{
    Outcome, PIN, PIN_FILE, account, all_of, blocks, calls, changed, faulty, feed, field, fingerprint, finish_child, patient,
    records, scratch, succeed, verify, world,
};
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen};
use nix::unistd::Pid;
use sigsh::sandbox::Profile;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const GUIDE: &str = "docs/P11KIT.md";
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const RELEASE: &str = "pkcs11:token=release";
const SERVER_ACCOUNT: &str = "server-account = \"sigsh-token\"\n";
const BUSY: &str = "the token is busy";
const FAILED: &str = "the token failed";
const HUNG: &str = "the token did not answer in time";
const MISSING: &str = "the signing key is not in the token, or not alone";
const PIN_REFUSED: &str = "the token does not accept its PIN";
const WRONG: &str = "the token made a wrong signature";
const NOT_SET_UP: &str = "sigsh is not set up properly on this host";

/// A SoftHSM store of the token's account.
pub struct Store {
    conf: String,
    tokens: String,
}

impl Store {
    /// With the token and the keys of all tests, as `ProtectSystem=strict` leaves it to the unit: SoftHSM rewrites what it can at every
    /// login, and parallel sessions fail.
    pub fn read_only() -> Store {
        let store = Store::writable();
        store.belongs_to("root");
        store
    }

    /// The same, where it may be changed.
    pub fn writable() -> Store {
        let store = Store::empty();
        succeed(Command::new("cp").args(["-a", "/var/lib/sigsh/tokens/.", &store.tokens]));
        store.belongs_to("sigsh-token");
        store
    }

    /// With a new token of this name.
    pub fn with_token(label: &str) -> Store {
        let store = Store::empty();
        let words = ["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN];
        succeed(store.tool("softhsm2-util").args(words));
        store
    }

    fn empty() -> Store {
        world();
        let directory = format!("/var/lib/sigsh-token/{}", scratch().rsplit('/').next().unwrap());
        let store = Store { conf: format!("{directory}/softhsm2.conf"), tokens: format!("{directory}/tokens") };
        fs::create_dir_all(&store.tokens).unwrap();
        fs::write(&store.conf, format!("directories.tokendir = {}\nlog.level = ERROR\n", store.tokens)).unwrap();
        store.belongs_to("sigsh-token");
        store
    }

    fn belongs_to(&self, user: &str) {
        succeed(Command::new("chown").args(["-R", &format!("{user}:sigsh-token"), &self.tokens]));
        succeed(Command::new("chmod").args(["-R", "u=rwX,g=rX,o=", &self.tokens]));
    }

    pub fn environment(&self) -> [(&str, &str); 1] {
        [("SOFTHSM2_CONF", &self.conf)]
    }

    /// A command under the token's account.
    pub fn tool(&self, program: &str) -> Command {
        as_token(program, &self.environment())
    }
}

/// A command under the token's account, with little else in its environment.
fn as_token(program: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "sigsh-token", "--regid", "sigsh-token", "--clear-groups", "--", program]);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh").envs(environment.iter().copied());
    command
}

/// The words of a unit's line.
fn unit(name: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/usr/lib/systemd/system/{name}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    line.split(' ').map(str::to_owned).collect()
}

/// A server as the unit starts it, by its ExecStart.
pub fn activated(store: &Store) -> (Daemon, PathBuf) {
    let shipped = fs::read_to_string("/etc/sigsh-token/token.env").unwrap();
    let start = unit("sigsh-token@.service", "ExecStart").into_iter().map(|word| {
        let name = word.strip_prefix("${").and_then(|word| word.strip_suffix('}'));
        let value = |name| shipped.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap().to_owned();
        name.map_or_else(|| word.clone(), value)
    });
    listening(&store.environment(), &["--clear-groups"], start)
}

/// A socket on which root listens, as the unit has it, and for each connection this command under the unit's account.
pub fn listening(environment: &[(&str, &str)], groups: &[&str], start: impl Iterator<Item = String>) -> (Daemon, PathBuf) {
    let socket = PathBuf::from(scratch()).join("pkcs11");
    let user = unit("sigsh-token@.service", "User").concat();
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--accept", "--inetd", "--listen"]).arg(&socket);
    command.args(environment.iter().flat_map(|(name, value)| ["-E".to_owned(), format!("{name}={value}")]));
    command.args(["setpriv", "--reuid", &user, "--regid", &user]).args(groups).args(start).env_clear();
    let daemon = Daemon(command.stderr(Stdio::null()).spawn().unwrap());
    patient(|| socket.exists());
    let [group, mode] = ["SocketGroup", "SocketMode"].map(|key| unit("sigsh-token.socket", key).concat());
    succeed(Command::new("chgrp").arg(&group).arg(&socket));
    succeed(Command::new("chmod").arg(&mode).arg(&socket));
    (daemon, socket)
}

/// `p11-kit server` as an operator starts it by hand, in a directory of its account.
pub fn by_hand(store: &Store) -> (Daemon, PathBuf) {
    started(Path::new(MODULE), RELEASE, &store.environment())
}

/// The same for another module, and its table.
pub fn by_hand_for(module: &Path, uri: &str, environment: &[(&str, &str)]) -> (Daemon, String) {
    let (daemon, socket) = started(module, uri, environment);
    (daemon, format!("server = \"{}\"\n{SERVER_ACCOUNT}uri = \"{uri}\"\n", socket.display()))
}

fn started(module: &Path, uri: &str, environment: &[(&str, &str)]) -> (Daemon, PathBuf) {
    let directory = scratch();
    succeed(Command::new("chown").args(["sigsh-token", &directory]));
    let socket = PathBuf::from(directory).join("pkcs11");
    (serve(module, uri, environment, &socket), socket)
}

fn serve(module: &Path, uri: &str, environment: &[(&str, &str)], socket: &Path) -> Daemon {
    // One that died has left it.
    let _ = fs::remove_file(socket);
    let mut command = as_token("p11-kit", environment);
    command.args(["server", "--foreground", "--name"]).arg(socket).arg("--provider").arg(module).arg(uri);
    let daemon = Daemon(command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    patient(|| fs::metadata(socket).is_ok_and(|stat| stat.uid() != 0));
    chown(socket, None, Some(account().1)).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o770)).unwrap();
    daemon
}

/// The host's configuration with this server in the module's place.
fn config(socket: &Path, more: &str, changes: &[(&str, &str)]) -> PathBuf {
    let server = format!("server = \"{}\"\n{more}", socket.display());
    // A token of its own name has a PIN marker of its own.
    let name = scratch().rsplit('/').next().unwrap().to_owned();
    let (table, token) = (format!("[token.{name}]"), format!("token = \"{name}\""));
    let mut all = vec![
        ("[token.hsm]", table.as_str()),
        ("token = \"hsm\"", token.as_str()),
        ("module = \"/usr/lib/softhsm/libsofthsm2.so\"\n", server.as_str()),
        ("sandbox = \"softhsm\"\nread = [\"/var/lib/sigsh/tokens\"]\n", ""),
        ("environment = { SOFTHSM2_CONF = \"/etc/sigsh/softhsm2.conf\" }\n", ""),
    ];
    all.extend(changes);
    changed(&all)
}

fn start(config: &Path) -> Child {
    session(config, "sign ed25519").start()
}

fn sign(config: &Path) -> Outcome {
    session(config, "sign ed25519").run(b"artifact")
}

/// The table of the token behind this socket.
pub fn table(socket: &Path) -> String {
    format!("server = \"{}\"\nuri = \"{RELEASE}\"\n", socket.display())
}

/// A server as the units start it, for the token of the world, and its table.
pub fn server() -> (Daemon, String) {
    let (daemon, socket) = activated(&Store::read_only());
    (daemon, table(&socket))
}

/// It, and keys of every kind.
pub fn lab(name: &'static str) -> (Daemon, Lab) {
    let (daemon, table) = server();
    let keys = ["ed25519", "rsa4096", "nistp384"].map(Key::named);
    // Version 6 has salts, the one thing in a signature that sigsh draws at random.
    let modern = Key { name: "modern", ..Key::named("ed25519") }.v6();
    (daemon, Lab::new(name, table, PIN, keys.into_iter().chain([modern]).map(Key::present).collect()))
}

#[test]
fn what_the_units_start_passes() {
    let (_daemon, lab) = lab("p11-kit");
    suite(&lab);
}

/// What the shipped token.env hands out can be signed with, and neither changed nor given another PIN, where the module could write.
#[test]
fn what_the_units_start_changes_nothing() {
    let store = Store::writable();
    let (_daemon, socket) = activated(&store);
    let made = config(&socket, "", &[("pkcs11:object=ed25519", "pkcs11:object=made")]);
    let admin = |arguments: &[&str]| Command::new("sigsh-admin").arg("--config").arg(&made).args(arguments).output().unwrap();
    let output = admin(&["key", "generate", "ed25519", "--algorithm", "ed25519"]);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && err.contains("C_OpenSession returned CKR_TOKEN_WRITE_PROTECTED"), "{output:?}");
    let mut command = Command::new("pkcs11-tool");
    command.args(["--module", "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so", "--token-label", "release"]);
    command.args(["--login", "--pin", PIN, "--change-pin", "--new-pin", "8765"]);
    let output = command.env("P11_KIT_SERVER_ADDRESS", format!("unix:path={}", socket.display())).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&said));
    assert!(String::from_utf8_lossy(&said).contains("CKR_TOKEN_WRITE_PROTECTED"), "{}", String::from_utf8_lossy(&said));
    verify("ed25519", sign(&config(&socket, "", &[])).signature(), b"artifact");
}

/// As a number in a header has at most, and none.
const HUGE: i64 = u32::MAX as i64;

/// What each call of a session is answered with.
const FAULTS: [Fault; 18] = [
    Fault::Returns(5),
    Fault::Returns(0x32),
    Fault::Returns(0),
    Fault::Garbage,
    Fault::Closes,
    Fault::Silence,
    Fault::Half,
    Fault::Twice,
    Fault::OtherCall,
    Fault::OtherNumber,
    Fault::Length(1),
    Fault::Length(-1),
    Fault::Length(HUGE),
    Fault::Length(-HUGE),
    Fault::Longer,
    Fault::Shorter,
    Fault::Options(3),
    Fault::Bytewise,
];

/// The client's line and the journal's reason; `None` where it signs.
fn expected(call: u32, name: &str, fault: Fault) -> Option<(&'static str, String)> {
    let reason = match (call, fault) {
        (_, Fault::Bytewise) | (18, Fault::Returns(0x100)) => return None,
        // The token has made the signature: whatever it says now is nobody's business.
        (11 | 2, _) | (43, Fault::Twice) => return None,
        (18, Fault::Returns(0xa0)) => return Some((PIN_REFUSED, "the PIN is wrong".to_owned())),
        (_, Fault::Silence) => return Some((HUNG, "did not answer within its timeout".to_owned())),
        (43, Fault::Altered) => return Some((WRONG, "the self-check failed".to_owned())),
        // Who cannot tell what its tokens are has none.
        (6, fault) if fault != Fault::Twice => return Some((MISSING, "selects 0 tokens".to_owned())),
        (4, Fault::Twice) => return Some((MISSING, "selects 0 tokens".to_owned())),
        (0, Fault::Closes) => return Some((BUSY, "the p11-kit server lets nobody more in, or does not start".to_owned())),
        (0, Fault::Garbage) => "speaks version 77 alone".to_owned(),
        (_, Fault::Returns(5)) => format!("{name} returned CKR_GENERAL_ERROR"),
        (_, Fault::Returns(0x32)) => format!("{name} returned CKR_DEVICE_REMOVED"),
        (_, Fault::Returns(_)) => format!("{name}: the server's answer is not written as it should be"),
        (_, Fault::Twice) => "the server answered what was not asked".to_owned(),
        (_, Fault::Garbage | Fault::OtherCall | Fault::OtherNumber | Fault::Options(_)) => {
            format!("{name}: the server answered what was not asked")
        }
        (_, Fault::Closes | Fault::Half | Fault::Length(1)) => "the p11-kit server has closed the connection".to_owned(),
        (_, Fault::Length(HUGE)) => format!("{name}: the server's answer is too long"),
        _ => format!("{name}: the server's answer does not have the length"),
    };
    Some((FAILED, reason))
}

/// Each call answered in each wrong way: one line, one record, the right code, nothing on stdout, in bounded time.
#[test]
fn whatever_a_peer_answers() {
    let store = Store::read_only();
    let (_daemon, behind) = by_hand(&store);
    let every = CALLS[1..].iter().flat_map(|(call, name)| FAULTS.map(|fault| (*call, *name, fault)));
    let version = [Fault::Closes, Fault::Silence, Fault::Twice, Fault::Garbage].map(|fault| (0, CALLS[1].1, fault));
    let login = [0xa0, 0x100].map(|value| (18, "C_Login", Fault::Returns(value)));
    let mut cases = every.chain(version).chain(login).chain([(43, "C_Sign", Fault::Altered)]).collect::<Vec<_>>();
    let outcomes = Mutex::new(Vec::new());
    cases.sort_by_key(|(_, _, fault)| *fault != Fault::Silence);
    all_of(cases, |(call, name, fault)| {
        let peer = Peer::start(&behind, call, fault);
        let timeout = if fault == Fault::Silence { "timeout = \"1s\"" } else { "timeout = \"20s\"" };
        let config = config(&peer.socket, "", &[("timeout = \"20s\"", timeout), ("[client.build1]", "[client.peer]")]);
        let began = Instant::now();
        let child = start(&config);
        let (pid, output) = (child.id(), feed(child, b"artifact"));
        assert!(began.elapsed() < Duration::from_secs(30), "{name} {fault:?}");
        outcomes.lock().unwrap().push((pid, call, name, fault, output));
    });
    let records = records("SIGSH_CLIENT=peer");
    for (pid, call, name, fault, output) in outcomes.into_inner().unwrap() {
        let case = format!("{name} {fault:?}: {output:?}");
        let pid = pid.to_string();
        let own = records.iter().filter(|record| field(record, "_PID") == pid).collect::<Vec<_>>();
        let (err, last) = (String::from_utf8_lossy(&output.stderr), own.last().expect(&case));
        let Some((line, reason)) = expected(call, name, fault) else {
            // The monitor has checked the signature.
            assert_eq!((output.status.code(), &*err, field(last, "SIGSH_EVENT")), (Some(0), "", "signed"), "{case}");
            assert!(!output.stdout.is_empty(), "{case}");
            continue;
        };
        let (code, event) = if line == BUSY { (75, "refused") } else { (69, "failed") };
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{case}");
        let mut lines = err.lines();
        assert_eq!(lines.next(), Some(format!("sigsh: error: {line}").as_str()), "{case}");
        assert!(lines.next().is_none_or(|hint| hint.starts_with("sigsh: hint: ")) && lines.next().is_none(), "{case}");
        assert_eq!((field(last, "SIGSH_EVENT"), field(last, "SIGSH_CODE")), (event, &*code.to_string()), "{case}");
        assert!(field(last, "SIGSH_REASON").contains(&reason), "{reason}: {case} {last:#?}");
        assert!(own.iter().all(|record| field(record, "SIGSH_EVENT") != "signed"), "{case}");
    }
}

/// Listens as another user, in a directory where only root can have put it, and prints what it hears.
const LISTENER: &str = "import os, pwd, socket, sys
path, user = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
os.chmod(path, 0o666)
os.setuid(pwd.getpwnam(user).pw_uid)
listener.listen(8)
print('ready', flush=True)
guest, _ = listener.accept()
print(guest.recv(100), flush=True)";

fn listener(user: &str) -> (BufReader<ChildStdout>, Daemon, PathBuf) {
    let socket = format!("{}/pkcs11", scratch());
    let mut command = Command::new("/usr/bin/python3");
    let mut daemon = Daemon(command.args(["-c", LISTENER, &socket, user]).stdout(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(daemon.0.stdout.take().unwrap());
    assert_eq!(line(&mut said), "ready");
    (said, daemon, socket.into())
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Neither the PIN nor any other byte goes to a server that runs as somebody else, be it as our own account.
#[test]
fn nobody_else_is_told_anything() {
    world();
    let uid = |user: &str| String::from_utf8(succeed(Command::new("id").args(["-u", user])).stdout).unwrap().trim_end().to_owned();
    let by_number = format!("server-account = \"{}\"\n", uid("sigsh-token"));
    for (user, more, told) in [
        ("nobody", "", false),
        ("signer", "", false),
        ("sigsh-token", "", false),
        ("nobody", SERVER_ACCOUNT, false),
        ("signer", SERVER_ACCOUNT, false),
        ("sigsh-token", SERVER_ACCOUNT, true),
        ("sigsh-token", &by_number, true),
        ("root", "", true),
    ] {
        let (mut said, daemon, socket) = listener(user);
        let config = config(&socket, more, &[]);
        let child = start(&config);
        // Before a byte of the artifact is there: the version that we speak, and the listener leaves.
        assert_eq!(line(&mut said), if told { r"b'\x02'" } else { "b''" }, "{user} {more}");
        let outcome = finish_child(child, b"artifact");
        if told {
            outcome.fails(75, BUSY, "refused", "the p11-kit server lets nobody more in");
        } else {
            let reason = format!("runs as user {}; it must be root or the server-account", uid(user));
            outcome.fails(78, NOT_SET_UP, "refused", &reason);
        }
        drop(daemon);
    }
}

#[test]
fn a_server_that_cannot_be_reached() {
    world();
    let directory = scratch();
    let (absent, dead, shut) = (format!("{directory}/absent"), format!("{directory}/dead"), format!("{directory}/shut"));
    drop(UnixListener::bind(&dead).unwrap());
    fs::set_permissions(&dead, fs::Permissions::from_mode(0o666)).unwrap();
    let _shut = UnixListener::bind(&shut).unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o600)).unwrap();
    let open = |owner: &str, mode| {
        let directory = scratch();
        succeed(Command::new("chown").args([owner, &directory]));
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        format!("{directory}/pkcs11")
    };
    let (theirs, shared, tokens) = (open("nobody", 0o755), open("root", 0o775), open("sigsh-token", 0o755));
    let long = format!("{directory}/{}", "x".repeat(200));
    fs::write(&long, b"").unwrap();
    for (socket, more, code, reason) in [
        (&absent, "", 69, "no such file or directory"),
        (&dead, "", 69, "connection refused"),
        (&shut, "", 69, "permission denied"),
        (&long, "", 69, "file name too long"),
        (&theirs, "", 78, "belongs to user 65534"),
        (&theirs, SERVER_ACCOUNT, 78, "belongs to user 65534"),
        (&shared, "", 78, "is writable by group or others (mode 775)"),
        (&tokens, "", 78, "it must belong to root"),
        (&tokens, SERVER_ACCOUNT, 69, "no such file or directory"),
        (&absent, "server-account = \"nobody-there\"\n", 78, "the server-account is not in /etc/passwd"),
    ] {
        let (line, event) = if code == 69 { (FAILED, "failed") } else { (NOT_SET_UP, "refused") };
        sign(&config(Path::new(socket), more, &[])).fails(code, line, event, reason);
    }
}

/// Who finds the queue of a server full tries for half of the timeout, and is told to come again.
#[test]
fn a_server_that_lets_nobody_more_in() {
    world();
    let socket = PathBuf::from(scratch()).join("pkcs11");
    let address = UnixAddr::new(&socket).unwrap();
    let new = |flags| nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    let server = new(SockFlag::empty());
    bind(server.as_raw_fd(), &address).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    listen(&server, Backlog::new(1).unwrap()).unwrap();
    let guests = std::iter::from_fn(|| {
        let guest = new(SockFlag::SOCK_NONBLOCK);
        connect(guest.as_raw_fd(), &address).ok().map(|()| guest)
    });
    assert!(!guests.collect::<Vec<_>>().is_empty());
    let config = config(&socket, "", &[("timeout = \"20s\"", "timeout = \"1s\"")]);
    sign(&config).fails(75, BUSY, "refused", "the p11-kit server lets nobody more in");
}

/// As systemd does with one connection more than MaxConnections=.
#[test]
fn a_server_that_closes_at_once() {
    world();
    let socket = PathBuf::from(scratch()).join("pkcs11");
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    // Before the version that we speak is there, or with it unread.
    for wait in [false, true] {
        let child = start(&config(&socket, "", &[]));
        let guest = listener.accept().unwrap().0;
        if wait {
            patient(|| nix::sys::socket::recv(guest.as_raw_fd(), &mut [0], nix::sys::socket::MsgFlags::MSG_PEEK).is_ok());
        }
        drop(guest);
        finish_child(child, b"artifact").fails(75, BUSY, "refused", "the p11-kit server lets nobody more in");
    }
}

#[test]
fn sixty_four_sessions_at_once() {
    let store = Store::read_only();
    let (_daemon, socket) = by_hand(&store);
    let config = config(&socket, SERVER_ACCOUNT, &[]);
    let sessions = (0..64).map(|_| start(&config)).collect::<Vec<_>>();
    let outcomes = sessions.into_iter().map(|child| finish_child(child, b"artifact")).collect::<Vec<_>>();
    for outcome in &outcomes {
        outcome.signature();
    }
    verify("ed25519", outcomes[63].signature(), b"artifact");
}

#[test]
fn a_server_that_dies_in_a_batch_and_comes_back() {
    let store = Store::read_only();
    let (mut daemon, socket) = by_hand(&store);
    let config = config(&socket, SERVER_ACCOUNT, &[]);
    let (running, rest) = half_a_batch(session(&config, "sign-tar ed25519"));
    killpg(Pid::from_raw(daemon.0.id() as i32), Signal::SIGKILL).unwrap();
    daemon.0.wait().unwrap();
    let outcome = running.end_with(&rest);
    assert_eq!((outcome.code, outcome.err.lines().next()), (Some(69), Some("sigsh: error: the token failed")), "{outcome:?}");
    let last = outcome.records.last().unwrap();
    assert_eq!(field(last, "SIGSH_REASON"), "the module failed: the p11-kit server has closed the connection");
    sign(&config).fails(69, FAILED, "failed", "connection refused");
    let _daemon = serve(Path::new(MODULE), RELEASE, &store.environment(), &socket);
    verify("ed25519", sign(&config).signature(), b"artifact");
}

#[test]
fn a_key_that_is_removed() {
    let store = Store::writable();
    let (_daemon, socket) = by_hand(&store);
    let config = config(&socket, SERVER_ACCOUNT, &[]);
    let (running, rest) = half_a_batch(session(&config, "sign-tar ed25519"));
    for kind in ["privkey", "pubkey"] {
        let mut command = store.tool("pkcs11-tool");
        command.args(["--module", MODULE, "--token-label", "release", "--login", "--pin", PIN, "--delete-object", "--type", kind]);
        succeed(command.args(["--id", "07"]));
    }
    let outcome = running.end_with(&rest);
    assert_eq!((outcome.code, outcome.err.lines().next()), (Some(69), Some("sigsh: error: the token failed")), "{outcome:?}");
    assert!(field(outcome.records.last().unwrap(), "SIGSH_REASON").contains("HANDLE_INVALID"), "{outcome:?}");
    sign(&config).fails(69, MISSING, "failed", "selects 0 private keys");
}

/// A key that wants the PIN before each signature gets it, between C_SignInit and C_Sign.
#[test]
fn a_login_before_each_signature() {
    let store = Store::read_only();
    let (_, count) = faulty("", &[]);
    fs::set_permissions(&count, fs::Permissions::from_mode(0o666)).unwrap();
    let environment = [store.environment()[0], ("MODULE_ALWAYS", "1"), ("MODULE_COUNT", count.to_str().unwrap())];
    let (_daemon, socket) = started(&count.with_file_name("module.so"), RELEASE, &environment);
    let config = config(&socket, SERVER_ACCOUNT, &[]);
    verify("ed25519", sign(&config).signature(), b"artifact");
    assert_eq!((calls(&count, "C_Login"), calls(&count, "C_SignInit")), (2, 1));
}

/// Keys are made through the server, too, and their certificates.
#[test]
fn keys_are_made_through_it() {
    let store = Store::with_token("release");
    let (_daemon, socket) = by_hand(&store);
    let config = config(&socket, SERVER_ACCOUNT, &[("certificate = \"/etc/sigsh/", "certificate = \"/etc/sigsh/made-")]);
    let admin = |arguments: &[&str]| succeed(Command::new("sigsh-admin").arg("--config").arg(&config).args(arguments));
    for key in ["rsa2048", "nistp256", "ed25519"] {
        admin(&["key", "generate", key, "--algorithm", key]);
        admin(&["certificate", "create", key, "--user-id", "Made"]);
        let outcome = session(&config, &format!("sign {key}")).run(b"artifact");
        verify(&format!("made-{key}"), outcome.signature(), b"artifact");
    }
}

/// Its tables hold what it calls, and nothing else.
#[test]
fn the_tables_of_p11_kit_are_exact() {
    let store = Store::read_only();
    let (_daemon, socket) = by_hand(&store);
    let config = config(&socket, SERVER_ACCOUNT, &[]);
    let archive = [files(2), END.to_vec()].concat();
    let (single, batch) = (session(&config, "sign rsa4096"), session(&config, "sign-tar nistp256 ed25519"));
    assert_eq!(misfits(Profile::P11Kit, vec![(single, b"artifact"), (batch, &archive)]), [""; 0]);
}

/// What its process has open: what can neither be read nor written in the place of the standard descriptors, its two sockets, the marker.
#[test]
fn a_session_that_waits_has_its_connection_and_no_path() {
    let store = Store::read_only();
    let (_daemon, socket) = by_hand(&store);
    let mut child = start(&config(&socket, SERVER_ACCOUNT, &[]));
    let token = || group(child.id()).into_iter().find(|(_, name)| name == "sigsh-token").map(|(pid, _)| pid);
    let open = |pid: i32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
        let kind = |path: PathBuf| path.to_str().unwrap().split([':', '.']).next().unwrap().to_owned();
        let mut kinds = entries.map(kind).collect::<Vec<_>>();
        kinds.sort();
        kinds
    };
    let expected = ["/", "/", "/", "/var/lib/sigsh/state/pin", "socket", "socket"];
    patient(|| token().is_some_and(|pid| open(pid) == expected));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The units are as tight as they say, and hold no mistake that systemd knows, also where they are enabled.
#[test]
fn the_units_are_sound() {
    world();
    let units = ["sigsh-token.socket", "sigsh-token@.service", "sigsh-token-pin.service"];
    let paths = units.map(|name| format!("/usr/lib/systemd/system/{name}"));
    let output = succeed(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&paths));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let directory = scratch();
    let wants = format!("{directory}/{}.wants", unit("sigsh-token.socket", "WantedBy").concat());
    fs::create_dir(&wants).unwrap();
    symlink(&paths[0], format!("{wants}/sigsh-token.socket")).unwrap();
    let mut boot = Command::new("systemd-analyze");
    boot.args(["verify", "--man=no", "default.target"]).env("SYSTEMD_UNIT_PATH", format!("{directory}:/usr/lib/systemd/system"));
    let output = succeed(&mut boot);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("cycle") && !said.contains("sigsh"), "{said}");
    // 200 connections in two seconds would close the socket until somebody starts it again (systemd.socket(5)).
    assert_eq!(unit("sigsh-token.socket", "TriggerLimitIntervalSec"), ["0"]);
    // Of 100.
    for (path, exposure) in [(&paths[1], "5"), (&paths[2], "15")] {
        succeed(Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold", exposure]).arg(path));
    }
}

/// The PIN lies encrypted on disk, and where sigsh reads it at run time, from the unit's very line.
#[test]
fn a_pin_from_an_encrypted_credential() {
    let store = Store::read_only();
    let (_daemon, socket) = by_hand(&store);
    let (there, credentials) = ("/etc/sigsh-token/pin.cred", scratch());
    let sealed = &format!("{credentials}/pin.cred");
    let seal = format!("printf '%s' {PIN} | systemd-creds encrypt --with-key=host --name=pin - {sealed}");
    succeed(Command::new("sh").args(["-c", &seal]));
    assert!(!fs::read(sealed).unwrap().windows(PIN.len()).any(|bytes| bytes == PIN.as_bytes()));
    assert_eq!(unit("sigsh-token-pin.service", "LoadCredentialEncrypted"), [format!("pin:{there}")]);

    // What systemd does of it before ExecStart.
    succeed(Command::new("systemd-creds").args(["decrypt", "--name=pin", sealed, &format!("{credentials}/pin")]));
    let real = format!("/run/{}", unit("sigsh-token-pin.service", "RuntimeDirectory").concat());
    // Another test's is there.
    let directory = scratch();
    let start = unit("sigsh-token-pin.service", "ExecStart").into_iter();
    let start = start.map(|word| word.replace("%d", &credentials).replace(&real, &directory));
    let start = start.collect::<Vec<_>>();
    succeed(Command::new(&start[0]).args(&start[1..]));
    let pin = format!("{directory}/pin");
    let stat = fs::metadata(&pin).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o777), (0, account().1, 0o640));

    let config = config(&socket, SERVER_ACCOUNT, &[(PIN_FILE, &pin)]);
    verify("ed25519", sign(&config).signature(), b"artifact");
}

/// What stands for systemd in the guide: a socket, the account's rights on its store, and the PIN's unit.
const SYSTEMCTL: &str = r#"
store=/var/lib/sigsh-token/tokens
dropin=/run/systemd/system/sigsh-token@.service.d/write.conf
systemctl() {
    case $* in
    'enable --now sigsh-token.socket')
        set -a; . /etc/sigsh-token/token.env; set +a
        systemctl daemon-reload
        systemd-socket-activate --accept --inetd --listen /run/sigsh-token/pkcs11 -E SOFTHSM2_CONF -E MODULE -E TOKEN \
            setpriv --reuid sigsh-token --regid sigsh-token --clear-groups sh -f /run/sigsh-token.start >/dev/null 2>&1 &
        echo $! >/run/sigsh-token.pid
        until [ -S /run/sigsh-token/pkcs11 ]; do sleep 0.02; done
        chgrp signer /run/sigsh-token/pkcs11
        chmod 0660 /run/sigsh-token/pkcs11 ;;
    daemon-reload)
        # The last one counts, behind one that is empty.
        cat /usr/lib/systemd/system/sigsh-token@.service $dropin 2>/dev/null | sed -n 's/^ExecStart=/exec /p' | tail -n 1 >/run/sigsh-token.start
        if grep -qsx ReadWritePaths=/var/lib/sigsh-token $dropin; then
            chown -R sigsh-token $store
        else
            chown -R root:sigsh-token $store
            chmod -R u=rwX,g=rX,o= $store
        fi ;;
    'start sigsh-token-pin.service')
        mkdir -p /run/sigsh-pin
        systemd-creds decrypt --name=pin /etc/sigsh-token/pin.cred | install -m 0640 -g signer /dev/stdin /run/sigsh-pin/pin ;;
    *) exit 1 ;;
    esac
}
systemd-creds() { if [ "$1" = encrypt ]; then shift; command systemd-creds encrypt --with-key=host "$@"; else command systemd-creds "$@"; fi; }
sigsh-admin() { [ "$1" = check ] || command sigsh-admin --config "$CONFIG" "$@"; }
"#;

/// The commands of docs/P11KIT.md, one after the other, and its configuration.
#[test]
fn the_guide_ends_with_a_good_signature() {
    world();
    let scripts = blocks(GUIDE, "<!-- test: p11kit -->\n```sh\n");
    assert_eq!(scripts.len(), 3);
    let table = &blocks(GUIDE, "```toml\n")[0];
    let config = format!(
        "account = \"signer\"\n{table}[key.release]\ntoken = \"hsm\"\nuri = \"pkcs11:object=release\"\n\
         certificate = \"/etc/sigsh/guide.pgp\"\n[client.build1]\nssh-keys = [\"{}\"]\nkeys = [\"release\"]\n[limits]\nsessions = 4096\n",
        fingerprint("build1")
    );
    let path = Path::new("/etc/sigsh/guide.toml");
    fs::write(path, &config).unwrap();
    fs::create_dir_all("/run/sigsh-token").unwrap();
    let run = |block: &str| {
        let script = format!("set -eu\n{SYSTEMCTL}\n{block}");
        succeed(Command::new("bash").args(["-c", &script]).env("CONFIG", path).stdout(Stdio::null()).stderr(Stdio::null()))
    };
    let signed = || verify("guide", session(path, "sign").run(b"artifact").signature(), b"artifact");
    for block in &scripts[..2] {
        run(block);
    }
    signed();
    run(&scripts[2]);
    assert!(!Path::new("/etc/sigsh/token.pin").exists());
    fs::write(path, config.replace("/etc/sigsh/token.pin", "/run/sigsh-pin/pin")).unwrap();
    signed();
    let pid = fs::read_to_string("/run/sigsh-token.pid").unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}
