//! The hasher's answer, as the monitor reads it, down to the digest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::channel::decode;
use sigsh::failure::Failure;
use sigsh::hash_state::{HashAlgorithm, HashState};
use sigsh::hasher::{HasherError, Report};

fuzz_target!(|packet: &[u8]| {
    match decode::<Report>(packet) {
        Ok(Report::Artifact { states, .. }) => {
            for algorithm in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
                for state in &states {
                    let _ = HashState::import(algorithm, state, u64::MAX).map(HashState::finish);
                }
            }
        }
        Ok(Report::Fault(fault, name)) => {
            let line = Failure::from(HasherError::Input(fault, name)).line;
            assert!(line.len() < 1024 && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        }
        Ok(Report::End) => {}
        Err(_) => {}
    }
});
