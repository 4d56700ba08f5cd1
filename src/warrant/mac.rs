//! The word of a build that knows a nonce: an HMAC (RFC 2104) by SHA-512.

use super::{Permit, Quota, Subject, WarrantError};
use crate::config::Revoked;
use crate::request::{Digest, Moment};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, SystemTime};

/// What an endorsement begins with, and the line that a build gets its nonce by.
pub const PREFIX: &str = "mac-v1 ";

/// How many bytes a nonce has, and a MAC.
pub const LENGTH: usize = 64;

/// How many signatures a nonce may be good for.
pub const MAX: std::ops::RangeInclusive<u64> = 1..=1_000_000;

/// What the token process is asked: whether this is the MAC of this text, by the nonce that belongs to this permit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The text that the nonce is derived from.
    pub permit: String,
    /// The text that was authenticated.
    pub text: String,
    /// The MAC, [`LENGTH`] bytes.
    pub mac: Vec<u8>,
}

/// What a build is called: 1 to 64 ASCII letters, digits, '.', '_' and '-'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(String);

impl Id {
    /// Reads it.
    ///
    /// # Errors
    /// What it must be.
    pub fn parse(text: &str) -> Result<Id, &'static str> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(good) {
            Ok(Id(text.to_owned()))
        } else {
            Err("an id is 1 to 64 letters, digits, '.', '_' and '-'")
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a nonce is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The signing key's fingerprint, in upper-case hexadecimal digits.
    pub fingerprint: &'a str,
    /// The host that it is for.
    pub host: &'a str,
    /// What the build is called.
    pub id: Id,
    /// From when on: with this second it begins. None of its uses was before, whatever `max-age` has been since.
    pub not_before: Moment,
    /// Until when: at this second it is over.
    pub not_after: Moment,
    /// For how many signatures.
    pub max: u64,
}

impl Scope<'_> {
    /// The text that the nonce is derived from.
    pub fn permit(&self) -> String {
        format!("permit-v1\n{self}")
    }

    /// The text that a build authenticates.
    pub fn endorse(&self, size: u64, digest: &Digest) -> String {
        format!("endorse-v1\n{self}size {size}\ndigest {}:{}\n", digest.algorithm.name(), hex::encode(&digest.bytes))
    }
}

/// The lines that both texts have. No value has a newline in it.
impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope { fingerprint, host, id, not_before, not_after, max } = self;
        write!(f, "key {fingerprint}\nhost {host}\nid {id}\nnot-before {not_before}\nnot-after {not_after}\nmax {max}\n")
    }
}

/// Whether an endorsement is one of this kind.
pub fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(PREFIX.as_bytes())
}

/// What the token process is to be asked of an endorsement, and the permit that it shows where the answer is yes.
///
/// # Errors
/// [`WarrantError::Endorsement`]: it is not written as it should be, does not hold now, holds for too long, is revoked.
pub fn ask(
    subject: &Subject,
    bytes: &[u8],
    now: SystemTime,
    max_age: Duration,
    revoked: &Revoked,
) -> Result<(Question, Permit), WarrantError> {
    let wrong = |why: String| Err(WarrantError::Endorsement(why));
    let Some((scope, mac)) = parse(&subject.fingerprint, &subject.place.host, bytes) else {
        return wrong("is not one line of mac-v1, ID, NOT-BEFORE, NOT-AFTER, MAX and HEX, with one blank between them".to_owned());
    };
    let (begins, expires) = (scope.not_before.time(), scope.not_after.time());
    if expires <= now {
        return wrong(format!("has expired: it held until {}", scope.not_after));
    }
    if now < begins {
        return wrong(format!("does not hold yet: it does from {} on", scope.not_before));
    }
    match expires.duration_since(begins) {
        Ok(length) if length <= max_age => {}
        _ => return wrong(format!("holds for longer than {}, as none may", humantime::format_duration(max_age))),
    }
    if revoked.has_mac(&scope.id.0) {
        return wrong("is by a permit that is revoked".to_owned());
    }
    let quota = Quota {
        name: format!("mac:{}:{}:{}:{}", scope.fingerprint, scope.id, scope.not_before.0, scope.not_after.0),
        max: scope.max,
        since: begins,
    };
    let question = Question { permit: scope.permit(), text: scope.endorse(subject.size, &subject.digest), mac };
    let permit = Permit { kind: "mac", by: String::new(), serial: String::new(), id: scope.id.to_string(), quota, expires };
    Ok((question, permit))
}

/// Reads `mac-v1 ID NOT-BEFORE NOT-AFTER MAX HEX` and a newline: each value can be written in one way alone.
pub fn parse<'a>(fingerprint: &'a str, host: &'a str, bytes: &[u8]) -> Option<(Scope<'a>, Vec<u8>)> {
    let line = std::str::from_utf8(bytes).ok()?.strip_prefix(PREFIX)?.strip_suffix('\n')?;
    let words = line.split(' ').collect::<Vec<_>>();
    let [id, not_before, not_after, max, mac] = words.as_slice() else { return None };
    let id = Id::parse(id).ok()?;
    let (not_before, not_after) = (Moment::parse(not_before).ok()?, Moment::parse(not_after).ok()?);
    let max = max.parse().ok().filter(|number: &u64| MAX.contains(number) && number.to_string() == *max)?;
    let mac = hex::decode(mac).ok().filter(|bytes| bytes.len() == LENGTH && hex::encode(bytes) == *mac)?;
    Some((Scope { fingerprint, host, id, not_before, not_after, max }, mac))
}

#[cfg(test)]
mod tests;
