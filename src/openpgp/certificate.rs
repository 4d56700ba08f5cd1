//! The certificate: a file of the configuration, and the one key in it that the token must hold.

use super::public::coordinate;
use super::{OpenpgpError, Public, one_line};
use crate::hash_state::HashAlgorithm;
use openpgp::cert::amalgamation::{ValidAmalgamation, ValidateAmalgamation};
use openpgp::cert::{Cert, ValidCert};
use openpgp::crypto::mpi;
use openpgp::packet::key::{PublicParts, UnspecifiedRole};
use openpgp::packet::{Key, Signature};
use openpgp::parse::Parse;
use openpgp::policy::{Policy, StandardPolicy};
use openpgp::serialize::SerializeInto;
use openpgp::types::RevocationStatus;
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
}

struct Live {
    key: Key<PublicParts, UnspecifiedRole>,
    expires: Option<SystemTime>,
}

/// A key that may sign; or why it may not any more, with the date.
type Candidate = (Live, Result<(), String>);

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
        let (mut able, mut unable) = (Vec::new(), None);
        for live in alive(candidates)? {
            match supported(&live.key, hash) {
                Ok(()) => able.push(live),
                Err(error) => unable = Some(error),
            }
        }
        able.sort_by_key(|live| Reverse(live.key.creation_time()));
        let mut able = able.into_iter();
        let key = able.next().ok_or_else(|| unable.unwrap_or_else(|| bad("has no key that may sign")))?;
        Ok(SigningKey { cert, hash, user_id, key, others: able.collect() })
    }

    /// The one signing key that the token holds, as its public half tells. A token that keeps that to itself decides nothing.
    ///
    /// # Errors
    /// [`OpenpgpError::OtherKey`], [`OpenpgpError::Certificate`] when several could be it.
    pub fn held(self, public: Option<&Public>) -> Result<SigningKey, OpenpgpError> {
        let SigningKey { cert, hash, user_id, key, others } = self;
        let mut held = std::iter::once(key).chain(others).filter(|live| public.is_none_or(|public| public.is_of(&live.key)));
        let key = held.next().ok_or(OpenpgpError::OtherKey)?;
        match held.next() {
            None => Ok(SigningKey { cert, hash, user_id, key, others: Vec::new() }),
            Some(_) => Err(bad("has several signing keys, and the token does not show which one it holds")),
        }
    }

    /// The signing key itself; the newest, where the token has not decided yet.
    pub fn key(&self) -> &Key<PublicParts, UnspecifiedRole> {
        &self.key.key
    }

    /// The signing key's fingerprint, in upper-case hexadecimal digits; all that it could be, where the token has not decided yet.
    pub fn fingerprint(&self) -> String {
        self.keys().map(|key| key.fingerprint().to_hex()).collect::<Vec<_>>().join(" ")
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
        candidates.retain(|(live, _)| self.keys().any(|key| *key == live.key));
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
        let export = if armor { self.cert.armored().export_to_vec() } else { self.cert.export_to_vec() };
        export.map_err(super::library)
    }
}

/// The certificate's user id, and its keys for signing, dead and alive, when it is itself good at `now`.
fn examine(cert: &Cert, now: SystemTime) -> Result<(String, Vec<Candidate>), OpenpgpError> {
    let primary = cert.primary_key();
    if primary.key().creation_time() > now {
        return Err(OpenpgpError::Clock);
    }
    if let Some(when) = revoked(primary.self_revocations()) {
        return Err(bad(format!("was revoked{when}")));
    }
    let policy = &StandardPolicy::new() as &dyn Policy;
    let valid = cert.with_policy(policy, now).map_err(|error| bad(format!("is not valid: {}", one_line(&error))))?;
    let primary = valid.primary_key();
    if primary.alive().is_err() {
        return Err(bad(format!("expired{}", on(primary.key_expiration_time()))));
    }
    let until = [primary.key_expiration_time(), primary.binding_signature().signature_expiration_time()];
    let user_id = user_id(&valid)?;
    let mut candidates = Vec::new();
    for key in cert.keys() {
        let (bound, verdict) = match key.clone().with_policy(policy, now) {
            Ok(key) if !key.for_signing() => continue,
            Ok(key) => {
                let bound = [key.key_expiration_time(), key.binding_signature().signature_expiration_time()];
                (bound, if key.alive().is_err() { Err(format!("expired{}", on(key.key_expiration_time()))) } else { Ok(()) })
            }
            Err(_) => match key.self_signatures().filter(|binding| may_sign(binding)).find_map(|b| b.signature_expiration_time()) {
                Some(when) if when <= now => ([None, None], Err(format!("was bound until {}", date(when)))),
                _ => continue,
            },
        };
        let verdict = revoked(key.self_revocations()).map_or(verdict, |when| Err(format!("was revoked{when}")));
        let expires = until.into_iter().chain(bound).flatten().min();
        candidates.push((Live { key: key.key().clone(), expires }, verdict));
    }
    Ok((user_id, candidates))
}

/// Those that are alive: at least one.
fn alive(candidates: Vec<Candidate>) -> Result<Vec<Live>, OpenpgpError> {
    let (mut live, mut dead) = (Vec::new(), Vec::new());
    for (key, verdict) in candidates {
        match verdict {
            Ok(()) => live.push(key),
            Err(why) => dead.push(format!("{} {why}", key.key.fingerprint().to_hex())),
        }
    }
    match (live.is_empty(), dead.is_empty()) {
        (false, _) => Ok(live),
        (true, true) => Err(bad("has no key that may sign")),
        (true, false) => Err(bad(format!("has no live signing key: {}", dead.join(", ")))),
    }
}

/// When it was revoked, if ever. gpg lets no later signature undo that, so neither do we: a verifier may be either.
fn revoked<'a>(mut revocations: impl Iterator<Item = &'a Signature>) -> Option<String> {
    revocations.next().map(|revocation| on(revocations.chain([revocation]).filter_map(|by| by.signature_creation_time()).min()))
}

/// A user id that is not revoked; nothing where there is none at all, for a certificate needs none.
fn user_id(valid: &ValidCert<'_>) -> Result<String, OpenpgpError> {
    let mut revoked = None;
    for id in valid.userids() {
        match id.revocation_status() {
            RevocationStatus::Revoked(by) => revoked = by.iter().filter_map(|by| by.signature_creation_time()).max().max(revoked),
            _ => return Ok(String::from_utf8_lossy(id.userid().value()).into_owned()),
        }
    }
    match revoked {
        Some(when) => Err(bad(format!("has no user id left: the last was revoked on {}", date(when)))),
        None => Ok(String::new()),
    }
}

fn may_sign(binding: &Signature) -> bool {
    binding.key_flags().is_some_and(|flags| flags.for_signing())
}

fn bad(what: impl Into<String>) -> OpenpgpError {
    OpenpgpError::Certificate(what.into())
}

fn on(when: Option<SystemTime>) -> String {
    when.map_or_else(String::new, |when| format!(" on {}", date(when)))
}

/// The kinds of key that every verifier of the day accepts (RFC 9580 §9.1, §9.2), in a v4 certificate.
fn supported(key: &Key<PublicParts, UnspecifiedRole>, hash: HashAlgorithm) -> Result<(), OpenpgpError> {
    let bits = key.mpis().bits().unwrap_or_default();
    let what = match key.mpis() {
        _ if key.version() != 4 => "is not of version 4",
        mpi::PublicKey::RSA { .. } if (2048..=4096).contains(&bits) => return Ok(()),
        mpi::PublicKey::RSA { .. } => "has an RSA key of less than 2048 or more than 4096 bits",
        // RFC 9580 §5.2.3.2: at least as long as the curve's field, or 512 bits for P-521.
        mpi::PublicKey::ECDSA { curve, .. } if coordinate(curve).is_some_and(|length| hash.digest_len() < length.min(64)) => {
            "has an ECDSA key whose curve is longer than the configured hash"
        }
        mpi::PublicKey::ECDSA { curve, .. } | mpi::PublicKey::EdDSA { curve, .. } if coordinate(curve).is_some() => return Ok(()),
        _ => "has a signing key of a kind that is not supported",
    };
    Err(OpenpgpError::Certificate(what.to_owned()))
}

/// A day, as people write it.
pub fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().chars().take(10).collect()
}
