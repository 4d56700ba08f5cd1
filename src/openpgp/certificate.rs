//! The certificate: a file of the configuration, and the one key in it that the token must hold.

use super::public::{Version, coordinate};
use super::{OpenpgpError, one_line};
use crate::hash_state::{HashAlgorithm, Salt};
use openpgp::cert::Cert;
use openpgp::cert::amalgamation::ValidAmalgamation;
use openpgp::crypto::mpi;
use openpgp::packet::Key;
use openpgp::packet::key::{PublicParts, UnspecifiedRole};
use openpgp::parse::Parse;
use openpgp::policy::{Policy, StandardPolicy};
use openpgp::serialize::SerializeInto;
use openpgp::types::RevocationStatus;
use sequoia_openpgp as openpgp;
use std::time::SystemTime;

/// The largest certificate in bytes.
pub const MAX_CERTIFICATE: u64 = 1 << 20;

/// The key that signs, according to its certificate at a moment.
pub struct SigningKey {
    cert: Cert,
    key: Key<PublicParts, UnspecifiedRole>,
    expires: Option<SystemTime>,
}

impl SigningKey {
    /// Reads a certificate and finds its signing key: exactly one that is alive and not revoked at `now`, and that may sign by `hash`.
    ///
    /// # Errors
    /// [`OpenpgpError::Certificate`], [`OpenpgpError::Clock`].
    pub fn read(bytes: &[u8], hash: HashAlgorithm, now: SystemTime) -> Result<SigningKey, OpenpgpError> {
        let bad = OpenpgpError::Certificate;
        let cert = Cert::from_bytes(bytes).map_err(|error| bad(format!("cannot be read: {}", one_line(&error))))?;
        if cert.is_tsk() {
            return Err(bad("holds a secret key; export the public one alone".to_owned()));
        }
        if cert.primary_key().key().creation_time() > now {
            return Err(OpenpgpError::Clock);
        }
        let policy = &StandardPolicy::new() as &dyn Policy;
        let valid = cert.with_policy(policy, now).map_err(|error| bad(format!("is not valid: {}", one_line(&error))))?;
        if let RevocationStatus::Revoked(_) = valid.revocation_status() {
            return Err(bad("is revoked".to_owned()));
        }
        if valid.alive().is_err() {
            let when = valid.primary_key().key_expiration_time().map_or_else(String::new, |when| format!(" on {}", date(when)));
            return Err(bad(format!("expired{when}")));
        }
        let able = valid.keys().for_signing().collect::<Vec<_>>();
        let live = able.iter().filter(|key| key.alive().is_ok() && !is_revoked(&key.revocation_status())).collect::<Vec<_>>();
        match (live.as_slice(), able.is_empty()) {
            ([key], _) => {
                let expires = [key.key_expiration_time(), valid.primary_key().key_expiration_time()].into_iter().flatten().min();
                let key = key.key().clone();
                supported(&key, hash)?;
                Ok(SigningKey { cert, key, expires })
            }
            ([], true) => Err(bad("has no key that may sign".to_owned())),
            ([], false) => Err(bad("has only signing keys that are expired or revoked".to_owned())),
            _ => Err(bad("has several signing keys; the token holds one".to_owned())),
        }
    }

    /// The signing key itself, which is the primary key or a subkey.
    pub fn key(&self) -> &Key<PublicParts, UnspecifiedRole> {
        &self.key
    }

    /// Its version.
    pub fn version(&self) -> Version {
        if self.key.version() == 6 { Version::V6 } else { Version::V4 }
    }

    /// What its next signature hashes first: fresh for each, and nothing in v4.
    ///
    /// # Errors
    /// [`OpenpgpError::Library`] when the kernel has no randomness.
    pub fn salt(&self) -> Result<Option<Salt>, OpenpgpError> {
        let draw = || Salt::draw().map_err(|error| OpenpgpError::Library(error.to_string()));
        (self.version() == Version::V6).then(draw).transpose()
    }

    /// The signing key's fingerprint, in upper-case hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint().to_hex()
    }

    /// When it expires, if ever.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// Whether it may still sign `now`: an upload can outlive a key.
    ///
    /// # Errors
    /// [`OpenpgpError::Certificate`], [`OpenpgpError::Clock`].
    pub fn still_alive(&self, now: SystemTime) -> Result<(), OpenpgpError> {
        match self.expires {
            Some(when) if when <= now => Err(OpenpgpError::Certificate(format!("expired on {}", date(when)))),
            _ if self.key.creation_time() > now => Err(OpenpgpError::Clock),
            _ => Ok(()),
        }
    }

    /// The first user id, for people.
    pub fn user_id(&self) -> String {
        self.cert.userids().next().map(|id| String::from_utf8_lossy(id.userid().value()).into_owned()).unwrap_or_default()
    }

    /// The public certificate, binary or armored.
    ///
    /// # Errors
    /// [`OpenpgpError::Library`].
    pub fn export(&self, armor: bool) -> Result<Vec<u8>, OpenpgpError> {
        let export = if armor { self.cert.armored().export_to_vec() } else { self.cert.export_to_vec() };
        export.map_err(super::library)
    }
}

/// The kinds of key that verifiers of the day accept (RFC 9580 §9.1, §9.2).
fn supported(key: &Key<PublicParts, UnspecifiedRole>, hash: HashAlgorithm) -> Result<(), OpenpgpError> {
    let bits = key.mpis().bits().unwrap_or_default();
    let what = match key.mpis() {
        _ if !matches!(key.version(), 4 | 6) => "is of neither version 4 nor version 6",
        mpi::PublicKey::RSA { .. } if (2048..=4096).contains(&bits) => return Ok(()),
        mpi::PublicKey::RSA { .. } => "has an RSA key of less than 2048 or more than 4096 bits",
        // RFC 9580 §5.2.3.2: at least as long as the curve's field, or 512 bits for P-521.
        mpi::PublicKey::ECDSA { curve, .. } if coordinate(curve).is_some_and(|length| hash.digest_len() < length.min(64)) => {
            "has an ECDSA key whose curve is longer than the configured hash"
        }
        mpi::PublicKey::ECDSA { curve, .. } if coordinate(curve).is_some() => return Ok(()),
        // RFC 9580 §5.5.5.5: not in v6; and verifiers of v4 do not know the other one.
        mpi::PublicKey::EdDSA { curve, .. } if key.version() == 4 && coordinate(curve).is_some() => return Ok(()),
        mpi::PublicKey::Ed25519 { .. } if key.version() == 6 => return Ok(()),
        _ => "has a signing key of a kind that is not supported",
    };
    Err(OpenpgpError::Certificate(what.to_owned()))
}

fn is_revoked(status: &RevocationStatus<'_>) -> bool {
    matches!(status, RevocationStatus::Revoked(_))
}

/// A day, as people write it.
pub fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().chars().take(10).collect()
}
