//! What goes out: checked, recorded, released.

use super::Batch;
use super::frame::Signed;
use super::job::{Job, Stage};
use crate::audit::Field;
use crate::failure::Failure;
use sha2::{Digest, Sha256};
use std::time::{Instant, SystemTime};

impl Batch<'_> {
    /// Puts signatures together, and checks them.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        for (at, job) in self.jobs.iter_mut().enumerate() {
            let (draft, raw) = match std::mem::replace(&mut job.stage, Stage::Moving) {
                Stage::Made(draft, raw) => (draft, raw),
                stage => {
                    job.stage = stage;
                    continue;
                }
            };
            self.at = Some(self.first + at as u64);
            let bytes = draft.complete(&raw, self.order.grant.armor)?;
            job.facts.learn(Field::SIGNATURE, hex::encode(Sha256::digest(&bytes)));
            let text = job.body.take().map(|body| (draft.cleartext_head(), body));
            job.stage = Stage::Checked(Signed { bytes, created: job.now, text });
        }
        self.at = None;
        Ok(())
    }

    /// Records what was made and is next to leave, and that the token is about to be asked for what was hashed. All by one sync.
    pub(super) fn record(&mut self) -> Result<bool, Failure> {
        let made = self.jobs.iter().take_while(|job| matches!(job.stage, Stage::Checked(_))).count();
        let made = if self.holds_back() { 0 } else { made };
        let hashed = self.jobs.iter().position(|job| matches!(job.stage, Stage::Hashed(_)));
        // Without a token process nobody will be asked.
        let hashed = hashed.filter(|_| !self.signers.is_empty()).unwrap_or(self.jobs.len());
        if made == 0 && hashed == self.jobs.len() {
            return Ok(false);
        }
        let now = SystemTime::now();
        self.order.identity.check(now)?;
        self.warrant.check(now)?;
        if hashed < self.jobs.len() {
            self.are_alive(now)?;
        }
        // Before it is tried: where it fails, the intents may be in one of the books, and shall have an end there.
        for job in self.jobs.range_mut(hashed..) {
            job.now = now;
            job.facts.learn(Field::DATE, humantime::format_rfc3339_seconds(now));
            job.stage.advance(|stage| match stage {
                Stage::Hashed(state) => Stage::Announced(state),
                stage => stage,
            });
        }
        self.audit.record(self.jobs.range(..made).map(|job| &job.facts), self.jobs.range(hashed..).map(|job| &job.facts))?;
        for job in self.jobs.range_mut(..made) {
            job.stage.advance(|stage| match stage {
                Stage::Checked(signed) => Stage::Recorded(signed),
                stage => stage,
            });
        }
        Ok(true)
    }

    /// Whether what is made waits for the rest: once the input has ended, no client that is slow to take its signatures keeps a token.
    pub(super) fn holds_back(&self) -> bool {
        self.until.is_none() && !self.signers.is_empty()
    }

    /// Lets go what is recorded, in order.
    pub(super) fn release(&mut self) -> Result<bool, Failure> {
        let mut moved = false;
        while let Some(Job { stage: Stage::Recorded(signed), key, name, last, .. }) = self.jobs.front() {
            if self.until.is_some_and(|until| until <= Instant::now()) {
                return Err(Failure::total());
            }
            self.at = Some(self.first);
            let name = self.file_name(name, *key);
            self.frame.deliver(&name, signed)?;
            let last = *last;
            self.jobs.pop_front();
            self.first += 1;
            if last && self.until.is_some() {
                self.go()?;
            }
            moved = true;
        }
        self.at = None;
        Ok(moved)
    }

    /// What a signature is called in a tar: `NAME.sig`, `NAME.asc`, and where several keys sign, `NAME.KEY.sig`.
    pub(super) fn file_name(&self, name: &[u8], key: usize) -> Vec<u8> {
        let grant = self.order.grant;
        let kind = if grant.armor { "asc" } else { "sig" };
        match grant.keys.get(key) {
            Some(granted) if grant.keys.len() > 1 => [name, format!(".{}.{kind}", granted.name).as_bytes()].concat(),
            _ => [name, format!(".{kind}").as_bytes()].concat(),
        }
    }
}
