//! What a certificate says, as a listing shows it.

use super::GpgError;
use super::listing::{Certificate, Key, Uid, Usage};
use crate::error::Error;
use openpgp::Cert;
use openpgp::cert::amalgamation::ValidateAmalgamation;
use openpgp::cert::amalgamation::key::ErasedKeyAmalgamation;
use openpgp::crypto::mpi::PublicKey;
use openpgp::packet::key::PublicParts;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::SerializeInto;
use openpgp::types::Curve;
use sequoia_openpgp as openpgp;
use std::time::{SystemTime, UNIX_EPOCH};

const POLICY: &StandardPolicy<'static> = &StandardPolicy::new();

/// Seconds since 1970.
pub(super) fn now() -> u32 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> u32 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|time| u32::try_from(time.as_secs()).ok()).unwrap_or(u32::MAX)
}

/// The certificate, and the fingerprint of its signing key: the newest that may sign.
pub(super) fn of(cert: &Cert) -> (Certificate, String) {
    let signing = cert.keys().with_policy(POLICY, None).alive().revoked(false).for_signing();
    let signer = signing.max_by_key(|key| key.key().creation_time()).map(|key| key.key().fingerprint().to_hex());
    let signer = signer.unwrap_or_default();
    let subkeys = cert.keys().subkeys().map(|subkey| key(&subkey.into(), &signer)).collect();
    let primary = Key { secret: true, ..key(&cert.primary_key().into(), &signer) };
    (Certificate { primary, subkeys, uids: uids(cert) }, signer)
}

/// The secret half is on the host: that of the key that signs, and programs ask for the primary key's.
fn key(key: &ErasedKeyAmalgamation<'_, PublicParts>, signer: &str) -> Key {
    let fingerprint = key.key().fingerprint().to_hex();
    let valid = key.clone().with_policy(POLICY, None).ok();
    let flags = valid.as_ref().and_then(|valid| valid.key_flags());
    let has = |of: fn(&openpgp::types::KeyFlags) -> bool| flags.as_ref().is_some_and(of);
    Key {
        secret: fingerprint == signer,
        fingerprint,
        algorithm: key.key().pk_algo().into(),
        bits: key.key().mpis().bits().and_then(|bits| u32::try_from(bits).ok()).unwrap_or(255),
        curve: curve(key.key().mpis()),
        created: seconds(key.key().creation_time()),
        expires: valid.as_ref().and_then(|valid| valid.key_expiration_time()).map(seconds),
        revoked: key.self_revocations().next().is_some(),
        usage: Usage {
            sign: has(openpgp::types::KeyFlags::for_signing),
            certify: has(openpgp::types::KeyFlags::for_certification),
            encrypt: has(|flags| flags.for_storage_encryption() || flags.for_transport_encryption()),
            authenticate: has(openpgp::types::KeyFlags::for_authentication),
        },
    }
}

/// gpg's name of a curve.
fn curve(mpis: &PublicKey) -> Option<&'static str> {
    match mpis {
        PublicKey::Ed25519 { .. } => Some("ed25519"),
        PublicKey::ECDSA { curve, .. } | PublicKey::EdDSA { curve, .. } | PublicKey::ECDH { curve, .. } => Some(match curve {
            Curve::Ed25519 => "ed25519",
            Curve::Cv25519 => "cv25519",
            Curve::NistP256 => "nistp256",
            Curve::NistP384 => "nistp384",
            Curve::NistP521 => "nistp521",
            _ => return None,
        }),
        _ => None,
    }
}

/// Those that are valid, the primary one first.
fn uids(cert: &Cert) -> Vec<Uid> {
    let Ok(valid) = cert.with_policy(POLICY, None) else { return Vec::new() };
    let valid = valid.userids().revoked(false);
    valid
        .map(|uid| Uid {
            name: String::from_utf8_lossy(uid.userid().value()).into_owned(),
            created: uid.binding_signature().signature_creation_time().map_or(0, seconds),
        })
        .collect()
}

/// Certificates as `--export` gives them.
pub(super) fn export(certs: &[&Cert], armor: bool) -> Result<Vec<u8>, GpgError> {
    let export = |cert: &&Cert| if armor { cert.armored().export_to_vec() } else { cert.export_to_vec() };
    let all = certs.iter().map(export).collect::<Result<Vec<_>, _>>();
    all.map(|all| all.concat()).map_err(|error| Error::Io("the certificate", std::io::Error::other(error)).into())
}
