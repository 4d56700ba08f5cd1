//! The story of a signature: what goes to a host, what comes back, and that nothing leaves which was not verified.

use crate::error::Error;
use crate::hosts::anywhere;
use crate::input::{Input, read_at_most};
use crate::progress::Progress;
use crate::settings::{Key, Settings};
use crate::ssh::{Attempt, session};
use crate::{batch, fallback};
use sigsh::hash_state::{Form, HashState, Wanted};
use sigsh::openpgp::verify::MAX_SIGNATURE;
use sigsh::openpgp::{Detached, Good};
use std::io::{BufRead, Write};
use std::time::SystemTime;

/// A signature that was verified, over an input that has not changed meanwhile.
pub(crate) struct Signed {
    /// The packet.
    pub(crate) detached: Detached,
    /// Who made it, and when.
    pub(crate) good: Good,
    text: Option<Vec<u8>>,
}

impl Signed {
    /// Verifies what somebody has sent for a signature: over the bytes that `state` has taken in, or else over those that are read again.
    ///
    /// # Errors
    /// [`Error::Bad`] in the name of `from`, [`Error::Changed`], [`Error::Input`].
    pub(crate) fn check(
        from: &str,
        bytes: &[u8],
        key: &Key,
        input: &Input,
        form: Form,
        states: impl IntoIterator<Item = HashState>,
    ) -> Result<Signed, Error> {
        let bad = |error| Error::Bad(from.to_owned(), error);
        let detached = Detached::read(bytes).map_err(bad)?;
        let wanted = detached.wanted(form).map_err(bad)?;
        let known = states.into_iter().find(|state| wanted == Wanted::plain(state.algorithm()));
        let (state, body) = known.map_or_else(|| input.hash(&wanted), |state| Ok((state, Vec::new())))?;
        let good = detached.verify(&key.pinned, state, SystemTime::now()).map_err(bad)?;
        input.is_unchanged()?;
        Ok(Signed { detached, good, text: (form == Form::Cleartext).then_some(body) })
    }

    /// What is written for it: nothing of it but the packet comes from elsewhere.
    ///
    /// # Errors
    /// [`Error::Io`] for a bug of the library.
    pub(crate) fn bytes(&self, armor: bool) -> Result<Vec<u8>, Error> {
        let signature = self.detached.to_bytes(armor || self.text.is_some());
        let signature = signature.map_err(|error| Error::Io("the signature", std::io::Error::other(error)))?;
        Ok(match &self.text {
            Some(text) => [self.detached.cleartext_head().as_bytes(), text, &signature].concat(),
            None => signature,
        })
    }
}

/// Has every input signed by every key, and hands each signature on as soon as it is verified: number of input, number of key.
///
/// # Errors
/// Any [`Error`]; what was handed on before stays good.
pub(crate) fn sign(
    settings: &Settings,
    keys: &[Key],
    inputs: &[Input],
    form: Form,
    mut take: impl FnMut(usize, usize, Signed) -> Result<(), Error>,
) -> Result<(), Error> {
    let bytes = inputs.iter().map(|input| input.length).sum();
    let progress = Progress::new(bytes, (inputs.len() * keys.len()) as u64);
    let mut done = 0;
    let mut take = |input, key, signed| {
        take(input, key, signed)?;
        done += 1;
        progress.signed(done);
        Ok(())
    };
    let (mut large, mut small) = (Vec::new(), Vec::new());
    for (number, input) in inputs.iter().enumerate() {
        let by_state = form == Form::Binary && input.length > settings.state_above;
        if by_state { &mut large } else { &mut small }.push((number, input));
    }
    let outcome = (|| {
        for (number, key) in keys.iter().enumerate().filter(|_| !large.is_empty()) {
            batch::states(settings, key, &large, &progress, &mut |input, signed| take(input, number, signed))?;
        }
        if form == Form::Cleartext || small.len() * keys.len() == 1 {
            for (input, artifact) in small {
                for (number, key) in keys.iter().enumerate() {
                    take(input, number, one(settings, key, artifact, form, &progress)?)?;
                }
            }
        } else if !small.is_empty() {
            batch::files(settings, keys, &small, form, &progress, &mut take)?;
        }
        Ok(())
    })();
    progress.end();
    outcome
}

/// Has one input signed by one key.
fn one(settings: &Settings, key: &Key, input: &Input, form: Form, progress: &Progress) -> Result<Signed, Error> {
    let request = request(settings, key, input, form)?;
    progress.begin();
    let outcome = anywhere(settings, |host| {
        progress.restart();
        single(settings, host, &request, key, input, form, progress)
    });
    match outcome {
        Err(down) if fallback::is_for(settings, &down) => fallback::sign(settings, &down, key, input, form),
        outcome => outcome,
    }
}

/// What is asked of the host.
fn request(settings: &Settings, key: &Key, input: &Input, form: Form) -> Result<String, Error> {
    let mut words = vec!["sign".to_owned()];
    words.extend(key.name.as_deref().map(str::to_owned));
    words.extend(match form {
        Form::Binary => None,
        Form::Text => Some("--type=text".to_owned()),
        Form::Cleartext => Some("--cleartext".to_owned()),
    });
    words.push(format!("--size={}", input.length));
    if settings.digest {
        let (state, _) = input.hash(&Wanted::plain(key.hash))?;
        words.push(format!("--digest={}:{}", key.hash.name(), hex::encode(state.finish())));
    }
    words.extend(input.log_name().map(|name| format!("--name={name}")));
    shlex::try_join(words.iter().map(String::as_str)).map_err(|error| Error::Usage(error.to_string()))
}

/// One attempt.
fn single(
    settings: &Settings,
    host: &str,
    request: &str,
    key: &Key,
    input: &Input,
    form: Form,
    progress: &Progress,
) -> Result<Signed, Attempt> {
    let mut hashed = None;
    let send = |pipe: &mut dyn Write| {
        let mut state = HashState::new(key.hash);
        input.read(|bytes| {
            pipe.write_all(bytes).map_err(|_| Error::Gone)?;
            // A text is read again: it is not these bytes that count.
            if form == Form::Binary {
                state.update(bytes);
            }
            progress.bytes(bytes.len());
            Ok(())
        })?;
        hashed = (form == Form::Binary).then_some(state);
        Ok(())
    };
    // A text comes back with its dashes escaped.
    let limit = MAX_SIGNATURE + if form == Form::Cleartext { input.length.saturating_mul(3) } else { 0 };
    let receive = |answer: &mut dyn BufRead| {
        let bytes = read_at_most(answer, limit).map_err(|error| Error::unread(host, &error))?;
        if bytes.is_empty() { Err(Error::Short(host.to_owned())) } else { Ok(bytes) }
    };
    let bytes = session(settings, host, request, send, receive)?;
    let signature = if form == Form::Cleartext { armor_of(&bytes) } else { &bytes };
    Ok(Signed::check(host, signature, key, input, form, hashed)?)
}

/// The signature at the end of a cleartext-signed message. The text before it is ours already.
pub(crate) fn armor_of(message: &[u8]) -> &[u8] {
    const BEGIN: &[u8] = b"\n-----BEGIN PGP SIGNATURE-----";
    let at = message.windows(BEGIN.len()).rposition(|window| window == BEGIN);
    at.and_then(|at| message.get(at + 1..)).unwrap_or_default()
}
