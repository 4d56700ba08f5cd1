//! What sshd does not let through, and what sigsh makes of the rest. The shipped settings stand on a host that is careless in
//! everything else; an open host, without them, shows that each way in would be one.

use crate::world::{HOME, Outcome, field, finish, patient, records, scratch, ssh_key, succeed, verify, world};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

const SHIPPED: &str = "Include /etc/ssh/sshd_config.d/50-sigsh.conf\n";

/// What a host may have for its other users.
const CARELESS: &str = "AcceptEnv LD_* LANG LC_*\nAllowTcpForwarding yes\nAllowStreamLocalForwarding yes\nAllowAgentForwarding yes\n\
    PermitTunnel yes\nPermitTTY yes\nSubsystem sftp /usr/lib/openssh/sftp-server\nSubsystem inner internal-sftp\n";

const HINT: &str = "sigsh: hint: 'ssh signer@host help' shows what can be asked\n";

/// An sshd of its own on this port of the loopback.
pub fn host(name: &str, port: u16, settings: &str) -> (Child, u16) {
    world();
    let (key, config) = (format!("{HOME}/{name}_host"), format!("{HOME}/{name}_config"));
    succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]));
    let own = format!("ListenAddress 127.0.0.1:{port}\nHostKey {key}\nPidFile none\nUsePAM no\n");
    fs::write(&config, own + settings).unwrap();
    let log = File::create(format!("{HOME}/{name}.log")).unwrap();
    let sshd = Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f", &config]).stderr(log).spawn().unwrap();
    patient(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
    (sshd, port)
}

/// The shipped settings, before careless ones.
fn shipped() -> u16 {
    static HOST: OnceLock<(Child, u16)> = OnceLock::new();
    HOST.get_or_init(|| host("shipped", 2230, &format!("{SHIPPED}{CARELESS}"))).1
}

/// Careless settings, and sigsh.
fn open() -> u16 {
    static HOST: OnceLock<(Child, u16)> = OnceLock::new();
    let sigsh = "AuthorizedKeysFile /etc/sigsh/authorized_keys\nExposeAuthInfo yes\nForceCommand /usr/bin/sigsh\n";
    HOST.get_or_init(|| host("open", 2231, &format!("{sigsh}{CARELESS}"))).1
}

/// The shipped settings without the forced command: only the login shell is left.
fn login_shell() -> u16 {
    static HOST: OnceLock<(Child, u16)> = OnceLock::new();
    let host = HOST.get_or_init(|| {
        world();
        let text = fs::read_to_string("/etc/ssh/sshd_config.d/50-sigsh.conf").unwrap();
        let (with, without): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.trim().starts_with("ForceCommand "));
        assert_eq!(with.len(), 1);
        let path = format!("{HOME}/login.conf");
        fs::write(&path, without.join("\n")).unwrap();
        host("login", 2232, &format!("Include {path}\n{CARELESS}"))
    });
    host.1
}

/// `program`, one of ssh's, as `client`; ssh itself needs the host's name yet.
fn client(program: &str, port: u16) -> Command {
    let mut command = Command::new(program);
    command.args(["-F", &format!("{HOME}/ssh_config"), "-i", &ssh_key("limited"), "-o", &format!("Port={port}")]);
    command
}

fn ssh(port: u16, options: &[&str], request: &[&str]) -> Command {
    let mut command = client("ssh", port);
    command.args(options).arg("signer@127.0.0.1").args(request);
    command
}

/// Records of a request that came over ssh; `request` as it stands in the journal.
fn recorded(request: &str) -> Vec<serde_json::Value> {
    let mut found = records(&format!("SIGSH_REQUEST={request}"));
    found.retain(|record| field(record, "SIGSH_PEER").starts_with("127.0.0.1:"));
    found
}

/// Runs a command that must make sigsh start and refuse with 64: nothing comes out, and there is one record more of `request`.
#[track_caller]
fn starts_and_refuses(command: Command, request: &str, line: &str) -> Outcome {
    let before = recorded(request).len();
    let outcome = finish(command, b"");
    assert!(outcome.out.is_empty() && outcome.code != Some(0), "{outcome:#?}");
    let after = recorded(request);
    assert_eq!(after.len(), before + 1, "{request}: {outcome:#?}");
    let last = after.last().unwrap();
    assert_eq!(["SIGSH_EVENT", "SIGSH_CODE", "SIGSH_REASON"].map(|name| field(last, name)), ["refused", "64", line]);
    outcome
}

/// The same by ssh itself, which hands on code and stderr as they are. (sftp goes away without waiting for them.)
#[track_caller]
fn ssh_refuses(command: Command, request: &str, line: &str, hint: &str) {
    let outcome = starts_and_refuses(command, request, line);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(64), format!("sigsh: error: {line}\n{hint}").as_str()));
}

#[test]
fn no_file_goes_in_or_out() {
    let port = shipped();
    let directory = scratch();
    let (file, out, batch) = (format!("{directory}/file"), format!("{directory}/out"), format!("{directory}/batch"));
    fs::write(&file, "evil").unwrap();
    // Where the account may write, and what it may read: file permissions would not stop it.
    let (evil, pin) = ("/var/lib/sigsh/state/evil", "/etc/sigsh/hsm.pin");
    fs::write(&batch, format!("put {file} {evil}\nget {pin} {out}\n")).unwrap();
    let no = "this is not a request";
    let (server, inner) = ("/usr/lib/openssh/sftp-server", "internal-sftp");
    let (to, from) = (format!("signer@127.0.0.1:{evil}"), format!("signer@127.0.0.1:{pin}"));
    for (program, options, words, request) in [
        ("sftp", &["-b", &batch][..], &["signer@127.0.0.1"][..], server),
        ("sftp", &["-b", &batch, "-s", "inner"], &["signer@127.0.0.1"], inner),
        ("sftp", &["-b", &batch, "-s", server], &["signer@127.0.0.1"], server),
        ("scp", &[], &[&file, &to], server),
        ("scp", &[], &[&from, &out], server),
        ("scp", &["-O"], &[&file, &to], "scp%20-t%20/var/lib/sigsh/state/evil"),
        ("scp", &["-O"], &[&from, &out], "scp%20-f%20/etc/sigsh/hsm.pin"),
    ] {
        for port in [port, login_shell()] {
            // In sshd itself, and not under the login shell: only the forced command is in its way.
            if (request, port) == (inner, login_shell()) {
                continue;
            }
            let mut command = client(program, port);
            command.args(options).args(words);
            starts_and_refuses(command, request, no);
            assert!(!Path::new(evil).exists() && !Path::new(&out).exists(), "{program} {options:?} {words:?}");
        }
    }
    for (subsystem, request) in [("sftp", server), ("inner", inner)] {
        let outcome = starts_and_refuses(ssh(port, &["-s"], &[subsystem]), request, no);
        // sshd keeps a subsystem's stderr to itself.
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(64), ""));
    }
    let outcome = finish(ssh(port, &["-s"], &["nosuch"]), b"");
    assert_eq!((outcome.code, outcome.out.len()), (Some(255), 0), "{outcome:#?}");
    assert!(outcome.err.contains("subsystem request failed"), "{outcome:#?}");
}

/// Something behind the host: whoever gets there, is told so.
struct Decoy {
    port: u16,
    socket: String,
}

impl Decoy {
    fn new() -> Decoy {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        std::thread::spawn(move || tcp.incoming().for_each(|peer| drop(peer.unwrap().write_all(b"reached"))));
        let socket = format!("{}/decoy", scratch());
        let unix = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
        std::thread::spawn(move || unix.incoming().for_each(|peer| drop(peer.unwrap().write_all(b"reached"))));
        Decoy { port, socket }
    }
}

/// What comes back from a port, after `greeting` was sent there: all of it, until the other side closes.
fn answer(port: u16, greeting: &[u8]) -> Vec<u8> {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return Vec::new() };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(greeting);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// Starts an ssh that does nothing but forward, and waits until `ready`, or until it has given up; tells what `probe` says then.
fn forwarding(mut command: Command, mut ready: impl FnMut() -> bool, probe: impl FnOnce() -> bool) -> bool {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    patient(|| ready() || child.try_wait().unwrap().is_some());
    let reached = probe();
    let _ = child.kill();
    child.wait().unwrap();
    reached
}

/// A port of nobody's: below those that the kernel hands out.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(2300);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn listens(port: u16) -> bool {
    // A look at the table, for a connection would be one to forward.
    let wanted = format!(" 0100007F:{port:04X} 00000000:0000 0A ");
    fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted)
}

/// Each kind of forwarding, and whether something came through.
fn forwardings(host: u16) -> Vec<(&'static str, bool)> {
    let decoy = Decoy::new();
    let target = format!("127.0.0.1:{}", decoy.port);
    let strict = ["-N", "-o", "ExitOnForwardFailure=yes"];
    let reached = |port: u16, greeting: &[u8]| answer(port, greeting).ends_with(b"reached");
    let mut ways = Vec::new();

    let port = free_port();
    let local = ssh(host, &[&strict[..], &["-L", &format!("{port}:{target}")]].concat(), &[]);
    ways.push(("local", forwarding(local, || listens(port), || reached(port, b""))));

    let port = free_port();
    let local = ssh(host, &[&strict[..], &["-L", &format!("{port}:{}", decoy.socket)]].concat(), &[]);
    ways.push(("local to socket", forwarding(local, || listens(port), || reached(port, b""))));

    let port = free_port();
    let dynamic = ssh(host, &[&strict[..], &["-D", &port.to_string()]].concat(), &[]);
    // SOCKS 4: connect to the decoy.
    let socks = [&[4, 1][..], &decoy.port.to_be_bytes(), &[127, 0, 0, 1, 0]].concat();
    ways.push(("dynamic", forwarding(dynamic, || listens(port), || reached(port, &socks))));

    let port = free_port();
    let remote = ssh(host, &[&strict[..], &["-R", &format!("127.0.0.1:{port}:{target}")]].concat(), &[]);
    ways.push(("remote", forwarding(remote, || listens(port), || reached(port, b""))));

    let socket = format!("/var/lib/sigsh/state/forward{host}");
    let remote = ssh(host, &[&strict[..], &["-R", &format!("{socket}:{target}")]].concat(), &[]);
    let exists = || Path::new(&socket).exists();
    ways.push(("remote from socket", forwarding(remote, exists, exists)));

    let outcome = finish(ssh(host, &["-W", &target], &[]), b"");
    ways.push(("stdio", outcome.out == b"reached"));
    ways
}

#[test]
fn nothing_is_forwarded() {
    let names = ["local", "local to socket", "dynamic", "remote", "remote from socket", "stdio"];
    assert_eq!(forwardings(open()), names.map(|name| (name, true)));
    assert_eq!(forwardings(shipped()), names.map(|name| (name, false)));
    assert_eq!(forwardings(login_shell()), names.map(|name| (name, false)));
    // And what is refused to a connection does not end it for signing.
    let outcome = finish(ssh(shipped(), &["-R", "0:127.0.0.1:1", "-A"], &["sign ed25519"]), b"data");
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    verify("ed25519", &outcome.out, b"data");
}

#[test]
fn no_tunnel() {
    let log = |port: u16| {
        let mut command = ssh(port, &["-N", "-w", "any:any", "-o", "ExitOnForwardFailure=yes", "-o", "LogLevel=DEBUG1"], &[]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(255), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let rejected = "Server has rejected tunnel device forwarding";
    if !Path::new("/dev/net/tun").exists() {
        return; // The client does not even ask.
    }
    // The account may open no device either, so that nothing comes of it on the open host.
    let open = log(open());
    assert!(!open.contains(rejected), "{open}");
    for port in [shipped(), login_shell()] {
        let log = log(port);
        assert!(log.contains(rejected), "{log}");
    }
}

/// Starts a session that waits for its artifact, and returns the environment that it was started with.
fn environment(port: u16, options: &[&str]) -> Vec<(String, String)> {
    let name = format!("environment{port}");
    let mut command = ssh(port, options, &["sign", "ed25519", "--name", &name]);
    command.env("LD_LIBRARY_PATH", "/nonexistent").env("LANG", "C.evil");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut found = None;
    let marker = format!("SSH_ORIGINAL_COMMAND=sign ed25519 --name {name}\0");
    patient(|| {
        found = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let bytes = fs::read(entry.path().join("environ")).ok()?;
            let executable = fs::read_link(entry.path().join("exe")).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            (executable == Path::new("/usr/bin/sigsh") && text.contains(&marker)).then_some(text)
        });
        found.is_some()
    });
    drop(child.stdin.take());
    child.wait().unwrap();
    let text = found.unwrap();
    let mut variables: Vec<(String, String)> =
        text.split_terminator('\0').map(|line| line.split_once('=').unwrap()).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    variables.sort();
    variables
}

#[test]
fn the_clients_environment_and_agent_stay_outside() {
    let directory = scratch();
    let socket = format!("{directory}/agent");
    let mut agent = Command::new("ssh-agent").args(["-D", "-a", &socket]).stdout(Stdio::null()).spawn().unwrap();
    patient(|| Path::new(&socket).exists());
    let forward = format!("IdentityAgent={socket}");
    // SetEnv sends what SendEnv would: LD_PRELOAD in ssh's own environment would already work on ssh.
    let options = ["-A", "-o", &forward, "-o", "SendEnv=LD_* LANG", "-o", "SetEnv=LD_PRELOAD=/nonexistent.so"];
    let names = |variables: &[(String, String)]| variables.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let outside = ["LANG", "LD_LIBRARY_PATH", "LD_PRELOAD", "SSH_AUTH_SOCK"].map(str::to_owned);
    let own = [
        "HOME",
        "LOGNAME",
        "MAIL",
        "PATH",
        "SHELL",
        "SSH_CLIENT",
        "SSH_CONNECTION",
        "SSH_ORIGINAL_COMMAND",
        "SSH_USER_AUTH",
        "USER",
    ];
    let open = names(&environment(open(), &options));
    assert!(outside.iter().all(|name| open.contains(name)), "{open:?}");
    assert_eq!(names(&environment(shipped(), &options)), own);
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn ld_preload_is_not_tried() {
    let options = ["-o", "SetEnv=LD_PRELOAD=/nonexistent.so"];
    let version = format!("sigsh {}\n", env!("CARGO_PKG_VERSION"));
    let [tried, absent, login] = [open(), shipped(), login_shell()].map(|port| finish(ssh(port, &options, &["version"]), b""));
    assert!(tried.err.contains("ld.so: object '/nonexistent.so'"), "{tried:#?}");
    for outcome in [absent, login] {
        assert_eq!((outcome.code, outcome.err.as_str(), outcome.out), (Some(0), "", version.clone().into_bytes()));
    }
}

#[test]
fn no_terminal() {
    let [with, without, login] = [open(), shipped(), login_shell()].map(|port| finish(ssh(port, &["-tt"], &["version"]), b""));
    // A terminal makes two characters of a newline: what it would do to a signature needs no further proof.
    assert_eq!(String::from_utf8(with.out).unwrap(), format!("sigsh {}\r\n", env!("CARGO_PKG_VERSION")));
    for outcome in [without, login] {
        assert!(outcome.err.contains("PTY allocation request failed"), "{outcome:#?}");
        assert!(!outcome.out.contains(&b'\r'), "{outcome:#?}");
    }
}

#[test]
fn hostile_commands() {
    let long = "the request is longer than 16 KiB";
    let unprintable = "the request holds a character that is not printable ASCII";
    // At most 512 bytes, and no half of an escape.
    let encoded = |byte: &str, times: usize| byte.repeat(times);
    for (request, logged, line) in [
        ("q".repeat(130_000), encoded("q", 512), long),
        ("\u{1b}".repeat(130_000), encoded("%1B", 170), long),
        ("sign\nSIGSH_EVENT=signed".to_owned(), "sign%0ASIGSH_EVENT=signed".to_owned(), unprintable),
        ("sign\r\n--armor".to_owned(), "sign%0D%0A--armor".to_owned(), unprintable),
        ("\u{1}\u{1b}[2J\u{7}\u{7f}".to_owned(), "%01%1B[2J%07%7F".to_owned(), unprintable),
        ("sign \u{fc}".to_owned(), "sign%20%C3%BC".to_owned(), unprintable),
    ] {
        for port in [shipped(), login_shell()] {
            ssh_refuses(ssh(port, &[], &[&request]), &logged, line, "");
        }
    }
    for (request, logged, line) in [
        ("sh -c 'id'", "sh%20-c%20%27id%27", "this is not a request"),
        ("sign; id >/var/lib/sigsh/state/evil", "sign;%20id%20%3E/var/lib/sigsh/state/evil", "this is not a request"),
        ("/bin/sh", "/bin/sh", "this is not a request"),
    ] {
        for port in [shipped(), login_shell()] {
            ssh_refuses(ssh(port, &[], &[request]), logged, line, HINT);
        }
    }
    assert!(!Path::new("/var/lib/sigsh/state/evil").exists());
    // More than the kernel hands to any program: sigsh does not start, and nothing else does.
    let half = "h".repeat(100_000);
    let outcome = finish(ssh(shipped(), &[], &[&half, &half]), b"");
    assert!(outcome.code != Some(0) && outcome.out.is_empty(), "{outcome:#?}");
}

#[test]
fn one_connection_signs_many_times() {
    let port = shipped();
    let socket = format!("{}/master", scratch());
    let mut master = ssh(port, &["-N", "-M", "-S", &socket], &[]).stdin(Stdio::null()).spawn().unwrap();
    patient(|| Path::new(&socket).exists());
    let multiplexed = |number: usize| {
        let data = format!("artifact {number}").into_bytes();
        let request = format!("sign ed25519 --name multiplexed{number}");
        let outcome = finish(ssh(port, &["-o", "ControlMaster=no", "-S", &socket], &[&request]), &data);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
        verify("ed25519", &outcome.out, &data);
    };
    // One after the other, more at once than sshd's default of ten sessions, and a refusal in between.
    (0..3).for_each(&multiplexed);
    let refusal = finish(ssh(port, &["-o", "ControlMaster=no", "-S", &socket], &["sign rsa2048"]), b"");
    assert_eq!((refusal.code, refusal.out.len()), (Some(77), 0), "{refusal:#?}");
    std::thread::scope(|scope| {
        (3..15).for_each(|number| {
            drop(scope.spawn({
                let multiplexed = &multiplexed;
                move || multiplexed(number)
            }))
        })
    });
    let mut peers = (0..15)
        .flat_map(|number| records(&format!("SIGSH_NAME=multiplexed{number}")))
        .map(|record| field(&record, "SIGSH_PEER").to_owned())
        .collect::<Vec<_>>();
    assert_eq!(peers.len(), 30);
    peers.dedup();
    assert_eq!(peers.len(), 1, "several connections: {peers:?}");
    master.kill().unwrap();
    master.wait().unwrap();
}

#[test]
fn as_a_login_shell() {
    let port = login_shell();
    for request in [&[][..], &["sign"], &["sign", "ed25519"], &["sign ed25519 --size 4"]] {
        let outcome = finish(ssh(port, &[], request), b"data");
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{request:?}: {outcome:#?}");
        verify("ed25519", &outcome.out, b"data");
    }
    ssh_refuses(ssh(port, &[], &["login", "shell"]), "login%20shell", "this is not a request", HINT);
}
