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
        let PacketParserResult::Some(parser) = PacketParser::from_bytes(&binary).map_err(failed)? else {
            return wrong("no packet");
        };
        let (packet, rest) = parser.next().map_err(failed)?;
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
