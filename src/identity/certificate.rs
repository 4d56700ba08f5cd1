//! An ssh user certificate, as `PROTOCOL.certkeys` of OpenSSH lays it out. sshd has verified its signature.
//!
//! The `ssh-key` crate parses keys here, but not the certificate itself: of one that never expires it wants no more than an `i64` of
//! seconds (OpenSSH writes `u64::MAX`), and of texts that they are UTF-8, which nothing promises.

use crate::config::values::SshFingerprint;
use ssh_encoding::{Base64Reader, Decode, Encode, Reader};
use ssh_key::{HashAlg, PublicKey};

/// OpenSSH takes no more principals (SSHKEY_CERT_MAX_PRINCIPALS).
const MAX_PRINCIPALS: usize = 256;

/// The longest key id in bytes. OpenSSH has no limit of its own; what people write has less than a hundred.
const MAX_KEY_ID: usize = 4096;

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
        let (_, plain, parts) = TYPES.iter().find(|(name, ..)| *name == kind)?;
        let mut reader = Base64Reader::new(base64.as_bytes()).ok()?;
        let reader = &mut reader;
        if String::decode(reader).ok()? != kind {
            return None;
        }
        let _nonce = bytes(reader)?;
        let mut key = Vec::new();
        plain.encode(&mut key).ok()?;
        for _ in 0..*parts {
            bytes(reader)?.encode(&mut key).ok()?;
        }
        let serial = u64::decode(reader).ok()?;
        let user = u32::decode(reader).ok()? == USER;
        let key_id = bytes(reader).filter(|id| id.len() <= MAX_KEY_ID)?;
        let principals = strings(&bytes(reader)?)?;
        let (valid_after, valid_before) = (u64::decode(reader).ok()?, u64::decode(reader).ok()?);
        let [_critical, _extensions, _reserved] = [bytes(reader)?, bytes(reader)?, bytes(reader)?];
        let ca = bytes(reader)?;
        let _signature = bytes(reader)?;
        let (key, ca) = (fingerprint(&key)?, fingerprint(&ca)?);
        let certificate = Certificate { key, ca, user, serial, key_id, principals, valid_after, valid_before };
        reader.is_finished().then_some(certificate)
    }

    /// Whether `text` begins as a certificate does.
    pub fn is_one(text: &str) -> bool {
        text.split(' ').next().is_some_and(|kind| kind.contains("-cert-v0"))
    }
}

fn bytes(reader: &mut impl Reader) -> Option<Vec<u8>> {
    Vec::decode(reader).ok()
}

/// The strings that another one holds.
fn strings(mut packed: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    while !packed.is_empty() {
        found.push(bytes(&mut packed)?);
        if found.len() > MAX_PRINCIPALS {
            return None;
        }
    }
    Some(found)
}

fn fingerprint(key: &[u8]) -> Option<SshFingerprint> {
    Some(PublicKey::from_bytes(key).ok()?.fingerprint(HashAlg::Sha256).into())
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
