//! What each kind of token needs: system calls until it is logged in, fewer from then on, and paths of its own. An operator chooses by
//! `sandbox = "…"` in the token's table.

mod kryoptic;
mod network;
mod p11_kit;
mod pcsc;
mod softhsm;
mod tpm;

use super::syscalls::{Row, When, glibc, musl, rare, row};
use libc::{O_TRUNC, PROT_EXEC, PROT_WRITE};
use std::path::{Path, PathBuf};

/// A kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// SoftHSM 2: files only. Its store stays read-only.
    Softhsm,
    /// Kryoptic: a file.
    Kryoptic,
    /// A TPM, by tpm2-pkcs11.
    Tpm,
    /// A smartcard, by OpenSC and pcscd.
    Pcsc,
    /// An HSM behind TCP.
    Network,
    /// A p11-kit server behind a socket: no module at all.
    #[serde(rename = "p11-kit")]
    P11Kit,
}

/// What every token process does until it is logged in, whatever its token.
const PROCESS_LOAD: &[Row] = &[
    row!(SYS_read, "messages of the monitor; a module's files, a server's answers"),
    row!(SYS_write, "messages to the monitor; what a module prints, to /dev/null; requests to a server"),
    row!(SYS_pread64, "the PIN marker; program headers of libraries"),
    row!(SYS_flock, "the PIN marker: one login at a time"),
    rare!(SYS_pwrite64, "the PIN marker, when the PIN file is new or the PIN wrong"),
    rare!(SYS_fdatasync, "the PIN marker must survive a crash"),
    rare!(SYS_ppoll, "waits for another session's login; waits for a message again when interrupted"),
    rare!(SYS_close, "files read; the connection to a server that has failed"),
    glibc!(rare!(SYS_brk, "memory: the heap of whoever has loaded a module grows")),
    musl!(rare!(SYS_mmap, When::Without(2, PROT_EXEC), "memory, when a piece of 1 MiB is used up")),
    rare!(SYS_munmap, "memory; the loader's cache"),
    rare!(SYS_mremap, "memory: the allocator grows large pieces"),
    rare!(SYS_madvise, "memory: the allocator may give back pages"),
    rare!(SYS_clock_gettime, "reads the time where the kernel offers no clock in user space (some virtual machines)"),
    row!(SYS_prctl, When::Is(0, libc::PR_SET_NO_NEW_PRIVS), "the second filter"),
    row!(SYS_seccomp, "the second filter"),
    rare!(SYS_exit_group, "leaves when it has failed, unless the monitor is faster and ends it"),
];

/// The same, logged in: no code can be loaded any more, no lock of ours taken but for the login that some keys want each time.
const PROCESS_SIGN: &[Row] = &[
    row!(SYS_read, "messages of the monitor; a module's files, a server's answers"),
    row!(SYS_write, "messages to the monitor; what a module prints, to /dev/null; requests to a server"),
    rare!(SYS_ppoll, "waits for a message again when interrupted; for another session's login"),
    row!(SYS_close, "the PIN marker, unless a key wants a login before each signature; a module's files and connections"),
    rare!(SYS_flock, When::OnMarker, "one login at a time, where the marker stays open"),
    rare!(SYS_pread64, When::OnMarker, "the same: whether the PIN was wrong meanwhile"),
    rare!(SYS_pwrite64, When::OnMarker, "the same: the PIN is wrong"),
    rare!(SYS_fdatasync, When::OnMarker, "the same: this must survive a crash"),
    glibc!(rare!(SYS_brk, "memory")),
    musl!(rare!(SYS_mmap, When::Without(2, PROT_EXEC), "memory")),
    rare!(SYS_munmap, "memory"),
    rare!(SYS_mremap, "memory"),
    rare!(SYS_madvise, "memory"),
    rare!(SYS_clock_gettime, "reads the time where the kernel offers no clock in user space (some virtual machines)"),
    row!(SYS_exit_group, "leaves"),
];

/// What loading any module takes besides.
const MODULE_LOAD: &[Row] = &[
    row!(SYS_openat, When::Without(2, O_TRUNC), "the module, its libraries, its files; Landlock says which paths"),
    row!(SYS_mmap, When::Without(2, PROT_EXEC), "data of the module and its libraries; memory"),
    row!(SYS_mmap, When::Without(2, PROT_WRITE), "their code, which is never writable at once"),
    row!(SYS_mprotect, When::Without(2, PROT_EXEC), "seals their relocated data"),
    row!(SYS_newfstatat, "sizes of libraries; a module's look at its files"),
    rare!(SYS_fstat, "the same, by descriptor, in C libraries that do not use newfstatat for it"),
    row!(SYS_futex, "one-time initialisation in the module's libraries"),
    rare!(SYS_getrandom, "a module masks the PIN in memory, seeds its generator"),
    rare!(SYS_readlinkat, "the loader, where a library is a link with a relative origin"),
    rare!(SYS_rt_sigprocmask, "the C library around thread-specific data"),
];

/// What any module does besides when it signs.
const MODULE_SIGN: &[Row] = &[
    rare!(SYS_getrandom, "RSA blinding, ECDSA nonces: when the module's library seeds its generator anew"),
    rare!(SYS_mmap, When::Without(2, PROT_EXEC), "memory, without execution"),
    rare!(SYS_futex, "locks in the module's libraries"),
];

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 6] =
        [Profile::Softhsm, Profile::Kryoptic, Profile::Tpm, Profile::Pcsc, Profile::Network, Profile::P11Kit];

    /// Those that this build can have: a static one loads no module.
    pub(super) fn possible() -> &'static [Profile] {
        if cfg!(target_feature = "crt-static") { &[Profile::P11Kit] } else { &Profile::ALL }
    }

    /// From before the module is loaded, or the server spoken to, until it is logged in.
    pub fn load(self) -> Vec<Row> {
        match self {
            Profile::Softhsm => [PROCESS_LOAD, MODULE_LOAD, softhsm::LOAD].concat(),
            Profile::Kryoptic => [PROCESS_LOAD, MODULE_LOAD, kryoptic::LOAD].concat(),
            Profile::Tpm => [PROCESS_LOAD, MODULE_LOAD, tpm::LOAD].concat(),
            Profile::Pcsc => [PROCESS_LOAD, MODULE_LOAD, pcsc::LOAD].concat(),
            Profile::Network => [PROCESS_LOAD, MODULE_LOAD, network::LOAD].concat(),
            Profile::P11Kit => [PROCESS_LOAD, p11_kit::LOAD].concat(),
        }
    }

    /// From then on.
    pub fn sign(self) -> Vec<Row> {
        match self {
            Profile::Softhsm => [PROCESS_SIGN, MODULE_SIGN, softhsm::SIGN].concat(),
            Profile::Kryoptic => [PROCESS_SIGN, MODULE_SIGN, kryoptic::SIGN].concat(),
            Profile::Tpm => [PROCESS_SIGN, MODULE_SIGN, tpm::SIGN].concat(),
            Profile::Pcsc => [PROCESS_SIGN, MODULE_SIGN, pcsc::SIGN].concat(),
            Profile::Network => [PROCESS_SIGN, MODULE_SIGN, network::SIGN].concat(),
            Profile::P11Kit => PROCESS_SIGN.to_vec(),
        }
    }

    /// Whether its module's environment names what its sandbox needs.
    pub fn is_complete<'a>(self, environment: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        self != Profile::Tpm || tpm::has_device(environment)
    }

    /// What its module finds in its environment.
    pub fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Profile::Pcsc => pcsc::ENVIRONMENT,
            _ => &[],
        }
    }

    /// Its own paths to read, given the module's environment.
    pub(super) fn read<'a>(self, environment: &dyn Fn(&str) -> Option<&'a str>) -> Vec<&'a Path> {
        match self {
            Profile::Softhsm => softhsm::read(environment),
            Profile::Kryoptic => kryoptic::read(environment),
            Profile::Network => network::READ.iter().map(Path::new).collect(),
            Profile::Pcsc => pcsc::read(environment),
            Profile::Tpm => tpm::read(environment),
            _ => Vec::new(),
        }
    }

    /// The same to read and write. Not to find one is an error.
    pub(super) fn write<'a>(self, environment: &dyn Fn(&str) -> Option<&'a str>) -> Vec<PathBuf> {
        match self {
            Profile::Tpm => tpm::write(environment),
            _ => Vec::new(),
        }
    }
}
