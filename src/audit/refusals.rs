//! Which ends of sessions are recorded: so many in a time, so that nobody washes the journal out. What is left out is counted,
//! and the next record tells it.

use crate::config::values::{Name, Rate};
use crate::config::{self, Config};
use crate::limits::LimitError;
use crate::limits::bucket::{Bucket, Taken};
use crate::state::State;
use std::path::PathBuf;

/// Whose count a session's end belongs to.
pub enum Refusals {
    /// That of all who are not identified, in this state directory. In a file of its own for each rate: one bucket cannot have two.
    Strangers(PathBuf, &'static str, Rate),
    /// That of a client, open already: no file is opened where this is needed. `None` when it could not be.
    Client(Option<Bucket>),
    /// To nobody's: an intent was recorded, and what follows it is never left out.
    Unlimited,
}

impl Refusals {
    /// Those of everybody, as long as nobody knows what is configured.
    pub fn unconfigured() -> Refusals {
        let state = config::Audit::default().state().to_owned();
        Refusals::Strangers(state, "refusals-unconfigured", config::Limits::default().refusals())
    }

    /// Those of all who are not identified.
    pub fn of_strangers(config: &Config) -> Refusals {
        Refusals::Strangers(config.audit.state().to_owned(), "refusals", config.limits.refusals())
    }

    /// Those of a client.
    pub fn of_client(state: Option<&State>, client: &Name, rate: Rate) -> Refusals {
        Refusals::Client(state.and_then(|state| open(state, &format!("refusals.{client}"), rate).ok()))
    }

    /// Whether there is to be a record: `None` if not, else how many were left out before it. Where nobody can tell, there is one.
    pub fn admit(&self) -> Option<u64> {
        let taken = match self {
            Refusals::Strangers(path, file, rate) => {
                State::open(path).ok().and_then(|state| open(&state, file, *rate).ok()).map(|bucket| bucket.take())
            }
            Refusals::Client(bucket) => bucket.as_ref().map(Bucket::take),
            Refusals::Unlimited => None,
        };
        match taken {
            Some(Ok(Taken::Refused { .. })) => None,
            Some(Ok(Taken::Granted { refused })) => Some(refused),
            None | Some(Err(_)) => Some(0),
        }
    }
}

fn open(state: &State, name: &str, rate: Rate) -> Result<Bucket, LimitError> {
    Bucket::open(state, name, rate, rate.number)
}
