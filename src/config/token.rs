//! `[token.NAME]` and `[key.NAME]`.

use super::demands::{Approvals, Endorsement};
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
        account: Option<Spanned<UnixUser>>,
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
    server_account: Option<Spanned<UnixUser>>,
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

    fn try_from(mut fields: Fields) -> Result<Token, String> {
        let source = match (fields.module.take(), fields.server.take()) {
            (Some(_), _) if cfg!(target_feature = "crt-static") => {
                return Err("this sigsh is linked statically and loads no module: name the 'server' that does".into());
            }
            (Some(module), None) => Source::Module { module, sandbox: fields.of_module()? },
            (None, Some(socket)) => Source::Server { socket, account: fields.of_server()? },
            (Some(_), Some(_)) => return Err("a token has either a 'module' or a 'server'".into()),
            (None, None) => return Err("a token needs a 'module' or a 'server'".into()),
        };
        let Fields { uri, pin_file, read, write, environment, timeout, sessions, queue, .. } = fields;
        let connect = fields.connect.into_iter().map(NonZeroU16::get).collect();
        Ok(Token { source, uri, pin_file, read, write, connect, environment, timeout, sessions, queue })
    }
}

const PORTS: &str = "the sandbox 'network' and 'connect', its TCP ports, need each other";

impl Fields {
    /// Its sandbox, once all fits it.
    fn of_module(&self) -> Result<Profile, String> {
        let environment = |name: &str| self.environment.get(name).map(|value| &**value);
        match self.sandbox {
            None => Err("a module needs a 'sandbox'".into()),
            Some(Profile::P11Kit) => Err("the sandbox 'p11-kit' is for a server, not for a module".into()),
            Some(_) if self.server_account.is_some() => Err("a 'server-account' needs a 'server'".into()),
            Some(sandbox) if (sandbox == Profile::Network) == self.connect.is_empty() => Err(PORTS.into()),
            Some(sandbox) if !sandbox.is_complete(&environment) => {
                Err("the sandbox 'tpm' needs a device in 'environment', TPM2_PKCS11_TCTI = \"device:/dev/tpmrm0\"".into())
            }
            Some(sandbox) => Ok(sandbox),
        }
    }

    /// Its account, once all fits it.
    fn of_server(&mut self) -> Result<Option<Spanned<UnixUser>>, String> {
        if self.sandbox.is_some_and(|sandbox| sandbox != Profile::P11Kit) {
            return Err("the sandbox of a server is 'p11-kit', and need not be named".into());
        }
        if !(self.read.is_empty() && self.write.is_empty() && self.environment.is_empty()) {
            return Err("'read', 'write' and 'environment' are for a module; a server has its own".into());
        }
        if self.connect.is_empty() { Ok(self.server_account.take()) } else { Err(PORTS.into()) }
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
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Key {
    pub(super) token: Spanned<Name>,
    /// Selects exactly one private key in the token.
    pub uri: KeyUri,
    /// The file with its public OpenPGP certificate.
    pub certificate: AbsolutePath,
    /// The hash of its signatures.
    #[serde(default = "Key::default_hash")]
    pub hash: HashAlgorithm,
    /// Which builds must have made what it signs.
    pub endorsement: Option<Endorsement>,
    /// How many people must have approved what it signs.
    pub approvals: Option<Approvals>,
    /// Who may stand in for both in an emergency.
    pub break_glass: Option<Approvals>,
}

impl Key {
    fn default_hash() -> HashAlgorithm {
        HashAlgorithm::Sha512
    }

    /// Whether it is the same object as another, or has its certificate, as far as their tables tell.
    pub(super) fn is_same(&self, other: &Key) -> bool {
        self.certificate == other.certificate || self.token.get_ref() == other.token.get_ref() && self.uri == other.uri
    }

    /// Whether it demands more than a client.
    pub fn is_guarded(&self) -> bool {
        self.endorsement.is_some() || self.approvals.is_some()
    }
}
