//! The story of one session. Read this first.
//!
//! Three processes: the hasher sees the artifact and no secret, the token process has the secrets and sees no artifact, and this one,
//! the monitor, sees neither: it decides and records.

use crate::audit::{Audit, Field};
use crate::channel::{self, Channel, after};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::hash_state::{HashAlgorithm, HashState};
use crate::hasher::{self, Hasher};
use crate::identity::{self, Identity};
use crate::openpgp::{Draft, OpenpgpError, SigningKey};
use crate::policy::{self, Grant, Known};
use crate::request::{self, Request, Start};
use crate::token::{Setup, Token};
use crate::{openpgp, output, sandbox, sys, trusted};
use nix::poll::PollFlags;
use sha2::{Digest, Sha256};
use std::env::{args_os, var_os};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

/// The bodies of the two other processes. A test may put evil ones in their place.
#[derive(Clone, Copy)]
pub struct Processes {
    /// See [`hasher::run`].
    pub hasher: fn(Channel),
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
            audit.ended(failure.event(), &failure.line, &failure.reason, failure.exit.code());
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
    audit.learn(Field::REQUEST, start.raw());
    if let Some(peer) = identity::peer(var_os("SSH_CONNECTION")) {
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
    let identity = Identity::establish(var_os("SSH_USER_AUTH"))?;
    audit.learn(Field::SSH_KEY, identity.ssh_key);
    let client = policy::recognise(&config, &identity)?;
    audit.learn(Field::CLIENT, client.name);
    match request? {
        Request::Sign(request) => {
            if let Some(name) = &request.name {
                audit.learn(Field::NAME, name.as_str());
            }
            sign(&config, client.may_sign(request)?, hasher, processes.token, audit)
        }
        Request::Certificate { key, armor } => certificate(client, key.as_deref(), armor, &hasher),
        Request::Help | Request::Version => Ok(()),
    }
}

/// From permission to signature.
fn sign(
    config: &Config,
    grant: Grant<'_>,
    hasher: Hasher,
    token_run: fn(Channel, Setup<'_>),
    audit: &mut Audit,
) -> Result<(), Failure> {
    audit.learn(Field::KEY, grant.name);
    audit.ready(&config.audit)?;
    output::exists()?;
    let certificate = trusted::read(&grant.key.certificate, openpgp::certificate::MAX_CERTIFICATE)?;
    let (name, state) = (config.token_name(grant.key), config.audit.state());
    let mut token = Token::fork(Setup { name, token: grant.token, key: &grant.key.uri, state }, token_run)?;
    sandbox::enter_monitor(&[hasher.pid(), token.pid()])?;
    let key = SigningKey::read(&certificate, grant.key.hash, SystemTime::now())?;
    audit.learn(Field::FINGERPRINT, key.fingerprint());

    let state = hash(hasher, &mut token, &grant, &config.limits)?;
    let artifact = grant.accept(state)?;
    audit.learn(Field::MODE, "artifact");
    audit.learn(Field::SIZE, artifact.size);
    audit.learn(field_of(artifact.state.algorithm()), hex::encode(&artifact.digest));
    output::has_reader()?;

    let draft = Draft::new(&key, artifact.state, SystemTime::now())?;
    audit.learn(Field::DATE, humantime::format_rfc3339_seconds(draft.created()));
    audit.intent()?;
    if token.open()?.is_some_and(|public| !public.is_of(key.key())) {
        return Err(OpenpgpError::OtherKey.into());
    }
    let (scheme, data) = draft.to_sign()?;
    output::has_reader()?;
    let raw = token.sign(scheme, data)?;
    token.leave();

    let signature = draft.complete(&raw, artifact.armor)?;
    audit.learn(Field::SIGNATURE, hex::encode(Sha256::digest(&signature)));
    audit.signed()?;
    output::deliver(&signature)?;
    token.end();
    Ok(())
}

/// Lets the hasher read, while the token process loads its module. Whichever fails first ends the session.
fn hash(mut hasher: Hasher, token: &mut Token, grant: &Grant<'_>, limits: &config::Limits) -> Result<HashState, Failure> {
    hasher.start(hasher::Start { algorithm: grant.key.hash, limit: grant.limit, idle: limits.idle() })?;
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
fn certificate(client: Known<'_>, key: Option<&str>, armor: bool, hasher: &Hasher) -> Result<(), Failure> {
    let (_, key, _) = client.key(key)?;
    output::exists()?;
    let bytes = trusted::read(&key.certificate, openpgp::certificate::MAX_CERTIFICATE)?;
    sandbox::enter_monitor(&[hasher.pid()])?;
    output::deliver(&SigningKey::read(&bytes, key.hash, SystemTime::now())?.export(armor)?)
}

fn field_of(algorithm: HashAlgorithm) -> Field {
    match algorithm {
        HashAlgorithm::Sha256 => Field::SHA256,
        HashAlgorithm::Sha384 => Field::SHA384,
        HashAlgorithm::Sha512 => Field::SHA512,
    }
}
