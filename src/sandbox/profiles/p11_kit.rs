//! A p11-kit server: its socket is connected before, and there is nothing else; once logged in, nothing at all of its own.

use crate::sandbox::syscalls::{Row, When, row};

pub(super) const LOAD: &[Row] = &[row!(SYS_mlock, "requests to the server, one of which holds the PIN, stay out of swap")];
