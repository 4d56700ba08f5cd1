//! The messages of the monitor, as the hasher reads them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::channel::{after, decode};
use sigsh::hash_state::HashState;
use sigsh::hasher::{Go, Start};
use std::time::Instant;

fuzz_target!(|packet: &[u8]| {
    let before = Instant::now();
    if let Ok(start) = decode::<Start>(packet) {
        assert!(after(start.idle) >= before);
    }
    if let Ok(Go(wanted)) = decode(packet) {
        for wanted in wanted.iter().flatten() {
            assert!(HashState::begin(wanted).size().is_some_and(|size| size <= 32));
        }
    }
});
