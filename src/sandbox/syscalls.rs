//! The system calls that each process may make: one a line, with its reason. Whatever is not here kills the process.

use libc::{ENOSYS, O_TRUNC, PROT_EXEC};
use nix::unistd::Pid;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
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
    /// Which C library makes the call; `None` when any does.
    pub by: Option<Libc>,
}

/// A C library. Two of them do the same by different system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// Of the dynamic build.
    Glibc,
    /// Of the static build.
    Musl,
}

impl Libc {
    /// The one that this program has.
    pub const OURS: Libc = if cfg!(target_env = "musl") { Libc::Musl } else { Libc::Glibc };
}

impl Row {
    /// Whether a program with this C library has the row.
    pub fn is_of(&self, libc: Libc) -> bool {
        self.by.is_none_or(|by| by == libc)
    }
}

/// Conditions on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// None.
    Free,
    /// The first argument is the descriptor of the process's channel.
    OnChannel,
    /// The first argument is the descriptor of the file in memory that takes the text of a cleartext-signed message.
    OnBody,
    /// The first argument is the descriptor of the PIN's marker.
    OnMarker,
    /// The first argument is a child of the process, the second is SIGKILL.
    EndsChild,
    /// The argument of this index has none of these bits.
    Without(u8, i32),
    /// The argument of this index has this value.
    Is(u8, i32),
    /// The argument of this index is a null pointer: all 64 bits.
    IsNull(u8),
    /// It fails with this errno instead of killing: code that we do not own tries it and can do without.
    Fails(i32),
    /// The same for what no other row allows of the call.
    FailsElse(i32),
    /// It makes a socket for TCP: Landlock's rules for ports know of no other protocol, whose sockets could be streams as well.
    Tcp,
}

macro_rules! row {
    ($call:ident, $why:literal) => {
        row!($call, When::Free, $why)
    };
    ($call:ident, $when:expr, $why:literal) => {
        Row {
            name: $crate::sandbox::syscalls::name(stringify!($call)),
            number: libc::$call,
            when: $when,
            why: $why,
            always_seen: true,
            by: None,
        }
    };
}
macro_rules! rare {
    ($call:ident, $why:literal) => {
        rare!($call, When::Free, $why)
    };
    ($call:ident, $when:expr, $why:literal) => {
        Row { always_seen: false, ..row!($call, $when, $why) }
    };
}

macro_rules! glibc {
    ($row:expr) => {
        Row { by: Some($crate::sandbox::syscalls::Libc::Glibc), ..$row }
    };
}
macro_rules! musl {
    ($row:expr) => {
        Row { by: Some($crate::sandbox::syscalls::Libc::Musl), ..$row }
    };
}

pub(super) use {glibc, musl, rare, row};

/// A call's name out of its constant's: what stands behind `SYS_`.
pub(super) const fn name(constant: &'static str) -> &'static str {
    constant.split_at("SYS_".len()).1
}

/// What fork(2) passes to clone(2).
const FORK: i32 = libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;

/// The bits of socket(2)'s second argument that are the type; the others are flags.
const SOCKET_TYPE: u64 = 0xf;

/// What pthread_create(3) passes to clone(2): a thread of this process, and nothing of its own but a stack.
pub(super) const THREAD: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// What memfd_create(2) is given: a file that never becomes executable, closes on exec, and can be sealed.
pub const MEMFD: i32 = (libc::MFD_CLOEXEC | libc::MFD_NOEXEC_SEAL).cast_signed();

/// The same for kernels before 6.3.
pub const MEMFD_BEFORE_6_3: i32 = (libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING).cast_signed();

/// The hasher, from its first instruction. Its memory is reserved before.
pub const HASHER: &[Row] = &[
    row!(SYS_read, "the start message; then the artifact"),
    row!(SYS_ppoll, "waits for the next byte, for no longer than the idle limit"),
    row!(SYS_write, When::OnChannel, "the answer, to the monitor and nobody else"),
    rare!(SYS_write, When::OnBody, "the text of a cleartext-signed message, to the file in memory that the monitor sends on"),
    row!(SYS_exit_group, "leaves"),
    rare!(SYS_clock_gettime, "reads the time where the kernel offers no clock in user space (some virtual machines)"),
];

/// The monitor, from the moment when the token process is forked, the journal connected and the certificate's file read.
pub const MONITOR: &[Row] = &[
    row!(SYS_read, "messages of the two other processes"),
    row!(SYS_write, "messages to them; records to the ledger and the connected journal; the signature; the error line"),
    row!(SYS_ppoll, "waits for them, and asks whether the client is still there"),
    row!(SYS_kill, When::EndsChild, "ends the two other processes; sshd's and those of other sessions have our uid"),
    row!(SYS_wait4, "learns how they ended"),
    row!(SYS_close, "their channels, when they are done"),
    rare!(SYS_fcntl, When::Is(1, libc::F_OFD_SETLK), "the turn at a token that bears only so many sessions"),
    row!(SYS_flock, "the ledger's lock, the count of refusals: one session at a time changes them"),
    row!(SYS_lseek, "how long the ledger is"),
    row!(SYS_pread64, "the ledger's tail; its head; the count of refusals"),
    row!(SYS_fdatasync, "the ledger's line must survive a crash before anything is signed"),
    row!(SYS_pwrite64, "the ledger's head, in its lock file; the count of refusals"),
    rare!(
        SYS_sendfile,
        When::Is(0, 1),
        "the text of a cleartext-signed message, which the monitor never reads, to standard output"
    ),
    rare!(SYS_getrandom, "the salt of a v6 signature; seeds of hash maps, where none was needed before"),
    rare!(SYS_newfstatat, When::Is(3, libc::AT_EMPTY_PATH), "whether the list of revoked keys has changed, where there is one"),
    rare!(SYS_fstat, "the same, in C libraries that do not use newfstatat for it"),
    glibc!(row!(SYS_brk, "memory")),
    rare!(SYS_mmap, When::Without(2, PROT_EXEC), "memory: pieces of 128 KiB and more, when a certificate is that large"),
    rare!(SYS_munmap, "memory: gives them back"),
    rare!(SYS_mremap, "memory: the same, growing"),
    rare!(SYS_madvise, "memory: the allocator may give back pages in a large heap"),
    rare!(SYS_futex, "locks of the standard library, uncontended in one thread but for a panic"),
    rare!(SYS_clock_gettime, "reads the time where the kernel offers no clock in user space (some virtual machines)"),
    row!(SYS_exit_group, "leaves"),
];

/// What the monitor does besides before the tables above are in force: reads configuration and environment, forks, connects to
/// the journal. This, all tables above and those of the profiles ([`super::profiles`]) together are what no process of sigsh ever leaves:
/// no exec, no ptrace, no chmod.
pub const BEGINNING: &[Row] = &[
    glibc!(row!(SYS_clone, When::Is(0, FORK), "forks the hasher and the token process; no thread, no namespace")),
    #[cfg(target_arch = "x86_64")]
    musl!(row!(SYS_fork, "forks them")),
    #[cfg(not(target_arch = "x86_64"))]
    musl!(row!(SYS_clone, When::Is(0, libc::SIGCHLD), "forks them")),
    rare!(SYS_clone3, When::Fails(ENOSYS), "threads of a module: its C library then takes clone, whose flags a filter can see"),
    glibc!(row!(SYS_set_robust_list, "the C library in a forked child")),
    musl!(row!(SYS_set_tid_address, "the C library in a forked child")),
    glibc!(rare!(SYS_rseq, "the C library in a forked child")),
    glibc!(rare!(SYS_rt_sigprocmask, "the C library around fork, in some versions")),
    musl!(row!(SYS_rt_sigprocmask, "the C library around fork")),
    row!(SYS_socketpair, "the channels"),
    row!(SYS_fcntl, When::Is(1, libc::F_SETFL), "the monitor's ends of them do not block"),
    row!(SYS_memfd_create, When::Is(1, MEMFD), "the file in memory for the text of a cleartext-signed message"),
    rare!(SYS_memfd_create, When::Is(1, MEMFD_BEFORE_6_3), "the same, where the kernel does not know MFD_NOEXEC_SEAL"),
    row!(SYS_ftruncate, "gives it its size"),
    row!(SYS_fcntl, When::Is(1, libc::F_ADD_SEALS), "keeps it at that"),
    row!(SYS_socket, When::Is(0, libc::AF_UNIX), "the journal's socket"),
    row!(SYS_connect, "the journal"),
    rare!(SYS_getsockopt, When::Is(2, libc::SO_PEERCRED), "who is at the other end of a p11-kit server's socket"),
    row!(SYS_close_range, "a child keeps only its own descriptors"),
    row!(SYS_getpid, "whose children they are"),
    row!(SYS_getppid, "a child whose parent is gone leaves"),
    row!(SYS_prctl, When::Is(0, libc::PR_SET_NO_NEW_PRIVS), "each process's own filter and paths"),
    row!(SYS_prctl, When::Is(0, libc::PR_SET_NAME), "a child's name"),
    row!(SYS_prctl, When::Is(0, libc::PR_SET_PDEATHSIG), "a child dies with its parent"),
    row!(SYS_seccomp, "each process's own filter"),
    row!(SYS_landlock_create_ruleset, "each process's own paths"),
    rare!(SYS_landlock_add_rule, "the same, where it has any: not with a p11-kit server"),
    row!(SYS_landlock_restrict_self, "the same"),
    row!(SYS_geteuid, "who owns the files that are trusted"),
    row!(SYS_getuid, "the unix user that a client may be"),
    row!(SYS_openat, When::Without(2, O_TRUNC), "configuration, certificate, state, ledger, and all directories on the way"),
    row!(SYS_newfstatat, "files that are trusted"),
    rare!(SYS_fstat, "the same, by descriptor, in C libraries that do not use newfstatat for it"),
    glibc!(row!(SYS_statx, "the same")),
    row!(SYS_readlinkat, "links on the way to them"),
    row!(SYS_mlock, "the PIN, and the secret of MACs, stay out of swap"),
    row!(SYS_fcntl, When::Is(1, libc::F_OFD_SETLK), "a place among the sessions of a client"),
];

/// What rows may be bound to, as far as it is known yet.
#[derive(Clone, Copy, Default)]
pub(crate) struct Bonds<'a> {
    /// For [`When::OnChannel`].
    pub(crate) channel: Option<RawFd>,
    /// For [`When::OnBody`].
    pub(crate) body: Option<RawFd>,
    /// For [`When::OnMarker`].
    pub(crate) marker: Option<RawFd>,
    /// For [`When::EndsChild`]; before there are any, all that a Landlock scope leaves.
    pub(crate) children: Option<&'a [Pid]>,
}

/// Compiles tables: what is in them is allowed, the rest kills the process. Further programs make some calls fail instead;
/// of several programs the kernel obeys the strictest.
pub(crate) fn compile(rows: &[Row], bonds: Bonds<'_>) -> Result<Vec<BpfProgram>, BackendError> {
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut failing: BTreeMap<i32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
    // Free rows last: an empty chain of rules means whatever the arguments, and stays empty.
    let (free, bound): (Vec<Row>, Vec<Row>) = rows
        .iter()
        .copied()
        .filter(|row| row.is_of(Libc::OURS))
        .partition(|row: &Row| matches!(row.when, When::Free | When::Fails(_) | When::FailsElse(_)));
    for row in bound {
        let is = |argument, value| condition(argument, Op::Eq, value);
        let rules = match row.when {
            When::OnChannel => bonds.channel.map(|channel| Ok(vec![is(0, channel)?])).into_iter().collect(),
            When::OnBody => bonds.body.map(|body| Ok(vec![is(0, body)?])).into_iter().collect(),
            When::OnMarker => bonds.marker.map(|marker| Ok(vec![is(0, marker)?])).into_iter().collect(),
            When::EndsChild => match bonds.children {
                Some(children) => children.iter().map(|child| Ok(vec![is(0, child.as_raw())?, is(1, libc::SIGKILL)?])).collect(),
                None => vec![Ok(vec![is(1, libc::SIGKILL)?])],
            },
            When::Is(argument, value) => vec![Ok(vec![is(argument, value)?])],
            When::IsNull(argument) => vec![Ok(vec![SeccompCondition::new(argument, Len::Qword, Op::Eq, 0)?])],
            When::Without(argument, bits) => vec![Ok(vec![condition(argument, Op::MaskedEq(bits.cast_unsigned().into()), 0)?])],
            When::Tcp => tcp(),
            When::Free | When::Fails(_) | When::FailsElse(_) => continue,
        };
        for rule in rules {
            allowed.entry(row.number).or_default().push(SeccompRule::new(rule?)?);
        }
    }
    let mut otherwise: BTreeMap<i32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
    for row in &free {
        if let When::FailsElse(errno) = row.when {
            let is_free = free.iter().any(|other| (other.number, other.when) == (row.number, When::Free));
            let rules = allowed.get(&row.number).filter(|_| !is_free).cloned().unwrap_or_default();
            otherwise.entry(errno).or_default().insert(row.number, rules);
        }
    }
    for row in free {
        allowed.insert(row.number, vec![]);
        if let When::Fails(errno) = row.when {
            failing.entry(errno).or_default().insert(row.number, vec![]);
        }
    }
    let mut programs = vec![program(allowed, SeccompAction::KillProcess, SeccompAction::Allow)?];
    for (errno, calls) in otherwise {
        let numbers = calls.keys().copied().collect::<Vec<_>>();
        let judge = program(calls, SeccompAction::Errno(errno.unsigned_abs()), SeccompAction::Allow)?;
        programs.push(only(&numbers, judge));
    }
    for (errno, calls) in failing {
        programs.push(program(calls, SeccompAction::Allow, SeccompAction::Errno(errno.unsigned_abs()))?);
    }
    Ok(programs)
}

/// Has a program judge these calls, and lets all others pass: of them the program that kills judges.
fn only(numbers: &[i64], judge: BpfProgram) -> BpfProgram {
    let step = |code: u32, jt: usize, k: i64| sock_filter { code: code as u16, jt: jt as u8, jf: 0, k: k as u32 };
    // The number is the first field of what a filter sees. A call that is meant jumps over the rest, to the program.
    let load = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0);
    let jumps =
        numbers.iter().enumerate().map(|(index, number)| step(libc::BPF_JMP | libc::BPF_JEQ, numbers.len() - index, *number));
    let pass = step(libc::BPF_RET, 0, libc::SECCOMP_RET_ALLOW.into());
    [load].into_iter().chain(jumps).chain([pass]).chain(judge).collect()
}

/// Over either family, by name or by default.
fn tcp() -> Vec<Result<Vec<SeccompCondition>, BackendError>> {
    let is = |argument, value| condition(argument, Op::Eq, value);
    let stream = || condition(1, Op::MaskedEq(SOCKET_TYPE), libc::SOCK_STREAM);
    let kinds = [libc::AF_INET, libc::AF_INET6].into_iter().flat_map(|family| [0, libc::IPPROTO_TCP].map(|by| (family, by)));
    kinds.map(|(family, by)| Ok(vec![is(0, family)?, stream()?, is(2, by)?])).collect()
}

fn condition(argument: u8, operator: Op, value: i32) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Len::Dword, operator, value.cast_unsigned().into())
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
    use super::super::profiles::Profile;
    use super::*;
    use libc::{O_CREAT, O_RDWR};

    /// Every table.
    fn tables() -> Vec<Vec<Row>> {
        let own = [HASHER, MONITOR, BEGINNING].map(<[Row]>::to_vec);
        let profiles = Profile::ALL.into_iter().flat_map(|profile| [profile.load(), profile.sign()]);
        own.into_iter().chain(profiles).collect()
    }

    /// What no table may ever hold. `openat`'s O_TRUNC is masked where it is allowed; `sendto` goes to no address; musl's `fork` makes a
    /// process and nothing else.
    #[rustfmt::skip]
    const NEVER: &[&str] = &[
        "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown",
        "fchown", "lchown", "fchownat", "truncate", "setxattr", "fsetxattr", "removexattr", "utimensat", "futimesat", "prlimit64",
        "open", "openat2", "creat", "link", "linkat", "symlink", "symlinkat", "rename", "renameat", "renameat2", "unlink", "unlinkat",
        "mkdir", "mknod", "mount", "setuid", "setgid", "setresuid", "setgroups", "bpf", "io_uring_setup", "userfaultfd", "keyctl",
        "bind", "listen", "accept", "accept4", "pidfd_getfd", "fork", "vfork", "sendmmsg", "recvmmsg",
    ];

    /// What only a token process does whose token is behind a socket.
    const SPEAKS: &[&str] = &["sendto", "sendmsg", "recvmsg"];

    #[test]
    fn no_table_holds_what_is_never_allowed() {
        for row in tables().into_iter().flatten().filter(|row| !matches!(row.when, When::Fails(_))) {
            let nowhere = (row.name, row.when) == ("sendto", When::IsNull(4));
            let fork = (row.name, row.by) == ("fork", Some(Libc::Musl));
            assert!(!NEVER.contains(&row.name) || nowhere || fork, "{}", row.name);
            // The one that empties a file is open for writing, too, which Landlock rules.
            let opens = [When::Without(2, O_TRUNC), When::Is(2, O_RDWR | O_CREAT | O_TRUNC)];
            assert!(row.name != "openat" || opens.contains(&row.when));
        }
        let of_files =
            [Profile::Softhsm, Profile::Kryoptic].into_iter().flat_map(|profile| [profile.load(), profile.sign()]).flatten();
        for row in [HASHER, MONITOR, BEGINNING].into_iter().flatten().copied().chain(of_files) {
            assert!(!SPEAKS.contains(&row.name), "{}", row.name);
        }
    }

    /// Of a token behind TCP: what may make a socket, or connect one unseen by Landlock.
    #[test]
    fn a_network_token_has_tcp_to_its_ports_alone() {
        for row in [Profile::Network.load(), Profile::Network.sign()].concat() {
            let expected = match row.name {
                "socket" => vec![When::Tcp, When::FailsElse(libc::EACCES)],
                "sendto" => vec![When::Without(3, libc::MSG_FASTOPEN)],
                "sendmsg" => vec![When::Without(2, libc::MSG_FASTOPEN)],
                _ => continue,
            };
            assert!(expected.contains(&row.when), "{row:?}");
        }
        assert!(Profile::Network.sign().iter().all(|row| !["socket", "connect"].contains(&row.name)));
    }

    #[test]
    fn every_row_has_a_reason_and_stands_once() {
        for table in tables() {
            for row in &table {
                assert!(row.why.len() >= 6, "{}", row.name);
                let same = |other: &&Row| (other.name, other.when, other.by) == (row.name, row.when, row.by);
                assert_eq!(table.iter().filter(same).count(), 1, "{}", row.name);
                // Where nothing else is allowed of it, that is `Fails`.
                let other = |other: &&Row| other.number == row.number && other.when != row.when;
                assert!(!matches!(row.when, When::FailsElse(_)) || table.iter().any(|row| other(&row)), "{}", row.name);
            }
        }
    }

    /// The layer of all processes joins tables: a free row of one must not loosen a bound row of the other.
    #[test]
    fn no_union_loosens_what_the_beginning_binds() {
        let loads = Profile::ALL.map(|profile| profile.load());
        let all = [HASHER, MONITOR].into_iter().flatten().chain(loads.iter().flatten());
        for row in all.filter(|row| row.when == When::Free) {
            assert!(BEGINNING.iter().all(|other| other.name != row.name || other.when == When::Free), "{}", row.name);
        }
    }

    #[test]
    fn after_login_less_is_allowed_than_before() {
        for profile in Profile::ALL {
            for row in profile.sign() {
                assert!(profile.load().iter().any(|other| other.name == row.name), "{profile:?} {}", row.name);
            }
        }
    }
}
