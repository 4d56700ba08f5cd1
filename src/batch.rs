//! From the first byte to the last signature. A single artifact is a batch of one, and each signature goes the same way:
//!
//! ```text
//! hashed ─▶ announced ─▶ asked for ─▶ made ─▶ checked ─▶ recorded ─▶ released
//! ```
//!
//! Announced and recorded mean that its lines in the ledger are on the disk and in the journal. One sync serves all that have come as far
//! as that, while the hasher and the token processes go on.

pub mod frame;
mod intake;
mod job;
mod release;
pub mod signers;
mod tokens;

use crate::audit::{Audit, Facts, Field};
use crate::channel::{self, Channel, after};
use crate::config::{Config, Input};
use crate::failure::{Exit, Failure};
use crate::hash_state::Salt;
use crate::hasher::{self, Hasher};
use crate::identity::Identity;
use crate::limits::Signatures;
use crate::openpgp::{self, SigningKey, Version};
use crate::policy::{Grant, Granted, Mismatch, Refusal};
use crate::sandbox;
use crate::token::{Setup, Token};
use crate::trusted::{self, Trusted};
use crate::warrant::{Demands, Warrant};
use frame::Frame;
use job::{Job, Stage, index};
use signers::{Plan, Signer};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

/// How many signatures may be on their way: more than a fast token makes while a slow disk syncs.
const WINDOW: usize = 128;

/// What is to be made, for whom.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Who asks.
    pub identity: &'a Identity,
    /// What was granted.
    pub grant: &'a Grant<'a>,
}

/// By which means.
pub struct Means<'a> {
    /// The client's rate, of which the first artifact's signatures are taken already.
    pub signatures: &'a Signatures,
    /// What the key demands beside the client.
    pub demands: Demands,
    /// The token processes.
    pub plans: Vec<Plan<'a>>,
    /// What each of them is to run.
    pub token_run: fn(Channel, Setup<'_>),
    /// The hasher, which waits for its start message.
    pub hasher: Hasher,
}

/// Makes it.
///
/// # Errors
/// Whatever ends it early. What was released until then is good.
pub fn run(order: Order<'_>, means: Means<'_>, audit: &mut Audit, frame: &Frame) -> Result<(), Failure> {
    let mut batch = Batch::begin(order, means, audit, frame)?;
    let ended = batch.work();
    ended.map_err(|failure| batch.rescue(failure)).map_err(|failure| batch.abandon(failure))
}

struct Batch<'a> {
    order: Order<'a>,
    signatures: &'a Signatures,
    audit: &'a mut Audit,
    frame: &'a Frame,
    hasher: Hasher,
    signers: Vec<Signer>,
    /// Those whose work is done: they log out while the last signatures leave.
    leaving: Vec<Token>,
    certificates: Vec<Trusted>,
    /// That what the key demands is met.
    warrant: Warrant,
    /// What may sign, until the tokens have shown what they hold,
    candidates: Vec<SigningKey>,
    /// and what does.
    keys: Vec<Rc<SigningKey>>,
    jobs: VecDeque<Job>,
    /// The number of the first of them, from 0.
    first: u64,
    /// Salts of the artifacts that the hasher was asked for.
    salts: VecDeque<Vec<Option<Salt>>>,
    /// Until when the input must have ended; `None` when it has.
    until: Option<Instant>,
    /// Why it ended early, and in what: what came before is still signed.
    spoiled: Option<(Failure, Facts)>,
    /// The signature that is being worked at.
    at: Option<u64>,
}

impl<'a> Batch<'a> {
    /// Reads the certificates, starts the token processes, and lets the hasher read, within the sandbox.
    fn begin(order: Order<'a>, means: Means<'a>, audit: &'a mut Audit, frame: &'a Frame) -> Result<Batch<'a>, Failure> {
        let Order { config, grant, .. } = order;
        let Means { signatures, demands, plans, token_run, hasher } = means;
        let read = |granted: &Granted<'_>| -> Result<_, Failure> {
            let path = &granted.key.certificate;
            let file = trusted::open(path)?;
            let bytes = file.read(path, openpgp::certificate::MAX_CERTIFICATE)?;
            Ok((file, bytes))
        };
        let files = grant.keys.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let mac_file = demands.mac_file(&grant.evidence);
        let fork = |plan: Plan<'_>| plan.fork(grant, config.audit.state(), mac_file, token_run);
        let mut signers = plans.into_iter().map(fork).collect::<Result<Vec<_>, _>>()?;
        let pids = signers.iter().map(|signer| signer.token.pid()).chain([hasher.pid()]).collect::<Vec<_>>();
        sandbox::enter_monitor(&pids)?;

        let now = SystemTime::now();
        let (mut certificates, mut candidates) = (Vec::new(), Vec::new());
        for ((file, bytes), granted) in files.into_iter().zip(&grant.keys) {
            let key = SigningKey::read(&bytes, granted.key.hash, now)?;
            if grant.input == Input::State && key.version() == Version::V6 {
                return Err(Refusal::Salted.into());
            }
            candidates.push(key);
            certificates.push(file);
        }
        audit.learn(Field::FINGERPRINT, candidates.iter().map(SigningKey::fingerprint).collect::<Vec<_>>().join(" "));
        let mut vouch = |question| match signers.first_mut() {
            Some(signer) => Ok::<_, Failure>(signer.token.vouch(question)?),
            None => Ok(false),
        };
        let warrant = demands.judge(grant, &candidates, now, &mut vouch)?;
        if !warrant.is_open() {
            audit.learn_all(warrant.facts());
        }
        audit.bears(warrant.evidence(), warrant.quotas())?;
        let limits = &config.limits;
        let mut batch = Batch {
            order,
            signatures,
            audit,
            frame,
            hasher,
            signers,
            leaving: Vec::new(),
            certificates,
            warrant,
            candidates,
            keys: Vec::new(),
            jobs: VecDeque::new(),
            first: 0,
            salts: VecDeque::new(),
            until: Some(after(limits.total())),
            spoiled: None,
            at: None,
        };
        let (input, form, limit) = (grant.input, grant.form, grant.limit);
        batch.hasher.start(hasher::Start { input, form, limit, idle: limits.idle(), throughput: limits.throughput() })?;
        let window = if input == Input::Artifact { 1 } else { WINDOW / grant.keys.len() };
        for _ in 0..window {
            batch.go()?;
        }
        Ok(batch)
    }

    fn work(&mut self) -> Result<(), Failure> {
        self.await_first()?;
        if !self.jobs.is_empty() {
            self.open()?;
        }
        while self.goes_on() {
            self.take_in()?;
            self.collect()?;
            // First what keeps the tokens busy.
            let fed = self.feed()?;
            self.check()?;
            let moved = fed | self.record()? | self.release()?;
            // The end may have come, and nothing else.
            if !moved && self.goes_on() {
                self.listen()?;
            }
        }
        let ended = match self.spoiled.take() {
            Some((failure, facts)) => {
                self.audit.ends_with(facts);
                Err(failure)
            }
            None if self.first == 0 => Err(Mismatch::Nothing.into()),
            None => self.frame.end(),
        };
        self.leaving.drain(..).for_each(Token::end);
        ended
    }

    fn goes_on(&self) -> bool {
        self.until.is_some() || !self.jobs.is_empty()
    }

    /// Waits until a process has something to say, and hears the token processes that owe no signature: that they have loaded their
    /// modules, or why the batch must end. Tells whether one of them spoke.
    fn listen(&mut self) -> Result<bool, Failure> {
        let ready = self.wait()?;
        let mut heard = false;
        for (signer, _) in self.signers.iter_mut().zip(ready).filter(|(signer, ready)| *ready && signer.token.owed() == 0) {
            signer.token.hear()?;
            heard = true;
        }
        Ok(heard)
    }

    /// Waits until a process has something to say; tells which token processes have, or have let their time pass.
    fn wait(&mut self) -> Result<Vec<bool>, Failure> {
        let deadlines = self.signers.iter().filter_map(|signer| signer.token.deadline()).chain(self.until);
        let deadline = deadlines.min().ok_or_else(|| Failure::from(nix::errno::Errno::EDEADLK))?;
        let hasher = self.until.map(|_| self.hasher.channel());
        let channels = self.signers.iter().map(|signer| signer.token.channel()).chain(hasher);
        let mut ready = channel::wait_for(channels, deadline)?;
        let now = Instant::now();
        if !ready.contains(&true) {
            let late = self.signers.iter().map(|signer| signer.token.deadline().is_some_and(|deadline| deadline <= now));
            ready = late.collect();
        }
        ready.truncate(self.signers.len());
        Ok(ready)
    }

    /// Lets go what was made before a token failed, as far as that is good.
    fn rescue(&mut self, failure: Failure) -> Failure {
        if failure.exit == Exit::Unavailable {
            let culprit = self.at;
            self.until = None;
            self.signers.clear();
            // Whatever goes wrong now is not why it ended.
            let _ = self.check();
            let _ = self.record().and_then(|_| self.release());
            self.at = culprit;
        }
        failure
    }

    /// Records what becomes of signatures that will not leave: the one that ended the batch is the session's, the others have their own.
    fn abandon(&mut self, failure: Failure) -> Failure {
        let grant = self.order.grant;
        let culprit = if grant.input == Input::Artifact { Some(0) } else { self.at };
        let culprit = culprit.map_or(usize::MAX, |number| index(number, self.first));
        let hashed = |job: &Job| matches!(job.stage, Stage::Hashed(_));
        let others = self.jobs.iter().enumerate().filter(|(at, _)| *at != culprit).map(|(_, job)| job);
        self.audit.cut_off(others.filter(|job| !hashed(job)).map(|job| &job.facts), &failure.reason, failure.exit.code());
        if failure.is_ours() {
            let prepaid = (grant.keys.len() as u64).saturating_sub(self.first) as usize;
            let left = self.jobs.iter().skip(prepaid).filter(|job| hashed(job)).count();
            self.signatures.give_back(left as u64);
        }
        if let Some(job) = self.jobs.remove(culprit) {
            self.audit.ends_with(job.facts);
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_state::{Form, HashAlgorithm, Wanted};
    use crate::hasher::{Go, MAX_WANTED, Start};
    use crate::openpgp::Scheme;
    use crate::request::MAX_KEYS;
    use crate::token;
    use std::time::Duration;

    /// What the monitor sends at once to one that does not read finds room in the kernel: it never waits there.
    #[test]
    fn all_that_is_on_its_way_fits_the_channel() {
        let began = Instant::now();
        for keys in 1..=MAX_KEYS {
            let (channel, _unread) = Channel::pair().unwrap();
            channel.do_not_block().unwrap();
            let times = (Duration::MAX, u64::MAX);
            channel
                .send(&Start { input: Input::Tar, form: Form::Text, limit: u64::MAX, idle: times.0, throughput: times.1 })
                .unwrap();
            let mut go = [None; MAX_WANTED];
            for pair in go.chunks_mut(2).take(keys) {
                let salted = Wanted { salt: Some(Salt::draw().unwrap()), form: Form::Text, ..Wanted::plain(HashAlgorithm::Sha512) };
                pair.copy_from_slice(&[Some(salted), Some(Wanted::plain(HashAlgorithm::Sha512))]);
            }
            for _ in 0..=WINDOW / keys {
                channel.send(&Go(go)).unwrap();
            }
        }
        let (channel, _unread) = Channel::pair().unwrap();
        channel.do_not_block().unwrap();
        let [_, deepest] = signers::DEPTHS;
        for _ in 0..deepest {
            // The longest there is: the DigestInfo of a SHA-512.
            channel.send(&token::Request::Sign(7, Scheme::RsaPkcs, vec![0; 83])).unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
