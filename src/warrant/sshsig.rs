//! Signatures as `ssh-keygen -Y sign` makes them (PROTOCOL.sshsig of OpenSSH), and the keys that make them. What `ssh-keygen -Y verify`
//! refuses is refused here.

use crate::config::values::SshFingerprint;
use crate::hash_state::HashAlgorithm;
use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256, Sha384, Sha512};
use signature::Verifier;
use ssh_encoding::{Decode, Encode};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, Signature};

/// What a signature begins with.
const MAGIC: &[u8] = b"SSHSIG";

/// The only version there is.
const VERSION: u32 = 1;

/// What stands around an armored one.
const BEGIN: &[u8] = b"-----BEGIN SSH SIGNATURE-----";
const END: &str = "\n-----END SSH SIGNATURE-----";

/// How long the modulus of an RSA key is in bits: shorter ones are weak, and longer ones cannot be verified here.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A signature.
#[derive(Debug)]
pub struct SshSig {
    /// The public key that it names, as it came: a plain key or a certificate.
    pub key: Vec<u8>,
    /// What it is for.
    pub namespace: Vec<u8>,
    /// By which hash the message was hashed: SHA-256 or SHA-512.
    pub hash: HashAlgorithm,
    signature: Vec<u8>,
}

/// What a security key says of the moment at which it signed (PROTOCOL.u2f of OpenSSH).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Somebody has touched it.
    pub presence: bool,
    /// It has verified who: by PIN or fingerprint.
    pub verification: bool,
}

impl SshSig {
    /// Whether bytes begin as one does, binary or armored.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC) || bytes.starts_with(BEGIN)
    }

    /// Its bytes without an armor; `None` where that is broken.
    pub fn dearmored(bytes: &[u8]) -> Option<Vec<u8>> {
        bytes.strip_prefix(BEGIN).map_or_else(|| Some(bytes.to_vec()), dearmor)
    }

    /// Reads one, binary or armored; `None` when it is none.
    pub fn parse(bytes: &[u8]) -> Option<SshSig> {
        let inner = SshSig::dearmored(bytes)?;
        let reader = &mut inner.strip_prefix(MAGIC)?;
        if u32::decode(reader).ok()? != VERSION {
            return None;
        }
        let (key, namespace) = (Vec::decode(reader).ok()?, Vec::decode(reader).ok()?);
        // ssh-keygen takes it for empty when it verifies, whatever stands here.
        if !Vec::<u8>::decode(reader).ok()?.is_empty() {
            return None;
        }
        let hash = match String::decode(reader).ok()?.as_str() {
            "sha256" => HashAlgorithm::Sha256,
            "sha512" => HashAlgorithm::Sha512,
            _ => return None,
        };
        let signature = Vec::decode(reader).ok()?;
        reader.is_empty().then_some(SshSig { key, namespace, hash, signature })
    }

    /// Whether this key has made it over a message of this digest. What a security key says of itself comes along.
    pub fn verify(&self, key: &KeyData, digest: &[u8]) -> Option<Option<Touch>> {
        let mut signed = MAGIC.to_vec();
        self.namespace.encode(&mut signed).ok()?;
        "".encode(&mut signed).ok()?;
        self.hash.name().encode(&mut signed).ok()?;
        digest.encode(&mut signed).ok()?;
        verify(key, &signed, &self.signature)
    }

    /// The digest of a message, by its own hash.
    pub fn digest(&self, message: &[u8]) -> Vec<u8> {
        match self.hash {
            HashAlgorithm::Sha256 => Sha256::digest(message).to_vec(),
            HashAlgorithm::Sha384 => Sha384::digest(message).to_vec(),
            HashAlgorithm::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// What stands in an armor: base64, on lines of any length, and nothing behind it.
fn dearmor(armored: &[u8]) -> Option<Vec<u8>> {
    let (base64, rest) = std::str::from_utf8(armored).ok()?.strip_prefix('\n')?.split_once(END)?;
    let base64 = base64.replace('\n', "");
    if rest.trim_matches('\n').is_empty() { Base64::decode_vec(&base64).ok() } else { None }
}

/// Reads a public key that is no certificate, in the one way that OpenSSH writes it, if it is of a kind and length that are taken.
pub fn plain_key(blob: &[u8]) -> Option<KeyData> {
    let (key, _) = SshFingerprint::of_blob(blob)?;
    let is_strong = match &key {
        KeyData::Ed25519(_) | KeyData::SkEd25519(_) => true,
        KeyData::Ecdsa(key) => is_uncompressed(key.as_sec1_bytes()),
        KeyData::SkEcdsaSha2NistP256(key) => is_uncompressed(key.ec_point().as_bytes()),
        KeyData::Rsa(key) => key.n.as_positive_bytes().is_some_and(|modulus| RSA_BITS.contains(&bits(modulus))),
        _ => false,
    };
    is_strong.then_some(key)
}

/// SEC 1 §2.3.3; RFC 5656 §3.1 allows both, OpenSSH this one.
fn is_uncompressed(point: &[u8]) -> bool {
    point.first() == Some(&4)
}

/// The length of a number without leading zero bytes.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| 8 * number.len() - first.leading_zeros() as usize)
}

/// Whether this key has signed these bytes, by an algorithm that OpenSSH takes today: not by SHA-1. `signature` is as OpenSSH writes it.
pub fn verify(key: &KeyData, signed: &[u8], signature: &[u8]) -> Option<Option<Touch>> {
    let reader = &mut &signature[..];
    let signature = Signature::decode(reader).ok().filter(|_| reader.is_empty())?;
    let good = match (key, signature.algorithm()) {
        (KeyData::Rsa(_), Algorithm::Rsa { hash: Some(HashAlg::Sha256 | HashAlg::Sha512) }) => true,
        (KeyData::Rsa(_), _) => false,
        (key, algorithm) => key.algorithm() == algorithm,
    };
    if !good || key.verify(signed, &signature).is_err() {
        return None;
    }
    match key {
        KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {
            let flags = signature.as_bytes().iter().rev().nth(4)?;
            Some(Some(Touch { presence: flags & 1 != 0, verification: flags & 4 != 0 }))
        }
        _ => Some(None),
    }
}

#[cfg(test)]
mod tests;
