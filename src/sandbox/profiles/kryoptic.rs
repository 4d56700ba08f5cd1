//! Kryoptic: its configuration and its database.

use crate::sandbox::syscalls::Row;

pub(super) const LOAD: &[Row] = &[];

pub(super) const SIGN: &[Row] = &[];
