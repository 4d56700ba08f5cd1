//! Making a key in the token: for `sigsh-admin key generate`. No session of sigsh ever comes here.

use super::cryptoki::{Attribute, Value};
use super::{Answer, Fault, Setup, Source, key, login, pin, tell};
use crate::channel::Channel;
use crate::sys;
use cryptoki_sys::*;

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
    let (pin, pin_file) = pin::read(&token.pin_file)?;
    let source = Source::of(token, &pin)?;
    let marker = pin::Marker::open(setup.state, setup.name, &pin_file)?;
    sys::replace_environment(token.environment.iter().map(|(name, value)| (&**name, &**value)));
    let cryptoki = source.initialize()?;
    let session = login::log_in(&*cryptoki, &token.uri, &pin, &marker, token.timeout(), true)?;
    if !cryptoki.find(session, &key::template(CKO_PRIVATE_KEY, uri))?.is_empty() {
        return Err(Fault::Exists);
    }
    let mut id = uri.id.clone().unwrap_or_else(|| vec![0; 8]);
    if uri.id.is_none() {
        getrandom::fill(&mut id).map_err(|error| Fault::Module(super::printable(&error)))?;
    }
    let label = uri.label.clone().unwrap_or_else(|| label.as_bytes().to_vec());
    let named = [(CKA_TOKEN, Value::Bool(true)), (CKA_LABEL, Value::Bytes(label)), (CKA_ID, Value::Bytes(id))];
    let (mechanism, kind): (_, Vec<Attribute>) = match algorithm {
        Algorithm::Rsa(bits) => {
            let exponent = (CKA_PUBLIC_EXPONENT, Value::Bytes(vec![1, 0, 1]));
            (CKM_RSA_PKCS_KEY_PAIR_GEN, vec![(CKA_MODULUS_BITS, Value::Number(bits)), exponent])
        }
        Algorithm::Ecdsa(curve) => (CKM_EC_KEY_PAIR_GEN, vec![(CKA_EC_PARAMS, Value::Bytes(curve.to_vec()))]),
        Algorithm::Ed25519 => (CKM_EC_EDWARDS_KEY_PAIR_GEN, vec![(CKA_EC_PARAMS, Value::Bytes(b"\x13\x0cedwards25519".to_vec()))]),
    };
    let public = [(CKA_PRIVATE, Value::Bool(false)), (CKA_VERIFY, Value::Bool(true))];
    // Born in the token, and never to leave it.
    let secret = [(CKA_PRIVATE, true), (CKA_SENSITIVE, true), (CKA_EXTRACTABLE, false), (CKA_SIGN, true)];
    let secret = secret.map(|(kind, value)| (kind, Value::Bool(value)));
    cryptoki.generate(session, mechanism, &[&named[..], &public, &kind].concat(), &[&named[..], &secret].concat())?;
    let (_, public) = key::find(&*cryptoki, session, uri)?;
    Ok(Answer::Open(public))
}
