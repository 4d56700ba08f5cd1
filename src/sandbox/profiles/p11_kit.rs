//! A p11-kit server: its socket is connected before, and there is nothing else.

use crate::sandbox::syscalls::{Row, When, row};

pub(super) const LOAD: &[Row] = &[row!(SYS_mlock, "requests to the server, one of which holds the PIN, stay out of swap")];

pub(super) const SIGN: &[Row] = &[row!(SYS_close, "the connection, at its end")];
