//! Which ends of sessions are recorded: so many in a time, so that nobody washes the journal out. What is left out is counted,
//! and the next record tells it.

use crate::channel::{self, after};
use crate::config::values::{Name, Rate, SshFingerprint};
use crate::config::{self, Config};
use crate::limits::LimitError;
use crate::limits::bucket::{Bucket, Taken};
use crate::state::State;
use std::path::PathBuf;
use std::time::Duration;

/// The pause before a record that nobody can count.
const UNCOUNTED: Duration = Duration::from_secs(1);

/// Among how many files those are spread who are known by their key and are no client: one of them hides few others.
const STRANGERS: u8 = 64;

/// Whose count a session's end belongs to.
pub enum Refusals {
    /// That of all who are not identified, in this state directory. In a file of its own for each rate: one bucket cannot have two.
    Strangers(PathBuf, String, Rate),
    /// That of a client, open already: no file is opened where this is needed. `None` when it could not be.
    Client(Option<Bucket>),
}

impl Refusals {
    /// Those of everybody, as long as nobody knows what is configured.
    pub fn unconfigured() -> Refusals {
        let state = config::Audit::default().state().to_owned();
        Refusals::Strangers(state, "refusals-unconfigured".to_owned(), config::Limits::default().refusals())
    }

    /// Those of all who are not identified.
    pub fn of_strangers(config: &Config) -> Refusals {
        Refusals::Strangers(config.audit.state().to_owned(), "refusals".to_owned(), config.limits.refusals())
    }

    /// Those of who logs in by this key, and may be no client, or no longer.
    pub fn of_key(config: &Config, key: &SshFingerprint) -> Refusals {
        let file = format!("refusals-{:02}", key.first_byte() % STRANGERS);
        Refusals::Strangers(config.audit.state().to_owned(), file, config.limits.refusals())
    }

    /// Those of a client.
    pub fn of_client(state: Option<&State>, client: &Name, rate: Rate) -> Refusals {
        Refusals::Client(state.and_then(|state| open(state, &format!("refusals.{client}"), rate).ok()))
    }

    /// Whether there is to be a record: `None` if not, else how many were left out before it. Where nobody can tell, there is one.
    pub fn admit(&self) -> Option<u64> {
        let taken = match self {
            Refusals::Strangers(path, file, rate) => {
                State::open(path).ok().and_then(|state| open(&state, file, *rate).ok()).map(|bucket| bucket.take(1))
            }
            Refusals::Client(bucket) => bucket.as_ref().map(|bucket| bucket.take(1)),
        };
        match taken {
            Some(Ok(Taken::Refused { .. })) => None,
            Some(Ok(Taken::Granted { refused })) => Some(refused),
            None | Some(Err(_)) => {
                // At least not so many at once.
                let _ = channel::wait([], after(UNCOUNTED));
                Some(0)
            }
        }
    }
}

fn open(state: &State, name: &str, rate: Rate) -> Result<Bucket, LimitError> {
    Bucket::open(state, name, rate, rate.number)
}
