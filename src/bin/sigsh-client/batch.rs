//! Many signatures over one connection: files as a tar, or hash states.

use crate::error::{BUSY, Error};
use crate::hosts::anywhere;
use crate::input::Input;
use crate::progress::Progress;
use crate::settings::{Key, Settings};
use crate::sign::{Numbered, Signed};
use crate::ssh::{Answer, Attempt, session};
use sigsh::hash_state::{Form, HashAlgorithm, HashState};
use sigsh::hasher::tar::Tar;
use sigsh::hasher::{Fault, Source};
use sigsh::openpgp::verify::MAX_SIGNATURE;
use sigsh::tar::{BLOCK, head};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime};

/// The longest line of an answer to a state, in bytes: an armored signature in JSON.
const MAX_ANSWER: u64 = 2 * MAX_SIGNATURE;

/// How long the thread that sends a file may need to say so.
const SOON: Duration = Duration::from_secs(1);

/// Sends files as a tar.
///
/// # Errors
/// Any [`Error`], and then no signature: the batch as a whole has failed.
pub(crate) fn files(
    settings: &Settings,
    keys: &[(usize, &Key)],
    inputs: &[(usize, &Input)],
    form: Form,
    progress: &Progress,
) -> Result<Vec<Numbered>, Error> {
    let algorithms = if form == Form::Binary { algorithms(keys) } else { Vec::new() };
    let names = keys.iter().filter_map(|(_, key)| key.name.as_deref());
    let text = (form == Form::Text).then_some("--type=text");
    let request = ["sign-tar"].into_iter().chain(names).chain(text).collect::<Vec<_>>().join(" ");
    let mut all = Vec::new();
    anywhere(settings, |host| {
        progress.restart();
        let rest = inputs.get(all.len() / keys.len()..).unwrap_or_default();
        let (hashed, states) = channel();
        let send = |pipe: &mut dyn Write| {
            // It ends with this thread, and so whoever waits for what it hashes.
            let hashed = hashed;
            for (number, input) in rest {
                let _ = hashed.send((*number, file(pipe, input, &algorithms, progress)?));
            }
            pipe.write_all(&[0; 2 * BLOCK]).map_err(Error::unsent)
        };
        let mut got = Vec::new();
        let receive = |answer: &mut Answer<'_>| {
            let (mut tar, mut source) = (Tar::new(), Taking(answer));
            for (input_number, input) in rest {
                let mut of: Option<Vec<HashState>> = None;
                for (key_number, key) in keys {
                    let signature = entry(host, &mut tar, &mut source)?;
                    let of = of.get_or_insert_with(|| states_of(&states, *input_number));
                    let signed = Signed::check(host, &signature, key, input, form, of.iter().cloned())?;
                    got.push((*input_number, *key_number, signed));
                    progress.signed();
                    source.0.signed();
                }
            }
            match tar.next(&mut source) {
                Ok(false) => Ok(()),
                Ok(true) => Err(Error::Answer(host.to_owned(), "more signatures than files".to_owned())),
                Err(fault) => Err(broken(host, fault)),
            }
        };
        let outcome = session(settings, host, &request, send, receive);
        keep(outcome, got, &mut all, (rest.len(), keys.len()), progress)
    })?;
    Ok(all)
}

/// Keeps what a session has signed, when it went well, and when the host has enough of us for now: then the rest is for another session.
fn keep(
    outcome: Result<(), Attempt>,
    mut got: Vec<Numbered>,
    all: &mut Vec<Numbered>,
    (files, keys): (usize, usize),
    progress: &Progress,
) -> Result<(), Attempt> {
    // A file that only some of the keys have signed goes again.
    got.truncate(got.len() - got.len() % keys);
    let enough = matches!(&outcome, Err(Attempt::Final(error)) if error.code() == BUSY && got.len() < files * keys);
    let more = !got.is_empty();
    if outcome.is_ok() || enough {
        all.append(&mut got);
    }
    match outcome {
        Err(Attempt::Final(error)) if enough && more => {
            progress.begin();
            Err(Attempt::Part(error))
        }
        Err(Attempt::Final(error)) if enough => Err(Attempt::Nothing { error, lasting: false }),
        outcome => outcome,
    }
}

/// What was hashed of an input while it was sent. Who answers before it has gone finds nobody waiting: then it is read once more.
fn states_of(hashed: &Receiver<(usize, Vec<HashState>)>, number: usize) -> Vec<HashState> {
    while let Ok((of, states)) = hashed.recv_timeout(SOON) {
        if of == number {
            return states;
        }
    }
    Vec::new()
}

/// Each of them once.
fn algorithms(keys: &[(usize, &Key)]) -> Vec<HashAlgorithm> {
    let mut algorithms = Vec::new();
    for (_, key) in keys {
        if !algorithms.contains(&key.hash) {
            algorithms.push(key.hash);
        }
    }
    algorithms
}

/// Reads a file, and returns what was hashed of it.
fn hash(
    input: &Input,
    algorithms: &[HashAlgorithm],
    progress: &Progress,
    mut give: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<Vec<HashState>, Error> {
    let mut states = algorithms.iter().map(|algorithm| HashState::new(*algorithm)).collect::<Vec<_>>();
    input.read(|bytes| {
        give(bytes)?;
        states.iter_mut().for_each(|state| state.update(bytes));
        progress.bytes(bytes.len());
        Ok(())
    })?;
    Ok(states)
}

/// Writes a file of the tar.
fn file(pipe: &mut dyn Write, input: &Input, algorithms: &[HashAlgorithm], progress: &Progress) -> Result<Vec<HashState>, Error> {
    // "./" keeps a name from looking like the begin of another kind of archive.
    let name = [&b"./"[..], input.name().map_or(b"stdin", OsStrExt::as_bytes)].concat();
    pipe.write_all(&head(&name, input.length, SystemTime::UNIX_EPOCH)).map_err(Error::unsent)?;
    let states = hash(input, algorithms, progress, |bytes| pipe.write_all(bytes).map_err(Error::unsent))?;
    let block = BLOCK as u64;
    let padding = usize::try_from((block - input.length % block) % block).unwrap_or_default();
    pipe.write_all([0; BLOCK].get(..padding).unwrap_or_default()).map_err(Error::unsent)?;
    Ok(states)
}

/// The next signature.
fn entry(host: &str, tar: &mut Tar, source: &mut Taking<'_, '_>) -> Result<Vec<u8>, Error> {
    match tar.next(source) {
        Ok(true) if tar.size() <= MAX_SIGNATURE => {}
        Ok(true) => return Err(Error::Answer(host.to_owned(), "a signature is too long".to_owned())),
        Ok(false) => return Err(Error::Short(host.to_owned())),
        Err(fault) => return Err(broken(host, fault)),
    }
    let mut bytes = Vec::new();
    let content = tar.content(source, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    content.map(|()| bytes).map_err(|fault| broken(host, fault))
}

/// A tar that ends too early is for the host to explain; anything else is not what it should send.
fn broken(host: &str, fault: Fault) -> Error {
    match fault {
        Fault::Idle => Error::Silent(host.to_owned()),
        Fault::TarCut => Error::Short(host.to_owned()),
        fault => Error::Answer(host.to_owned(), fault.to_string()),
    }
}

/// The answer, as the reader of tars wants it.
struct Taking<'a, 'b>(&'a mut Answer<'b>);

impl Source for Taking<'_, '_> {
    fn look(&mut self) -> Result<&[u8], Fault> {
        self.0.fill_buf().map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Fault::Idle,
            _ => Fault::Read(error.raw_os_error().unwrap_or_default()),
        })
    }

    fn take(&mut self, bytes: usize) {
        self.0.consume(bytes);
    }
}

/// Sends the states of the files' hashes in their place, in a session for each key.
///
/// # Errors
/// As [`files`].
pub(crate) fn states(
    settings: &Settings,
    keys: &[(usize, &Key)],
    inputs: &[(usize, &Input)],
    progress: &Progress,
) -> Result<Vec<Numbered>, Error> {
    let algorithms = algorithms(keys);
    let read = |(_, input): &(usize, &Input)| hash(input, &algorithms, progress, |_| Ok(()));
    let hashed = inputs.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    progress.begin();
    let of = |key: &Key, states: &[HashState]| states.iter().find(|state| state.algorithm() == key.hash).cloned();
    let mut all = Vec::new();
    for (key_number, key) in keys {
        let request = ["sign-state"].into_iter().chain(key.name.as_deref()).collect::<Vec<_>>().join(" ");
        let mut signed = Vec::new();
        anywhere(settings, |host| {
            progress.restart();
            let before = signed.len();
            let rest = || inputs.iter().zip(&hashed).skip(before);
            let documents = rest().filter_map(|((_, input), states)| Some(document(input, &of(key, states)?))).collect::<String>();
            let mut got = Vec::new();
            let send = |pipe: &mut dyn Write| pipe.write_all(documents.as_bytes()).map_err(Error::unsent);
            let receive = |answer: &mut Answer<'_>| {
                for ((input_number, input), states) in rest() {
                    let signature = response(host, answer)?;
                    let checked = Signed::check(host, signature.as_bytes(), key, input, Form::Binary, of(key, states))?;
                    got.push((*input_number, *key_number, checked));
                    progress.signed();
                    answer.signed();
                }
                match answer.fill_buf() {
                    Ok([]) => Ok(()),
                    Ok(_) => Err(Error::Answer(host.to_owned(), "more signatures than files".to_owned())),
                    Err(error) => Err(Error::unread(host, &error)),
                }
            };
            let outcome = session(settings, host, &request, send, receive);
            keep(outcome, got, &mut signed, (rest().count(), 1), progress)
        })?;
        all.extend(signed);
        progress.begin();
    }
    Ok(all)
}

/// Signstar's request, version 1 (<https://signstar.archlinux.page/signing-api/request.html>).
fn document(input: &Input, state: &HashState) -> String {
    let kind = format!("sha2-0.11-{}-state", state.algorithm().name().to_uppercase());
    let optional = match input.name().and_then(|name| name.to_str()) {
        Some(name) => serde_json::json!({ "file-name": name }),
        None => serde_json::json!({}),
    };
    let content = state.export(<[u8]>::to_vec);
    let required = serde_json::json!({ "input": { "type": kind, "content": content }, "output": { "type": "OpenPGPv4" } });
    format!("{}\n", serde_json::json!({ "version": "1.0.0", "required": required, "optional": optional }))
}

/// The armored signature of one line of the answer.
fn response(host: &str, answer: &mut Answer<'_>) -> Result<String, Error> {
    let wrong = |what: &str| Error::Answer(host.to_owned(), what.to_owned());
    let mut line = Vec::new();
    answer.take(MAX_ANSWER).read_until(b'\n', &mut line).map_err(|error| Error::unread(host, &error))?;
    if !line.ends_with(b"\n") {
        return Err(if line.len() as u64 == MAX_ANSWER { wrong("a line is too long") } else { Error::Short(host.to_owned()) });
    }
    let value: serde_json::Value = serde_json::from_slice(&line).map_err(|_| wrong("it is no JSON"))?;
    let signature = value.get("signature").and_then(serde_json::Value::as_str);
    signature.map(str::to_owned).ok_or_else(|| wrong("it has no signature"))
}
