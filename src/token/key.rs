//! The private key that a uri selects, its public half, and what it signs.

use super::cryptoki::{Attribute, AttributeType, Cryptoki, CryptokiError, Handle, PURE_ED448, Value};
use super::login::Again;
use super::{Fault, printable};
use crate::config::uri::KeyUri;
use crate::openpgp::{Composite, Public, Scheme};
use cryptoki_sys::*;

/// The private key or keys of the token that sign for a key of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Private {
    /// One.
    One(Key),
    /// The two of a post-quantum key.
    Pair {
        /// For Ed25519 or Ed448.
        eddsa: Key,
        /// For ML-DSA.
        mldsa: Key,
    },
}

impl Private {
    /// Whether the token wants the PIN before each signature by this key, or by one of the two.
    pub fn wants_login(&self) -> bool {
        match self {
            Private::One(key) => key.wants_login,
            Private::Pair { eddsa, mldsa } => eddsa.wants_login || mldsa.wants_login,
        }
    }
}

/// One private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Which.
    pub handle: Handle,
    /// CKA_ALWAYS_AUTHENTICATE.
    pub wants_login: bool,
}

/// The attributes that select a key.
pub(crate) fn template(class: u64, uri: &KeyUri) -> Vec<Attribute> {
    let label = uri.label.clone().map(|label| (CKA_LABEL, Value::Bytes(label)));
    let id = uri.id.clone().map(|id| (CKA_ID, Value::Bytes(id)));
    [Some((CKA_CLASS, Value::Number(class))), label, id].into_iter().flatten().collect()
}

/// Finds the one private key that the uri selects, or the two that make one of RFC 9980, and the public half if the token has it.
///
/// # Errors
/// [`Fault::Keys`], [`Fault::Half`], [`Fault::Module`].
pub fn find(cryptoki: &dyn Cryptoki, session: Handle, uri: &KeyUri) -> Result<(Private, Option<Public>), Fault> {
    let token = Session { cryptoki, session };
    let keys = cryptoki.find(session, &template(CKO_PRIVATE_KEY, uri))?;
    match keys[..] {
        [key] => match token.kind(key)? {
            Some(CKK_ML_DSA) => Err(Fault::Half),
            kind => {
                let public = token.public_half(key, kind, uri)?;
                Ok((Private::One(token.key(key)?), public))
            }
        },
        [one, other] => {
            let (eddsa, mldsa) = match (token.kind(one)?, token.kind(other)?) {
                (Some(CKK_EC_EDWARDS), Some(CKK_ML_DSA)) => (one, other),
                (Some(CKK_ML_DSA), Some(CKK_EC_EDWARDS)) => (other, one),
                _ => return Err(Fault::Keys(2)),
            };
            let public = token.public_pair(eddsa, uri)?;
            Ok((Private::Pair { eddsa: token.key(eddsa)?, mldsa: token.key(mldsa)? }, public))
        }
        _ => Err(Fault::Keys(keys.len())),
    }
}

struct Session<'a> {
    cryptoki: &'a dyn Cryptoki,
    session: Handle,
}

impl Session<'_> {
    fn key(&self, handle: Handle) -> Result<Key, CryptokiError> {
        let always = self.cryptoki.attribute(self.session, handle, CKA_ALWAYS_AUTHENTICATE)?;
        Ok(Key { handle, wants_login: always == Some(Value::Bool(true)) })
    }

    fn kind(&self, key: Handle) -> Result<Option<u64>, CryptokiError> {
        match self.cryptoki.attribute(self.session, key, CKA_KEY_TYPE)? {
            Some(Value::Number(kind)) => Ok(Some(kind)),
            _ => Ok(None),
        }
    }

    /// The public half that the private key shows, or else the one public key that the uri selects.
    fn public_half(&self, key: Handle, kind: Option<u64>, uri: &KeyUri) -> Result<Option<Public>, CryptokiError> {
        if let Some(public) = self.public(key, kind)? {
            return Ok(Some(public));
        }
        match self.cryptoki.find(self.session, &template(CKO_PUBLIC_KEY, uri))?[..] {
            [key] => self.public(key, self.kind(key)?),
            _ => Ok(None),
        }
    }

    fn public(&self, key: Handle, kind: Option<u64>) -> Result<Option<Public>, CryptokiError> {
        Ok(if kind == Some(CKK_RSA) {
            let (n, e) = (self.bytes(key, CKA_MODULUS)?, self.bytes(key, CKA_PUBLIC_EXPONENT)?);
            n.zip(e).map(|(n, e)| Public::Rsa { n, e })
        } else {
            let (params, point) = (self.bytes(key, CKA_EC_PARAMS)?, self.bytes(key, CKA_EC_POINT)?);
            params.zip(point).map(|(params, point)| Public::Ec { params, point })
        })
    }

    /// That of a pair. An ML-DSA private key has its secret where the public key has its value: only that one is asked.
    fn public_pair(&self, eddsa: Handle, uri: &KeyUri) -> Result<Option<Public>, CryptokiError> {
        let of_kind = |kind| [template(CKO_PUBLIC_KEY, uri), vec![(CKA_KEY_TYPE, Value::Number(kind))]].concat();
        let [mldsa] = self.cryptoki.find(self.session, &of_kind(CKK_ML_DSA))?[..] else { return Ok(None) };
        let Some(Value::Bytes(mldsa)) = self.cryptoki.attribute(self.session, mldsa, CKA_VALUE)? else { return Ok(None) };
        let shown = match self.public(eddsa, None)? {
            None => match self.cryptoki.find(self.session, &of_kind(CKK_EC_EDWARDS))?[..] {
                [key] => self.public(key, None)?,
                _ => None,
            },
            shown => shown,
        };
        Ok(match shown {
            Some(Public::Ec { params, point }) if Composite::ALL.iter().any(|kind| kind.public_lengths()[1] == mldsa.len()) => {
                Some(Public::Composite { params, point, mldsa })
            }
            _ => None,
        })
    }

    fn bytes(&self, key: Handle, kind: AttributeType) -> Result<Option<Vec<u8>>, CryptokiError> {
        Ok(match self.cryptoki.attribute(self.session, key, kind)? {
            // There, and of a length that a message holds.
            Some(Value::Bytes(bytes)) if (1..=768).contains(&bytes.len()) => Some(bytes),
            _ => None,
        })
    }
}

/// Makes one raw signature: of a pair, both, EdDSA's first. `again` is for keys that want the PIN each time.
///
/// # Errors
/// [`Fault::Module`]; [`Fault::Half`] for another kind of key; what [`Again::log_in`] says.
pub fn sign(
    cryptoki: &dyn Cryptoki,
    session: Handle,
    key: Private,
    again: Option<&Again>,
    scheme: Scheme,
    data: &[u8],
) -> Result<Vec<u8>, Fault> {
    let by = |mechanism, parameters: &[u64], key: Key| -> Result<Vec<u8>, Fault> {
        cryptoki.sign_init(session, mechanism, parameters, key.handle)?;
        if let Some(again) = again.filter(|_| key.wants_login) {
            // PKCS#11 3.1 §5.6.8: between the two.
            again.log_in(cryptoki, session)?;
        }
        Ok(cryptoki.sign(session, data)?)
    };
    let sign = |mechanism, key| by(mechanism, &[], key);
    let (eddsa, mldsa, kind) = match (key, scheme) {
        (Private::One(key), Scheme::RsaPkcs) => return sign(CKM_RSA_PKCS, key),
        (Private::One(key), Scheme::Ecdsa) => return sign(CKM_ECDSA, key),
        (Private::One(key), Scheme::Eddsa) => return sign(CKM_EDDSA, key),
        (Private::Pair { eddsa, mldsa }, Scheme::Composite(kind)) => (eddsa, mldsa, kind),
        _ => return Err(Fault::Half),
    };
    let first = match kind {
        Composite::MlDsa65Ed25519 => sign(CKM_EDDSA, eddsa)?,
        Composite::MlDsa87Ed448 => by(CKM_EDDSA, &PURE_ED448, eddsa)?,
    };
    let second = sign(CKM_ML_DSA, mldsa)?;
    if [first.len(), second.len()] != kind.signature_lengths() {
        let lengths = format!("its halves of a signature have {} and {} bytes", first.len(), second.len());
        return Err(Fault::Module(printable(&lengths)));
    }
    Ok([first, second].concat())
}

#[cfg(test)]
mod tests;
