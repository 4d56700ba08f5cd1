//! What somebody may have signed, judged by a list of people: it counts only where it verifies, and nobody here has signed anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::config::{Approvals, Approvers};
use sigsh::hash_state::HashAlgorithm;
use sigsh::request::{Digest, Moment, Statement};
use sigsh::warrant::approval::{APPROVE, BREAK_GLASS, Panel, Requester};
use sigsh::warrant::{Place, Subject, Warrant, WarrantError};

/// A key of each kind; the halves that sign with them are lost.
const PEOPLE: &str = include_str!("../corpus/allowed_signers/kinds");

fuzz_target!(|bytes: &[u8]| {
    let table = "need = 1\napprovers = \"/x\"\nexclude-requester = true\nuser-verification = true\n";
    let table: Approvals = toml::from_str(table).expect("a table");
    let subject = Subject {
        key: String::from("release").try_into().expect("a name"),
        fingerprint: "AB".repeat(20),
        size: 3,
        digest: Digest { algorithm: HashAlgorithm::Sha512, bytes: vec![7; 64] },
        place: Place { host: "sign1.example.org".to_owned(), fleet: Some("release".to_owned()) },
        requester: String::from("build1").try_into().expect("a name"),
    };
    let now = Moment(1_800_000_000);
    let given = [Statement { not_after: Moment(now.0 + 60), signature: bytes.into() }];
    for purpose in [APPROVE, BREAK_GLASS] {
        let approvers = Approvers::parse(PEOPLE.as_bytes()).expect("a list");
        let panel = Panel::of(&table, purpose, Requester { key: None, names: vec!["build1".to_owned()] }, approvers);
        let judged = panel.judge(&subject, &given, now.time(), &mut Warrant::default());
        assert!(matches!(judged, Err(WarrantError::Approvals { given: 0, need: 1, why }) if why.len() < 200));
    }
});
