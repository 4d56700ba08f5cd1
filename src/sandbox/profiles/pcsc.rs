//! Smartcards: OpenSC and its connection to pcscd.
//!
//! The connection is made before the login; afterwards there is neither `socket` nor `connect`. Until then a module can connect to any
//! socket that has a path and that the account may open, for Landlock forbids this from ABI 9 only: to journald, and to whatever else
//! listens for everybody. Afterwards it has what pcscd offers: every card in every reader, not this token alone.

use super::Environment;
use crate::sandbox::syscalls::{Row, THREAD, When, rare, row};
use libc::{AF_UNIX, EACCES, ENOSYS, ENOTTY, EPERM, F_GETFL, F_SETFL, PR_SET_NAME};
use std::path::Path;

pub(super) const LOAD: &[Row] = &[
    row!(SYS_socket, When::Is(0, AF_UNIX), "the connection to pcscd"),
    row!(SYS_connect, "the same"),
    row!(SYS_fcntl, When::Is(1, F_GETFL), "the connection does not block"),
    row!(SYS_fcntl, When::Is(1, F_SETFL), "the same"),
    row!(SYS_sendto, When::IsNull(4), "commands to the card, over the connection and to no address"),
    row!(SYS_poll, "waits for its answers; the thread waits for its end"),
    rare!(SYS_clock_nanosleep, "looks again whether another program has left the card"),
    row!(SYS_mlock, "OpenSC keeps the PIN out of swap"),
    row!(SYS_munlock, "the same, when it has wiped it"),
    row!(SYS_getpid, "OpenSC looks for forks"),
    rare!(SYS_clone3, When::Fails(ENOSYS), "starts a thread; the C library then takes clone"),
    row!(SYS_clone, When::Is(0, THREAD), "GLib's thread, which would tell a desktop about cards"),
    row!(SYS_set_robust_list, "the C library in a thread"),
    rare!(SYS_rseq, "the same"),
    row!(SYS_prctl, When::Is(0, PR_SET_NAME), "the thread's name"),
    row!(SYS_eventfd2, "wakes it"),
    row!(SYS_rt_sigaction, "GLib ignores SIGPIPE; the C library's own signal for threads"),
    row!(SYS_gettid, "GLib asks how its thread is scheduled"),
    row!(SYS_sched_getattr, When::Fails(EPERM), "the same; it goes on without"),
    row!(SYS_ioctl, When::Fails(ENOTTY), "OpenSC asks whether its messages go to a terminal"),
    row!(SYS_statfs, When::Fails(EACCES), "a library of GLib asks for SELinux; it goes on without"),
    row!(SYS_access, When::Fails(EACCES), "the same"),
];

pub(super) const SIGN: &[Row] = &[
    row!(SYS_sendto, When::IsNull(4), "commands to the card, over the connection and to no address"),
    row!(SYS_poll, "waits for its answers"),
    rare!(SYS_clock_nanosleep, "looks again whether another program has left the card"),
    row!(SYS_newfstatat, "OpenSC looks whether pcscd is still there"),
    rare!(SYS_fstat, "the same, in C libraries that do not use newfstatat for it"),
    row!(SYS_mlock, "OpenSC keeps the PIN and what it signs out of swap"),
    row!(SYS_munlock, "the same, when it has wiped it"),
    rare!(SYS_getpid, "OpenSC and libcrypto look for forks"),
];

/// OpenSC's GLib would look for a desktop's bus, to say that a card was inserted: in home directories, and for those in all of NSS.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[("DBUS_SESSION_BUS_ADDRESS", "disabled:")];

pub(super) fn read<'a>(environment: &Environment<'a>) -> Vec<&'a Path> {
    let configuration = environment("OPENSC_CONF").unwrap_or("/etc/opensc/opensc.conf");
    vec![Path::new(configuration), Path::new("/etc/ssl/openssl.cnf")]
}
