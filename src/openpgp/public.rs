//! Public keys, as PKCS#11 and as OpenPGP have them.

use super::{Composite, OpenpgpError, Scheme, library};
use crate::hash_state::HashAlgorithm;
use openpgp::crypto::mpi::{self, MPI};
use openpgp::packet::Key;
use openpgp::packet::key::{Key4, Key6, PrimaryRole, PublicParts, UnspecifiedRole};
use openpgp::types::{Curve, PublicKeyAlgorithm};
use sequoia_openpgp as openpgp;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// The version of a certificate, and with it of every signature that its keys make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// What every verifier understands (RFC 4880, RFC 9580).
    V4,
    /// That of RFC 9580: a salt before what is hashed, longer fingerprints, Ed25519 by its own algorithm.
    V6,
}

/// A public key, as a token has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Public {
    /// CKA_MODULUS and CKA_PUBLIC_EXPONENT, big-endian.
    Rsa {
        /// Modulus.
        n: Vec<u8>,
        /// Exponent.
        e: Vec<u8>,
    },
    /// CKA_EC_PARAMS and CKA_EC_POINT, in whatever encoding the token likes.
    Ec {
        /// The curve.
        params: Vec<u8>,
        /// The point.
        point: Vec<u8>,
    },
    /// Two keys that make one of RFC 9980: CKA_EC_PARAMS and CKA_EC_POINT of the EdDSA half, CKA_VALUE of the ML-DSA half.
    Composite {
        /// The curve.
        params: Vec<u8>,
        /// The point.
        point: Vec<u8>,
        /// ML-DSA's public key, whose length tells the parameter set.
        mldsa: Vec<u8>,
    },
}

/// What CKA_EC_PARAMS holds: DER of a name or an object identifier. Tokens differ.
const CURVES: [(&[u8], Curve); 6] = [
    (b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", Curve::NistP256),
    (b"\x06\x05\x2b\x81\x04\x00\x22", Curve::NistP384),
    (b"\x06\x05\x2b\x81\x04\x00\x23", Curve::NistP521),
    (b"\x13\x0cedwards25519", Curve::Ed25519),
    (b"\x06\x03\x2b\x65\x70", Curve::Ed25519),
    (b"\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01", Curve::Ed25519),
];

/// Length in bytes of a coordinate of the curve, or `None` where it cannot sign here.
pub(crate) fn coordinate(curve: &Curve) -> Option<usize> {
    match curve {
        Curve::NistP256 | Curve::Ed25519 => Some(32),
        Curve::NistP384 => Some(48),
        Curve::NistP521 => Some(66),
        _ => None,
    }
}

impl Public {
    /// The OpenPGP key packet for a key made at this time.
    ///
    /// # Errors
    /// [`OpenpgpError::Library`] for a curve that cannot sign here, or a point that is none; [`OpenpgpError::OnlyV6`].
    pub fn packet(&self, version: Version, created: SystemTime) -> Result<Key<PublicParts, PrimaryRole>, OpenpgpError> {
        let (algorithm, mpis) = match self {
            Public::Rsa { n, e } => {
                let algorithm = PublicKeyAlgorithm::RSAEncryptSign;
                (algorithm, mpi::PublicKey::RSA { e: MPI::new(e), n: MPI::new(n) })
            }
            Public::Ec { params, point } => {
                let unknown = || OpenpgpError::Library("the token's key has a curve or a point that is not supported".to_owned());
                let (_, curve) = CURVES.iter().find(|(der, _)| der == params).ok_or_else(unknown)?;
                let point = point_on(curve, point).ok_or_else(unknown)?;
                let (curve, q) = (curve.clone(), MPI::new(&point));
                match (&curve, version) {
                    (Curve::Ed25519, Version::V4) => (PublicKeyAlgorithm::EdDSA, mpi::PublicKey::EdDSA { curve, q }),
                    (Curve::Ed25519, Version::V6) => {
                        let a = native(&point).ok_or_else(unknown)?;
                        (PublicKeyAlgorithm::Ed25519, mpi::PublicKey::Ed25519 { a })
                    }
                    _ => (PublicKeyAlgorithm::ECDSA, mpi::PublicKey::ECDSA { curve, q }),
                }
            }
            Public::Composite { .. } if version == Version::V4 => return Err(OpenpgpError::OnlyV6),
            Public::Composite { params, point, mldsa } => {
                let key = composite(params, point, mldsa);
                let pair = || OpenpgpError::Library("the token's two keys are not a pair of RFC 9980".to_owned());
                key.and_then(|key| Some((key.algo()?, key))).ok_or_else(pair)?
            }
        };
        match version {
            Version::V4 => Key4::<PublicParts, PrimaryRole>::new(created, algorithm, mpis).map(Into::into),
            Version::V6 => Key6::<PublicParts, PrimaryRole>::new(created, algorithm, mpis).map(Into::into),
        }
        .map_err(library)
    }

    /// Whether this is the public half of an OpenPGP key.
    pub fn is_of(&self, key: &Key<PublicParts, UnspecifiedRole>) -> bool {
        match (self, key.mpis()) {
            (Public::Rsa { n, e }, mpi::PublicKey::RSA { e: ours_e, n: ours_n }) => {
                MPI::new(n) == *ours_n && MPI::new(e) == *ours_e
            }
            (Public::Ec { point, .. }, mpi::PublicKey::ECDSA { curve, q } | mpi::PublicKey::EdDSA { curve, q }) => {
                point_on(curve, point).is_some_and(|point| MPI::new(&point) == *q)
            }
            (Public::Ec { point, .. }, mpi::PublicKey::Ed25519 { a }) => {
                point_on(&Curve::Ed25519, point).and_then(|point| native(&point)) == Some(*a)
            }
            (Public::Composite { params, point, mldsa }, theirs) => composite(params, point, mldsa).as_ref() == Some(theirs),
            _ => false,
        }
    }
}

/// The key of two halves, if they belong together: ML-DSA-65 with Ed25519, ML-DSA-87 with Ed448.
fn composite(params: &[u8], point: &[u8], mldsa: &[u8]) -> Option<mpi::PublicKey> {
    let kind = Composite::ALL.into_iter().find(|kind| kind.curves().contains(&params))?;
    let [length, _] = kind.public_lengths();
    kind.key(bare(point, length)?, mldsa)
}

/// The point without its prefix, as algorithm 27 has it (RFC 9580 §5.5.5.9).
fn native(point: &[u8]) -> Option<[u8; 32]> {
    point.strip_prefix(&[0x40])?.try_into().ok()
}

/// The point as OpenPGP writes it (RFC 9580 §11.2.1): `04 x y`, or `40 x` on Ed25519. Tokens give it bare, or in an OCTET STRING.
fn point_on(curve: &Curve, point: &[u8]) -> Option<Vec<u8>> {
    let (prefix, length) = match curve {
        Curve::Ed25519 => (Some(0x40), 32),
        _ => (None, 1 + 2 * coordinate(curve)?),
    };
    Some(prefix.into_iter().chain(bare(point, length)?.iter().copied()).collect())
}

/// So many bytes, which may stand in an OCTET STRING.
fn bare(point: &[u8], length: usize) -> Option<&[u8]> {
    match point {
        bare if bare.len() == length => Some(bare),
        // RFC 7512 and PKCS#11 2.3.5: DER, with a length of one byte, or 0x81 and one byte.
        [0x04, size, bare @ ..] if bare.len() == length && usize::from(*size) == length => Some(bare),
        [0x04, 0x81, size, bare @ ..] if bare.len() == length && usize::from(*size) == length => Some(bare),
        _ => None,
    }
}

/// What a token must sign, and how, for a digest to be signed by this kind of key.
///
/// # Errors
/// [`OpenpgpError::Certificate`] for a kind of key that cannot sign here.
pub fn to_sign(
    key: &Key<PublicParts, UnspecifiedRole>,
    hash: HashAlgorithm,
    digest: &[u8],
) -> Result<(Scheme, Vec<u8>), OpenpgpError> {
    match key.mpis() {
        mpi::PublicKey::RSA { .. } => {
            let info = openpgp::types::HashAlgorithm::from(hash).oid().map_err(library)?;
            Ok((Scheme::RsaPkcs, [info, digest].concat()))
        }
        mpi::PublicKey::ECDSA { curve, .. } if coordinate(curve).is_some() => {
            let length = coordinate(curve).unwrap_or_default().min(digest.len());
            Ok((Scheme::Ecdsa, digest.get(..length).unwrap_or_default().to_vec()))
        }
        mpi::PublicKey::EdDSA { .. } | mpi::PublicKey::Ed25519 { .. } => Ok((Scheme::Eddsa, digest.to_vec())),
        key => {
            let unknown = || OpenpgpError::Certificate("has a signing key of a kind that is not supported".to_owned());
            Composite::of(key).map(|kind| (Scheme::Composite(kind), digest.to_vec())).ok_or_else(unknown)
        }
    }
}

/// The token's raw signature as OpenPGP has it.
///
/// # Errors
/// [`OpenpgpError::Raw`] for a wrong length.
pub fn from_raw(key: &Key<PublicParts, UnspecifiedRole>, raw: &[u8]) -> Result<mpi::Signature, OpenpgpError> {
    let halves = |length: usize| match raw.split_at_checked(length) {
        Some((r, s)) if s.len() == length => Ok((MPI::new(r), MPI::new(s))),
        _ => Err(OpenpgpError::Raw(raw.len())),
    };
    match key.mpis() {
        mpi::PublicKey::RSA { n, .. } if raw.len() == n.value().len() => Ok(mpi::Signature::RSA { s: MPI::new(raw) }),
        mpi::PublicKey::ECDSA { curve, .. } => {
            halves(coordinate(curve).unwrap_or(raw.len())).map(|(r, s)| mpi::Signature::ECDSA { r, s })
        }
        mpi::PublicKey::EdDSA { .. } => halves(32).map(|(r, s)| mpi::Signature::EdDSA { r, s }),
        mpi::PublicKey::Ed25519 { .. } => {
            let s = raw.try_into().map_err(|_| OpenpgpError::Raw(raw.len()))?;
            Ok(mpi::Signature::Ed25519 { s: Box::new(s) })
        }
        key => Composite::of(key).and_then(|kind| kind.signature(raw)).ok_or(OpenpgpError::Raw(raw.len())),
    }
}
