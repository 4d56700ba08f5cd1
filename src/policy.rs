//! Who may sign what. Permission is a value: whoever holds a [`Grant`] may have the artifact signed that it describes, and only
//! this module makes one.

use crate::config::values::{Name, Rate};
use crate::config::who::Person;
use crate::config::{Client, Config, Declaration, Input, Key, Token};
use crate::hash_state::{Form, HashState};
use crate::identity::{Identity, Login};
use crate::request::{Digest, Evidence, Request, Sign, SignState, SignTar};
use crate::warrant::{Place, Subject};

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
    /// A hash state cannot have a v6 key's salt in it.
    #[error("this key signs no hash states: it is of version 6")]
    Salted,
    /// What the key signs must be endorsed or approved, which only bytes of one artifact can be.
    #[error("this key signs what is endorsed or approved: one artifact at a time, its bytes, with --size and --digest")]
    Guarded,
    /// Something vouches for the artifact, and nobody has asked.
    #[error("this key wants neither endorsement nor approvals")]
    Unguarded,
    /// An emergency, and nobody is there to say so.
    #[error("this key has no break-glass")]
    NoBreakGlass,
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
    /// A tar, or a list of hash states, with nothing in it to sign.
    #[error("the input holds nothing to sign")]
    Nothing,
}

/// A client that was recognised.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    config: &'a Config,
    /// Its name.
    pub name: &'a Name,
    client: &'a Client,
}

/// Permission to sign with some keys: one artifact, or many.
pub struct Grant<'a> {
    /// Who has it.
    pub client: Known<'a>,
    /// With which keys: at least one.
    pub keys: Vec<Granted<'a>>,
    /// What standard input is.
    pub input: Input,
    /// The greatest number of bytes of an artifact that need to be read to know whether it is the declared one.
    pub limit: u64,
    /// What of each is to be signed.
    pub form: Form,
    /// Whether the signatures are to be armored.
    pub armor: bool,
    /// What vouches for the artifact.
    pub evidence: Evidence,
    size: Option<u64>,
    digest: Option<Digest>,
}

/// A key that may be used.
#[derive(Clone, Copy)]
pub struct Granted<'a> {
    /// Its name.
    pub name: &'a Name,
    /// The key.
    pub key: &'a Key,
    /// Its token.
    pub token: &'a Token,
}

/// An artifact that was hashed and is what was granted, as one key signs it.
pub struct Accepted {
    /// Its hash, open for the signature's trailer.
    pub state: HashState,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest by the key's hash: from this very state, unless it is claimed.
    pub digest: Vec<u8>,
    /// Whether size and digest are the hasher's word, because the state that is signed is not that of the bytes alone.
    pub claimed: bool,
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

    /// Who it is as an approver, where its name does not say so.
    pub fn person(self) -> Option<&'a Person> {
        self.client.person.as_ref()
    }

    /// How many signatures it gets in a time, and how many of them at once.
    pub fn rate(self) -> Option<(Rate, u64)> {
        self.client.rate()
    }

    /// The key that a client means: the one it names, or its first.
    ///
    /// # Errors
    /// [`Refusal::Key`], be it unknown or forbidden.
    pub fn key(self, name: Option<&str>) -> Result<Granted<'a>, Refusal> {
        let mut allowed = self.client.keys.iter().map(toml::Spanned::get_ref);
        let name = match name {
            None => allowed.next(),
            Some(name) => allowed.find(|key| ***key == *name),
        };
        let found = name.and_then(|name| self.config.key(name)).ok_or(Refusal::Key);
        found.map(|(name, key, token)| Granted { name, key, token })
    }

    /// Decides whether an artifact may be signed, before any of it is read.
    ///
    /// # Errors
    /// Any [`Refusal`] but those of [`recognise`].
    pub fn may_sign(self, request: Sign) -> Result<Grant<'a>, Refusal> {
        let key = self.key(request.key.as_deref())?;
        let form = request.form();
        // A cleartext-signed message is of text from end to end (RFC 9580 §7).
        let armor = request.armor || form == Form::Cleartext;
        let grant = self.grant(Input::Artifact, vec![key], form, armor)?;
        for required in &self.client.require {
            let declared = match required {
                Declaration::Size => request.size.is_some(),
                Declaration::Digest => request.digest.is_some(),
            };
            if !declared {
                return Err(Refusal::Undeclared(*required));
            }
        }
        let guarded = key.key.is_guarded();
        if !guarded && !request.evidence.is_empty() {
            return Err(Refusal::Unguarded);
        }
        if key.key.break_glass.is_none() && !request.evidence.break_glass.is_empty() {
            return Err(Refusal::NoBreakGlass);
        }
        if guarded && (form != Form::Binary || request.size.is_none() || request.digest.is_none()) {
            return Err(Refusal::Guarded);
        }
        if request.size.is_some_and(|size| size > grant.limit) {
            return Err(Refusal::Size(grant.limit));
        }
        if request.digest.as_ref().is_some_and(|digest| digest.algorithm != key.key.hash) {
            return Err(Refusal::Hash(key.key.hash.name()));
        }
        let (limit, evidence) = (request.size.unwrap_or(grant.limit), request.evidence);
        Ok(Grant { limit, evidence, size: request.size, digest: request.digest, ..grant })
    }

    /// The same for the files of a tar.
    ///
    /// # Errors
    /// [`Refusal::Key`], [`Refusal::Input`].
    pub fn may_sign_tar(self, request: &SignTar) -> Result<Grant<'a>, Refusal> {
        let keys = match request.keys.as_slice() {
            [] => vec![self.key(None)?],
            names => names.iter().map(|name| self.key(Some(name))).collect::<Result<_, _>>()?,
        };
        self.grant(Input::Tar, keys, request.form(), request.armor)
    }

    /// The same for hash states.
    ///
    /// # Errors
    /// [`Refusal::Key`], [`Refusal::Input`].
    pub fn may_sign_states(self, request: &SignState) -> Result<Grant<'a>, Refusal> {
        let key = self.key(request.key.as_deref())?;
        // The published answer holds an armored signature.
        self.grant(Input::State, vec![key], Form::Binary, true)
    }

    fn grant(self, input: Input, keys: Vec<Granted<'a>>, form: Form, armor: bool) -> Result<Grant<'a>, Refusal> {
        if !self.client.inputs().contains(&input) {
            return Err(Refusal::Input(input));
        }
        if input != Input::Artifact && keys.iter().any(|granted| granted.key.is_guarded()) {
            return Err(Refusal::Guarded);
        }
        let limit = self.client.max_size().min(form.limit());
        Ok(Grant { client: self, keys, input, limit, form, armor, evidence: Evidence::default(), size: None, digest: None })
    }
}

impl Grant<'_> {
    /// What is to be signed, in records.
    pub fn mode(&self) -> &'static str {
        match (self.input, self.form) {
            (Input::Artifact, form) => form.name(),
            (Input::Tar, Form::Binary) => "tar",
            (Input::Tar, Form::Text | Form::Cleartext) => "tar-text",
            (Input::State, _) => "state",
        }
    }

    /// What builds and people speak of, where the artifact was declared, signed by the key of this fingerprint, here.
    pub fn subject(&self, fingerprint: String, place: Place) -> Option<Subject> {
        let (key, requester) = (self.keys.first()?.name.clone(), self.client.name.clone());
        Some(Subject { key, fingerprint, size: self.size?, digest: self.digest.clone()?, place, requester })
    }

    /// Compares what was hashed with what was declared. `plain` is the state of the bytes as they came, where that which is signed is
    /// another.
    ///
    /// # Errors
    /// Any [`Mismatch`].
    pub fn accept(&self, state: HashState, plain: Option<HashState>) -> Result<Accepted, Mismatch> {
        let bytes = plain.as_ref().unwrap_or(&state);
        let size = bytes.size().unwrap_or(u64::MAX);
        // A tar says of each file how long it is, and a state says it, too: nothing was cut off on its way.
        if size == 0 && self.size != Some(0) && self.input == Input::Artifact {
            return Err(Mismatch::Empty);
        }
        if self.size.is_some_and(|declared| declared != size) {
            return Err(Mismatch::Size(size));
        }
        let digest = bytes.clone().finish();
        if self.digest.as_ref().is_some_and(|declared| declared.bytes != digest) {
            return Err(Mismatch::Digest);
        }
        Ok(Accepted { state, size, digest, claimed: plain.is_some() })
    }
}
