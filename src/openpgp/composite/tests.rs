//! Keys that Sequoia makes in software stand for a token's.

use super::super::signature::tests::{by as draft, key, parse, raw, refuses};
use super::super::{Detached, OpenpgpError, Pinned, Public, Scheme, SigningKey, Version};
use super::Composite;
use crate::hash_state::{Form, HashAlgorithm, HashState};
use openpgp::Profile::RFC9580;
use openpgp::cert::CipherSuite;
use openpgp::crypto::{KeyPair, mpi};
use openpgp::packet::{Key, key};
use sequoia_openpgp as openpgp;
use std::rc::Rc;
use std::time::SystemTime;

const HASHES: [HashAlgorithm; 3] = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];

fn suite(kind: Composite) -> CipherSuite {
    match kind {
        Composite::MlDsa65Ed25519 => CipherSuite::MLDSA65_Ed25519,
        Composite::MlDsa87Ed448 => CipherSuite::MLDSA87_Ed448,
    }
}

fn made(kind: Composite) -> (KeyPair, Rc<SigningKey>) {
    key(RFC9580, suite(kind))
}

/// A key as a token has it, its point bare or in an OCTET STRING, its curve by name or identifier.
fn in_token(key: &mpi::PublicKey, der: bool) -> Public {
    let (eddsa, mldsa) = match key {
        mpi::PublicKey::MLDSA65_Ed25519 { eddsa, mldsa } => (eddsa.to_vec(), mldsa.to_vec()),
        mpi::PublicKey::MLDSA87_Ed448 { eddsa, mldsa } => (eddsa.to_vec(), mldsa.to_vec()),
        other => panic!("{other:?}"),
    };
    let [name, identifier] = Composite::of(key).unwrap().curves();
    match der {
        false => Public::Composite { params: name.to_vec(), point: eddsa, mldsa },
        true => {
            let point = [&[4, eddsa.len() as u8], &eddsa[..]].concat();
            Public::Composite { params: identifier.to_vec(), point, mldsa }
        }
    }
}

#[test]
fn a_pair_in_a_token_is_the_key_of_its_certificate() {
    let [(_, one), (_, two)] = Composite::ALL.map(made);
    for (own, other) in [(&one, &two), (&two, &one)] {
        for der in [false, true] {
            let public = in_token(own.key().mpis(), der);
            assert!(public.is_of(own.key()) && !public.is_of(other.key()));
            let packet: Key<key::PublicParts, key::PrimaryRole> = public.packet(Version::V6, own.key().creation_time()).unwrap();
            assert_eq!(packet.fingerprint(), own.key().fingerprint());
            assert!(matches!(public.packet(Version::V4, SystemTime::now()), Err(OpenpgpError::OnlyV6)));
        }
    }
}

/// Another length, another curve, a half of another pair: no key at all, or not this one.
#[test]
fn halves_that_do_not_belong_together() {
    let [(_, one), (_, two)] = Composite::ALL.map(made);
    let (_, third) = made(Composite::MlDsa65Ed25519);
    let [one_, two_, third] = [&one, &two, &third].map(|key| match in_token(key.key().mpis(), false) {
        Public::Composite { params, point, mldsa } => (params, point, mldsa),
        other => panic!("{other:?}"),
    });
    let no_pair = [
        (&one_.0, &one_.1, &two_.2[..]),
        (&two_.0, &one_.1, &one_.2),
        (&two_.0, &two_.1, &one_.2),
        (&one_.0, &one_.1, &one_.2[..1951]),
        (&one_.0, &one_.1, &[]),
        (&one_.1, &one_.0, &one_.2),
        (&one_.0, &one_.2, &one_.1),
    ];
    for (params, point, mldsa) in no_pair {
        let public = Public::Composite { params: params.clone(), point: point.clone(), mldsa: mldsa.to_vec() };
        assert!(!public.is_of(one.key()) && !public.is_of(two.key()));
        let refused = public.packet(Version::V6, SystemTime::now());
        assert!(matches!(&refused, Err(OpenpgpError::Library(why)) if why.ends_with("not a pair of RFC 9980")), "{refused:?}");
    }
    for (eddsa, mldsa) in [(&one_, &third), (&third, &one_)] {
        let public = Public::Composite { params: eddsa.0.clone(), point: eddsa.1.clone(), mldsa: mldsa.2.clone() };
        assert!(!public.is_of(one.key()));
    }
}

#[test]
fn every_hash_of_256_bits_or_more_will_do() {
    for kind in Composite::ALL {
        let (mut pair, key) = made(kind);
        for hash in HASHES {
            for form in [Form::Binary, Form::Text] {
                let draft = draft(&key, hash, form, b"data", SystemTime::now());
                let (scheme, digest) = draft.to_sign().unwrap();
                assert_eq!((scheme, digest.len()), (Scheme::Composite(kind), hash.digest_len()));
                let raw = raw(&mut pair, hash, &digest);
                assert_eq!(raw.len(), kind.signature_lengths().iter().sum::<usize>());
                let good = draft.complete(&raw, false).unwrap();
                assert_eq!(parse(&good).digest_prefix()[..], digest[..2]);
                let armored = draft.complete(&raw, true).unwrap();
                assert!(armored.len() <= 6604, "batch::frame counts on that: {}", armored.len());
                draft.check(&armored, true).unwrap();
            }
        }
    }
}

/// Both halves must be good: neither stands for the other, not even in its place.
#[test]
fn half_a_signature_is_none() {
    for kind in Composite::ALL {
        let (mut pair, key) = made(kind);
        let (mut stranger, _) = made(kind);
        let draft = draft(&key, HashAlgorithm::Sha512, Form::Binary, b"data", SystemTime::now());
        let (_, digest) = draft.to_sign().unwrap();
        let [good, other] = [&mut pair, &mut stranger].map(|pair| raw(pair, HashAlgorithm::Sha512, &digest));
        let (old, another) = (raw(&mut pair, HashAlgorithm::Sha512, &[0; 64]), kind.signature_lengths()[0]);
        let (eddsa, mldsa) = good.split_at(another);
        let bit = |at: usize| good.iter().enumerate().map(|(n, byte)| byte ^ u8::from(n == at)).collect::<Vec<_>>();
        for (what, raw) in [
            ("swapped", [mldsa, eddsa].concat()),
            ("the EdDSA half of another key", [&other[..another], mldsa].concat()),
            ("the ML-DSA half of another key", [eddsa, &other[another..]].concat()),
            ("the EdDSA half on another digest", [&old[..another], mldsa].concat()),
            ("the ML-DSA half on another digest", [eddsa, &old[another..]].concat()),
            ("zeros for EdDSA", [&vec![0; eddsa.len()], mldsa].concat()),
            ("zeros for ML-DSA", [eddsa, &vec![0; mldsa.len()]].concat()),
            ("the first bit", bit(0)),
            ("the last bit of EdDSA", bit(another - 1)),
            ("the first bit of ML-DSA", bit(another)),
            ("the last bit", bit(good.len() - 1)),
        ] {
            let refused = draft.complete(&raw, false);
            assert!(matches!(refused, Err(OpenpgpError::SelfCheck(_))), "{kind:?} {what}: {refused:?}");
        }
        for raw in [eddsa, mldsa, &[], &good[1..], &[&good[..], &[0]].concat(), &[eddsa, eddsa].concat()] {
            assert!(matches!(draft.complete(raw, false), Err(OpenpgpError::Raw(length)) if length == raw.len()));
        }
    }
}

/// As for the other kinds of key: all of the packet but its value, and a bit here and there of that.
#[test]
fn no_bit_can_change() {
    for kind in Composite::ALL {
        let (mut pair, key) = made(kind);
        let draft = draft(&key, HashAlgorithm::Sha512, Form::Binary, b"data", SystemTime::now());
        let (_, digest) = draft.to_sign().unwrap();
        let raw = raw(&mut pair, HashAlgorithm::Sha512, &digest);
        let good = draft.complete(&raw, false).unwrap();
        let value = (good.len() - raw.len()) * 8;
        for at in (0..value).chain((value..good.len() * 8).step_by(331)) {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            refuses(&draft, &bad, &format!("{kind:?}, bit {} of byte {}", at % 8, at / 8));
        }
    }
}

/// What RFC 9980 (appendix A) gives as examples; that of a signature by ML-DSA-87+Ed448 is by SHA3-512, which sigsh does not know.
#[test]
fn the_examples_of_the_rfc() {
    let (one, two) = (
        &include_bytes!("../../../tests/rfc9980/mldsa-65-certificate.asc")[..],
        &include_bytes!("../../../tests/rfc9980/mldsa-87-certificate.asc")[..],
    );
    let now = SystemTime::now();
    for (kind, certificate) in Composite::ALL.into_iter().zip([one, two]) {
        let key = SigningKey::read(certificate, HashAlgorithm::Sha256, now).unwrap();
        assert_eq!((key.version(), Composite::of(key.key().mpis())), (Version::V6, Some(kind)));
    }
    let (pinned, other) = (Pinned::read(one).unwrap(), Pinned::read(two).unwrap());
    let detached = Detached::read(include_bytes!("../../../tests/rfc9980/mldsa-65-signature.asc")).unwrap();
    for (pinned, text, outcome) in [
        (&pinned, "Testing\r\n", None),
        (&pinned, "testing\r\n", Some("it is not on these bytes")),
        (&other, "Testing\r\n", Some("it is not by a key of the pinned certificate")),
    ] {
        let mut state = HashState::begin(&detached.wanted(Form::Text).unwrap());
        state.update(text.as_bytes());
        assert_eq!(detached.verify(pinned, state, now).err().map(|bad| bad.0).as_deref(), outcome);
    }
}
