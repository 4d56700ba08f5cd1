//! What goes in: artifacts, as the hasher hands them over.

use super::Batch;
use super::job::{Job, Stage, digest_field};
use crate::audit::{Facts, Field};
use crate::channel::ChannelError;
use crate::config::Input;
use crate::failure::Failure;
use crate::hash_state::{Hashed, Wanted};
use crate::hasher::{HasherError, Said};
use crate::openpgp::{OpenpgpError, SigningKey};
use crate::request;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

impl Batch<'_> {
    /// Asks the hasher for one more artifact: by each key's hash, and where that is not the hash of the bytes, by this one, too.
    pub(super) fn go(&mut self) -> Result<(), Failure> {
        let (mut wanted, mut salts) = (Vec::new(), Vec::new());
        for (index, granted) in self.order.grant.keys.iter().enumerate() {
            let salt = self.key(index)?.salt()?;
            let algorithm = granted.key.hash;
            for one in [Wanted { algorithm, form: self.order.grant.form, salt }, Wanted::plain(algorithm)] {
                if !wanted.contains(&one) {
                    wanted.push(one);
                }
            }
            salts.push(salt);
        }
        self.salts.push_back(salts);
        Ok(self.hasher.go(wanted)?)
    }

    pub(super) fn key(&self, index: usize) -> Result<&SigningKey, OpenpgpError> {
        let held = self.keys.get(index).map(Rc::as_ref);
        held.or_else(|| self.candidates.get(index)).ok_or_else(|| OpenpgpError::Library("a key without a certificate".to_owned()))
    }

    /// Waits for the first artifact, while the token processes load their modules. Whichever fails first ends the batch.
    pub(super) fn await_first(&mut self) -> Result<(), Failure> {
        while self.until.is_some() && self.jobs.is_empty() {
            if !self.listen()? {
                self.take_in()?;
            }
        }
        Ok(())
    }

    /// Takes all that the hasher has to say.
    pub(super) fn take_in(&mut self) -> Result<(), Failure> {
        while self.until.is_some() {
            match self.hasher.hear() {
                Ok(Said::Nothing) if self.until.is_some_and(|until| until <= Instant::now()) => return Err(Failure::total()),
                Ok(Said::Nothing) => break,
                Ok(Said::Artifact(hashed)) => {
                    if self.order.grant.input == Input::Artifact {
                        self.until = None;
                    }
                    self.admit(hashed)?;
                }
                Ok(Said::End) => self.until = None,
                Err(HasherError::Input(fault, name)) => {
                    let facts = self.about(&name);
                    self.spoil(HasherError::Input(fault, Vec::new()).into(), &name, facts);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Lets nothing more in, because of the artifact of this name; what came before is still signed.
    pub(super) fn spoil(&mut self, failure: Failure, name: &[u8], facts: Facts) {
        self.until = None;
        self.spoiled = Some((failure.about(&self.label(name)), facts));
    }

    /// What the next artifact is called towards the client.
    pub(super) fn label(&self, name: &[u8]) -> String {
        match self.order.grant.input {
            Input::State => format!("document {}", self.first + self.jobs.len() as u64 + 1),
            Input::Artifact | Input::Tar => request::encode(name, request::MAX_NAME),
        }
    }

    /// What is known of an artifact by its name.
    pub(super) fn about(&self, name: &[u8]) -> Facts {
        let mut facts = Facts::default();
        if !name.is_empty() {
            facts.learn(Field::NAME, request::encode(name, request::MAX_NAME));
        }
        facts
    }

    /// Takes an artifact that was hashed, as one signature by each key; or finds that it is not what was granted.
    pub(super) fn admit(&mut self, hashed: Hashed) -> Result<(), Failure> {
        let Hashed { name, states, mut body } = hashed;
        let grant = self.order.grant;
        let salts = self.salts.pop_front().unwrap_or_default();
        let mut jobs = Vec::with_capacity(grant.keys.len());
        for (key, (granted, salt)) in grant.keys.iter().zip(salts).enumerate() {
            let mut facts = self.about(&name);
            facts.learn(Field::KEY, granted.name);
            facts.learn(Field::FINGERPRINT, self.key(key)?.fingerprint());
            if grant.input != Input::Artifact {
                facts.learn(Field::ENTRY, self.first + (self.jobs.len() + key) as u64 + 1);
            }
            let wanted = Wanted { algorithm: granted.key.hash, form: grant.form, salt };
            let find = |wanted: Wanted| states.iter().find(|(made, _)| *made == wanted).map(|(_, state)| state.clone());
            let plain = if wanted.is_plain() { None } else { find(Wanted::plain(wanted.algorithm)) };
            let state = find(wanted).ok_or(ChannelError::Nonsense).map_err(HasherError::from)?;
            let accepted = match grant.accept(state, plain) {
                Ok(accepted) => accepted,
                Err(mismatch) => {
                    self.spoil(mismatch.into(), &name, facts);
                    return Ok(());
                }
            };
            if let Err(error) = self.warrant.fits(&accepted.state) {
                self.spoil(error.into(), &name, facts);
                return Ok(());
            }
            self.audit.learn_all(self.warrant.facts());
            facts.learn(Field::CLAIMED, if accepted.claimed { "yes" } else { "" });
            facts.learn(Field::SIZE, accepted.size);
            facts.learn(digest_field(wanted.algorithm), hex::encode(&accepted.digest));
            let (last, stage) = (key + 1 == grant.keys.len(), Stage::Hashed(accepted.state));
            let (name, body) = (name.clone(), body.take());
            jobs.push(Job { key, name, salt, body, now: SystemTime::UNIX_EPOCH, facts, last, stage });
        }
        // The first artifact's are paid for.
        let is_first = self.first == 0 && self.jobs.is_empty();
        match if is_first { Ok(()) } else { self.signatures.take(jobs.len() as u64) } {
            Ok(()) => self.jobs.extend(jobs),
            Err(error) => self.spoil(error.into(), &name, jobs.pop().map(|job| job.facts).unwrap_or_default()),
        }
        Ok(())
    }
}
