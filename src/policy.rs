//! Who may sign what. Permission is a value: whoever holds a [`Grant`] may have the artifact signed that it describes, and only
//! this module makes one.

use crate::config::values::{Name, Rate};
use crate::config::{Client, Config, Declaration, Input, Key, Token};
use crate::hash_state::{Body, Form, HashState, Hashed};
use crate::identity::{Identity, Login};
use crate::request::{Digest, Request, Sign};

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No client is this one. Says by what it was known.
    #[error("no client {0}")]
    Client(&'static str),
    /// A client is this one, but not from there.
    #[error("client '{0}' must not come from this address")]
    Place(Name),
    /// Two clients are this one.
    #[error("two clients are this one: '{0}' and '{1}'")]
    Two(Name, Name),
    /// The client may not send single artifacts.
    #[error("this client may not send {0} input")]
    Input(Input),
    /// The key does not exist, or is not for this client: nobody is told which.
    #[error("key not permitted")]
    Key,
    /// The declared size exceeds the client's limit.
    #[error("the declared size exceeds the limit of {0} bytes")]
    Size(u64),
    /// The client must declare something, and has not.
    #[error("this client must declare {0}")]
    Undeclared(Declaration),
    /// The declared digest is of another hash than the key's.
    #[error("the key signs {0}; declare the digest by that hash")]
    Hash(&'static str),
}

/// Why an artifact is not what was granted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// There is none.
    #[error("the input is empty")]
    Empty,
    /// Another size than declared.
    #[error("the input has {0} bytes, not the declared number")]
    Size(u64),
    /// Another digest than declared.
    #[error("the input has not the declared digest")]
    Digest,
}

/// A client that was recognised.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    config: &'a Config,
    /// Its name.
    pub name: &'a Name,
    client: &'a Client,
}

/// Permission to sign one artifact with one key.
pub struct Grant<'a> {
    /// Who has it.
    pub client: Known<'a>,
    /// The key's name.
    pub name: &'a Name,
    /// The key.
    pub key: &'a Key,
    /// Its token.
    pub token: &'a Token,
    /// The greatest number of bytes that need to be read to know whether the artifact is the declared one.
    pub limit: u64,
    /// What of it is to be signed.
    pub form: Form,
    size: Option<u64>,
    digest: Option<Digest>,
    armor: bool,
}

/// An artifact that was hashed and is what was granted.
pub struct Accepted {
    /// Whether its signature is to be armored.
    pub armor: bool,
    /// Its hash, open for the signature's trailer.
    pub state: HashState,
    /// What of it the signature covers.
    pub form: Form,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest by the key's hash: from this very state, unless it is claimed.
    pub digest: Vec<u8>,
    /// Whether size and digest are the hasher's word, because the state that is signed is not that of the bytes alone.
    pub claimed: bool,
    /// The text that leaves together with its signature.
    pub body: Option<Body>,
}

/// Recognises a client: exactly one.
///
/// # Errors
/// [`Refusal::Client`], [`Refusal::Place`], [`Refusal::Two`].
pub fn recognise<'a>(config: &'a Config, identity: &Identity) -> Result<Known<'a>, Refusal> {
    let is = |client: &Client| client.logs_in_by(identity.login.as_ref()) && client.runs_as(&identity.user);
    let comes = |client: &Client| client.comes_from(identity.address);
    let mut found = config.clients().filter(|(_, client)| is(client) && comes(client));
    match (found.next(), found.next()) {
        (Some((name, client)), None) => Ok(Known { config, name, client }),
        (Some((one, _)), Some((other, _))) => Err(Refusal::Two(one.clone(), other.clone())),
        (None, _) => match config.clients().find(|(_, client)| is(client)) {
            Some((name, _)) => Err(Refusal::Place(name.clone())),
            None => Err(Refusal::Client(match identity.login {
                Some(Login::Key(_)) => "has this ssh key",
                Some(Login::Certificate(_)) => "has this ssh certificate",
                None => "is this unix user outside ssh",
            })),
        },
    }
}

impl<'a> Known<'a> {
    /// What an empty request of this client means.
    pub fn default_request(self) -> Request {
        self.client.request().request
    }

    /// How many signatures it gets in a time, and how many of them at once.
    pub fn rate(self) -> Option<(Rate, u64)> {
        self.client.rate()
    }

    /// The key that a client means: the one it names, or its first.
    ///
    /// # Errors
    /// [`Refusal::Key`], be it unknown or forbidden.
    pub fn key(self, name: Option<&str>) -> Result<(&'a Name, &'a Key, &'a Token), Refusal> {
        let mut allowed = self.client.keys.iter().map(toml::Spanned::get_ref);
        let name = match name {
            None => allowed.next(),
            Some(name) => allowed.find(|key| ***key == *name),
        };
        name.and_then(|name| self.config.key(name)).ok_or(Refusal::Key)
    }

    /// Decides whether an artifact may be signed, before any of it is read.
    ///
    /// # Errors
    /// Any [`Refusal`] but those of [`recognise`].
    pub fn may_sign(self, request: Sign) -> Result<Grant<'a>, Refusal> {
        let (name, key, token) = self.key(request.key.as_deref())?;
        if !self.client.inputs.contains(&Input::Artifact) {
            return Err(Refusal::Input(Input::Artifact));
        }
        for required in &self.client.require {
            let declared = match required {
                Declaration::Size => request.size.is_some(),
                Declaration::Digest => request.digest.is_some(),
            };
            if !declared {
                return Err(Refusal::Undeclared(*required));
            }
        }
        let form = request.form();
        let max = self.client.max_size().min(form.limit());
        if request.size.is_some_and(|size| size > max) {
            return Err(Refusal::Size(max));
        }
        if request.digest.as_ref().is_some_and(|digest| digest.algorithm != key.hash) {
            return Err(Refusal::Hash(key.hash.name()));
        }
        Ok(Grant {
            client: self,
            name,
            key,
            token,
            limit: request.size.unwrap_or(max),
            form,
            size: request.size,
            digest: request.digest,
            // A cleartext-signed message is of text from end to end (RFC 9580 §7).
            armor: request.armor || form == Form::Cleartext,
        })
    }
}

impl Grant<'_> {
    /// Compares what was hashed with what was declared.
    ///
    /// # Errors
    /// Any [`Mismatch`].
    pub fn accept(self, hashed: Hashed) -> Result<Accepted, Mismatch> {
        let Hashed { state, claimed, body } = hashed;
        let bytes = claimed.as_ref().unwrap_or(&state);
        let size = bytes.size().unwrap_or(u64::MAX);
        if size == 0 && self.size != Some(0) {
            return Err(Mismatch::Empty);
        }
        if self.size.is_some_and(|declared| declared != size) {
            return Err(Mismatch::Size(size));
        }
        let digest = bytes.clone().finish();
        if self.digest.as_ref().is_some_and(|declared| declared.bytes != digest) {
            return Err(Mismatch::Digest);
        }
        Ok(Accepted { armor: self.armor, state, form: self.form, size, digest, claimed: claimed.is_some(), body })
    }
}
