//! `[token.NAME]` and `[key.NAME]`.

use super::uri::{KeyUri, TokenUri};
use super::values::{AbsolutePath, Count, Name, Time, Variable, VariableValue};
use crate::hash_state::HashAlgorithm;
use crate::sandbox::Profile;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::Spanned;

/// `[token.NAME]`: a PKCS#11 token and what surrounds it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Token {
    /// The PKCS#11 module.
    pub module: AbsolutePath,
    /// Selects exactly one token.
    pub uri: TokenUri,
    /// Holds the user PIN, on one line.
    pub pin_file: AbsolutePath,
    /// Which sandbox the module runs in.
    pub sandbox: Profile,
    /// Further paths that the module may read.
    #[serde(default)]
    pub read: Vec<AbsolutePath>,
    /// Further paths that the module may read and write.
    #[serde(default)]
    pub write: Vec<AbsolutePath>,
    /// All of the environment that the module sees.
    #[serde(default)]
    pub environment: BTreeMap<Variable, VariableValue>,
    #[serde(default = "Token::default_timeout")]
    timeout: Time,
    sessions: Option<Count>,
    #[serde(default = "Token::default_queue")]
    queue: Time,
}

impl Token {
    fn default_queue() -> Time {
        Time(Duration::from_secs(120))
    }

    fn default_timeout() -> Time {
        Time(Duration::from_secs(30))
    }

    /// How long loading the module, and then a signature, may take each.
    pub fn timeout(&self) -> Duration {
        self.timeout.0
    }

    /// How many sessions may use it at once; `None` is as many as come.
    pub fn sessions(&self) -> Option<u64> {
        self.sessions.map(|sessions| sessions.0)
    }

    /// How long a session waits for its turn at a token that bears only so many.
    pub fn queue(&self) -> Duration {
        self.queue.0
    }
}

/// `[key.NAME]`: a signing key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub(super) token: Spanned<Name>,
    /// Selects exactly one private key in the token.
    pub uri: KeyUri,
    /// The file with its public OpenPGP certificate.
    pub certificate: AbsolutePath,
    /// The hash of its signatures.
    #[serde(default = "Key::default_hash")]
    pub hash: HashAlgorithm,
}

impl Key {
    fn default_hash() -> HashAlgorithm {
        HashAlgorithm::Sha512
    }
}
