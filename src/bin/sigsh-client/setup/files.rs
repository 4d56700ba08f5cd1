//! Files and links that are ours: made, or made anew, and no others touched.

use crate::error::Error;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What a file that we may write anew has in its first lines.
const MARK: &str = "# Written by 'sigsh-client setup";

/// Writes a text that bears the mark, with this mode less the umask.
///
/// # Errors
/// [`Error::Exists`] for a file of somebody else's, unless `force`; [`Error::File`].
pub(super) fn write(path: &Path, text: &str, mode: u32, force: bool) -> Result<(), Error> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists(path.to_owned()),
        _ => Error::File(path.to_owned(), error),
    };
    let old = match fs::read(path) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let ours = |old: &[u8]| String::from_utf8_lossy(old).lines().take(2).any(|line| line.starts_with(MARK));
    if old.as_deref().is_some_and(|old| !force && !ours(old)) {
        return Err(Error::Exists(path.to_owned()));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(directory).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    let placed = if old.is_some() || force { file.persist(path) } else { file.persist_noclobber(path) };
    placed.map(drop).map_err(|error| failed(error.error))
}

/// Whether a link can be made here: over one of ours, or any with `force`; never over a file, which may be the real gpg.
///
/// # Errors
/// [`Error::Exists`], [`Error::Usage`], [`Error::File`].
pub(super) fn may_link(path: &Path, force: bool) -> Result<(), Error> {
    match fs::read_link(path) {
        Ok(old) if force || old.file_name().is_some_and(|name| name == "sigsh-client") => Ok(()),
        Ok(_) => Err(Error::Exists(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Err(Error::Usage(format!("{} is a file, and no link: take another directory", path.display())))
        }
        Err(error) => Err(Error::File(path.to_owned(), error)),
    }
}

/// Makes a link, in place of one that is there.
///
/// # Errors
/// [`Error::File`].
pub(super) fn link(path: &Path, to: &Path) -> Result<(), Error> {
    let failed = |error| Error::File(path.to_owned(), error);
    let directory = path.parent().unwrap_or(Path::new("/"));
    let other = tempfile::Builder::new().make_in(directory, |path| symlink(to, path)).map_err(failed)?;
    other.into_temp_path().persist(path).map_err(|error| failed(error.error))
}

/// A path as text for a script or a file of settings: one line.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn text(path: &Path) -> Result<String, Error> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or_else(|| Error::Usage(format!("the name {} cannot be written into a script", path.display())))
}

/// An absolute path, its directory without links.
///
/// # Errors
/// [`Error::File`].
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|error| Error::File(path.to_owned(), error))
}
