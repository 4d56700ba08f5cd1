//! The system calls that each process may make: one a line, with its reason. Whatever is not here kills the process.

use libc::{EAFNOSUPPORT, ENOSYS, O_TRUNC, PROT_EXEC};
use nix::unistd::Pid;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;
use std::os::fd::RawFd;

/// One row of a table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The call's name, as `strace` shows it.
    pub name: &'static str,
    /// Its number on this machine.
    pub number: i64,
    /// Under which condition.
    pub when: When,
    /// Why the process needs it.
    pub why: &'static str,
    /// Whether every signature makes the call. Where not, `why` says why the row stays all the same.
    pub always_seen: bool,
}

/// Conditions on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// None.
    Free,
    /// The first argument is the descriptor of the process's channel.
    OnChannel,
    /// The first argument is a child of the process, the second is SIGKILL.
    EndsChild,
    /// The argument of this index has none of these bits.
    Without(u8, i32),
    /// The argument of this index has this value.
    Is(u8, i32),
    /// It fails with this errno instead of killing: code that we do not own tries it and can do without.
    Fails(i32),
}

macro_rules! row {
    ($name:ident, $why:literal) => {
        row!($name, When::Free, $why)
    };
    ($name:ident, $when:expr, $why:literal) => {
        Row { name: stringify!($name), number: libc_number!($name), when: $when, why: $why, always_seen: true }
    };
}
macro_rules! rare {
    ($name:ident, $why:literal) => {
        rare!($name, When::Free, $why)
    };
    ($name:ident, $when:expr, $why:literal) => {
        Row { always_seen: false, ..row!($name, $when, $why) }
    };
}
macro_rules! libc_number {
    (brk) => {
        libc::SYS_brk
    };
    (clock_gettime) => {
        libc::SYS_clock_gettime
    };
    (clock_nanosleep) => {
        libc::SYS_clock_nanosleep
    };
    (clone) => {
        libc::SYS_clone
    };
    (clone3) => {
        libc::SYS_clone3
    };
    (close) => {
        libc::SYS_close
    };
    (close_range) => {
        libc::SYS_close_range
    };
    (connect) => {
        libc::SYS_connect
    };
    (exit_group) => {
        libc::SYS_exit_group
    };
    (fcntl) => {
        libc::SYS_fcntl
    };
    (fdatasync) => {
        libc::SYS_fdatasync
    };
    (flock) => {
        libc::SYS_flock
    };
    (fstat) => {
        libc::SYS_fstat
    };
    (ftruncate) => {
        libc::SYS_ftruncate
    };
    (futex) => {
        libc::SYS_futex
    };
    (getdents64) => {
        libc::SYS_getdents64
    };
    (getegid) => {
        libc::SYS_getegid
    };
    (geteuid) => {
        libc::SYS_geteuid
    };
    (getgid) => {
        libc::SYS_getgid
    };
    (getpid) => {
        libc::SYS_getpid
    };
    (getppid) => {
        libc::SYS_getppid
    };
    (getrandom) => {
        libc::SYS_getrandom
    };
    (kill) => {
        libc::SYS_kill
    };
    (landlock_add_rule) => {
        libc::SYS_landlock_add_rule
    };
    (landlock_create_ruleset) => {
        libc::SYS_landlock_create_ruleset
    };
    (landlock_restrict_self) => {
        libc::SYS_landlock_restrict_self
    };
    (lseek) => {
        libc::SYS_lseek
    };
    (madvise) => {
        libc::SYS_madvise
    };
    (mlock) => {
        libc::SYS_mlock
    };
    (mmap) => {
        libc::SYS_mmap
    };
    (mprotect) => {
        libc::SYS_mprotect
    };
    (mremap) => {
        libc::SYS_mremap
    };
    (munmap) => {
        libc::SYS_munmap
    };
    (newfstatat) => {
        libc::SYS_newfstatat
    };
    (openat) => {
        libc::SYS_openat
    };
    (ppoll) => {
        libc::SYS_ppoll
    };
    (prctl) => {
        libc::SYS_prctl
    };
    (pread64) => {
        libc::SYS_pread64
    };
    (pwrite64) => {
        libc::SYS_pwrite64
    };
    (read) => {
        libc::SYS_read
    };
    (readlinkat) => {
        libc::SYS_readlinkat
    };
    (rseq) => {
        libc::SYS_rseq
    };
    (rt_sigprocmask) => {
        libc::SYS_rt_sigprocmask
    };
    (seccomp) => {
        libc::SYS_seccomp
    };
    (set_robust_list) => {
        libc::SYS_set_robust_list
    };
    (socket) => {
        libc::SYS_socket
    };
    (socketpair) => {
        libc::SYS_socketpair
    };
    (statx) => {
        libc::SYS_statx
    };
    (wait4) => {
        libc::SYS_wait4
    };
    (write) => {
        libc::SYS_write
    };
}

/// The hasher, from its first instruction. Its memory is reserved before.
pub const HASHER: &[Row] = &[
    row!(read, "the start message; then the artifact"),
    row!(ppoll, "waits for the next byte, for no longer than the idle limit"),
    row!(write, When::OnChannel, "the answer, to the monitor and nobody else"),
    row!(exit_group, "leaves"),
    rare!(clock_gettime, "reads the time where the kernel offers no clock in user space (some virtual machines)"),
];

/// The monitor, from the moment when the token process is forked, the journal connected and the certificate's file read.
pub const MONITOR: &[Row] = &[
    row!(read, "messages of the two other processes"),
    row!(write, "messages to them; records to the connected journal; the signature; the error line"),
    row!(ppoll, "waits for them, and asks whether the client is still there"),
    row!(kill, When::EndsChild, "ends the two other processes; sshd's and those of other sessions have our uid"),
    row!(wait4, "learns how they ended"),
    row!(close, "their channels, when they are done"),
    rare!(getrandom, "seeds of hash maps, where none was needed before"),
    row!(brk, "memory"),
    rare!(mmap, When::Without(2, PROT_EXEC), "memory: pieces of 128 KiB and more, when a certificate is that large"),
    rare!(munmap, "memory: gives them back"),
    rare!(mremap, "memory: the same, growing"),
    rare!(madvise, "memory: the allocator may give back pages in a large heap"),
    rare!(futex, "locks of the standard library, uncontended in one thread but for a panic"),
    rare!(clock_gettime, "reads the time where the kernel offers no clock in user space (some virtual machines)"),
    row!(exit_group, "leaves"),
];

/// The token process with SoftHSM, from before the module is loaded until it is logged in.
pub const SOFTHSM_LOAD: &[Row] = &[
    row!(openat, When::Without(2, O_TRUNC), "the module, its libraries, its store; Landlock says which paths"),
    row!(read, "the same; messages of the monitor"),
    row!(pread64, "program headers of libraries; the PIN marker"),
    row!(mmap, "loads the module; memory"),
    row!(mprotect, "seals relocated data of the module"),
    row!(munmap, "the loader's cache; memory"),
    row!(brk, "memory"),
    row!(close, "files read"),
    row!(newfstatat, "sizes of libraries; SoftHSM's look at its store"),
    rare!(fstat, "the same, by descriptor, in C libraries that do not use newfstatat for it"),
    row!(getdents64, "SoftHSM lists its token store"),
    rare!(lseek, "SoftHSM rereads an object file that another process has changed"),
    row!(fcntl, "SoftHSM's advisory locks on its object files"),
    row!(getpid, "SoftHSM looks for forks"),
    row!(getrandom, "SoftHSM masks the PIN in memory"),
    row!(futex, "one-time initialisation in the module's libraries"),
    row!(write, "messages to the monitor; what the module prints, to /dev/null"),
    row!(flock, "the PIN marker: one login at a time"),
    rare!(pwrite64, "the PIN marker, when the PIN file is new or the PIN wrong"),
    rare!(fdatasync, "the PIN marker must survive a crash"),
    rare!(clock_nanosleep, "waits for another session's login"),
    rare!(clock_gettime, "reads the time where the kernel offers no clock in user space (some virtual machines)"),
    rare!(ftruncate, "SoftHSM empties its token file where a store is writable; it needs a writable descriptor"),
    rare!(readlinkat, "the loader, where a library is a link with a relative origin"),
    rare!(rt_sigprocmask, "the C library around thread-specific data"),
    rare!(madvise, "the allocator may give back pages"),
    rare!(mremap, "memory: the allocator grows large pieces"),
    rare!(ppoll, "waits for a message again when interrupted"),
    rare!(socket, When::Fails(EAFNOSUPPORT), "SoftHSM wants to report errors to syslog; it goes on without"),
    rare!(clone3, When::Fails(ENOSYS), "no threads; a library that asks is told that there are none"),
    row!(prctl, When::Is(0, libc::PR_SET_NO_NEW_PRIVS), "the second filter"),
    row!(seccomp, "the second filter"),
    rare!(exit_group, "leaves when it has failed, unless the monitor is faster and ends it"),
];

/// The same, logged in: no code can be loaded any more, no file written.
pub const SOFTHSM_SIGN: &[Row] = &[
    row!(read, "messages of the monitor; SoftHSM rereads its object files at every call"),
    row!(write, "messages to the monitor; what the module prints, to /dev/null"),
    row!(openat, When::Without(2, O_TRUNC), "SoftHSM reopens its object files at every call"),
    row!(close, "the same"),
    row!(newfstatat, "the same"),
    rare!(fstat, "the same, in C libraries that do not use newfstatat for it"),
    row!(fcntl, "the same: advisory locks"),
    rare!(getdents64, "the same: lists its store again when another process has added a key"),
    rare!(lseek, "the same, in a file that has changed"),
    row!(getpid, "SoftHSM and its libcrypto look for forks"),
    rare!(getrandom, "RSA blinding, ECDSA nonces: when libcrypto seeds its generator anew"),
    rare!(brk, "memory"),
    rare!(mmap, When::Without(2, PROT_EXEC), "memory, without execution"),
    rare!(munmap, "memory"),
    rare!(mremap, "memory"),
    rare!(madvise, "memory"),
    rare!(futex, "locks in the module's libraries"),
    rare!(ppoll, "waits for a message again when interrupted"),
    rare!(clock_gettime, "reads the time where the kernel offers no clock in user space (some virtual machines)"),
    rare!(socket, When::Fails(EAFNOSUPPORT), "SoftHSM wants to report errors to syslog; it goes on without"),
    row!(exit_group, "leaves"),
];

/// What the monitor does besides before the tables above are in force: reads configuration and environment, forks, connects to
/// the journal. This and all tables together are what no process of sigsh ever leaves: no exec, no ptrace, no chmod.
pub const BEGINNING: &[Row] = &[
    row!(clone, "forks the hasher and the token process"),
    row!(set_robust_list, "the C library in a forked child"),
    rare!(rseq, "the C library in a forked child"),
    rare!(rt_sigprocmask, "the C library around fork, in some versions"),
    row!(socketpair, "the channels"),
    row!(socket, When::Is(0, libc::AF_UNIX), "the journal's socket"),
    row!(connect, "the journal"),
    row!(close_range, "a child keeps only its own descriptors"),
    row!(getppid, "a child whose parent is gone leaves"),
    row!(prctl, "no new privileges; a child's name; its death with its parent"),
    row!(seccomp, "each process's own filter"),
    row!(landlock_create_ruleset, "each process's own paths"),
    row!(landlock_add_rule, "the same"),
    row!(landlock_restrict_self, "the same"),
    row!(geteuid, "who owns the files that are trusted"),
    row!(statx, "files that are trusted"),
    row!(readlinkat, "links on the way to them"),
    row!(mlock, "the PIN stays out of swap"),
    rare!(clone3, When::Fails(ENOSYS), "no threads; a library that asks is told that there are none"),
];

/// What no table may ever hold. `openat`'s O_TRUNC is masked where it is allowed.
pub const NEVER: &[&str] = &[
    "execve",
    "execveat",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "truncate",
    "setxattr",
    "fsetxattr",
    "removexattr",
    "utimensat",
    "futimesat",
    "prlimit64",
    "open",
    "openat2",
    "creat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mknod",
    "mount",
    "setuid",
    "setgid",
    "setresuid",
    "setgroups",
    "bpf",
    "io_uring_setup",
    "userfaultfd",
    "keyctl",
    "bind",
    "listen",
    "accept",
    "accept4",
    "sendmsg",
    "recvmsg",
    "pidfd_getfd",
    "fork",
    "vfork",
];

/// What rows may be bound to, as far as it is known yet.
#[derive(Clone, Copy, Default)]
pub(crate) struct Bonds<'a> {
    /// For [`When::OnChannel`].
    pub(crate) channel: Option<RawFd>,
    /// For [`When::EndsChild`]; before there are any, all that a Landlock scope leaves.
    pub(crate) children: Option<&'a [Pid]>,
}

/// Compiles tables: what is in them is allowed, the rest kills the process. Further programs make some calls fail instead;
/// of several programs the kernel obeys the strictest.
pub(crate) fn compile(rows: &[Row], bonds: Bonds<'_>) -> Result<Vec<BpfProgram>, BackendError> {
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut failing: BTreeMap<i32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
    // Free rows last: an empty chain of rules means whatever the arguments, and stays empty.
    let (free, bound): (Vec<Row>, Vec<Row>) =
        rows.iter().copied().partition(|row: &Row| matches!(row.when, When::Free | When::Fails(_)));
    for row in bound {
        let is = |argument, value| condition(argument, Op::Eq, value);
        let rules = match row.when {
            When::OnChannel => bonds.channel.map(|channel| Ok(vec![is(0, channel)?])).into_iter().collect(),
            When::EndsChild => match bonds.children {
                Some(children) => children.iter().map(|child| Ok(vec![is(0, child.as_raw())?, is(1, libc::SIGKILL)?])).collect(),
                None => vec![Ok(vec![is(1, libc::SIGKILL)?])],
            },
            When::Is(argument, value) => vec![Ok(vec![is(argument, value)?])],
            When::Without(argument, bits) => vec![Ok(vec![condition(argument, Op::MaskedEq(bits.unsigned_abs().into()), 0)?])],
            When::Free | When::Fails(_) => continue,
        };
        for rule in rules {
            allowed.entry(row.number).or_default().push(SeccompRule::new(rule?)?);
        }
    }
    for row in free {
        allowed.insert(row.number, vec![]);
        if let When::Fails(errno) = row.when {
            failing.entry(errno).or_default().insert(row.number, vec![]);
        }
    }
    let mut programs = vec![program(allowed, SeccompAction::KillProcess, SeccompAction::Allow)?];
    for (errno, calls) in failing {
        programs.push(program(calls, SeccompAction::Allow, SeccompAction::Errno(errno.unsigned_abs()))?);
    }
    Ok(programs)
}

fn condition(argument: u8, operator: Op, value: i32) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Len::Dword, operator, value.unsigned_abs().into())
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, otherwise, matched, std::env::consts::ARCH.try_into()?)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_holds_what_is_never_allowed() {
        for row in [HASHER, MONITOR, SOFTHSM_LOAD, SOFTHSM_SIGN, BEGINNING].into_iter().flatten() {
            assert!(!NEVER.contains(&row.name), "{}", row.name);
            assert!(row.name != "openat" || row.when == When::Without(2, O_TRUNC));
        }
    }

    #[test]
    fn every_row_has_a_reason_and_stands_once() {
        for table in [HASHER, MONITOR, SOFTHSM_LOAD, SOFTHSM_SIGN, BEGINNING] {
            for row in table {
                assert!(row.why.len() >= 6, "{}", row.name);
                assert_eq!(table.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
            }
        }
    }

    #[test]
    fn after_login_less_is_allowed_than_before() {
        for row in SOFTHSM_SIGN {
            assert!(SOFTHSM_LOAD.iter().any(|other| other.name == row.name), "{}", row.name);
        }
    }
}
