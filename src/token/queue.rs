//! Turns at a token that bears only so many sessions at once, as most smartcards do. Taken after the last byte of the artifact,
//! so that no upload holds a card; kept until the token process has ended.

use crate::channel::after;
use crate::config;
use crate::config::values::Name;
use crate::limits::LimitError;
use crate::limits::slots::Slots;
use crate::state::State;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// How long one that waits pauses before it looks again: the longer it has waited, the longer.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];

/// The way to a token's places.
pub struct Queue {
    slots: Slots,
    /// How long a session waits for one.
    pub patience: Duration,
}

impl Queue {
    /// Opens it; `None` for a token that bears as many sessions as come.
    ///
    /// # Errors
    /// [`LimitError::State`].
    pub fn open(state: &State, name: &Name, token: &config::Token) -> Result<Option<Queue>, LimitError> {
        let open = |number| Ok(Queue { slots: Slots::open(state, &format!("token.{name}"), number)?, patience: token.queue() });
        token.sessions().map(open).transpose()
    }

    /// The descriptor's number, for the process that holds the place as well.
    pub fn number(&self) -> RawFd {
        self.slots.number()
    }

    /// Takes a place, if there is one.
    ///
    /// # Errors
    /// [`LimitError::Io`].
    pub fn try_take(&self) -> Result<bool, LimitError> {
        self.slots.take()
    }

    /// Takes a place within this time, and makes a pause between two looks. `false` when there was none. The place is kept until
    /// this is dropped.
    ///
    /// # Errors
    /// What `pause` says; [`LimitError::Io`].
    pub fn wait<E: From<LimitError>>(
        &self,
        patience: Duration,
        mut pause: impl FnMut(Duration) -> Result<(), E>,
    ) -> Result<bool, E> {
        let [mut next, longest] = PAUSES;
        let until = after(patience);
        loop {
            match self.slots.take()? {
                false if Instant::now() < until => pause(next)?,
                taken => return Ok(taken),
            }
            next = (next * 5 / 4).min(longest);
        }
    }
}
