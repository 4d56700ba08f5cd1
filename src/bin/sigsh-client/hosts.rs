//! Which host signs: the first that takes the request.

use crate::error::{Error, Reached, clean};
use crate::runtime;
use crate::settings::Settings;
use crate::ssh::Attempt;
use std::time::{Duration, Instant};

/// The pause before everything is tried once more; the next are twice as long each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Tries each host in its order, and all of them again after a while, as long as none has accepted anything.
///
/// # Errors
/// That of the host that has refused, or [`Error::Down`].
pub(crate) fn anywhere<T>(settings: &Settings, mut attempt: impl FnMut(&str) -> Result<T, Attempt>) -> Result<T, Error> {
    let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let mut errors = Vec::new();
        let mut hope = false;
        for host in &settings.hosts {
            let place = runtime::place(settings, host)?;
            match attempt(host) {
                Ok(done) => return Ok(done),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Nothing { error, lasting }) => {
                    hope |= !lasting;
                    errors.push(error);
                }
            }
            drop(place);
        }
        if !hope || began.elapsed() + pause > settings.retry {
            return Err(sum_up(errors));
        }
        let words = errors.iter().map(|error| clean(&error.to_string())).collect::<Vec<_>>().join("; ");
        eprintln!("sigsh-client: {words}; trying again");
        std::thread::sleep(pause.mul_f64(jitter()));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One error for all; a single host's is its own.
fn sum_up(mut errors: Vec<Error>) -> Error {
    let code = |error: &Error| error.code();
    let busy = errors.iter().any(|error| code(error) == 75);
    let down = errors.iter().all(|error| code(error) == 69);
    match errors.pop() {
        Some(error) if errors.is_empty() && !busy && !down => error,
        last => {
            let words = errors.iter().chain(&last).map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Error::Down(words, if busy || !down { Reached::Busy } else { Reached::None })
        }
    }
}

/// Between a half and one: those who were turned away together do not come back together.
fn jitter() -> f64 {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    0.5 + f64::from(byte[0]) / 510.0
}
