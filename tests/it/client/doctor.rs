//! `doctor`: whatever is wrong has a line of its own, and the rest is looked at all the same.

use super::BuildServer;
use crate::world::{HOME, Outcome, PORT, finish, ssh_key, succeed};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// A build server whose ssh knows the host's key, with `more` of ssh's configuration first.
fn pinned(client: &str, keys: &[&str], more: &str) -> BuildServer {
    let server = BuildServer::new(client, keys, "");
    settle(&server, more);
    server
}

fn settle(server: &BuildServer, more: &str) {
    let host_key = fs::read_to_string(format!("{HOME}/sshd_host.pub")).unwrap();
    server.write("known_hosts", format!("[127.0.0.1]:{PORT} {host_key}"));
    let known = server.path("known_hosts");
    let text = format!("{more}\nPort {PORT}\nUserKnownHostsFile {known}\nIdentitiesOnly yes\nIdentityAgent none\nBatchMode yes\n");
    server.write("ssh_config", text);
    configure(server, |text| text.replace(&format!("{HOME}/ssh_config"), &server.path("ssh_config")));
    configure(server, |text| format!("log = false\n{text}"));
}

fn configure(server: &BuildServer, change: impl Fn(String) -> String) {
    let path = server.path(".config/sigsh/client.toml");
    fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
}

/// Its lines, without times; the exit code says whether one is an error.
#[track_caller]
fn findings(outcome: &Outcome) -> Vec<String> {
    let text = String::from_utf8(outcome.out.clone()).unwrap();
    let line = |line: &str| {
        let kind = line.split(": ").next().unwrap();
        assert!(["ok", "warning", "error"].contains(&kind), "{line}");
        let time = |word: &&str| word.parse::<f64>().is_ok() && word.contains('.');
        line.split(' ').map(|word| if time(&word) { "TIME" } else { word }).collect::<Vec<_>>().join(" ")
    };
    let lines = text.lines().map(line).collect::<Vec<_>>();
    let errors = lines.iter().any(|line| line.starts_with("error: "));
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(i32::from(errors)), ""), "{text}");
    lines
}

/// Those that are not `ok`.
#[track_caller]
fn wrong(outcome: &Outcome) -> Vec<String> {
    findings(outcome).into_iter().filter(|line| !line.starts_with("ok: ")).collect()
}

fn fingerprint(path: &str) -> String {
    sigsh::openpgp::Pinned::read(&fs::read(path).unwrap()).unwrap().certs()[0].fingerprint().to_hex()
}

#[test]
fn all_is_well() {
    let table = "keys = [\"ed25519\", \"rsa2048\"]\ninputs = [\"artifact\", \"tar\", \"state\"]";
    let server = BuildServer::admitted("healthy", table, &["ed25519", "rsa2048"], "state-above = \"1GiB\"");
    settle(&server, "");
    let [one, two] = ["ed25519", "rsa2048"].map(|key| fingerprint(&format!("/etc/sigsh/{key}.pgp")));
    let directory = &server.directory;
    let host = "ok: signer@127.0.0.1";
    let expected = format!(
        "ok: configuration: {directory}/.config/sigsh/client.toml; hosts: signer@127.0.0.1\n\
         ok: key 'ed25519': pinned certificate {one} of Test ed25519 <ed25519@example.org>, without expiry\n\
         ok: key 'rsa2048': pinned certificate {two} of Test rsa2048 <rsa2048@example.org>, without expiry\n\
         ok: the real gpg: /usr/bin/gpg\n\
         ok: gpg in PATH is not sigsh-client but /usr/bin/gpg; 'sigsh-client setup gpg DIR' is for tools that call gpg\n\
         {host}: its host key is pinned in {directory}/known_hosts\n\
         {host}: answers in TIME s: sigsh {version}\n\
         {host}: the connection is used again, in TIME s\n\
         {host}: 8 connections at once\n\
         {host}: key 'ed25519': the host's certificate is the pinned one\n\
         {host}: key 'ed25519' signs: binary, text, cleartext, tar, state\n\
         {host}: key 'rsa2048': the host's certificate is the pinned one\n\
         {host}: key 'rsa2048' signs: binary, text, cleartext, tar, state\n\
         {host}: its clock agrees with this one\n\
         ok: key 'ed25519': gpgv accepts: binary, text, cleartext, tar, state\n\
         ok: key 'ed25519': gpg accepts: binary, text, cleartext, tar, state\n\
         ok: key 'ed25519': sqv accepts: binary, text, tar, state\n\
         ok: key 'ed25519': rpmkeys imports the certificate\n\
         ok: key 'rsa2048': gpgv accepts: binary, text, cleartext, tar, state\n\
         ok: key 'rsa2048': gpg accepts: binary, text, cleartext, tar, state\n\
         ok: key 'rsa2048': sqv accepts: binary, text, tar, state\n\
         ok: key 'rsa2048': rpmkeys imports the certificate",
        version = env!("CARGO_PKG_VERSION")
    );
    let outcome = server.run(&["doctor"], b"");
    assert_eq!(findings(&outcome).join("\n"), expected);
    assert_eq!(server.files(), ["known_hosts", "ssh_config"]);
    let (path, mut command) = (server.front(), server.program("/usr/bin/sigsh-client", &["doctor"]));
    command.env("PATH", path);
    let first = format!("ok: gpg in PATH is sigsh-client: {directory}/.front/gpg");
    let expected = expected.lines().map(|line| if line.starts_with("ok: gpg in PATH") { &first } else { line });
    assert_eq!(findings(&finish(command, b"")).join("\n"), expected.collect::<Vec<_>>().join("\n"));
}

/// Real hosts, each with something amiss: all that is not well.
#[test]
fn each_fault_has_its_line() {
    let unpinned = "its host key is not pinned; get it from its operator, and write";
    let operator = "the operator of this host";
    let cases: &[(&str, &str, &str, &[&str])] = &[
        (
            "build1",
            "StrictHostKeyChecking no",
            "",
            &["error: HOST: ssh takes any host for it; remove StrictHostKeyChecking from ssh's configuration"],
        ),
        (
            "build1",
            "StrictHostKeyChecking accept-new",
            "",
            &[
                "warning: HOST: ssh takes any host for it the first time; write its key to known_hosts and remove StrictHostKeyChecking",
            ],
        ),
        (
            "build1",
            "HostKeyAlias elsewhere",
            "",
            &[
                &format!("error: HOST: {unpinned} 'elsewhere ssh-ed25519 AAAA…' to ~/.ssh/known_hosts"),
                "error: HOST: Host key verification failed; ask its operator for the host's key, and write that one to known_hosts",
            ],
        ),
        (
            "build1",
            "Port 9",
            "",
            &[
                &format!("error: HOST: {unpinned} '[127.0.0.1]:9 ssh-ed25519 AAAA…' to ~/.ssh/known_hosts"),
                "error: HOST: ssh: connect to host 127.0.0.1 port 9: Connection refused; 'ssh -v HOST version' says more",
            ],
        ),
        (
            "build1",
            "Strange yes",
            "",
            &[
                "error: HOST: ssh does not understand its configuration: DIR/ssh_config: line 1: Bad configuration option: strange; see \
             ssh-options, ~/.ssh/config",
                "error: HOST: DIR/ssh_config: terminating, 1 bad configuration options; 'ssh -v HOST version' says more",
            ],
        ),
        (
            "build1",
            "IdentityFile none",
            "ssh-options = [\"-F\", \"DIR/ssh_config\"]",
            &[
                "error: HOST: signer@127.0.0.1: Permission denied (publickey); give the host's operator this machine's public ssh key, or \
             name its file by ssh-options = [\"-i\", \"…\"]",
            ],
        ),
        (
            "build1",
            "",
            "reuse = \"1s\"\nssh-options = [\"-F\", \"DIR/ssh_config\", \"-i\", \"KEY\", \"-oControlPath=none\"]",
            &["warning: HOST: the connection is not used again, each signature takes a new one of TIME s; see ControlPath and \
             ControlMaster in ssh's configuration"],
        ),
        ("build1", "", "reuse = false", &[]),
        (
            "build1",
            "",
            "state-above = \"1MB\"",
            &[
                "error: HOST: key 'ed25519': state: this client may not send state input; remove state-above here, or have \"state\" put \
             into inputs of this client's table of the host",
            ],
        ),
        (
            "build1",
            "",
            "local-fallback = [\"gpg-of-old\"]",
            &["error: local fallback: there is no program gpg-of-old; install it, or remove local-fallback"],
        ),
        (
            "build1",
            "",
            "local-fallback = [\"/usr/bin/sigsh-client\"]",
            &["error: local fallback: there is no program /usr/bin/sigsh-client; install it, or remove local-fallback"],
        ),
        (
            "build1",
            "",
            "gpg = \"/usr/bin/sigsh-gpg\"",
            &["error: /usr/bin/sigsh-gpg is sigsh-client itself; name the real gpg by gpg = \"…\" in client.toml"],
        ),
        (
            "build1",
            "",
            "gpg = \"/etc/passwd\"",
            &["error: /etc/passwd is no program; name the real gpg by gpg = \"…\" in client.toml"],
        ),
        (
            "build1",
            "",
            "log = \"DIR/none/log\"",
            &[
                "warning: log of gpg's calls: DIR/none/log: no such file or directory; set log = \"/a/file\" or false in client.toml",
            ],
        ),
        (
            "stranger",
            "",
            "",
            &[&format!("error: HOST: key 'ed25519': you are not identified; {operator} finds the reason in the journal")],
        ),
    ];
    for (client, ssh, more, expected) in cases {
        let server = pinned(client, &["ed25519"], ssh);
        let fill = |text: &str| {
            let text = text.replace("DIR", &server.directory).replace("KEY", &ssh_key(client));
            text.replace("HOST", "signer@127.0.0.1")
        };
        // What is written here replaces the line of the same name.
        let names = more.lines().filter_map(|line| line.split(" = ").next()).collect::<Vec<_>>();
        configure(&server, |text| {
            let kept = text.lines().filter(|line| !names.iter().any(|name| line.starts_with(&format!("{name} ="))));
            fill(more) + "\n" + &kept.map(|line| format!("{line}\n")).collect::<String>()
        });
        let outcome = server.run(&["doctor"], b"");
        assert_eq!(wrong(&outcome), expected.iter().map(|line| fill(line)).collect::<Vec<_>>(), "{ssh} {more}");
    }
}

/// One host is down, the other is looked at.
#[test]
fn a_host_that_is_down_is_a_finding() {
    let server = pinned("build1", &["ed25519"], "Host down\nHostName 127.0.0.1\nPort 9\nHostKeyAlias [127.0.0.1]:2222\nHost *\n");
    configure(&server, |text| text.replace("[\"signer@127", "[\"down\", \"signer@127"));
    let outcome = server.run(&["doctor"], b"");
    let refused = "ssh: connect to host 127.0.0.1 port 9: Connection refused; 'ssh -v down version' says more";
    assert_eq!(wrong(&outcome), [format!("error: down: {refused}")]);
    let all = findings(&outcome);
    for line in [
        "ok: signer@127.0.0.1: key 'ed25519' signs: binary, text, cleartext, tar",
        "ok: key 'ed25519': gpgv accepts: binary, text, cleartext, tar",
    ] {
        assert!(all.iter().any(|other| other == line), "{all:#?}");
    }
}

/// Certificates and keys that do not belong together.
#[test]
fn keys_and_certificates_are_compared() {
    let server = pinned("limited", &["ed25519", "rsa2048"], "");
    let [one, two] = ["ed25519", "rsa2048"].map(|key| fingerprint(&format!("/etc/sigsh/{key}.pgp")));
    configure(&server, |text| text.replace("/etc/sigsh/ed25519.pgp", "/etc/sigsh/rsa2048.pgp"));
    assert_eq!(
        wrong(&server.run(&["doctor"], b"")),
        [
            format!(
                "error: signer@127.0.0.1: key 'ed25519': its certificate is {one}, the pinned one is {two}; do not replace it before its \
             operator has confirmed the new one"
            ),
            "error: signer@127.0.0.1: key 'rsa2048': key not permitted; without a key's name you get your default key".to_owned(),
        ]
    );
    let server = pinned("limited", &["ed25519"], "");
    server.write("writable.pgp", fs::read("/etc/sigsh/ed25519.pgp").unwrap());
    fs::set_permissions(server.path("writable.pgp"), fs::Permissions::from_mode(0o666)).unwrap();
    let path = server.path("writable.pgp");
    assert_eq!(
        wrong(&server.run(&["doctor", "--certificate", "writable.pgp"], b"")),
        [format!(
            "warning: {path} is writable by group or others (mode 666); whoever can write it decides whose signatures are good: chown and chmod it"
        )]
    );
    // The same in the configuration is refused, and nothing else can be looked at.
    configure(&server, |text| text.replace("/etc/sigsh/ed25519.pgp", &path));
    let outcome = server.run(&["doctor"], b"");
    let expected = format!("error: configuration: {path} is writable by group or others (mode 666); chmod go-w {path}");
    assert_eq!(findings(&outcome), [expected]);
}

/// A host that is played by a script: `ssh` in PATH is one that answers as its directory says.
struct Played(BuildServer);

const SSH: &str = r#"#!/bin/sh
here=${0%/*}
case " $* " in *' -G '*) exec /usr/bin/ssh "$@" ;; *' -O '*) exit 0 ;; esac
for request; do :; done
sign() {
    time=$(cat "$here/time")
    [ ! -e "$here/ahead" ] || time=$(date -u -d "$(cat "$here/ahead") seconds" +%Y%m%dT%H%M%S)
    gpg --homedir "$here/gnupg" --quiet --batch --passphrase '' --faked-system-time "$time" --output - "$@"
}
case "$*" in *ControlMaster=no*) [ ! -e "$here/crowded" ] || { cat "$here/crowded" >&2; exit 255; } ;; esac
case $request in
version) cat "$here/version" ;;
certificate*) cat "$here/certificate" ;;
*--cleartext*) sign --clearsign ;;
*--type=text*) sign --textmode --detach-sign ;;
sign-*) echo 'sigsh: error: this client may not send such input' >&2; exit 77 ;;
*) sign --detach-sign ;;
esac
"#;

impl Played {
    /// With a key that was made in 2025 and expires so.
    fn new(expire: &str) -> Played {
        let server = BuildServer::new("build1", &["ed25519"], "");
        fs::create_dir_all(server.path("bin/gnupg")).unwrap();
        fs::set_permissions(server.path("bin/gnupg"), fs::Permissions::from_mode(0o700)).unwrap();
        server.write("bin/ssh", SSH);
        fs::set_permissions(server.path("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        let played = Played(server);
        settle(&played.0, "");
        played.gpg(&[
            "--faked-system-time",
            "20250101T000000!",
            "--quick-gen-key",
            "P <p@example.org>",
            "ed25519",
            "sign",
            "never",
        ]);
        if expire != "never" {
            let until = expire.to_owned();
            played.gpg(&["--quick-set-expire", &played.key(), &until]);
        }
        played.gpg(&["--output", "pinned.pgp", "--export", "p@example.org"]);
        played.serve();
        played.0.write("bin/version", "sigsh 9.9\n");
        played.clock(0);
        configure(&played.0, |text| {
            let text = text.replace("/etc/sigsh/ed25519.pgp", &played.0.path("pinned.pgp"));
            format!("reuse = false\n{text}")
        });
        played
    }

    fn gpg(&self, arguments: &[&str]) -> String {
        let mut command = self.0.program("gpg", &["--homedir", "bin/gnupg", "--quiet", "--batch", "--yes", "--passphrase", ""]);
        String::from_utf8(succeed(command.args(arguments)).stdout).unwrap()
    }

    fn key(&self) -> String {
        let list = self.gpg(&["--with-colons", "--list-keys", "p@example.org"]);
        list.lines().find(|line| line.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap().to_owned()
    }

    /// From now on the host has the certificate as it is.
    fn serve(&self) {
        self.gpg(&["--output", "bin/certificate", "--export", "p@example.org"]);
    }

    /// The host's clock is so many seconds ahead.
    fn clock(&self, ahead: i64) {
        let date = succeed(Command::new("date").args(["-u", "-d", &format!("{ahead} seconds"), "+%Y%m%dT%H%M%S"]));
        self.0.write("bin/time", date.stdout);
    }

    fn run(&self, path: &str) -> Vec<String> {
        let mut command = self.0.program("/usr/bin/sigsh-client", &["doctor"]);
        command.env("PATH", format!("{}:{path}", self.0.path("bin")));
        wrong(&finish(command, b""))
    }

    fn wrong(&self) -> Vec<String> {
        self.run("/usr/bin:/bin")
    }
}

const TAR: &str = "warning: signer@127.0.0.1: key 'ed25519': tar: this client may not send such input; several files in one call need \
                   inputs = [\"artifact\", \"tar\"] in this client's table of the host";

#[test]
fn clocks_are_compared() {
    let played = Played::new("never");
    let remedy = "run timedatectl on both, and let NTP set the wrong one";
    let sqv = "sqv (apt on Debian 13) refuses signatures from the future";
    let wait = format!("warning: signer@127.0.0.1: its clock is N s ahead, and {sqv}: each one is waited for until then; {remedy}");
    let far = format!("error: signer@127.0.0.1: its clock is N s ahead: no signature is taken from it, as {sqv}; {remedy}");
    for (ahead, expected) in [
        ("0", None),
        ("-20", None),
        ("-100", Some(&format!("warning: signer@127.0.0.1: its clock is N s behind; {remedy}"))),
        // As any clock of the host: whenever it is asked.
        ("now 3", Some(&wait)),
        ("100", Some(&far)),
        ("4000", Some(&far)),
    ] {
        match ahead.strip_prefix("now ") {
            Some(ahead) => {
                played.0.write("bin/ahead", ahead);
            }
            None => played.clock(ahead.parse().unwrap()),
        }
        let wrong = played.wrong();
        let _ = fs::remove_file(played.0.path("bin/ahead"));
        let said = wrong.iter().find(|line| line.contains("its clock is"));
        let words = said.map(|line| {
            let words = line.split(' ').map(|word| if word.parse::<u64>().is_ok_and(|n| n != 13) { "N" } else { word });
            words.collect::<Vec<_>>().join(" ").replace("Debian N", "Debian 13")
        });
        assert_eq!(words.as_ref(), expected, "{ahead}: {wrong:#?}");
        assert!(!wrong.iter().any(|line| line.contains("sigsh-client doctor'")), "{wrong:#?}");
        // So far ahead that no signature is taken, and there is nothing else to say of them.
        assert!(expected != Some(&far) || wrong.len() == 1, "{wrong:#?}");
    }
}

/// A host that is a little ahead: what comes out is not from the future, and what would be later is refused.
#[test]
fn what_is_early_is_waited_for() {
    let played = Played::new("never");
    let sign = || {
        let mut command = played.0.program("/usr/bin/sigsh-client", &["sign", "-k", "ed25519", "-o", "-"]);
        command.env("PATH", format!("{}:/usr/bin:/bin", played.0.path("bin")));
        finish(command, b"data")
    };
    played.0.write("bin/ahead", "3");
    let outcome = sign();
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    let detached = sigsh::openpgp::Detached::read(&outcome.out).unwrap();
    assert!(detached.created().unwrap() <= std::time::SystemTime::now());
    assert!(outcome.took > std::time::Duration::from_secs(1), "{outcome:?}");
    played.0.write("s", &outcome.out);
    played.0.write("data", "data");
    succeed(&mut played.0.program("sqv", &["--keyring", "pinned.pgp", "s", "data"]));
    played.0.write("bin/ahead", "60");
    let outcome = sign();
    let word = |word: &str| word.parse::<u64>().is_ok_and(|n| (55..=60).contains(&n));
    let line =
        outcome.err.lines().next().unwrap_or_default().split(' ').map(|it| if word(it) { "N" } else { it }).collect::<Vec<_>>();
    let expected = "sigsh-client: error: signer@127.0.0.1: the signature is not good: it was made N seconds in the future: one of the two \
                    clocks is wrong";
    assert_eq!((outcome.code, outcome.out.len(), line.join(" ").as_str()), (Some(76), 0, expected));
}

/// Whatever line of known_hosts ssh goes by.
#[test]
fn host_keys_are_looked_up_as_ssh_does() {
    let played = Played::new("never");
    let key = fs::read_to_string(format!("{HOME}/sshd_host.pub")).unwrap();
    let port = format!("[127.0.0.1]:{PORT}");
    let (pinned, revoked) = (None, Some("revoked in KNOWN; if it has a new one, get it from its operator, and write"));
    let missing = Some("not pinned; get it from its operator, and write");
    for (lines, expected) in [
        (format!("{port} {key}"), pinned),
        (format!("127.0.0.1 {key}"), pinned),
        (format!("@cert-authority 127.0.0.* {key}"), pinned),
        (format!("@revoked {port} {key}"), revoked),
        (format!("{port} {key}@revoked * {key}"), revoked),
        (format!("127.0.0.2 {key}"), missing),
        (String::new(), missing),
    ] {
        let known = played.0.write("known_hosts", &lines);
        let wrong = played.wrong();
        let line = |what: &str| {
            let what = what.replace("KNOWN", &known);
            format!("error: signer@127.0.0.1: its host key is {what} '{port} ssh-ed25519 AAAA…' to ~/.ssh/known_hosts")
        };
        assert_eq!(wrong.iter().find(|line| line.contains("its host key")), expected.map(line).as_ref(), "{lines}");
    }
}

#[test]
fn the_hosts_certificate_may_be_newer() {
    let played = Played::new("20d");
    let expires = "warning: key 'ed25519': it expires in 19 days; have its operator extend it, and fetch it again";
    assert_eq!(played.wrong(), [expires, TAR]);
    let host = "warning: signer@127.0.0.1: key 'ed25519': the host's certificate";
    let fetch = "fetch it to a new file ('ssh signer@127.0.0.1 certificate ed25519 > new.pgp'), have its operator confirm the fingerprint, and \
                 rename it to the pinned one";
    played.gpg(&["--quick-set-expire", &played.key(), "2y"]);
    played.serve();
    assert_eq!(played.wrong(), [expires, &format!("{host} is good for longer than the pinned one; {fetch}"), TAR]);
    played.gpg(&["--quick-add-key", &played.key(), "ed25519", "sign", "2y"]);
    played.serve();
    played.clock(5);
    let wrong = played.wrong();
    assert_eq!(wrong[..2], [expires, &format!("{host} has new subkeys; {fetch}")]);
    // By the subkey that the pinned certificate does not know.
    assert!(wrong[2].ends_with("; ask its operator by which key it signs, and compare the certificate"), "{wrong:#?}");
    assert!(wrong[2].contains("binary: the signature is not good: it is not by a key of the pinned certificate"), "{wrong:#?}");

    let played = Played::new("never");
    played.gpg(&["--quick-add-uid", &played.key(), "Another <another@example.org>"]);
    played.serve();
    assert_eq!(played.wrong(), [&format!("{host} is not the same as the pinned one; {fetch}"), TAR]);
    let revocation = fs::read_to_string(played.0.path(&format!("bin/gnupg/openpgp-revocs.d/{}.rev", played.key()))).unwrap();
    played.0.write("revocation", revocation.replace(":-----BEGIN", "-----BEGIN"));
    fs::create_dir(played.0.path("other")).unwrap();
    fs::set_permissions(played.0.path("other"), fs::Permissions::from_mode(0o700)).unwrap();
    for arguments in [&["--import", "pinned.pgp", "revocation"][..], &["--output", "bin/certificate", "--export"]] {
        succeed(played.0.program("gpg", &["--homedir", "other", "--quiet", "--batch", "--yes"]).args(arguments));
    }
    assert_eq!(played.wrong(), [&format!("{host} is revoked; ask its operator for another key"), TAR]);

    let played = Played::new("seconds=1");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let wrong = played.wrong();
    assert!(
        wrong[0].starts_with("error: key 'ed25519': the certificate expired on ") && wrong[0].contains("; fetch"),
        "{wrong:#?}"
    );
}

#[test]
fn what_answers_may_be_no_sigsh() {
    let played = Played::new("never");
    assert_eq!(played.wrong(), [TAR]);
    played.0.write("bin/certificate", "garbage");
    let wrong = played.wrong();
    assert!(wrong[0].starts_with("error: signer@127.0.0.1: key 'ed25519': its certificate cannot be read: "), "{wrong:#?}");
    played.serve();
    let crowd = "kex_exchange_identification: read: Connection reset by peer";
    played.0.write("bin/crowded", format!("{crowd}\n"));
    assert_eq!(
        played.wrong(),
        [
            &format!(
                "error: signer@127.0.0.1: 8 of 8 connections at once failed: {crowd}; lower parallel here, or raise MaxStartups and \
             PerSourceMaxStartups there"
            ),
            TAR
        ]
    );
    played.0.write("bin/version", "Welcome to Debian\n");
    assert_eq!(
        played.wrong(),
        ["error: signer@127.0.0.1: what answers is not sigsh: it must be the account's shell or forced command"]
    );
}

#[test]
fn verifiers_are_asked() {
    let played = Played::new("never");
    for (program, line) in [
        ("gpgv", "error: key 'ed25519': gpgv does not accept binary: no!; compare the certificate with the host's"),
        ("sqv", "error: key 'ed25519': sqv does not accept binary: no!; compare the certificate with the host's"),
        ("rpmkeys", "warning: key 'ed25519': rpmkeys does not import the certificate: no!; rpms need another key"),
    ] {
        let path = played.0.write(&format!("bin/{program}"), "#!/bin/sh\necho no! >&2\nexit 1\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(played.wrong(), [TAR, line]);
        fs::remove_file(path).unwrap();
    }
    // Newer ones read messages, too; old ones are not asked.
    let tell = |program: &str, script: &str| {
        let path = played.0.write(&format!("bin/{program}"), format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let said = |program: &str| {
        let mut command = played.0.program("/usr/bin/sigsh-client", &["doctor"]);
        command.env("PATH", format!("{}:/usr/bin:/bin", played.0.path("bin")));
        let line = format!("ok: key 'ed25519': {program} accepts: ");
        findings(&finish(command, b"")).into_iter().find_map(|finding| finding.strip_prefix(&line).map(str::to_owned))
    };
    tell(
        "sqv",
        "case $* in --help) echo --output --cleartext ;; *cleartext*) echo \"$*\" > ${0%/*}/asked ;; *) exec /usr/bin/sqv \"$@\" ;; esac",
    );
    assert_eq!(said("sqv").as_deref(), Some("binary, text, cleartext"));
    assert_eq!(played.0.read("bin/asked"), b"--keyring key.pgp --output /dev/null --cleartext 2\n");
    tell("sq", "case $* in *--help) echo --detached ;; *) exit 1 ;; esac");
    assert_eq!((said("sq"), played.wrong()), (None, vec![TAR.to_owned()]));
    tell("sq", "case $* in *--help) echo --signer-file --signature-file --cleartext ;; *) echo \"$*\" >> ${0%/*}/asked ;; esac");
    assert_eq!(said("sq").as_deref(), Some("binary, text, cleartext"));
    let asked = String::from_utf8(played.0.read("bin/asked")).unwrap();
    let verify = "verify --signer-file key.pgp";
    let lines = [
        format!("{verify} --signature-file 0 text"),
        format!("{verify} --signature-file 1 text"),
        format!("{verify} --cleartext 2"),
    ];
    assert_eq!(asked.lines().skip(1).filter(|line| line.starts_with("verify")).collect::<Vec<_>>(), lines);
    for program in ["sq", "sqv"] {
        fs::remove_file(played.0.path(&format!("bin/{program}"))).unwrap();
    }
    // A machine with nothing but ssh, which needs sh, cat and gpg here.
    fs::create_dir(played.0.path("bare")).unwrap();
    for tool in ["sh", "cat", "ssh-keygen"] {
        std::os::unix::fs::symlink(format!("/usr/bin/{tool}"), played.0.path(&format!("bare/{tool}"))).unwrap();
    }
    played.0.write("bin/ssh", SSH.replace("    gpg ", "    /usr/bin/gpg "));
    assert_eq!(
        played.run(&played.0.path("bare")),
        [
            "warning: there is no real gpg: what is not signing will fail in tools that call gpg; install gnupg",
            TAR,
            "warning: key 'ed25519': nobody here has verified a signature; install gpgv or sqv",
        ]
    );
}
