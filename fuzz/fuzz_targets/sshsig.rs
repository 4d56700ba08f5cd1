//! A signature of ssh-keygen: read and verified, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::warrant::sshsig::{SshSig, plain_key};

fuzz_target!(|bytes: &[u8]| {
    let Some(signature) = SshSig::parse(bytes) else { return };
    assert!(SshSig::is_one(bytes));
    if let Some(key) = plain_key(&signature.key) {
        let _ = signature.verify(&key, &signature.digest(b"data"));
    }
});
