//! What a build endorses by an ssh certificate: those of the examples that are good, and no other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::config::Revoked;
use sigsh::hash_state::HashAlgorithm;
use sigsh::request::Digest;
use sigsh::warrant::ssh::Authorities;
use sigsh::warrant::{Place, Subject};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// The authority of the examples; nobody has its key any more.
const CA: &str = "SHA256:UDcS1yEPoC8e7UuVrfxDVZOKVcCkp2LNz5sClAr99Uk";

/// The second for which they were made.
const NOW: u64 = 1_767_247_200;

fuzz_target!(|bytes: &[u8]| {
    let subject = Subject {
        key: "release".to_owned().try_into().expect("a name"),
        fingerprint: "AB".repeat(20),
        size: 4,
        // Of four bytes, "data".
        digest: Digest { algorithm: HashAlgorithm::Sha512, bytes: SHA512.to_vec() },
        place: Place { host: "sign1.example.org".to_owned(), fleet: None },
        requester: "build1".to_owned().try_into().expect("a name"),
    };
    let day = Duration::from_secs(24 * 60 * 60);
    let keys = vec![CA.to_owned().try_into().expect("a fingerprint")];
    let authorities = Authorities::new(keys, &Rc::new(Revoked::default()), day);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    if let Ok(permit) = authorities.permit(&subject, bytes, now) {
        assert_eq!((permit.serial.as_str(), permit.quota.max, permit.by.as_str()), ("7", 64, CA));
        assert!(permit.quota.since <= now && permit.expires > now && permit.expires <= now + day);
    }
});

const SHA512: [u8; 64] = [
    119, 199, 206, 154, 93, 134, 187, 56, 109, 68, 59, 185, 99, 144, 250, 161, 32, 99, 49, 88, 105, 156, 136, 68, 195, 11, 19, 171,
    11, 249, 39, 96, 183, 228, 65, 106, 234, 57, 125, 185, 27, 74, 192, 229, 221, 86, 184, 239, 126, 75, 6, 97, 98, 171, 31, 220,
    8, 131, 25, 206, 109, 239, 200, 118,
];
