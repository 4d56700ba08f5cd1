//! What a listing shows of a certificate.

use super::listing::{Certificate, Key, Uid, Usage};
use openpgp::Cert;
use openpgp::cert::amalgamation::key::ValidErasedKeyAmalgamation;
use openpgp::cert::amalgamation::{ValidAmalgamation, ValidUserIDAmalgamation, ValidateAmalgamation};
use openpgp::crypto::mpi::PublicKey;
use openpgp::packet::key::PublicParts;
use openpgp::policy::Policy;
use openpgp::types::{Curve, RevocationStatus};
use sequoia_openpgp as openpgp;
use std::time::{SystemTime, UNIX_EPOCH};

impl Certificate {
    /// Reads what of it is valid at `now` or was; `secret` says of a fingerprint whether its secret half is there. Nothing for a
    /// certificate without a valid primary key.
    pub(crate) fn of(cert: &Cert, policy: &dyn Policy, now: SystemTime, secret: impl Fn(&str) -> bool) -> Option<Certificate> {
        let mut keys = cert.keys().filter_map(|it| it.with_policy(policy, now).ok()).map(|it| key(&it, &secret));
        let first = cert.with_policy(policy, now).and_then(|it| it.primary_userid().map(|it| it.userid().clone())).ok();
        let valid = cert.userids().filter_map(|it| it.with_policy(policy, now).ok());
        let mut uids: Vec<_> = valid.filter(|it| !matches!(it.revocation_status(), RevocationStatus::Revoked(_))).collect();
        uids.sort_by_key(|it| Some(it.userid()) != first.as_ref());
        let uid = |it: ValidUserIDAmalgamation| Uid {
            name: String::from_utf8_lossy(it.userid().value()).into_owned(),
            created: it.binding_signature().signature_creation_time().map_or(0, seconds),
        };
        let uids = uids.into_iter().map(uid).collect();
        let primary = keys.next().filter(|it| it.fingerprint == cert.fingerprint().to_hex())?;
        let mut subkeys: Vec<Key> = keys.collect();
        // gpg keeps the order in which they were added.
        subkeys.sort_by_key(|it| it.created);
        Some(Certificate { primary, subkeys, uids })
    }
}

fn key(of: &ValidErasedKeyAmalgamation<PublicParts>, secret: impl Fn(&str) -> bool) -> Key {
    let (flags, fingerprint) = (of.key_flags().unwrap_or_else(openpgp::types::KeyFlags::empty), of.key().fingerprint().to_hex());
    let (curve, bits) = size(of.key().mpis());
    Key {
        secret: secret(&fingerprint),
        fingerprint,
        algorithm: of.key().pk_algo().into(),
        bits,
        curve,
        created: seconds(of.key().creation_time()),
        expires: of.key_expiration_time().map(seconds),
        revoked: matches!(of.revocation_status(), RevocationStatus::Revoked(_)),
        usage: Usage {
            sign: flags.for_signing(),
            certify: flags.for_certification(),
            encrypt: flags.for_transport_encryption() || flags.for_storage_encryption(),
            authenticate: flags.for_authentication(),
        },
    }
}

/// gpg's name of the curve, and how many bits it says that there are.
fn size(public: &PublicKey) -> (Option<&'static str>, u32) {
    let curve = match public {
        PublicKey::EdDSA { curve, .. } | PublicKey::ECDSA { curve, .. } | PublicKey::ECDH { curve, .. } => curve,
        PublicKey::Ed25519 { .. } => &Curve::Ed25519,
        PublicKey::X25519 { .. } => &Curve::Cv25519,
        other => return (None, other.bits().and_then(|it| it.try_into().ok()).unwrap_or_default()),
    };
    match curve {
        Curve::Ed25519 => (Some("ed25519"), 255),
        Curve::Cv25519 => (Some("cv25519"), 255),
        Curve::NistP256 => (Some("nistp256"), 256),
        Curve::NistP384 => (Some("nistp384"), 384),
        Curve::NistP521 => (Some("nistp521"), 521),
        _ => (None, 0),
    }
}

/// OpenPGP's time: whole seconds since 1970, up to 2106.
pub(crate) fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
