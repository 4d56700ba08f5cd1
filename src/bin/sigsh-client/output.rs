//! Files that are there whole or not at all.

use crate::error::Error;
use crate::runtime::tag;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How often a file that another process puts in place at the same time is tried again.
const TRIES: usize = 100;

/// Where a signature goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard output.
    Stdout,
    /// A file, over whatever is there or not.
    File { path: PathBuf, force: bool },
}

/// What a path leads to.
enum Kind {
    /// A file, or nothing yet.
    File,
    /// A descriptor that we have inherited, by its name in /dev or /proc.
    Descriptor(RawFd),
    /// A pipe, a device: it is written to, and not replaced.
    Special,
}

impl Target {
    /// Says at once what would be said at the end.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::File`], [`Error::Io`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Target::File { path, force } = self else { return stdout_is_open() };
        let failed = |error| Error::File(path.clone(), error);
        match kind(path) {
            _ if path.is_dir() => Err(failed(io::ErrorKind::IsADirectory.into())),
            Kind::File if !force && path.symlink_metadata().is_ok() => Err(Error::Exists(path.clone())),
            Kind::File if parent(path).is_file() => Err(failed(io::ErrorKind::NotADirectory.into())),
            Kind::File => {
                rustix::fs::access(parent(path), Access::WRITE_OK | Access::EXEC_OK).map_err(|error| failed(error.into()))
            }
            // What is not open now may be a file of our own later.
            Kind::Descriptor(fd) => sigsh::sys::inherited(fd).map(drop).map_err(failed),
            Kind::Special => Ok(()),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Exists`], [`Error::Io`].
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let Target::File { path, force } = self else {
            let mut stdout = io::stdout().lock();
            return stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Error::Io("standard output", error));
        };
        let written = match kind(path) {
            Kind::File => file(path, *force, bytes),
            Kind::Special => special(path).and_then(|mut file| file.write_all(bytes)),
            Kind::Descriptor(fd) => sigsh::sys::inherited(fd).and_then(|fd| File::from(fd).write_all(bytes)),
        };
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists if !force => Error::Exists(path.clone()),
            _ => Error::File(path.clone(), error),
        })
    }
}

fn kind(path: &Path) -> Kind {
    // These lead to files, too, and in a way that only a descriptor does.
    let number = match path.to_str() {
        Some("/dev/stdout") => Some(1),
        Some("/dev/stderr") => Some(2),
        Some(path) => ["/dev/fd/", "/proc/self/fd/"].iter().find_map(|place| path.strip_prefix(place)?.parse().ok()),
        None => None,
    };
    match path.metadata().map(|it| it.file_type()) {
        _ if number.is_some() => number.map_or(Kind::File, Kind::Descriptor),
        Ok(it) if it.is_fifo() || it.is_char_device() || it.is_block_device() || it.is_socket() => Kind::Special,
        _ => Kind::File,
    }
}

/// Opens what is not replaced, if it is still that.
fn special(path: &Path) -> io::Result<File> {
    let file = File::options().write(true).open(path)?;
    if file.metadata()?.is_file() { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(file) }
}

/// The directory that it is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where standard output is closed, the library has opened /dev/null in its place, for reading and writing: nobody else does so.
fn stdout_is_open() -> Result<(), Error> {
    let closed = || -> io::Result<bool> {
        let stdout = io::stdout();
        let both = rustix::fs::fcntl_getfl(&stdout)? & OFlags::RWMODE == OFlags::RDWR;
        Ok(both && rustix::fs::fstat(&stdout)?.st_rdev == fs::metadata("/dev/null")?.rdev())
    };
    if closed().unwrap_or(false) { Err(Error::Io("standard output", io::Error::other("it is closed"))) } else { Ok(()) }
}

/// The file has no name until it is whole and on the disk, so whatever stops us leaves nothing.
fn file(path: &Path, force: bool, bytes: &[u8]) -> io::Result<()> {
    let directory = parent(path);
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
    let link = |path: &Path| rustix::fs::linkat(CWD, itself.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from);
    match if force { replace(path, link) } else { link(path) } {
        // Without /proc, or where the file system has no links, there is no other way to the file.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EPERM | libc::EXDEV | libc::EMLINK)) => {
            return named(directory, path, force, bytes);
        }
        linked => linked?,
    }
    sync(directory);
    Ok(())
}

/// A link does not replace; a rename does, of another name. Always of the same: who was killed right between the two has left it, and
/// the next one takes it away.
fn replace(path: &Path, link: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let new = path.with_file_name(format!(".sigsh-{}", tag([name.as_bytes()], 32)));
    match link(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        done => return done,
    }
    for _ in 0..TRIES {
        match link(&new) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&new).or_else(gone)?,
            Err(error) => return Err(error),
            Ok(()) => match fs::rename(&new, path) {
                // Another process did as we did, and has taken it away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return fs::remove_file(&new).or_else(gone).and(Err(error)),
                // Where both are names of one file, nothing was moved.
                Ok(()) => return fs::remove_file(&new).or_else(gone),
            },
        }
    }
    Err(io::Error::other("others write it at the same time"))
}

fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The signature is in place already, so this is no error any more: a directory may be writable and not readable.
fn sync(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

/// The same by a file with a name that is unlikely.
fn named(directory: &Path, path: &Path, force: bool, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let done = if force { file.persist(path) } else { file.persist_noclobber(path) };
    done.map_err(|error| error.error)?;
    sync(directory);
    Ok(())
}
