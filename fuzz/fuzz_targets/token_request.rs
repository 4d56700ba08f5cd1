//! What the monitor asks, as the token process reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::channel::decode;
use sigsh::token::Request;

fuzz_target!(|packet: &[u8]| {
    if let Ok(message) = decode::<Request>(packet) {
        assert!(postcard::to_stdvec(&message).unwrap().len() <= packet.len());
    }
});
