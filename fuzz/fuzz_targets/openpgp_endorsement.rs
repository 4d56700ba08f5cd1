//! What a build sends: refused in one line, or a permit that ends, is counted, and is the operator's; and then a signature over bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::config::Revoked;
use sigsh::hash_state::{HashAlgorithm, HashState, Wanted};
use sigsh::request::Digest;
use sigsh::warrant::openpgp::Operators;
use sigsh::warrant::{Place, Subject, Warrant};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fuzz_target!(|bytes: &[u8]| {
    // 2027: the examples are from a minute before.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let revoked = Rc::new(Revoked::default());
    let operators = Operators::read(include_bytes!("../operator.pgp"), &revoked, DAY, now).unwrap();
    let name = |name: &str| name.to_owned().try_into().unwrap();
    let subject = Subject {
        key: name("release"),
        fingerprint: "0".repeat(40),
        size: 4,
        digest: Digest { algorithm: HashAlgorithm::Sha512, bytes: vec![0; 64] },
        place: Place { host: "sign1.example.org".to_owned(), fleet: None },
        requester: name("build1"),
    };
    let mut warrant = Warrant::default();
    match operators.judge(&subject, bytes, now, &mut warrant) {
        Ok(()) => {
            assert!(warrant.check(now).is_ok() && warrant.check(now + DAY).is_err());
            assert!(warrant.quotas().iter().all(|quota| quota.max == 64 && !quota.name.contains([' ', '"', '\\'])));
            let mut state = HashState::begin(&Wanted::plain(HashAlgorithm::Sha512));
            state.update(b"data");
            let _ = warrant.fits(&state);
            state.update(b"x");
            assert!(warrant.fits(&state).is_err());
        }
        Err(error) => assert!(!error.to_string().contains('\n') && warrant.quotas().is_empty(), "{error}"),
    }
});
