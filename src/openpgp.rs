//! OpenPGP (RFC 9580): from a grant and a hash state to a signature packet that every verifier accepts.

mod candidates;
pub mod certificate;
pub mod composite;
pub mod public;
pub mod signature;
pub mod verify;

pub(crate) use candidates::{Live, alive, examine};
pub use certificate::SigningKey;
pub use composite::Composite;
pub use public::{Public, Version};
pub use signature::Draft;
pub use verify::{BadSignature, Detached, Good, Pinned};

use crate::hash_state::HashAlgorithm;
use sequoia_openpgp as openpgp;
use serde::{Deserialize, Serialize};

/// How a token is asked to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    /// CKM_RSA_PKCS over a DigestInfo (RFC 8017 §9.2): `CKM_SHA512_RSA_PKCS` wants the document.
    RsaPkcs,
    /// CKM_ECDSA over the digest, cut to the curve's length.
    Ecdsa,
    /// CKM_EDDSA over the digest, which OpenPGP takes as the message (RFC 9580 §5.2.3.3).
    Eddsa,
    /// The same by the EdDSA half of such a key, and then CKM_ML_DSA over the same digest by the other one, with an empty context
    /// (RFC 9980 §5.2.2).
    Composite(Composite),
}

/// Why there is no OpenPGP signature.
#[derive(Debug, thiserror::Error)]
pub enum OpenpgpError {
    /// The certificate cannot be used: its file, its dates, its keys.
    #[error("the certificate {0}")]
    Certificate(String),
    /// Its file is no longer the one that was read: it may have been revoked.
    #[error("the certificate has changed since the session started")]
    Changed,
    /// It is another key's.
    #[error("the certificate is not that of the key in the token")]
    OtherKey,
    /// The clock is wrong, or the certificate is from the future.
    #[error("the clock is earlier than the certificate's creation time")]
    Clock,
    /// Keys of RFC 9980 exist in version 6 alone.
    #[error("a post-quantum key makes certificates and signatures of version 6 alone")]
    OnlyV6,
    /// The token's bytes are no signature of this kind of key.
    #[error("the token returned {0} bytes, which is no signature by this kind of key")]
    Raw(usize),
    /// The finished packet did not stand its test.
    #[error("the self-check failed: {0}")]
    SelfCheck(String),
    /// The library would not do something that it always does.
    #[error("internal OpenPGP error: {0}")]
    Library(String),
}

impl From<HashAlgorithm> for openpgp::types::HashAlgorithm {
    fn from(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Sha256 => openpgp::types::HashAlgorithm::SHA256,
            HashAlgorithm::Sha384 => openpgp::types::HashAlgorithm::SHA384,
            HashAlgorithm::Sha512 => openpgp::types::HashAlgorithm::SHA512,
        }
    }
}

/// The library's error as one line.
fn library(error: openpgp::anyhow::Error) -> OpenpgpError {
    OpenpgpError::Library(one_line(&error))
}

pub(crate) fn one_line(error: &openpgp::anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
