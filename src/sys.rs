//! The only unsafe code, with its part for PKCS#11 modules: what neither the standard library nor `nix` offers as a safe call.
//!
//! Each function here is sound to call at any time in a process that has one thread, and sigsh never starts a second one
//! before its forks are done.
#![allow(unsafe_code)]

#[cfg(target_env = "musl")]
mod memory;
pub(crate) mod pkcs11;

use nix::sys::signal::{SigHandler, Signal};
use nix::unistd::{ForkResult, Pid};
use std::ffi::c_void;
use std::os::fd::RawFd;

/// Forks. The parent gets the child's process id, the child gets `None`.
///
/// # Errors
/// What `fork(2)` says: no memory, or too many processes.
pub(crate) fn fork() -> nix::Result<Option<Pid>> {
    // SAFETY: the process has a single thread, so the child may go on calling anything, allocation included.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Leaves at once, without destructors, `atexit` handlers (a PKCS#11 module may have installed some) or buffers to flush.
pub fn exit(code: u8) -> ! {
    // SAFETY: _exit takes no pointers and does not return.
    unsafe { libc::_exit(code.into()) }
}

/// Undoes the standard library's handlers of SIGSEGV and SIGBUS. They make system calls that no filter allows, so that a module that
/// crashes would seem to have been killed for a forbidden call. Ignores SIGXFSZ.
pub(crate) fn default_faults() {
    for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: the default action runs no code of ours. It cannot fail for these signals.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    }
    // SAFETY: to ignore a signal runs no code. A file that grows beyond RLIMIT_FSIZE is an error then, and no death.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// Empties the environment and sets what is given: a module sees nothing that an operator has not written down for it.
pub(crate) fn replace_environment<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>) {
    // SAFETY: one thread, and no reference into the old environment is kept anywhere: std::env copies what it returns.
    unsafe {
        libc::clearenv();
        for (name, value) in variables {
            std::env::set_var(name, value);
        }
    }
}

/// Has the C library read the time zone now. It does so once, when a time is first written, as Sequoia does in its errors: in a
/// sandbox that would be the end.
pub(crate) fn settle_time_zone() {
    // SAFETY: all zeros are a value of this structure of numbers, and gmtime_r keeps no pointer to it.
    unsafe { libc::gmtime_r(&0, &mut std::mem::zeroed()) };
}

/// Keeps memory out of swap. The kernel may refuse (RLIMIT_MEMLOCK); that is the caller's to judge.
///
/// # Errors
/// What `mlock(2)` says.
pub(crate) fn lock_memory(bytes: &[u8]) -> nix::Result<()> {
    // SAFETY: mlock changes no content, and the range is that of a live slice.
    nix::errno::Errno::result(unsafe { libc::mlock(bytes.as_ptr().cast::<c_void>(), bytes.len()) }).map(drop)
}

/// Another descriptor for what was open at this number when the program began: whoever started it has said so.
///
/// # Errors
/// What `fcntl(2)` says, EBADF when nothing is open there.
pub fn inherited(fd: RawFd) -> std::io::Result<std::os::fd::OwnedFd> {
    // SAFETY: fcntl takes no pointers for this command, and of the number that comes back nobody else knows.
    unsafe {
        let copy = nix::errno::Errno::result(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3))?;
        Ok(std::os::fd::FromRawFd::from_raw_fd(copy))
    }
}

/// Closes every descriptor but those given.
///
/// # Errors
/// What `close_range(2)` says.
pub(crate) fn close_all_but(keep: &[RawFd]) -> nix::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 0;
    for last in keep.iter().map(|fd| fd.checked_sub(1)).chain([Some(u32::MAX)]) {
        if let Some(last) = last.filter(|last| first <= *last) {
            // SAFETY: no pointers. At the start of the program nothing but the standard descriptors has an owner; later, the owners of
            // what is closed here live in frames that a forked child never returns to and never drops, since it leaves by _exit.
            nix::errno::Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = last.map_or(1, |last| last.saturating_add(2));
    }
    Ok(())
}
