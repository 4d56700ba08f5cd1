//! Making a key in the token: for `sigsh-admin key generate`. No session of sigsh ever comes here.

use super::{Answer, Fault, Setup, module, pin, tell};
use crate::channel::Channel;
use crate::{sys, trusted};
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};

/// The kinds of key, as a command line names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA of this many bits.
    Rsa(u64),
    /// ECDSA on the curve with this object identifier, in DER.
    Ecdsa(&'static [u8]),
    /// Ed25519.
    Ed25519,
}

impl Algorithm {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Algorithm); 7] = [
        ("rsa2048", Algorithm::Rsa(2048)),
        ("rsa3072", Algorithm::Rsa(3072)),
        ("rsa4096", Algorithm::Rsa(4096)),
        ("nistp256", Algorithm::Ecdsa(b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07")),
        ("nistp384", Algorithm::Ecdsa(b"\x06\x05\x2b\x81\x04\x00\x22")),
        ("nistp521", Algorithm::Ecdsa(b"\x06\x05\x2b\x81\x04\x00\x23")),
        ("ed25519", Algorithm::Ed25519),
    ];
}

/// The process: makes the key and answers with its public half, or with why not.
/// Where the key's uri names no label, it gets this one.
pub fn run(channel: Channel, setup: Setup<'_>, algorithm: Algorithm, label: &str) {
    let answer = generate(setup, algorithm, label).unwrap_or_else(Answer::Failed);
    let _ = tell(&channel, &answer);
    sys::exit(0);
}

fn generate(setup: Setup<'_>, algorithm: Algorithm, label: &str) -> Result<Answer, Fault> {
    let (token, [uri]) = (setup.token, setup.keys) else { return Err(Fault::Keys(setup.keys.len())) };
    let path = trusted::resolve(&token.module)?;
    let (pin, pin_file) = pin::read(&token.pin_file)?;
    let marker = pin::Marker::open(setup.state, setup.name, &pin_file)?;
    sys::replace_environment(token.environment.iter().map(|(name, value)| (&**name, &**value)));
    let loaded = module::load(&path)?;
    let session = module::log_in(&loaded, &token.uri, pin, marker, token.timeout(), Pkcs11::open_rw_session_no_drop)?;
    if !session.find_objects(&module::template(ObjectClass::PRIVATE_KEY, uri))?.is_empty() {
        return Err(Fault::Exists);
    }
    let mut id = uri.id.clone().unwrap_or_else(|| vec![0; 8]);
    if uri.id.is_none() {
        getrandom::fill(&mut id).map_err(|error| Fault::Module(super::printable(&error)))?;
    }
    let label = uri.label.clone().unwrap_or_else(|| label.as_bytes().to_vec());
    let named = [Attribute::Token(true), Attribute::Label(label), Attribute::Id(id)];
    let (mechanism, kind) = match algorithm {
        Algorithm::Rsa(bits) => {
            let bits = bits.into();
            let exponent = Attribute::PublicExponent(vec![1, 0, 1]);
            (Mechanism::RsaPkcsKeyPairGen, vec![Attribute::ModulusBits(bits), exponent])
        }
        Algorithm::Ecdsa(curve) => (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(curve.to_vec())]),
        Algorithm::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, vec![Attribute::EcParams(b"\x13\x0cedwards25519".to_vec())]),
    };
    let public = [&named[..], &[Attribute::Private(false), Attribute::Verify(true)], &kind].concat();
    // Born in the token, and never to leave it.
    let secret = [Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Sign(true)];
    session.generate_key_pair(&mechanism, &public, &[&named[..], &secret].concat())?;
    let (_, public) = module::find_key(&session, uri)?;
    Ok(Answer::Open(public))
}
