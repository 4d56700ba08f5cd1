//! The real gpg, which does whatever is not ours.

use crate::settings::{self, Options};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set for the real gpg: who finds it set is not the real one. Another copy of this program cannot be told by its file.
const PASSED_ON: &str = "SIGSHCLIENT_PASSED_ON";

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
    let file = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino()));
    file(program).is_ok_and(|program| file(Path::new("/proc/self/exe")).is_ok_and(|ours| ours == program))
}

/// Where a variable of the environment says that its keys are.
fn named_home() -> Option<PathBuf> {
    env::var_os("GNUPGHOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// Where its keys are.
fn home() -> Option<PathBuf> {
    named_home().or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".gnupg")))
}

/// Whether it has been used here.
pub(super) fn has_keyring() -> bool {
    home().is_some_and(|home| home.exists())
}

/// Whether it has secret keys here.
pub(super) fn has_secrets() -> bool {
    home().is_some_and(holds_secrets)
}

/// Whether the caller has secret keys in a place of its own, such as those that the tests of a package make and throw away.
pub(super) fn has_own_secrets() -> bool {
    named_home().is_some_and(holds_secrets)
}

fn holds_secrets(home: PathBuf) -> bool {
    fs::read_dir(home.join("private-keys-v1.d")).is_ok_and(|mut keys| keys.next().is_some())
}

/// Whether what was passed on has come back.
pub(super) fn came_back() -> bool {
    env::var_os(PASSED_ON).is_some()
}

/// Becomes it; comes back with the reason when that cannot be.
pub(super) fn become_it(gpg: &PathBuf, arguments: &[OsString]) -> io::Error {
    Command::new(gpg).args(arguments).env(PASSED_ON, "1").exec()
}
