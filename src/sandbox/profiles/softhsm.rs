//! SoftHSM 2: its configuration and its store, which it may only read.

use super::Environment;
use crate::sandbox::syscalls::{Row, When, rare, row};
use libc::{EAFNOSUPPORT, O_TRUNC};
use std::path::Path;

pub(super) const LOAD: &[Row] = &[
    row!(SYS_getdents64, "lists its token store"),
    rare!(SYS_lseek, "rereads an object file that another process has changed"),
    row!(SYS_fcntl, When::Without(1, !7), "advisory locks on its object files; no F_SETOWN or F_SETSIG, which send signals"),
    row!(SYS_getpid, "looks for forks"),
    rare!(SYS_ftruncate, "empties its token file where a store is writable; it needs a writable descriptor"),
    rare!(SYS_socket, When::Fails(EAFNOSUPPORT), "wants to report errors to syslog; it goes on without"),
];

pub(super) const SIGN: &[Row] = &[
    row!(SYS_openat, When::Without(2, O_TRUNC), "reopens its object files at every call"),
    row!(SYS_newfstatat, "the same"),
    rare!(SYS_fstat, "the same, in C libraries that do not use newfstatat for it"),
    row!(SYS_fcntl, When::Without(1, !7), "the same: advisory locks"),
    rare!(SYS_getdents64, "the same: lists its store again when another process has added a key"),
    rare!(SYS_lseek, "the same, in a file that has changed"),
    row!(SYS_getpid, "it and its libcrypto look for forks"),
    rare!(SYS_socket, "fails as before: that filter stays in force, and of two the stricter counts"),
];

pub(super) fn read<'a>(environment: &Environment<'a>) -> Vec<&'a Path> {
    let configuration = environment("SOFTHSM2_CONF").unwrap_or("/etc/softhsm/softhsm2.conf");
    vec![Path::new(configuration), Path::new("/etc/ssl/openssl.cnf")]
}
