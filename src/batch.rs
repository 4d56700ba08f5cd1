//! From the first byte to the last signature. A single artifact is a batch of one, and each signature goes the same way:
//!
//! ```text
//! hashed ─▶ announced ─▶ asked for ─▶ made ─▶ checked ─▶ recorded ─▶ released
//! ```
//!
//! Announced and recorded mean that its lines in the ledger are on the disk and in the journal. One sync serves all that have come as far
//! as that, while the hasher and the token processes go on.

pub mod frame;
pub mod signers;

use crate::audit::{Audit, Facts, Field};
use crate::channel::{self, Channel, ChannelError, after};
use crate::config::{Config, Input};
use crate::failure::{Exit, Failure};
use crate::hash_state::{Body, HashAlgorithm, HashState, Hashed, Salt, Wanted};
use crate::hasher::{self, Hasher, HasherError, Said};
use crate::identity::Identity;
use crate::limits::Signatures;
use crate::openpgp::{self, Draft, OpenpgpError, SigningKey, Version};
use crate::policy::{Grant, Granted, Mismatch, Refusal};
use crate::request;
use crate::token::{Setup, Token, TokenError};
use crate::trusted::{self, Trusted};
use crate::{output, sandbox};
use frame::{Frame, Signed};
use sha2::{Digest, Sha256};
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

/// One signature on its way.
struct Job {
    /// Which of the grant's keys makes it.
    key: usize,
    /// Of its artifact, where it has one.
    name: Vec<u8>,
    salt: Option<Salt>,
    body: Option<Body>,
    /// When its intent was recorded: its creation time.
    now: SystemTime,
    facts: Facts,
    /// Whether it is the last one of its artifact.
    last: bool,
    stage: Stage,
}

enum Stage {
    Hashed(HashState),
    Announced(HashState),
    Asked(Draft),
    Made(Draft, Vec<u8>),
    Checked(Signed),
    Recorded(Signed),
    /// Between two others.
    Moving,
}

impl Stage {
    fn advance(&mut self, step: impl FnOnce(Stage) -> Stage) {
        *self = step(std::mem::replace(self, Stage::Moving));
    }
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
        let Means { signatures, plans, token_run, hasher } = means;
        let read = |granted: &Granted<'_>| -> Result<_, Failure> {
            let path = &granted.key.certificate;
            let file = trusted::open(path)?;
            let bytes = file.read(path, openpgp::certificate::MAX_CERTIFICATE)?;
            Ok((file, bytes))
        };
        let files = grant.keys.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let fork = |plan: Plan<'_>| plan.fork(grant, config.audit.state(), token_run);
        let signers = plans.into_iter().map(fork).collect::<Result<Vec<_>, _>>()?;
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

    /// Asks the hasher for one more artifact: by each key's hash, and where that is not the hash of the bytes, by this one, too.
    fn go(&mut self) -> Result<(), Failure> {
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

    fn key(&self, index: usize) -> Result<&SigningKey, OpenpgpError> {
        let held = self.keys.get(index).map(Rc::as_ref);
        held.or_else(|| self.candidates.get(index)).ok_or_else(|| OpenpgpError::Library("a key without a certificate".to_owned()))
    }

    /// Waits for the first artifact, while the token processes load their modules. Whichever fails first ends the batch.
    fn await_first(&mut self) -> Result<(), Failure> {
        while self.until.is_some() && self.jobs.is_empty() {
            if !self.listen()? {
                self.take_in()?;
            }
        }
        Ok(())
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

    /// Takes all that the hasher has to say.
    fn take_in(&mut self) -> Result<(), Failure> {
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
    fn spoil(&mut self, failure: Failure, name: &[u8], facts: Facts) {
        self.until = None;
        self.spoiled = Some((failure.about(&self.label(name)), facts));
    }

    /// What the next artifact is called towards the client.
    fn label(&self, name: &[u8]) -> String {
        match self.order.grant.input {
            Input::State => format!("document {}", self.first + self.jobs.len() as u64 + 1),
            Input::Artifact | Input::Tar => request::encode(name, request::MAX_NAME),
        }
    }

    /// What is known of an artifact by its name.
    fn about(&self, name: &[u8]) -> Facts {
        let mut facts = Facts::default();
        if !name.is_empty() {
            facts.learn(Field::NAME, request::encode(name, request::MAX_NAME));
        }
        facts
    }

    /// Takes an artifact that was hashed, as one signature by each key; or finds that it is not what was granted.
    fn admit(&mut self, hashed: Hashed) -> Result<(), Failure> {
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

    /// Takes the turns at the tokens, records the first intents, and has the token processes log in.
    fn open(&mut self) -> Result<(), Failure> {
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
    fn collect(&mut self) -> Result<(), Failure> {
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

    /// Puts signatures together, and checks them.
    fn check(&mut self) -> Result<(), Failure> {
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
    fn record(&mut self) -> Result<bool, Failure> {
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
    fn holds_back(&self) -> bool {
        self.until.is_none() && !self.signers.is_empty()
    }

    /// Whether the keys are: those that sign, or, as long as the tokens have not shown them, those that may.
    fn are_alive(&self, now: SystemTime) -> Result<(), OpenpgpError> {
        self.keys.iter().map(Rc::as_ref).chain(&self.candidates).try_for_each(|key| key.still_alive(now))
    }

    /// Lets go what is recorded, in order.
    fn release(&mut self) -> Result<bool, Failure> {
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
    fn file_name(&self, name: &[u8], key: usize) -> Vec<u8> {
        let grant = self.order.grant;
        let kind = if grant.armor { "asc" } else { "sig" };
        match grant.keys.get(key) {
            Some(granted) if grant.keys.len() > 1 => [name, format!(".{}.{kind}", granted.name).as_bytes()].concat(),
            _ => [name, format!(".{kind}").as_bytes()].concat(),
        }
    }

    /// Asks the tokens for what is announced, as far as they are not busy: if the client is still there, nothing was revoked, and nothing
    /// has expired.
    fn feed(&mut self) -> Result<bool, Failure> {
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

fn index(number: u64, first: u64) -> usize {
    number.checked_sub(first).and_then(|index| index.try_into().ok()).unwrap_or(usize::MAX)
}

fn digest_field(algorithm: HashAlgorithm) -> Field {
    match algorithm {
        HashAlgorithm::Sha256 => Field::SHA256,
        HashAlgorithm::Sha384 => Field::SHA384,
        HashAlgorithm::Sha512 => Field::SHA512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_state::Form;
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
