//! `[audit]`.

use super::values::AbsolutePath;
use serde::Deserialize;
use std::path::Path;

/// `[audit]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    journal: AbsolutePath,
    state: AbsolutePath,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit { journal: AbsolutePath(super::JOURNAL.into()), state: AbsolutePath("/var/lib/sigsh/state".into()) }
    }
}

impl Audit {
    /// journald's native socket.
    pub fn journal(&self) -> &Path {
        &self.journal
    }

    /// The account's own directory: markers and locks.
    pub fn state(&self) -> &Path {
        &self.state
    }
}
