//! The tokens: who of them is asked for what, and what they have made.

use super::Batch;
use super::job::{Job, Stage, index};
use crate::audit::Field;
use crate::failure::Failure;
use crate::openpgp::{Draft, OpenpgpError};
use crate::output;
use crate::token::{Token, TokenError};
use crate::trusted::Trusted;
use std::rc::Rc;
use std::time::SystemTime;

impl Batch<'_> {
    /// Takes the turns at the tokens, records the first intents, and has the token processes log in.
    pub(super) fn open(&mut self) -> Result<(), Failure> {
        output::has_reader()?;
        let mut served = Vec::new();
        for mut signer in self.signers.drain(..) {
            if signer.take_turn()? {
                served.push(signer);
            }
        }
        self.signers = served;
        self.record()?;
        let mut publics = Vec::new();
        for signer in &mut self.signers {
            publics.extend(signer.open()?);
        }
        for (index, candidate) in self.candidates.drain(..).enumerate() {
            let mut own = publics.iter().filter(|(key, _)| *key == index).map(|(_, public)| public.as_ref());
            let public = own.next().flatten();
            // Several processes of one token.
            if own.any(|other| other != public) {
                return Err(OpenpgpError::OtherKey.into());
            }
            self.keys.push(Rc::new(candidate.held(public)?));
        }
        let fingerprints = self.keys.iter().map(|key| key.fingerprint()).collect::<Vec<_>>();
        for job in &mut self.jobs {
            job.facts.learn(Field::FINGERPRINT, fingerprints.get(job.key).map_or("", String::as_str));
        }
        self.audit.learn(Field::FINGERPRINT, fingerprints.join(" "));
        Ok(())
    }

    /// Takes what the tokens have made. Those that have nothing left to do log out, while the last signatures are checked and leave.
    pub(super) fn collect(&mut self) -> Result<(), Failure> {
        for signer in &mut self.signers {
            // What it says beyond that is nobody's business: it is not listened to.
            while signer.token.owed() > 0 {
                self.at = signer.next();
                let Some(raw) = signer.look()? else { break };
                let job = self.at.and_then(|number| self.jobs.get_mut(index(number, self.first)));
                job.ok_or(TokenError::Nonsense)?.stage.advance(|stage| match stage {
                    Stage::Asked(draft) => Stage::Made(draft, raw),
                    stage => stage,
                });
            }
        }
        self.at = None;
        let made = |job: &Job| matches!(job.stage, Stage::Made(..) | Stage::Checked(_) | Stage::Recorded(_));
        if self.until.is_none() && !self.signers.is_empty() && self.jobs.iter().all(made) {
            self.leaving.extend(self.signers.drain(..).map(|signer| signer.token));
            self.leaving.iter_mut().for_each(Token::leave);
            self.leaving.iter_mut().for_each(Token::give_turn_back);
        }
        Ok(())
    }

    /// Asks the tokens for what is announced, as far as they are not busy: if the client is still there, nothing was revoked, and nothing
    /// has expired.
    pub(super) fn feed(&mut self) -> Result<bool, Failure> {
        let mut looked = false;
        for at in 0..self.jobs.len() {
            let Some(key) = self.jobs.get(at).filter(|job| matches!(job.stage, Stage::Announced(_))).map(|job| job.key) else {
                continue;
            };
            let rooms = self.signers.iter_mut().enumerate().filter_map(|(signer, it)| Some((it.room(key)?, signer)));
            let Some((_, signer)) = rooms.min() else { continue };
            if !looked {
                output::has_reader()?;
                let now = SystemTime::now();
                self.order.identity.check(now)?;
                self.warrant.check(now)?;
                self.are_alive(now)?;
                if !self.certificates.iter().all(Trusted::is_unchanged) {
                    return Err(OpenpgpError::Changed.into());
                }
                looked = true;
            }
            let number = self.first + at as u64;
            self.at = Some(number);
            let (Some(job), Some(signer)) = (self.jobs.get_mut(at), self.signers.get_mut(signer)) else { continue };
            let Stage::Announced(state) = std::mem::replace(&mut job.stage, Stage::Moving) else { continue };
            let held = self.keys.get(key).ok_or_else(|| OpenpgpError::Library("a key that no token holds".to_owned()))?;
            let draft = Draft::new(held, self.order.grant.form, job.salt, state, job.now)?;
            let (scheme, data) = draft.to_sign()?;
            job.stage = Stage::Asked(draft);
            signer.ask(number, key, scheme, data)?;
        }
        self.at = None;
        Ok(looked)
    }

    /// Whether the keys are: those that sign, or, as long as the tokens have not shown them, those that may.
    pub(super) fn are_alive(&self, now: SystemTime) -> Result<(), OpenpgpError> {
        self.keys.iter().map(Rc::as_ref).chain(&self.candidates).try_for_each(|key| key.still_alive(now))
    }
}
