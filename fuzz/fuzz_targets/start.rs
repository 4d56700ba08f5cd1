//! The start message, as the hasher reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::channel::decode;
use sigsh::hasher::Start;

fuzz_target!(|packet: &[u8]| {
    if let Ok(message) = decode::<Start>(packet) {
        assert!(postcard::to_stdvec(&message).unwrap().len() <= packet.len());
    }
});
