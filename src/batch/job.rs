//! One signature, from the hash to what leaves.

use super::frame::Signed;
use crate::audit::{Facts, Field};
use crate::hash_state::{Body, HashAlgorithm, HashState, Salt};
use crate::openpgp::Draft;
use std::time::SystemTime;

/// One signature on its way.
pub(super) struct Job {
    /// Which of the grant's keys makes it.
    pub(super) key: usize,
    /// Of its artifact, where it has one.
    pub(super) name: Vec<u8>,
    pub(super) salt: Option<Salt>,
    pub(super) body: Option<Body>,
    /// When its intent was recorded: its creation time.
    pub(super) now: SystemTime,
    pub(super) facts: Facts,
    /// Whether it is the last one of its artifact.
    pub(super) last: bool,
    pub(super) stage: Stage,
}

pub(super) enum Stage {
    Hashed(HashState),
    Announced(HashState),
    Asked(Draft),
    Made(Draft, Vec<u8>),
    Checked(Signed),
    Recorded(Signed),
    /// Between two others.
    Moving,
}

impl Stage {
    pub(super) fn advance(&mut self, step: impl FnOnce(Stage) -> Stage) {
        *self = step(std::mem::replace(self, Stage::Moving));
    }
}

pub(super) fn index(number: u64, first: u64) -> usize {
    number.checked_sub(first).and_then(|index| index.try_into().ok()).unwrap_or(usize::MAX)
}

pub(super) fn digest_field(algorithm: HashAlgorithm) -> Field {
    match algorithm {
        HashAlgorithm::Sha256 => Field::SHA256,
        HashAlgorithm::Sha384 => Field::SHA384,
        HashAlgorithm::Sha512 => Field::SHA512,
    }
}
