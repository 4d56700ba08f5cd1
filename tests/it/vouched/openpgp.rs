//! What a build endorses by an OpenPGP key that an operator has certified for it, both by gpg.

use crate::vouched::{LONG, MOST, admit_guarded, base64, declare, ends_in_time, guarded, reading};
use crate::world::{HOME, HOST, Outcome, Session, blocks, field, finish_child, scratch, ssh_key, succeed, verify, world};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

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
    pub fn at(&self, clock: i64) -> Gpg {
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
    pub fn sign(&self, key: &str, data: &[u8], more: &[&str]) -> Vec<u8> {
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

pub fn grant(key: &str) -> String {
    format!("grant@sigsh=key={key};host={HOST};max=64")
}

/// Writes the file of operators, and returns its path.
pub fn operators(certificates: &[u8]) -> String {
    let path = format!("/etc/sigsh/operators-{}.pgp", Path::new(&scratch()).file_name().unwrap().to_str().unwrap());
    fs::write(&path, certificates).unwrap();
    path
}

pub fn table(operators: &str) -> String {
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
            let known = names.map(|name| field(signed, name));
            let (name, second) = known[5].rsplit_once(':').unwrap();
            assert_eq!([&known[..5], &[name]].concat(), ["signed", "openpgp", &operator, "", &id, &permits]);
            assert!(second.parse::<u64>().is_ok_and(|second| second > 1_700_000_000), "{second}");
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

/// Whoever has not certified it, whatever else it says, and whatever else is sent: refused before a byte is read or after all are, and
/// recorded. `{}` stands for the key.
#[test]
fn nothing_else_is_taken() {
    let gpg = Gpg::new();
    let operator = gpg.at(-9000).key("Alice", "ed25519", "cert,sign");
    let config = guarded("ed25519", &table(&operators(&gpg.export(&operator))));
    let new = |name: &str| gpg.at(-8000).key(name, "ed25519", "sign");
    let both = |build: &str| [gpg.export(build), gpg.sign(build, b"data", &[])].concat();
    let grant = grant("ed25519");
    let refused = |endorsement: &[u8], what: &str| {
        let outcome = ask(&config, endorsement);
        outcome.fails(77, &format!("the endorsement {what}"), "refused", what);
        // Nothing of its signature is verified.
        assert_eq!(field(outcome.records.last().unwrap(), "SIGSH_ENDORSED"), "", "{what}");
    };

    refused(&both(&new("nobody's")), "is by a key that none of this key's operators has certified");
    let stranger = new("Mallory");
    for (number, (by, clock, notation, seconds, what)) in [
        (
            &operator,
            0,
            "x@sigsh=y".to_owned(),
            "7200",
            "has a certification with 0 notations grant@sigsh, where one permits a build",
        ),
        (&operator, 0, grant.replace("key=ed25519", "key=rsa2048"), "7200", "is for another key"),
        (&operator, 0, grant.replace("sign1", "sign2"), "7200", "is for another host"),
        (&operator, 0, grant.replace("host", "fleet"), "7200", TERMS),
        (&operator, 0, grant.replace("=64", "=0"), "7200", TERMS),
        (&operator, 0, grant.clone(), "86401", "has a certification that is good for longer than this key allows"),
        (&operator, -7201, grant.clone(), "7200", "has a certification that has expired"),
        (&operator, 60, grant.clone(), "7200", "has a certification from the future: one of the two clocks is wrong"),
        (&stranger, 0, grant.clone(), "7200", "is by a key that none of this key's operators has certified"),
    ]
    .into_iter()
    .enumerate()
    {
        let build = new(&format!("build {number}"));
        gpg.at(clock).certify(by, &build, &notation, seconds);
        refused(&both(&build), what);
    }
    let forever = new("for ever");
    let certify =
        ["--local-user", &operator, "--cert-notation", &grant, "--default-cert-expire", "0", "--quick-sign-key", &forever];
    gpg.run(&certify);
    refused(&both(&forever), "has a certification that never expires: gpg --default-cert-expire seconds=7200 gives it two hours");

    let build = new("good");
    gpg.certify(&operator, &build, &grant, "7200");
    let (certificate, signature) = (gpg.export(&build), gpg.sign(&build, b"data", &[]));
    let with = |signature: &[u8]| [&certificate[..], signature].concat();
    assert_eq!(ask(&config, &with(&signature)).code, Some(0));
    for (endorsement, what) in [
        (with(&gpg.sign(&build, b"data", &["--textmode"])), "is a signature of a text: gpg --no-textmode"),
        (
            with(&gpg.sign(&build, b"data", &["--digest-algo", "SHA256"])),
            "is hashed by SHA256, and this key's signatures by SHA512: gpg --digest-algo SHA512",
        ),
        (with(&gpg.sign(&build, b"dat4", &[])), "is not over this artifact, or says more than who has made it"),
        (with(&gpg.at(-60).sign(&build, b"data", &[])), "was made before its key was certified"),
        (with(&gpg.at(60).sign(&build, b"data", &[])), "was made in the future: one of the two clocks is wrong"),
        (with(&gpg.sign(&stranger, b"data", &[])), "is not by a key of its certificate that may sign"),
        (certificate.clone(), NO_SIGNATURE),
        (signature.clone(), "does not begin with the build's certificate"),
        ([&signature[..], &certificate].concat(), "does not begin with the build's certificate"),
        (with(&[&signature[..], &signature].concat()), "has more than one signature"),
        (with(&with(&signature)), "has more than one certificate"),
        (with(&signature[..signature.len() - 1]), "is cut off, or not made of OpenPGP packets"),
        (with(&[&signature[..], b"\n"].concat()), "is cut off, or not made of OpenPGP packets"),
        (
            gpg.run(&["--local-user", &build, "--sign", "--output", "-", "/etc/hostname"]),
            "does not begin with the build's certificate",
        ),
        (gpg.run(&["--export-secret-keys", &build]), "holds a secret key: send the public one alone, and take a new one"),
        (b"Hello, this is a build.".to_vec(), NO_ARMOR),
    ] {
        refused(&endorsement, what);
    }

    // What this host itself has signed, by a key that an operator has certified by mistake.
    gpg.run(&["--import", "/etc/sigsh/rsa2048.pgp"]);
    let own = gpg.run(&["--with-colons", "--show-keys", "/etc/sigsh/rsa2048.pgp"]);
    let own =
        String::from_utf8(own).unwrap().lines().find(|line| line.starts_with("fpr")).unwrap().split(':').nth(9).unwrap().to_owned();
    gpg.certify(&operator, &own, &grant, "7200");
    let signed = Session::new(&config).client("build1").request("sign rsa2048").run(b"data");
    refused(&[gpg.export(&own), signed.signature().to_vec()].concat(), "is by a key of this host, which endorses nothing");

    // Taken back: by the operator's own list, and in what gpg exports.
    for (key, what) in
        [(&build, "is by a key that is revoked here"), (&operator, "is certified by an operator whose key is revoked here")]
    {
        let list = format!("/etc/sigsh/revoked-{key}");
        fs::write(&list, format!("openpgp: {key}\n")).unwrap();
        let more = format!("openpgp = \"{}\", revoked = \"{list}\"", operators(&gpg.export(&operator)));
        let config = guarded("ed25519", &format!("endorsement = {{ {more} }}"));
        ask(&config, &with(&signature)).fails(77, &format!("the endorsement {what}"), "refused", what);
    }
    gpg.run(&["--quick-revoke-sig", &build, &operator]);
    refused(&both(&build), "has a certificate in which something is revoked");
}

const TERMS: &str = "has a certification whose grant@sigsh is not a text like key=KEY;host=HOST;max=64";
const NO_SIGNATURE: &str = "does not end with the build's signature: its certificate comes first";
const NO_ARMOR: &str = "is not an armored certificate with an armored signature behind it, and nothing else";

/// What ends while the artifact is on its way is not signed, nor when the file of operators is another one by then.
#[test]
fn it_must_still_hold_when_the_last_byte_has_come() {
    let gpg = Gpg::new();
    let operator = gpg.at(-9000).key("Alice", "ed25519", "cert");
    let path = operators(&gpg.export(&operator));
    let config = guarded("ed25519", &table(&path));
    let request = |seconds: u64| {
        let build = gpg.at(-8000).key(&format!("build {seconds}"), "ed25519", "sign");
        gpg.at(seconds as i64 - 7200).certify(&operator, &build, &grant("ed25519"), "7200");
        // gpg looks at the clock, too: a moment earlier.
        let end = SystemTime::now() + Duration::from_secs(seconds);
        let endorsement = [gpg.export(&build), gpg.sign(&build, LONG, &[])].concat();
        (format!("{} --endorsement {}", declare("ed25519", "sha512", LONG), base64(&endorsement)), end)
    };
    let what = "the endorsement has a certification that has expired";
    ends_in_time(&config, request).fails(77, what, "refused", what);

    let (child, is_read) = reading(&config, &request(7000).0);
    assert!(is_read);
    fs::copy(&path, format!("{path}.new")).unwrap();
    fs::rename(format!("{path}.new"), &path).unwrap();
    let changed = "what says who may endorse or approve has changed";
    finish_child(child, &LONG[MOST..]).fails(75, changed, "refused", changed);
}

/// A file of operators that cannot be what was meant: the operator of the host must mend it.
#[test]
fn the_file_of_operators_is_right_or_nothing_is_signed() {
    let gpg = Gpg::new();
    let operator = gpg.key("Alice", "ed25519", "cert");
    let signer = gpg.run(&["--export", &gpg.key("Bob", "ed25519", "cert,sign")]);
    let good = gpg.export(&operator);
    for (bytes, why) in [
        (Vec::new(), ":1:1: the certificate file is empty"),
        (b"Alice\n".to_vec(), ":1:1: the certificate cannot be read: "),
        (good[..good.len() / 2].to_vec(), ":1:1: the certificate cannot be read: "),
        (gpg.run(&["--export-secret-keys", &operator]), ":1:1: the certificate holds a secret key; export the public one alone"),
        (gpg.run(&["--armor", "--export-secret-keys", &operator]), "the certificate holds a secret key"),
        ([&good[..], &signer[..20]].concat(), "the certificate cannot be read: "),
    ] {
        let path = operators(&bytes);
        ask(&guarded("ed25519", &table(&path)), b"x").fails(
            78,
            NOT_SET_UP,
            "refused",
            &format!("{path}{why}").replace(&format!("{path}the"), "the"),
        );
    }
    let path = operators(&good);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    ask(&guarded("ed25519", &table(&path)), b"x").fails(78, NOT_SET_UP, "refused", "is writable by group or others");
    ask(&guarded("ed25519", &table("/etc/sigsh/nobody.pgp")), b"x").fails(
        78,
        NOT_SET_UP,
        "refused",
        "cannot open /etc/sigsh/nobody.pgp",
    );
}

/// Within the sandbox: no path that a parser takes, and no error that it makes, needs a system call that would kill the session.
#[test]
fn whatever_is_sent_is_refused_by_a_word() {
    let gpg = Gpg::new();
    let (operator, build) = (gpg.key("Alice", "ed25519", "cert"), gpg.key("build", "ed25519", "sign"));
    gpg.certify(&operator, &build, &grant("ed25519"), "7200");
    let config = guarded("ed25519", &table(&operators(&gpg.export(&operator))));
    let mut all = vec![[gpg.export(&build), gpg.sign(&build, b"data", &[])].concat()];
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/openpgp_endorsement");
    all.extend(fs::read_dir(directory).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()));
    for at in 0..8 {
        let mut bad = all[0].clone();
        let place = at * bad.len() / 8;
        bad[place] ^= 1 << at;
        all.push(bad);
    }
    for bytes in all {
        let outcome = ask(&config, &bytes);
        // Not all bits of a certificate are signed.
        let is_taken = outcome.code == Some(0) && outcome.err.is_empty();
        let is_refused = outcome.code == Some(77) && outcome.out.is_empty();
        let told = outcome.err.starts_with("sigsh: error: the endorsement ");
        assert!(is_taken || is_refused && told, "{} {outcome:#?}", base64(&bytes));
    }
}

/// docs/OPENPGP.md, block by block: operator and build have a keyring each.
#[test]
fn the_guide_signs() {
    let (operator, build, client) = (Gpg::new(), Gpg::new(), "openpgp-guide");
    operator.key("Alice <alice@example.org>", "ed25519", "cert,sign");
    let directory = scratch();
    let path = format!("{directory}/bin");
    fs::create_dir(&path).unwrap();
    let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F {HOME}/ssh_config -i {} signer@127.0.0.1 \"$2\"\n", ssh_key(client));
    fs::write(format!("{path}/ssh"), ssh).unwrap();
    fs::set_permissions(format!("{path}/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(format!("{directory}/hello.tar.gz"), b"data").unwrap();
    let step = |name: &str, gpg: &Gpg| {
        let [block] = &blocks("docs/OPENPGP.md", &format!("<!-- test: {name} -->\n```sh\n"))[..] else { panic!("{name}") };
        let block = block.replace("sign release", &format!("sign {client}")).replace("key=release", &format!("key={client}"));
        let path = format!("{path}:{}", std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        succeed(command.args(["-euc", &block]).current_dir(&directory).env("PATH", path).env("GNUPGHOME", &gpg.home));
    };
    step("once", &operator);
    step("host", &operator);
    admit_guarded(client, "rsa2048", &table("/etc/sigsh/operators.pgp"));
    step("key", &build);
    step("permit", &operator);
    step("endorse", &build);
    verify("rsa2048", &fs::read(format!("{directory}/hello.tar.gz.sig")).unwrap(), b"data");
}

const NOT_SET_UP: &str = "sigsh is not set up properly on this host";
