//! The hasher's answer, as the monitor reads it, down to the digest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::channel::decode;
use sigsh::hash_state::{HashAlgorithm, HashState};
use sigsh::hasher::Report;

fuzz_target!(|packet: &[u8]| {
    match decode::<Report>(packet) {
        Ok(Report::Done(state, claimed, _)) => {
            for algorithm in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
                for state in [Some(&state), claimed.as_ref()].into_iter().flatten() {
                    let _ = HashState::import(algorithm, state, u64::MAX).map(HashState::finish);
                }
            }
        }
        Ok(Report::Fault(fault)) => assert!(fault.to_string().len() < 200),
        Err(_) => {}
    }
});
