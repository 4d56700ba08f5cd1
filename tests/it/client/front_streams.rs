//! What a call of gpg reads and writes beside the signature: passphrases, status lines, messages, the log.

use super::BuildServer;
use super::front::keyring;
use crate::world::{Outcome, finish, verify};
use std::fs;
use std::os::unix::net::UnixDatagram;

fn server(more: &str) -> BuildServer {
    BuildServer::new("build1", &["ed25519"], more)
}

/// The front end in a shell: `gpg` and what follows.
fn shell(server: &BuildServer, line: &str) -> Outcome {
    let path = server.front();
    let mut command = server.program("/usr/bin/bash", &["-c", line]);
    command.env("PATH", path);
    finish(command, b"secret\n")
}

#[test]
fn a_passphrase_is_not_all_there_is() {
    let server = server("log = false");
    for (line, signs) in [("--passphrase-fd 0 -b", false), ("-b", true)] {
        let outcome = shell(&server, &format!("gpg --status-fd 2 {line}"));
        assert_eq!((outcome.code, outcome.out.is_empty()), (Some(if signs { 0 } else { 2 }), !signs), "{line}: {outcome:?}");
        assert_eq!(outcome.err.contains("standard input: it is empty"), !signs, "{outcome:?}");
    }
}

/// gpg's own rule: that nobody listens any more is a failure for those only that ask for it.
#[test]
fn a_status_that_nobody_reads() {
    let server = server("log = false");
    server.write("in", "x");
    let gone = |options: &str| shell(&server, &format!("set -o pipefail; {{ sleep 0.2; gpg {options} --status-fd 1 -b in; }} | :"));
    let outcome = gone("--exit-on-status-write-error");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(2), "sigsh-gpg: error: the status: broken pipe\n"));
    assert_eq!(server.files(), ["in"]);
    let outcome = gone("");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    verify("ed25519", &server.read("in.sig"), b"x");
}

#[test]
fn the_status_names_the_hash_that_has_signed() {
    let server = server("log = false");
    let text = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
    server.write(".config/sigsh/client.toml", format!("{text}hash = \"sha256\"\n"));
    let outcome = finish(server.gpg("--status-fd 2 -b"), b"x");
    let words = outcome.err.lines().map(|line| line.split(' ').skip(1).take(5).collect::<Vec<_>>()).collect::<Vec<_>>();
    assert_eq!(
        (words[1][..].to_vec(), words[2][..4].to_vec()),
        (vec!["BEGIN_SIGNING", "H10"], vec!["SIG_CREATED", "D", words[2][2], "10"])
    );
}

#[test]
fn a_standard_output_that_is_closed_takes_no_signature() {
    let server = server("log = false");
    server.write("in", "x");
    for line in ["-bo - in", "-b", "--clearsign -o - in"] {
        let outcome = shell(&server, &format!("gpg --status-fd 2 {line} >&-"));
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert_eq!(outcome.err, "[GNUPG:] FAILURE sign 1\nsigsh-gpg: error: standard output: it is closed\n");
    }
    // Who opens /dev/null wants it so; a file needs no standard output.
    for line in ["-bo - in >/dev/null", "-b in >&-"] {
        let outcome = shell(&server, &format!("gpg --status-fd 2 {line}"));
        assert!(outcome.code == Some(0) && outcome.err.contains("SIG_CREATED"), "{outcome:?}");
    }
}

/// Those of the hosts and of the fallback, too.
#[test]
fn messages_go_where_the_caller_wants_them() {
    let server = server("log = false");
    let (home, _, certificate) = keyring(&server, ".old", "Old <old@example.org>");
    let log = server.path("front.log");
    let down = format!(
        "hosts = [\"ssh://signer@127.0.0.1:1\"]\nretry = \"1s\"\nlog = \"{log}\"\n\
         local-fallback = [\"gpg\", \"--homedir\", \"{home}\", \"--batch\"]\n[key.k]\ncertificate = \"{certificate}\"\n"
    );
    server.write(".config/sigsh/client.toml", down);
    let outcome = shell(&server, "gpg --batch --logger-fd 7 -b 7>said");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
    let warned = "no host can be reached, so gpg signs on this machine\n";
    let said = String::from_utf8(server.read("said")).unwrap();
    assert!(said.starts_with("sigsh-client: warning: ") && said.ends_with(warned), "{said}");
    let lines = fs::read_to_string(&log).unwrap();
    assert!(lines.lines().count() == 2 && lines.contains(warned), "{lines}");
    let outcome = shell(&server, "gpg --batch --log-file said --set-notation a@b=c -b");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(2), ""));
    let said = String::from_utf8(server.read("said")).unwrap();
    assert!(said.ends_with("sigsh-gpg: error: a signature by sigsh cannot have what --set-notation asks for\n"), "{said}");
}

/// The front end with another /dev/log; all that it has sent there.
fn logged(server: &BuildServer, line: &str) -> Vec<String> {
    let _ = fs::remove_file(server.path(".log"));
    let socket = UnixDatagram::bind(server.path(".log")).unwrap();
    socket.set_nonblocking(true).unwrap();
    fs::create_dir_all(server.path(".dev")).unwrap();
    let devices = "mount -t tmpfs tmpfs .dev; for name in null zero urandom random tty; do touch .dev/$name; \
         mount --bind /dev/$name .dev/$name; done; ln -s /proc/self/fd .dev/fd; ln -s $PWD/.log .dev/log; mount --move .dev /dev";
    let path = server.front();
    let line = format!("set -e; {devices}; exec .front/gpg {line}");
    let mut command = server.program("/usr/bin/unshare", &["--mount", "--propagation", "private", "bash", "-c", &line]);
    command.env("PATH", path);
    finish(command, b"x");
    let mut buffer = [0; 4096];
    let lines =
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned()));
    lines.collect()
}

#[test]
fn the_systems_log_hears_of_every_call() {
    let calls = [
        ("-b", 14, "standard input signed by "),
        ("--no-such-option", 11, "invalid option '--no-such-option'"),
        ("-b absent", 11, "absent: no such file or directory"),
        ("--import absent", 14, "passed on to /usr/bin/gpg"),
    ];
    let (by_default, off) = (server(""), server("log = false"));
    for (line, priority, text) in calls {
        let lines = logged(&by_default, line);
        assert_eq!(lines.len(), 1, "{line}: {lines:?}");
        let said = lines[0].strip_prefix(&format!("<{priority}>sigsh-client[")).unwrap_or_else(|| panic!("{lines:?}"));
        assert!(said.split_once("]: ").unwrap().1.starts_with(text), "{lines:?}");
        assert_eq!(logged(&off, line), [""; 0], "{line}");
    }
    let path = by_default.path("log");
    let file = server(&format!("log = \"{path}\""));
    for (line, _, text) in calls {
        assert_eq!(logged(&file, line), [""; 0], "{line}");
        assert!(fs::read_to_string(&path).unwrap().lines().last().unwrap().contains(&format!("]: {text}")), "{line}");
    }
}
