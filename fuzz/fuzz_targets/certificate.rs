//! A certificate: refused in one line, or good for a draft, and the same when exported and read again. The first byte chooses the hash.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::hash_state::{Form, HashAlgorithm, HashState, Wanted};
use sigsh::openpgp::{Draft, SigningKey};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let hash = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512][usize::from(first % 3)];
    // 2027: the examples are from before.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    match SigningKey::read(bytes, hash, now) {
        Ok(key) => {
            let key = Rc::new(key);
            for armor in [false, true] {
                // A signature of a kind that Sequoia reads and does not write is in the way.
                let Ok(bytes) = key.export(armor) else { continue };
                let again = SigningKey::read(&bytes, hash, now).unwrap();
                assert_eq!(again.fingerprint(), key.fingerprint());
            }
            let _ = key.still_alive(now + Duration::from_secs(1 << 31));
            let salt = key.salt().unwrap();
            let draft =
                Draft::new(&key, Form::Binary, salt, HashState::begin(&Wanted { salt, ..Wanted::plain(hash) }), now).unwrap();
            assert!(draft.to_sign().unwrap().1.len() <= 128);
            // A salt is random: such a run could not be repeated.
            if salt.is_none() {
                let _ = draft.complete(bytes, false);
            }
            let _ = SigningKey::read(bytes, hash, now).unwrap().held(None);
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});
