//! Which host signs: the first that takes the request.

use crate::error::{BUSY, Error, Reached, say};
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
    let (mut began, mut pause) = (None, FIRST_PAUSE);
    let mut said = String::new();
    loop {
        let mut errors = Vec::new();
        let mut hope = false;
        for host in &settings.hosts {
            let outcome = runtime::place(settings, host).and_then(|_place| {
                // To wait for others of our own is no attempt.
                began.get_or_insert_with(Instant::now);
                attempt(host)
            });
            match outcome {
                Ok(done) => return Ok(done),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Part(error)) => {
                    // As long as it goes on, it is worth the time.
                    (began, pause, hope) = (Some(Instant::now()), FIRST_PAUSE, true);
                    errors.push(error);
                }
                Err(Attempt::Nothing { error, lasting }) => {
                    hope |= !lasting;
                    errors.push(error);
                }
            }
        }
        let left = began.map_or(Duration::ZERO, |began| settings.retry.saturating_sub(began.elapsed()));
        if !hope || left.is_zero() {
            return Err(sum_up(errors));
        }
        let words = words(&errors);
        if words != said {
            say(&format!("sigsh-client: warning: {words}; trying again"));
            said = words;
        }
        std::thread::sleep(pause.mul_f64(0.5 + random() / 2.0).min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn words(errors: &[Error]) -> String {
    let words = |error: &Error| match error {
        Error::Refused { hint: Some(hint), code: BUSY, .. } => format!("{error} ({hint})"),
        error => error.to_string(),
    };
    errors.iter().map(words).collect::<Vec<_>>().join("; ")
}

/// One error for all: busy when one of them was; down when no one could be reached; else what is to be seen to, a single host's in full.
fn sum_up(mut errors: Vec<Error>) -> Error {
    let words = words(&errors);
    let codes = errors.iter().map(Error::code).collect::<Vec<_>>();
    if errors.iter().any(|error| matches!(error, Error::Unexplained(_))) && codes.iter().all(|code| *code == 69) {
        return Error::Down(words, Reached::Refused(69));
    }
    match codes.iter().find(|code| **code != 69) {
        None => Error::Down(words, Reached::None),
        Some(_) if codes.contains(&BUSY) => Error::Down(words, Reached::Busy),
        Some(code) => match errors.pop() {
            Some(error) if errors.is_empty() => error,
            _ => Error::Down(words, Reached::Refused(*code)),
        },
    }
}

/// From 0 to 1: those who were turned away together do not come back together.
pub(crate) fn random() -> f64 {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
