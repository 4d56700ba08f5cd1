//! `[limits]`.

use super::values::{Count, Rate, Size, Time};
use serde::Deserialize;
use std::time::Duration;

/// `[limits]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    idle: Time,
    total: Time,
    throughput: Size,
    sessions: Count,
    refusals: Rate,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            idle: Time(Duration::from_secs(30)),
            total: Time(Duration::from_secs(2 * 3600)),
            throughput: Size(1024),
            sessions: Count(64),
            // A thousand builds may fail at once and each leaves its record. Day after day it is 25,000 of them, at most 4 KiB
            // each: with the 4 GiB that journald keeps, nobody washes out a month.
            refusals: Rate::per_hour(1000),
        }
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

    /// How many bytes must come in a second.
    pub fn throughput(&self) -> u64 {
        self.throughput.0
    }

    /// How many sessions of one client may run at once.
    pub fn sessions(&self) -> u64 {
        self.sessions.0
    }

    /// How many refusals and failures of one client are recorded.
    pub fn refusals(&self) -> Rate {
        self.refusals
    }
}
