//! The currency between hasher and monitor: a hash that has taken in the file and not yet the signature's trailer.
//!
//! A finished digest never crosses the border, because whoever appends the trailer decides what is being signed.

use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::os::fd::OwnedFd;

/// The hash algorithms a signature may use (RFC 9580 §9.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    /// SHA2-256, 32 bytes.
    Sha256,
    /// SHA2-384, 48 bytes.
    Sha384,
    /// SHA2-512, 64 bytes.
    Sha512,
}

impl HashAlgorithm {
    /// The name used in configuration, requests and records.
    pub fn name(self) -> &'static str {
        match self {
            HashAlgorithm::Sha256 => "sha256",
            HashAlgorithm::Sha384 => "sha384",
            HashAlgorithm::Sha512 => "sha512",
        }
    }

    /// Reads such a name.
    pub fn from_name(name: &str) -> Option<HashAlgorithm> {
        [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512].into_iter().find(|it| it.name() == name)
    }

    /// Length of a digest in bytes.
    pub fn digest_len(self) -> usize {
        match self {
            HashAlgorithm::Sha256 => 32,
            HashAlgorithm::Sha384 => 48,
            HashAlgorithm::Sha512 => 64,
        }
    }
}

/// What of an artifact a signature covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// Its bytes (RFC 9580 §5.2.1.1).
    #[default]
    Binary,
    /// Its lines, whichever way they end (RFC 9580 §5.2.1.2).
    Text,
    /// The same, without blanks at their ends, and the text stands in the same message (RFC 9580 §7).
    Cleartext,
}

impl Form {
    /// The largest text that is signed together with its signature, in bytes.
    pub const MAX_CLEARTEXT: u64 = 16 << 20;

    /// The greatest number of bytes that an artifact may have.
    pub fn limit(self) -> u64 {
        if self == Form::Cleartext { Form::MAX_CLEARTEXT } else { u64::MAX }
    }

    /// The name used in records.
    pub fn name(self) -> &'static str {
        match self {
            Form::Binary => "artifact",
            Form::Text => "text",
            Form::Cleartext => "cleartext",
        }
    }
}

/// What a v6 signature hashes before the artifact: random, drawn anew for each (RFC 9580 §5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salt([u8; 32]);

impl Salt {
    /// Draws one.
    ///
    /// # Errors
    /// When the kernel has no randomness.
    pub fn draw() -> Result<Salt, getrandom::Error> {
        let mut salt = Salt([0; 32]);
        getrandom::fill(&mut salt.0).map(|()| salt)
    }

    /// One that somebody else has drawn, if it is as long as this hash wants it.
    pub fn of(algorithm: HashAlgorithm, bytes: &[u8]) -> Option<Salt> {
        let mut salt = Salt([0; 32]);
        let room = salt.0.get_mut(..algorithm.digest_len() / 2).filter(|room| room.len() == bytes.len())?;
        room.copy_from_slice(bytes);
        Some(salt)
    }

    /// As many bytes as this hash wants: half of a digest's (RFC 9580 §9.5).
    pub fn bytes(&self, algorithm: HashAlgorithm) -> &[u8] {
        self.0.get(..algorithm.digest_len() / 2).unwrap_or_default()
    }
}

/// One hash that is to be made of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// By which algorithm.
    pub algorithm: HashAlgorithm,
    /// Of what.
    pub form: Form,
    /// What to hash first.
    pub salt: Option<Salt>,
}

impl Wanted {
    /// The hash of the bytes as they come, and nothing else.
    pub fn plain(algorithm: HashAlgorithm) -> Wanted {
        Wanted { algorithm, form: Form::Binary, salt: None }
    }

    /// Whether it is that.
    pub fn is_plain(&self) -> bool {
        *self == Wanted::plain(self.algorithm)
    }
}

/// What the hasher has made of an artifact.
pub struct Hashed {
    /// Its name, where it has one: the client's word.
    pub name: Vec<u8>,
    /// What was wanted, each open for the trailer.
    pub states: Vec<(Wanted, HashState)>,
    /// The artifact as a cleartext-signed message has it.
    pub body: Option<Body>,
}

/// The text of a cleartext-signed message, with its dashes escaped. Only the hasher has seen it.
pub struct Body {
    /// Where it stands, from the first byte on.
    pub file: OwnedFd,
    /// Its length in bytes.
    pub length: u64,
}

/// Why the bytes of a state are not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StateError {
    /// Not the length that the algorithm's state has, or a position or tail that it cannot have.
    #[error("not a hash state of this algorithm")]
    Malformed,
    /// A count of bytes that no file has; finishing such a state would overflow.
    #[error("the hash state counts more bytes than the limit")]
    TooLong,
    /// It counts no block, but has not the initial value: nobody gets there by hashing.
    #[error("the hash state has no blocks but not the initial value")]
    Unreachable,
}

/// A hash in progress.
#[derive(Clone)]
pub enum HashState {
    /// SHA2-256; 104 bytes when exported.
    Sha256(Sha256),
    /// SHA2-384; 208 bytes when exported.
    Sha384(Sha384),
    /// SHA2-512; 208 bytes when exported.
    Sha512(Sha512),
}

macro_rules! each {
    ($state:expr, $hash:ident => $do:expr) => {
        match $state {
            HashState::Sha256($hash) => $do,
            HashState::Sha384($hash) => $do,
            HashState::Sha512($hash) => $do,
        }
    };
}

impl HashState {
    /// Length in bytes of the longest exported state.
    pub const MAX: usize = 208;

    /// The greatest size in bytes of what a state has taken in: SHA-256 counts bits, in 64 of them, and a trailer is to follow.
    const LONGEST: u64 = 1 << 60;

    /// The state that has taken in the salt, if there is one, and nothing else.
    pub fn begin(wanted: &Wanted) -> HashState {
        let mut state = HashState::new(wanted.algorithm);
        state.update(wanted.salt.as_ref().map(|salt| salt.bytes(wanted.algorithm)).unwrap_or_default());
        state
    }

    /// The state that has taken in nothing.
    pub fn new(algorithm: HashAlgorithm) -> HashState {
        match algorithm {
            HashAlgorithm::Sha256 => HashState::Sha256(Sha256::new()),
            HashAlgorithm::Sha384 => HashState::Sha384(Sha384::new()),
            HashAlgorithm::Sha512 => HashState::Sha512(Sha512::new()),
        }
    }

    /// Which hash this is.
    pub fn algorithm(&self) -> HashAlgorithm {
        match self {
            HashState::Sha256(_) => HashAlgorithm::Sha256,
            HashState::Sha384(_) => HashAlgorithm::Sha384,
            HashState::Sha512(_) => HashAlgorithm::Sha512,
        }
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        each!(self, hash => hash.update(bytes));
    }

    /// The digest of all that was taken in.
    pub fn finish(self) -> Vec<u8> {
        each!(self, hash => hash.finalize().to_vec())
    }

    /// Hands the state, as bytes, to `take`: chaining value, count of blocks, length of the rest, the rest, zeros.
    /// Allocates nothing: the hasher must not.
    pub fn export<T>(&self, take: impl FnOnce(&[u8]) -> T) -> T {
        each!(self, hash => take(&hash.serialize()))
    }

    /// Reads what [`HashState::export`] wrote, from somebody who may lie.
    ///
    /// # Errors
    /// Whatever [`StateError`] names. `limit` is the greatest number of bytes that the state may have taken in.
    pub fn import(algorithm: HashAlgorithm, bytes: &[u8], limit: u64) -> Result<HashState, StateError> {
        let state = match algorithm {
            HashAlgorithm::Sha256 => HashState::Sha256(read(bytes)?),
            HashAlgorithm::Sha384 => HashState::Sha384(read(bytes)?),
            HashAlgorithm::Sha512 => HashState::Sha512(read(bytes)?),
        };
        let (blocks, _, rest) = state.counts();
        // One bit more than a u64 of bytes is already more than any file.
        if u64::try_from(blocks).is_err() || state.size().is_none_or(|size| size > limit.min(HashState::LONGEST)) {
            return Err(StateError::TooLong);
        }
        let mut fresh = HashState::new(algorithm);
        fresh.update(rest.as_slice());
        if blocks == 0 && state.export(<[u8]>::to_vec) != fresh.export(<[u8]>::to_vec) {
            return Err(StateError::Unreachable);
        }
        Ok(state)
    }

    /// How many bytes were taken in; `None` when more than a `u64` counts.
    pub fn size(&self) -> Option<u64> {
        let (blocks, block_len, rest) = self.counts();
        u64::try_from(blocks).ok()?.checked_mul(block_len)?.checked_add(rest.len().try_into().ok()?)
    }

    /// Whole blocks taken in, length of a block, and the bytes after the last of them.
    fn counts(&self) -> (u128, u64, Vec<u8>) {
        let (chain, counter, block_len) = match self {
            HashState::Sha256(_) => (32, 8, 64),
            HashState::Sha384(_) | HashState::Sha512(_) => (64, 16, 128),
        };
        self.export(|bytes| {
            let mut after = bytes.iter().copied().skip(chain);
            let blocks = after.by_ref().take(counter).enumerate().fold(0, |n, (i, byte)| n | u128::from(byte) << (8 * i));
            let rest_len = after.next().unwrap_or(0).into();
            (blocks, block_len, after.take(rest_len).collect())
        })
    }
}

fn read<H: SerializableState>(bytes: &[u8]) -> Result<H, StateError> {
    let state = SerializedState::<H>::try_from(bytes).map_err(|_| StateError::Malformed)?;
    H::deserialize(&state).map_err(|_| StateError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [HashAlgorithm; 3] = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];

    #[test]
    fn a_state_survives_the_border_at_every_position() {
        for algorithm in ALL {
            for size in [0, 1, 63, 64, 65, 127, 128, 129, 1000] {
                let bytes = vec![7; size];
                let mut state = HashState::new(algorithm);
                state.update(&bytes);
                let exported = state.export(<[u8]>::to_vec);
                let mut back = HashState::import(algorithm, &exported, size as u64).unwrap();
                assert_eq!(back.size(), Some(size as u64));
                back.update(b"trailer");
                state.update(b"trailer");
                assert_eq!(back.finish(), state.finish());
            }
        }
    }

    #[test]
    fn lengths_are_those_of_the_published_format() {
        let length = |algorithm| HashState::new(algorithm).export(<[u8]>::len);
        assert_eq!(ALL.map(length), [104, 208, HashState::MAX]);
    }

    #[test]
    fn hostile_states_are_refused() {
        let import = |bytes: &[u8]| HashState::import(HashAlgorithm::Sha512, bytes, 1 << 40).err();
        let good = HashState::new(HashAlgorithm::Sha512).export(<[u8]>::to_vec);
        assert_eq!(import(&good), None);
        assert_eq!(import(&good[1..]), Some(StateError::Malformed));
        assert_eq!(import(&[&good[..], &[0]].concat()), Some(StateError::Malformed));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(import(&with(0, !good[0])), Some(StateError::Unreachable));
        assert_eq!(import(&with(79, 0x80)), Some(StateError::TooLong), "a count of 2^127 blocks");
        assert_eq!(import(&with(71, 1)), Some(StateError::TooLong), "a count of 2^56 blocks");
        assert_eq!(import(&with(80, 128)), Some(StateError::Malformed), "a rest as long as a block");
        assert_eq!(import(&with(207, 1)), Some(StateError::Malformed), "a tail that is not zero");
    }

    #[test]
    fn a_count_of_bits_that_overflows_is_refused() {
        let mut bytes = HashState::new(HashAlgorithm::Sha256).export(<[u8]>::to_vec);
        for (blocks, refused) in
            [(1u64 << 54, None), ((1 << 54) + 1, Some(StateError::TooLong)), (1 << 55, Some(StateError::TooLong))]
        {
            bytes[32..40].copy_from_slice(&blocks.to_le_bytes());
            let state = HashState::import(HashAlgorithm::Sha256, &bytes, u64::MAX);
            assert_eq!(state.as_ref().err(), refused.as_ref());
            if let Ok(mut state) = state {
                state.update(&[0; 1000]);
                state.finish();
            }
        }
    }

    #[test]
    fn the_limit_is_exact() {
        let mut state = HashState::new(HashAlgorithm::Sha256);
        state.update(&[0; 65]);
        let bytes = state.export(<[u8]>::to_vec);
        assert!(HashState::import(HashAlgorithm::Sha256, &bytes, 65).is_ok());
        assert_eq!(HashState::import(HashAlgorithm::Sha256, &bytes, 64).err(), Some(StateError::TooLong));
    }
}
