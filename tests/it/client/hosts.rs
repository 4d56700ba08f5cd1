//! Which host signs, how many connections there are, and what happens when none can be reached.

use super::BuildServer;
use super::faults::{fails, listing};
use super::relay::{CLOSE, PASS, Relay, SILENT};
use crate::world::{HOME, Outcome, PORT, finish, patient, scratch, ssh_key, succeed, verify, verify_file, world};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

const GOOD: &str = "signer@127.0.0.1";

/// What an odd host does, by its port.
const ODD: [(u16, &str); 10] = [
    (2260, ""),
    (2261, "echo 'sigsh: error: too many sessions' >&2; exit 75"),
    (2262, "echo 'sigsh: error: configuration' >&2; exit 78"),
    (2263, "head -c 100000 >/dev/null; kill -9 $PPID"),
    (2264, "cat >/dev/null; kill -9 $PPID"),
    (2265, "exit 77"),
    (2266, "cat >/dev/null; exit 69"),
    (2267, "echo garbage"),
    // Turns away, in the middle of what it has read, whoever comes first.
    (2268, "if mkdir /run/once; then head -c 100000 >/dev/null; exit 75; fi; exec sh /run/through"),
    (2269, "echo >>/run/count; exit 75"),
];

/// An sshd that runs something else than sigsh, as root; anything at all on the first port.
fn odd() {
    static HOST: OnceLock<Child> = OnceLock::new();
    HOST.get_or_init(|| {
        world();
        let (key, config) = (format!("{HOME}/odd_host"), format!("{HOME}/odd_config"));
        succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]));
        let mut text =
            format!("HostKey {key}\nPidFile none\nUsePAM no\nPermitRootLogin yes\nAuthorizedKeysFile /etc/sigsh/authorized_keys\n");
        text += &ODD.map(|(port, _)| format!("ListenAddress 127.0.0.1:{port}\n")).concat();
        for (port, does) in &ODD[1..] {
            let script = format!("/run/odd{port}");
            fs::write(&script, does).unwrap();
            text += &format!("Match LocalPort {port}\nForceCommand sh {script}\n");
        }
        fs::write(&config, text).unwrap();
        let (ssh_config, key) = (format!("{HOME}/ssh_config"), ssh_key("build1"));
        let through = format!("exec ssh -F {ssh_config} -i {key} {GOOD} \"$SSH_ORIGINAL_COMMAND\"");
        fs::write("/run/through", through).unwrap();
        let sshd = Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f", &config]).stderr(Stdio::null()).spawn().unwrap();
        patient(|| std::net::TcpStream::connect(("127.0.0.1", ODD[0].0)).is_ok());
        sshd
    });
}

pub fn odd_host(port: u16) -> String {
    odd();
    format!("ssh://root@127.0.0.1:{port}")
}

fn hosts(hosts: &[&str], more: &str) -> String {
    format!("hosts = {hosts:?}\n{more}\n")
}

/// More than all pipes and windows on the way hold.
pub fn large() -> Vec<u8> {
    vec![7; 5_000_000]
}

#[track_caller]
fn signs(server: &BuildServer, file: &[u8]) -> Outcome {
    let file = server.write("f", file);
    let outcome = server.run(&["sign", "--force", "f"], b"");
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    verify_file("ed25519", &format!("{file}.sig"), &file);
    outcome
}

#[test]
fn a_host_that_has_accepted_nothing_is_passed_over() {
    let (close, silent) = (Relay::new(PORT, CLOSE), Relay::new(PORT, SILENT));
    let unknown = Relay::new(PORT, PASS);
    let known = format!("{}/known", scratch());
    let key = fs::read_to_string({
        world();
        format!("{HOME}/sshd_host.pub")
    });
    fs::write(&known, format!("[127.0.0.1]:{PORT} {}", key.unwrap())).unwrap();
    let strict = [&format!("-oUserKnownHostsFile={known}")[..], "-oStrictHostKeyChecking=yes"];
    for (host, options) in [
        ("ssh://signer@127.0.0.1:1".to_owned(), &[][..]),
        ("signer@nowhere.invalid".to_owned(), &[]),
        ("ssh://nobody@127.0.0.1:2222".to_owned(), &[]),
        (close.host(), &[]),
        (silent.host(), &[]),
        (unknown.host(), &strict),
        (odd_host(2260), &[]),
        (odd_host(2261), &[]),
        (odd_host(2262), &[]),
    ] {
        let server = BuildServer::new("build1", &["ed25519"], &hosts(&[&host, GOOD], "timeout = \"2s\"")).with_ssh(options);
        let outcome = signs(&server, &large());
        assert_eq!(outcome.err, "", "{host}");
        assert_eq!(server.files(), ["f", "f.sig"]);
    }
    let server = BuildServer::new("build1", &["ed25519"], &hosts(&[&unknown.host()], "")).with_ssh(&strict);
    fails(&server.run(&["sign"], b"content"), 78, "Host key verification failed");
}

/// It may have signed, or does not want to: to ask another one would be a second signature, or a way around.
#[test]
fn a_host_that_has_begun_or_refused_is_the_last() {
    let frozen = Relay::new(PORT, 1_000_000);
    let begun = "the connection broke after the host had begun: it may have signed";
    for (host, code, text) in [
        (odd_host(2263), 69, begun),
        (odd_host(2264), 69, begun),
        (odd_host(2265), 77, "it gives no reason"),
        (odd_host(2266), 69, "it gives no reason"),
        (odd_host(2267), 76, "the answer is not what was asked for: it came before the end of the input"),
        (frozen.host(), 69, "it does not answer"),
    ] {
        let server = BuildServer::new("build1", &["ed25519"], &hosts(&[&host, GOOD], "timeout = \"3s\""));
        server.write("f", large());
        fails(&server.run(&["sign", "f"], b""), code, &format!("{host}: {text}"));
        assert_eq!(server.files(), ["f"]);
    }
}

/// The real one's refusals and ends.
#[test]
fn what_sigsh_itself_refuses() {
    let server = BuildServer::new("limited", &["rsa2048"], "");
    server.write("f", "content");
    fails(&server.run(&["sign", "f"], b""), 77, "signer@127.0.0.1: key not permitted");
    // Another key's certificate is pinned here than signs there.
    let path = ".config/sigsh/client.toml";
    let text = String::from_utf8(server.read(path)).unwrap().replace("rsa2048]", "ed25519]").replace("\"rsa2048\"", "\"ed25519\"");
    server.write(path, text);
    fails(&server.run(&["sign", "f"], b""), 76, "it is not by a key of the pinned certificate");
    let small = BuildServer::new("small", &["ed25519"], "");
    small.write("f", [0; 2000]);
    fails(&small.run(&["sign", "f"], b""), 77, "signer@127.0.0.1: ");
    assert_eq!([server.files(), small.files()], [["f"], ["f"]]);
}

/// A session that ends in the middle: which of the host's processes it was, makes no difference.
#[test]
fn a_signer_that_is_killed() {
    let server = BuildServer::new("build1", &["ed25519"], &hosts(&[GOOD, "ssh://signer@127.0.0.1:1"], ""));
    for (number, name) in ["sigsh", "sigsh-hasher", "sigsh-token"].into_iter().enumerate() {
        let file = format!("of-the-dead{number}");
        File::create(server.path(&file)).unwrap().set_len(10_000_000_000).unwrap();
        let mut command = server.command(&["sign", &file]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let request = format!("--name={file}");
        let mut found = None;
        patient(|| {
            let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
            let is = |path: &PathBuf| {
                fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
                    && fs::read(path.join("environ")).is_ok_and(|text| String::from_utf8_lossy(&text).contains(&request))
            };
            found = all.into_iter().find(is);
            found.is_some()
        });
        succeed(Command::new("kill").args(["-9", found.unwrap().file_name().unwrap().to_str().unwrap()]));
        let outcome = child.wait_with_output().unwrap();
        let err = String::from_utf8(outcome.stderr).unwrap();
        // Its monitor, while it lives, says that this must not be.
        let code = if name == "sigsh-hasher" { 70 } else { 69 };
        assert_eq!((outcome.status.code(), outcome.stdout.len()), (Some(code), 0), "{name}: {err}");
        assert!(!server.files().contains(&format!("{file}.sig")));
        fs::remove_file(server.path(&file)).unwrap();
    }
}

#[test]
fn nobody_is_there() {
    for (list, code, text) in [
        (vec!["ssh://signer@127.0.0.1:1".to_owned()], 69, "Connection refused"),
        (vec!["ssh://signer@127.0.0.1:1".to_owned(), odd_host(2261)], 75, "2261: too many sessions"),
        (vec![odd_host(2260), odd_host(2262)], 78, "2262: configuration"),
        (vec!["ssh://nobody@127.0.0.1:2222".to_owned()], 77, "Permission denied"),
    ] {
        let list = list.iter().map(String::as_str).collect::<Vec<_>>();
        let server = BuildServer::new("build1", &["ed25519"], &hosts(&list, "retry = \"4s\""));
        server.write("f", "content");
        let outcome = server.run(&["sign", "f"], b"");
        fails(&outcome, code, text);
        // Where it would be the same again, nobody waits.
        let again = [69, 75].contains(&code);
        assert_eq!(outcome.err.contains("; trying again"), again, "{outcome:?}");
        assert!(!again || outcome.took >= Duration::from_secs(4), "{outcome:?}");
        assert!(outcome.took < Duration::from_secs(60), "{outcome:?}");
    }
    let server = BuildServer::new("build1", &["ed25519"], &hosts(&[&odd_host(2269)], "retry = \"5s\""));
    fails(&server.run(&["sign"], b"content"), 75, "it gives no reason");
    let attempts = fs::read_to_string("/run/count").unwrap().lines().count();
    // After half a second, one, two, at the end; each at most twice as early.
    assert!((2..=7).contains(&attempts), "{attempts}");
}

/// A host that does not answer costs its time once, and not each call.
#[test]
fn a_host_that_was_down_is_asked_last() {
    let relay = Relay::new(PORT, SILENT);
    let [down, up] = [relay.host(), "signer@127.0.0.1".to_owned()];
    let server = BuildServer::new("build1", &["ed25519"], &hosts(&[&down, &up], "")).with_ssh(&["-oConnectTimeout=2"]);
    let [first, second] = [(); 2].map(|()| server.run(&["sign"], b"content"));
    assert_eq!([first.code, second.code], [Some(0); 2], "{first:?} {second:?}");
    assert!(first.took > Duration::from_secs(2) && relay.total() == 1, "{first:?} {second:?}");
}

#[test]
fn a_host_that_comes_back_is_used() {
    let relay = Relay::new(PORT, CLOSE);
    let server = BuildServer::new("build1", &["ed25519"], &relay.hosts());
    let input = large();
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_secs(2));
            relay.set(PASS);
        });
        server.run(&["sign"], &input)
    });
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(relay.total() > 2 && outcome.err.lines().all(|line| line.ends_with("; trying again")), "{outcome:?}");
    verify("ed25519", &outcome.out, &input);
    // Standard input goes whole once more to a host that has read of it before it said "later".
    let server = BuildServer::new("build1", &["ed25519"], &hosts(&[&odd_host(2268)], ""));
    let outcome = server.run(&["sign"], &input);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    verify("ed25519", &outcome.out, &input);
}

/// A host with few places for those who log in, and few sessions on one connection.
fn narrow() -> u16 {
    static HOST: OnceLock<(Child, u16)> = OnceLock::new();
    let host = HOST.get_or_init(|| {
        world();
        let shipped = fs::read_to_string("/etc/ssh/sshd_config.d/50-sigsh.conf").unwrap();
        let settings = shipped.replace("MaxStartups 128:30:256", "MaxStartups 4:100:4").replace("MaxSessions 64", "MaxSessions 10");
        assert!(settings.contains("MaxStartups 4:100:4") && settings.contains("MaxSessions 10"));
        crate::sshd::host("narrow", 2270, &settings)
    });
    host.1
}

fn at_once(server: &BuildServer, number: usize) -> Vec<Duration> {
    let one = |file: usize| {
        let name = format!("f{file}");
        server.write(&name, format!("content of {file}"));
        let outcome = server.run(&["sign", &name], b"");
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
        outcome.took
    };
    let took = thread::scope(|scope| {
        let all = (0..number).map(|file| scope.spawn(move || one(file))).collect::<Vec<_>>();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for file in 0..number {
        let file = server.path(&format!("f{file}"));
        succeed(Command::new("gpgv").args(["--keyring", "/etc/sigsh/ed25519.pgp", &format!("{file}.sig"), &file]));
    }
    took
}

#[test]
fn no_more_connections_at_once_than_are_allowed() {
    for reuse in ["\"30s\"", "false"] {
        let relay = Relay::new(narrow(), PASS);
        let server = BuildServer::new("build1", &["ed25519"], &format!("{}parallel = 3\nreuse = {reuse}", relay.hosts()));
        at_once(&server, 64);
        assert!(relay.most() <= 3, "{}", relay.most());
        // Shared ones are those of the first moment, at most.
        assert!(if reuse == "false" { relay.total() == 64 } else { relay.total() <= 3 }, "{reuse} {}", relay.total());
    }
}

#[test]
fn two_hundred_at_once() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let took = at_once(&server, 200);
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("200 at once: the last after {:?}\n", took.iter().max()).as_bytes(),
    );
}

/// A client that holds the only place of a host.
fn holder(server: &BuildServer) -> Child {
    fs::create_dir_all(server.path(".fake")).unwrap();
    let ssh = server.write(".fake/ssh", "#!/bin/sh\nexec sleep 1000\n");
    succeed(Command::new("chmod").args(["+x", &ssh]));
    let mut command = server.command(&["sign"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", server.path(".fake")));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"x").unwrap();
    let sleeps = || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        children.split_whitespace().any(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n"))
    };
    patient(sleeps);
    child
}

#[test]
fn a_place_is_not_waited_for_for_ever_and_freed_by_a_kill() {
    let relay = Relay::new(PORT, PASS);
    let more = format!("{}parallel = 1\nretry = \"1s\"\ntimeout = \"1s\"\n", relay.hosts());
    let first = BuildServer::new("build1", &["ed25519"], &more.replace("timeout = \"1s\"\n", ""));
    let second = BuildServer::new("build1", &["ed25519"], &more).together_with(&first);
    let mut holding = holder(&first);
    fails(&second.run(&["sign"], b"content"), 75, "all 1 connections at once are in use here");
    assert_eq!(relay.total(), 0);
    let patient = BuildServer::new("build1", &["ed25519"], &more.replace("timeout = \"1s\"\n", "")).together_with(&first);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| signs(&patient, b"content"));
        thread::sleep(Duration::from_secs(1));
        assert_eq!(relay.total(), 0);
        let began = Instant::now();
        // Its ssh lives on, and holds nothing.
        holding.kill().unwrap();
        holding.wait().unwrap();
        waiting.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    });
}

#[test]
fn connections_are_shared_by_those_who_are_the_same() {
    let relay = Relay::new(PORT, PASS);
    let user = BuildServer::new("build1", &["ed25519"], "");
    let new = |more: &str| BuildServer::new("build1", &["ed25519"], &format!("{}{more}", relay.hosts())).together_with(&user);
    let connections = |server: &BuildServer| {
        let before = relay.total();
        signs(server, b"content");
        signs(server, b"more content");
        relay.total() - before
    };
    assert_eq!(connections(&new("")), 1);
    assert_eq!(connections(&new("")), 0);
    assert_eq!(connections(&new("reuse = false")), 2);
    assert_eq!(connections(&new("").with_ssh(&["-oLogLevel=QUIET"])), 1);
    assert_eq!(connections(&new("").with_ssh(&["-i", &ssh_key("limited")])), 1);
    let before = relay.total();
    let server = new("");
    server.write("f", "x");
    let mut command = server.command(&["sign", "f"]);
    assert_eq!(
        finish(
            {
                command.env("SSH_AUTH_SOCK", "/run/agent");
                command
            },
            b""
        )
        .code,
        Some(0)
    );
    assert_eq!(relay.total() - before, 1);
    let short = new("reuse = \"1s\"").with_ssh(&["-oLogLevel=FATAL"]);
    signs(&short, b"content");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(connections(&short), 1);
}

/// Its processes that keep connections, by their titles.
fn masters(server: &BuildServer) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let title = format!("ssh: {}/", server.runtime);
    let is = |pid: &String| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(title.as_bytes()));
    all.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter(is).collect()
}

#[test]
fn a_shared_connection_that_has_died_is_survived() {
    let relay = Relay::new(PORT, PASS);
    let server = BuildServer::new("build1", &["ed25519"], &relay.hosts());
    signs(&server, b"content");
    // Its socket stays, and nobody is there.
    for master in masters(&server) {
        succeed(Command::new("kill").args(["-9", &master]));
    }
    patient(|| masters(&server).is_empty());
    assert_eq!(signs(&server, b"content").err, "");
    assert_eq!(relay.total(), 2);
    // In the middle of an upload: that it may have been signed is said, and the next one goes well.
    let mut child = server.command(&["sign", "large"]);
    File::create(server.path("large")).unwrap().set_len(10_000_000_000).unwrap();
    let child = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_secs(1));
    for master in masters(&server) {
        succeed(Command::new("kill").args(["-9", &master]));
    }
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(69), 0), "{err}");
    assert!(err.contains("the connection broke after the host had begun"), "{err}");
    assert_eq!(signs(&server, b"content").err, "");
    assert_eq!(server.files(), ["f", "f.sig", "large"]);
}

/// What stays in the background keeps nothing open that somebody waits for.
#[test]
fn a_shared_connection_holds_nothing_of_the_caller() {
    let server = BuildServer::new("build1", &["ed25519"], "parallel = 1");
    server.write("f", "content");
    for script in [
        "out=$(sigsh-client sign -o - f | wc -c); test \"$out\" -gt 50",
        "out=$(sigsh-client sign -f f 2>&1); test -z \"$out\"",
        "out=$(sigsh-client sign -f f 9>&1 >/dev/null 2>&1); test -z \"$out\"",
        "exec 9>lock; flock -n 9 || exit 1; sigsh-client sign -f f; exec 9>&-; flock -n lock true",
        "mkdir m && mount -t tmpfs tmpfs m && (cd m && echo x >x && sigsh-client sign x) && umount m",
        "mkfifo p 2>/dev/null; (sigsh-client sign -f f <p; echo >done) & exec 3>p; exec 3>&-; wait",
    ] {
        for master in masters(&server) {
            succeed(Command::new("kill").args(["-9", &master]));
        }
        let outcome = finish(server.program("sh", &["-c", script]), b"");
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{script}: {outcome:?}");
        assert!(outcome.took < Duration::from_secs(10) && masters(&server).len() == 1, "{script}: {outcome:?}");
    }
}

/// Somebody else was quicker to make the directory in /tmp.
#[test]
fn a_directory_of_somebody_else_is_not_used() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    server.write("f", "content");
    fs::create_dir_all(format!("{}/sigsh", server.runtime)).unwrap();
    fs::create_dir_all(server.path(".cache")).unwrap();
    for make in ["chmod 0777", "chown 65534"] {
        let directory = format!("{}/sigsh", server.runtime);
        succeed(Command::new("sh").args(["-c", &format!("{make} {directory}")]));
        let before = listing(&directory);
        let mut command = server.command(&["sign", "-f", "f"]);
        // Mounted over, as /tmp is the machine's.
        command = wrapped(command, "mount -t tmpfs -o mode=1777 tmpfs /tmp && mkdir /tmp/sigsh-0 && chown 65534 /tmp/sigsh-0");
        let outcome = finish(command, b"");
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
        assert_eq!(listing(&directory), before);
        assert!(!listing(&server.path(".cache/sigsh")).is_empty());
    }
}

/// The same command in a mount namespace of its own, after others.
fn wrapped(command: Command, before: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", &format!("{before} && exec \"$@\""), "sh"]);
    unshare.arg(command.get_program()).args(command.get_args()).current_dir(command.get_current_dir().unwrap()).env_clear();
    unshare.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    unshare
}
