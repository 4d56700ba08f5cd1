//! The file that SSH_USER_AUTH names: a key or a certificate, or neither.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::config::Revoked;
use sigsh::identity::Login;
use std::time::{Duration, SystemTime};

fuzz_target!(|text: &str| {
    if let Ok(login) = Login::parse(text) {
        if let Login::Certificate(certificate) = &login {
            assert!(certificate.principals.len() <= 256 && certificate.key_id.len() <= 4096);
        }
        let _ = login.check_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40));
        assert!(Revoked::default().of(&login).is_none());
    }
});
