//! A hash state from somebody who may lie: what is taken can be exported again, be continued and finished.
//! The first byte chooses the hash.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::hash_state::{HashAlgorithm, HashState};

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let algorithm = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512][usize::from(first % 3)];
    let limit = if first & 0x80 == 0 { u64::MAX } else { 1 << 30 };
    if let Ok(mut state) = HashState::import(algorithm, bytes, limit) {
        assert!(state.size().unwrap() <= limit);
        assert_eq!(state.export(<[u8]>::to_vec), bytes);
        state.update(&[b'x'; 300]);
        assert_eq!(state.finish().len(), algorithm.digest_len());
    }
});
