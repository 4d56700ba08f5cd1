//! The signature packet: the monitor's own trailer on the artifact's hash state, and the check of what comes out.

use super::public::{from_raw, to_sign};
use super::{OpenpgpError, Scheme, SigningKey, library, one_line};
use crate::hash_state::{HashAlgorithm, HashState};
use openpgp::armor;
use openpgp::packet::signature::Signature4;
use openpgp::packet::signature::subpacket::{Subpacket, SubpacketArea, SubpacketValue};
use openpgp::packet::{Packet, Signature};
use openpgp::parse::{PacketParser, PacketParserResult, Parse};
use openpgp::policy::{HashAlgoSecurity, Policy, StandardPolicy};
use openpgp::serialize::MarshalInto;
use openpgp::types::{SignatureType, Timestamp};
use sequoia_openpgp as openpgp;
use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

/// A signature that only lacks its value.
pub struct Draft<'a> {
    key: &'a SigningKey,
    state: HashState,
    hashed: SubpacketArea,
    created: SystemTime,
    digest: Vec<u8>,
}

impl<'a> Draft<'a> {
    /// Decides what is signed: a detached binary signature, made `now` by this key, on what the state has taken in.
    ///
    /// # Errors
    /// [`OpenpgpError::Certificate`] when the key has expired since it was read, [`OpenpgpError::Library`].
    pub fn new(key: &'a SigningKey, state: HashState, now: SystemTime) -> Result<Draft<'a>, OpenpgpError> {
        key.still_alive(now)?;
        // Whole seconds, rounded down: sqv accepts nothing that is even a moment ahead.
        let created = now - Duration::from_nanos(now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.subsec_nanos()).into());
        let time = Timestamp::try_from(created).map_err(library)?;
        let subpackets = vec![
            Subpacket::new(SubpacketValue::SignatureCreationTime(time), true).map_err(library)?,
            Subpacket::new(SubpacketValue::IssuerFingerprint(key.key().fingerprint()), false).map_err(library)?,
            // rpm 4.18 shows "key ID 00000000" without it.
            Subpacket::new(SubpacketValue::Issuer(key.key().keyid()), false).map_err(library)?,
        ];
        let hashed = SubpacketArea::new(subpackets).map_err(library)?;
        let mut draft = Draft { key, state, hashed, created, digest: Vec::new() };
        let hash = draft.state.algorithm();
        let pk = u8::from(key.key().pk_algo());
        draft.digest = finish(draft.state.clone(), SignatureType::Binary, pk, hash, &draft.hashed)?;
        Ok(draft)
    }

    /// What the token has to sign.
    ///
    /// # Errors
    /// [`OpenpgpError::Certificate`].
    pub fn to_sign(&self) -> Result<(Scheme, Vec<u8>), OpenpgpError> {
        to_sign(self.key.key(), self.state.algorithm(), &self.digest)
    }

    /// When it was made.
    pub fn created(&self) -> SystemTime {
        self.created
    }

    /// Puts the token's value in, writes the packet, and checks the bytes as a stranger would.
    ///
    /// # Errors
    /// [`OpenpgpError::Raw`], [`OpenpgpError::SelfCheck`].
    pub fn complete(&self, raw: &[u8], armored: bool) -> Result<Vec<u8>, OpenpgpError> {
        let value = from_raw(self.key.key(), raw)?;
        let hash = self.state.algorithm().into();
        let prefix = [self.digest.first(), self.digest.get(1)].map(|byte| byte.copied().unwrap_or_default());
        let pk = self.key.key().pk_algo();
        let unhashed = SubpacketArea::default();
        let packet = Signature4::new(SignatureType::Binary, pk, hash, self.hashed.clone(), unhashed, prefix, value);
        let mut bytes = Packet::from(Signature::V4(packet)).to_vec().map_err(library)?;
        if armored {
            bytes = wrap(&bytes).map_err(|error| OpenpgpError::Library(error.to_string()))?;
        }
        self.check(&bytes, armored)?;
        Ok(bytes)
    }

    /// Reads the final bytes back and verifies them: nothing is taken over from the draft but what was decided.
    ///
    /// # Errors
    /// [`OpenpgpError::SelfCheck`], with what is wrong.
    pub fn check(&self, bytes: &[u8], armored: bool) -> Result<(), OpenpgpError> {
        let wrong = |what: &str| Err(OpenpgpError::SelfCheck(what.to_owned()));
        let failed = |error: openpgp::anyhow::Error| OpenpgpError::SelfCheck(one_line(&error));
        let binary =
            if armored { unwrap(bytes).map_err(|error| OpenpgpError::SelfCheck(error.to_string()))? } else { bytes.to_vec() };
        if armored && wrap(&binary).ok().as_deref() != Some(bytes) {
            return wrong("an armor with more in it");
        }
        let PacketParserResult::Some(parser) = PacketParser::from_bytes(&binary).map_err(failed)? else {
            return wrong("no packet");
        };
        let (packet, rest) = parser.next().map_err(failed)?;
        // The parser would also take an armor, which a client who wants binary cannot use.
        if packet.to_vec().map_err(failed)? != binary {
            return wrong("not the packet alone");
        }
        let Packet::Signature(signature) = packet else { return wrong("not a signature packet") };
        if !matches!(rest, PacketParserResult::EOF(_)) {
            return wrong("more than one packet");
        }
        if signature.version() != 4 || signature.typ() != SignatureType::Binary {
            return wrong("not a v4 signature of a binary document");
        }
        if signature.hash_algo() != self.state.algorithm().into() || signature.pk_algo() != self.key.key().pk_algo() {
            return wrong("other algorithms");
        }
        if signature.signature_creation_time() != Some(self.created) {
            return wrong("another creation time");
        }
        // No signature covers it.
        if signature.unhashed_area().iter().next().is_some() {
            return wrong("an unhashed area");
        }
        let key = self.key.key();
        if !signature.issuer_fingerprints().eq([&key.fingerprint()]) || !signature.issuers().eq([&key.keyid()]) {
            return wrong("another issuer");
        }
        let pk = u8::from(signature.pk_algo());
        let digest = finish(self.state.clone(), signature.typ(), pk, self.state.algorithm(), signature.hashed_area())?;
        if digest.get(..2) != Some(&signature.digest_prefix()[..]) {
            return wrong("the digest's first bytes differ");
        }
        let policy = StandardPolicy::at(self.created);
        policy.signature(&signature, HashAlgoSecurity::CollisionResistance).map_err(failed)?;
        signature.verify_digest(key, &digest).map_err(failed)
    }
}

/// Appends the trailer (RFC 9580 §5.2.4, v4) and finishes the hash.
fn finish(
    mut state: HashState,
    kind: SignatureType,
    pk: u8,
    hash: HashAlgorithm,
    hashed: &SubpacketArea,
) -> Result<Vec<u8>, OpenpgpError> {
    let area = hashed.to_vec().map_err(library)?;
    let length = u16::try_from(area.len()).map_err(|_| OpenpgpError::Library("the hashed area is too long".to_owned()))?;
    let hash = u8::from(openpgp::types::HashAlgorithm::from(hash));
    let mut trailer = vec![4, kind.into(), pk, hash];
    trailer.extend(length.to_be_bytes());
    trailer.extend(area);
    let total = u32::from(length) + 6;
    trailer.extend([4, 0xff]);
    trailer.extend(total.to_be_bytes());
    state.update(&trailer);
    Ok(state.finish())
}

fn wrap(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut writer = armor::Writer::new(Vec::new(), armor::Kind::Signature).map_err(std::io::Error::other)?;
    writer.write_all(bytes)?;
    writer.finalize().map_err(std::io::Error::other)
}

fn unwrap(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mode = armor::ReaderMode::Tolerant(Some(armor::Kind::Signature));
    let mut binary = Vec::new();
    armor::Reader::from_bytes(bytes, mode).read_to_end(&mut binary)?;
    Ok(binary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openpgp::cert::{CertBuilder, CipherSuite};
    use openpgp::crypto::{KeyPair, Signer, mpi};
    use openpgp::packet::{Marker, UserID};

    /// A key in software, and the certificate of it alone.
    fn key(suite: CipherSuite) -> (KeyPair, SigningKey) {
        let builder = CertBuilder::new().set_profile(openpgp::Profile::RFC4880).unwrap();
        let (cert, _) =
            builder.set_cipher_suite(suite).add_userid("Test <test@example.org>").add_signing_subkey().generate().unwrap();
        let now = SystemTime::now();
        let secret = cert.keys().with_policy(&StandardPolicy::new(), now).for_signing().secret().next().unwrap().key().clone();
        (
            secret.into_keypair().unwrap(),
            SigningKey::read(&openpgp::serialize::SerializeInto::export_to_vec(&cert).unwrap(), HashAlgorithm::Sha512, now)
                .unwrap(),
        )
    }

    /// What a token would answer.
    fn raw(pair: &mut KeyPair, hash: HashAlgorithm, digest: &[u8]) -> Vec<u8> {
        match pair.sign(hash.into(), digest).unwrap() {
            mpi::Signature::RSA { s } => s.value().to_vec(),
            mpi::Signature::EdDSA { r, s } | mpi::Signature::ECDSA { r, s } => {
                [r.value_padded(32).unwrap(), s.value_padded(32).unwrap()].concat()
            }
            other => panic!("{other:?}"),
        }
    }

    fn state(data: &[u8]) -> HashState {
        let mut state = HashState::new(HashAlgorithm::Sha512);
        state.update(data);
        state
    }

    /// Hands `judge` a draft and its good signature, for each kind of key.
    fn each(suites: &[CipherSuite], judge: impl Fn(&Draft<'_>, &[u8])) {
        for suite in suites {
            let (mut pair, key) = key(*suite);
            let draft = Draft::new(&key, state(b"data"), SystemTime::now()).unwrap();
            let raw = raw(&mut pair, HashAlgorithm::Sha512, &draft.digest);
            judge(&draft, &draft.complete(&raw, false).unwrap());
        }
    }

    fn refuses(draft: &Draft<'_>, bytes: &[u8], what: &str) {
        for (bytes, armored) in [(bytes.to_vec(), false), (wrap(bytes).unwrap(), true)] {
            let outcome = draft.check(&bytes, armored);
            assert!(matches!(outcome, Err(OpenpgpError::SelfCheck(_))), "{what}, armored {armored}: {outcome:?}");
        }
    }

    fn parse(bytes: &[u8]) -> Signature {
        match Packet::from_bytes(bytes).unwrap() {
            Packet::Signature(signature) => signature,
            other => panic!("{other:?}"),
        }
    }

    const ALL: [CipherSuite; 3] = [CipherSuite::Cv25519, CipherSuite::P256, CipherSuite::RSA2k];

    #[test]
    fn a_good_signature_stands_the_check() {
        each(&ALL, |draft, good| {
            draft.check(good, false).unwrap();
            draft.check(&wrap(good).unwrap(), true).unwrap();
        });
    }

    /// Header, version, type, algorithms, both areas, digest prefix and value: every bit of them counts.
    #[test]
    fn no_bit_can_change() {
        each(&ALL, |draft, good| {
            for at in 0..good.len() * 8 {
                let mut bad = good.to_vec();
                bad[at / 8] ^= 1 << (at % 8);
                refuses(draft, &bad, &format!("bit {} of byte {}", at % 8, at / 8));
            }
        });
    }

    #[test]
    fn nothing_can_be_cut_off_or_added() {
        each(&ALL, |draft, good| {
            for length in 0..good.len() {
                refuses(draft, &good[..length], &format!("{length} bytes"));
            }
            refuses(draft, &[good, good].concat(), "the same again");
            refuses(draft, &[good, &Packet::from(Marker::default()).to_vec().unwrap()].concat(), "a marker packet");
            refuses(draft, &[&Packet::from(Marker::default()).to_vec().unwrap(), good].concat(), "a marker packet before");
            refuses(draft, &[good, &Packet::from(UserID::from("x")).to_vec().unwrap()].concat(), "a user id");
            refuses(draft, &[good, &[0]].concat(), "a byte");
        });
    }

    /// Nobody signs the unhashed area, and verifiers read it all the same.
    #[test]
    fn the_unhashed_area_is_empty() {
        each(&ALL, |draft, good| {
            let key = draft.key.key();
            for value in [
                SubpacketValue::Issuer(key.keyid()),
                SubpacketValue::IssuerFingerprint(key.fingerprint()),
                SubpacketValue::PolicyURI(b"https://example.org".to_vec()),
            ] {
                let mut signature = parse(good);
                signature.unhashed_area_mut().add(Subpacket::new(value.clone(), false).unwrap()).unwrap();
                refuses(draft, &Packet::from(signature).to_vec().unwrap(), &format!("{value:?}"));
            }
        });
    }

    /// Good signatures, but not what was decided: of another type, time, artifact or key.
    #[test]
    fn another_good_signature_is_refused() {
        each(&[CipherSuite::Cv25519], |draft, good| {
            let earlier = Draft::new(draft.key, state(b"data"), draft.created - Duration::from_secs(1)).unwrap();
            let other = Draft::new(draft.key, state(b"other"), draft.created).unwrap();
            for draft in [&earlier, &other] {
                refuses(draft, good, "of another draft");
            }
        });
        let ((mut pair, ours), (mut stranger, _)) = (key(CipherSuite::Cv25519), key(CipherSuite::Cv25519));
        let draft = Draft::new(&ours, state(b"data"), SystemTime::now()).unwrap();
        let hash = HashAlgorithm::Sha512;
        let by_stranger = raw(&mut stranger, hash, &draft.digest);
        assert!(matches!(draft.complete(&by_stranger, false), Err(OpenpgpError::SelfCheck(_))));
        for kind in [SignatureType::Text, SignatureType::Standalone, SignatureType::GenericCertification] {
            let digest = finish(state(b"data"), kind, u8::from(ours.key().pk_algo()), hash, &draft.hashed).unwrap();
            let value = from_raw(ours.key(), &raw(&mut pair, hash, &digest)).unwrap();
            let unhashed = SubpacketArea::default();
            let prefix = [digest[0], digest[1]];
            let packet = Signature4::new(kind, ours.key().pk_algo(), hash.into(), draft.hashed.clone(), unhashed, prefix, value);
            refuses(&draft, &Packet::from(Signature::V4(packet)).to_vec().unwrap(), &format!("{kind:?}"));
        }
    }

    /// Two armors in a file, or words around one, are for each verifier to make something of: ours has neither.
    #[test]
    fn the_armor_is_exactly_ours() {
        each(&[CipherSuite::Cv25519], |draft, good| {
            let armor = String::from_utf8(wrap(good).unwrap()).unwrap();
            for bad in [
                armor.replace("SIGNATURE", "MESSAGE"),
                armor.replacen("\n\n", "\nComment: x\n\n", 1),
                format!("words before\n{armor}"),
                format!("{armor}words after\n"),
                format!("{armor}{armor}"),
                armor.replace("-----END PGP SIGNATURE-----\n", ""),
                String::new(),
            ] {
                assert!(matches!(draft.check(bad.as_bytes(), true), Err(OpenpgpError::SelfCheck(_))), "{bad}");
            }
            assert!(matches!(draft.check(armor.as_bytes(), false), Err(OpenpgpError::SelfCheck(_))));
            assert!(matches!(draft.check(good, true), Err(OpenpgpError::SelfCheck(_))));
        });
    }
}
