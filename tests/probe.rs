//! `probe PROCESS ACTION`: enters the sandbox of one of sigsh's processes, through the very functions that sigsh calls, and then
//! tries an action by a raw system call. For the tests alone.
//!
//! | PROCESS | what has been entered |
//! |---|---|
//! | `none` | nothing: the proof that the action works when nobody forbids it |
//! | `begin` | what all processes share |
//! | `hasher`, `monitor` | the process's own |
//! | `PROFILE-settled`, `PROFILE-load`, `PROFILE-sign` | on a host with such a token, `softhsm` for one: what all share but the hasher; its profile before and after login |
//!
//! It prints `done`, `errno N`, or `signal N` for the signal that it died of. Instead of an action a number may stand: that
//! of a system call, with arguments of zero. Of several, `fork,0,1`, it prints a line for each: its name, and what became of it.
//!
//! `probe list` names the actions.
//!
//! The actions work on files in /usr/lib/sigsh-test/home that belong to the account, and on the process `PROBE_SIBLING`, which does too.

// Raw calls are what this program is for.
#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use libc::{c_char, c_int, c_long, c_void};
use nix::poll::PollFlags;
use nix::sys::wait::WaitStatus;
use sigsh::channel::{self, Channel, after};
use sigsh::process::Child;
use sigsh::sandbox::{self, Profile, Surroundings, syscalls};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;
use std::{env, mem, ptr};

/// What belongs to the tests. Like all below /usr/lib it is readable for the token process.
const HOME: &str = "/usr/lib/sigsh-test";

/// Of an HSM that is not there.
const PORTS: &[u16] = &[1792];
/// The store of a TPM that is not there.
const TPM: &str = "/usr/lib/sigsh-test/tpm";

const OWN: &CStr = c"/usr/lib/sigsh-test/home/file";
const NEW: &CStr = c"/usr/lib/sigsh-test/home/new";
const DECOY: &CStr = c"/usr/lib/sigsh-test/home/decoy";
const PAGE: usize = 4096;

/// What an attacker finds at hand in the process: made before its own sandbox, so that only the action itself is judged.
struct Ready {
    stream: c_int,
    datagram: c_int,
    own: c_int,
    root: c_int,
    page: *mut c_void,
    stack: *mut c_void,
    sibling: c_int,
    parent: c_int,
    /// Already dead, and not yet waited for. The monitor has not told its sandbox of the last one.
    children: [c_int; 3],
}

impl Ready {
    fn make() -> Ready {
        let map = |length| unsafe {
            libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        let ready = unsafe {
            Ready {
                stream: libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0),
                datagram: libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0),
                own: libc::open(OWN.as_ptr(), libc::O_RDWR),
                root: libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY),
                page: map(PAGE),
                stack: map(16 * PAGE).add(16 * PAGE),
                sibling: env::var("PROBE_SIBLING").ok().and_then(|pid| pid.parse().ok()).expect("PROBE_SIBLING"),
                parent: libc::getppid(),
                children: [(); 3].map(|()| child_of_its_own()),
            }
        };
        let prepared = [ready.stream, ready.datagram, ready.own, ready.root].iter().all(|fd| (1..10).contains(fd));
        if !prepared {
            leave(UNPREPARED);
        }
        ready
    }
}

fn child_of_its_own() -> c_int {
    match unsafe { libc::fork() } {
        0 => leave(0),
        child => child,
    }
}

macro_rules! call {
    ($number:ident $(, $argument:expr)* $(,)?) => {
        unsafe { libc::syscall(libc::$number $(, $argument as c_long)*) }
    };
}

/// Address of a unix socket, and its length.
fn decoy() -> (libc::sockaddr_un, usize) {
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    for (to, from) in address.sun_path.iter_mut().zip(DECOY.to_bytes()) {
        *to = *from as c_char;
    }
    (address, mem::size_of::<libc::sockaddr_un>())
}

/// A process that was made leaves at once.
fn child_leaves(result: c_long) -> c_long {
    if result == 0 {
        call!(SYS_exit_group, 0);
    }
    result
}

extern "C" fn thread(_: *mut c_void) -> c_int {
    0
}

fn open(path: &CStr, flags: c_int) -> c_long {
    call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o600)
}

fn map(protection: c_int) -> c_long {
    call!(SYS_mmap, 0, PAGE, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
}

type Action = (&'static str, fn(&Ready) -> c_long);

const ACTIONS: &[Action] = &[
    // Files: to read.
    ("open-read", |_| open(c"/etc/passwd", libc::O_RDONLY)),
    ("stat-path", |_| {
        let mut stat: libc::stat = unsafe { mem::zeroed() };
        call!(SYS_newfstatat, libc::AT_FDCWD, c"/etc/passwd".as_ptr(), ptr::from_mut(&mut stat), 0)
    }),
    ("open-pin", |_| open(c"/etc/sigsh/hsm.pin", libc::O_RDONLY)),
    ("open-directory", |_| open(c"/", libc::O_RDONLY | libc::O_DIRECTORY)),
    ("open-at-descriptor", |r| call!(SYS_openat, r.root, c"etc/passwd".as_ptr(), libc::O_RDONLY)),
    ("open-proc-self", |_| open(c"/proc/self/environ", libc::O_RDONLY)),
    ("open-proc-root", |_| open(c"/proc/self/root/etc/passwd", libc::O_RDONLY)),
    ("open-proc-descriptor", |r| {
        let mut path = *b"/proc/self/fd/0\0";
        path[14] += r.own as u8;
        call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDWR)
    }),
    ("openat2", |_| {
        let how = [0u64; 3];
        call!(SYS_openat2, libc::AT_FDCWD, c"/etc/passwd".as_ptr(), how.as_ptr(), 24)
    }),
    ("open-by-handle", |r| {
        let mut handle = [0u32; 34];
        handle[0] = 128;
        let mut mount = 0i32;
        let named = call!(SYS_name_to_handle_at, r.root, c"etc/passwd".as_ptr(), handle.as_mut_ptr(), &raw mut mount, 0);
        if named == 0 { call!(SYS_open_by_handle_at, r.root, handle.as_ptr(), libc::O_RDONLY) } else { named }
    }),
    // Files: to write.
    ("open-write", |_| open(OWN, libc::O_WRONLY)),
    ("open-append", |_| open(OWN, libc::O_WRONLY | libc::O_APPEND)),
    ("open-create", |_| open(NEW, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)),
    ("open-truncate", |_| open(OWN, libc::O_RDONLY | libc::O_TRUNC)),
    ("open-write-truncate", |_| open(OWN, libc::O_WRONLY | libc::O_TRUNC)),
    ("truncate", |_| call!(SYS_truncate, OWN.as_ptr(), 0)),
    ("ftruncate", |r| call!(SYS_ftruncate, r.own, 0)),
    ("write-other", |r| call!(SYS_write, r.own, c"x".as_ptr(), 1)),
    ("pwrite-other", |r| call!(SYS_pwrite64, r.own, c"x".as_ptr(), 1, 0)),
    ("sendfile-other", |r| call!(SYS_sendfile, r.own, r.own, 0, 0)),
    ("sendfile-stdout", |r| call!(SYS_sendfile, 1, r.own, 0, 0)),
    ("write-stdout", |_| call!(SYS_write, 1, c"".as_ptr(), 0)),
    // What a file is.
    ("fchmod", |r| call!(SYS_fchmod, r.own, 0o666)),
    ("fchmodat", |_| call!(SYS_fchmodat, libc::AT_FDCWD, OWN.as_ptr(), 0o666)),
    ("fchown", |r| call!(SYS_fchown, r.own, libc::geteuid(), -1)),
    ("fchownat", |_| call!(SYS_fchownat, libc::AT_FDCWD, OWN.as_ptr(), libc::geteuid(), -1, 0)),
    ("setxattr", |_| call!(SYS_setxattr, OWN.as_ptr(), c"user.x".as_ptr(), c"x".as_ptr(), 1, 0)),
    ("fsetxattr", |r| call!(SYS_fsetxattr, r.own, c"user.x".as_ptr(), c"x".as_ptr(), 1, 0)),
    ("utimensat", |_| call!(SYS_utimensat, libc::AT_FDCWD, OWN.as_ptr(), 0, 0)),
    ("renameat2", |_| call!(SYS_renameat2, libc::AT_FDCWD, OWN.as_ptr(), libc::AT_FDCWD, NEW.as_ptr(), 0)),
    ("unlinkat", |_| call!(SYS_unlinkat, libc::AT_FDCWD, OWN.as_ptr(), 0)),
    ("linkat", |_| call!(SYS_linkat, libc::AT_FDCWD, OWN.as_ptr(), libc::AT_FDCWD, NEW.as_ptr(), 0)),
    ("symlinkat", |_| call!(SYS_symlinkat, OWN.as_ptr(), libc::AT_FDCWD, NEW.as_ptr())),
    ("mkdirat", |_| call!(SYS_mkdirat, libc::AT_FDCWD, NEW.as_ptr(), 0o700)),
    ("mknodat", |_| call!(SYS_mknodat, libc::AT_FDCWD, NEW.as_ptr(), libc::S_IFIFO | 0o600, 0)),
    // Programs, processes, threads.
    ("execve", |_| {
        let arguments = [c"true".as_ptr(), ptr::null()];
        call!(SYS_execve, c"/bin/true".as_ptr(), arguments.as_ptr(), 0)
    }),
    ("execveat", |r| {
        let arguments = [c"true".as_ptr(), ptr::null()];
        call!(SYS_execveat, r.root, c"bin/true".as_ptr(), arguments.as_ptr(), 0, 0)
    }),
    ("clone-process", |_| child_leaves(call!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0))),
    ("clone-thread", |r| {
        let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
        unsafe { libc::clone(thread, r.stack, flags, ptr::null_mut()) }.into()
    }),
    ("clone3", |_| {
        let arguments = [0, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
        child_leaves(call!(SYS_clone3, arguments.as_ptr(), mem::size_of_val(&arguments)))
    }),
    // Other processes.
    ("ptrace-me", |_| call!(SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0)),
    ("ptrace-sibling", |r| call!(SYS_ptrace, libc::PTRACE_SEIZE, r.sibling, 0, 0)),
    ("read-memory-of-sibling", |r| {
        let mut byte = 0u8;
        let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        // No address is right; a process that may be read says EFAULT, one that may not EPERM.
        let remote = libc::iovec { iov_base: 8 as *mut c_void, iov_len: 1 };
        let result = call!(SYS_process_vm_readv, r.sibling, &raw const local, 1, &raw const remote, 1, 0);
        if nix::errno::Errno::last_raw() == libc::EFAULT { 0 } else { result }
    }),
    ("kill-parent", |r| call!(SYS_kill, r.parent, libc::SIGKILL)),
    ("kill-sibling", |r| call!(SYS_kill, r.sibling, libc::SIGKILL)),
    ("kill-child", |r| call!(SYS_kill, r.children[0], libc::SIGKILL)),
    ("kill-second-child", |r| call!(SYS_kill, r.children[1], libc::SIGKILL)),
    ("kill-other-child", |r| call!(SYS_kill, r.children[2], libc::SIGKILL)),
    ("kill-group-of-child", |r| call!(SYS_kill, -r.children[0], libc::SIGKILL)),
    ("continue-child", |r| call!(SYS_kill, r.children[0], libc::SIGCONT)),
    ("kill-all", |_| call!(SYS_kill, -1, libc::SIGKILL)),
    ("continue-sibling", |r| call!(SYS_kill, r.sibling, libc::SIGCONT)),
    ("tgkill-sibling", |r| call!(SYS_tgkill, r.sibling, r.sibling, libc::SIGCONT)),
    ("pidfd-sibling", |r| call!(SYS_pidfd_open, r.sibling, 0)),
    ("prlimit-sibling", |r| {
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        call!(SYS_prlimit64, r.sibling, libc::RLIMIT_NOFILE, &raw const limit, 0)
    }),
    ("setpriority-sibling", |r| call!(SYS_setpriority, libc::PRIO_PROCESS, r.sibling, 19)),
    ("dumpable", |_| call!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0)),
    ("personality", |_| call!(SYS_personality, 0xffff_ffff_i64)),
    ("setsid", |_| call!(SYS_setsid)),
    ("setuid", |_| call!(SYS_setuid, libc::geteuid())),
    ("unshare", |_| call!(SYS_unshare, libc::CLONE_FS)),
    // Sockets.
    ("socket-inet", |_| call!(SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0)),
    ("socket-mptcp", |_| call!(SYS_socket, libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)),
    ("socket-inet6", |_| call!(SYS_socket, libc::AF_INET6, libc::SOCK_DGRAM, 0)),
    ("socket-netlink", |_| call!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 0)),
    ("socket-unix", |_| call!(SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0)),
    ("socketpair", |_| {
        let mut pair = [0; 2];
        call!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr())
    }),
    ("connect-decoy", |r| {
        let (address, length) = decoy();
        call!(SYS_connect, r.stream, &raw const address, length)
    }),
    ("sendto-decoy", |r| {
        let (mut address, length) = decoy();
        for (to, from) in address.sun_path.iter_mut().skip(DECOY.to_bytes().len()).zip(b"-datagram") {
            *to = *from as c_char;
        }
        call!(SYS_sendto, r.datagram, c"x".as_ptr(), 1, 0, &raw const address, length)
    }),
    ("bind", |r| {
        let (mut address, length) = decoy();
        address.sun_path[DECOY.to_bytes().len()] = b'2' as c_char;
        call!(SYS_bind, r.stream, &raw const address, length)
    }),
    // Code.
    ("mmap-exec", |_| map(libc::PROT_READ | libc::PROT_EXEC)),
    ("mmap-write-exec", |_| map(libc::PROT_WRITE | libc::PROT_EXEC)),
    ("mprotect-exec", |r| call!(SYS_mprotect, r.page, PAGE, libc::PROT_READ | libc::PROT_EXEC)),
    ("memfd", |_| call!(SYS_memfd_create, c"x".as_ptr(), 0)),
    // The kernel's wider surface. Much of it may be closed to everybody on a host.
    ("io_uring", |_| {
        let parameters = [0u8; 256];
        call!(SYS_io_uring_setup, 1, parameters.as_ptr())
    }),
    ("bpf", |_| call!(SYS_bpf, 0, 0, 0)),
    ("userfaultfd", |_| call!(SYS_userfaultfd, 1)),
    ("keyctl", |_| call!(SYS_keyctl, 0, -3, 0)),
    ("mount", |_| call!(SYS_mount, c"none".as_ptr(), c"/mnt".as_ptr(), c"tmpfs".as_ptr(), 0, 0)),
    ("chroot", |_| call!(SYS_chroot, c"/".as_ptr())),
    ("perf", |_| call!(SYS_perf_event_open, 0, 0, 0, 0, 0)),
    #[cfg(target_arch = "x86_64")]
    ("open-legacy", |_| call!(SYS_open, c"/etc/passwd".as_ptr(), libc::O_RDONLY)),
    #[cfg(target_arch = "x86_64")]
    ("creat", |_| call!(SYS_creat, NEW.as_ptr(), 0o600)),
    #[cfg(target_arch = "x86_64")]
    ("chmod", |_| call!(SYS_chmod, OWN.as_ptr(), 0o666)),
    #[cfg(target_arch = "x86_64")]
    ("chmod-pin", |_| call!(SYS_chmod, c"/etc/sigsh/hsm.pin".as_ptr(), 0o666)),
    #[cfg(target_arch = "x86_64")]
    ("chown", |_| call!(SYS_chown, OWN.as_ptr(), libc::geteuid(), -1)),
    #[cfg(target_arch = "x86_64")]
    ("rename", |_| call!(SYS_rename, OWN.as_ptr(), NEW.as_ptr())),
    #[cfg(target_arch = "x86_64")]
    ("unlink", |_| call!(SYS_unlink, OWN.as_ptr())),
    #[cfg(target_arch = "x86_64")]
    ("mkdir", |_| call!(SYS_mkdir, NEW.as_ptr(), 0o700)),
    #[cfg(target_arch = "x86_64")]
    ("symlink", |_| call!(SYS_symlink, OWN.as_ptr(), NEW.as_ptr())),
    #[cfg(target_arch = "x86_64")]
    ("fork", |_| child_leaves(call!(SYS_fork))),
    // The same numbers mean other calls through the 32-bit entry: 39 is mkdir there, getpid here.
    #[cfg(target_arch = "x86_64")]
    ("entry-of-32-bits", |_| {
        let result: i64;
        unsafe { std::arch::asm!("int 0x80", inout("rax") 20i64 => result, options(nostack)) };
        result
    }),
];

fn main() {
    let mut arguments = env::args().skip(1);
    let process = arguments.next().expect("probe PROCESS ACTION");
    let Some(action) = arguments.next() else {
        assert_eq!(process, "list");
        return ACTIONS.iter().for_each(|(name, _)| println!("{name}"));
    };
    let one = |name: &str| match (name.parse::<c_long>(), ACTIONS.iter().find(|(action, _)| *action == name)) {
        (Ok(number), _) => attempt(&process, &|_| unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) }),
        (_, Some((_, act))) => attempt(&process, act),
        _ => panic!("no such action: {name}"),
    };
    if !action.contains(',') {
        return println!("{}", one(&action));
    }
    for name in action.split(',') {
        println!("{name} {}", one(name));
    }
}

/// In a process of its own, so that its death can be told.
fn attempt(process: &str, act: &dyn Fn(&Ready) -> c_long) -> String {
    match unsafe { libc::fork() } {
        0 => inside(process, act),
        child => {
            let mut status = 0;
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            let status = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
            match status {
                0 => "done".to_owned(),
                UNPREPARED => panic!("{process}: no sandbox"),
                errno @ 1..=127 => format!("errno {errno}"),
                signal => format!("signal {}", signal - 128),
            }
        }
    }
}

/// An exit code that no errno has.
const UNPREPARED: c_int = 127;

fn inside(process: &str, act: &dyn Fn(&Ready) -> c_long) -> ! {
    if process != "none" {
        demand(sandbox::begin());
    }
    match process {
        "none" | "begin" | "hasher" => {}
        _ => {
            let (profile, ports) = profile(process);
            demand(sandbox::settle(&[profile], ports));
        }
    }
    match process {
        "none" | "begin" => judge(act, &Ready::make()),
        _ if process.ends_with("settled") => judge(act, &Ready::make()),
        "monitor" => {
            let ready = Ready::make();
            let [first, second, _] = ready.children.map(|child| Some(nix::unistd::Pid::from_raw(child)));
            demand(sandbox::enter_monitor(&[first, second]));
            judge(act, &ready)
        }
        _ => {
            let keep: &[c_int] = if process == "hasher" { &[0] } else { &[] };
            let child = Child::fork(c"sigsh-probe", keep, |channel| {
                for _ in 0..3 * usize::from(keep.is_empty()) {
                    unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
                }
                confined(process, &channel, act)
            });
            let Ok(mut child) = child else { leave(UNPREPARED) };
            let _ = channel::wait([(child.channel().as_fd(), PollFlags::POLLIN)], after(Duration::from_secs(20)));
            match child.end().0 {
                Some(WaitStatus::Exited(_, code)) => leave(code),
                Some(WaitStatus::Signaled(_, signal, _)) => leave(128 + signal as c_int),
                _ => leave(UNPREPARED),
            }
        }
    }
}

/// Whose it is, and the ports of such a token. The monitor's is SoftHSM's.
fn profile(process: &str) -> (Profile, &'static [u16]) {
    let is = |profile: &Profile| process.split('-').next() == Some(&format!("{profile:?}").to_lowercase());
    match Profile::ALL.into_iter().find(is) {
        Some(Profile::Network) => (Profile::Network, PORTS),
        Some(profile) => (profile, &[]),
        None if process == "monitor" => (Profile::Softhsm, &[]),
        None => leave(UNPREPARED),
    }
}

fn confined(process: &str, channel: &Channel, act: &dyn Fn(&Ready) -> c_long) -> ! {
    let ready = Ready::make();
    match process {
        "hasher" => {
            let body = call!(SYS_memfd_create, c"body".as_ptr(), syscalls::MEMFD) as c_int;
            demand(sandbox::enter_hasher(channel, unsafe { BorrowedFd::borrow_raw(body) }));
        }
        _ => {
            // What a configuration with SoftHSM says, or with a TPM, or with an HSM behind TCP.
            let read = vec![Path::new("/var/lib/sigsh/tokens"), Path::new("/usr/lib/softhsm/libsofthsm2.so"), Path::new(HOME)];
            let environment = |name: &str| match name {
                "SOFTHSM2_CONF" => Some("/etc/sigsh/softhsm2.conf"),
                "TPM2_PKCS11_STORE" => Some(TPM),
                "TPM2_PKCS11_TCTI" => Some("device:/usr/lib/sigsh-test/tpm/device"),
                _ => None,
            };
            let (profile, connect) = profile(process);
            demand(sandbox::enter_token(&Surroundings { profile, read, write: vec![], connect, environment: &environment }));
            if process.ends_with("sign") {
                demand(sandbox::narrow_token(profile, -1));
            }
        }
    }
    judge(act, &ready)
}

fn demand<E>(outcome: Result<(), E>) {
    if outcome.is_err() {
        leave(UNPREPARED);
    }
}

fn judge(act: &dyn Fn(&Ready) -> c_long, ready: &Ready) -> ! {
    let result = act(ready);
    let errno = match result {
        -1 => nix::errno::Errno::last_raw(),
        // The 32-bit entry has no C library to set errno.
        negative if negative < 0 => -negative as c_int,
        _ => 0,
    };
    leave(errno)
}

fn leave(code: c_int) -> ! {
    unsafe { libc::_exit(code) }
}
