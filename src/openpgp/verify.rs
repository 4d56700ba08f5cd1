//! Signatures as others see them: a detached signature against a pinned certificate, with what was hashed of the file.

mod armor;

pub use armor::{dearmor, dearmor_all};

use super::signature::{cleartext_head, finish, wrap};
use super::{OpenpgpError, Version, library, one_line};
use crate::hash_state::{Form, HashAlgorithm, HashState, Salt, Wanted};
use openpgp::KeyHandle;
use openpgp::cert::{Cert, CertParser};
use openpgp::packet::key::{PublicParts, UnspecifiedRole};
use openpgp::packet::signature::subpacket::{Subpacket, SubpacketTag};
use openpgp::packet::{Key, Packet, Signature};
use openpgp::parse::{PacketParser, PacketParserResult, Parse};
use openpgp::policy::{HashAlgoSecurity, Policy, StandardPolicy};
use openpgp::serialize::{MarshalInto, SerializeInto};
use openpgp::types::{RevocationStatus, SignatureType};
use sequoia_openpgp as openpgp;
use std::time::SystemTime;

/// The largest detached signature in bytes.
pub const MAX_SIGNATURE: u64 = 64 * 1024;

/// Why a signature is not a good one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSignature(pub String);

/// The certificates that a signature may come from.
#[derive(Clone)]
pub struct Pinned(Vec<Cert>);

impl Pinned {
    /// Reads one certificate or several, binary or armored.
    ///
    /// # Errors
    /// [`OpenpgpError::Certificate`].
    pub fn read(bytes: &[u8]) -> Result<Pinned, OpenpgpError> {
        let bad = |what: String| OpenpgpError::Certificate(what);
        let unreadable = |error| bad(format!("cannot be read: {}", one_line(&error)));
        let certs = CertParser::from_bytes(bytes).and_then(Iterator::collect::<Result<Vec<Cert>, _>>).map_err(unreadable)?;
        match certs {
            certs if certs.is_empty() => Err(bad("file is empty".to_owned())),
            certs if certs.iter().any(Cert::is_tsk) => Err(bad("holds a secret key; export the public one alone".to_owned())),
            certs => Ok(Pinned(certs)),
        }
    }

    /// The certificates of all of these.
    pub fn all<'a>(pinned: impl IntoIterator<Item = &'a Pinned>) -> Pinned {
        Pinned(pinned.into_iter().flat_map(|pinned| pinned.0.iter().cloned()).collect())
    }

    /// This one alone.
    pub(crate) fn only(cert: Cert) -> Pinned {
        Pinned(vec![cert])
    }

    /// The certificates themselves.
    pub fn certs(&self) -> &[Cert] {
        &self.0
    }

    /// Whether the key of this fingerprint can sign at a time: neither it nor its certificate has expired or is revoked.
    pub fn can_sign(&self, fingerprint: &str, at: SystemTime) -> bool {
        let policy = StandardPolicy::at(at);
        self.0.iter().any(|cert| able(cert, &policy, at).any(|key| key.fingerprint().to_hex() == fingerprint))
    }

    /// All of them, binary or armored.
    ///
    /// # Errors
    /// [`OpenpgpError::Library`].
    pub fn export(&self, armor: bool) -> Result<Vec<u8>, OpenpgpError> {
        export(&self.0, armor)
    }
}

/// Certificates one after the other, binary or armored.
///
/// # Errors
/// [`OpenpgpError::Library`].
pub fn export<'a>(certs: impl IntoIterator<Item = &'a Cert>, armor: bool) -> Result<Vec<u8>, OpenpgpError> {
    let export =
        |cert: &Cert| if armor { SerializeInto::export_to_vec(&cert.armored()) } else { SerializeInto::export_to_vec(cert) };
    let all = certs.into_iter().map(export).collect::<Result<Vec<_>, _>>().map_err(library)?;
    Ok(all.concat())
}

/// A detached signature: one packet, of version 4 or 6, on a document.
#[derive(Clone, Debug)]
pub struct Detached {
    signature: Signature,
    version: Version,
    algorithm: HashAlgorithm,
    salt: Option<Salt>,
}

impl Detached {
    /// Reads one, binary or armored; there may be nothing else.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn read(bytes: &[u8]) -> Result<Detached, BadSignature> {
        let wrong = |what: &str| BadSignature(what.to_owned());
        let failed = |error: openpgp::anyhow::Error| BadSignature(one_line(&error));
        let dearmored = match bytes.first() {
            None => return Err(wrong("it is empty")),
            Some(byte) if byte & 0x80 == 0 => dearmor(bytes)?,
            Some(_) => bytes.to_vec(),
        };
        let PacketParserResult::Some(parser) = PacketParser::from_bytes(&dearmored).map_err(failed)? else {
            return Err(wrong("no packet"));
        };
        let (packet, rest) = parser.next().map_err(failed)?;
        let Packet::Signature(signature) = packet else { return Err(wrong("not a signature")) };
        let body = MarshalInto::to_vec(&signature).map_err(failed)?;
        // A header has at most six bytes (RFC 9580 §4.2); what else there is, nobody has read.
        let header = dearmored.len().checked_sub(body.len()).is_some_and(|length| length <= 6);
        if !matches!(rest, PacketParserResult::EOF(_)) || !header || !dearmored.ends_with(&body) {
            return Err(wrong("not one signature alone"));
        }
        Detached::of(signature)
    }

    /// That of a packet.
    ///
    /// # Errors
    /// [`BadSignature`] where it is of no kind that is used for documents.
    pub(crate) fn of(signature: Signature) -> Result<Detached, BadSignature> {
        let wrong = |what: &str| BadSignature(what.to_owned());
        let algorithm = match signature.hash_algo() {
            openpgp::types::HashAlgorithm::SHA256 => HashAlgorithm::Sha256,
            openpgp::types::HashAlgorithm::SHA384 => HashAlgorithm::Sha384,
            openpgp::types::HashAlgorithm::SHA512 => HashAlgorithm::Sha512,
            other => return Err(wrong(&format!("made by {other}"))),
        };
        let (version, salt) = match &signature {
            Signature::V4(_) => (Version::V4, None),
            Signature::V6(v6) => {
                (Version::V6, Some(Salt::of(algorithm, v6.salt()).ok_or_else(|| wrong("a salt of another length"))?))
            }
            _ => return Err(wrong("of neither version 4 nor version 6")),
        };
        if !matches!(signature.typ(), SignatureType::Binary | SignatureType::Text) {
            return Err(wrong("not a signature of a document"));
        }
        Ok(Detached { signature, version, algorithm, salt })
    }

    /// What must be hashed of the document to verify it; `form` says which, of a text, it is.
    ///
    /// # Errors
    /// [`BadSignature`] when it is of another type.
    pub fn wanted(&self, form: Form) -> Result<Wanted, BadSignature> {
        if (self.signature.typ() == SignatureType::Binary) != (form == Form::Binary) {
            return Err(BadSignature("of another type than was asked for".to_owned()));
        }
        Ok(Wanted { algorithm: self.algorithm, form, salt: self.salt })
    }

    /// Whether it signs the bytes as they are, and not lines of text.
    pub fn is_binary(&self) -> bool {
        self.signature.typ() == SignatureType::Binary
    }

    /// By which hash it was made.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The packet, for what it says of itself.
    pub fn packet(&self) -> &Signature {
        &self.signature
    }

    /// When it says that it was made, in whole seconds; nobody has verified that.
    ///
    /// # Errors
    /// [`BadSignature`] without a time.
    pub fn created(&self) -> Result<SystemTime, BadSignature> {
        self.signature.signature_creation_time().ok_or_else(|| BadSignature("it bears no time".to_owned()))
    }

    /// Whether a message may say so before its text (RFC 9580 §7): the names of hashes, from all its Hash headers. GnuPG demands that this
    /// one's is among them.
    pub fn is_announced(&self, hashes: &[&str]) -> bool {
        let known = |name: &&str| ["SHA256", "SHA384", "SHA512", "SHA224", "SHA1", "RIPEMD160"].contains(name);
        let ours = self.algorithm.name().to_uppercase();
        hashes.iter().all(known) && (hashes.contains(&ours.as_str()) || hashes.is_empty() && self.version == Version::V6)
    }

    /// It as bytes.
    ///
    /// # Errors
    /// [`OpenpgpError::Library`].
    pub fn to_bytes(&self, armor: bool) -> Result<Vec<u8>, OpenpgpError> {
        let bytes = MarshalInto::to_vec(&Packet::from(self.signature.clone())).map_err(library)?;
        if armor { wrap(&bytes, self.version).map_err(|error| OpenpgpError::Library(error.to_string())) } else { Ok(bytes) }
    }

    /// What stands before the text in a cleartext-signed message (RFC 9580 §7).
    pub fn cleartext_head(&self) -> String {
        cleartext_head(self.version, self.algorithm)
    }

    /// Verifies it: by a key of these certificates that could sign when it was made, over what `state` has taken in.
    ///
    /// # Errors
    /// [`BadSignature`], with what is wrong.
    pub fn verify(&self, pinned: &Pinned, state: HashState, now: SystemTime) -> Result<Good, BadSignature> {
        let wrong = |what: &str| BadSignature(what.to_owned());
        let failed = |error: openpgp::anyhow::Error| BadSignature(one_line(&error));
        let created = self.created()?;
        // sqv bears not a second.
        if let Some(ahead) = ahead(created, now) {
            return Err(BadSignature(format!("it was made {ahead} seconds in the future: one of the two clocks is wrong")));
        }
        if self.signature.signature_expiration_time().is_some_and(|end| end <= now) {
            return Err(wrong("it has expired"));
        }
        let policy = StandardPolicy::at(created);
        policy.signature(&self.signature, HashAlgoSecurity::CollisionResistance).map_err(failed)?;
        let pk = u8::from(self.signature.pk_algo());
        let digest = finish(state, self.version, self.signature.typ(), pk, self.signature.hashed_area())
            .map_err(|error| wrong(&error.to_string()))?;
        // What is not signed of a signature must not mislead those who look at it first: GnuPG refuses when these bytes are others.
        if !digest.starts_with(self.signature.digest_prefix()) {
            return Err(wrong("it is not on these bytes"));
        }
        let plain =
            |sub: &Subpacket| matches!(sub.tag(), SubpacketTag::Issuer | SubpacketTag::IssuerFingerprint) && !sub.critical();
        if !self.signature.unhashed_area().iter().all(plain) {
            return Err(wrong("what is not signed of it says more than who made it"));
        }
        let issuers = self.signature.get_issuers();
        let mut ours = false;
        for cert in pinned.certs() {
            for key in able(cert, &policy, created) {
                if issuers.is_empty() || !issuers.iter().all(|issuer| issuer.aliases(key.key_handle())) {
                    continue;
                }
                ours = true;
                if self.signature.verify_digest(key, &digest).is_ok() {
                    let (key, primary) = (key.fingerprint().to_hex(), cert.fingerprint().to_hex());
                    let user_id = cert.userids().next().map(|id| String::from_utf8_lossy(id.userid().value()).into_owned());
                    return Ok(Good { key, primary, user_id, created });
                }
            }
        }
        let known = |key: &KeyHandle| issuers.iter().any(|issuer| issuer.aliases(key));
        let dead = || pinned.certs().iter().flat_map(Cert::keys).any(|key| known(&key.key().key_handle()));
        Err(wrong(match ours {
            true => "it is not on these bytes",
            false if dead() => "it is by a key that could not sign when it was made: expired, revoked, or not for signing",
            false => "it is not by a key of the pinned certificate",
        }))
    }
}

/// By how many seconds a time is still to come, if so; a part counts as one.
fn ahead(created: SystemTime, now: SystemTime) -> Option<u64> {
    let ahead = created.duration_since(now).ok().filter(|ahead| !ahead.is_zero())?;
    Some(ahead.as_secs() + u64::from(ahead.subsec_nanos() > 0))
}

/// The keys of a certificate that could sign at a time. Whether it is revoked itself, a subkey does not tell.
fn able<'a>(
    cert: &'a Cert,
    policy: &'a StandardPolicy<'_>,
    at: SystemTime,
) -> impl Iterator<Item = &'a Key<PublicParts, UnspecifiedRole>> {
    let revoked = matches!(cert.revocation_status(policy, at), RevocationStatus::Revoked(_));
    let keys = (!revoked).then(|| cert.keys().with_policy(policy, at).supported().alive().revoked(false).for_signing());
    keys.into_iter().flatten().map(|key| key.key())
}

/// A signature that verified.
#[derive(Clone, Debug)]
pub struct Good {
    /// The fingerprint of the key that made it, in upper-case hexadecimal digits.
    pub key: String,
    /// That of its primary key.
    pub primary: String,
    /// The first user id of the certificate.
    pub user_id: Option<String>,
    /// When, in whole seconds.
    pub created: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;
    use openpgp::cert::{CertBuilder, CipherSuite};
    use openpgp::packet::signature::SignatureBuilder;
    use std::time::Duration;

    #[test]
    fn a_signature_may_expire_before_its_key() {
        let policy = StandardPolicy::new();
        let (cert, _) = CertBuilder::new().add_userid("t").add_signing_subkey().generate().unwrap();
        let key = cert.keys().with_policy(&policy, None).for_signing().secret().next().unwrap();
        let mut pair = key.key().clone().into_keypair().unwrap();
        let builder = SignatureBuilder::new(SignatureType::Binary);
        let builder = builder.set_signature_validity_period(Duration::from_secs(60)).unwrap();
        let signature = Packet::from(builder.sign_message(&mut pair, b"data").unwrap());
        let detached = Detached::read(&MarshalInto::to_vec(&signature).unwrap()).unwrap();
        let pinned = Pinned(vec![cert.strip_secret_key_material()]);
        for (after, outcome) in [(59, None), (60, Some(BadSignature("it has expired".to_owned())))] {
            let mut state = HashState::begin(&detached.wanted(Form::Binary).unwrap());
            state.update(b"data");
            let now = detached.created().unwrap() + Duration::from_secs(after);
            assert_eq!(detached.verify(&pinned, state, now).err(), outcome);
        }
    }

    /// gpg writes headers of the old format, whose lengths have other sizes (RFC 9580 §4.2.2).
    #[test]
    fn the_headers_of_gpg_are_read() {
        let (policy, mut of_two_bytes) = (StandardPolicy::new(), 0);
        for suite in [CipherSuite::Cv25519, CipherSuite::P256, CipherSuite::P384, CipherSuite::P521, CipherSuite::RSA2k] {
            let (cert, _) = CertBuilder::new().set_cipher_suite(suite).add_userid("t").add_signing_subkey().generate().unwrap();
            let key = cert.keys().with_policy(&policy, None).for_signing().secret().next().unwrap();
            let mut pair = key.key().clone().into_keypair().unwrap();
            let signature = SignatureBuilder::new(SignatureType::Binary).sign_message(&mut pair, b"data").unwrap();
            let body = MarshalInto::to_vec(&signature).unwrap();
            let length = u16::try_from(body.len()).unwrap();
            let header = if length < 256 { vec![0x88, length as u8] } else { [&[0x89][..], &length.to_be_bytes()].concat() };
            of_two_bytes += usize::from((192..256).contains(&length));
            let longer = [&[0x89][..], &(length + 1).to_be_bytes(), &body, &[0]].concat();
            assert!(Detached::read(&longer).is_err(), "a byte that nobody reads");
            let detached = Detached::read(&[header, body].concat()).unwrap();
            let mut state = HashState::begin(&detached.wanted(Form::Binary).unwrap());
            state.update(b"data");
            let pinned = Pinned(vec![cert.strip_secret_key_material()]);
            detached.verify(&pinned, state, SystemTime::now()).unwrap();
        }
        assert!(of_two_bytes > 0, "none that the new format would write longer");
    }

    /// gpgv takes no message of version 4 whose header does not name its hash; in version 6 there is none (RFC 9580 §7.1).
    #[test]
    fn the_hash_of_a_message_is_announced() {
        for (profile, is_v6) in [(openpgp::Profile::RFC4880, false), (openpgp::Profile::RFC9580, true)] {
            let (cert, _) = CertBuilder::new().set_profile(profile).unwrap().add_signing_subkey().generate().unwrap();
            let policy = StandardPolicy::new();
            let key = cert.keys().with_policy(&policy, None).for_signing().secret().next().unwrap();
            let mut pair = key.key().clone().into_keypair().unwrap();
            let builder = SignatureBuilder::new(SignatureType::Text).set_hash_algo(openpgp::types::HashAlgorithm::SHA384);
            let signature = Packet::from(builder.sign_message(&mut pair, b"data").unwrap());
            let detached = Detached::read(&MarshalInto::to_vec(&signature).unwrap()).unwrap();
            for (hashes, expected) in [
                (&[][..], is_v6),
                (&["SHA384"], true),
                (&["SHA256", "SHA384"], true),
                (&["SHA256"], false),
                (&["sha384"], false),
                (&["SHA384", "hello you"], false),
                (&["SHA384", ""], false),
            ] {
                assert_eq!(detached.is_announced(hashes), expected, "{is_v6} {hashes:?}");
            }
        }
    }
}
