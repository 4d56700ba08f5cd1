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

/// A module's environment: the value of a name in it.
pub type Environment<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

/// What every token process does, whatever its token.
const PROCESS: &[Row] = &[
    row!(SYS_read, "messages of the monitor; a module's files, a server's answers"),
    row!(SYS_write, "messages to the monitor; what a module prints, to /dev/null; requests to a server"),
    rare!(SYS_ppoll, "waits for another session's login; waits for a message again when interrupted"),
    glibc!(rare!(SYS_brk, "memory: the heap of whoever has loaded a module grows")),
    musl!(rare!(SYS_mmap, When::Without(2, PROT_EXEC), "memory, when a piece of 1 MiB is used up")),
    rare!(SYS_munmap, "memory; the loader's cache"),
    rare!(SYS_mremap, "memory: the allocator grows large pieces"),
    rare!(SYS_madvise, "memory: the allocator may give back pages"),
    rare!(SYS_clock_gettime, "reads the time where the kernel offers no clock in user space (some virtual machines)"),
];

/// What it does besides until it is logged in.
const PROCESS_LOAD: &[Row] = &[
    row!(SYS_pread64, "the PIN marker; program headers of libraries"),
    row!(SYS_flock, "the PIN marker: one login at a time"),
    rare!(SYS_pwrite64, "the PIN marker, when the PIN file is new or the PIN wrong"),
    rare!(SYS_fdatasync, "the PIN marker must survive a crash"),
    rare!(SYS_close, "files read; the connection to a server that has failed"),
    row!(SYS_prctl, When::Is(0, libc::PR_SET_NO_NEW_PRIVS), "the second filter"),
    row!(SYS_seccomp, "the second filter"),
    rare!(SYS_exit_group, "leaves when it has failed, unless the monitor is faster and ends it"),
];

/// And from then on: no code can be loaded any more, no lock of ours taken but for the login that some keys want each time.
const PROCESS_SIGN: &[Row] = &[
    row!(SYS_close, "the PIN marker, unless a key wants a login before each signature; a module's files and connections"),
    rare!(SYS_flock, When::OnMarker, "one login at a time, where the marker stays open"),
    rare!(SYS_pread64, When::OnMarker, "the same: whether the PIN was wrong meanwhile"),
    rare!(SYS_pwrite64, When::OnMarker, "the same: the PIN is wrong"),
    rare!(SYS_fdatasync, When::OnMarker, "the same: this must survive a crash"),
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

/// Where dynamic libraries and the loader's cache are.
const LIBRARIES: &[&str] = &["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"];

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
        let [load, _] = self.tables();
        [&[PROCESS, PROCESS_LOAD, self.if_module(MODULE_LOAD)][..], load].concat().concat()
    }

    /// From then on.
    pub fn sign(self) -> Vec<Row> {
        let [_, sign] = self.tables();
        [&[PROCESS, PROCESS_SIGN, self.if_module(MODULE_SIGN)][..], sign].concat().concat()
    }

    /// What of both is its own.
    fn tables(self) -> [&'static [&'static [Row]]; 2] {
        match self {
            Profile::Softhsm => [&[softhsm::LOAD], &[softhsm::SIGN]],
            Profile::Kryoptic => [&[kryoptic::LOAD], &[kryoptic::SIGN]],
            Profile::Tpm => [&[tpm::LOAD], &[tpm::SIGN]],
            Profile::Pcsc => [&[pcsc::LOAD], &[pcsc::SIGN]],
            Profile::Network => [&[network::SPEAK, network::LOAD], &[network::SPEAK, network::SIGN]],
            Profile::P11Kit => [&[p11_kit::LOAD], &[]],
        }
    }

    /// What only a process with a module needs.
    fn if_module<T>(self, what: &'static [T]) -> &'static [T] {
        if self == Profile::P11Kit { &[] } else { what }
    }

    /// Whether its module's environment names what its sandbox needs.
    pub fn is_complete(self, environment: &Environment<'_>) -> bool {
        self != Profile::Tpm || tpm::has_device(environment)
    }

    /// What its module finds in its environment.
    pub fn environment(self) -> &'static [(&'static str, &'static str)] {
        if self == Profile::Pcsc { pcsc::ENVIRONMENT } else { &[] }
    }

    /// Its own paths to read, given the module's environment. What does not exist is passed over.
    pub(super) fn read<'a>(self, environment: &Environment<'a>) -> Vec<&'a Path> {
        let mut paths = match self {
            Profile::Softhsm => softhsm::read(environment),
            Profile::Kryoptic => kryoptic::read(environment),
            Profile::Tpm => tpm::read(environment),
            Profile::Pcsc => pcsc::read(environment),
            Profile::Network => network::READ.iter().map(Path::new).collect(),
            Profile::P11Kit => Vec::new(),
        };
        paths.extend(self.if_module(LIBRARIES).iter().map(Path::new));
        paths
    }

    /// The same to read and write. Not to find one is an error.
    pub(super) fn write(self, environment: &Environment<'_>) -> Vec<PathBuf> {
        if self == Profile::Tpm { tpm::write(environment) } else { Vec::new() }
    }
}
