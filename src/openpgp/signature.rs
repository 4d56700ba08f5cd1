//! The signature packet: the monitor's own trailer on the artifact's hash state, and the check of what comes out.

use super::public::{from_raw, to_sign};
use super::{OpenpgpError, Scheme, SigningKey, Version, library, one_line};
use crate::hash_state::{Form, HashAlgorithm, HashState, Salt};
use openpgp::armor;
use openpgp::crypto::mpi;
use openpgp::packet::signature::subpacket::{Subpacket, SubpacketArea, SubpacketValue};
use openpgp::packet::signature::{Signature4, Signature6};
use openpgp::packet::{Packet, Signature};
use openpgp::parse::{PacketParser, PacketParserResult, Parse};
use openpgp::policy::{HashAlgoSecurity, Policy, StandardPolicy};
use openpgp::serialize::MarshalInto;
use openpgp::types::{SignatureType, Timestamp};
use sequoia_openpgp as openpgp;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// A signature that only lacks its value.
pub struct Draft {
    key: Rc<SigningKey>,
    kind: SignatureType,
    salt: Vec<u8>,
    state: HashState,
    hashed: SubpacketArea,
    created: SystemTime,
    digest: Vec<u8>,
}

impl Draft {
    /// Decides what is signed: a signature of a document, made `now` by this key, which is alive ([`SigningKey::still_alive`]), on what
    /// the state has taken in. The salt, which it has taken in first, is the key's own ([`SigningKey::salt`]).
    ///
    /// # Errors
    /// [`OpenpgpError::Library`].
    pub fn new(
        key: &Rc<SigningKey>,
        form: Form,
        salt: Option<Salt>,
        state: HashState,
        now: SystemTime,
    ) -> Result<Draft, OpenpgpError> {
        let kind = if form == Form::Binary { SignatureType::Binary } else { SignatureType::Text };
        let salt = salt.map(|salt| salt.bytes(state.algorithm()).to_vec()).unwrap_or_default();
        // Whole seconds, rounded down: sqv accepts nothing that is even a moment ahead.
        let created = now - Duration::from_nanos(now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.subsec_nanos()).into());
        let time = Timestamp::try_from(created).map_err(library)?;
        let mut subpackets = vec![
            Subpacket::new(SubpacketValue::SignatureCreationTime(time), true).map_err(library)?,
            Subpacket::new(SubpacketValue::IssuerFingerprint(key.key().fingerprint()), false).map_err(library)?,
        ];
        if key.version() == Version::V4 {
            // rpm 4.18 shows "key ID 00000000" without it; RFC 9580 §5.2.3.12 forbids it in v6.
            subpackets.push(Subpacket::new(SubpacketValue::Issuer(key.key().keyid()), false).map_err(library)?);
        }
        let hashed = SubpacketArea::new(subpackets).map_err(library)?;
        let pk = u8::from(key.key().pk_algo());
        let digest = finish(state.clone(), key.version(), kind, pk, &hashed)?;
        Ok(Draft { key: Rc::clone(key), kind, salt, state, hashed, created, digest })
    }

    /// What the token has to sign.
    ///
    /// # Errors
    /// [`OpenpgpError::Certificate`].
    pub fn to_sign(&self) -> Result<(Scheme, Vec<u8>), OpenpgpError> {
        to_sign(self.key.key(), self.state.algorithm(), &self.digest)
    }

    /// What stands before the text in a cleartext-signed message.
    pub fn cleartext_head(&self) -> String {
        cleartext_head(self.key.version(), self.state.algorithm())
    }

    /// Puts the token's value in, writes the packet, and checks the bytes as a stranger would.
    ///
    /// # Errors
    /// [`OpenpgpError::Raw`], [`OpenpgpError::SelfCheck`].
    pub fn complete(&self, raw: &[u8], armored: bool) -> Result<Vec<u8>, OpenpgpError> {
        let value = from_raw(self.key.key(), raw)?;
        let prefix = [self.digest.first(), self.digest.get(1)].map(|byte| byte.copied().unwrap_or_default());
        let mut bytes = self.packet(self.kind, prefix, value)?.to_vec().map_err(library)?;
        if armored {
            bytes = wrap(&bytes, self.key.version()).map_err(|error| OpenpgpError::Library(error.to_string()))?;
        }
        self.check(&bytes, armored)?;
        Ok(bytes)
    }

    fn packet(&self, kind: SignatureType, prefix: [u8; 2], value: mpi::Signature) -> Result<Packet, OpenpgpError> {
        let (pk, hash) = (self.key.key().pk_algo(), self.state.algorithm().into());
        let (hashed, unhashed) = (self.hashed.clone(), SubpacketArea::default());
        match self.key.version() {
            Version::V4 => Ok(Signature4::new(kind, pk, hash, hashed, unhashed, prefix, value).into()),
            Version::V6 => {
                let packet = Signature6::new(kind, pk, hash, hashed, unhashed, prefix, self.salt.clone(), value);
                packet.map(Into::into).map_err(library)
            }
        }
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
        if armored && wrap(&binary, self.key.version()).ok().as_deref() != Some(bytes) {
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
        let salt = match (&signature, self.key.version()) {
            (Signature::V4(_), Version::V4) => &[],
            (Signature::V6(signature), Version::V6) => signature.salt(),
            _ => return wrong("of another version than its key"),
        };
        if salt != self.salt {
            return wrong("another salt");
        }
        if signature.typ() != self.kind {
            return wrong("not a signature of this type");
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
        let id = (self.key.version() == Version::V4).then(|| key.keyid());
        if !signature.issuer_fingerprints().eq([&key.fingerprint()]) || !signature.issuers().eq(&id) {
            return wrong("another issuer");
        }
        let pk = u8::from(signature.pk_algo());
        let digest = finish(self.state.clone(), self.key.version(), signature.typ(), pk, signature.hashed_area())?;
        if digest.get(..2) != Some(&signature.digest_prefix()[..]) {
            return wrong("the digest's first bytes differ");
        }
        let policy = StandardPolicy::at(self.created);
        policy.signature(&signature, HashAlgoSecurity::CollisionResistance).map_err(failed)?;
        signature.verify_digest(key, &digest).map_err(failed)
    }
}

/// What stands before the text in a cleartext-signed message (RFC 9580 §7): the name of the hash for verifiers of v4, which may want it;
/// in v6 nobody does (RFC 9580 §6.2.2.3).
pub(super) fn cleartext_head(version: Version, algorithm: HashAlgorithm) -> String {
    let hash = match version {
        Version::V4 => format!("Hash: {}\n", algorithm.name().to_uppercase()),
        Version::V6 => String::new(),
    };
    format!("-----BEGIN PGP SIGNED MESSAGE-----\n{hash}\n")
}

/// Appends the trailer (RFC 9580 §5.2.4) and finishes the hash.
pub(super) fn finish(
    mut state: HashState,
    version: Version,
    kind: SignatureType,
    pk: u8,
    hashed: &SubpacketArea,
) -> Result<Vec<u8>, OpenpgpError> {
    let area = hashed.to_vec().map_err(library)?;
    let length = u16::try_from(area.len()).map_err(|_| OpenpgpError::Library("the hashed area is too long".to_owned()))?;
    let hash = u8::from(openpgp::types::HashAlgorithm::from(state.algorithm()));
    let number = if version == Version::V6 { 6 } else { 4 };
    let mut trailer = vec![number, kind.into(), pk, hash];
    match version {
        Version::V4 => trailer.extend(length.to_be_bytes()),
        Version::V6 => trailer.extend(u32::from(length).to_be_bytes()),
    }
    let total = u32::from(length) + if version == Version::V6 { 8 } else { 6 };
    trailer.extend(area);
    trailer.extend([number, 0xff]);
    trailer.extend(total.to_be_bytes());
    state.update(&trailer);
    Ok(state.finish())
}

pub(super) fn wrap(bytes: &[u8], version: Version) -> std::io::Result<Vec<u8>> {
    let mut writer = armor::Writer::new(Vec::new(), armor::Kind::Signature).map_err(std::io::Error::other)?;
    if version == Version::V6 {
        // RFC 9580 §6.1: no checksum behind a signature of version 6.
        writer.set_profile(openpgp::Profile::RFC9580).map_err(std::io::Error::other)?;
    }
    writer.write_all(bytes)?;
    writer.finalize().map_err(std::io::Error::other)
}

pub(super) fn unwrap(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mode = armor::ReaderMode::Tolerant(Some(armor::Kind::Signature));
    let mut binary = Vec::new();
    armor::Reader::from_bytes(bytes, mode).read_to_end(&mut binary)?;
    Ok(binary)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::hash_state::Wanted;
    use openpgp::Profile::{self, RFC4880, RFC9580};
    use openpgp::cert::{CertBuilder, CipherSuite};
    use openpgp::crypto::{KeyPair, Signer};
    use openpgp::packet::{Marker, UserID};

    /// A key in software, and the certificate of it alone.
    pub(crate) fn key(profile: Profile, suite: CipherSuite) -> (KeyPair, Rc<SigningKey>) {
        let builder = CertBuilder::new().set_profile(profile).unwrap();
        let (cert, _) =
            builder.set_cipher_suite(suite).add_userid("Test <test@example.org>").add_signing_subkey().generate().unwrap();
        let now = SystemTime::now();
        let secret = cert.keys().with_policy(&StandardPolicy::new(), now).for_signing().secret().next().unwrap().key().clone();
        (
            secret.into_keypair().unwrap(),
            SigningKey::read(&openpgp::serialize::SerializeInto::export_to_vec(&cert).unwrap(), HashAlgorithm::Sha512, now)
                .map(Rc::new)
                .unwrap(),
        )
    }

    /// What a token would answer.
    pub(crate) fn raw(pair: &mut KeyPair, hash: HashAlgorithm, digest: &[u8]) -> Vec<u8> {
        match pair.sign(hash.into(), digest).unwrap() {
            mpi::Signature::RSA { s } => s.value_padded(256).unwrap().to_vec(),
            mpi::Signature::Ed25519 { s } => s.to_vec(),
            mpi::Signature::EdDSA { r, s } | mpi::Signature::ECDSA { r, s } => {
                [r.value_padded(32).unwrap(), s.value_padded(32).unwrap()].concat()
            }
            mpi::Signature::MLDSA65_Ed25519 { eddsa, mldsa } => [&eddsa[..], &mldsa[..]].concat(),
            mpi::Signature::MLDSA87_Ed448 { eddsa, mldsa } => [&eddsa[..], &mldsa[..]].concat(),
            other => panic!("{other:?}"),
        }
    }

    fn draft(key: &Rc<SigningKey>, form: Form, data: &[u8], now: SystemTime) -> Draft {
        by(key, HashAlgorithm::Sha512, form, data, now)
    }

    pub(crate) fn by(key: &Rc<SigningKey>, algorithm: HashAlgorithm, form: Form, data: &[u8], now: SystemTime) -> Draft {
        let salt = key.salt().unwrap();
        let mut state = HashState::begin(&Wanted { algorithm, form, salt });
        state.update(data);
        Draft::new(key, form, salt, state, now).unwrap()
    }

    /// Hands `judge` a draft and its good signature, for each kind of key, version and type.
    fn each(suites: &[CipherSuite], judge: impl Fn(&Draft, &[u8])) {
        for (suite, profile) in suites.iter().flat_map(|suite| [(suite, RFC4880), (suite, RFC9580)]) {
            let (mut pair, key) = key(profile, *suite);
            assert_eq!(key.version() == Version::V6, profile == RFC9580);
            for form in [Form::Binary, Form::Text] {
                let draft = draft(&key, form, b"data", SystemTime::now());
                let raw = raw(&mut pair, HashAlgorithm::Sha512, &draft.digest);
                judge(&draft, &draft.complete(&raw, false).unwrap());
            }
        }
    }

    pub(crate) fn refuses(draft: &Draft, bytes: &[u8], what: &str) {
        for (bytes, armored) in [(bytes.to_vec(), false), (wrap(bytes, draft.key.version()).unwrap(), true)] {
            let outcome = draft.check(&bytes, armored);
            assert!(matches!(outcome, Err(OpenpgpError::SelfCheck(_))), "{what}, armored {armored}: {outcome:?}");
        }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Signature {
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
            draft.check(&wrap(good, draft.key.version()).unwrap(), true).unwrap();
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
            let form = |kind| if kind == SignatureType::Binary { Form::Binary } else { Form::Text };
            let other_form = if form(draft.kind) == Form::Binary { Form::Text } else { Form::Binary };
            let earlier = super::tests::draft(&draft.key, form(draft.kind), b"data", draft.created - Duration::from_secs(1));
            let other = super::tests::draft(&draft.key, form(draft.kind), b"other", draft.created);
            let typed = super::tests::draft(&draft.key, other_form, b"data", draft.created);
            for draft in [&earlier, &other, &typed] {
                refuses(draft, good, "of another draft");
            }
        });
        for profile in [RFC4880, RFC9580] {
            let ((mut pair, ours), (mut stranger, _)) = (key(profile, CipherSuite::Cv25519), key(profile, CipherSuite::Cv25519));
            let draft = draft(&ours, Form::Binary, b"data", SystemTime::now());
            let hash = HashAlgorithm::Sha512;
            let by_stranger = raw(&mut stranger, hash, &draft.digest);
            assert!(matches!(draft.complete(&by_stranger, false), Err(OpenpgpError::SelfCheck(_))));
            for kind in [SignatureType::Text, SignatureType::Standalone, SignatureType::GenericCertification] {
                let pk = u8::from(ours.key().pk_algo());
                let digest = finish(draft.state.clone(), ours.version(), kind, pk, &draft.hashed).unwrap();
                let value = from_raw(ours.key(), &raw(&mut pair, hash, &digest)).unwrap();
                let packet = draft.packet(kind, [digest[0], digest[1]], value).unwrap();
                refuses(&draft, &packet.to_vec().unwrap(), &format!("{kind:?}"));
            }
        }
    }

    /// The same artifact twice, in v6: with another salt each time, as long as RFC 9580 §9.5 wants it.
    #[test]
    fn a_salt_is_fresh_and_of_its_hash_length() {
        let (_, key) = key(RFC9580, CipherSuite::Cv25519);
        let now = SystemTime::now();
        for (hash, length) in [(HashAlgorithm::Sha256, 16), (HashAlgorithm::Sha384, 24), (HashAlgorithm::Sha512, 32)] {
            assert_eq!(openpgp::types::HashAlgorithm::from(hash).salt_size().unwrap(), length);
            let salts = [(); 2].map(|()| {
                let salt = key.salt().unwrap();
                Draft::new(&key, Form::Binary, salt, HashState::begin(&Wanted { salt, ..Wanted::plain(hash) }), now).unwrap().salt
            });
            assert!(salts.iter().all(|salt| salt.len() == length) && salts[0] != salts[1], "{salts:?}");
        }
    }

    /// A salt in the packet that was not hashed, or another one: a verifier would not take it, and the check does not either.
    #[test]
    fn the_salt_is_the_one_that_was_hashed() {
        let (mut pair, key) = key(RFC9580, CipherSuite::Cv25519);
        let draft = draft(&key, Form::Binary, b"data", SystemTime::now());
        let hash = HashAlgorithm::Sha512;
        let value = from_raw(key.key(), &raw(&mut pair, hash, &draft.digest)).unwrap();
        for salt in [vec![0; 32], vec![0; 16], draft.salt[..31].to_vec(), Vec::new()] {
            let (hashed, prefix) = (draft.hashed.clone(), [draft.digest[0], draft.digest[1]]);
            let pk = key.key().pk_algo();
            let packet =
                Signature6::new(draft.kind, pk, hash.into(), hashed, SubpacketArea::default(), prefix, salt, value.clone())
                    .unwrap();
            refuses(&draft, &Packet::from(packet).to_vec().unwrap(), "another salt");
        }
    }

    /// Two armors in a file, or words around one, are for each verifier to make something of: ours has neither.
    #[test]
    fn the_armor_is_exactly_ours() {
        each(&[CipherSuite::Cv25519], |draft, good| {
            let armor = String::from_utf8(wrap(good, draft.key.version()).unwrap()).unwrap();
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
