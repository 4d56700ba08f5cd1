//! `[client.NAME]`.

use super::values::{Count, Name, Rate, Size, SshFingerprint};
use serde::Deserialize;
use std::fmt;
use toml::Spanned;

/// `[client.NAME]`: who may ask for what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Client {
    /// The ssh keys that are this client.
    pub ssh_keys: Vec<Spanned<SshFingerprint>>,
    /// The keys it may use; the first is its default.
    pub keys: Vec<Spanned<Name>>,
    /// What a request must declare.
    #[serde(default)]
    pub require: Vec<Declaration>,
    #[serde(default = "Client::default_max_size")]
    max_size: Size,
    rate: Option<Rate>,
    pub(super) burst: Option<Spanned<Count>>,
}

impl Client {
    fn default_max_size() -> Size {
        Size(16 << 30)
    }

    /// Whether this ssh key is one of the client's.
    pub fn has_key(&self, ssh_key: &SshFingerprint) -> bool {
        self.ssh_keys.iter().any(|key| key.get_ref() == ssh_key)
    }

    /// The size in bytes of the largest artifact.
    pub fn max_size(&self) -> u64 {
        self.max_size.0
    }

    /// How many signatures it gets, and how many of them at once; `None` is no limit.
    pub fn rate(&self) -> Option<(Rate, u64)> {
        let rate = self.rate?;
        Some((rate, self.burst.as_ref().map_or(rate.number, |burst| burst.get_ref().0)))
    }
}

/// What a client can be required to declare about its artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Declaration {
    /// `--size`.
    Size,
    /// `--digest`.
    Digest,
}

impl fmt::Display for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Declaration::Size => "--size",
            Declaration::Digest => "--digest",
        })
    }
}
