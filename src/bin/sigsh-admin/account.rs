//! Becoming the account: whatever touches token or state does so as sigsh itself would, and leaves nothing behind that is root's.

use crate::AdminError;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
use sigsh::channel::Channel;
use sigsh::config::values::Name;
use sigsh::config::{Config, Key, Token as TokenConfig};
use sigsh::state::State;
use sigsh::token::queue::Queue;
use sigsh::token::{Answer, Fault, Setup, Token, generate, run};
use std::ffi::CString;
use std::thread::sleep;

/// The account, where this process is root and can become it; `None` where it runs as an ordinary user.
pub(crate) fn find(config: &Config) -> Result<Option<User>, AdminError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let failed = |why: &str| AdminError::Account(config.account.clone(), why.to_owned());
    match User::from_name(&config.account) {
        Ok(Some(user)) if user.uid.is_root() => Err(failed("it is root")),
        Ok(Some(user)) => Ok(Some(user)),
        // Musl says so where there is no /etc/passwd at all.
        Ok(None) | Err(Errno::ENOENT) => Err(failed("there is no such account")),
        Err(error) => Err(failed(error.desc())),
    }
}

/// Becomes it, for good. In a child that has nothing else to do.
pub(crate) fn enter(user: Option<&User>) -> nix::Result<()> {
    let Some(user) = user else { return Ok(()) };
    let name = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL)?;
    initgroups(&name, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    // Changing user undoes both.
    prctl::set_dumpable(false)?;
    prctl::set_pdeathsig(Signal::SIGKILL)
}

/// A token process under the account: the very one of a session.
pub(crate) fn token(config: &Config, key: &Key, token: &TokenConfig) -> Result<Token, AdminError> {
    fork(config, key, token, run)
}

/// A process under the account that makes a key.
pub(crate) fn generator(
    config: &Config,
    name: &Name,
    key: &Key,
    token: &TokenConfig,
    algorithm: generate::Algorithm,
) -> Result<Token, AdminError> {
    fork(config, key, token, |channel, setup| generate::run(channel, setup, algorithm, name))
}

fn fork(config: &Config, key: &Key, token: &TokenConfig, run: impl FnOnce(Channel, Setup<'_>)) -> Result<Token, AdminError> {
    let user = find(config)?;
    let setup = Setup { name: config.token_name(key), token, keys: &[&key.uri], state: config.audit.state(), mac_file: None };
    Ok(Token::fork(setup, None, |channel, setup| {
        // The monitor learns of a failure by the process being gone.
        if enter(user.as_ref()).is_err() {
            return;
        }
        match turn(&setup) {
            Ok(_turn) => run(channel, setup),
            Err(fault) => drop(channel.send(&Answer::Failed(fault))),
        }
    })?)
}

/// Waits for the turn at a token that bears only so many sessions: this process keeps it until it ends, and nobody waits here for
/// longer than its parent waits for it.
fn turn(setup: &Setup<'_>) -> Result<Option<Queue>, Fault> {
    let Some(queue) = Queue::open(&State::open(setup.state)?, setup.name, setup.token)? else { return Ok(None) };
    let pause = |pause| -> Result<(), Fault> {
        sleep(pause);
        Ok(())
    };
    if queue.wait(setup.token.timeout() / 2, pause)? { Ok(Some(queue)) } else { Err(Fault::Busy) }
}
