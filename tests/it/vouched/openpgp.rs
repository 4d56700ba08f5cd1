//! What a build endorses by an OpenPGP key that an operator has certified for it, both by gpg.

use crate::vouched::{admit_guarded, base64, declare, guarded};
use crate::world::{HOST, Outcome, Session, field, scratch, succeed, verify, world};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The keyring of an operator or a build: a directory of gpg's, and what time it believes to be, in seconds from now.
pub struct Gpg {
    pub home: String,
    clock: i64,
}

impl Gpg {
    pub fn new() -> Gpg {
        world();
        let home = scratch();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        Gpg { home, clock: 0 }
    }

    /// The same at another time.
    fn at(&self, clock: i64) -> Gpg {
        Gpg { home: self.home.clone(), clock }
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64 + self.clock;
        let mut command = Command::new("gpg");
        command.args(["--homedir", &self.home, "--quiet", "--batch", "--yes", "--no-auto-check-trustdb", "--passphrase", ""]);
        if self.clock != 0 {
            command.args(["--faked-system-time", &format!("{now}!")]);
        }
        succeed(command.args(arguments).env("LC_ALL", "C")).stdout
    }

    /// Makes a key and returns its fingerprint.
    #[track_caller]
    pub fn key(&self, name: &str, algorithm: &str, usage: &str) -> String {
        self.run(&["--quick-gen-key", name, algorithm, usage, "2d"]);
        self.fingerprint(name)
    }

    fn fingerprint(&self, name: &str) -> String {
        let list = String::from_utf8(self.run(&["--with-colons", "--list-keys", &format!("={name}")])).unwrap();
        list.lines().find(|line| line.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap().to_owned()
    }

    /// As operators are told to in sigsh.toml(5).
    #[track_caller]
    pub fn certify(&self, operator: &str, build: &str, notation: &str, seconds: &str) {
        let expires = format!("seconds={seconds}");
        let more = ["--cert-notation", notation, "--default-cert-expire", &expires];
        self.run(&[&["--local-user", operator][..], &more, &["--quick-sign-key", build]].concat());
    }

    pub fn export(&self, key: &str) -> Vec<u8> {
        self.run(&["--export", key])
    }

    /// As builds are told to.
    #[track_caller]
    fn sign(&self, key: &str, data: &[u8], more: &[&str]) -> Vec<u8> {
        let file = format!("{}/f", scratch());
        fs::write(&file, data).unwrap();
        self.run(
            &[&["--local-user", key, "--digest-algo", "SHA512"][..], more, &["--detach-sign", "--output", "-", &file]].concat(),
        )
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").args(["--homedir", &self.home, "--kill", "all"]).status();
    }
}

fn grant(key: &str) -> String {
    format!("grant@sigsh=key={key};host={HOST};max=64")
}

/// Writes the file of operators, and returns its path.
fn operators(certificates: &[u8]) -> String {
    let path = format!("/etc/sigsh/operators-{}.pgp", Path::new(&scratch()).file_name().unwrap().to_str().unwrap());
    fs::write(&path, certificates).unwrap();
    path
}

fn table(operators: &str) -> String {
    format!("endorsement = {{ openpgp = \"{operators}\" }}")
}

fn ask(config: &PathBuf, endorsement: &[u8]) -> Outcome {
    let request = format!("{} --endorsement {}", declare("ed25519", "sha512", b"data"), base64(endorsement));
    Session::new(config).client("build1").request(&request).run(b"data")
}

/// What gpg makes at its own ease, armored or not, of each kind of key; gpgv takes the same signature by the same certificate.
#[test]
fn what_a_certified_build_has_signed_is_signed() {
    let gpg = Gpg::new();
    let operator = gpg.key("Alice <alice@example.org>", "ed25519", "cert,sign");
    let config = guarded("ed25519", &table(&operators(&gpg.run(&["--armor", "--export", &operator]))));
    for (algorithm, notation) in
        [("ed25519", grant("ed25519")), ("rsa2048", grant("ed25519")), ("nistp256", format!("!{}", grant("ed25519")))]
    {
        let build = gpg.key(&format!("build {algorithm}"), algorithm, "sign");
        gpg.certify(&operator, &build, &notation, "7200");
        let (certificate, signature) = (gpg.export(&build), gpg.sign(&build, b"data", &[]));
        let armored = [gpg.run(&["--armor", "--export", &build]), gpg.sign(&build, b"data", &["--armor"])].concat();
        for endorsement in [[certificate.clone(), signature.clone()].concat(), armored] {
            let outcome = ask(&config, &endorsement);
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{algorithm} {outcome:#?}");
            verify("ed25519", &outcome.out, b"data");
            let signed = outcome.records.last().unwrap();
            let names =
                ["SIGSH_EVENT", "SIGSH_ENDORSED", "SIGSH_PERMIT_BY", "SIGSH_PERMIT_SERIAL", "SIGSH_PERMIT_ID", "SIGSH_PERMITS"];
            let permits = format!("openpgp:{operator}:{build}");
            let id = format!("build%20{algorithm}");
            assert_eq!(names.map(|name| field(signed, name)), ["signed", "openpgp", &operator, "", &id, &permits]);
        }
        let files = ["keyring", "f.sig", "f"].map(|name| format!("{}/{name}", scratch()));
        for (file, bytes) in files.iter().zip([&certificate[..], &signature, b"data"]) {
            fs::write(file, bytes).unwrap();
        }
        succeed(Command::new("gpgv").args(["--homedir", &gpg.home, "--keyring"]).args(&files));
    }
}

#[test]
fn through_sshd() {
    let gpg = Gpg::new();
    let operator = gpg.key("Alice", "rsa3072", "cert");
    let build = gpg.key("build", "ed25519", "sign");
    gpg.certify(&operator, &build, &grant("vouched-openpgp"), "7200");
    admit_guarded("vouched-openpgp", "rsa2048", &table(&operators(&gpg.export(&operator))));
    let endorsement = [gpg.export(&build), gpg.sign(&build, b"data", &[])].concat();
    let request = format!("{} --endorsement {}", declare("vouched-openpgp", "sha512", b"data"), base64(&endorsement));
    let outcome = world().ssh("vouched-openpgp", &request, b"data");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    verify("rsa2048", &outcome.out, b"data");
}
