//! `[client.NAME]`.

use super::values::{Count, Name, Rate, Size, SshFingerprint, from_text};
use super::who::{Network, Pattern, Person, Principal, UnixUser};
use crate::identity::{Login, User};
use crate::request::{Request, Sign, SignState};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use toml::Spanned;

/// `[client.NAME]`: who may ask for what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Client {
    /// The ssh keys that are this client.
    pub ssh_keys: Option<Vec<Spanned<SshFingerprint>>>,
    /// Or the authority whose certificates are,
    pub ssh_ca: Option<SshFingerprint>,
    /// with one of these principals,
    pub principals: Option<Vec<Principal>>,
    /// and with a key id that fits one of these.
    pub key_ids: Option<Vec<Pattern>>,
    /// The unix user that sigsh runs as, beside either, or alone and outside ssh.
    pub unix_user: Option<UnixUser>,
    /// Where it comes from; anywhere where there is none.
    pub from: Option<Vec<Network>>,
    /// Who it is as an approver, where its name does not say so.
    pub person: Option<Person>,
    /// The keys it may use; the first is its default.
    pub keys: Vec<Spanned<Name>>,
    request: Option<Spanned<DefaultRequest>>,
    inputs: Option<Vec<Input>>,
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

    /// Whether it is known by exactly one kind of identity.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub(super) fn check_identity(&self) -> Result<(), &'static str> {
        let empty = |length: Option<usize>| length == Some(0);
        let by_certificate = self.principals.is_some() || self.key_ids.is_some();
        match (&self.ssh_keys, &self.ssh_ca) {
            _ if empty(self.principals.as_ref().map(Vec::len)) => Err("a list of principals must not be empty"),
            _ if empty(self.key_ids.as_ref().map(Vec::len)) => Err("a list of key-ids must not be empty"),
            _ if empty(self.from.as_ref().map(Vec::len)) => Err("from names no network, so nobody would match"),
            _ if self.inputs().is_empty() => Err("inputs names nothing that it may send"),
            (Some(_), Some(_)) => Err("a client has either ssh-keys or ssh-ca"),
            (None, Some(_)) if !by_certificate => Err("beside ssh-ca stand principals, key-ids or both"),
            (_, None) if by_certificate => Err("principals and key-ids need an ssh-ca beside them"),
            (None, None) if self.unix_user.is_none() => Err("a client is known by ssh-keys, ssh-ca or unix-user"),
            _ => Ok(()),
        }
    }

    /// Whether this is how it logs in; `None` is outside ssh.
    pub fn logs_in_by(&self, login: Option<&Login>) -> bool {
        match login {
            Some(Login::Key(key)) => self.ssh_keys.iter().flatten().any(|own| own.get_ref() == key),
            Some(Login::Certificate(certificate)) => {
                let principal = |it: &Vec<u8>| self.principals.as_ref().is_none_or(|own| own.iter().any(|own| own.is(it)));
                self.ssh_ca == Some(certificate.ca)
                    && (self.principals.is_some() || self.key_ids.is_some())
                    // Not even a key id helps one without principals: sshd may take it for anybody's.
                    && certificate.principals.iter().any(principal)
                    && self.key_ids.as_ref().is_none_or(|own| own.iter().any(|own| own.fits(&certificate.key_id)))
            }
            None => self.ssh_keys.is_none() && self.ssh_ca.is_none() && self.unix_user.is_some(),
        }
    }

    /// Whether it runs under this user.
    pub fn runs_as(&self, user: &User) -> bool {
        self.unix_user.as_ref().is_none_or(|own| user.is(own))
    }

    /// Whether it comes from there. One that must come from somewhere does not come from an unknown place.
    pub fn comes_from(&self, address: Option<IpAddr>) -> bool {
        let within = |address: IpAddr| self.from.iter().flatten().any(|network| network.contains(address));
        self.from.is_none() || address.is_some_and(within)
    }

    /// Whether nobody can be both this client and the other one, with the same ssh key. Where both have networks, the peer decides.
    pub(super) fn is_apart_from(&self, other: &Client) -> bool {
        let users = self.unix_user.as_ref().zip(other.unix_user.as_ref());
        self.from.is_some() && other.from.is_some() || users.is_some_and(|(own, theirs)| own != theirs)
    }

    /// What an empty request means.
    pub fn request(&self) -> DefaultRequest {
        self.request.as_ref().map_or_else(DefaultRequest::default, |request| request.get_ref().clone())
    }

    /// A key that its own request names, without being one of its keys; and where that stands.
    pub(super) fn strange_key(&self) -> Option<(usize, &str)> {
        let request = self.request.as_ref()?;
        let names = match &request.get_ref().request {
            Request::Sign(Sign { key, .. }) | Request::SignState(SignState { key }) | Request::Certificate { key, .. } => {
                key.as_slice()
            }
            Request::SignTar(sign) => &sign.keys,
            Request::Help | Request::Version => &[],
        };
        let own = |name: &&String| self.keys.iter().any(|key| **key.get_ref() == ***name);
        let strange = names.iter().find(|name| !own(name))?;
        Some((request.span().start, strange))
    }

    /// What an empty request reads, without being among what the client may send; and where that is asked for, unless by default.
    pub fn strange_input(&self) -> Option<(Option<usize>, Input)> {
        let input = match self.request().request {
            Request::Sign(_) => Input::Artifact,
            Request::SignTar(_) => Input::Tar,
            Request::SignState(_) => Input::State,
            Request::Certificate { .. } | Request::Help | Request::Version => return None,
        };
        let place = self.request.as_ref().map(|request| request.span().start);
        (!self.inputs().contains(&input)).then_some((place, input))
    }

    /// What it may send. Where nobody has said so, single artifacts; and tars, unless it must declare something, which a tar cannot.
    pub fn inputs(&self) -> &[Input] {
        match &self.inputs {
            Some(inputs) => inputs,
            None if self.require.is_empty() => &[Input::Artifact, Input::Tar],
            None => &[Input::Artifact],
        }
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

/// A request that was parsed when the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRequest {
    text: String,
    /// What it asks.
    pub request: Request,
}

from_text!(DefaultRequest);

impl Default for DefaultRequest {
    fn default() -> DefaultRequest {
        DefaultRequest { text: "sign".to_owned(), request: Request::Sign(crate::request::Sign::default()) }
    }
}

impl TryFrom<String> for DefaultRequest {
    type Error = String;

    fn try_from(text: String) -> Result<DefaultRequest, String> {
        crate::request::check(&text).map_err(|error| error.to_string())?;
        if Request::is_empty(&text) {
            return Err("a request that is empty cannot say what an empty one means".to_owned());
        }
        let request = Request::parse(&text).map_err(|error| error.to_string())?;
        Ok(DefaultRequest { text, request })
    }
}

impl fmt::Display for DefaultRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a client can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// One artifact, to `sign`.
    Artifact,
    /// A tar of artifacts.
    Tar,
    /// Hash states.
    State,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Input::Artifact => "artifact",
            Input::Tar => "tar",
            Input::State => "state",
        })
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
