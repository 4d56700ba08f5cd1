//! `[limits]`.

use super::values::Time;
use serde::Deserialize;
use std::time::Duration;

/// `[limits]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    idle: Time,
    total: Time,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { idle: Time(Duration::from_secs(30)), total: Time(Duration::from_secs(2 * 3600)) }
    }
}

impl Limits {
    /// How long the next byte may take.
    pub fn idle(&self) -> Duration {
        self.idle.0
    }

    /// How long the whole input may take.
    pub fn total(&self) -> Duration {
        self.total.0
    }
}
