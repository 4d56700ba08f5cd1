//! Each part of an endorsement, changed by itself, at exact times.

use super::*;
use crate::config::values::Name;
use crate::hash_state::{HashAlgorithm, Wanted};
use crate::request::Digest;
use crate::warrant::Place;
use openpgp::cert::{CertBuilder, CipherSuite};
use openpgp::crypto::KeyPair;
use openpgp::packet::signature::SignatureBuilder;
use openpgp::packet::signature::subpacket::{NotationData, NotationDataFlags, Subpacket, SubpacketValue};
use openpgp::packet::{Marker, Packet, UserID};
use openpgp::serialize::{MarshalInto, SerializeInto};
use openpgp::types::{HashAlgorithm as Hash, KeyFlags, ReasonForRevocation, SignatureType};
use std::time::UNIX_EPOCH;

const GRANT: &str = "key=release;host=sign1.example.org;max=64";
const HOUR: i64 = 3600;

/// So many seconds after the certification.
fn at(seconds: i64) -> SystemTime {
    let noon = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    if seconds < 0 {
        noon - Duration::from_secs(seconds.unsigned_abs())
    } else {
        noon + Duration::from_secs(seconds.unsigned_abs())
    }
}

/// Whose keys there are.
struct People {
    operator: Cert,
    stranger: Cert,
    build: Cert,
}

impl People {
    fn new() -> People {
        let make = |created, validity| {
            let flags = KeyFlags::empty().set_certification().set_signing();
            let builder = CertBuilder::new().set_creation_time(at(created)).add_userid("someone").set_primary_key_flags(flags);
            builder.set_validity_period(Duration::from_secs(validity)).generate().unwrap().0
        };
        let [operator, stranger] = [(); 2].map(|()| make(-HOUR, 100 * 3600));
        People { operator, stranger, build: make(-100, 90 * 3600) }
    }

    fn operators(&self, list: &str) -> Operators {
        let revoked = Rc::new(Revoked::parse(list.as_bytes()).unwrap());
        Operators::read(&public(&self.operator), &revoked, Duration::from_secs(24 * 3600), at(0)).unwrap()
    }
}

fn public(cert: &Cert) -> Vec<u8> {
    SerializeInto::export_to_vec(cert).unwrap()
}

fn pair(cert: &Cert) -> KeyPair {
    cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap()
}

/// All that can be different about an endorsement.
#[derive(Clone)]
struct Case {
    kind: SignatureType,
    notations: Vec<(&'static str, String, bool, bool)>,
    validity: Option<i64>,
    certified: i64,
    by: fn(&People) -> &Cert,
    certify_hash: Hash,
    made: i64,
    made_by: fn(&People) -> &Cert,
    form: SignatureType,
    hash: Hash,
    good_for: Option<u64>,
    now: i64,
    list: fn(&People) -> String,
    data: &'static [u8],
}

impl Case {
    fn good() -> Case {
        Case {
            kind: SignatureType::GenericCertification,
            notations: vec![("grant@sigsh", GRANT.to_owned(), true, false)],
            validity: Some(2 * HOUR),
            certified: 0,
            by: |people| &people.operator,
            certify_hash: Hash::SHA256,
            made: 10,
            made_by: |people| &people.build,
            form: SignatureType::Binary,
            hash: Hash::SHA512,
            good_for: None,
            now: 20,
            list: |_| String::new(),
            data: b"data",
        }
    }

    fn certification(&self, people: &People) -> Packet {
        let mut builder = SignatureBuilder::new(self.kind).set_hash_algo(self.certify_hash);
        builder = builder.set_signature_creation_time(at(self.certified)).unwrap();
        if let Some(validity) = self.validity {
            builder = builder.set_signature_validity_period(Duration::from_secs(validity.unsigned_abs())).unwrap();
        }
        for (name, value, human, critical) in &self.notations {
            let flags = if *human { NotationDataFlags::empty().set_human_readable() } else { NotationDataFlags::empty() };
            builder = builder.add_notation(name, value, flags, *critical).unwrap();
        }
        let (key, id) = (people.build.primary_key().key(), people.build.userids().next().unwrap());
        let mut signer = pair((self.by)(people));
        match self.kind {
            SignatureType::DirectKey => builder.sign_direct_key(&mut signer, key).unwrap().into(),
            // Over the same as a certification: no other type is one.
            SignatureType::CertificationApproval | SignatureType::Unknown(_) => {
                let mut hash = self.certify_hash.context().unwrap().for_signature(4);
                openpgp::crypto::hash::Hash::hash(key, &mut hash).unwrap();
                openpgp::crypto::hash::Hash::hash(id.userid(), &mut hash).unwrap();
                builder.sign_hash(&mut signer, hash).unwrap().into()
            }
            _ => builder.sign_userid_binding(&mut signer, key, id.userid()).unwrap().into(),
        }
    }

    fn signature(&self, people: &People) -> Packet {
        let mut builder = SignatureBuilder::new(self.form).set_hash_algo(self.hash);
        builder = builder.set_signature_creation_time(at(self.made)).unwrap();
        if let Some(seconds) = self.good_for {
            builder = builder.set_signature_validity_period(Duration::from_secs(seconds)).unwrap();
        }
        builder.sign_message(&mut pair((self.made_by)(people)), self.data).unwrap().into()
    }

    /// The build's certificate with the certification in its place, and the signature.
    fn packets(&self, people: &People) -> Vec<Packet> {
        let certification = self.certification(people);
        let mut packets = packets(&public(&people.build));
        let place = if self.kind == SignatureType::DirectKey { 1 } else { packets.len() };
        packets.insert(place, certification);
        packets.push(self.signature(people));
        packets
    }

    fn judge(&self, people: &People) -> Result<Warrant, String> {
        judge(&people.operators(&(self.list)(people)), &bytes(&self.packets(people)), self.now)
    }
}

fn packets(bytes: &[u8]) -> Vec<Packet> {
    openpgp::PacketPile::from_bytes(bytes).unwrap().into_children().collect()
}

fn bytes(packets: &[Packet]) -> Vec<u8> {
    packets.iter().flat_map(|packet| MarshalInto::to_vec(packet).unwrap()).collect()
}

fn judge(operators: &Operators, endorsement: &[u8], now: i64) -> Result<Warrant, String> {
    let subject = Subject {
        key: Name::try_from("release".to_owned()).unwrap(),
        fingerprint: "0".repeat(40),
        size: 4,
        digest: Digest { algorithm: HashAlgorithm::Sha512, bytes: vec![0; 64] },
        place: Place { host: "sign1.example.org".to_owned(), fleet: Some("all".to_owned()) },
        requester: Name::try_from("build1".to_owned()).unwrap(),
    };
    let mut warrant = Warrant::default();
    operators.judge(&subject, endorsement, at(now), &mut warrant).map_err(|error| error.to_string())?;
    let mut state = HashState::begin(&Wanted::plain(HashAlgorithm::Sha512));
    state.update(b"data");
    warrant.fits(&state).map_err(|error| error.to_string())?;
    Ok(warrant)
}

type Change = fn(&mut Case);

fn notation(case: &mut Case, value: &str) {
    case.notations[0].1 = value.to_owned();
}

/// What changes nothing that matters is taken.
#[test]
fn these_are_taken() {
    let people = People::new();
    let table: &[(&str, Change)] = &[
        ("as it is", |_| {}),
        ("type 0x11", |case| case.kind = SignatureType::PersonaCertification),
        ("type 0x12", |case| case.kind = SignatureType::CasualCertification),
        ("type 0x13", |case| case.kind = SignatureType::PositiveCertification),
        ("critical", |case| case.notations[0].3 = true),
        ("another notation", |case| case.notations.push(("x@example.org", "y".to_owned(), true, false))),
        ("its last second", |case| case.now = 2 * HOUR - 1),
        ("the longest", |case| (case.validity, case.made, case.now) = (Some(24 * HOUR), 0, 0)),
        ("clocks apart", |case| (case.certified, case.made, case.now) = (5, 5, 0)),
        ("the next second", |case| case.made = 0),
        ("a signature that expires", |case| case.good_for = Some(11)),
    ];
    for (what, change) in table {
        let mut case = Case::good();
        change(&mut case);
        let warrant = case.judge(&people).unwrap_or_else(|error| panic!("{what}: {error}"));
        let [quota] = warrant.quotas() else { panic!("{what}") };
        let prints = [&people.operator, &people.build].map(|cert| cert.fingerprint().to_hex());
        let second = 1_790_000_000 + case.certified;
        assert_eq!((&quota.name, quota.max), (&format!("openpgp:{}:{}:{}", prints[0], prints[1], second), 64));
        assert_eq!(quota.since, at(case.certified) - Duration::from_secs(5));
        let end = case.good_for.map_or(case.certified + case.validity.unwrap(), |seconds| case.made + seconds as i64);
        assert!(warrant.check(at(end - 1)).is_ok() && warrant.check(at(end)).is_err(), "{what}");
        assert!(warrant.check(at(case.certified - 5)).is_ok(), "{what}");
        assert!(matches!(warrant.check(at(case.certified - 6)), Err(WarrantError::Clock)), "{what}");
    }
}

/// What an operator has not said, or to somebody else, or once.
#[test]
fn no_other_certification_permits_anything() {
    let people = People::new();
    let none = "by a key that none of this key's operators has certified";
    let terms = "is not a text like key=KEY;host=HOST;max=64";
    let table: &[(&str, Change, &str)] = &[
        ("no notation", |case| case.notations.clear(), "with 0 notations grant@sigsh"),
        ("two", |case| case.notations.push(case.notations[0].clone()), "with 2 notations grant@sigsh"),
        ("name", |case| case.notations[0].0 = "grant@sigsh.org", "with 0 notations"),
        ("name's case", |case| case.notations[0].0 = "Grant@sigsh", "with 0 notations"),
        ("not for people", |case| case.notations[0].2 = false, terms),
        ("no value", |case| notation(case, ""), terms),
        ("no key", |case| notation(case, "host=sign1.example.org;max=64"), terms),
        ("other order", |case| notation(case, "host=sign1.example.org;key=release;max=64"), terms),
        ("key", |case| notation(case, &GRANT.replace("release", "other")), "is for another key"),
        ("key's case", |case| notation(case, &GRANT.replace("release", "Release")), "is for another key"),
        ("host", |case| notation(case, &GRANT.replace("sign1", "sign2")), "is for another host"),
        ("fleet", |case| notation(case, "key=release;host=all;max=64"), "is for another host"),
        ("max 0", |case| notation(case, &GRANT.replace("64", "0")), terms),
        ("max +1", |case| notation(case, &GRANT.replace("64", "+1")), terms),
        ("no max", |case| notation(case, "key=release;host=sign1.example.org"), terms),
        ("more", |case| notation(case, &format!("{GRANT};x=y")), terms),
        ("a newline", |case| notation(case, &format!("{GRANT}\n")), terms),
        ("another critical one", |case| case.notations.push(("x@y", String::new(), true, true)), "what is not known here"),
        ("for ever", |case| case.validity = None, "never expires"),
        ("too long", |case| (case.validity, case.made, case.now) = (Some(24 * HOUR + 1), 1, 1), "longer than this key allows"),
        ("too long yet", |case| (case.validity, case.certified, case.made, case.now) = (Some(24 * HOUR), 1, 1, 0), "longer"),
        ("expired", |case| case.now = 2 * HOUR, "that has expired"),
        ("from the future", |case| (case.certified, case.made, case.now) = (6, 6, 0), "from the future"),
        ("a stranger", |case| case.by = |people| &people.stranger, none),
        ("itself", |case| case.by = |people| &people.build, none),
        ("SHA-1", |case| case.certify_hash = Hash::SHA1, "no longer safe"),
        ("a direct key signature", |case| case.kind = SignatureType::DirectKey, none),
        ("an approval of others'", |case| case.kind = SignatureType::CertificationApproval, none),
        ("an unknown type", |case| case.kind = SignatureType::Unknown(0x14), none),
        ("a revocation", |case| case.kind = SignatureType::CertificationRevocation, "in which something is revoked"),
        (
            "operator revoked",
            |case| case.list = |people| format!("openpgp: {}", people.operator.fingerprint().to_hex()),
            "by an operator whose key is revoked here",
        ),
        ("build revoked", |case| case.list = |people| format!("openpgp: {}", people.build.fingerprint().to_hex()), "revoked here"),
        (
            "build expired",
            |case| (case.validity, case.certified, case.made, case.now) = (Some(9 * HOUR), 89 * HOUR, 90 * HOUR, 90 * HOUR),
            "expired",
        ),
        (
            "operator expired",
            |case| (case.validity, case.certified, case.made, case.now) = (Some(2 * HOUR), 99 * HOUR, 99 * HOUR, 99 * HOUR),
            "expired",
        ),
    ];
    for (what, change, why) in table {
        let mut case = Case::good();
        change(&mut case);
        let error = case.judge(&people).err().unwrap_or_else(|| panic!("{what} is taken"));
        assert!(error.starts_with("the endorsement ") && error.contains(why), "{what}: {error}");
        assert!(!error.contains('\n') && error.len() < 200, "{error}");
    }
}

#[test]
fn no_other_signature_endorses_anything() {
    let people = People::new();
    let table: &[(&str, Change, &str)] = &[
        ("text", |case| case.form = SignatureType::Text, "is a signature of a text"),
        (
            "hash",
            |case| case.hash = Hash::SHA256,
            "is hashed by SHA256, and this key's signatures by SHA512: gpg --digest-algo SHA512",
        ),
        ("old hash", |case| case.hash = Hash::SHA1, "gpg --digest-algo SHA512"),
        ("bytes", |case| case.data = b"dat4", "is not over this artifact"),
        ("a stranger", |case| case.made_by = |people| &people.stranger, "is not by a key of its certificate that may sign"),
        ("the operator", |case| case.made_by = |people| &people.operator, "is not by a key of its certificate that may sign"),
        ("before", |case| case.certified = 11, "was made before its key was certified"),
        ("the future", |case| case.made = 26, "was made in the future"),
        ("expired", |case| case.good_for = Some(10), "has expired"),
    ];
    for (what, change, why) in table {
        let mut case = Case::good();
        change(&mut case);
        let error = case.judge(&people).err().unwrap_or_else(|| panic!("{what} is taken"));
        assert!(error.contains(why), "{what}: {error}");
    }
}

/// What its maker has written into a signature does not come out again.
#[test]
fn nobody_else_chooses_the_words_of_an_error() {
    let people = People::new();
    let mut packets = Case::good().packets(&people);
    packets.pop();
    let name = format!("{}@example.org", "x".repeat(5000));
    let builder = SignatureBuilder::new(SignatureType::Binary).set_hash_algo(Hash::SHA512);
    let builder = builder.set_signature_creation_time(at(10)).unwrap();
    let builder = builder.add_notation(name, "y", NotationDataFlags::empty().set_human_readable(), true).unwrap();
    packets.push(builder.sign_message(&mut pair(&people.build), b"data").unwrap().into());
    let error = judge(&people.operators(""), &bytes(&packets), 20).err().unwrap();
    assert_eq!(error, "the endorsement is not over this artifact, or says more than who has made it");
}

/// Exactly one certificate and one signature, and no bit of what either signs can change.
#[test]
fn it_is_whole_and_alone() {
    let people = People::new();
    let (operators, packets) = (people.operators(""), Case::good().packets(&people));
    let good = bytes(&packets);
    let refuses = |bytes: &[u8], what: &str| assert!(judge(&operators, bytes, 20).is_err(), "{what} is taken");
    judge(&operators, &good, 20).unwrap();
    for length in 0..good.len() {
        refuses(&good[..length], &format!("{length} bytes"));
    }
    let signature = MarshalInto::to_vec(packets.last().unwrap()).unwrap();
    let certificate = &good[..good.len() - signature.len()];
    let mut marker = packets.clone();
    marker.insert(0, Marker::default().into());
    let revocation = {
        let mut signer = pair(&people.build);
        people.build.revoke(&mut signer, ReasonForRevocation::Unspecified, b"").unwrap().into()
    };
    let with = |place: usize, packet: Packet| {
        let mut packets = packets.clone();
        packets.insert(place, packet);
        bytes(&packets)
    };
    for (bytes, what) in [
        ([&good[..], &good].concat(), "twice"),
        ([&good[..], &signature].concat(), "two signatures"),
        ([&good[..], &[0]].concat(), "a byte"),
        ([&good[..], certificate].concat(), "a certificate behind"),
        ([certificate, certificate, &signature].concat(), "two certificates"),
        ([&signature[..], certificate].concat(), "the wrong way round"),
        (certificate.to_vec(), "no signature"),
        (signature.clone(), "no certificate"),
        (bytes(&marker), "a marker before"),
        (with(packets.len(), Marker::default().into()), "a marker behind"),
        (with(2, Marker::default().into()), "a marker within"),
        (with(1, revocation), "revoked"),
        ([certificate, &bytes(&vec![UserID::from("x").into(); 32]), &signature].concat(), "many packets"),
        (
            [&SerializeInto::to_vec(&people.build.as_tsk()).unwrap(), &bytes(&packets[packets.len() - 2..])[..]].concat(),
            "a secret key",
        ),
    ] {
        refuses(&bytes, what);
    }
    let taken = (0..good.len() * 8).filter(|at| {
        let mut bad = good.clone();
        bad[at / 8] ^= 1 << (at % 8);
        judge(&operators, &bad, 20).is_ok()
    });
    // Digest prefixes of the certificate's own signatures, and what of them is not signed.
    let taken = taken.map(|at| at / 8).collect::<std::collections::BTreeSet<_>>();
    assert!(taken.iter().all(|at| *at < certificate.len()), "{taken:?}");
}

/// Of an armor for each, and of nothing else.
#[test]
fn it_may_be_armored() {
    let people = People::new();
    let (operators, packets) = (people.operators(""), Case::good().packets(&people));
    let armor = |kind, packets: &[Packet]| {
        let mut writer = openpgp::armor::Writer::new(Vec::new(), kind).unwrap();
        std::io::Write::write_all(&mut writer, &bytes(packets)).unwrap();
        writer.finalize().unwrap()
    };
    use openpgp::armor::Kind::{File, PublicKey, Signature};
    let (last, certificate) = packets.split_last().unwrap();
    let key = armor(PublicKey, certificate);
    let signature = armor(Signature, std::slice::from_ref(last));
    let binary = MarshalInto::to_vec(last).unwrap();
    for (endorsement, is_taken) in [
        ([&key[..], &signature].concat(), true),
        ([&key[..], &signature, b"\n \n"].concat(), true),
        (String::from_utf8([&key[..], &signature].concat()).unwrap().replace('\n', "\r\n").into(), true),
        (armor(File, &packets), false),
        (armor(PublicKey, &packets), false),
        (armor(Signature, &packets), false),
        ([&signature[..], &key].concat(), false),
        ([&key[..], b"\n", &signature].concat(), false),
        ([&key[..], &signature, &signature].concat(), false),
        ([&key[..], &signature, b"x"].concat(), false),
        ([b"\n", &key[..], &signature].concat(), false),
        ([&key[..], &binary].concat(), false),
        ([&bytes(certificate)[..], &signature].concat(), false),
        (key.clone(), false),
        (b"hello".to_vec(), false),
        (Vec::new(), false),
    ] {
        assert_eq!(judge(&operators, &endorsement, 20).is_ok(), is_taken, "{}", String::from_utf8_lossy(&endorsement));
    }
}

/// The certificate of a build whose key of this kind has made the signature.
fn by(people: &mut People, builder: CertBuilder<'_>, signs: impl Fn(&Cert) -> KeyPair) -> Vec<u8> {
    people.build = builder.set_creation_time(at(-100)).add_userid("build").generate().unwrap().0;
    let mut packets = Case { made_by: |people| &people.stranger, ..Case::good() }.packets(people);
    let signature = SignatureBuilder::new(SignatureType::Binary).set_hash_algo(Hash::SHA512);
    let signature = signature.set_signature_creation_time(at(10)).unwrap();
    *packets.last_mut().unwrap() = signature.sign_message(&mut signs(&people.build), b"data").unwrap().into();
    bytes(&packets)
}

fn subkey(cert: &Cert) -> KeyPair {
    cert.keys().subkeys().next().unwrap().key().clone().role_into_unspecified().parts_into_secret().unwrap().into_keypair().unwrap()
}

#[test]
fn which_key_of_a_certificate_may_sign() {
    let mut people = People::new();
    let operators = people.operators("");
    let (hour, certifies) = (Duration::from_secs(3600), KeyFlags::empty().set_certification());
    let flags = |signs| if signs { certifies.clone().set_signing() } else { certifies.clone() };
    let new = |signs| CertBuilder::new().set_primary_key_flags(flags(signs));
    let no = "is not by a key of its certificate that may sign";
    let signing = KeyFlags::empty().set_signing();
    type Signs = fn(&Cert) -> KeyPair;
    let table: Vec<(CertBuilder<'_>, Signs, Option<&str>)> = vec![
        (new(true), pair, None),
        (new(false), pair, Some("is by a key that may not sign now")),
        (new(false).add_signing_subkey(), subkey, None),
        (new(false).add_signing_subkey(), pair, Some(no)),
        (new(true).add_authentication_subkey(), subkey, Some(no)),
        (new(true).add_subkey(signing.clone(), hour, None), subkey, None),
        (new(true).add_subkey(signing, Duration::from_secs(110), None), subkey, Some(no)),
        (new(true).set_cipher_suite(CipherSuite::P384), pair, None),
        (new(true).set_profile(openpgp::Profile::RFC9580).unwrap(), pair, Some("is by a key that is not of version 4")),
    ];
    for (number, (builder, signs, why)) in table.into_iter().enumerate() {
        let outcome = judge(&operators, &by(&mut people, builder, signs), 20);
        match why {
            None => drop(outcome.unwrap_or_else(|error| panic!("{number}: {error}"))),
            Some(why) => assert!(outcome.err().is_some_and(|error| error.contains(why)), "{number}"),
        }
    }
}

/// A signature that this host makes must never be an endorsement, whoever has certified its key.
#[test]
fn no_key_of_this_host_endorses() {
    let mut people = People::new();
    let mut operators = people.operators("");
    let endorsement = by(&mut people, CertBuilder::new().add_signing_subkey(), subkey);
    judge(&operators, &endorsement, 20).unwrap();
    operators.exclude(&public(&people.stranger)).unwrap();
    judge(&operators, &endorsement, 20).unwrap();
    // The subkey alone: with another primary key, it is the same one that signs.
    let subkey = people.build.keys().subkeys().next().unwrap().key().clone();
    operators.own.push(subkey.mpis().clone());
    let error = judge(&operators, &endorsement, 20).err().unwrap();
    assert_eq!(error, "the endorsement is by a key of this host, which endorses nothing");
}

/// What takes long to verify, or holds more than it is long, is not begun with.
#[test]
fn no_key_is_a_burden() {
    use openpgp::crypto::mpi::{MPI, PublicKey};
    use openpgp::packet::key::{Key4, PrimaryRole, PublicParts, SubordinateRole};
    use openpgp::types::PublicKeyAlgorithm as By;
    let people = People::new();
    let (operators, packets) = (people.operators(""), Case::good().packets(&people));
    let mpi = |bits: usize| MPI::new(&vec![0xff; bits / 8]);
    #[allow(deprecated)]
    let kinds = [
        (By::RSAEncryptSign, PublicKey::RSA { e: mpi(16), n: mpi(4104) }),
        (By::RSAEncryptSign, PublicKey::RSA { e: mpi(16), n: mpi(16384) }),
        (By::DSA, PublicKey::DSA { p: mpi(2048), q: mpi(256), g: mpi(2048), y: mpi(2048) }),
        (By::ElGamalEncrypt, PublicKey::ElGamal { p: mpi(2048), g: mpi(2048), y: mpi(2048) }),
    ];
    for (algorithm, mpis) in kinds {
        let primary = Key4::<PublicParts, PrimaryRole>::new(at(-100), algorithm, mpis.clone()).unwrap();
        let sub = Key4::<PublicParts, SubordinateRole>::new(at(-100), algorithm, mpis).unwrap();
        let mut first = packets.clone();
        first[0] = openpgp::packet::Key::from(primary).into();
        let mut second = packets.clone();
        second.insert(packets.len() - 1, openpgp::packet::Key::from(sub).into());
        for packets in [first, second] {
            let error = judge(&operators, &bytes(&packets), 20).err().unwrap();
            assert!(error.contains("has a key of a kind that builds do not need"), "{error}");
        }
    }
}

/// A notation that nobody has signed, and a permit of which only the signature may be newer.
#[test]
fn what_is_not_hashed_counts_for_nothing() {
    let people = People::new();
    let mut case = Case::good();
    let notation = case.notations.pop().unwrap();
    let mut packets = case.packets(&people);
    let place = packets.len() - 2;
    let Packet::Signature(certification) = &mut packets[place] else { panic!() };
    let data = NotationData::new(notation.0, notation.1, NotationDataFlags::empty().set_human_readable());
    certification.unhashed_area_mut().add(Subpacket::new(SubpacketValue::NotationData(data), false).unwrap()).unwrap();
    let error = judge(&people.operators(""), &bytes(&packets), 20).err().unwrap();
    assert!(error.contains("with 0 notations"), "{error}");
}

#[test]
fn several_operators_and_their_mistakes() {
    let people = People::new();
    let read = |bytes: &[u8]| Operators::read(bytes, &Rc::default(), Duration::from_secs(24 * 3600), at(0));
    let armored = |cert: &Cert| SerializeInto::export_to_vec(&cert.armored()).unwrap();
    for both in [
        [public(&people.stranger), public(&people.operator)].concat(),
        [armored(&people.stranger), armored(&people.operator)].concat(),
    ] {
        let operators = read(&both).unwrap();
        judge(&operators, &bytes(&Case::good().packets(&people)), 20).unwrap();
    }
    // The later certification counts, unless its operator has gone.
    let (mut packets, by_other) =
        (Case::good().packets(&people), Case { by: |people| &people.stranger, certified: 1, ..Case::good() });
    packets.insert(packets.len() - 1, by_other.certification(&people));
    let [stranger, operator] = [&people.stranger, &people.operator].map(|cert| cert.fingerprint().to_hex());
    for (list, by) in [(String::new(), &stranger), (format!("openpgp: {stranger}"), &operator)] {
        let list = Rc::new(Revoked::parse(list.as_bytes()).unwrap());
        let both = [public(&people.stranger), public(&people.operator)].concat();
        let operators = Operators::read(&both, &list, Duration::from_secs(24 * 3600), at(0)).unwrap();
        let warrant = judge(&operators, &bytes(&packets), 20).unwrap();
        assert!(warrant.quotas()[0].name.starts_with(&format!("openpgp:{by}:")), "{by}");
    }
    let signs = CertBuilder::new().set_primary_key_flags(KeyFlags::empty().set_signing());
    let signs = signs.set_creation_time(at(-100)).add_userid("x").generate().unwrap().0;
    let later = CertBuilder::new().set_creation_time(at(10)).add_userid("x").generate().unwrap().0;
    for (bytes, why) in [
        (Vec::new(), "the certificate file is empty"),
        (b"hello\n".to_vec(), "the certificate cannot be read: "),
        (public(&people.operator)[..100].to_vec(), "the certificate cannot be read: "),
        (
            SerializeInto::to_vec(&people.operator.as_tsk()).unwrap(),
            "the certificate holds a secret key; export the public one alone",
        ),
        ([public(&people.operator), public(&signs)].concat(), "has a primary key that may not certify"),
        (public(&later), "is not valid: "),
    ] {
        let error = read(&bytes).err().unwrap_or_else(|| panic!("{why}"));
        assert!(error.contains(why), "{error}");
    }
}

/// The fuzz target begins with what gpg 2.2 has made.
#[test]
fn the_examples_of_gpg() {
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let operator = include_bytes!("../../../fuzz/operator.pgp");
    let operators = Operators::read(operator, &Rc::default(), Duration::from_secs(24 * 3600), now).unwrap();
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/openpgp_endorsement");
    let seconds = now.duration_since(at(0)).unwrap().as_secs() as i64;
    for (name, is_taken) in [
        ("armored", true),
        ("ed25519", true),
        ("expired", false),
        ("host", false),
        ("nistp256", true),
        ("revoked", false),
        ("rsa2048", true),
        ("sha256", false),
        ("subkey", true),
        ("text", false),
    ] {
        let outcome = judge(&operators, &std::fs::read(format!("{directory}/{name}")).unwrap(), seconds);
        assert_eq!(outcome.is_ok(), is_taken, "{name}: {:?}", outcome.err());
    }
}
