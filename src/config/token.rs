//! `[token.NAME]` and `[key.NAME]`.

use super::uri::{KeyUri, TokenUri};
use super::values::{AbsolutePath, Count, Name, Time, Variable, VariableValue};
use super::who::UnixUser;
use crate::hash_state::HashAlgorithm;
use crate::sandbox::Profile;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;
use toml::Spanned;

/// Where a token is reached.
#[derive(Debug)]
pub enum Source {
    /// By a PKCS#11 module that is loaded into the token process.
    Module {
        /// Its file.
        module: AbsolutePath,
        /// Which sandbox it runs in.
        sandbox: Profile,
    },
    /// By a p11-kit server, in a process of its own.
    Server {
        /// The socket on which it listens.
        socket: AbsolutePath,
        /// The account that it may run as, besides root.
        account: Option<UnixUser>,
    },
}

/// `[token.NAME]`: a PKCS#11 token and what surrounds it.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Token {
    /// Where it is.
    pub source: Source,
    /// Selects exactly one token.
    pub uri: TokenUri,
    /// Holds the user PIN, on one line.
    pub pin_file: AbsolutePath,
    /// Further paths that the module may read.
    pub read: Vec<AbsolutePath>,
    /// Further paths that the module may read and write.
    pub write: Vec<AbsolutePath>,
    /// TCP ports that the module may connect to.
    pub connect: Vec<u16>,
    /// What the module sees besides what its profile sets.
    pub environment: BTreeMap<Variable, VariableValue>,
    timeout: Time,
    sessions: Option<Count>,
    queue: Time,
}

/// The same as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Fields {
    module: Option<AbsolutePath>,
    server: Option<AbsolutePath>,
    server_account: Option<UnixUser>,
    uri: TokenUri,
    pin_file: AbsolutePath,
    sandbox: Option<Profile>,
    #[serde(default)]
    read: Vec<AbsolutePath>,
    #[serde(default)]
    write: Vec<AbsolutePath>,
    #[serde(default)]
    connect: Vec<NonZeroU16>,
    #[serde(default)]
    environment: BTreeMap<Variable, VariableValue>,
    #[serde(default = "Token::default_timeout")]
    timeout: Time,
    sessions: Option<Count>,
    #[serde(default = "Token::default_queue")]
    queue: Time,
}

impl TryFrom<Fields> for Token {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Token, String> {
        let Fields { uri, pin_file, read, write, connect, environment, timeout, sessions, queue, .. } = fields;
        let source = match (fields.module, fields.server, fields.sandbox) {
            (Some(_), ..) if cfg!(target_feature = "crt-static") => {
                return Err("this sigsh is linked statically and loads no module: name the 'server' that does".into());
            }
            (Some(_), None, Some(Profile::P11Kit)) => return Err("the sandbox 'p11-kit' is for a server, not for a module".into()),
            (Some(_), None, _) if fields.server_account.is_some() => return Err("a 'server-account' needs a 'server'".into()),
            (Some(module), None, Some(sandbox)) => Source::Module { module, sandbox },
            (Some(_), None, None) => return Err("a module needs a 'sandbox'".into()),
            (None, Some(_), Some(sandbox)) if sandbox != Profile::P11Kit => {
                return Err("the sandbox of a server is 'p11-kit', and need not be named".into());
            }
            (None, Some(_), _) if !(read.is_empty() && write.is_empty() && environment.is_empty()) => {
                return Err("'read', 'write' and 'environment' are for a module; a server has its own".into());
            }
            (None, Some(socket), _) => Source::Server { socket, account: fields.server_account },
            (Some(_), Some(_), _) => return Err("a token has either a 'module' or a 'server'".into()),
            (None, None, _) => return Err("a token needs a 'module' or a 'server'".into()),
        };
        let network = matches!(source, Source::Module { sandbox: Profile::Network, .. });
        if network == connect.is_empty() {
            return Err("the sandbox 'network' and 'connect', its TCP ports, need each other".into());
        }
        let tpm = matches!(source, Source::Module { sandbox: Profile::Tpm, .. });
        if tpm && !environment.get("TPM2_PKCS11_TCTI").is_some_and(|tcti| tcti.starts_with("device:/")) {
            return Err("the sandbox 'tpm' needs a device in 'environment', TPM2_PKCS11_TCTI = \"device:/dev/tpmrm0\"".into());
        }
        let connect = connect.into_iter().map(NonZeroU16::get).collect();
        Ok(Token { source, uri, pin_file, read, write, connect, environment, timeout, sessions, queue })
    }
}

impl Token {
    /// Which sandbox the token process runs in.
    pub fn profile(&self) -> Profile {
        match self.source {
            Source::Module { sandbox, .. } => sandbox,
            Source::Server { .. } => Profile::P11Kit,
        }
    }

    /// All of the environment that the module sees: what the profile sets, and what the operator does.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.environment.iter().map(|(name, value)| (&**name, &**value));
        self.profile().environment().iter().copied().chain(own)
    }

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
