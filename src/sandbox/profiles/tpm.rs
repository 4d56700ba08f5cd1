//! TPMs: tpm2-pkcs11, its store, and the device or its broker.

use crate::sandbox::syscalls::Row;

pub(super) const LOAD: &[Row] = &[];

pub(super) const SIGN: &[Row] = &[];
