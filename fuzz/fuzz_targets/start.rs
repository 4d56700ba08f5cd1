//! The start message, as the hasher reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::channel::{after, decode};
use sigsh::hasher::Start;
use std::time::Instant;

fuzz_target!(|packet: &[u8]| {
    let before = Instant::now();
    if let Ok(start) = decode::<Start>(packet) {
        assert!(after(start.idle) >= before);
    }
});
