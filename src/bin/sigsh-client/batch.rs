//! Many signatures over one connection: files as a tar, or hash states.

use crate::error::Error;
use crate::hosts::anywhere;
use crate::input::Input;
use crate::progress::Progress;
use crate::settings::{Key, Settings};
use crate::sign::Signed;
use crate::ssh::{Attempt, session};
use sigsh::hash_state::{Form, HashAlgorithm, HashState};
use sigsh::hasher::tar::Tar;
use sigsh::hasher::{Fault, Source};
use sigsh::openpgp::verify::MAX_SIGNATURE;
use sigsh::tar::{BLOCK, head};
use std::io::{BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::channel;
use std::time::SystemTime;

/// The longest line of an answer to a state, in bytes: an armored signature in JSON.
const MAX_ANSWER: u64 = 2 * MAX_SIGNATURE;

/// Sends files as a tar. After the first signature nothing is tried again: the host has accepted the batch.
pub(crate) fn files(
    settings: &Settings,
    keys: &[Key],
    inputs: &[(usize, &Input)],
    form: Form,
    progress: &Progress,
    take: &mut dyn FnMut(usize, usize, Signed) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut algorithms: Vec<HashAlgorithm> = Vec::new();
    for key in keys.iter().filter(|_| form == Form::Binary) {
        if !algorithms.contains(&key.hash) {
            algorithms.push(key.hash);
        }
    }
    let names = keys.iter().filter_map(|key| key.name.as_deref());
    let text = (form == Form::Text).then_some("--type=text");
    let request = ["sign-tar"].into_iter().chain(names).chain(text).collect::<Vec<_>>().join(" ");
    let mut done = 0;
    progress.begin();
    anywhere(settings, |host| {
        progress.restart();
        let (hashed, states) = channel();
        let send = |pipe: &mut dyn Write| {
            for (number, (_, input)) in inputs.iter().enumerate() {
                let of = algorithms.iter().map(|algorithm| HashState::new(*algorithm)).collect::<Vec<_>>();
                let of = file(pipe, number, input, of, progress)?;
                let _ = hashed.send(of);
            }
            pipe.write_all(&[0; 2 * BLOCK]).map_err(|_| Error::Gone)
        };
        let receive = |answer: &mut dyn BufRead| {
            let (mut tar, mut source) = (Tar::new(), Answer { answer, taken: 0 });
            for (number, (_, input)) in inputs.iter().enumerate() {
                let mut of: Option<Vec<HashState>> = None;
                for (by, key) in keys.iter().enumerate() {
                    let signature = entry(host, &mut tar, &mut source)?;
                    let of = of.get_or_insert_with(|| states.recv().unwrap_or_default());
                    let signed = Signed::check(host, &signature, key, input, form, of.iter().cloned())?;
                    take(inputs.get(number).map_or(0, |(number, _)| *number), by, signed)?;
                    done += 1;
                }
            }
            match tar.next(&mut source) {
                Ok(false) => Ok(()),
                Ok(true) => Err(Error::Answer(host.to_owned(), "more signatures than files".to_owned())),
                Err(fault) => Err(broken(host, fault)),
            }
        };
        session(settings, host, &request, send, receive).map_err(|attempt| once_begun(attempt, done))
    })
}

/// What was signed cannot be taken back, and the batch not begun anew.
fn once_begun(attempt: Attempt, done: usize) -> Attempt {
    match attempt {
        Attempt::Nothing { error, .. } if done > 0 => Attempt::Final(error),
        attempt => attempt,
    }
}

/// Writes a file of the tar, and returns what was hashed of it.
fn file(
    pipe: &mut dyn Write,
    number: usize,
    input: &Input,
    mut states: Vec<HashState>,
    progress: &Progress,
) -> Result<Vec<HashState>, Error> {
    // "./" keeps a name from looking like the begin of another kind of archive.
    let own = input.name().map_or_else(|| format!("stdin-{number}").into_bytes(), |name| name.as_bytes().to_vec());
    let name = [b"./", own.as_slice()].concat();
    let gone = |_| Error::Gone;
    pipe.write_all(&head(&name, input.length, SystemTime::UNIX_EPOCH)).map_err(gone)?;
    input.read(|bytes| {
        pipe.write_all(bytes).map_err(gone)?;
        states.iter_mut().for_each(|state| state.update(bytes));
        progress.bytes(bytes.len());
        Ok(())
    })?;
    let block = BLOCK as u64;
    let padding = usize::try_from((block - input.length % block) % block).unwrap_or_default();
    pipe.write_all([0; BLOCK].get(..padding).unwrap_or_default()).map_err(gone)?;
    Ok(states)
}

/// The next signature.
fn entry(host: &str, tar: &mut Tar, source: &mut Answer<'_>) -> Result<Vec<u8>, Error> {
    match tar.next(source) {
        Ok(true) if tar.size() <= MAX_SIGNATURE => {}
        Ok(true) => return Err(Error::Answer(host.to_owned(), "a signature is too long".to_owned())),
        Ok(false) => return Err(Error::Answer(host.to_owned(), "fewer signatures than files".to_owned())),
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
struct Answer<'a> {
    answer: &'a mut dyn BufRead,
    taken: u64,
}

impl Source for Answer<'_> {
    fn look(&mut self) -> Result<&[u8], Fault> {
        self.answer.fill_buf().map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => Fault::Idle,
            _ => Fault::Read(error.raw_os_error().unwrap_or_default()),
        })
    }

    fn take(&mut self, bytes: usize) {
        self.answer.consume(bytes);
        self.taken += bytes as u64;
    }
}

/// Sends the state of each file's hash in its place.
pub(crate) fn states(
    settings: &Settings,
    key: &Key,
    inputs: &[(usize, &Input)],
    progress: &Progress,
    take: &mut dyn FnMut(usize, Signed) -> Result<(), Error>,
) -> Result<(), Error> {
    let request = ["sign-state"].into_iter().chain(key.name.as_deref()).collect::<Vec<_>>().join(" ");
    let mut hashed: Vec<HashState> = Vec::new();
    for (_, input) in inputs {
        let mut state = HashState::new(key.hash);
        input.read(|bytes| {
            state.update(bytes);
            progress.bytes(bytes.len());
            Ok(())
        })?;
        hashed.push(state);
    }
    let mut done = 0;
    anywhere(settings, |host| {
        let send = |pipe: &mut dyn Write| {
            for ((_, input), state) in inputs.iter().zip(&hashed) {
                pipe.write_all(document(key, input, state).as_bytes()).map_err(|_| Error::Gone)?;
            }
            Ok(())
        };
        let receive = |answer: &mut dyn BufRead| {
            for ((number, input), state) in inputs.iter().zip(&hashed) {
                let signature = response(host, answer)?;
                take(*number, Signed::check(host, signature.as_bytes(), key, input, Form::Binary, [state.clone()])?)?;
                done += 1;
            }
            match answer.fill_buf() {
                Ok([]) => Ok(()),
                _ => Err(Error::Answer(host.to_owned(), "more signatures than files".to_owned())),
            }
        };
        session(settings, host, &request, send, receive).map_err(|attempt| once_begun(attempt, done))
    })
}

/// Signstar's request, version 1 (<https://signstar.archlinux.page/signing-api/request.html>).
fn document(key: &Key, input: &Input, state: &HashState) -> String {
    let kind = format!("sha2-0.11-{}-state", key.hash.name().to_uppercase());
    let optional = match input.name().and_then(|name| name.to_str()) {
        Some(name) => serde_json::json!({ "file-name": name }),
        None => serde_json::json!({}),
    };
    let content = state.export(<[u8]>::to_vec);
    let required = serde_json::json!({ "input": { "type": kind, "content": content }, "output": { "type": "OpenPGPv4" } });
    format!("{}\n", serde_json::json!({ "version": "1.0.0", "required": required, "optional": optional }))
}

/// The armored signature of one line of the answer.
fn response(host: &str, answer: &mut dyn BufRead) -> Result<String, Error> {
    let mut line = Vec::new();
    answer.take(MAX_ANSWER).read_until(b'\n', &mut line).map_err(|error| Error::unread(host, &error))?;
    if !line.ends_with(b"\n") {
        return Err(Error::Short(host.to_owned()));
    }
    let value: serde_json::Value =
        serde_json::from_slice(&line).map_err(|_| Error::Answer(host.to_owned(), "it is no JSON".to_owned()))?;
    let signature = value.get("signature").and_then(serde_json::Value::as_str);
    signature.map(str::to_owned).ok_or_else(|| Error::Answer(host.to_owned(), "it has no signature".to_owned()))
}
