//! So many places, and no more: a file of which each byte is one. Whoever has locked a byte has its place, until the file is
//! closed; the kernel does that for a process that dies, however it dies.

use super::LimitError;
use crate::state::State;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

/// The places, and our way to one of them.
pub struct Slots {
    file: File,
    name: String,
    number: u64,
}

impl Slots {
    /// Opens a file of the state directory as so many places.
    ///
    /// # Errors
    /// [`LimitError::State`].
    pub fn open(state: &State, name: &str, number: u64) -> Result<Slots, LimitError> {
        let file = state.file(name).map_err(|error| LimitError::State(name.to_owned(), error))?;
        Ok(Slots::of(file, name, number))
    }

    /// Takes this file, open for writing, as so many places.
    pub fn of(file: File, name: &str, number: u64) -> Slots {
        Slots { file, name: name.to_owned(), number }
    }

    /// The descriptor's number: a process that inherits it holds the place, too.
    pub fn number(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Takes a place, without waiting. `false` when all are taken.
    ///
    /// The locks are those of the open file (F_OFD_SETLK): closing another descriptor of the file does not lose them, and a child
    /// that has closed ours does not keep them.
    ///
    /// # Errors
    /// [`LimitError::Io`].
    pub fn take(&self) -> Result<bool, LimitError> {
        for place in 0..self.number {
            let lock = libc::flock {
                l_type: libc::F_WRLCK as libc::c_short,
                l_whence: libc::SEEK_SET as libc::c_short,
                l_start: libc::off_t::try_from(place).unwrap_or(libc::off_t::MAX),
                l_len: 1,
                l_pid: 0,
            };
            match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)) {
                Ok(_) => return Ok(true),
                Err(Errno::EAGAIN | Errno::EACCES) => {}
                Err(error) => return Err(LimitError::Io(self.name.clone(), error.into())),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_and_no_more() {
        let path = std::env::temp_dir().join(format!("sigsh-slots-{}", std::process::id()));
        let file = || File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let open = || Slots::of(file(), "places", 3);
        let mut taken = (0..3).map(|_| open()).collect::<Vec<_>>();
        assert!(taken.iter().all(|slots| slots.take().unwrap()));
        let late = open();
        assert!(!late.take().unwrap());
        // To open and close the file once more loses nobody's place.
        drop(open());
        assert!(!late.take().unwrap());
        drop(taken.remove(1));
        assert!(late.take().unwrap() && !open().take().unwrap());
        std::fs::remove_file(path).unwrap();
    }
}
