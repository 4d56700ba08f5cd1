//! Programs that sign beside us, ssh-keygen and gpg: what they read comes from here, and what they write is looked at.

use crate::error::{Error, lower};
use crate::input::read_at_most;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The longest answer in bytes: what is longer is for no host.
const MAX_ANSWER: u64 = 64 * 1024;

/// Runs a program on what `write` gives it, and returns what it has written. What it says or asks is for the person at the terminal.
///
/// # Errors
/// [`Error::Program`], and those of `write`.
pub(crate) fn run(
    command: &mut Command,
    write: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |what: String| Error::Program(name.clone(), what);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot start: {}", lower(&error))))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(mut stdin), Some(mut stdout)) = (stdin, stdout) else {
        return Err(gone(&mut child, failed("it has no pipes".to_owned())));
    };
    let (wrote, answer) = std::thread::scope(|scope| {
        // Who writes before it has read everything is read meanwhile.
        let answer = std::thread::Builder::new().spawn_scoped(scope, move || read_at_most(&mut stdout, MAX_ANSWER));
        let mut give = |bytes: &[u8]| match stdin.write_all(bytes) {
            // It reads no more, and has its reason.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            wrote => wrote.map_err(|error| failed(lower(&error))),
        };
        let wrote = write(&mut give);
        if wrote.is_err() {
            let _ = child.kill();
        }
        drop(stdin);
        let joined = answer.map(|thread| thread.join().unwrap_or_else(|_| Err(ErrorKind::Other.into())));
        (wrote, joined.and_then(|answer| answer))
    });
    if let Err(error) = wrote {
        return Err(gone(&mut child, error));
    }
    let status = child.wait().map_err(|error| failed(lower(&error)))?;
    match answer {
        Err(error) => Err(failed(lower(&error))),
        Ok(_) if !status.success() => Err(failed("it has failed".to_owned())),
        Ok(answer) if answer.is_empty() => Err(failed("it has written nothing".to_owned())),
        Ok(answer) => Ok(answer),
    }
}

/// Ends a program that is of no use any more.
fn gone(child: &mut Child, error: Error) -> Error {
    let _: io::Result<()> = child.kill();
    let _ = child.wait();
    error
}
