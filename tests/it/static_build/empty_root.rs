//! The static program, copied alone into an empty root.

use crate::batch::{END, entry, signatures};
use crate::sandbox::{all_misfits, archive};
use crate::tokens::Daemon;
use crate::tokens::p11kit::{Store, activated};
use crate::world::{
    PIN, Session, account, account_file, as_account, field, fingerprint, finish, free_port, records, scratch, secret, start_sshd,
    static_build, succeed, user_auth, verify, world,
};
use sigsh::sandbox::Profile;
use sigsh::sandbox::syscalls::Libc;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

/// A state of "hello".
const DOCUMENT: &[u8] = include_bytes!("../../../fuzz/corpus/state_document/client-short");

/// All that there is at first. Two of them are sockets, one is a link.
const FILES: [&str; 9] = [
    "/auth",
    "/etc/sigsh/ed25519.pgp",
    "/etc/sigsh/hsm.pin",
    "/etc/sigsh/sigsh.toml",
    "/run/sigsh-token/pkcs11",
    "/run/systemd/journal/socket",
    "/run/token",
    "/usr/bin/sigsh",
    "/var/lib/sigsh/ledger.jsonl",
];

pub struct Root {
    pub path: String,
    _server: Daemon,
}

impl Root {
    fn new(programs: &Path) -> Root {
        let (server, socket) = activated(&Store::read_only());
        let root = Root { path: scratch(), _server: server };
        for directory in ["etc/sigsh", "run/systemd/journal", "run/sigsh-token", "usr/bin", "var/lib/sigsh/state"] {
            fs::create_dir_all(root.at(directory)).unwrap();
        }
        symlink("sigsh-token", root.at("run/token")).unwrap();
        let (uid, gid) = account();
        chown(root.at("var/lib/sigsh/state"), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(root.at("var/lib/sigsh/state"), fs::Permissions::from_mode(0o700)).unwrap();
        succeed(Command::new("cp").arg(programs.join("sigsh")).arg(root.at("usr/bin")));
        succeed(Command::new("cp").arg("/etc/sigsh/ed25519.pgp").arg(root.at("etc/sigsh")));
        secret(&root.at("etc/sigsh/hsm.pin"), PIN);
        account_file(&root.at("auth"), &fs::read(user_auth("build1")).unwrap());
        for (from, to) in [(Path::new("/run/systemd/journal/socket"), "run/systemd/journal/socket"), (&socket, "run/token/pkcs11")]
        {
            fs::write(root.at(to), b"").unwrap();
            succeed(Command::new("mount").arg("--bind").arg(from).arg(root.at(to)));
        }
        fs::write(root.at("etc/sigsh/sigsh.toml"), root.configuration("")).unwrap();
        // From outside, by the dynamic build: nothing of this stays in it.
        let outside = format!("{}/sigsh.toml", scratch());
        fs::write(&outside, root.configuration(&root.path)).unwrap();
        succeed(Command::new("sigsh-admin").args(["--config", &outside, "ledger", "init"]));
        root
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.path)
    }

    /// As it is seen from a place where the root is `root`.
    fn configuration(&self, root: &str) -> String {
        format!(
            "account = \"signer\"\n[token.hsm]\nserver = \"{root}/run/token/pkcs11\"\nuri = \"pkcs11:token=release\"\n\
             pin-file = \"{root}/etc/sigsh/hsm.pin\"\n[key.ed25519]\ntoken = \"hsm\"\nuri = \"pkcs11:object=ed25519\"\n\
             certificate = \"{root}/etc/sigsh/ed25519.pgp\"\n[client.build1]\nssh-keys = [\"{}\"]\nkeys = [\"ed25519\"]\n\
             inputs = [\"artifact\", \"tar\", \"state\"]\nrate = \"1000/s\"\n[audit]\n\
             journal = \"{root}/run/systemd/journal/socket\"\nledger = \"{root}/var/lib/sigsh/ledger.jsonl\"\n\
             state = \"{root}/var/lib/sigsh/state\"\n",
            fingerprint("build1")
        )
    }

    fn session(&self, request: &str) -> Session {
        let (uid, gid) = account();
        let mut command = Command::new("/usr/sbin/chroot");
        command.args([&format!("--userspec={uid}:{gid}"), &format!("--groups={gid}"), &self.path, "/usr/bin/sigsh"]);
        command.env_clear().env("SSH_USER_AUTH", "/auth").env("SSH_CONNECTION", "192.0.2.1 4000 192.0.2.2 22");
        Session { command }.request(request)
    }

    /// What is there that is no directory.
    fn files(&self) -> Vec<String> {
        let output = succeed(Command::new("find").args([&self.path, "!", "-type", "d", "-printf", "/%P\n"]));
        let mut names = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        names.sort();
        names
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = Command::new("umount").args([self.at("run/token/pkcs11"), self.at("run/systemd/journal/socket")]).status();
    }
}

#[test]
fn alone_in_an_empty_root_it_signs() {
    let Some(programs) = static_build() else { return };
    let root = Root::new(programs);
    assert_eq!(root.files(), [&FILES[..], &["/var/lib/sigsh/state/ledger.lock"]].concat());

    for (request, data) in [("sign", &b"data"[..]), ("sign --armor", &[7; 100_000]), ("sign --type text", b"a text\n")] {
        let outcome = root.session(request).run(data);
        verify("ed25519", outcome.signature(), data);
        assert_eq!(field(&outcome.records[1], "SIGSH_UNIX_USER"), account().0.to_string());
    }
    let outcome = root.session("sign --cleartext").run(b"a text\n");
    assert!(outcome.signature().starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\na text\n-----BEGIN PGP"));
    let outcome = root.session("sign-tar").run(&[entry(b"a", b"one"), entry(b"b", b"two"), END.to_vec()].concat());
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    for ((name, signature), (expected, data)) in signatures(&outcome.out).iter().zip([("a.sig", b"one"), ("b.sig", b"two")]) {
        assert_eq!(name, expected.as_bytes());
        verify("ed25519", signature, data);
    }
    let outcome = root.session("sign-state").run(DOCUMENT);
    let response = serde_json::from_slice::<serde_json::Value>(&outcome.out).unwrap();
    verify("ed25519", response["signature"].as_str().unwrap().as_bytes(), b"hello");
    let outcome = root.session("certificate").run(b"");
    assert_eq!(outcome.out, fs::read("/etc/sigsh/ed25519.pgp").unwrap());

    // It has left nothing but what it shares with other sessions, and the ledger of all of that.
    let state = ["ledger.lock", "pin.hsm", "rate.build1", "refusals.build1", "sessions.build1"];
    let state = state.map(|name| format!("/var/lib/sigsh/state/{name}"));
    assert_eq!(root.files(), [&FILES.map(str::to_owned)[..], &state].concat());
    let outside = format!("{}/sigsh.toml", scratch());
    fs::write(&outside, root.configuration(&root.path)).unwrap();
    let output = succeed(as_account("sigsh-admin").args(["--config", &outside, "ledger", "verify"]));
    assert!(String::from_utf8(output.stdout).unwrap().contains("ok: lines 1 to 15, "));
}

/// `sigsh-admin` there finds what a session needs, and says what it cannot look at.
#[test]
fn what_an_empty_root_lacks_is_said() {
    let Some(programs) = static_build() else { return };
    let root = Root::new(programs);
    succeed(Command::new("cp").arg(programs.join("sigsh-admin")).arg(&root.path));
    let (uid, gid) = account();
    let check = |user: &str| {
        let mut command = Command::new("/usr/sbin/chroot");
        command.args([&format!("--userspec={user}"), "--groups=", &root.path, "/sigsh-admin", "check"]);
        let output = command.env_clear().output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = check(&format!("{uid}:{gid}"));
    let lines = text.lines().map(|line| line.split([',', ';']).next().unwrap()).collect::<Vec<_>>();
    let (ok, warnings): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.starts_with("ok: "));
    assert_eq!((code, ok.len()), (Some(0), 6), "{text}");
    let expected = [
        "warning: journal: cannot run journalctl: No such file or directory (os error 2)",
        "warning: journald: cannot run systemd-analyze to see its settings",
        "warning: sshd: not installed here",
    ];
    assert_eq!(warnings, expected);
    let (code, text) = check("0:0");
    let error = "sigsh-admin: error: cannot become the account 'signer': there is no such account\n";
    assert!(code == Some(1) && text.starts_with(error), "{text}");
}

/// sshd puts its word on who has logged in there, into /tmp, and starts sigsh as the account's shell.
#[test]
fn sshd_locks_the_account_in() {
    let Some(programs) = static_build() else { return };
    let root = Root::new(programs);
    succeed(Command::new("install").args(["-d", "-m", "1777", &root.at("tmp")]));
    let port = free_port();
    let sshd = start_sshd("locked-in", port, &format!("ChrootDirectory {}", root.path));
    let _sshd = Daemon(sshd);
    let mut command = world().ssh_command("build1");
    command.args(["-p", &port.to_string(), "sign --name locked-in"]);
    let outcome = finish(command, b"data");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    verify("ed25519", &outcome.out, b"data");
    let record = records("SIGSH_NAME=locked-in").pop().unwrap();
    assert_eq!((field(&record, "SIGSH_EVENT"), field(&record, "_EXE")), ("signed", root.at("usr/bin/sigsh").as_str()));
}

/// The tables are exact for this build, too.
#[test]
fn every_row_is_needed() {
    let Some(programs) = static_build() else { return };
    let root = Root::new(programs);
    let data = || b"data".to_vec();
    // The hasher has no call for more memory: documents that take as much as they can, and what tar says of an entry at length.
    let long = String::from_utf8_lossy(DOCUMENT).replace("hello.txt", &"\\u0041".repeat(2500));
    let many = format!("{long}\n").repeat(200).into_bytes();
    let option = format!("--pax-option=comment={}", "x".repeat(60_000));
    let mut tar = Command::new("tar");
    let said =
        succeed(tar.args(["-c", "--format=posix", &option, "-C", env!("CARGO_MANIFEST_DIR"), "README.md", "Cargo.toml"])).stdout;
    let mut sessions = vec![
        ("sign", data(), 0),
        ("sign --armor", data(), 0),
        ("sign --cleartext", data(), 0),
        ("sign --type text", data(), 0),
        ("certificate", data(), 0),
        ("help", data(), 0),
        ("sign --size 1", data(), 65),
        ("sign nobody", data(), 77),
        ("rm", data(), 64),
        ("sign-tar", data(), 65),
        ("sign-tar", said, 0),
        ("sign-state", many.clone(), 0),
        ("sign-state", [&many[..], b"{}"].concat(), 65),
    ];
    sessions.extend(["gnu", "oldgnu", "posix", "ustar"].map(|format| ("sign-tar", archive(format), 0)));
    let sessions = sessions.into_iter().map(|(request, input, code)| (root.session(request), input, code));
    assert_eq!(all_misfits(Libc::Musl, Profile::P11Kit, sessions), [""; 0]);
}
