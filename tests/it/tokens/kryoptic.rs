//! Kryoptic, which tests/tokens/kryoptic.sh builds: the one token here with post-quantum keys.

use super::{Judge, Key, Lab, prepares, suite};
use crate::sandbox::misfits;
use crate::trixie;
use crate::world::{account, as_account, scratch, secret, succeed, world};
use sigsh::sandbox::Profile;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const PIN: &str = "47114711";
const STORE: &str = "/var/lib/sigsh/kryoptic";

/// What `sh tests/tokens/NAME.sh` has made.
fn made(name: &str) -> String {
    let script = format!("tests/tokens/{name}.sh");
    let output = succeed(Command::new("sh").arg(script));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The module, where the account can load it.
fn module() -> &'static str {
    static MODULE: OnceLock<&str> = OnceLock::new();
    MODULE.get_or_init(|| {
        let path = "/usr/lib/sigsh-test/kryoptic.so";
        fs::create_dir_all("/usr/lib/sigsh-test").unwrap();
        succeed(Command::new("cp").args([&made("kryoptic"), path]));
        path
    })
}

/// Makes a token of this name, and returns its table.
fn token(name: &str) -> String {
    world();
    let (module, store) = (module(), format!("{STORE}/{name}"));
    fs::create_dir_all(&store).unwrap();
    let (uid, gid) = account();
    for directory in [STORE, &store] {
        chown(directory, Some(uid), Some(gid)).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let config = format!("/etc/sigsh/kryoptic-{name}.conf");
    fs::write(&config, format!("[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = \"{store}/token.sql\"\n")).unwrap();
    let tool = |arguments: &[&str]| {
        let mut command = as_account("pkcs11-tool");
        succeed(command.args(["--module", module]).args(arguments).env("KRYOPTIC_CONF", &config))
    };
    tool(&["--init-token", "--label", name, "--so-pin", "08150815"]);
    tool(&["--init-pin", "--login", "--so-pin", "08150815", "--pin", PIN]);
    format!(
        "module = \"{module}\"\nuri = \"pkcs11:token={name}\"\nsandbox = \"kryoptic\"\nread = [\"{store}\"]\n\
         environment = {{ KRYOPTIC_CONF = \"{config}\" }}\n"
    )
}

/// An sqv that knows RFC 9980; that of Debian 13 does not.
const RFC9980: Judge = Judge {
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
    let mut command = Command::new(made("sqv"));
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

pub fn key(name: &'static str) -> Key {
    Key::new(name, &format!("pkcs11:object={name}"), name)
}

/// A post-quantum key.
pub fn modern(name: &'static str) -> Key {
    Key { judge: RFC9980, ..key(name).v6() }
}

#[test]
#[ignore = "Kryoptic takes ten minutes to build: just tokens"]
fn kryoptic_passes() {
    let named = ["mldsa65-ed25519", "mldsa87-ed448"].map(modern);
    let classical = ["rsa2048", "rsa4096", "nistp256", "nistp384", "nistp521", "ed25519"].map(key);
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
    let keys = ["rsa2048", "nistp256", "nistp521", "ed25519"].map(key).into_iter().chain(pairs).collect();
    let (lab, config) = prepared("kryoptic-rows", keys);
    let sessions = lab.keys.iter().map(|key| (lab.session(&config, &format!("sign {}", key.name)), &b"data"[..]));
    let (_, archive) = super::archive();
    let batch = (lab.session(&config, &format!("sign-tar {}", lab.names())), &archive[..]);
    assert_eq!(misfits(Profile::Kryoptic, sessions.chain([batch]).collect()), [""; 0]);
}
