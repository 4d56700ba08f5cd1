//! The old gpg, for the day when no host can be reached.

use crate::error::{Error, Reached, clean};
use crate::input::{Input, read_at_most};
use crate::settings::{Key, Settings};
use crate::sign::{Signed, armor_of};
use sigsh::hash_state::Form;
use sigsh::openpgp::verify::MAX_SIGNATURE;
use std::process::{Command, Stdio};

/// Whether the old gpg is to sign in place of the hosts: none was reached, which is neither busy nor a refusal.
pub(crate) fn is_for(settings: &Settings, error: &Error) -> bool {
    !settings.local_fallback.is_empty() && matches!(error, Error::Down(_, Reached::None))
}

/// Has a command like gpg sign; its signature must stand before the same certificate.
///
/// # Errors
/// [`Error::Fallback`], [`Error::Bad`].
pub(crate) fn sign(settings: &Settings, down: &Error, key: &Key, input: &Input, form: Form) -> Result<Signed, Error> {
    let failed = |what: String| Error::Fallback(what);
    let (program, arguments) = settings.local_fallback.split_first().ok_or_else(|| failed("it is empty".to_owned()))?;
    eprintln!("sigsh-client: warning: {}", clean(&down.to_string()));
    eprintln!("sigsh-client: warning: no host can be reached: signing with {program} on this machine");
    let how: &[&str] = match form {
        Form::Binary => &["--no-armor", "--detach-sign"],
        Form::Text => &["--no-armor", "--textmode", "--detach-sign"],
        Form::Cleartext => &["--clearsign"],
    };
    let mut child = Command::new(program)
        .args(arguments)
        .args(how)
        .args(["--output", "-"])
        .stdin(input.again()?)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("{program}: {error}")))?;
    let limit = MAX_SIGNATURE + if form == Form::Cleartext { input.length.saturating_mul(3) } else { 0 };
    let bytes = child.stdout.take().map(|mut stdout| read_at_most(&mut stdout, limit));
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    match bytes {
        Some(Ok(bytes)) if status.success() => {
            let signature = if form == Form::Cleartext { armor_of(&bytes) } else { &bytes };
            Signed::check(program, signature, key, input, form, None)
        }
        _ => Err(failed(format!("{program} has failed"))),
    }
}
