//! A list of approvers: taken, or an error with the number of its line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::config::Approvers;

fuzz_target!(|bytes: &[u8]| {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    match Approvers::parse(bytes) {
        Ok(approvers) => assert!(approvers.entries() <= lines),
        Err((line, _)) => assert!((1..=lines).contains(&line)),
    }
});
