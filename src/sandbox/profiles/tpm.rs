//! TPMs: tpm2-pkcs11 with its store, and the device that the kernel itself shares out among its users (/dev/tpmrm0, Linux 4.12).
//!
//! Of the ways to a TPM (TCTI) this is the only one: a broker (tpm2-abrmd) is reached over D-Bus, which takes threads and sockets, a
//! program (`cmd:`) takes an exec. Here is neither thread nor socket, and after login no file is opened any more.
//!
//! The store is only read, but for its lock: the module empties that file, and locks and removes it, each time it is loaded. It may
//! not remove it, so that the operator makes it once and nobody ever makes another file here.
//!
//! What remains: whoever takes over the token process can send the TPM any command that the account may send, until the session ends.

use super::Environment;
use crate::sandbox::syscalls::{Row, When, rare, row};
use libc::{EACCES, O_CREAT, O_RDWR, O_TRUNC};
use std::path::{Component, Path, PathBuf};

/// How tpm2-pkcs11 opens its lock: `fopen` with `w+`. To write takes a right of Landlock, which it has to the lock and the device alone.
const LOCK: i32 = O_RDWR | O_CREAT | O_TRUNC;

pub(super) const LOAD: &[Row] = &[
    row!(SYS_openat, When::Is(2, LOCK), "the store's lock"),
    #[cfg(target_arch = "x86_64")]
    row!(SYS_unlink, When::Fails(EACCES), "removes the store's lock; does not look at what becomes of that"),
    #[cfg(not(target_arch = "x86_64"))]
    row!(SYS_unlinkat, When::Fails(EACCES), "removes the store's lock; does not look at what becomes of that"),
    row!(SYS_fcntl, When::Without(1, !7), "SQLite's locks in the store; no F_SETOWN or F_SETSIG, which send signals"),
    row!(SYS_getpid, "SQLite and libcrypto look for forks"),
    #[cfg(target_arch = "x86_64")]
    row!(SYS_poll, "waits for the device's answers"),
];

pub(super) const SIGN: &[Row] = &[
    #[cfg(target_arch = "x86_64")]
    row!(SYS_poll, "waits for the device's answers"),
    row!(SYS_getpid, "libcrypto looks for forks"),
    row!(SYS_newfstatat, "SQLite's look at the store when it closes it"),
    rare!(SYS_fstat, "the same, by descriptor, in C libraries that do not use newfstatat for it"),
];

/// Where tpm2-pkcs11 keeps what it knows of keys: the TPM itself holds but one.
fn store<'a>(environment: &Environment<'a>) -> &'a Path {
    Path::new(environment("TPM2_PKCS11_STORE").unwrap_or("/etc/tpm2_pkcs11"))
}

pub(super) fn read<'a>(environment: &Environment<'a>) -> Vec<&'a Path> {
    vec![store(environment), Path::new("/etc/ssl/openssl.cnf")]
}

pub(super) fn write(environment: &Environment<'_>) -> Vec<PathBuf> {
    let lock = store(environment).join("tpm2_pkcs11.sqlite3.lock");
    device(environment).map(PathBuf::from).into_iter().chain([lock]).collect()
}

fn device<'a>(environment: &Environment<'a>) -> Option<&'a Path> {
    environment("TPM2_PKCS11_TCTI")?.strip_prefix("device:").map(Path::new)
}

/// Whether it names a device: a path below /dev and not upwards again, for the module may write it.
pub(super) fn has_device(environment: &Environment<'_>) -> bool {
    let is_below = |path: &Path| path.components().all(|part| part != Component::ParentDir) && path != Path::new("/dev");
    device(environment).is_some_and(|path| path.starts_with("/dev") && is_below(path))
}
