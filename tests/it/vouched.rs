//! Keys that sign only what a build has endorsed and people have approved. Whoever vouches does it by ssh-keygen, gpg or Python, as
//! people will.

mod approvals;
mod audited;
mod break_glass;
mod check;
mod client;
mod counts;
mod krl;
mod mac;
mod openpgp;
mod ssh;
mod sshsig;

use crate::world::{HOST, admit, changed, configuration, scratch, succeed, world};
use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256, Sha512};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A configuration in which this key of the world's demands something: `table` is what its table says besides.
pub fn guarded(key: &str, table: &str) -> PathBuf {
    world();
    let certificate = format!("certificate = \"/etc/sigsh/{key}.pgp\"\n");
    changed(&[(&certificate, &format!("{certificate}{table}\n"))])
}

/// Lets a client in over ssh, which may use one key alone: of its own name, with this in its table, and the world's `key` in the token.
pub fn admit_guarded(client: &str, key: &str, table: &str) {
    world();
    // A token and a certificate that are called otherwise: two tables of one object are refused.
    let text = configuration();
    let token = text.split("[token.hsm]").nth(1).unwrap().split("[key").next().unwrap();
    fs::copy(format!("/etc/sigsh/{key}.pgp"), format!("/etc/sigsh/{client}.pgp")).unwrap();
    admit(
        client,
        &format!(
            "keys = [\"{client}\"]\n[key.{client}]\ntoken = \"{client}\"\nuri = \"pkcs11:object={key}\"\n\
             certificate = \"/etc/sigsh/{client}.pgp\"\n{table}\n[token.{client}]{token}"
        ),
    );
}

/// The words that ask for a signature over this, with what a guarded key wants to know.
pub fn declare(key: &str, hash: &str, data: &[u8]) -> String {
    let digest = match hash {
        "sha256" => hex::encode(Sha256::digest(data)),
        "sha512" => hex::encode(Sha512::digest(data)),
        other => panic!("{other}"),
    };
    format!("sign {key} --size {} --digest {hash}:{digest}", data.len())
}

/// Base64, on one line.
pub fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// What an armor holds.
pub fn dearmor(text: &[u8]) -> Vec<u8> {
    let lines = std::str::from_utf8(text).unwrap().lines();
    Base64::decode_vec(&lines.filter(|line| !line.starts_with("---")).collect::<String>()).unwrap()
}

/// A new ssh key without a passphrase: `ed25519`, `rsa-2048`, `ecdsa-256`.
pub fn new_key(kind: &str) -> String {
    let path = format!("{}/key", scratch());
    let (algorithm, bits) = kind.split_once('-').unwrap_or((kind, ""));
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", algorithm, "-N", "", "-C", "", "-f", &path]);
    if !bits.is_empty() {
        command.args(["-b", bits]);
    }
    succeed(&mut command);
    path
}

/// The fingerprint of an ssh key.
pub fn print(key: &str) -> String {
    let output = succeed(Command::new("ssh-keygen").args(["-l", "-f", &format!("{key}.pub")]));
    String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}

/// Has an authority certify an ssh key, and returns the certificate's path.
#[track_caller]
pub fn certify(ca: &str, key: &str, arguments: &[&str]) -> String {
    succeed(Command::new("ssh-keygen").args(["-q", "-s", ca]).args(arguments).arg(format!("{key}.pub")));
    format!("{key}-cert.pub")
}

/// Has an ssh key, or the key of a certificate, sign this: `more` are further arguments.
#[track_caller]
pub fn ssh_sign(key: &str, namespace: &str, data: &[u8], more: &[&str]) -> Vec<u8> {
    let file = format!("{}/f", scratch());
    fs::write(&file, data).unwrap();
    succeed(Command::new("ssh-keygen").args(["-Y", "sign", "-f", key, "-n", namespace]).args(more).arg(&file));
    fs::read(format!("{file}.sig")).unwrap()
}

/// The words of a request by which somebody breaks the glass for client `build1`, on this host, to have this key sign this.
pub fn emergency(person: &str, key: &str, data: &[u8], not_after: &str) -> String {
    let (fingerprint, size, digest) = (approvals::fingerprint(key), data.len(), hex::encode(Sha512::digest(data)));
    let text = format!(
        "break-glass-v1\nkey {fingerprint}\ntype 0x00\nsize {size}\ndigest sha512:{digest}\nnot-after {not_after}\nhost {HOST}\n\
         requester build1\n"
    );
    format!(" --break-glass {not_after}={}", base64(&ssh_sign(person, "break-glass@sigsh", text.as_bytes(), &[])))
}
