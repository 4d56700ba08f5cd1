//! An ssh user certificate, as `PROTOCOL.certkeys` of OpenSSH lays it out. Of one that somebody has logged in by, sshd has verified the
//! signature; of any other that is for whoever parses it to do.
//!
//! The `ssh-key` crate parses keys here, but not the certificate itself: of one that never expires it wants no more than an `i64` of
//! seconds (OpenSSH writes `u64::MAX`), and of texts that they are UTF-8, which nothing promises.

use crate::config::values::SshFingerprint;
use base64ct::{Base64, Encoding};
use ssh_encoding::{Decode, Encode};

/// OpenSSH takes no more principals (SSHKEY_CERT_MAX_PRINCIPALS).
const MAX_PRINCIPALS: usize = 256;

/// The longest key id in bytes. OpenSSH has no limit of its own; what people write has less than a hundred.
const MAX_KEY_ID: usize = 4096;

/// The longest list of options. OpenSSH knows a dozen, and lets authorities add their own.
const MAX_OPTIONS: usize = 256;

/// SSH2_CERT_TYPE_USER.
const USER: u32 = 1;

/// How each type of certificate names its key, and of how many strings that key consists.
const TYPES: [(&str, &str, usize); 7] = [
    ("ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519", 1),
    ("ssh-rsa-cert-v01@openssh.com", "ssh-rsa", 2),
    ("ecdsa-sha2-nistp256-cert-v01@openssh.com", "ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384-cert-v01@openssh.com", "ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521-cert-v01@openssh.com", "ecdsa-sha2-nistp521", 2),
    ("sk-ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", 3),
];

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The fingerprint of the key inside.
    pub key: SshFingerprint,
    /// The fingerprint of the key that signed it.
    pub ca: SshFingerprint,
    /// Whether it is a user's, and not a host's.
    pub user: bool,
    /// Its number; zero where the authority does not count.
    pub serial: u64,
    /// What the authority calls its holder. Any bytes.
    pub key_id: Vec<u8>,
    /// Whom it may log in as. Any bytes.
    pub principals: Vec<Vec<u8>>,
    /// It is valid from this second of Unix time on,
    pub valid_after: u64,
    /// and before this one. `u64::MAX` is for ever.
    pub valid_before: u64,
}

impl Certificate {
    /// Parses `TYPE BASE64`; `None` when it is no certificate, or one of a kind that is not known, or an absurd one.
    pub fn parse(text: &str) -> Option<Certificate> {
        let (kind, base64) = text.split_once(' ')?;
        let signed = Signed::parse(&Base64::decode_vec(base64).ok()?)?;
        (signed.kind == kind).then_some(signed.certificate)
    }

    /// Whether `text` begins as a certificate does.
    pub fn is_one(text: &str) -> bool {
        text.split(' ').next().is_some_and(|kind| kind.contains("-cert-v0"))
    }
}

/// A certificate, and what shows that its authority has made it.
#[derive(Clone, Debug)]
pub struct Signed {
    /// What it says.
    pub certificate: Certificate,
    /// The key that it is for, as OpenSSH writes it.
    pub key: Vec<u8>,
    /// What whoever uses the certificate must understand: names and data.
    pub critical: Vec<(Vec<u8>, Vec<u8>)>,
    /// The authority's key, as OpenSSH writes it.
    pub ca: Vec<u8>,
    /// What the authority has signed: all but the signature,
    pub signed: Vec<u8>,
    /// which is this.
    pub signature: Vec<u8>,
    kind: &'static str,
}

impl Signed {
    /// Parses its bytes; `None` as [`Certificate::parse`] says. Nothing is verified.
    pub fn parse(blob: &[u8]) -> Option<Signed> {
        let mut rest = blob;
        let reader = &mut rest;
        let name = bytes(reader)?;
        let (kind, plain, parts) = TYPES.iter().find(|(kind, ..)| kind.as_bytes() == name)?;
        let _nonce = bytes(reader)?;
        let mut key = Vec::new();
        plain.encode(&mut key).ok()?;
        for _ in 0..*parts {
            bytes(reader)?.encode(&mut key).ok()?;
        }
        let serial = u64::decode(reader).ok()?;
        let user = u32::decode(reader).ok()? == USER;
        let key_id = bytes(reader).filter(|id| id.len() <= MAX_KEY_ID)?;
        let principals = strings(&bytes(reader)?, MAX_PRINCIPALS)?;
        let (valid_after, valid_before) = (u64::decode(reader).ok()?, u64::decode(reader).ok()?);
        let [critical, extensions, _reserved] = [bytes(reader)?, bytes(reader)?, bytes(reader)?];
        let (critical, _) = (pairs(&critical)?, pairs(&extensions)?);
        let ca = bytes(reader)?;
        let signed = blob.get(..blob.len() - reader.len())?.to_vec();
        let signature = bytes(reader)?;
        let ((_, of_key), (_, of_ca)) = (SshFingerprint::of_blob(&key)?, SshFingerprint::of_blob(&ca)?);
        let certificate = Certificate { key: of_key, ca: of_ca, user, serial, key_id, principals, valid_after, valid_before };
        reader.is_empty().then_some(Signed { certificate, key, critical, ca, signed, signature, kind })
    }
}

fn bytes(reader: &mut &[u8]) -> Option<Vec<u8>> {
    Vec::decode(reader).ok()
}

/// The strings that another one holds.
fn strings(mut packed: &[u8], most: usize) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    while !packed.is_empty() {
        found.push(bytes(&mut packed)?);
        if found.len() > most {
            return None;
        }
    }
    Some(found)
}

/// Options: names and data in turn.
fn pairs(packed: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut strings = strings(packed, 2 * MAX_OPTIONS)?.into_iter();
    let mut found = Vec::new();
    while let Some(name) = strings.next() {
        found.push((name, strings.next()?));
    }
    Some(found)
}

/// A second of Unix time, for people.
pub fn date(seconds: u64) -> String {
    /// The last second of the year 9999: RFC 3339 has no more digits.
    const LAST: u64 = 253_402_300_799;
    match std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds)) {
        Some(time) if seconds <= LAST => humantime::format_rfc3339_seconds(time).to_string(),
        _ => "the end of time".to_owned(),
    }
}
