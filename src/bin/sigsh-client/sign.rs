//! The story of a signature: what goes to a host, what comes back, and that nothing leaves which was not verified.

use crate::approve::escaped;
use crate::error::Error;
use crate::hosts::anywhere;
use crate::input::{Input, read_at_most};
use crate::progress::Progress;
use crate::settings::{Key, Settings};
use crate::ssh::{Answer, Attempt, session};
use crate::{batch, fallback};
use sigsh::hash_state::{Form, HashState, Wanted};
use sigsh::openpgp::verify::MAX_SIGNATURE;
use sigsh::openpgp::{BadSignature, Detached, Good};
use sigsh::request::{MAX_KEYS, MAX_REQUEST};
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

/// How far behind ours a host's clock may be.
const MOST_BEHIND: Duration = Duration::from_secs(300);

/// A signature that was verified, over an input that has not changed meanwhile.
pub(crate) struct Signed {
    /// The packet.
    pub(crate) detached: Detached,
    /// Who made it, and when.
    pub(crate) good: Good,
    /// By how much it was ahead of this clock when it came.
    pub(crate) ahead: Duration,
    text: Option<Vec<u8>>,
}

/// How far a signature may be ahead of this clock: then we wait, since sqv refuses what comes from the future.
pub(crate) const WAIT: Duration = Duration::from_secs(5);

impl Signed {
    /// Verifies what somebody has sent for a signature: over the bytes that `state` has taken in, or else over those that are read again.
    ///
    /// # Errors
    /// [`Error::Bad`] or [`Error::Ahead`] in the name of `from`, [`Error::Changed`], [`Error::Input`].
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
        let (created, now) = (detached.created().map_err(bad)?, SystemTime::now());
        let ahead = created.duration_since(now).unwrap_or_default();
        if ahead > WAIT {
            return Err(Error::Ahead(from.to_owned(), ahead.as_secs()));
        }
        if !ahead.is_zero() {
            // The clock may be slewed meanwhile.
            sleep(ahead + Duration::from_millis(10));
        }
        let known = states.into_iter().find(|state| wanted == Wanted::plain(state.algorithm()));
        let (state, body) = known.map_or_else(|| input.hash(&wanted), |state| Ok((state, Vec::new())))?;
        let good = detached.verify(&key.pinned, state, SystemTime::now()).map_err(bad)?;
        // One that was made long ago, by a key that may be dead by now, or that will be worth nothing soon, is not what was asked for.
        if good.created + MOST_BEHIND < input.opened {
            return Err(bad(BadSignature(format!("it is an old one, of {}", humantime::format_rfc3339_seconds(good.created)))));
        }
        if detached.packet().signature_validity_period().is_some() {
            return Err(bad(BadSignature("it expires".to_owned())));
        }
        input.is_unchanged()?;
        Ok(Signed { detached, good, ahead, text: (form == Form::Cleartext).then_some(body) })
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

/// How inputs go to a host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Each in a session of its own.
    Alone,
    /// All in a tar.
    Tar,
    /// All as states of their hash.
    State,
}

/// Inputs and keys, with their numbers, that go one way.
type Lot<'a> = (Way, Vec<(usize, &'a Input)>, Vec<(usize, &'a Key)>);

/// A signature, with the numbers of its input and its key.
pub(crate) type Numbered = (usize, usize, Signed);

/// Has every input signed by every key, and hands each signature on: number of input, number of key.
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
    let lots = lots(settings, keys, inputs, form);
    // What no host would take is told before another file has used up anything.
    for (key, input) in keys.iter().flat_map(|key| inputs.iter().map(move |input| (key, input))) {
        if input.vouched.contains_key(&key.name) {
            request(settings, key, input, form)?;
        }
    }
    let bytes = lots.iter().flat_map(|(_, inputs, _)| inputs).map(|(_, input)| input.length).sum();
    let progress = Progress::new(bytes, (inputs.len() * keys.len()) as u64);
    let signed = lots.iter().map(|lot| {
        progress.begin();
        sign_lot(settings, lot, form, &progress)
    });
    // Nothing is handed on before all of them went well.
    let signed = signed.collect::<Result<Vec<_>, _>>();
    progress.end();
    signed?.into_iter().flatten().try_for_each(|(input, key, signed)| take(input, key, signed))
}

/// Who goes with whom; a request names only so many keys.
fn lots<'a>(settings: &Settings, keys: &'a [Key], inputs: &'a [Input], form: Form) -> Vec<Lot<'a>> {
    let by_state = |(_, input): &(usize, &Input)| form == Form::Binary && input.length > settings.state_above;
    let (large, small): (Vec<_>, Vec<_>) = inputs.iter().enumerate().partition(by_state);
    let (guarded, keys): (Vec<_>, Vec<_>) = keys.iter().enumerate().partition(|(_, key)| key.guarded);
    let mut lots = Vec::new();
    // What vouches for a file comes with that file.
    lots.extend(inputs.iter().enumerate().flat_map(|input| guarded.iter().map(move |key| (Way::Alone, vec![input], vec![*key]))));
    if keys.is_empty() {
        return lots;
    }
    if !large.is_empty() {
        lots.push((Way::State, large, keys.clone()));
    }
    // Only `sign` has a form for a cleartext, and takes a digest.
    if form == Form::Cleartext || settings.digest || small.len() * keys.len() == 1 {
        lots.extend(small.into_iter().flat_map(|input| keys.iter().map(move |key| (Way::Alone, vec![input], vec![*key]))));
    } else if !small.is_empty() {
        lots.extend(keys.chunks(MAX_KEYS).map(|keys| (Way::Tar, small.clone(), keys.to_vec())));
    }
    lots
}

fn sign_lot(settings: &Settings, (way, inputs, keys): &Lot<'_>, form: Form, progress: &Progress) -> Result<Vec<Numbered>, Error> {
    let mut settings = settings.clone();
    // What people must approve there, no key of this machine signs in their place.
    settings.local_fallback.retain(|_| !keys.iter().any(|(_, key)| key.guarded));
    let settings = &settings;
    let outcome = match way {
        Way::State => batch::states(settings, keys, inputs, progress),
        Way::Tar => batch::files(settings, keys, inputs, form, progress),
        Way::Alone => alone(settings, keys, inputs, form, progress),
    };
    match outcome {
        Err(down) if fallback::is_for(settings, &down) => fallback::sign(settings, &down, keys, inputs, form, progress),
        outcome => outcome,
    }
}

fn alone(
    settings: &Settings,
    keys: &[(usize, &Key)],
    inputs: &[(usize, &Input)],
    form: Form,
    progress: &Progress,
) -> Result<Vec<Numbered>, Error> {
    let pairs = inputs.iter().flat_map(|input| keys.iter().map(move |key| (input, key)));
    let one = |((input_number, input), (key_number, key)): (&(usize, &Input), &(usize, &Key))| {
        let request = request(settings, key, input, form)?;
        let signed = anywhere(settings, |host| {
            progress.restart();
            single(settings, host, &request, key, input, form, progress)
        });
        let signed = signed.map_err(|error| if key.guarded { error.guarded() } else { error })?;
        progress.signed();
        Ok((*input_number, *key_number, signed))
    };
    pairs.map(one).collect()
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
    match input.vouched.get(&key.name) {
        Some(vouched) => words.extend(vouched.iter().cloned()),
        None if settings.digest || key.guarded => words.push(input.digest(key.hash)?.1),
        None => {}
    }
    words.extend(input.log_name().map(|name| format!("--name={name}")));
    let request = shlex::try_join(words.iter().map(String::as_str)).map_err(|error| Error::Usage(error.to_string()))?;
    if request.len() > MAX_REQUEST {
        let file = escaped(&input.display());
        return Err(Error::Usage(format!("{file}: with all that vouches for it, the request is longer than 16 KiB")));
    }
    Ok(request)
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
            pipe.write_all(bytes).map_err(Error::unsent)?;
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
    let limit = longest_answer(input, form);
    let receive = |answer: &mut Answer<'_>| {
        let bytes = read_at_most(answer, limit).map_err(|error| Error::unread(host, &error))?;
        if bytes.is_empty() {
            return Err(Error::Short(host.to_owned()));
        }
        answer.signed();
        Ok(bytes)
    };
    let bytes = session(settings, host, request, send, receive)?;
    let signature = if form == Form::Cleartext { armor_of(&bytes) } else { &bytes };
    Ok(Signed::check(host, signature, key, input, form, hashed)?)
}

/// How long an answer may be, in bytes: a text comes back with its dashes escaped.
pub(crate) fn longest_answer(input: &Input, form: Form) -> u64 {
    MAX_SIGNATURE + if form == Form::Cleartext { input.length.saturating_mul(3) } else { 0 }
}

/// The signature at the end of a cleartext-signed message. The text before it is ours already.
pub(crate) fn armor_of(message: &[u8]) -> &[u8] {
    const BEGIN: &[u8] = b"\n-----BEGIN PGP SIGNATURE-----";
    let at = message.windows(BEGIN.len()).rposition(|window| window == BEGIN);
    at.and_then(|at| message.get(at + 1..)).unwrap_or_default()
}
