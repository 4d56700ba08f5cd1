//! What a build sends: its certificate, as `gpg --export` gives it, and behind it one signature, as `gpg --detach-sign` makes it.

use crate::openpgp::verify::dearmor_all;
use openpgp::cert::Cert;
use openpgp::crypto::mpi;
use openpgp::packet::{Key, Packet, Signature, key};
use openpgp::parse::{Dearmor, PacketParserBuilder, PacketParserResult, Parse};
use openpgp::serialize::MarshalInto;
use openpgp::types::SignatureType;
use sequoia_openpgp as openpgp;

/// More of them no certificate needs that is made for a build.
const MAX_PACKETS: usize = 32;

/// The longest RSA key in bits. Longer ones only take time.
const MAX_RSA: usize = 4096;

const UNREADABLE: &str = "is cut off, or not made of OpenPGP packets";

/// The two, of which nothing is verified.
#[derive(Debug)]
pub(super) struct Parts {
    /// The build's certificate, of version 4.
    pub(super) cert: Cert,
    /// A signature of a document, of version 4.
    pub(super) signature: Signature,
}

impl Parts {
    /// Reads both, binary, or each in an armor of its own.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence.
    pub(super) fn read(bytes: &[u8]) -> Result<Parts, String> {
        let binary = match bytes.first() {
            Some(byte) if byte & 0x80 == 0 => dearmor_all(bytes, &["PUBLIC KEY BLOCK", "SIGNATURE"])
                .map_err(|_| "is not an armored certificate with an armored signature behind it, and nothing else")?,
            _ => bytes.to_vec(),
        };
        let mut packets = packets(&binary)?;
        let Some(Packet::Signature(signature)) = packets.pop().filter(is_of_document) else {
            return Err("does not end with the build's signature: its certificate comes first".to_owned());
        };
        // What else a packet holds, nobody has read.
        if !signature.to_vec().is_ok_and(|body| binary.ends_with(&body)) {
            return Err("has something behind its signature".to_owned());
        }
        if packets.iter().any(is_of_document) {
            return Err("has more than one signature".to_owned());
        }
        let cert = Cert::from_packets(packets.into_iter()).map_err(|_| "has no certificate before its signature")?;
        Ok(Parts { cert, signature })
    }
}

/// Those that a certificate and a signature consist of, as they stand there.
fn packets(binary: &[u8]) -> Result<Vec<Packet>, String> {
    let unreadable = |_| UNREADABLE.to_owned();
    let mut parser = PacketParserBuilder::from_bytes(binary)
        .and_then(|builder| builder.dearmor(Dearmor::Disabled).build())
        .map_err(unreadable)?;
    let mut packets = Vec::new();
    while let PacketParserResult::Some(found) = parser {
        if packets.len() == MAX_PACKETS {
            return Err(format!("has more than {MAX_PACKETS} packets"));
        }
        // Before anything more of it is read: a compressed packet could hold gigabytes.
        check(&found.packet, packets.is_empty())?;
        let (packet, rest) = found.next().map_err(unreadable)?;
        packets.push(packet);
        parser = rest;
    }
    Ok(packets)
}

/// What a packet must be, the `first` one or another.
fn check(packet: &Packet, first: bool) -> Result<(), String> {
    let wrong = |what: &str| Err(what.to_owned());
    match packet {
        Packet::PublicKey(key) if first => bearable(key),
        Packet::SecretKey(_) | Packet::SecretSubkey(_) => {
            wrong("holds a secret key: send the public one alone, and take a new one")
        }
        Packet::Unknown(_) => wrong(UNREADABLE),
        _ if first => wrong("does not begin with the build's certificate"),
        Packet::PublicKey(_) => wrong("has more than one certificate"),
        Packet::PublicSubkey(key) => bearable(key),
        Packet::UserID(_) => Ok(()),
        Packet::Signature(signature) => match (signature, signature.typ()) {
            (_, SignatureType::KeyRevocation | SignatureType::SubkeyRevocation | SignatureType::CertificationRevocation) => {
                wrong("has a certificate in which something is revoked")
            }
            (Signature::V4(_), _) => Ok(()),
            _ => wrong("has a signature that is not of version 4"),
        },
        _ => wrong("has something in it that is neither certificate nor signature"),
    }
}

/// Whether it takes no long time to verify what such a key has signed, and our own state of the hash can be finished for it.
fn bearable<R: key::KeyRole>(key: &Key<key::PublicParts, R>) -> Result<(), String> {
    let known = match key.mpis() {
        mpi::PublicKey::RSA { .. } => key.mpis().bits().is_some_and(|bits| bits <= MAX_RSA),
        mpi::PublicKey::EdDSA { .. } | mpi::PublicKey::Ed25519 { .. } | mpi::PublicKey::ECDSA { .. } => true,
        mpi::PublicKey::ECDH { .. } | mpi::PublicKey::X25519 { .. } => true,
        _ => false,
    };
    match key.version() {
        4 if known => Ok(()),
        4 => Err("has a key of a kind that builds do not need: Ed25519, ECDSA, or RSA of at most 4096 bits".to_owned()),
        // RFC 9580 §5.2.4: a salt of the signature's own is hashed before the artifact.
        _ => Err("is by a key that is not of version 4: what it signs cannot be checked without the artifact".to_owned()),
    }
}

fn is_of_document(packet: &Packet) -> bool {
    let kinds = [SignatureType::Binary, SignatureType::Text];
    matches!(packet, Packet::Signature(signature) if kinds.contains(&signature.typ()))
}
