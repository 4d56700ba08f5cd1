//! What the client's processes of one user share: sockets of connections, places on a host.

use crate::error::Error;
use crate::settings::Settings;
use sigsh::hash_state::{HashAlgorithm, HashState};
use sigsh::limits::slots::Slots;
use std::env;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// ssh appends 17 bytes and `%C` has 40; a socket's path has at most 107.
const MAX_DIRECTORY: usize = 40;

/// A directory of our own: in the user's runtime directory, where there is one.
fn directory() -> Result<PathBuf, Error> {
    let uid = rustix::process::geteuid().as_raw();
    let ours = |path: &Path| path.symlink_metadata().is_ok_and(|it| it.is_dir() && it.uid() == uid && it.mode() & 0o077 == 0);
    let fits = |path: &Path| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
        path.as_os_str().len() <= MAX_DIRECTORY && path.as_os_str().as_encoded_bytes().iter().all(plain)
    };
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| ours(path)).map(|path| path.join("sigsh"));
    let path = runtime.filter(|path| fits(path)).unwrap_or_else(|| format!("/tmp/sigsh-{uid}").into());
    let made = DirBuilder::new().mode(0o700).create(&path);
    match made {
        _ if ours(&path) => Ok(path),
        Ok(()) => Err(Error::File(path, io::Error::other("it is not a directory of ours alone"))),
        Err(error) => Err(Error::File(path, error)),
    }
}

/// A short name for something: equal for equal things.
fn tag<'a>(parts: impl IntoIterator<Item = &'a String>) -> String {
    let mut state = HashState::new(HashAlgorithm::Sha256);
    for part in parts {
        state.update(part.as_bytes());
        state.update(&[0]);
    }
    hex::encode(state.finish()).chars().take(8).collect()
}

/// ssh's ControlPath: who connects with other options, with another key perhaps, shares nothing.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn control_path(ssh_options: &[String]) -> Result<PathBuf, Error> {
    Ok(directory()?.join(format!("{}-%C", tag(ssh_options))))
}

/// A place among the connections to a host, until it is dropped: of all processes of this user together there are so many.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn place(settings: &Settings, host: &str) -> Result<Slots, Error> {
    let path = directory()?.join(format!("{}-places", tag([&host.to_owned()])));
    let failed = |error| Error::File(path.clone(), error);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    let slots = Slots::of(file, "places", settings.parallel);
    // Nobody hands a place on, so whoever waits looks again: soon, and not all at the same moment.
    let pause = Duration::from_millis(10 + u64::from(std::process::id() % 10));
    while !slots.take().map_err(|error| failed(io::Error::other(error)))? {
        std::thread::sleep(pause);
    }
    Ok(slots)
}
