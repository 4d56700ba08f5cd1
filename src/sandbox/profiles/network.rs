//! HSMs behind TCP: one connection or several to the ports that the configuration names, made until it is logged in.

use crate::sandbox::syscalls::{Row, THREAD, When, rare, row};
use libc::{EACCES, ENOSYS, IPPROTO_TCP, MSG_FASTOPEN, PR_SET_NAME, SOL_SOCKET};

/// Before the login and after.
pub(super) const SPEAK: &[Row] = &[
    // TCP Fast Open would connect past Landlock.
    row!(SYS_sendto, When::Without(3, MSG_FASTOPEN), "requests"),
    rare!(SYS_sendmsg, When::Without(2, MSG_FASTOPEN), "the same, in pieces"),
    rare!(SYS_writev, "the same"),
    row!(SYS_recvfrom, "answers"),
    rare!(SYS_recvmsg, "the same, in pieces"),
    rare!(SYS_readv, "the same"),
    #[cfg(target_arch = "x86_64")]
    rare!(SYS_poll, "waits for them"),
    rare!(SYS_pselect6, "the same"),
    #[cfg(target_arch = "x86_64")]
    rare!(SYS_select, "the same"),
];

pub(super) const LOAD: &[Row] = &[
    row!(SYS_socket, When::Tcp, "a TCP connection; no UDP, no other protocol, no unix socket"),
    rare!(SYS_socket, When::FailsElse(EACCES), "the resolver's looks for caches, interfaces and name servers; it goes on without"),
    row!(SYS_connect, "the connection; Landlock says to which ports"),
    rare!(SYS_setsockopt, When::Is(1, SOL_SOCKET), "keep-alive and timeouts"),
    rare!(SYS_setsockopt, When::Is(1, IPPROTO_TCP), "no delay; keep-alive"),
    rare!(SYS_setsockopt, When::FailsElse(EACCES), "what concerns the network beneath; it goes on without"),
    rare!(SYS_getsockopt, When::Is(1, SOL_SOCKET), "whether a connection that was not waited for came about"),
    rare!(SYS_getsockopt, When::Is(1, IPPROTO_TCP), "how the connection is"),
    rare!(SYS_getsockopt, When::FailsElse(EACCES), "as setsockopt"),
    rare!(SYS_getsockname, "its own address"),
    rare!(SYS_getpeername, "the HSM's address"),
    rare!(SYS_shutdown, "takes leave"),
    rare!(SYS_fcntl, When::Without(1, !7), "a socket that does not block; no F_SETOWN or F_SETSIG, which send signals"),
    rare!(SYS_lseek, "the resolver and its /etc/hosts"),
    rare!(SYS_uname, "the resolver: the name of this host"),
    rare!(SYS_rt_sigaction, "no signal for a connection that is gone"),
    rare!(SYS_clock_nanosleep, "a pause before the next attempt"),
    rare!(SYS_getpid, "looks for forks"),
    rare!(SYS_gettid, "names itself in what it says"),
    rare!(SYS_clone3, When::Fails(ENOSYS), "starts a thread, which keeps a connection alive, say; the C library then takes clone"),
    rare!(SYS_clone, When::Is(0, THREAD), "the same: no other process"),
    rare!(SYS_set_robust_list, "the C library in a thread"),
    rare!(SYS_rseq, "the same"),
    rare!(SYS_sigaltstack, "the same, in modules that are written in Rust"),
    rare!(SYS_sched_getaffinity, "how many threads would be of use"),
    rare!(SYS_prctl, When::Is(0, PR_SET_NAME), "the thread's name"),
    rare!(SYS_exit, "a thread ends"),
];

/// A connection that is lost now is lost: the session fails, and the next one connects again.
pub(super) const SIGN: &[Row] = &[
    rare!(SYS_setsockopt, "timeouts; the rest fails as before: that filter stays in force, and of two the stricter counts"),
    rare!(SYS_getsockopt, "whether the connection is well; as setsockopt"),
    rare!(SYS_fcntl, When::Without(1, !7), "a socket that does not block"),
    rare!(SYS_clock_nanosleep, "a pause before it asks again"),
    rare!(SYS_getpid, "looks for forks"),
    rare!(SYS_gettid, "names itself in what it says"),
    rare!(SYS_shutdown, "takes leave"),
    rare!(SYS_rt_sigprocmask, "the C library when a thread ends"),
    rare!(SYS_sigaltstack, "the same, in modules that are written in Rust"),
    rare!(SYS_exit, "a thread ends"),
];

/// For names out of /etc/hosts. No name server can be asked: that would take UDP.
pub(super) const READ: &[&str] =
    &["/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/resolv.conf", "/etc/gai.conf", "/etc/ssl/openssl.cnf"];
