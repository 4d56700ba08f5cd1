//! What a client may take: so many sessions at once, and so many signatures in a time. And so may all of them a token, and the
//! journal. What sessions must know of each other for this lies in the state directory.

pub mod bucket;
pub mod gcra;
pub mod slots;

use crate::config::values::{Name, Rate};
use crate::state::{State, StateError};
use bucket::{Bucket, Taken};
use slots::Slots;
use std::io;
use std::time::Duration;

/// Why a client does not get what it may have at another time, or why nobody can tell.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// So many sessions of the client run already.
    #[error("as many sessions of this client run as may: {0}")]
    Sessions(u64),
    /// Its rate is used up for so long.
    #[error("the rate of {rate} with burst {burst} is used up for {} more seconds", seconds(.wait))]
    Rate {
        /// The rate.
        rate: Rate,
        /// How many at once.
        burst: u64,
        /// When the next one is free.
        wait: Duration,
    },
    /// It asks for more at once than it ever gets.
    #[error("one artifact would take {number} signatures, and the burst is {burst}")]
    Burst {
        /// How many at once.
        burst: u64,
        /// How many it asks for.
        number: u64,
    },
    /// A file cannot be opened or locked.
    #[error("{0}: {1}")]
    State(String, StateError),
    /// A file, or the clock, cannot be read or written.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// A file holds what sigsh did not write.
    #[error("{0}: it did not hold a count; it counts anew now, with nothing left")]
    Garbage(String),
}

/// Whole seconds, rounded up: who waits for them has waited long enough.
pub fn seconds(wait: &Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

/// Takes a place for one session among those of its client, without waiting. It is held until its process ends.
///
/// # Errors
/// [`LimitError::Sessions`]; or [`LimitError::State`] and [`LimitError::Io`].
pub fn seat(state: &State, client: &Name, number: u64) -> Result<(), LimitError> {
    let seats = Slots::open(state, &format!("sessions.{client}"), number)?;
    if !seats.take()? {
        return Err(LimitError::Sessions(number));
    }
    // Never closed: to record and tell how it ended is a part of the session, too.
    std::mem::forget(seats);
    Ok(())
}

/// The signatures of a client: no more than its rate allows.
pub struct Signatures(Option<(Bucket, Rate, u64)>);

impl Signatures {
    /// Opens the count of a client; without a rate there is none.
    ///
    /// # Errors
    /// [`LimitError::State`], [`LimitError::Io`].
    pub fn open(state: &State, client: &Name, rate: Option<(Rate, u64)>) -> Result<Signatures, LimitError> {
        let open = |(rate, burst)| Ok((Bucket::open(state, &format!("rate.{client}"), rate, burst)?, rate, burst));
        Ok(Signatures(rate.map(open).transpose()?))
    }

    /// Takes so many, or none.
    ///
    /// # Errors
    /// [`LimitError::Rate`], [`LimitError::Burst`]; or any other but [`LimitError::Sessions`].
    pub fn take(&self, number: u64) -> Result<(), LimitError> {
        let Some((bucket, rate, burst)) = &self.0 else { return Ok(()) };
        if number > *burst {
            return Err(LimitError::Burst { burst: *burst, number });
        }
        match bucket.take(number)? {
            Taken::Granted { .. } => Ok(()),
            Taken::Refused { wait } => Err(LimitError::Rate { rate: *rate, burst: *burst, wait }),
        }
    }

    /// Gives back so many that were taken, and that this host could not make. Where that fails, they are lost.
    pub fn give_back(&self, number: u64) {
        if let Some((bucket, ..)) = &self.0 {
            let _ = bucket.give_back(number);
        }
    }

    /// How many are left at this moment; `None` is no limit.
    ///
    /// # Errors
    /// Any [`LimitError`] but the refusals.
    pub fn left(&self) -> Result<Option<u64>, LimitError> {
        self.0.as_ref().map(|(bucket, ..)| bucket.left()).transpose()
    }
}
