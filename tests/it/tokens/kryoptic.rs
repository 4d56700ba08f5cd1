//! Kryoptic, which tests/tokens/kryoptic.sh builds: the one token here with post-quantum keys.

use super::{Daemon, Judge, Key, Lab, prepares, suite, suite_by_both, table_of};
use crate::sandbox::misfits;
use crate::trixie;
use crate::world::{Session, blocks, fingerprint, patient, scratch, secret, succeed, world};
use cryptoki_sys::*;
use sigsh::openpgp::Composite;
use sigsh::sandbox::Profile;
use sigsh::token::cryptoki::{Cryptoki, Value};
use sigsh::token::server::Server;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const PIN: &str = "47114711";

/// The path of what this script has built.
fn made(script: &str) -> String {
    let output = succeed(Command::new("sh").arg(script));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The module, where the account can load it.
fn module() -> &'static str {
    static MODULE: OnceLock<&str> = OnceLock::new();
    MODULE.get_or_init(|| {
        let path = "/usr/lib/sigsh-test/kryoptic.so";
        fs::create_dir_all("/usr/lib/sigsh-test").unwrap();
        succeed(Command::new("cp").args([&made("tests/tokens/kryoptic.sh"), path]));
        path
    })
}

fn conf(token: &str) -> String {
    format!("/etc/sigsh/{token}.conf")
}

const GUIDE: &str = "docs/POST-QUANTUM.md";

/// A text of the guide, for a token of this name.
fn of(token: &str, text: &str) -> String {
    let changes = [
        ("/var/lib/sigsh/kryoptic", format!("/var/lib/sigsh/kryoptic/{token}")),
        ("/etc/sigsh/kryoptic.conf", conf(token)),
        ("/etc/sigsh/kryoptic.pin", format!("/etc/sigsh/{token}.pin")),
        ("/usr/local/lib/libkryoptic_pkcs11.so", module().to_owned()),
        ("/root/", "/srv/world/kryoptic-".to_owned()),
        ("modern", token.to_owned()),
    ];
    changes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Makes a token of this name as the guide says, and returns its table.
fn token(name: &str) -> String {
    world();
    for (file, text) in [("pin", PIN), ("so-pin", "08150815")] {
        fs::write(format!("/srv/world/kryoptic-{file}"), text).unwrap();
    }
    succeed(Command::new("sh").args(["-euc", &of(name, &blocks(GUIDE, "```sh\n")[0])]));
    of(name, &table_of(GUIDE))
}

/// An sqv that knows RFC 9980; that of Debian 13 does not.
pub const RFC9980: Judge = Judge {
    detached: |certificate, signature, data| {
        assert!(!trixie::accepts(certificate, signature, data));
        sqv(certificate, &[], signature, Some(data));
    },
    cleartext: |certificate, message| Some(sqv(certificate, &["--cleartext"], message, None)),
};

fn sqv(certificate: &str, more: &[&str], signature: &[u8], data: Option<&[u8]>) -> Vec<u8> {
    let directory = scratch();
    let (sig, file) = (format!("{directory}/sig"), format!("{directory}/data"));
    fs::write(&sig, signature).unwrap();
    let mut command = Command::new(made("tests/sqv.sh"));
    command.args(["--keyring", certificate]).args(more);
    match data {
        Some(data) => {
            fs::write(&file, data).unwrap();
            command.args(["--signature-file", &sig, &file])
        }
        None => command.args(["--output", &file, &sig]),
    };
    succeed(&mut command);
    fs::read(&file).unwrap()
}

/// A post-quantum key.
pub fn modern(name: &'static str) -> Key {
    Key { judge: RFC9980, ..Key::named(name).v6() }
}

#[test]
#[ignore = "Kryoptic takes ten minutes to build: just tokens"]
fn kryoptic_passes() {
    let named = ["mldsa65-ed25519", "mldsa87-ed448"].map(modern);
    let classical = ["rsa2048", "rsa4096", "nistp256", "nistp384", "nistp521", "ed25519"].map(Key::named);
    let keys = classical.into_iter().chain(named).collect();
    suite(&Lab::new("kryoptic", token("kryoptic"), PIN, keys));
}

/// A token of its own, with these keys and their certificates.
pub fn prepared(name: &'static str, keys: Vec<Key>) -> (Lab, PathBuf) {
    let lab = Lab::new(name, token(name), PIN, keys);
    secret(&lab.pin_file(), lab.pin);
    let config = lab.config(&[]);
    prepares(&lab, &config);
    (lab, config)
}

#[test]
#[ignore = "Kryoptic takes ten minutes to build: just tokens"]
fn every_row_of_its_profile_is_needed() {
    let pairs = ["mldsa65-ed25519", "mldsa87-ed448"].map(modern);
    let keys = ["rsa2048", "nistp256", "nistp521", "ed25519"].map(Key::named).into_iter().chain(pairs).collect();
    let (lab, config) = prepared("kryoptic-rows", keys);
    let sessions = lab.keys.iter().map(|key| (lab.session(&config, &format!("sign {}", key.name)), &b"data"[..]));
    let (_, archive) = super::archive();
    let batch = (lab.session(&config, &format!("sign-tar {}", lab.names())), &archive[..]);
    assert_eq!(misfits(Profile::Kryoptic, sessions.chain([batch]).collect()), [""; 0]);
}

/// A p11-kit server that has loaded the module: its socket, for the account's processes and root's.
fn p11_kit(token: &str) -> (Daemon, PathBuf) {
    let socket = PathBuf::from(format!("{}/pkcs11", scratch()));
    let mut server = Command::new("p11-kit");
    server.args(["server", "--foreground", "--name"]).arg(&socket).args(["--provider", module(), &format!("pkcs11:token={token}")]);
    let server = Daemon(server.env("KRYOPTIC_CONF", conf(token)).stdout(Stdio::null()).spawn().unwrap());
    patient(|| socket.exists());
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    (server, socket)
}

/// Such keys behind a p11-kit server, which knows nothing of them and passes all of it on; made through it, too.
#[test]
#[ignore = "Kryoptic takes ten minutes to build: just tokens"]
fn behind_p11_kit_it_passes() {
    token("kryoptic-p11-kit");
    let (_server, socket) = p11_kit("kryoptic-p11-kit");
    let table = format!("server = \"{}\"\nuri = \"pkcs11:token=kryoptic-p11-kit\"\n", socket.display());
    let pairs = ["mldsa65-ed25519", "mldsa87-ed448"].map(modern);
    let keys = [Key::named("rsa2048")].into_iter().chain(pairs).collect();
    suite_by_both(Lab::new("kryoptic-p11-kit", table, PIN, keys), "kryoptic-static");
}

/// What makes objects of a token and takes them away, beside sigsh.
struct Other {
    server: Server<UnixStream>,
    session: u64,
    _daemon: Daemon,
}

impl Other {
    fn of(token: &str) -> Other {
        let (daemon, socket) = p11_kit(token);
        let server = Server::initialize(UnixStream::connect(socket).unwrap()).unwrap();
        let session = server.open(server.slots().unwrap()[0], true).unwrap();
        server.login(session, CKU_USER, PIN.as_bytes()).unwrap();
        Other { server, session, _daemon: daemon }
    }

    fn find(&self, class: u64, kind: u64) -> Vec<u64> {
        let wanted = [(CKA_CLASS, Value::Number(class)), (CKA_KEY_TYPE, Value::Number(kind))];
        self.server.find(self.session, &wanted).unwrap()
    }

    fn destroy(&self, class: u64, kind: u64) {
        let found = self.find(class, kind);
        assert!(!found.is_empty());
        found.into_iter().for_each(|object| self.server.destroy(self.session, object).unwrap());
    }

    fn make(&self, label: &str, mechanism: u64, kind: (u64, Value)) {
        let named = [(CKA_TOKEN, Value::Bool(true)), (CKA_LABEL, Value::Bytes(label.into()))];
        let private = [&named[..], &[(CKA_SIGN, Value::Bool(true)), (CKA_PRIVATE, Value::Bool(true))]].concat();
        self.server.generate(self.session, mechanism, &[&named[..], &[kind]].concat(), &private).unwrap();
    }

    fn ed25519(&self, label: &str) {
        let curve = Composite::MlDsa65Ed25519.curves()[0].to_vec();
        self.make(label, CKM_EC_EDWARDS_KEY_PAIR_GEN, (CKA_EC_PARAMS, Value::Bytes(curve)));
    }

    fn mldsa(&self, label: &str, set: u64) {
        self.make(label, CKM_ML_DSA_KEY_PAIR_GEN, (CKA_PARAMETER_SET, Value::Number(set)));
    }
}

/// A key too many, half a pair, halves of two pairs, halves that no pair has: nothing is signed, and the reason says why.
#[test]
#[ignore = "Kryoptic takes ten minutes to build: just tokens"]
fn what_is_not_exactly_its_pair_signs_nothing() {
    const NAME: &str = "mldsa65-ed25519";
    let (lab, config) = prepared("kryoptic-half", vec![modern(NAME)]);
    let other = Other::of("kryoptic-half");
    let refused = |code, line: &str, reason: &str| {
        let event = if code == 78 { "refused" } else { "failed" };
        lab.session(&config, "sign").run(b"artifact").fails(code, line, event, reason);
    };
    let missing = "the signing key is not in the token, or not alone";
    let half = "the key's uri selects half a post-quantum key";
    let (certificate, another) = ("the key's certificate cannot be used", "is not that of the key in the token");
    let selects = |count| format!("the key's uri selects {count} private keys instead of one");
    lab.signs(&config);
    other.ed25519(NAME);
    refused(69, missing, &selects(3));
    other.destroy(CKO_PRIVATE_KEY, CKK_EC_EDWARDS);
    refused(69, missing, half);
    other.destroy(CKO_PUBLIC_KEY, CKK_EC_EDWARDS);
    other.ed25519(NAME);
    refused(78, certificate, another);
    other.destroy(CKO_PRIVATE_KEY, CKK_ML_DSA);
    refused(69, missing, half);
    other.ed25519(NAME);
    refused(69, missing, &selects(2));
    other.destroy(CKO_PRIVATE_KEY, CKK_EC_EDWARDS);
    other.destroy(CKO_PUBLIC_KEY, CKK_EC_EDWARDS);
    other.destroy(CKO_PUBLIC_KEY, CKK_ML_DSA);
    refused(69, missing, &selects(0));
    // Each half is one of some pair, and they are not of the same.
    other.mldsa(NAME, Composite::MlDsa87Ed448.parameter_set());
    other.ed25519(NAME);
    refused(78, certificate, another);
    let new = lab.config(&[("mldsa65-ed25519.pgp", "new.pgp")]);
    let mut create = lab.admin(&new);
    let output = create.args(["certificate", "create", NAME, "--openpgp", "v6", "--user-id", "x"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("the token's two keys are not a pair of RFC 9980"), "{said}");
}

/// Where the token cannot make the second pair, the first is gone again.
#[test]
#[ignore = "Kryoptic takes ten minutes to build: just tokens"]
fn both_pairs_are_made_or_none() {
    const NAME: &str = "mldsa65-ed25519";
    let lab = Lab::new("kryoptic-none", token("kryoptic-none"), PIN, vec![modern(NAME)]);
    secret(&lab.pin_file(), lab.pin);
    let config = lab.config(&[]);
    let admin = |arguments: &[&str]| {
        let output = lab.admin(&config).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let generate = || admin(&["key", "generate", NAME, "--algorithm", NAME]);
    let able = fs::read_to_string(conf("kryoptic-none")).unwrap();
    for mechanism in ["CKM_EC_EDWARDS_KEY_PAIR_GEN", "CKM_ML_DSA_KEY_PAIR_GEN"] {
        fs::write(conf("kryoptic-none"), format!("{able}mechanisms = [\"DENY\", \"{mechanism}\"]\n")).unwrap();
        let expected = "sigsh-admin: error: the module failed: C_GenerateKeyPair returned CKR_MECHANISM_INVALID\n";
        assert_eq!(generate(), (false, expected.to_owned()));
    }
    fs::write(conf("kryoptic-none"), able).unwrap();
    let other = Other::of("kryoptic-none");
    let left =
        || [CKO_PRIVATE_KEY, CKO_PUBLIC_KEY].map(|class| [CKK_ML_DSA, CKK_EC_EDWARDS].map(|kind| other.find(class, kind).len()));
    assert_eq!(left(), [[0, 0], [0, 0]]);
    let (good, said) = generate();
    assert!(good && said.ends_with("next: sigsh-admin certificate create mldsa65-ed25519 --openpgp v6 --user-id 'Name <mail>'\n"));
    assert_eq!(left(), [[1, 1], [1, 1]]);
    assert_eq!(generate(), (false, "sigsh-admin: error: the token already has a private key that this uri selects\n".to_owned()));
    let (good, said) = admin(&["certificate", "create", NAME, "--user-id", "x"]);
    let hint = "sigsh-admin: error: a post-quantum key makes certificates and signatures of version 6 alone\n\
                sigsh-admin: hint: say --openpgp v6; the verifiers that know version 4 alone know no such key\n";
    assert_eq!((good, said.as_str()), (false, hint));
    assert!(!PathBuf::from(lab.certificate(&lab.keys[0])).exists());
}

#[test]
#[ignore = "Kryoptic takes ten minutes to build: just tokens"]
fn the_guide_works_as_it_stands() {
    token("modern");
    let config = "/etc/sigsh/modern.toml";
    let client = format!("[client.build1]\nssh-keys = [\"{}\"]\nkeys = [\"release-pq\"]\n", fingerprint("build1"));
    fs::write(config, format!("account = \"signer\"\n{}{client}", of("modern", &blocks(GUIDE, "```toml\n")[0]))).unwrap();
    let commands = of("modern", &blocks(GUIDE, "```sh\n")[1]).replace("sigsh-admin", &format!("sigsh-admin --config {config}"));
    succeed(Command::new("sh").args(["-euc", commands.split_once("sigsh-admin --config /etc/sigsh/modern.toml check").unwrap().0]));
    let outcome = Session::new(config).client("build1").request("sign").run(b"artifact");
    (RFC9980.detached)("/etc/sigsh/release-pq.pgp", outcome.signature(), b"artifact");
}
