//! The values a configuration is made of: each type can only be made from a text that is right.

use sha1::{Digest, Sha1};
use ssh_encoding::Encode;
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey};
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// A value that is read from a text. Converted inside the visitor and not by `serde(try_from)` after it, so that an error has the place
/// of the value itself, in an array too.
macro_rules! from_text {
    ($type:ty) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        <$type>::try_from(text.to_owned()).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}
pub(super) use from_text;

/// A text that was checked: it can be read and shown as what it is.
macro_rules! word {
    ($type:ty) => {
        impl std::ops::Deref for $type {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self)
            }
        }
    };
}
pub(super) use word;

/// Names of tokens, keys and clients: `[a-z0-9-]+`, at most 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

from_text!(Name);
word!(Name);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Name, Self::Error> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(good) {
            Ok(Name(text))
        } else {
            Err("a name is 1 to 64 of a-z, 0-9 and '-'")
        }
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// An absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsolutePath(pub(super) PathBuf);

from_text!(AbsolutePath);

impl TryFrom<String> for AbsolutePath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<AbsolutePath, Self::Error> {
        if text.starts_with('/') && !text.contains('\0') { Ok(AbsolutePath(text.into())) } else { Err("a path begins with '/'") }
    }
}

impl Deref for AbsolutePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for AbsolutePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// The name of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable(String);

from_text!(Variable);
word!(Variable);

impl TryFrom<String> for Variable {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Variable, Self::Error> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !text.is_empty() && text.bytes().all(good) {
            Ok(Variable(text))
        } else {
            Err("a variable is named by letters, digits and '_'")
        }
    }
}

impl std::borrow::Borrow<str> for Variable {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Text without a zero byte, as an environment can hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableValue(String);

from_text!(VariableValue);
word!(VariableValue);

impl TryFrom<String> for VariableValue {
    type Error = &'static str;

    fn try_from(text: String) -> Result<VariableValue, Self::Error> {
        if text.contains('\0') { Err("a variable's value has no zero byte") } else { Ok(VariableValue(text)) }
    }
}

/// An exbibyte, the greatest [`Size`]: hashes count bits, and this many still fit.
const MAX_SIZE: u64 = 1 << 60;

/// A number of bytes: `16GiB`, `500 MB`, `4096`; between 1 and an exbibyte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

from_text!(Size);

impl TryFrom<String> for Size {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Size, Self::Error> {
        match bytesize::ByteSize::from_str(&text) {
            Ok(size) if (1..=MAX_SIZE).contains(&size.as_u64()) => Ok(Size(size.as_u64())),
            _ => Err("a size is a number of bytes with a unit, such as \"16GiB\""),
        }
    }
}

/// A length of time between one second and 30 days: `30s`, `2h`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

from_text!(Time);

impl TryFrom<String> for Time {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Time, Self::Error> {
        match humantime::parse_duration(&text) {
            Ok(time) if (1..=30 * 24 * 3600).contains(&time.as_secs()) => Ok(Time(time)),
            _ => Err("a time is between \"1s\" and \"30days\""),
        }
    }
}

/// The greatest [`Count`], and the greatest number in a [`Rate`].
const MAX_COUNT: u64 = 1_000_000;

/// A number between 1 and a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

impl<'de> serde::Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
        let number = i64::deserialize(deserializer)?;
        let count = u64::try_from(number).ok().filter(|number| (1..=MAX_COUNT).contains(number));
        count.map(Count).ok_or_else(|| serde::de::Error::custom("a number between 1 and 1000000 belongs here"))
    }
}

/// So many in a time: `600/h`; between 1 and a million in a second, a minute, an hour or a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub number: u64,
    unit: char,
}

from_text!(Rate);

impl Rate {
    pub(super) const fn per_hour(number: u64) -> Rate {
        Rate { number, unit: 'h' }
    }

    /// In which time.
    pub fn period(self) -> Duration {
        Duration::from_secs(match self.unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => 24 * 3600,
        })
    }
}

impl TryFrom<String> for Rate {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Rate, Self::Error> {
        let parse = || {
            let (number, unit) = text.split_once('/')?;
            let number = Some(number).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
            let unit = Some(unit).filter(|unit| ["s", "m", "h", "d"].contains(unit))?.chars().next()?;
            (1..=MAX_COUNT).contains(&number).then_some(Rate { number, unit })
        };
        parse().ok_or("a rate is a number, at most 1000000, and s, m, h or d, such as \"600/h\"")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.unit)
    }
}

/// The SHA-256 fingerprint of an ssh key, as `ssh-keygen -l` prints it: `SHA256:` and 43 characters of base64.
#[derive(Clone, Copy, Debug)]
pub struct SshFingerprint {
    sha256: ssh_key::Fingerprint,
    /// The one by SHA-1 that a revocation list may name it by, where the key itself is known.
    sha1: Option<[u8; 20]>,
}

impl PartialEq for SshFingerprint {
    fn eq(&self, other: &SshFingerprint) -> bool {
        self.sha256 == other.sha256
    }
}

impl Eq for SshFingerprint {}

from_text!(SshFingerprint);

impl TryFrom<String> for SshFingerprint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<SshFingerprint, Self::Error> {
        match ssh_key::Fingerprint::from_str(&text) {
            Ok(fingerprint) if fingerprint.is_sha256() => Ok(SshFingerprint { sha256: fingerprint, sha1: None }),
            _ => Err("an ssh key is named by its fingerprint \"SHA256:…\", as ssh-keygen -l prints it"),
        }
    }
}

impl SshFingerprint {
    /// That of a key.
    pub fn of(key: &KeyData) -> SshFingerprint {
        let mut blob = Vec::new();
        let sha1 = key.encode(&mut blob).ok().map(|()| Sha1::digest(&blob).into());
        SshFingerprint { sha256: key.fingerprint(HashAlg::Sha256), sha1 }
    }

    /// That of a key as OpenSSH writes it; `None` where it is none, or written in another way: else it would have two.
    pub fn of_blob(blob: &[u8]) -> Option<(KeyData, SshFingerprint)> {
        let key = PublicKey::from_bytes(blob).ok()?;
        let is_canonical = key.to_bytes().is_ok_and(|bytes| bytes == blob);
        is_canonical.then(|| (key.key_data().clone(), SshFingerprint::of(key.key_data())))
    }

    /// The one of these 32 bytes.
    pub(super) fn from_sha256(bytes: [u8; 32]) -> SshFingerprint {
        SshFingerprint { sha256: ssh_key::Fingerprint::Sha256(bytes), sha1: None }
    }

    /// The one by SHA-1, where the key itself is known.
    pub(super) fn sha1(&self) -> Option<&[u8; 20]> {
        self.sha1.as_ref()
    }

    /// Its first byte.
    pub fn first_byte(&self) -> u8 {
        self.sha256.as_bytes().first().copied().unwrap_or_default()
    }
}

impl fmt::Display for SshFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sha256.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_right_texts_become_values() {
        let name = |text: &str| Name::try_from(text.to_owned()).is_ok();
        assert!(name("build-1") && !name("") && !name("Build") && !name("a b") && !name("ü") && !name(&"x".repeat(65)));
        let size = |text: &str| Size::try_from(text.to_owned()).ok().map(|size| size.0);
        assert_eq!(
            ["1", "16GiB", "5 MB", "0", "-1", "2EiB", "many"].map(size),
            [Some(1), Some(16 << 30), Some(5_000_000), None, None, None, None]
        );
        let time = |text: &str| Time::try_from(text.to_owned()).ok().map(|time| time.0.as_secs());
        assert_eq!(["30s", "1h 30m", "0s", "1ms", "31days", "soon"].map(time), [Some(30), Some(5400), None, None, None, None]);
        let key = |text: &str| SshFingerprint::try_from(text.to_owned()).is_ok();
        assert!(key("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU") && !key("SHA256:x") && !key("MD5:00"));
        let rate = |text: &str| Rate::try_from(text.to_owned()).ok().map(|rate| (rate.number, rate.period().as_secs()));
        assert_eq!(["600/h", "1/s", "2/m"].map(rate), [Some((600, 3600)), Some((1, 1)), Some((2, 60))]);
        assert_eq!(rate("1000000/d"), Some((1_000_000, 24 * 3600)));
        for text in ["", "/", "600", "600/", "/h", "0/h", "1000001/s", "-1/h", "+1/h", "1 /h", "1/H", "1/hh", "1/h/h", "1.5/h"] {
            assert_eq!(rate(text), None, "{text}");
        }
        let path = |text: &str| AbsolutePath::try_from(text.to_owned()).is_ok();
        assert!(path("/etc") && !path("etc") && !path("/a\0b"));
        let variable = |text: &str| Variable::try_from(text.to_owned()).is_ok();
        assert!(variable("A_1") && !variable("") && !variable("A=B") && !variable("A\0"));
    }
}
