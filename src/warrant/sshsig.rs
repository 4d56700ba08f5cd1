//! Signatures as `ssh-keygen -Y sign` makes them (PROTOCOL.sshsig of OpenSSH), and the keys that make them.

use crate::hash_state::HashAlgorithm;
use sha2::{Digest, Sha256, Sha512};
use signature::Verifier;
use ssh_encoding::{Decode, Encode, pem};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, Signature};

/// What a signature begins with.
const MAGIC: &[u8] = b"SSHSIG";

/// The only version there is.
const VERSION: u32 = 1;

/// What an armored one is labelled by.
const LABEL: &str = "SSH SIGNATURE";

/// A signature.
#[derive(Debug)]
pub struct SshSig {
    /// The public key that it names, as it came: a plain key or a certificate.
    pub key: Vec<u8>,
    /// What it is for.
    pub namespace: Vec<u8>,
    reserved: Vec<u8>,
    /// By which hash the message was hashed: SHA-256 or SHA-512.
    pub hash: HashAlgorithm,
    signature: Signature,
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
        bytes.starts_with(MAGIC) || bytes.starts_with(b"-----BEGIN SSH SIGNATURE-----")
    }

    /// Reads one, binary or armored; `None` when it is none, or by an algorithm that is not known.
    pub fn parse(bytes: &[u8]) -> Option<SshSig> {
        let decoded;
        let mut reader = match bytes.strip_prefix(MAGIC) {
            Some(rest) => rest,
            None => {
                let (label, inner) = pem::decode_vec(bytes).ok().filter(|(label, _)| *label == LABEL)?;
                decoded = inner;
                let _ = label;
                decoded.strip_prefix(MAGIC)?
            }
        };
        let reader = &mut reader;
        if u32::decode(reader).ok()? != VERSION {
            return None;
        }
        let (key, namespace, reserved) = (Vec::decode(reader).ok()?, Vec::decode(reader).ok()?, Vec::decode(reader).ok()?);
        let hash = match String::decode(reader).ok()?.as_str() {
            "sha256" => HashAlgorithm::Sha256,
            "sha512" => HashAlgorithm::Sha512,
            _ => return None,
        };
        let signature = Vec::decode(reader).ok()?;
        let signature = Signature::try_from(signature.as_slice()).ok()?;
        reader.is_empty().then_some(SshSig { key, namespace, reserved, hash, signature })
    }

    /// Whether this key has made it over a message of this digest. What a security key says of itself comes along.
    pub fn verify(&self, key: &KeyData, digest: &[u8]) -> Option<Option<Touch>> {
        let mut signed = MAGIC.to_vec();
        self.namespace.encode(&mut signed).ok()?;
        self.reserved.encode(&mut signed).ok()?;
        self.hash.name().encode(&mut signed).ok()?;
        digest.encode(&mut signed).ok()?;
        verify(key, &signed, &self.signature)
    }

    /// The digest of a message, by its own hash.
    pub fn digest(&self, message: &[u8]) -> Vec<u8> {
        match self.hash {
            HashAlgorithm::Sha256 => Sha256::digest(message).to_vec(),
            _ => Sha512::digest(message).to_vec(),
        }
    }
}

/// Whether this key has signed these bytes, by an algorithm that OpenSSH takes today: not by SHA-1.
pub fn verify(key: &KeyData, signed: &[u8], signature: &Signature) -> Option<Option<Touch>> {
    let good = match (key, signature.algorithm()) {
        (KeyData::Rsa(_), Algorithm::Rsa { hash: Some(HashAlg::Sha256 | HashAlg::Sha512) }) => true,
        (KeyData::Rsa(_), _) => false,
        (key, algorithm) => key.algorithm() == algorithm,
    };
    if !good || key.verify(signed, signature).is_err() {
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
