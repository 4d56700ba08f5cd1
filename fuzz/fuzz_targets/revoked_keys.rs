//! The list of revoked keys: taken, or an error with the number of its line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::config::Revoked;

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"SSHKRL\n\0") {
        return; // See krl.rs.
    }
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    match Revoked::parse(bytes) {
        Ok(revoked) => assert!(revoked.entries() <= lines),
        Err((line, _)) => assert!(line <= lines),
    }
});
