//! A KRL: taken, or an error; and asked for certificates.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::config::Revoked;
use sigsh::identity::certificate::Certificate;

const PRINT: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

fuzz_target!(|bytes: &[u8]| {
    if !bytes.starts_with(b"SSHKRL\n\0") {
        return;
    }
    let Ok(list) = Revoked::parse(bytes) else { return };
    for serial in [0, 1, 2, 64, u64::MAX - 1, u64::MAX] {
        let key = || PRINT.to_owned().try_into().expect("a fingerprint");
        let (key_id, principals) = (b"id".to_vec(), Vec::new());
        let certificate =
            Certificate { key: key(), ca: key(), user: true, serial, key_id, principals, valid_after: 0, valid_before: 1 };
        assert!(list.of_certificate(&certificate).is_none() || list.entries() > 0);
    }
});
