//! What the monitor asks, as the token process reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::channel::{MAX_MESSAGE, decode};
use sigsh::token::Request;

fuzz_target!(|packet: &[u8]| {
    if let Ok(Request::Sign(_, _, data)) = decode(packet) {
        assert!(data.len() < MAX_MESSAGE);
    }
});
