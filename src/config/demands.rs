//! What a key demands beside a client: `[key.NAME]`'s `endorsement`, `approvals` and `break-glass`; and what this host is called in them.

use super::values::{AbsolutePath, SshFingerprint, Time, from_text, word};
use serde::Deserialize;
use std::time::Duration;
use toml::Spanned;

/// `endorsement`: which builds are believed that they have made an artifact. Any of them will do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Endorsement {
    /// The authorities whose ssh certificates permit a build.
    #[serde(default)]
    pub ssh_ca: Vec<Spanned<SshFingerprint>>,
    /// The OpenPGP certificates whose certifications permit a build's key.
    pub openpgp: Option<AbsolutePath>,
    /// 32 random bytes from which the nonces of builds are derived.
    pub mac_file: Option<AbsolutePath>,
    /// Which permits are revoked.
    pub revoked: Option<AbsolutePath>,
    #[serde(default = "day")]
    max_age: Time,
}

impl Endorsement {
    /// Whether nobody can give it.
    pub(super) fn is_empty(&self) -> bool {
        self.ssh_ca.is_empty() && self.openpgp.is_none() && self.mac_file.is_none()
    }

    /// The longest time for which a build may be permitted anything. So far back the ledger is read, to count what was signed.
    pub fn max_age(&self) -> Duration {
        self.max_age.0
    }
}

/// `approvals`: how many people must have approved an artifact, and who may. Or `break-glass`: who may stand in for builds and approvers
/// in an emergency.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Approvals {
    need: Need,
    /// The allowed_signers file (ssh-keygen(1)) that names them.
    pub approvers: Spanned<AbsolutePath>,
    max_age: Option<Time>,
    /// Whether who asks for the signature does not count.
    #[serde(default)]
    pub exclude_requester: bool,
    /// Whether a security key must have verified its user, by PIN or fingerprint.
    #[serde(default)]
    pub user_verification: bool,
    /// Whether only security keys count.
    #[serde(default)]
    pub hardware_only: bool,
}

impl Approvals {
    /// How many people.
    pub fn need(&self) -> usize {
        self.need.0
    }

    /// The longest time for which anybody may approve anything, where the operator has said so.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age.map(|time| time.0)
    }
}

/// The greatest number of people that must approve. The names by which so many are counted have room in a record.
const MAX_NEED: usize = 8;

/// How many people: at least one.
#[derive(Debug)]
struct Need(usize);

impl<'de> Deserialize<'de> for Need {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Need, D::Error> {
        let number = i64::deserialize(deserializer)?;
        let need = usize::try_from(number).ok().filter(|need| (1..=MAX_NEED).contains(need));
        need.map(Need).ok_or_else(|| serde::de::Error::custom("a number between 1 and 8 belongs here"))
    }
}

fn day() -> Time {
    Time(Duration::from_secs(24 * 60 * 60))
}

/// What a host, or several that sign the same, is called in permits and approvals: 1 to 255 letters, digits, '.' and '-'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceName(String);

from_text!(PlaceName);
word!(PlaceName);

impl TryFrom<String> for PlaceName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<PlaceName, Self::Error> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        if (1..=255).contains(&text.len()) && text.bytes().all(good) {
            Ok(PlaceName(text))
        } else {
            Err("the name of a host or fleet is 1 to 255 letters, digits, '.' and '-'")
        }
    }
}
