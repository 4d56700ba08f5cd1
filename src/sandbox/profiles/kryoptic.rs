//! Kryoptic: its configuration and its database, an SQLite file, which it may only read.

use super::Environment;
use crate::sandbox::syscalls::{Row, When, rare, row};
use libc::ENOENT;
use std::path::Path;

pub(super) const LOAD: &[Row] = &[
    row!(SYS_fcntl, When::Without(1, !7), "SQLite's locks on the database; no F_SETOWN or F_SETSIG, which send signals"),
    row!(SYS_statx, "the size of its configuration"),
    row!(SYS_getpid, "SQLite and libcrypto look for forks"),
];

pub(super) const SIGN: &[Row] = &[
    row!(SYS_fcntl, When::Without(1, !7), "SQLite's locks on the database"),
    row!(SYS_pread64, "SQLite reads its pages"),
    row!(SYS_newfstatat, "SQLite looks for a journal that somebody left"),
    rare!(SYS_openat, When::Fails(ENOENT), "libcrypto looks for its configuration; no file is opened any more"),
    rare!(SYS_fstat, "the database's size, in C libraries that do not use newfstatat for it"),
    rare!(SYS_getpid, "libcrypto looks for forks"),
];

/// What makes SQLite's generator of random names, which it does not need, start in its usual way.
const RANDOM: &str = "/dev/urandom";

pub(super) fn read<'a>(environment: &Environment<'a>) -> Vec<&'a Path> {
    [environment("KRYOPTIC_CONF"), Some(RANDOM)].into_iter().flatten().map(Path::new).collect()
}
