//! Making the ledger, and rotating it. Names in root's directory are root's to change; each step leaves what the next try can finish.

use super::path;
use crate::{AdminError, account};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::poll::PollFlags;
use nix::sys::stat::{Mode, fchmod, fstatat};
use nix::unistd::{UnlinkatFlags, User, fchown, fsync, unlinkat};
use rustix::fs::{IFlags, RenameFlags, ioctl_getflags, ioctl_setflags, renameat_with};
use serde::{Deserialize, Serialize};
use sigsh::audit::ledger::LedgerError;
use sigsh::audit::ledger::chain::Place;
use sigsh::audit::ledger::file::{Book, Lock};
use sigsh::channel::{self, Channel, ChannelError, after};
use sigsh::config::Config;
use sigsh::process::Child;
use sigsh::trusted;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one step of the account's process may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why sessions count nothing by a ledger that began later than what is counted.
const AGAIN: &str = "there was another ledger here before";

/// The ledger's names in its directory.
struct Names {
    directory: OwnedFd,
    path: PathBuf,
    name: OsString,
    /// What is not, or not any more, the ledger.
    new: OsString,
    user: Option<User>,
}

impl Names {
    fn of(config: &Config) -> Result<Names, AdminError> {
        let path = path(config)?.to_owned();
        let (directory, name) = trusted::directory_of(&path)?;
        let new = suffixed(&name, ".new");
        Ok(Names { directory, path, name, new, user: account::find(config)? })
    }

    fn failed(&self, name: &OsStr, error: Errno) -> AdminError {
        AdminError::File(self.path.with_file_name(name), error.into())
    }

    /// Whether this is how a file is named that was rotated away: the account's process asks for it.
    fn is_archive(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&*self.name.to_string_lossy()).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
    }

    fn exists(&self, name: &OsStr) -> bool {
        fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Makes an empty file for the account to begin.
    fn create(&self) -> Result<(), AdminError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let make = || {
            let file = openat(&self.directory, self.new.as_os_str(), flags, Mode::from_bits_truncate(0o640))?;
            if let Some(user) = &self.user {
                fchown(&file, Some(user.uid), Some(user.gid))?;
            }
            fchmod(&file, Mode::from_bits_truncate(0o640))
        };
        make().map_err(|error| self.failed(&self.new, error))
    }

    fn remove(&self) -> Result<(), AdminError> {
        match unlinkat(&self.directory, self.new.as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(self.failed(&self.new, error)),
        }
    }

    fn rename(&self, from: &OsStr, to: &OsStr, flags: RenameFlags) -> Result<(), AdminError> {
        let renamed =
            renameat_with(&self.directory, from, &self.directory, to, flags).map_err(|error| Errno::from_raw(error.raw_os_error()));
        renamed.and_then(|()| fsync(&open(&self.directory, OsStr::new("."))?)).map_err(|error| self.failed(to, error))
    }

    /// Sets or takes away the attribute with which a file can only grow. Tells whether it is as wanted.
    fn append_only(&self, name: &OsStr, wanted: bool) -> bool {
        open(&self.directory, name).is_ok_and(|file| {
            ioctl_getflags(&file).is_ok_and(|flags| {
                let mut changed = flags;
                changed.set(IFlags::APPEND, wanted);
                changed == flags || ioctl_setflags(&file, changed).is_ok()
            })
        })
    }

    /// Runs `body` as the account, and does what it asks for.
    fn with_account<T>(
        &self,
        body: impl FnOnce(&Channel) -> Result<(), AdminError>,
        mut serve: impl FnMut(Step) -> Result<Option<T>, AdminError>,
    ) -> Result<T, AdminError> {
        let mut child = Child::fork(c"sigsh-ledger", &[0, 1, 2], |channel| {
            let entered = account::enter(self.user.as_ref()).map_err(AdminError::from);
            if let Err(error) = entered.and_then(|()| body(&channel)) {
                let text: String = error.to_string().chars().take(1000).collect();
                let _ = channel.send(&Step::Failed(text));
            }
        })?;
        let gone = |error: ChannelError| AdminError::Child(error.to_string());
        loop {
            // The account could stop it in the middle: root does not wait for ever, and its turn ends with it.
            if channel::wait([(child.channel().as_fd(), PollFlags::POLLIN)], after(PATIENCE))? == [false] {
                return Err(AdminError::Child("it does not go on".to_owned()));
            }
            if let Some(outcome) = serve(child.channel().receive().map_err(gone)?)? {
                child.channel().send(&true).map_err(gone)?;
                child.end();
                return Ok(outcome);
            }
            child.channel().send(&true).map_err(gone)?;
        }
    }
}

/// What the account's process asks of root's.
#[derive(Serialize, Deserialize)]
enum Step {
    /// To make the new file, empty; what bears its name is of no use.
    Make,
    /// To put the new file in the ledger's place, and to give the old one this name.
    Exchange(String),
    /// What bears the new file's name is the old ledger, left by a rotation that was interrupted: to give it this name.
    Left(String),
    /// To put the new file where none is.
    Place,
    /// To tell why nothing more was done.
    Failed(String),
}

fn ask(channel: &Channel, step: &Step) -> Result<(), AdminError> {
    channel.send(step).and_then(|()| channel.receive::<bool>()).map(drop).map_err(|error| AdminError::Child(error.to_string()))
}

/// Makes the ledger.
pub(super) fn init(config: &Config) -> Result<(), AdminError> {
    let names = Names::of(config)?;
    let new = names.path.with_file_name(&names.new);
    if names.exists(&names.name) {
        return Err(AdminError::LedgerExists(names.path));
    }
    let has_archives = !rotated(&names.path)?.is_empty();
    let work = |channel: &Channel| {
        let lock = Lock::open(config.audit.state())?;
        let _turn = lock.turn()?;
        // What an interrupted init has left is of no use; a ledger that was in use is.
        if let Err(LedgerError::Rotated(_)) = Book::open(&new).and_then(|book| book.tail(None)) {
            return Err(AdminError::LedgerExists(new.clone()));
        }
        ask(channel, &Step::Make)?;
        // In that one permits may have been used that this one knows nothing of.
        let reason = has_archives || lock.head().is_some();
        let reason = if reason { &[("event", "init"), ("reason", AGAIN)][..] } else { &[("event", "init")] };
        begin(&lock, &new, None, reason)?;
        ask(channel, &Step::Place)
    };
    names.with_account(work, |step| match step {
        // Somebody else may have been faster.
        Step::Make if names.exists(&names.name) => Err(AdminError::LedgerExists(names.path.clone())),
        Step::Make => names.remove().and_then(|()| names.create()).map(|()| None),
        Step::Place => names.rename(&names.new, &names.name, RenameFlags::NOREPLACE).map(Some),
        Step::Failed(why) => Err(AdminError::Ledger(why)),
        Step::Exchange(_) | Step::Left(_) => Err(AdminError::Child(ChannelError::Nonsense.to_string())),
    })?;
    println!("made {}", names.path.display());
    tell_attribute(&names, &[&names.name]);
    println!("next: keep 'sigsh-admin ledger head' on another host, daily say: see sigsh-admin(8)");
    Ok(())
}

fn begin(lock: &Lock, path: &Path, after: Option<&Place>, fields: &[(&str, &str)]) -> Result<(), AdminError> {
    let book = Book::open(path)?;
    let head = book.begin(after, fields)?;
    book.sync()?;
    lock.begin(&head).map_err(|error| LedgerError::Write(error).into())
}

/// Ends the file with a line of its own, gives it another name, and begins the next. Sessions meanwhile see either file whole.
/// With `accept`, also where the lines are not those that sessions have left.
pub(super) fn rotate(config: &Config, accept: bool) -> Result<(), AdminError> {
    let names = Names::of(config)?;
    let new = names.path.with_file_name(&names.new);
    let archive = |place: &Place| {
        let date = place.time.get(..10).unwrap_or_default();
        suffixed(&names.name, &format!("-{date}-{}", place.seq)).to_string_lossy().into_owned()
    };
    let work = |channel: &Channel| {
        let lock = Lock::open(config.audit.state())?;
        let _turn = lock.turn()?;
        if let Err(LedgerError::Rotated(place)) = Book::open(&new).and_then(|book| book.tail(None)) {
            return ask(channel, &Step::Left(archive(&place)));
        }
        let book = Book::open(&names.path)?;
        let head = lock.head();
        let end = match book.tail(head.as_ref()) {
            Ok(tail) => book.append(&tail, &[("event", "rotate")])?,
            // It has the next file's first line for its head, or none: a rotation was interrupted.
            Err(LedgerError::Rotated(place)) if head.is_none_or(|head| head.seq <= place.seq + 1) => place,
            Err(error) if accept => {
                let reason = format!("accepted by the operator: {error}");
                book.append(&book.tail_as_it_is()?, &[("event", "rotate"), ("reason", &reason)])?
            }
            Err(error) => return Err(error.into()),
        };
        book.sync()?;
        ask(channel, &Step::Make)?;
        begin(&lock, &new, Some(&end), &[("event", "continue"), ("file", &archive(&end))])?;
        ask(channel, &Step::Exchange(archive(&end)))
    };
    let old = names.with_account(work, |step| {
        match step {
            Step::Make => names.remove().and_then(|()| names.create()).map(|()| None),
            Step::Exchange(old) | Step::Left(old) if !names.is_archive(&old) => {
                Err(AdminError::Child(ChannelError::Nonsense.to_string()))
            }
            Step::Exchange(old) => {
                // A file with the attribute cannot be renamed.
                names.append_only(&names.name, false);
                names.rename(&names.new, &names.name, RenameFlags::EXCHANGE)?;
                names.rename(&names.new, OsStr::new(&old), RenameFlags::NOREPLACE)?;
                Ok(Some(old))
            }
            Step::Left(old) => {
                names.append_only(&names.new, false);
                names.rename(&names.new, OsStr::new(&old), RenameFlags::NOREPLACE)?;
                println!("finished a rotation that was interrupted");
                Ok(Some(old))
            }
            Step::Failed(why) => Err(AdminError::Ledger(why)),
            Step::Place => Err(AdminError::Child(ChannelError::Nonsense.to_string())),
        }
    })?;
    println!("the old lines are in {}", names.path.with_file_name(&old).display());
    tell_attribute(&names, &[&names.name, OsStr::new(&old)]);
    Ok(())
}

fn tell_attribute(names: &Names, files: &[&OsStr]) {
    for file in files {
        let path = names.path.with_file_name(file);
        match names.append_only(file, true) {
            true => println!("{} can only grow (chattr +a)", path.display()),
            false => println!("{} could not be given the append-only attribute (chattr +a)", path.display()),
        }
    }
}

/// Whether a file has the append-only attribute.
pub(crate) fn is_append_only(path: &Path) -> bool {
    std::fs::File::open(path).is_ok_and(|file| ioctl_getflags(&file).is_ok_and(|flags| flags.contains(IFlags::APPEND)))
}

/// Whether an interrupted rotation has left the old file beside the new one.
pub(crate) fn left(path: &Path) -> bool {
    path.with_file_name(suffixed(path.file_name().unwrap_or_default(), ".new")).exists()
}

/// The files that were rotated away, oldest first.
pub(super) fn rotated(path: &Path) -> Result<Vec<PathBuf>, AdminError> {
    let failed = |error| AdminError::File(path.to_owned(), error);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in path.parent().unwrap_or(path).read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let other = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let seq = other.strip_prefix(&name).and_then(|rest| rest.strip_prefix('-')?.rsplit_once('-')?.1.parse::<u64>().ok());
        found.extend(seq.map(|seq| (seq, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn suffixed(name: &OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

fn open(directory: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    openat(directory, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())
}
