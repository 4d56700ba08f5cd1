//! What the client's processes of one user share: sockets of connections, places on a host.

use crate::error::{BUSY, Error};
use crate::hosts::random;
use crate::settings::Settings;
use crate::ssh::Attempt;
use rustix::fs::FileType;
use sigsh::hash_state::{HashAlgorithm, HashState};
use sigsh::limits::slots::Slots;
use std::env;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// ssh appends 17 bytes and `%C` has 40; a socket's path has at most 107.
const MAX_DIRECTORY: usize = 40;

/// A directory of our own: in the user's runtime directory, where there is one. Somebody else may have made the one in /tmp.
fn directory() -> Result<PathBuf, Error> {
    let temporary = format!("/tmp/sigsh-{}", rustix::process::geteuid().as_raw()).into();
    let below = |variable, name: &str| env::var_os(variable).map(|path| PathBuf::from(path).join(name));
    let places = [below("XDG_RUNTIME_DIR", "sigsh"), Some(temporary), below("HOME", ".cache/sigsh")];
    let mut failed = None;
    for path in places.into_iter().flatten().filter(|path| fits(path)) {
        match DirBuilder::new().mode(0o700).recursive(path.ends_with(".cache/sigsh")).create(&path) {
            _ if is_ours(&path) => return Ok(path),
            made => failed = Some((path, made.err().unwrap_or_else(|| io::Error::other("it is not a directory of ours alone")))),
        }
    }
    let (path, error) = failed.unwrap_or_else(|| (PathBuf::from("/tmp"), io::ErrorKind::NotFound.into()));
    Err(Error::File(path, error))
}

/// Asked of the kernel itself: under fakeroot the C library has other answers.
fn is_ours(path: &Path) -> bool {
    let ours = |it: rustix::fs::Stat| {
        let kind = FileType::from_raw_mode(it.st_mode);
        kind == FileType::Directory && it.st_uid == rustix::process::geteuid().as_raw() && it.st_mode & 0o077 == 0
    };
    rustix::fs::lstat(path).is_ok_and(ours)
}

/// ssh takes a percent sign and a blank for its own.
fn fits(path: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let bytes = path.as_os_str().as_bytes();
    path.is_absolute() && bytes.len() <= MAX_DIRECTORY && bytes.iter().all(plain)
}

/// A name of so many hexadecimal digits: equal for equal things.
pub(crate) fn tag<'a>(parts: impl IntoIterator<Item = &'a [u8]>, digits: usize) -> String {
    let mut state = HashState::new(HashAlgorithm::Sha256);
    for part in parts {
        state.update(part);
        state.update(&[0]);
    }
    hex::encode(state.finish()).chars().take(digits).collect()
}

/// ssh's ControlPath: who connects with other options, with another key or another agent perhaps, shares nothing.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn control_path(ssh_options: &[String]) -> Result<PathBuf, Error> {
    let agent = env::var_os("SSH_AUTH_SOCK").unwrap_or_default();
    let tag = tag(ssh_options.iter().map(String::as_bytes).chain([agent.as_bytes()]), 8);
    Ok(directory()?.join(format!("{tag}-%C")))
}

/// A place among the connections to a host, until it is dropped: of all processes of this user together there are so many.
///
/// # Errors
/// [`Error::File`]; [`Attempt::Nothing`] when there is none for as long as a host may be silent.
pub(crate) fn place(settings: &Settings, host: &str) -> Result<Slots, Attempt> {
    let path = directory()?.join(format!("{}-places", tag([host.as_bytes()], 8)));
    let failed = |error| Error::File(path.clone(), error);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    let slots = Slots::of(file, "places", settings.parallel);
    let began = Instant::now();
    while !slots.take().map_err(|error| failed(io::Error::other(error)))? {
        if began.elapsed() > settings.timeout {
            let line = format!("all {} connections at once are in use here", settings.parallel);
            let error = Error::Refused { host: host.to_owned(), code: BUSY, line, hint: None };
            return Err(Attempt::Nothing { error, lasting: false });
        }
        // Nobody hands a place on: whoever waits looks again, and at each look all of them have the same chance.
        std::thread::sleep(Duration::from_micros(10_000).mul_f64(1.0 + random()));
    }
    Ok(slots)
}
