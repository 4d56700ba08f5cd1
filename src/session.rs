//! The story of one session. Read this first.
//!
//! Three processes: the hasher sees the artifact and no secret, the token process has the secrets and sees no artifact, and this one,
//! the monitor, sees neither: it decides and records.

use crate::audit::refusals::Refusals;
use crate::audit::{Audit, Field};
use crate::batch::frame::Frame;
use crate::batch::signers::Plan;
use crate::batch::{self, Means, Order};
use crate::channel::Channel;
use crate::config::{self, Config};
use crate::failure::{Exit, Failure};
use crate::hasher::Hasher;
use crate::identity::{Environment, Identity};
use crate::limits::{self, Signatures};
use crate::openpgp::SigningKey;
use crate::policy;
use crate::request::{self, Request, Start};
use crate::state::State;
use crate::token::Setup;
use crate::warrant::{self, Demands};
use crate::{openpgp, output, sandbox, sys, trusted};
use std::env::{args_os, var_os};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::SystemTime;

/// The bodies of the two other processes. A test may put evil ones in their place.
#[derive(Clone, Copy)]
pub struct Processes {
    /// See [`crate::hasher::run`].
    pub hasher: fn(Channel, BorrowedFd<'_>),
    /// See [`crate::token::run`].
    pub token: fn(Channel, Setup<'_>),
}

/// Runs one session and leaves with its code.
pub fn run(processes: Processes) -> ! {
    output::on_panic();
    let (mut audit, mut frame) = (Audit::begin(), Frame::Plain);
    let code = match session(processes, &mut audit, &mut frame) {
        Ok(()) => 0,
        Err(failure) => {
            // It failed before the configuration could say where.
            if audit.is_unopened() {
                audit.open(Path::new(config::JOURNAL));
            }
            audit.ended(failure.event(), &failure.line, &failure.reason, failure.exit.code(), failure.is_odd());
            frame.fail(failure.exit == Exit::Io);
            output::error(&failure.text());
            failure.exit.code()
        }
    };
    sys::exit(code)
}

/// From the first instruction to the decision.
fn session(processes: Processes, audit: &mut Audit, frame: &mut Frame) -> Result<(), Failure> {
    sandbox::begin()?;
    let hasher = Hasher::fork(processes.hasher)?;
    output::let_go_of_input()?;
    audit.name_session();

    let start = Start::read(args_os(), var_os("SSH_ORIGINAL_COMMAND"));
    let config = Config::for_session(start.config.as_deref().unwrap_or(Path::new(config::DEFAULT)));
    let (profiles, ports) = config.as_ref().map(|config| (config.profiles(), config.ports())).unwrap_or_default();
    sandbox::settle(&profiles, &ports)?;
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
    match &request {
        Ok(Request::Help) => return output::deliver(Request::help().as_bytes()),
        Ok(Request::Version) => return output::deliver(request::version().as_bytes()),
        Ok(request) => *frame = Frame::of(request),
        Err(_) if Request::is_of_tar(&text) => *frame = Frame::Tar,
        Err(_) => {}
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
    *frame = Frame::of(&request);
    let grant = match request {
        Request::Help => return output::deliver(Request::help().as_bytes()),
        Request::Version => return output::deliver(request::version().as_bytes()),
        Request::Certificate { key, armor } => {
            let granted = client.key(key.as_deref())?;
            limits::seat(&state?, client.name, config.limits.sessions())?;
            return certificate(granted.key, armor, &hasher);
        }
        Request::Sign(request) => {
            if let Some(name) = &request.name {
                audit.learn(Field::NAME, name.as_str());
            }
            client.may_sign(request)?
        }
        Request::SignTar(request) => client.may_sign_tar(&request)?,
        Request::SignState(request) => client.may_sign_states(&request)?,
    };
    let order = Order { config: &config, identity: &identity, grant: &grant };
    sign(order, state?, hasher, processes.token, audit, frame)
}

/// From permission to the signatures, and what they cost the client.
fn sign(
    order: Order<'_>,
    state: State,
    hasher: Hasher,
    token_run: fn(Channel, Setup<'_>),
    audit: &mut Audit,
    frame: &Frame,
) -> Result<(), Failure> {
    let Order { config, grant, .. } = order;
    audit.learn(Field::KEY, grant.keys.iter().map(|key| key.name.to_string()).collect::<Vec<_>>().join(" "));
    audit.learn(Field::MODE, grant.mode());
    audit.ready(&config.audit, warrant::reach(grant))?;
    output::exists()?;
    let demands = Demands::open(config, grant, order.identity)?;
    let plans = Plan::of(config, grant, &state)?;
    limits::seat(&state, grant.client.name, config.limits.sessions())?;
    let signatures = Signatures::open(&state, grant.client.name, grant.client.rate())?;
    // Of the first artifact: nothing is read for nothing.
    let first = grant.keys.len() as u64;
    signatures.take(first)?;
    // From now on its end is recorded, however often: what is refused costs a signature.
    if !grant.evidence.break_glass.is_empty() {
        audit.learn(Field::BREAK_GLASS, "yes");
    }
    drop(state);
    let ended = batch::run(order, Means { signatures: &signatures, demands, plans, token_run, hasher }, audit, frame);
    if ended.as_ref().is_err_and(Failure::is_ours) && !audit.has_intent() {
        signatures.give_back(first);
    }
    ended
}

/// From permission to the public certificate.
fn certificate(key: &config::Key, armor: bool, hasher: &Hasher) -> Result<(), Failure> {
    output::exists()?;
    let bytes = trusted::read(&key.certificate, openpgp::certificate::MAX_CERTIFICATE)?;
    sandbox::enter_monitor(&[hasher.pid()])?;
    output::deliver(&SigningKey::read(&bytes, key.hash, SystemTime::now())?.export(armor)?)
}
