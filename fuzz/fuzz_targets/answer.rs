//! The token process's answer, as the monitor reads it: its texts stay one printable line, its public keys are keys or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::channel::decode;
use sigsh::failure::Failure;
use sigsh::openpgp::Version;
use sigsh::token::{Answer, TokenError};
use std::time::SystemTime;

fuzz_target!(|packet: &[u8]| {
    match decode::<Answer>(packet) {
        Ok(Answer::Open(Some(public))) => {
            for version in [Version::V4, Version::V6] {
                let _ = public.packet(version, SystemTime::UNIX_EPOCH);
            }
        }
        Ok(Answer::Failed(fault)) => {
            let reason = Failure::from(TokenError::Fault(fault)).reason;
            assert!(reason.len() < 1024 && reason.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{reason:?}");
        }
        Ok(Answer::Vouched(_) | Answer::Loaded | Answer::Open(None) | Answer::Signed(_)) | Err(_) => {}
    }
});
