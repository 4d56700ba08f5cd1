//! Making a key in the token: for `sigsh-admin key generate`. No session of sigsh ever comes here.

use super::cryptoki::{Attribute, Cryptoki, CryptokiError, Handle, Pair, Value};
use super::{Answer, Fault, Setup, key, login, prepare, tell};
use crate::channel::Channel;
use crate::openpgp::Composite;
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
    /// The two key pairs of RFC 9980.
    Composite(Composite),
}

impl Algorithm {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Algorithm); 9] = [
        ("rsa2048", Algorithm::Rsa(2048)),
        ("rsa3072", Algorithm::Rsa(3072)),
        ("rsa4096", Algorithm::Rsa(4096)),
        ("nistp256", Algorithm::Ecdsa(b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07")),
        ("nistp384", Algorithm::Ecdsa(b"\x06\x05\x2b\x81\x04\x00\x22")),
        ("nistp521", Algorithm::Ecdsa(b"\x06\x05\x2b\x81\x04\x00\x23")),
        ("ed25519", Algorithm::Ed25519),
        ("mldsa65-ed25519", Algorithm::Composite(Composite::MlDsa65Ed25519)),
        ("mldsa87-ed448", Algorithm::Composite(Composite::MlDsa87Ed448)),
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
    let (pin, source, marker) = prepare(&setup)?;
    let cryptoki = source.initialize()?;
    let session = login::log_in(&*cryptoki, &token.uri, &pin, &marker, token.timeout(), true)?;
    for (class, what) in [(CKO_PRIVATE_KEY, "private"), (CKO_PUBLIC_KEY, "public")] {
        if !cryptoki.find(session, &key::template(class, uri))?.is_empty() {
            return Err(Fault::Exists(super::printable(&what)));
        }
    }
    let mut id = uri.id.clone().unwrap_or_else(|| vec![0; 8]);
    if uri.id.is_none() {
        getrandom::fill(&mut id).map_err(|error| Fault::Module(super::printable(&error)))?;
    }
    let label = uri.label.clone().unwrap_or_else(|| label.as_bytes().to_vec());
    let named = [(CKA_TOKEN, Value::Bool(true)), (CKA_LABEL, Value::Bytes(label)), (CKA_ID, Value::Bytes(id))];
    make(&*cryptoki, session, algorithm, &named)?;
    let (_, public) = key::find(&*cryptoki, session, uri)?;
    Ok(Answer::Open(public))
}

/// Makes the key pair or, of a post-quantum key, both.
pub(super) fn make(cryptoki: &dyn Cryptoki, session: Handle, algorithm: Algorithm, named: &[Attribute]) -> Result<(), Fault> {
    let on = |mechanism, curve: &[u8]| one(cryptoki, session, mechanism, named, &[(CKA_EC_PARAMS, Value::Bytes(curve.to_vec()))]);
    match algorithm {
        Algorithm::Rsa(bits) => {
            let kind = [(CKA_MODULUS_BITS, Value::Number(bits)), (CKA_PUBLIC_EXPONENT, Value::Bytes(vec![1, 0, 1]))];
            one(cryptoki, session, CKM_RSA_PKCS_KEY_PAIR_GEN, named, &kind)?;
        }
        Algorithm::Ecdsa(curve) => drop(on(CKM_EC_KEY_PAIR_GEN, curve)?),
        Algorithm::Ed25519 => drop(on(CKM_EC_EDWARDS_KEY_PAIR_GEN, b"\x13\x0cedwards25519")?),
        Algorithm::Composite(kind) => {
            // First the one that fewer tokens can make.
            let set = [(CKA_PARAMETER_SET, Value::Number(kind.parameter_set()))];
            let (public, private) = one(cryptoki, session, CKM_ML_DSA_KEY_PAIR_GEN, named, &set)?;
            let [curve, _] = kind.curves();
            if let Err(error) = on(CKM_EC_EDWARDS_KEY_PAIR_GEN, curve) {
                return Err(undo(cryptoki, session, [("private", private), ("public", public)], &error));
            }
        }
    }
    Ok(())
}

/// Makes a key pair of this kind.
fn one(cryptoki: &dyn Cryptoki, session: Handle, by: u64, named: &[Attribute], kind: &[Attribute]) -> Result<Pair, CryptokiError> {
    let public = [(CKA_PRIVATE, Value::Bool(false)), (CKA_VERIFY, Value::Bool(true))];
    // Born in the token, and never to leave it.
    let secret = [(CKA_PRIVATE, true), (CKA_SENSITIVE, true), (CKA_EXTRACTABLE, false), (CKA_SIGN, true)];
    let secret = secret.map(|(kind, value)| (kind, Value::Bool(value)));
    cryptoki.generate(session, by, &[named, &public, kind].concat(), &[named, &secret].concat())
}

/// Destroys the first pair when the second cannot be made, and tells what of it is left.
fn undo(cryptoki: &dyn Cryptoki, session: Handle, pair: [(&str, Handle); 2], error: &CryptokiError) -> Fault {
    let destroy = |(what, key)| {
        let left = cryptoki.destroy(session, key).err()?;
        Some(format!("; its ML-DSA {what} key, made before, is still in the token: {left}"))
    };
    let left = pair.into_iter().filter_map(destroy).collect::<String>();
    Fault::Module(super::printable(&format!("{error}{left}")))
}
