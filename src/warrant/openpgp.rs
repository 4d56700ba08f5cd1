//! The word of a build that an operator has permitted by certifying its OpenPGP key.

mod certification;
mod parts;

use super::{Subject, Warrant, WarrantError};
use crate::config::{Config, ConfigError, Endorsement, Location, Revoked};
use crate::hash_state::{HashAlgorithm, HashState};
use crate::openpgp::certificate::MAX_CERTIFICATE;
use crate::openpgp::{Detached, Live, Pinned, alive, examine, one_line};
use crate::trusted::{self, TrustError, Trusted};
use certification::Question;
use nix::errno::Errno;
use openpgp::cert::Cert;
use openpgp::crypto::mpi;
use openpgp::packet::Signature;
use openpgp::parse::Parse;
use openpgp::policy::StandardPolicy;
use parts::Parts;
use sequoia_openpgp as openpgp;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// By how much another clock may be ahead of ours.
const AHEAD: Duration = Duration::from_secs(5);

/// Whether an endorsement is whole: a certificate, a signature behind it, and nothing else, above all no secret key.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    Parts::read(bytes).map(drop)
}

/// Whose certifications permit builds.
pub struct Operators {
    certs: Vec<Cert>,
    file: Option<Rc<Trusted>>,
    /// The keys of this host, which endorse nothing.
    own: Vec<mpi::PublicKey>,
    revoked: Rc<Revoked>,
    max_age: Duration,
}

impl Operators {
    /// Reads what a key's table names; `None` where it names nobody.
    ///
    /// # Errors
    /// Any [`ConfigError`].
    pub fn open(config: &Config, table: &Endorsement, revoked: &Rc<Revoked>) -> Result<Option<Operators>, ConfigError> {
        let Some(path) = table.openpgp.as_deref() else { return Ok(None) };
        let file = trusted::open(path)?;
        let bytes = file.read(path, MAX_CERTIFICATE)?;
        let mut operators = Operators::read(&bytes, revoked, table.max_age(), SystemTime::now()).map_err(wrong(path))?;
        operators.file = Some(Rc::new(file));
        for (_, key) in config.keys() {
            match trusted::read(&key.certificate, MAX_CERTIFICATE) {
                Ok(bytes) => operators.exclude(&bytes).map_err(wrong(&key.certificate))?,
                // It has not signed anything yet.
                Err(TrustError::Open(_, Errno::ENOENT)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(operators))
    }

    /// Reads their certificates, one or several, binary or armored.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(bytes: &[u8], revoked: &Rc<Revoked>, max_age: Duration, now: SystemTime) -> Result<Operators, String> {
        let certs = Pinned::read(bytes).map_err(|error| error.to_string())?.certs().to_vec();
        for cert in &certs {
            // One that has expired or is revoked is found to be so when it is used: others must not suffer.
            let certifies = cert.with_policy(&StandardPolicy::new(), now).map(|valid| valid.primary_key().for_certification());
            let what = match certifies {
                Ok(true) => continue,
                Ok(false) => "has a primary key that may not certify".to_owned(),
                Err(error) => format!("is not valid: {}", one_line(&error)),
            };
            return Err(format!("the certificate {} {what}", cert.fingerprint().to_hex()));
        }
        Ok(Operators { certs, file: None, own: Vec::new(), revoked: Rc::clone(revoked), max_age })
    }

    /// Has the keys of a certificate endorse nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn exclude(&mut self, bytes: &[u8]) -> Result<(), String> {
        let cert = Cert::from_bytes(bytes).map_err(|error| format!("the certificate cannot be read: {}", one_line(&error)))?;
        self.own.extend(cert.keys().map(|key| key.key().mpis().clone()));
        Ok(())
    }

    /// Whether a build's key that may, has made a signature. Whether it is over the artifact is seen once that is hashed.
    ///
    /// # Errors
    /// [`WarrantError::Endorsement`].
    pub fn judge(&self, subject: &Subject, bytes: &[u8], now: SystemTime, warrant: &mut Warrant) -> Result<(), WarrantError> {
        let wrong = |what: &str| Err(WarrantError::Endorsement(what.to_owned()));
        let Parts { cert, signature } = Parts::read(bytes).map_err(WarrantError::Endorsement)?;
        let signature = usable(signature, subject.digest.algorithm).map_err(WarrantError::Endorsement)?;
        if cert.keys().any(|key| self.own.contains(key.key().mpis())) {
            return wrong("is by a key of this host, which endorses nothing");
        }
        if cert.keys().any(|key| self.revoked.has_openpgp(&key.key().fingerprint().to_hex())) {
            return wrong("is by a key that is revoked here");
        }
        let question = Question { subject, now, max_age: self.max_age, revoked: &self.revoked };
        let (mut permit, certified) = certification::find(&cert, &self.certs, &question)?;
        let Some(created) = signature.packet().signature_creation_time().filter(|created| *created <= now + AHEAD) else {
            return wrong("was made in the future: one of the two clocks is wrong");
        };
        if created < certified {
            return wrong("was made before its key was certified");
        }
        let at = now.max(created);
        let key = maker(&cert, &signature, at).map_err(WarrantError::Endorsement)?;
        let ends = [key.expires, signature.packet().signature_expiration_time()];
        permit.expires = ends.into_iter().flatten().fold(permit.expires, SystemTime::min);
        if permit.expires <= at {
            return wrong("has expired");
        }
        permit.enter(warrant);
        let file = self.file.clone();
        warrant.lists.push(Box::new(move || file.as_ref().is_none_or(|file| file.is_unchanged())));
        warrant.over_bytes = Some(OverBytes { signature, by: Pinned::only(cert), at });
        Ok(())
    }
}

/// A signature of bytes, by this hash.
fn usable(signature: Signature, hash: HashAlgorithm) -> Result<Detached, String> {
    if signature.hash_algo() != hash.into() {
        let (by, name) = (signature.hash_algo(), hash.name().to_uppercase());
        return Err(format!("is hashed by {by}, and this key's signatures by {name}: gpg --digest-algo {name}"));
    }
    let signature = Detached::of(signature).map_err(|_| "is no signature of a file")?;
    if signature.is_binary() { Ok(signature) } else { Err("is a signature of a text: gpg --no-textmode".to_owned()) }
}

/// The key that a signature names as its own, which may sign.
fn maker(cert: &Cert, signature: &Detached, at: SystemTime) -> Result<Live, String> {
    // What the library says of it holds words of its maker's.
    let unusable = |_| "is by a key that may not sign now: it has expired, is not safe, or is not for signing";
    let (live, _) = examine(cert, at).and_then(|(_, candidates)| alive(candidates)).map_err(unusable)?;
    let issuers = signature.packet().get_issuers();
    let is_by = |live: &Live| !issuers.is_empty() && issuers.iter().all(|issuer| issuer.aliases(live.key.key_handle()));
    live.into_iter().find(is_by).ok_or_else(|| "is not by a key of its certificate that may sign".to_owned())
}

/// When a certificate ends, and what binds it together does.
fn until(cert: &Cert, now: SystemTime) -> Vec<SystemTime> {
    let policy = StandardPolicy::new();
    let primary = cert.with_policy(&policy, now).map(|valid| {
        let primary = valid.primary_key();
        [primary.key_expiration_time(), primary.binding_signature().signature_expiration_time()]
    });
    primary.into_iter().flatten().flatten().collect()
}

fn wrong(path: &Path) -> impl Fn(String) -> ConfigError {
    move |message| ConfigError::Wrong { at: Location::new(path, "", 0), message }
}

/// A signature over an artifact's bytes, of which the key is good.
pub struct OverBytes {
    signature: Detached,
    by: Pinned,
    at: SystemTime,
}

impl OverBytes {
    /// Whether it is over these bytes.
    ///
    /// # Errors
    /// [`WarrantError::Endorsement`].
    pub fn check(&self, state: &HashState) -> Result<(), WarrantError> {
        let good = self.signature.verify(&self.by, state.clone(), self.at);
        let wrong = "is not over this artifact, or says more than who has made it";
        good.map(drop).map_err(|_| WarrantError::Endorsement(wrong.to_owned()))
    }
}

#[cfg(test)]
mod tests;
