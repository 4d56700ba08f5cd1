//! What is signed, is signed right: every kind of key, every size around a block, binary and armored, one after the other and at once.

use crate::world::{KEYS, field, records, verify, world};

#[test]
fn every_kind_of_key_over_ssh() {
    for key in KEYS {
        let data = format!("signed by {key}\n").into_bytes();
        for armor in [false, true] {
            let name = format!("{key}-{armor}");
            let request = format!("sign {key} --name {name}{}", if armor { " --armor" } else { "" });
            let outcome = world().ssh("build1", &request, &data);
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
            assert_eq!(outcome.out.starts_with(b"-----BEGIN PGP SIGNATURE-----\n"), armor);
            verify(key, &outcome.out, &data);
            let events =
                records(&format!("SIGSH_NAME={name}")).iter().map(|r| field(r, "SIGSH_EVENT").to_owned()).collect::<Vec<_>>();
            assert_eq!(events, ["intent", "signed"]);
        }
    }
}

#[test]
fn sizes_around_a_block() {
    for size in [1, 63, 64, 65, 127, 128, 129, 1 << 20] {
        let data = (0..size).map(|n| (n % 251) as u8).collect::<Vec<_>>();
        let outcome = world().session("build1", "sign ed25519").run(&data);
        verify("ed25519", outcome.signature(), &data);
    }
}
