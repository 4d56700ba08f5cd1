//! `verify`: what is about to be released was signed by a pinned key, all of it.

mod message;

use crate::beside;
use crate::error::{Error, clean, say};
use crate::input::{Input, read_at_most};
use crate::output::Target;
use crate::settings::{Key, Options, Settings};
use message::{Message, is_message};
use sigsh::hash_state::{Form, HashState};
use sigsh::openpgp::verify::MAX_SIGNATURE;
use sigsh::openpgp::{BadSignature, Detached, Good, Pinned};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The signature, when it is not FILE.sig or FILE.asc
    #[arg(long, value_name = "SIG")]
    signature: Option<PathBuf>,
    /// What was signed; a cleartext-signed message bears its signature itself
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// A signature to verify: where it is, and by what.
struct Case {
    signature: PathBuf,
    pinned: Pinned,
}

/// Verifies each file, and prints a line for each signature: those that are bad on standard error. `false` when there is one of those, or
/// a file has none.
///
/// # Errors
/// Those of settings, [`Error::Usage`], and when nothing can be printed.
pub(crate) fn run(command: &Verify, options: &Options) -> Result<bool, Error> {
    let settings = Settings::put_together(options)?;
    if command.signature.is_some() && command.files.len() > 1 {
        return Err(Error::Usage("--signature is of one file, and there are several".to_owned()));
    }
    let mut good = true;
    for file in &command.files {
        let cases = cases(file, command.signature.as_deref(), &settings.keys, options.keys.len() > 1);
        let outcomes = match cases {
            Ok(cases) => cases.into_iter().map(|case| verify(file, &case).map(|good| line(file, &case, &good))).collect(),
            Err(error) => vec![Err(error)],
        };
        for outcome in outcomes {
            match outcome {
                Ok(line) => Target::Stdout.write(format!("{}\n", clean(&line)).as_bytes())?,
                Err(error) => {
                    good = false;
                    say(&format!("sigsh-client: error: {error}"));
                }
            }
        }
    }
    Ok(good)
}

/// All signatures of a file that are there. `each` key must have one when several were named.
fn cases(file: &Path, named: Option<&Path>, keys: &[Key], each: bool) -> Result<Vec<Case>, Error> {
    let any = Pinned::all(keys.iter().map(|key| &key.pinned));
    let case = |signature: &Path, pinned: &Pinned| Case { signature: signature.to_owned(), pinned: pinned.clone() };
    if let Some(signature) = named {
        return Ok(vec![case(signature, &any)]);
    }
    let exist = |key: Option<&Key>| [false, true].map(|armor| beside(file, key, armor)).into_iter().filter(|path| there(path));
    let mut cases = exist(None).map(|path| case(&path, &any)).collect::<Vec<_>>();
    if is_message(file).map_err(|error| Error::Input(file.to_owned(), error))? {
        cases.push(case(file, &any));
    }
    for key in keys.iter().filter(|key| key.name.is_some()) {
        let of_key = exist(Some(key)).map(|path| case(&path, &key.pinned)).collect::<Vec<_>>();
        if each && of_key.is_empty() {
            return Err(none(file, Some(key)));
        }
        cases.extend(of_key);
    }
    if cases.is_empty() { Err(none(file, None)) } else { Ok(cases) }
}

fn there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn none(file: &Path, key: Option<&Key>) -> Error {
    let [binary, armored] = [false, true].map(|armor| beside(file, key, armor).display().to_string());
    Error::Bad(file.display().to_string(), BadSignature(format!("there is none: neither {binary} nor {armored}")))
}

/// One signature of one file.
fn verify(file: &Path, case: &Case) -> Result<Good, Error> {
    let bad = |error| Error::Bad(case.signature.display().to_string(), error);
    let failed = |error| Error::Input(case.signature.clone(), error);
    let mut opened = File::open(&case.signature).map_err(failed)?;
    let bytes = read_at_most(&mut opened, message::LIMIT).map_err(failed)?;
    if !bytes.starts_with(message::BEGIN) {
        if bytes.len() as u64 > MAX_SIGNATURE {
            return Err(bad(BadSignature("it is too long for one".to_owned())));
        }
        let detached = Detached::read(&bytes).map_err(bad)?;
        let form = if detached.is_binary() { Form::Binary } else { Form::Text };
        return over(file, &detached, form, &case.pinned, bad);
    }
    let message = Message::read(&bytes).map_err(bad)?;
    let detached = Detached::read(&message.signature).map_err(bad)?;
    if !detached.is_announced(&message.hashes) {
        return Err(bad(BadSignature("its hash is not the one that stands before the text".to_owned())));
    }
    let state = message.hash(&detached.wanted(Form::Cleartext).map_err(bad)?).map_err(bad)?;
    let good = still_good(&detached, &case.pinned, state).map_err(bad)?;
    // A message beside the file has a text of its own, and it must be this one.
    if file == case.signature { Ok(good) } else { over(file, &detached, Form::Cleartext, &case.pinned, bad) }
}

fn over(file: &Path, detached: &Detached, form: Form, pinned: &Pinned, bad: impl Fn(BadSignature) -> Error) -> Result<Good, Error> {
    let input = Input::open(file)?;
    let (state, _) = input.hash(&detached.wanted(form).map_err(&bad)?)?;
    let good = still_good(detached, pinned, state).map_err(&bad)?;
    input.is_unchanged()?;
    Ok(good)
}

/// Whoever installs it looks at the key as it is then, and not as it was when it signed.
fn still_good(detached: &Detached, pinned: &Pinned, state: HashState) -> Result<Good, BadSignature> {
    let now = SystemTime::now();
    let good = detached.verify(pinned, state, now)?;
    if !pinned.can_sign(&good.key, now) {
        return Err(BadSignature("it is by a key that has expired since, or was revoked: sign it again".to_owned()));
    }
    Ok(good)
}

/// What, by which key, whose, when.
fn line(file: &Path, case: &Case, good: &Good) -> String {
    let beside = if file == case.signature { String::new() } else { format!(" ({})", case.signature.display()) };
    let primary = if good.key == good.primary { String::new() } else { format!(" (a subkey of {})", good.primary) };
    let user_id = good.user_id.as_deref().unwrap_or("no user id");
    let date = humantime::format_rfc3339_seconds(good.created);
    format!("ok: {}{beside}: signed by {}{primary}, {user_id}, {date}", file.display(), good.key)
}
