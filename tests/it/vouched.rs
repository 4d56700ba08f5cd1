//! Keys that sign only what a build has endorsed and people have approved. Whoever vouches does it by ssh-keygen, gpg or Python, as
//! people will.

mod approvals;
mod audited;
mod break_glass;
mod check;
mod client;
mod counts;
mod guarded;
mod krl;
mod mac;
mod openpgp;
mod permits;
mod revoked;
mod ssh;
mod sshsig;

use crate::ledger::Own;
use crate::world::{HOME, HOST, Outcome, Session, admit, changed, configuration, finish_child, scratch, succeed, world};
use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256, Sha512};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

/// A configuration in which this key of the world's demands something: `table` is what its table says besides.
pub fn guarded(key: &str, table: &str) -> PathBuf {
    world();
    let certificate = format!("certificate = \"/etc/sigsh/{key}.pgp\"\n");
    changed(&[(&certificate, &format!("{certificate}{table}\n"))])
}

/// The same with a ledger of its own, for the world's key `ed25519`.
pub fn guarded_own(own: Own, table: &str) -> Own {
    let text = fs::read_to_string(&own.config).unwrap();
    let certificate = "certificate = \"/etc/sigsh/ed25519.pgp\"\n";
    assert!(text.contains(certificate));
    fs::write(&own.config, text.replace(certificate, &format!("{certificate}{table}\n"))).unwrap();
    own.init();
    own
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

/// The fingerprint of one of the world's keys, as gpg shows it.
pub fn fingerprint(key: &str) -> String {
    world();
    let file = format!("/etc/sigsh/{key}.pgp");
    let mut command = Command::new("gpg");
    let output = succeed(command.args(["--batch", "--with-colons", "--show-keys", &file]).env("GNUPGHOME", HOME));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).unwrap().trim_end_matches(':').to_owned()
}

/// So many seconds from now, to the second.
pub fn after(seconds: i64) -> String {
    let now = SystemTime::now();
    let length = Duration::from_secs(seconds.unsigned_abs());
    humantime::format_rfc3339_seconds(if seconds < 0 { now - length } else { now + length }).to_string()
}

/// What an approver signs: for this host, and client `build1`. `title` is `approve-v1` or `break-glass-v1`.
pub fn text(title: &str, key: &str, data: &[u8], not_after: &str) -> String {
    let (fingerprint, size, digest) = (fingerprint(key), data.len(), hex::encode(Sha512::digest(data)));
    format!(
        "{title}\nkey {fingerprint}\ntype 0x00\nsize {size}\ndigest sha512:{digest}\nnot-after {not_after}\nhost {HOST}\n\
         requester build1\n"
    )
}

/// The words of a request by which somebody breaks the glass for client `build1`, on this host, to have this key sign this.
pub fn emergency(person: &str, key: &str, data: &[u8], not_after: &str) -> String {
    let text = text("break-glass-v1", key, data, not_after);
    format!(" --break-glass {not_after}={}", base64(&ssh_sign(person, "break-glass@sigsh", text.as_bytes(), &[])))
}

/// An artifact that no pipe holds: whoever has written [`MOST`] of it has a reader.
pub const LONG: &[u8] = &[b'x'; 300_000];
pub const MOST: usize = 150_000;

/// Starts a session that is to sign [`LONG`] and sends [`MOST`] of it. Whether its hasher has read: what came with the request has been
/// judged by then, and was good.
pub fn reading(config: &Path, request: &str) -> (Child, bool) {
    let mut child = Session::new(config).client("build1").request(request).start();
    let is_read = child.stdin.as_mut().unwrap().write_all(&LONG[..MOST]).is_ok();
    (child, is_read)
}

/// What ends on its way is not signed, and what has ended is not good: how a session goes that comes too late. `request` makes what asks
/// for [`LONG`] to be signed, with what ends in so many seconds, and says when that is. A slow machine gets more of them.
#[track_caller]
pub fn ends_in_time(config: &Path, request: impl Fn(u64) -> (String, SystemTime)) -> Outcome {
    let mut refused = None;
    for seconds in [2, 6, 18, 54] {
        let (request, end) = request(seconds);
        let (mut child, is_read) = reading(config, &request);
        if !is_read {
            refused = Some(finish_child(child, b""));
            continue;
        }
        let mut rest = LONG[MOST..].chunks(50);
        while SystemTime::now() < end {
            // It must seem neither idle nor slow.
            child.stdin.as_mut().unwrap().write_all(rest.next().unwrap()).unwrap();
            sleep(Duration::from_millis(20));
        }
        let what = "the endorsement or an approval has expired meanwhile";
        finish_child(child, &rest.collect::<Vec<_>>().concat()).fails(77, what, "refused", what);
        return Session::new(config).client("build1").request(&request).run(LONG);
    }
    panic!("never in time: {refused:#?}")
}
