//! Post-quantum keys (RFC 9980 §5): an EdDSA key and an ML-DSA key that sign the same digest, in version 6 alone. One signature counts
//! when both are good.

use openpgp::crypto::mpi;
use sequoia_openpgp as openpgp;
use serde::{Deserialize, Serialize};

/// The two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Composite {
    /// ML-DSA-65+Ed25519, algorithm 30.
    MlDsa65Ed25519,
    /// ML-DSA-87+Ed448, algorithm 31.
    MlDsa87Ed448,
}

impl Composite {
    /// Both of them.
    pub const ALL: [Composite; 2] = [Composite::MlDsa65Ed25519, Composite::MlDsa87Ed448];

    /// Which one this key is, if any.
    pub fn of(key: &mpi::PublicKey) -> Option<Composite> {
        match key {
            mpi::PublicKey::MLDSA65_Ed25519 { .. } => Some(Composite::MlDsa65Ed25519),
            mpi::PublicKey::MLDSA87_Ed448 { .. } => Some(Composite::MlDsa87Ed448),
            _ => None,
        }
    }

    /// The lengths in bytes of the public halves: EdDSA's, ML-DSA's (RFC 9980 §5.1).
    pub fn public_lengths(self) -> [usize; 2] {
        match self {
            Composite::MlDsa65Ed25519 => [32, 1952],
            Composite::MlDsa87Ed448 => [57, 2592],
        }
    }

    /// The lengths in bytes of the halves of a signature, in the same order.
    pub fn signature_lengths(self) -> [usize; 2] {
        match self {
            Composite::MlDsa65Ed25519 => [64, 3309],
            Composite::MlDsa87Ed448 => [114, 4627],
        }
    }

    /// What CKA_EC_PARAMS of the EdDSA half may hold: DER of its name, which PKCS#11 prefers, or of its object identifier.
    pub fn curves(self) -> [&'static [u8]; 2] {
        match self {
            Composite::MlDsa65Ed25519 => [b"\x13\x0cedwards25519", b"\x06\x03\x2b\x65\x70"],
            Composite::MlDsa87Ed448 => [b"\x13\x0aedwards448", b"\x06\x03\x2b\x65\x71"],
        }
    }

    /// CKA_PARAMETER_SET of the ML-DSA half (PKCS#11 3.2: CKP_ML_DSA_65, CKP_ML_DSA_87).
    pub fn parameter_set(self) -> u64 {
        match self {
            Composite::MlDsa65Ed25519 => 2,
            Composite::MlDsa87Ed448 => 3,
        }
    }

    /// The public key as OpenPGP has it, from the bare halves.
    pub(super) fn key(self, eddsa: &[u8], mldsa: &[u8]) -> Option<mpi::PublicKey> {
        Some(match self {
            Composite::MlDsa65Ed25519 => mpi::PublicKey::MLDSA65_Ed25519 { eddsa: boxed(eddsa)?, mldsa: boxed(mldsa)? },
            Composite::MlDsa87Ed448 => mpi::PublicKey::MLDSA87_Ed448 { eddsa: boxed(eddsa)?, mldsa: boxed(mldsa)? },
        })
    }

    /// The signature as OpenPGP has it: EdDSA's half stands first (RFC 9980 §5.3.1).
    pub(super) fn signature(self, raw: &[u8]) -> Option<mpi::Signature> {
        let [length, _] = self.signature_lengths();
        let (eddsa, mldsa) = raw.split_at_checked(length)?;
        Some(match self {
            Composite::MlDsa65Ed25519 => mpi::Signature::MLDSA65_Ed25519 { eddsa: boxed(eddsa)?, mldsa: boxed(mldsa)? },
            Composite::MlDsa87Ed448 => mpi::Signature::MLDSA87_Ed448 { eddsa: boxed(eddsa)?, mldsa: boxed(mldsa)? },
        })
    }
}

/// It, if it is exactly as long as it must be.
fn boxed<const N: usize>(bytes: &[u8]) -> Option<Box<[u8; N]>> {
    bytes.to_vec().into_boxed_slice().try_into().ok()
}

#[cfg(test)]
mod tests;
