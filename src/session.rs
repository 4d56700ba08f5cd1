//! The story of one session. Read this first.
//!
//! Three processes: the hasher sees the artifact and no secret, the token process has the secrets and sees no artifact, and this one,
//! the monitor, sees neither: it decides and records.

use crate::audit::refusals::Refusals;
use crate::audit::{Audit, Field};
use crate::channel::{self, Channel, after};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::hash_state::{HashAlgorithm, Hashed, Salt};
use crate::hasher::{self, Hasher};
use crate::identity::{Environment, Identity};
use crate::limits::{self, Signatures};
use crate::openpgp::{Draft, OpenpgpError, SigningKey};
use crate::policy::{self, Accepted, Grant};
use crate::request::{self, Request, Start};
use crate::state::State;
use crate::token::queue::Queue;
use crate::token::{Setup, Token};
use crate::{openpgp, output, sandbox, sys, trusted};
use nix::poll::PollFlags;
use sha2::{Digest, Sha256};
use std::env::{args_os, var_os};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::SystemTime;

/// The bodies of the two other processes. A test may put evil ones in their place.
#[derive(Clone, Copy)]
pub struct Processes {
    /// See [`hasher::run`].
    pub hasher: fn(Channel, BorrowedFd<'_>),
    /// See [`token::run`].
    pub token: fn(Channel, Setup<'_>),
}

/// Runs one session and leaves with its code.
pub fn run(processes: Processes) -> ! {
    output::on_panic();
    let mut audit = Audit::begin();
    let code = match session(processes, &mut audit) {
        Ok(()) => 0,
        Err(failure) => {
            // It failed before the configuration could say where.
            if audit.is_unopened() {
                audit.open(Path::new(config::JOURNAL));
            }
            audit.ended(failure.event(), &failure.line, &failure.reason, failure.exit.code(), failure.is_odd());
            output::error(&failure.text());
            failure.exit.code()
        }
    };
    sys::exit(code)
}

/// From the first instruction to the decision.
fn session(processes: Processes, audit: &mut Audit) -> Result<(), Failure> {
    sandbox::begin()?;
    let hasher = Hasher::fork(processes.hasher)?;
    output::let_go_of_input()?;
    audit.name_session();

    let start = Start::read(args_os(), var_os("SSH_ORIGINAL_COMMAND"));
    let config = Config::for_session(start.config.as_deref().unwrap_or(Path::new(config::DEFAULT)));
    audit.open(config.as_ref().map_or(Path::new(config::JOURNAL), |config| config.audit.journal()));
    if let Ok(config) = &config {
        audit.refusals = Refusals::of_strangers(config);
    }
    audit.learn(Field::REQUEST, start.raw());
    let environment = Environment::read();
    if let Some(peer) = environment.peer() {
        audit.learn(Field::PEER, peer);
    }

    let text = start.text()?;
    let request = Request::parse(&text);
    match request {
        Ok(Request::Help) => return output::deliver(Request::help().as_bytes()),
        Ok(Request::Version) => return output::deliver(request::version().as_bytes()),
        _ => {}
    }
    let config = config?;
    let identity = Identity::establish(environment, config.revoked()?)?;
    for (field, value) in identity.facts() {
        audit.learn(field, value);
    }
    if let Some(key) = identity.key() {
        audit.refusals = Refusals::of_key(&config, key);
    }
    identity.check(SystemTime::now())?;
    let client = policy::recognise(&config, &identity)?;
    audit.learn(Field::CLIENT, client.name);
    let state = State::open(config.audit.state());
    audit.refusals = Refusals::of_client(state.as_ref().ok(), client.name, config.limits.refusals());
    let request = if Request::is_empty(&text) { client.default_request() } else { request? };
    match request {
        Request::Sign(request) => {
            if let Some(name) = &request.name {
                audit.learn(Field::NAME, name.as_str());
            }
            let grant = client.may_sign(request)?;
            sign(&config, &identity, state?, grant, hasher, processes.token, audit)
        }
        Request::Certificate { key, armor } => {
            let (_, key, _) = client.key(key.as_deref())?;
            limits::seat(&state?, client.name, config.limits.sessions())?;
            certificate(key, armor, &hasher)
        }
        Request::Help => output::deliver(Request::help().as_bytes()),
        Request::Version => output::deliver(request::version().as_bytes()),
    }
}

/// From permission to signature, and what it costs the client.
fn sign(
    config: &Config,
    identity: &Identity,
    state: State,
    grant: Grant<'_>,
    hasher: Hasher,
    token_run: fn(Channel, Setup<'_>),
    audit: &mut Audit,
) -> Result<(), Failure> {
    audit.learn(Field::KEY, grant.name);
    audit.learn(Field::MODE, grant.form.name());
    audit.ready(&config.audit)?;
    output::exists()?;
    let queue = Queue::open(&state, config.token_name(grant.key), grant.token)?;
    limits::seat(&state, grant.client.name, config.limits.sessions())?;
    let signatures = Signatures::open(&state, grant.client.name, grant.client.rate())?;
    signatures.take()?;
    drop(state);
    let ended = make(config, identity, grant, queue, hasher, token_run, audit);
    if ended.as_ref().is_err_and(Failure::is_ours) && !audit.has_intent() {
        signatures.give_back();
    }
    ended
}

/// From the first byte to the signature's last.
fn make(
    config: &Config,
    identity: &Identity,
    grant: Grant<'_>,
    queue: Option<Queue>,
    hasher: Hasher,
    token_run: fn(Channel, Setup<'_>),
    audit: &mut Audit,
) -> Result<(), Failure> {
    let path: &Path = &grant.key.certificate;
    let file = trusted::open(path)?;
    let certificate = file.read(path, openpgp::certificate::MAX_CERTIFICATE)?;
    let name = config.token_name(grant.key);
    let setup = Setup { name, token: grant.token, key: &grant.key.uri, state: config.audit.state() };
    let mut token = Token::fork(setup, queue, token_run)?;
    sandbox::enter_monitor(&[hasher.pid(), token.pid()])?;
    let key = SigningKey::read(&certificate, grant.key.hash, SystemTime::now())?;
    audit.learn(Field::FINGERPRINT, key.fingerprint());

    let salt = key.salt()?;
    let hashed = hash(hasher, &mut token, &grant, salt, &config.limits)?;
    let artifact = grant.accept(hashed)?;
    describe(&artifact, audit);
    output::has_reader()?;
    token.take_turn(output::has_reader)?;

    let now = SystemTime::now();
    identity.check(now)?;
    key.still_alive(now)?;
    audit.learn(Field::DATE, humantime::format_rfc3339_seconds(now));
    audit.intent()?;
    let key = key.held(token.open()?.as_ref())?;
    audit.learn(Field::FINGERPRINT, key.fingerprint());
    let draft = Draft::new(&key, artifact.form, salt, artifact.state, now)?;
    let (scheme, data) = draft.to_sign()?;
    output::has_reader()?;
    identity.check(SystemTime::now())?;
    if !file.is_unchanged() {
        return Err(OpenpgpError::Changed.into());
    }
    let raw = token.sign(scheme, data)?;
    token.leave();

    let signature = draft.complete(&raw, artifact.armor)?;
    audit.learn(Field::SIGNATURE, hex::encode(Sha256::digest(&signature)));
    audit.signed()?;
    match &artifact.body {
        Some(body) => output::deliver_cleartext(&draft.cleartext_head(), body, &signature)?,
        None => output::deliver(&signature)?,
    }
    token.end();
    Ok(())
}

/// Lets the hasher read, while the token process loads its module. Whichever fails first ends the session.
fn hash(
    mut hasher: Hasher,
    token: &mut Token,
    grant: &Grant<'_>,
    salt: Option<Salt>,
    limits: &config::Limits,
) -> Result<Hashed, Failure> {
    let (algorithm, form) = (grant.key.hash, grant.form);
    hasher.start(hasher::Start {
        algorithm,
        form,
        salt,
        limit: grant.limit,
        idle: limits.idle(),
        throughput: limits.throughput(),
    })?;
    let total = after(limits.total());
    loop {
        let deadline = token.load_deadline().map_or(total, |loading| loading.min(total));
        let both = [(hasher.channel().as_fd(), PollFlags::POLLIN), (token.channel().as_fd(), PollFlags::POLLIN)];
        match channel::wait(both, deadline)? {
            [_, true] => token.hear()?,
            [true, false] => return Ok(hasher.finish()?),
            [false, false] if deadline == total => return Err(Failure::total()),
            [false, false] => token.hear()?,
        }
    }
}

/// From permission to the public certificate.
fn certificate(key: &config::Key, armor: bool, hasher: &Hasher) -> Result<(), Failure> {
    output::exists()?;
    let bytes = trusted::read(&key.certificate, openpgp::certificate::MAX_CERTIFICATE)?;
    sandbox::enter_monitor(&[hasher.pid()])?;
    output::deliver(&SigningKey::read(&bytes, key.hash, SystemTime::now())?.export(armor)?)
}

fn describe(artifact: &Accepted, audit: &mut Audit) {
    let digest = match artifact.state.algorithm() {
        HashAlgorithm::Sha256 => Field::SHA256,
        HashAlgorithm::Sha384 => Field::SHA384,
        HashAlgorithm::Sha512 => Field::SHA512,
    };
    audit.learn(Field::CLAIMED, if artifact.claimed { "yes" } else { "" });
    audit.learn(Field::SIZE, artifact.size);
    audit.learn(digest, hex::encode(&artifact.digest));
}
