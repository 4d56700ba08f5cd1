//! The configuration: one TOML file, parsed into types that cannot be wrong. Errors name file, line and column.

pub mod approvers;
pub mod audit;
pub mod client;
pub mod demands;
pub mod limits;
pub mod revoked;
pub mod token;
pub mod uri;
pub mod values;
pub mod who;

pub use approvers::{Approver, Approvers};
pub use audit::Audit;
pub use client::{Client, Declaration, Input};
pub use demands::{Approvals, Endorsement};
pub use limits::Limits;
pub use revoked::Revoked;
pub use token::{Key, Source, Token};

use crate::hash_state::HashAlgorithm;
use crate::sandbox::Profile;
use crate::trusted::{self, TrustError};
use demands::PlaceName;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::Spanned;
use values::{AbsolutePath, Name, SshFingerprint};
use who::UnixUser;

/// Where the configuration is looked for when nobody says otherwise.
pub const DEFAULT: &str = "/etc/sigsh/sigsh.toml";

/// journald's native socket, when nobody says otherwise.
pub const JOURNAL: &str = "/run/systemd/journal/socket";

/// The longest configuration in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be opened, or could have been written by somebody else.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// What it says is wrong.
    #[error("{at}: {message}")]
    Wrong {
        /// Where.
        at: Location,
        /// What, in one line.
        message: String,
    },
    /// sigsh runs with more rights than any session needs.
    #[error("sigsh runs as root; it belongs under the account that the configuration names")]
    Root,
}

/// A place in a file, for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    file: PathBuf,
    line: usize,
    column: usize,
}

impl Location {
    /// That of this byte of a file's text.
    pub fn new(file: &Path, source: &str, offset: usize) -> Location {
        let before = source.get(..offset).unwrap_or(source);
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Location { file: file.to_owned(), line: before.matches('\n').count() + 1, column }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// The text of a configuration that nobody else can have written.
///
/// # Errors
/// [`ConfigError::Trust`], [`ConfigError::Wrong`] where it is no text.
pub fn source(path: &Path) -> Result<String, ConfigError> {
    String::from_utf8(trusted::read(path, MAX_FILE)?).map_err(|error| ConfigError::Wrong {
        at: Location::new(path, "", 0),
        message: format!("the file is not UTF-8 (byte {})", error.utf8_error().valid_up_to()),
    })
}

/// Makes of a text what it says; `path` is for messages.
///
/// # Errors
/// [`ConfigError::Wrong`].
pub fn parse<T: serde::de::DeserializeOwned>(path: &Path, source: &str) -> Result<T, ConfigError> {
    toml::from_str(source).map_err(|error| ConfigError::Wrong {
        at: Location::new(path, source, error.span().map_or(0, |span| span.start)),
        message: error.message().replace('\n', " "),
    })
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The unix account that sigsh runs as.
    pub account: String,
    host: Option<PlaceName>,
    fleet: Option<PlaceName>,
    /// The list of revoked ssh keys and certificates.
    #[serde(default, rename = "revoked-keys")]
    pub revoked_keys: Option<AbsolutePath>,
    #[serde(default, rename = "token")]
    tokens: BTreeMap<Name, Token>,
    #[serde(default, rename = "key")]
    keys: BTreeMap<Name, Spanned<Key>>,
    #[serde(default, rename = "client")]
    clients: BTreeMap<Name, Spanned<Client>>,
    /// What one session may take.
    #[serde(default)]
    pub limits: Limits,
    /// Where records go.
    #[serde(default)]
    pub audit: Audit,
}

impl Config {
    /// Reads the configuration as a session needs it.
    ///
    /// # Errors
    /// Any [`ConfigError`].
    pub fn for_session(path: &Path) -> Result<Config, ConfigError> {
        if nix::unistd::geteuid().is_root() {
            return Err(ConfigError::Root);
        }
        let (config, source) = Config::read(path)?;
        config.check_use(path, &source)?;
        Ok(config)
    }

    /// Reads the configuration as `sigsh-admin` needs it: `complete` once every key should have its client.
    ///
    /// # Errors
    /// Any [`ConfigError`].
    pub fn for_admin(path: &Path, complete: bool) -> Result<Config, ConfigError> {
        let (config, source) = Config::read(path)?;
        if complete {
            config.check_use(path, &source)?;
        }
        Ok(config)
    }

    fn read(path: &Path) -> Result<(Config, String), ConfigError> {
        let source = source(path)?;
        let config = Config::parse(path, &source)?;
        Ok((config, source))
    }

    /// Parses the text of a configuration; `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`].
    pub fn parse(path: &Path, source: &str) -> Result<Config, ConfigError> {
        let config: Config = parse(path, source)?;
        config.check_names(path, source)?;
        config.check_demands(path, source)?;
        Ok(config)
    }

    /// Every name that is used is defined, and nobody is two clients.
    fn check_names(&self, path: &Path, source: &str) -> Result<(), ConfigError> {
        let wrong = |offset, message| Err(ConfigError::Wrong { at: Location::new(path, source, offset), message });
        for key in self.keys.values() {
            let token = &key.get_ref().token;
            if !self.tokens.contains_key(token.get_ref()) {
                return wrong(token.span().start, format!("there is no [token.{}]", token.get_ref()));
            }
        }
        let ours = UnixUser::Name(self.account.clone());
        for token in self.tokens.values() {
            // Who tries it out under one account needs none: whoever owns the PIN may serve it.
            if let Source::Server { account: Some(account), .. } = &token.source
                && (*account.get_ref() == ours || account.get_ref().id().is_some_and(|id| ours.id() == Some(id)))
            {
                let message = "the 'server-account' is not 'account', nor its uid: that is who must not have the key";
                return wrong(account.span().start, message.to_owned());
            }
        }
        let mut seen: Vec<(&SshFingerprint, &Name, &Client)> = Vec::new();
        for (name, spanned) in &self.clients {
            let client = spanned.get_ref();
            if let Some(key) = client.keys.iter().find(|key| !self.keys.contains_key(key.get_ref())) {
                return wrong(key.span().start, format!("there is no [key.{}]", key.get_ref()));
            }
            if let (None, Some(burst)) = (client.rate(), &client.burst) {
                return wrong(burst.span().start, "a burst needs a rate".to_owned());
            }
            if let Err(message) = client.check_identity() {
                return wrong(spanned.span().start, format!("client '{name}': {message}"));
            }
            if let Some((place, key)) = client.strange_key() {
                return wrong(place, format!("the request names key '{key}', which is not the client's"));
            }
            if let Some((Some(place), input)) = client.strange_input() {
                return wrong(place, format!("the request reads {input} input, which is not among the client's inputs"));
            }
            for ssh_key in client.ssh_keys.iter().flatten() {
                let same = |(key, of, other): &&(_, &Name, &Client)| {
                    *key == ssh_key.get_ref() && (*of == name || !client.is_apart_from(other))
                };
                if let Some((_, other, _)) = seen.iter().find(same) {
                    return wrong(ssh_key.span().start, format!("this ssh key is already client '{other}'"));
                }
                seen.push((ssh_key.get_ref(), name, client));
            }
        }
        Ok(())
    }

    /// What vouches for artifacts is called by a name, and counted; and nobody vouches for himself.
    fn check_demands(&self, path: &Path, source: &str) -> Result<(), ConfigError> {
        let wrong = |offset, message: &str| {
            Err(ConfigError::Wrong { at: Location::new(path, source, offset), message: message.to_owned() })
        };
        for (name, spanned) in &self.keys {
            let (key, at) = (spanned.get_ref(), spanned.span().start);
            if !key.is_guarded() {
                if key.break_glass.is_some() {
                    return wrong(at, &format!("key '{name}' has a break-glass, and demands neither endorsement nor approvals"));
                }
                continue;
            }
            if let Some((other, table)) = self.keys.iter().find(|(other, table)| *other != name && table.get_ref().is_same(key)) {
                let message = format!("key '{other}' has the certificate, or token and uri, of key '{name}', and not its demands");
                return wrong(table.span().start, &message);
            }
            if self.host.is_none() {
                return wrong(
                    at,
                    &format!("key '{name}' demands an endorsement or approvals, which name a 'host': say what this one is called"),
                );
            }
            if self.audit.ledger().is_none() {
                return wrong(
                    at,
                    &format!("key '{name}' demands an endorsement or approvals, which are counted and kept in the ledger"),
                );
            }
            if let Some(endorsement) = &key.endorsement {
                if endorsement.is_empty() {
                    return wrong(at, &format!("the endorsement of key '{name}' needs 'ssh-ca', 'openpgp' or 'mac-file'"));
                }
                let mut authorities = endorsement.ssh_ca.iter();
                let lets_in = |ca: &SshFingerprint| self.clients().any(|(_, client)| client.ssh_ca.as_ref() == Some(ca));
                if let Some(ca) = authorities.clone().find(|ca| lets_in(ca.get_ref())) {
                    return wrong(
                        ca.span().start,
                        "this authority lets clients in: those who log in must not permit themselves anything",
                    );
                }
                if let Some(ca) = authorities.next().filter(|_| key.hash == HashAlgorithm::Sha384) {
                    return wrong(
                        ca.span().start,
                        "ssh-keygen signs what is hashed by sha256 or sha512, and the key's hash is sha384",
                    );
                }
            }
            let panels = [&key.approvals, &key.break_glass].map(|panel| panel.as_ref().map(|panel| &panel.approvers));
            if let [Some(approvers), Some(others)] = panels
                && approvers.get_ref() == others.get_ref()
            {
                return wrong(others.span().start, "who breaks the glass stands in a list of his own");
            }
        }
        Ok(())
    }

    /// What this host is called in permits and approvals; empty where nothing demands any.
    pub fn host(&self) -> &str {
        self.host.as_deref().unwrap_or_default()
    }

    /// What all hosts that sign the same are called in approvals.
    pub fn fleet(&self) -> Option<&str> {
        self.fleet.as_deref()
    }

    /// Every key has a client, and every client a key: anything else is a mistake, in a configuration that is in use.
    fn check_use(&self, path: &Path, source: &str) -> Result<(), ConfigError> {
        let wrong = |offset, message| Err(ConfigError::Wrong { at: Location::new(path, source, offset), message });
        let used = |name: &Name| self.clients().any(|(_, client)| client.keys.iter().any(|key| key.get_ref() == name));
        if let Some((name, key)) = self.keys.iter().find(|(name, _)| !used(name)) {
            return wrong(key.span().start, format!("no client may use key '{name}'"));
        }
        let idle = |client: &Client| client.keys.is_empty() || client.ssh_keys.as_ref().is_some_and(Vec::is_empty);
        match self.clients.iter().find(|(_, client)| idle(client.get_ref())) {
            Some((name, client)) => wrong(client.span().start, format!("client '{name}' needs at least one ssh key and one key")),
            None => Ok(()),
        }
    }

    /// Reads the list of revoked keys; an empty one where the configuration names none.
    ///
    /// # Errors
    /// Any [`ConfigError`] about the list.
    pub fn revoked(&self) -> Result<Revoked, ConfigError> {
        self.revoked_keys.as_ref().map_or_else(|| Ok(Revoked::default()), |path| Revoked::open(path))
    }

    /// A key and its token, by the key's name.
    pub fn key(&self, name: &str) -> Option<(&Name, &Key, &Token)> {
        let (name, key) = self.keys.get_key_value(name)?;
        let key = key.get_ref();
        Some((name, key, self.tokens.get(key.token.get_ref())?))
    }

    /// The name of a key's token.
    pub fn token_name<'a>(&self, key: &'a Key) -> &'a Name {
        key.token.get_ref()
    }

    /// The sandboxes of its tokens, each once.
    pub fn profiles(&self) -> Vec<Profile> {
        let is_used = |profile: &Profile| self.tokens.values().any(|token| token.profile() == *profile);
        Profile::ALL.into_iter().filter(is_used).collect()
    }

    /// The TCP ports that its tokens are reached by.
    pub fn ports(&self) -> Vec<u16> {
        self.tokens.values().flat_map(|token| token.connect.iter().copied()).collect()
    }

    /// All keys, in order of their names.
    pub fn keys(&self) -> impl Iterator<Item = (&Name, &Key)> {
        self.keys.iter().map(|(name, key)| (name, key.get_ref()))
    }

    /// All clients, in order of their names.
    pub fn clients(&self) -> impl Iterator<Item = (&Name, &Client)> {
        self.clients.iter().map(|(name, client)| (name, client.get_ref()))
    }
}
