//! One suite of signing tests for every kind of token and every build: [`suite`] of a [`Lab`]. Each token's own file sets its lab up.

// What is measured is for whoever runs this with `--nocapture`, as tests/tokens.sh does.
#![allow(clippy::print_stdout)]

pub mod card;
pub mod kryoptic;
mod network;
pub mod p11kit;
mod peer;
pub mod softhsm;
pub mod tpm;

use crate::batch::{END, entry, signatures};
use crate::token::alone;
use crate::trixie;
use crate::world::{
    CONFIG, HOME, Outcome, Session, blocks, field, fingerprint, finish, finish_child, free_port, patient, scratch, secret,
    sshd_config, static_build, succeed, verify, world,
};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

const MISSING: &str = "the signing key is not in the token, or not alone";
const PIN_REFUSED: &str = "the token does not accept its PIN";
const FILES: usize = 20;

/// A state that has taken in "hello", by SHA-512.
const HELLO: &[u8] = include_bytes!("../../fuzz/corpus/state_document/client-short");

/// A token that is there and initialised, and what is to be tried with it.
pub struct Lab {
    /// The token's name in the configuration, and what files of this lab are called by.
    pub name: &'static str,
    /// Its table, without the header and `pin-file`.
    pub table: String,
    pub pin: &'static str,
    pub keys: Vec<Key>,
    /// Where `sigsh` and `sigsh-admin` of the build under test are, for the account to run.
    pub programs: PathBuf,
    /// What an operator does to a token that was given a wrong PIN, before sigsh may give it the right one.
    pub forgive: Option<fn()>,
}

/// A key of a token.
pub struct Key {
    pub name: &'static str,
    pub uri: String,
    /// The algorithm by which `sigsh-admin key generate` makes it; `None` for one that is in the token already.
    pub generate: Option<&'static str>,
    /// Of its certificate: `v4` or `v6`.
    pub openpgp: &'static str,
    pub hash: &'static str,
    pub judge: Judge,
}

/// Who else must accept the signatures of a key, by its certificate's path.
#[derive(Clone, Copy)]
pub struct Judge {
    /// Demands that a detached signature is good for these data.
    pub detached: fn(&str, &[u8], &[u8]),
    /// The text of a cleartext-signed message that is good.
    pub cleartext: fn(&str, &[u8]) -> Option<Vec<u8>>,
}

/// gpgv and sqv.
pub const V4: Judge = Judge { detached: verified, cleartext: gpgv };
/// The sqv of Debian 13.
pub const V6: Judge = Judge { detached: trixie::verify, cleartext: trixie::cleartext };

/// The suite for a token behind a server, by both builds: the static one under this name, with the keys that are there then.
pub fn suite_by_both(lab: Lab, name: &'static str) {
    suite(&lab);
    if let Some(programs) = static_build() {
        let keys = lab.keys.into_iter().map(Key::present).collect();
        suite(&Lab { name, keys, programs: programs.to_owned(), ..lab });
    }
}

/// A process that a token needs, and that ends with its test.
pub struct Daemon(pub Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn verified(certificate: &str, signature: &[u8], data: &[u8]) {
    let name = certificate.strip_prefix("/etc/sigsh/").and_then(|name| name.strip_suffix(".pgp"));
    verify(name.unwrap(), signature, data);
}

fn gpgv(certificate: &str, message: &[u8]) -> Option<Vec<u8>> {
    let directory = scratch();
    let (file, text) = (format!("{directory}/message"), format!("{directory}/text"));
    fs::write(&file, message).unwrap();
    let mut command = Command::new("gpgv");
    let good = command.args(["--keyring", certificate, "--output", &text, &file]).env("GNUPGHOME", HOME).output().unwrap();
    good.status.success().then(|| fs::read(&text).unwrap())
}

impl Key {
    /// One for `key generate`, with a certificate of version 4 and signatures by SHA-512.
    pub fn new(name: &'static str, uri: &str, algorithm: &'static str) -> Key {
        Key { name, uri: uri.to_owned(), generate: Some(algorithm), openpgp: "v4", hash: "sha512", judge: V4 }
    }

    /// One whose name is its label and its algorithm.
    pub fn named(name: &'static str) -> Key {
        Key::new(name, &format!("pkcs11:object={name}"), name)
    }

    /// The same, in the token already.
    pub fn present(self) -> Key {
        Key { generate: None, ..self }
    }

    /// The same with a certificate of version 6.
    pub fn v6(self) -> Key {
        Key { openpgp: "v6", judge: V6, ..self }
    }
}

impl Lab {
    /// With the programs of the host.
    pub fn new(name: &'static str, table: String, pin: &'static str, keys: Vec<Key>) -> Lab {
        Lab { name, table, pin, keys, programs: "/usr/bin".into(), forgive: None }
    }

    pub fn pin_file(&self) -> String {
        format!("/etc/sigsh/{}.pin", self.name)
    }

    pub fn certificate(&self, key: &Key) -> String {
        format!("/etc/sigsh/{}-{}.pgp", self.name, key.name)
    }

    /// Writes a configuration with these changes, and returns its path.
    pub fn config(&self, changes: &[(&str, &str)]) -> PathBuf {
        let (name, pin_file) = (self.name, self.pin_file());
        let mut text = format!("account = \"signer\"\n[token.{name}]\npin-file = \"{pin_file}\"\n{}\n", self.table.trim_end());
        for key in &self.keys {
            let (key_name, uri, hash, certificate) = (key.name, &key.uri, key.hash, self.certificate(key));
            text += &format!(
                "[key.{key_name}]\ntoken = \"{name}\"\nuri = \"{uri}\"\nhash = \"{hash}\"\ncertificate = \"{certificate}\"\n"
            );
        }
        let keys = self.keys.iter().map(|key| format!("\"{}\"", key.name)).collect::<Vec<_>>().join(", ");
        text += &format!(
            "[client.build1]\nssh-keys = [\"{}\"]\nkeys = [{keys}]\ninputs = [\"artifact\", \"tar\", \"state\"]\n[limits]\n\
             sessions = 4096\nrefusals = \"1000000/s\"\n",
            fingerprint("build1")
        );
        for (from, to) in changes {
            assert!(text.contains(from), "{from} in {text}");
            text = text.replace(from, to);
        }
        let path = format!("/etc/sigsh/{}.toml", scratch().rsplit('/').next().unwrap());
        fs::write(&path, text).unwrap();
        path.into()
    }

    fn admin(&self, config: &Path) -> Command {
        let mut command = Command::new(self.programs.join("sigsh-admin"));
        command.arg("--config").arg(config);
        command
    }

    pub fn session(&self, config: &Path, request: &str) -> Session {
        let mut session = Session::of(self.programs.join("sigsh").to_str().unwrap(), config).client("build1").request(request);
        session.command.process_group(0);
        session
    }

    fn names(&self) -> String {
        self.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(" ")
    }

    /// A signature by the first key, which must be good.
    #[track_caller]
    pub fn signs(&self, config: &Path) {
        let outcome = self.session(config, "sign").run(b"still there");
        (self.keys[0].judge.detached)(&self.certificate(&self.keys[0]), outcome.signature(), b"still there");
    }
}

/// The first table of a guide's token, as a lab has it.
fn table_of(guide: &str) -> String {
    let toml = &blocks(guide, "```toml\n")[0];
    let table = toml.split_once("[token.").unwrap().1.split("\n[").next().unwrap();
    table.lines().skip(1).filter(|line| !line.starts_with("pin-file")).map(|line| format!("{line}\n")).collect()
}

/// What is tried, and how.
type Step = (&'static str, fn(&Lab, &Path));

/// All that a token is tried with. Leaves it as it was, but for new keys.
pub fn suite(lab: &Lab) {
    world();
    secret(&lab.pin_file(), lab.pin);
    let config = lab.config(&[]);
    let steps: [Step; 10] = [
        ("keys and certificates", prepares),
        ("every key signs in every form", every_form),
        ("a tar", a_tar),
        ("states", states),
        ("through sshd", through_sshd),
        ("eight sessions at once", eight_at_once),
        ("a key that is not there", no_such_key),
        ("killed while it signs", killed),
        ("a wrong PIN", wrong_pin),
        ("check", check),
    ];
    for (name, step) in steps {
        let began = Instant::now();
        step(lab, &config);
        println!("{}: {name}: {} ms", lab.name, began.elapsed().as_millis());
    }
}

pub fn prepares(lab: &Lab, config: &Path) {
    for key in &lab.keys {
        if let Some(algorithm) = key.generate {
            succeed(lab.admin(config).args(["key", "generate", key.name, "--algorithm", algorithm]));
        }
        let id = format!("Test {0} <{0}@example.org>", key.name);
        succeed(lab.admin(config).args(["certificate", "create", key.name, "--openpgp", key.openpgp, "--user-id", &id]));
    }
}

fn every_form(lab: &Lab, config: &Path) {
    for key in &lab.keys {
        let certificate = lab.certificate(key);
        let data = b"dashes, too:\n- a line \n".repeat(45);
        for more in ["", " --armor", " --type text"] {
            let outcome = lab.session(config, &format!("sign {}{more}", key.name)).run(&data);
            (key.judge.detached)(&certificate, outcome.signature(), &data);
            assert_eq!(outcome.out.starts_with(b"-----BEGIN PGP SIGNATURE-----\n"), more == " --armor");
            println!("{}: sign {}{more}: {} ms", lab.name, key.name, outcome.took.as_millis());
        }
        let outcome = lab.session(config, &format!("sign {} --cleartext", key.name)).run(b"a line\n- another\n");
        let text = (key.judge.cleartext)(&certificate, outcome.signature()).unwrap();
        // The last line feed belongs to what follows (RFC 9580 §7.2): verifiers give it back or not.
        assert_eq!(text.trim_ascii_end(), b"a line\n- another");
        let outcome = lab.session(config, &format!("certificate {}", key.name)).run(b"");
        assert_eq!((outcome.code, outcome.out), (Some(0), fs::read(&certificate).unwrap()));
    }
}

/// Files of 1 KiB.
pub fn archive() -> (Vec<Vec<u8>>, Vec<u8>) {
    let files = (0..FILES).map(|number| vec![b'a' + number as u8; 1024]).collect::<Vec<_>>();
    let entries = files.iter().enumerate().map(|(number, file)| entry(format!("{number}").as_bytes(), file));
    let archive = entries.chain([END.to_vec()]).collect::<Vec<_>>().concat();
    (files, archive)
}

fn a_tar(lab: &Lab, config: &Path) {
    let (files, archive) = archive();
    let outcome = lab.session(config, &format!("sign-tar {}", lab.names())).run(&archive);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    println!("{}: {FILES} files signed by {} keys: {} ms", lab.name, lab.keys.len(), outcome.took.as_millis());
    let found = signatures(&outcome.out);
    assert_eq!(found.len(), FILES * lab.keys.len());
    for key in &lab.keys {
        for number in [0, FILES - 1] {
            let one = lab.keys.len() == 1;
            let name = if one { format!("{number}.sig") } else { format!("{number}.{}.sig", key.name) };
            let (_, signature) = found.iter().find(|(found, _)| *found == name.as_bytes()).unwrap_or_else(|| panic!("{name}"));
            (key.judge.detached)(&lab.certificate(key), signature, &files[number]);
        }
    }
}

fn states(lab: &Lab, config: &Path) {
    for key in lab.keys.iter().filter(|key| (key.openpgp, key.hash) == ("v4", "sha512")) {
        let outcome = lab.session(config, &format!("sign-state {}", key.name)).run(&[HELLO, b"\n", HELLO].concat());
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
        let lines = outcome.out.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>();
        assert_eq!(lines.len(), 2);
        for line in lines {
            let response = serde_json::from_slice::<Value>(line).unwrap();
            (key.judge.detached)(&lab.certificate(key), response["signature"].as_str().unwrap().as_bytes(), b"hello");
        }
    }
}

/// sshd starts sigsh with no other configuration than the host's, and no other program; so for this sshd they are other files.
fn through_sshd(lab: &Lab, config: &Path) {
    let (port, directory) = (free_port(), scratch());
    let sshd_config = sshd_config(&format!("{directory}/sshd"), port, "");
    let script = format!(
        "mount --bind {} {CONFIG} && mount --bind {}/sigsh /usr/bin/sigsh && exec /usr/sbin/sshd -D -e -f {sshd_config}",
        config.display(),
        lab.programs.display()
    );
    let log = File::create(format!("{directory}/log")).unwrap();
    let _sshd = Daemon(Command::new("unshare").args(["--mount", "sh", "-c", &script]).stderr(log).spawn().unwrap());
    patient(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
    let key = &lab.keys[0];
    let mut command = world().ssh_command("build1");
    command.args(["-p", &port.to_string(), &format!("sign {}", key.name)]);
    let outcome = finish(command, b"over ssh");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    (key.judge.detached)(&lab.certificate(key), &outcome.out, b"over ssh");
}

/// Each with the next key.
fn eight_at_once(lab: &Lab, config: &Path) {
    let keys = lab.keys.iter().cycle().take(8);
    let data = |number: usize| format!("session {number}").into_bytes();
    let sessions = keys.map(|key| (key, lab.session(config, &format!("sign {}", key.name)).start())).collect::<Vec<_>>();
    for (number, (key, child)) in sessions.into_iter().enumerate() {
        let outcome = finish_child(child, &data(number));
        (key.judge.detached)(&lab.certificate(key), outcome.signature(), &data(number));
    }
}

fn no_such_key(lab: &Lab, _: &Path) {
    let uri = format!("uri = \"{}\"", lab.keys[0].uri);
    let absent = lab.config(&[(&uri, "uri = \"pkcs11:object=absent\"")]);
    let outcome = lab.session(&absent, "sign").run(b"artifact");
    outcome.fails(69, MISSING, "failed", "the key's uri selects 0 private keys instead of one");
}

/// A session that is killed with signatures under way leaves nothing behind that others would stumble over.
fn killed(lab: &Lab, config: &Path) {
    let mut child = lab.session(config, &format!("sign-tar {}", lab.names())).start();
    let (group, mut stdin) = (child.id(), child.stdin.take().unwrap());
    std::thread::scope(|scope| {
        // Who is killed reads no more.
        scope.spawn(move || drop(stdin.write_all(&archive().1)));
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        killpg(Pid::from_raw(group as i32), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    });
    alone(group);
    lab.signs(config);
}

/// Of several sessions with one wrong PIN, one logs in. The right PIN, in a file that has changed, is taken again.
fn wrong_pin(lab: &Lab, config: &Path) {
    let mut wrong = lab.pin.to_owned();
    let last = if wrong.pop() == Some('0') { '1' } else { '0' };
    secret(&lab.pin_file(), &format!("{wrong}{last}"));
    let sessions = [(); 4].map(|()| lab.session(config, "sign").start());
    let outcomes = sessions.map(|child| finish_child(child, b"artifact"));
    let mut reasons = outcomes.iter().map(pin_refused).collect::<Vec<_>>();
    reasons.sort();
    let tried = "the PIN in this PIN file was wrong, or its first use failed; it is not tried again";
    assert_eq!(reasons, [tried, tried, tried, "the PIN is wrong"]);
    if let Some(forgive) = lab.forgive {
        forgive();
    }
    secret(&lab.pin_file(), lab.pin);
    lab.signs(config);
}

fn pin_refused(outcome: &Outcome) -> &str {
    outcome.fails(69, PIN_REFUSED, "failed", "PIN");
    field(outcome.records.last().unwrap(), "SIGSH_REASON")
}

fn check(lab: &Lab, config: &Path) {
    let output = lab.admin(config).args(["check", "--sshd-config", &format!("{HOME}/sshd_config")]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for key in &lab.keys {
        assert!(said.lines().any(|line| line.starts_with(&format!("ok: key '{}' signs; certificate ", key.name))), "{said}");
    }
    let errors = said.lines().filter(|line| line.starts_with("error: ")).collect::<Vec<_>>();
    assert_eq!(errors, [""; 0], "{said}");
}
