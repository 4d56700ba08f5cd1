//! The word of a build that knows a nonce: an HMAC (RFC 2104) by SHA-512.

use super::{Permit, Subject, WarrantError};
use crate::config::Revoked;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// What the token process is asked: whether this is the MAC of this text, by the nonce that belongs to this permit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The text that the nonce is derived from.
    pub permit: String,
    /// The text that was authenticated.
    pub text: String,
    /// The MAC, 64 bytes.
    pub mac: Vec<u8>,
}

/// Whether an endorsement is one of this kind.
pub fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(b"mac-v1 ")
}

/// What the token process is to be asked of an endorsement, and the permit that it shows where the answer is yes.
///
/// # Errors
/// [`WarrantError::Endorsement`]: it is not written as it should be, has expired, is revoked.
pub fn ask(
    subject: &Subject,
    bytes: &[u8],
    now: SystemTime,
    max_age: Duration,
    revoked: &Revoked,
) -> Result<(Question, Permit), WarrantError> {
    let _ = (subject, bytes, now, max_age, revoked);
    Err(WarrantError::Endorsement("is not believed".to_owned()))
}
