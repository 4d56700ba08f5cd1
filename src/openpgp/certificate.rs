//! The certificate: a file of the configuration, and the one key in it that the token must hold.

use super::candidates::{Dead, Live, alive, bad, examine};
use super::public::{Version, coordinate};
use super::{OpenpgpError, Public, one_line};
use crate::hash_state::{HashAlgorithm, Salt};
use openpgp::cert::Cert;
use openpgp::crypto::mpi;
use openpgp::packet::Key;
use openpgp::packet::key::{PublicParts, UnspecifiedRole};
use openpgp::parse::Parse;
use sequoia_openpgp as openpgp;
use std::cmp::Reverse;
use std::time::SystemTime;

/// The largest certificate in bytes.
pub const MAX_CERTIFICATE: u64 = 1 << 20;

/// The key that signs, according to its certificate at a moment: the primary key or a subkey.
pub struct SigningKey {
    cert: Cert,
    hash: HashAlgorithm,
    user_id: String,
    /// The live ones, newest first: several, until the token has shown which one it holds.
    key: Live,
    others: Vec<Live>,
    dead: Vec<Dead>,
}

impl SigningKey {
    /// Reads a certificate and finds its signing key: alive and not revoked at `now`, and one that may sign by `hash`. When there are
    /// several, [`SigningKey::held`] decides.
    ///
    /// # Errors
    /// [`OpenpgpError::Certificate`], [`OpenpgpError::Clock`].
    pub fn read(bytes: &[u8], hash: HashAlgorithm, now: SystemTime) -> Result<SigningKey, OpenpgpError> {
        let cert = Cert::from_bytes(bytes).map_err(|error| bad(format!("cannot be read: {}", one_line(&error))))?;
        if cert.is_tsk() {
            return Err(bad("holds a secret key; export the public one alone"));
        }
        let (user_id, candidates) = examine(&cert, now)?;
        let (live, dead) = alive(candidates)?;
        let (mut able, mut unable) = (Vec::new(), None);
        for live in live {
            match supported(&live.key, hash) {
                Ok(()) => able.push(live),
                Err(error) => unable = Some(error),
            }
        }
        able.sort_by_key(|live| Reverse(live.key.creation_time()));
        let mut able = able.into_iter();
        let key = able.next().ok_or_else(|| unable.unwrap_or_else(|| bad("has no key that may sign")))?;
        Ok(SigningKey { cert, hash, user_id, key, others: able.collect(), dead })
    }

    /// The one signing key that the token holds, as its public half tells. A token that keeps that to itself decides nothing.
    ///
    /// # Errors
    /// [`OpenpgpError::OtherKey`], [`OpenpgpError::Certificate`] when several could be it.
    pub fn held(self, public: Option<&Public>) -> Result<SigningKey, OpenpgpError> {
        let SigningKey { cert, hash, user_id, key, others, dead } = self;
        let is_it = |key: &Key<_, _>| public.is_none_or(|public| public.is_of(key));
        let mut held = std::iter::once(key).chain(others).filter(|live| is_it(&live.key));
        match (held.next(), held.next()) {
            (Some(key), None) => Ok(SigningKey { cert, hash, user_id, key, others: Vec::new(), dead }),
            (Some(_), Some(_)) => Err(bad("has several signing keys, and the token does not show which one it holds")),
            (None, _) => match dead.iter().find(|(key, _)| is_it(key)) {
                Some((_, why)) => Err(bad(format!("has live signing keys, but not the token's: {why}"))),
                None => Err(OpenpgpError::OtherKey),
            },
        }
    }

    /// The signing key itself; the newest, where the token has not decided yet.
    pub fn key(&self) -> &Key<PublicParts, UnspecifiedRole> {
        &self.key.key
    }

    /// Its version.
    pub fn version(&self) -> Version {
        if self.key().version() == 6 { Version::V6 } else { Version::V4 }
    }

    /// What its next signature hashes first: fresh for each, and nothing in v4.
    ///
    /// # Errors
    /// [`OpenpgpError::Library`] when the kernel has no randomness.
    pub fn salt(&self) -> Result<Option<Salt>, OpenpgpError> {
        let draw = || Salt::draw().map_err(|error| OpenpgpError::Library(error.to_string()));
        (self.version() == Version::V6).then(draw).transpose()
    }

    /// The signing key's fingerprint, in upper-case hexadecimal digits; all that it could be, where the token has not decided yet.
    pub fn fingerprint(&self) -> String {
        self.keys().map(|key| key.fingerprint().to_hex()).collect::<Vec<_>>().join(" ")
    }

    /// Whether builds and people can speak of what it signs: by one key, and by a hash over the bytes alone.
    pub fn can_be_guarded(&self) -> bool {
        self.keys().count() == 1 && self.version() != Version::V6
    }

    /// The fingerprint of the primary key, where the signing key is a subkey.
    pub fn primary(&self) -> Option<String> {
        let primary = self.cert.fingerprint();
        (primary != self.key.key.fingerprint()).then(|| primary.to_hex())
    }

    /// When key, certificate or what binds one to the other expires, if ever.
    pub fn expires(&self) -> Option<SystemTime> {
        self.key.expires
    }

    /// Whether it may still sign `now`: an upload can outlive a key.
    ///
    /// # Errors
    /// [`OpenpgpError::Certificate`], [`OpenpgpError::Clock`].
    pub fn still_alive(&self, now: SystemTime) -> Result<(), OpenpgpError> {
        let (_, mut candidates) = examine(&self.cert, now)?;
        candidates.retain(|candidate| self.keys().any(|key| *key == candidate.key));
        alive(candidates).map(drop)
    }

    fn keys(&self) -> impl Iterator<Item = &Key<PublicParts, UnspecifiedRole>> {
        std::iter::once(&self.key).chain(&self.others).map(|live| &live.key)
    }

    /// The first user id that is not revoked, for people.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The public certificate, binary or armored.
    ///
    /// # Errors
    /// [`OpenpgpError::Library`].
    pub fn export(&self, armor: bool) -> Result<Vec<u8>, OpenpgpError> {
        super::verify::export([&self.cert], armor)
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
        // RFC 9980 §5.3: in v6 alone, and with a hash of at least 256 bits, which all of ours have.
        mpi::PublicKey::MLDSA65_Ed25519 { .. } | mpi::PublicKey::MLDSA87_Ed448 { .. } if key.version() == 6 => return Ok(()),
        _ => "has a signing key of a kind that is not supported",
    };
    Err(OpenpgpError::Certificate(what.to_owned()))
}

/// A day, as people write it.
pub fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().chars().take(10).collect()
}
