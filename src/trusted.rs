//! Opening the files that configuration rests on: nobody but root, or the account itself, can have written them.
//!
//! Every directory on the way, those behind symbolic links included, is opened and looked at by descriptor, so that nobody can swap
//! one between the look and the use.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::geteuid;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Links on the way to one file. The kernel's own limit is 40, too.
const MAX_LINKS: usize = 40;

/// Why a file is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It cannot be opened.
    #[error("cannot open {path}: {why}", path = .0.display(), why = .1.desc().to_lowercase())]
    Open(PathBuf, Errno),
    /// The path is not absolute.
    #[error("{0} is not an absolute path")]
    NotAbsolute(PathBuf),
    /// It belongs to somebody who could change it under us.
    #[error("{0} belongs to user {1}; it must belong to root, or to the user that sigsh runs as")]
    Owner(PathBuf, u32),
    /// The state directory, or the ledger, belongs to somebody else, be it root.
    #[error("{0} belongs to user {1}; it must belong to the user that sigsh runs as")]
    NotOurs(PathBuf, u32),
    /// Others may write it.
    #[error("{0} is writable by group or others (mode {1:03o})")]
    Writable(PathBuf, u32),
    /// It holds a secret that others may read.
    #[error("{0} is readable by others (mode {1:03o})")]
    Readable(PathBuf, u32),
    /// It is not that name alone that leads to it.
    #[error("{0} has another name, too (a hard link)")]
    Links(PathBuf),
    /// The last component is a symbolic link.
    #[error("{0} is a symbolic link")]
    Link(PathBuf),
    /// It is a directory, device, pipe or socket.
    #[error("{0} is not a regular file")]
    NotRegular(PathBuf),
    /// It is not a directory.
    #[error("{0} is not a directory")]
    NotDirectory(PathBuf),
    /// It cannot be read, or is larger than any such file.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
}

/// A file that only root or the account can have written.
#[derive(Debug)]
pub struct Trusted {
    /// It, open for reading, or by `O_PATH`.
    pub file: File,
    /// Its attributes when it was opened.
    pub stat: FileStat,
}

impl Trusted {
    /// Whether it is still the file that was opened, and as it was then: nobody has written to it, nor put another one in its place.
    pub fn is_unchanged(&self) -> bool {
        let what = |stat: &FileStat| {
            let times = (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
            (stat.st_dev, stat.st_ino, stat.st_size, stat.st_nlink, times)
        };
        fstat(&self.file).is_ok_and(|now| what(&now) == what(&self.stat))
    }

    /// Reads it, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// [`TrustError::Read`], with this path.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, TrustError> {
        use std::io::Read;
        let failed = |error| TrustError::Read(path.to_owned(), error);
        let mut bytes = Vec::new();
        (&self.file).take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
            Ok(bytes)
        } else {
            Err(failed(std::io::Error::other(format!("it is larger than {limit} bytes"))))
        }
    }
}

/// Opens a trusted regular file; the last component must not be a link.
///
/// # Errors
/// Any [`TrustError`].
pub fn open(path: &Path) -> Result<Trusted, TrustError> {
    open_by(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, path)
}

/// The same, to see whether it stays as it is: by this descriptor nobody can read it. It need not be readable for us.
///
/// # Errors
/// Any [`TrustError`].
pub fn watch(path: &Path) -> Result<Trusted, TrustError> {
    open_by(OFlag::O_PATH, path)
}

fn open_by(flags: OFlag, path: &Path) -> Result<Trusted, TrustError> {
    let (parent, _, name) = walk(path, false)?;
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(&parent, name.as_os_str(), flags, Mode::empty()).map_err(|error| match error {
        Errno::ELOOP => TrustError::Link(path.to_owned()),
        error => TrustError::Open(path.to_owned(), error),
    })?;
    let stat = fstat(&file).map_err(|error| TrustError::Open(path.to_owned(), error))?;
    if kind(&stat) != SFlag::S_IFREG {
        return Err(TrustError::NotRegular(path.to_owned()));
    }
    belongs_to_us(path, &stat)?;
    Ok(Trusted { file: file.into(), stat })
}

/// Reads a trusted file of at most `limit` bytes.
///
/// # Errors
/// Any [`TrustError`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, TrustError> {
    open(path)?.read(path, limit)
}

/// Follows links to a file that somebody else, the dynamic loader, will open by name; returns its name without links.
///
/// # Errors
/// Any [`TrustError`].
pub fn resolve(path: &Path) -> Result<PathBuf, TrustError> {
    let (parent, directory, name) = walk(path, true)?;
    let failed = |error| TrustError::Open(path.to_owned(), error);
    let stat = fstatat(&parent, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
    if kind(&stat) != SFlag::S_IFREG {
        return Err(TrustError::NotRegular(path.to_owned()));
    }
    belongs_to_us(path, &stat)?;
    Ok(directory.join(name))
}

/// Follows links to whatever somebody else will open by name, a socket; returns its name without links. What is there may belong to
/// anybody, but only root and we, or the user `also`, can have put it there.
///
/// # Errors
/// Any [`TrustError`].
pub fn reach(path: &Path, also: Option<u32>) -> Result<PathBuf, TrustError> {
    let (_, directory, name) = walk_of(path, true, also)?;
    Ok(directory.join(name))
}

/// Opens the state directory: ours alone.
///
/// # Errors
/// Any [`TrustError`].
pub fn private_directory(path: &Path) -> Result<OwnedFd, TrustError> {
    let (parent, _, name) = walk(path, false)?;
    let directory = open_directory(&parent, &name, path)?;
    let stat = fstat(&directory).map_err(|error| TrustError::Open(path.to_owned(), error))?;
    if stat.st_uid != geteuid().as_raw() {
        return Err(TrustError::NotOurs(path.to_owned(), stat.st_uid));
    }
    if stat.st_mode & 0o077 != 0 {
        return Err(TrustError::Readable(path.to_owned(), stat.st_mode & 0o777));
    }
    Ok(directory)
}

/// Opens the ledger to append to it, and to read it: a regular file that is ours alone to write, and has no other name.
///
/// # Errors
/// Any [`TrustError`].
pub fn open_to_append(path: &Path) -> Result<(File, File), TrustError> {
    let (parent, name) = directory_of(path)?;
    let open = |mode| {
        let flags = mode | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        openat(&parent, name.as_os_str(), flags, Mode::empty()).map_err(|error| match error {
            Errno::ELOOP => TrustError::Link(path.to_owned()),
            error => TrustError::Open(path.to_owned(), error),
        })
    };
    let (append, read) = (open(OFlag::O_WRONLY | OFlag::O_APPEND)?, open(OFlag::O_RDONLY)?);
    let status = |file: &OwnedFd| fstat(file).map_err(|error| TrustError::Open(path.to_owned(), error));
    let (stat, other) = (status(&append)?, status(&read)?);
    if kind(&stat) != SFlag::S_IFREG || (stat.st_dev, stat.st_ino) != (other.st_dev, other.st_ino) {
        return Err(TrustError::NotRegular(path.to_owned()));
    }
    if stat.st_uid != geteuid().as_raw() {
        return Err(TrustError::NotOurs(path.to_owned(), stat.st_uid));
    }
    belongs_to_us(path, &stat)?;
    if stat.st_nlink != 1 {
        return Err(TrustError::Links(path.to_owned()));
    }
    Ok((append.into(), read.into()))
}

/// The directory that holds a file, and the file's name in it; it need not exist.
///
/// # Errors
/// Any [`TrustError`].
pub fn directory_of(path: &Path) -> Result<(OwnedFd, OsString), TrustError> {
    walk(path, false).map(|(directory, _, name)| (directory, name))
}

/// Demands that others, beyond owner and group, cannot read the file: it holds a secret.
///
/// # Errors
/// [`TrustError::Readable`].
pub fn is_secret(path: &Path, stat: &FileStat) -> Result<(), TrustError> {
    if stat.st_mode & 0o007 != 0 { Err(TrustError::Readable(path.to_owned(), stat.st_mode & 0o777)) } else { Ok(()) }
}

/// Walks to the directory of the last component; returns it, its name without links, and the component. With `follow`, the last
/// component is followed as well.
fn walk(path: &Path, follow: bool) -> Result<(OwnedFd, PathBuf, OsString), TrustError> {
    walk_of(path, follow, None)
}

/// The same, where directories may belong to one more user.
fn walk_of(path: &Path, follow: bool, also: Option<u32>) -> Result<(OwnedFd, PathBuf, OsString), TrustError> {
    let failed = |error| TrustError::Open(path.to_owned(), error);
    let mut todo = components(path).ok_or_else(|| TrustError::NotAbsolute(path.to_owned()))?;
    let root = || openat(AT_FDCWD, "/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let mut directory = root().map_err(failed)?;
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if todo.is_empty() && !follow {
            return Ok((directory, here, name));
        }
        let stat = fstatat(&directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
        if kind(&stat) == SFlag::S_IFLNK {
            links += 1;
            let target = PathBuf::from(readlinkat(&directory, name.as_os_str()).map_err(failed)?);
            if links > MAX_LINKS {
                return Err(failed(Errno::ELOOP));
            }
            // A relative target starts at the directory that holds the link, as walked so far.
            let mut target = components(&here.join(&target)).ok_or(TrustError::NotAbsolute(target))?;
            target.append(&mut todo);
            todo = target;
            directory = root().map_err(failed)?;
            here = PathBuf::from("/");
        } else if todo.is_empty() {
            return Ok((directory, here, name));
        } else {
            here.push(&name);
            directory = open_directory(&directory, &name, &here)?;
            let stat = fstat(&directory).map_err(failed)?;
            belongs_to_us_or(also, &here, &stat)?;
        }
    }
    Err(TrustError::NotRegular(path.to_owned()))
}

/// The names in an absolute path, `..` resolved by name.
fn components(path: &Path) -> Option<VecDeque<OsString>> {
    let mut names = VecDeque::new();
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) {
        return None;
    }
    for part in parts {
        match part {
            Component::Normal(name) => names.push_back(name.to_owned()),
            Component::ParentDir => drop(names.pop_back()?),
            _ => return None,
        }
    }
    Some(names)
}

fn open_directory(parent: &impl AsFd, name: &OsString, path: &Path) -> Result<OwnedFd, TrustError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name.as_os_str(), flags, Mode::empty()).map_err(|error| match error {
        Errno::ENOTDIR => TrustError::NotDirectory(path.to_owned()),
        error => TrustError::Open(path.to_owned(), error),
    })
}

fn belongs_to_us(path: &Path, stat: &FileStat) -> Result<(), TrustError> {
    belongs_to_us_or(None, path, stat)
}

fn belongs_to_us_or(also: Option<u32>, path: &Path, stat: &FileStat) -> Result<(), TrustError> {
    if stat.st_uid != 0 && stat.st_uid != geteuid().as_raw() && Some(stat.st_uid) != also {
        return Err(TrustError::Owner(path.to_owned(), stat.st_uid));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(TrustError::Writable(path.to_owned(), stat.st_mode & 0o777));
    }
    Ok(())
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}
