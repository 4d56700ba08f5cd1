//! Files that are there whole or not at all.

use crate::error::Error;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Where a signature goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard output.
    Stdout,
    /// A file, over whatever is there or not.
    File { path: PathBuf, force: bool },
}

impl Target {
    /// Says at once what would be said at the end.
    ///
    /// # Errors
    /// [`Error::Exists`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self {
            Target::File { path, force: false } if path.symlink_metadata().is_ok() => Err(Error::Exists(path.clone())),
            _ => Ok(()),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Exists`], [`Error::Io`].
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Target::Stdout => {
                let mut stdout = io::stdout().lock();
                let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
                written.map_err(|error| Error::Io("standard output", error))
            }
            Target::File { path, force } => file(path, *force, bytes).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists if !force => Error::Exists(path.clone()),
                _ => Error::File(path.clone(), error),
            }),
        }
    }
}

/// The file has no name until it is whole and on the disk, so whatever stops us leaves nothing.
fn file(path: &Path, force: bool, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = Mode::from_raw_mode(0o666);
    let mut file = match rustix::fs::open(directory, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode) {
        Ok(file) => File::from(file),
        // A file system that knows no file without a name (NFS, some FUSE).
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
            return named(directory, path, force, bytes);
        }
        Err(error) => return Err(error.into()),
    };
    file.write_all(bytes)?;
    file.sync_all()?;
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |path: &Path| rustix::fs::linkat(CWD, itself.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW);
    if force {
        // A link does not replace; a rename does, of a name that nobody has.
        let other = tempfile::Builder::new().make_in(directory, |path| Ok(link(path)?))?.into_temp_path();
        other.persist(path).map_err(|error| error.error)?;
    } else {
        link(path)?;
    }
    File::open(directory)?.sync_all()
}

/// The same by a file with a name that is unlikely.
fn named(directory: &Path, path: &Path, force: bool, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let done = if force { file.persist(path) } else { file.persist_noclobber(path) };
    done.map(drop).map_err(|error| error.error)
}
