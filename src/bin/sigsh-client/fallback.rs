//! The old gpg, for the day when no host can be reached.

use crate::error::{Error, Reached, lower, say};
use crate::gpg::real;
use crate::input::{Input, read_at_most};
use crate::progress::Progress;
use crate::settings::{Key, Settings};
use crate::sign::{Numbered, Signed, armor_of, longest_answer};
use sigsh::hash_state::Form;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Set for the old gpg, which may be a script that comes back to us.
const WITHIN: &str = "WITHIN_SIGSH_FALLBACK";

/// Whether the old gpg is to sign in place of the hosts: none of them has a sigsh that answers, be it busy or refusing.
pub(crate) fn is_for(settings: &Settings, error: &Error) -> bool {
    !settings.local_fallback.is_empty() && matches!(error, Error::Down(_, Reached::None))
}

/// Has a command like gpg sign; its signatures must stand before the same certificates.
///
/// # Errors
/// [`Error::Fallback`], [`Error::Bad`].
pub(crate) fn sign(
    settings: &Settings,
    down: &Error,
    keys: &[(usize, &Key)],
    inputs: &[(usize, &Input)],
    form: Form,
    progress: &Progress,
) -> Result<Vec<Numbered>, Error> {
    if std::env::var_os(WITHIN).is_some() {
        return Err(Error::Fallback("it leads back to sigsh-client".to_owned()));
    }
    let (program, arguments) = settings.local_fallback.split_first().ok_or_else(|| Error::Fallback("it is empty".to_owned()))?;
    let line = format!("{down}: no host can be reached, so {program} signs on this machine");
    say(&format!("sigsh-client: warning: {line}"));
    settings.log.error(&line);
    let mut all = Vec::new();
    for (input_number, input) in inputs {
        for (key_number, key) in keys {
            let signature = run(program, arguments, input, form)?;
            all.push((*input_number, *key_number, Signed::check(program, &signature, key, input, form, None)?));
            progress.signed();
        }
    }
    Ok(all)
}

fn run(program: &str, arguments: &[String], input: &Input, form: Form) -> Result<Vec<u8>, Error> {
    let failed = |what: String| Error::Fallback(format!("{program}: {what}"));
    // The first gpg in PATH may be ourselves.
    let path = if program.contains('/') { Some(PathBuf::from(program)) } else { real::in_path(program.as_ref()) };
    let path = path.filter(|path| !real::is_this(path)).ok_or_else(|| failed("there is no such program".to_owned()))?;
    let how: &[&str] = match form {
        Form::Binary => &["--no-armor", "--detach-sign"],
        Form::Text => &["--no-armor", "--textmode", "--detach-sign"],
        Form::Cleartext => &["--clearsign"],
    };
    let mut child = Command::new(path)
        .args(arguments)
        .args(how)
        .args(["--output", "-"])
        .env(WITHIN, "1")
        .stdin(input.again()?)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(lower(&error)))?;
    let limit = longest_answer(input, form);
    let bytes = child.stdout.take().map(|mut stdout| read_at_most(&mut stdout, limit));
    let status = child.wait().map_err(|error| failed(lower(&error)))?;
    match bytes {
        Some(Ok(bytes)) if !status.success() || bytes.is_empty() => Err(failed("it has failed".to_owned())),
        Some(Ok(bytes)) if form == Form::Cleartext => Ok(armor_of(&bytes).to_vec()),
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(error)) => Err(failed(lower(&error))),
        None => Err(failed("it has no output".to_owned())),
    }
}
