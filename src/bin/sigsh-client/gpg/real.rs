//! The real gpg, which does whatever is not ours.

use crate::settings::{self, Options};
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The gpg of the configuration, or the first in PATH that is not this program: under the name that we were called by, or `gpg`.
pub(crate) fn find(name: &OsStr, options: &Options) -> Option<PathBuf> {
    if let Some(gpg) = settings::gpg(options) {
        return Some(gpg);
    }
    let name = if name == "sigsh-gpg" { OsStr::new("gpg") } else { name };
    in_path(name).or_else(|| in_path(OsStr::new("gpg")))
}

/// The first program of this name in PATH that is not this one.
pub(crate) fn in_path(name: &OsStr) -> Option<PathBuf> {
    let found = env::split_paths(&env::var_os("PATH")?).collect::<Vec<_>>();
    let mut found = found.iter().filter(|directory| directory.is_absolute()).map(|directory| directory.join(name));
    found.find(|program| program.is_file() && !is_this(program))
}

/// Whether this is our own program, by whatever name.
pub(crate) fn is_this(program: &Path) -> bool {
    let ours = env::current_exe().and_then(|path| path.canonicalize());
    program.canonicalize().is_ok_and(|program| ours.is_ok_and(|ours| ours == program))
}

/// Whether it has been used here: it keeps its keys in `$GNUPGHOME`, or else in `~/.gnupg`.
pub(super) fn has_keyring() -> bool {
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".gnupg"));
    let home = env::var_os("GNUPGHOME").filter(|home| !home.is_empty()).map(PathBuf::from).or_else(home);
    home.is_some_and(|home| home.exists())
}

/// Becomes it; comes back with the reason when that cannot be.
pub(super) fn become_it(gpg: &PathBuf, arguments: &[OsString]) -> io::Error {
    Command::new(gpg).args(arguments).exec()
}
