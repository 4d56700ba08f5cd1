//! The private key that a uri selects, its public half, and what it signs.

use super::Fault;
use super::cryptoki::{Attribute, AttributeType, Cryptoki, CryptokiError, Handle, Value};
use crate::config::uri::KeyUri;
use crate::openpgp::{Public, Scheme};
use cryptoki_sys::*;

/// The attributes that select a key.
pub(crate) fn template(class: u64, uri: &KeyUri) -> Vec<Attribute> {
    let label = uri.label.clone().map(|label| (CKA_LABEL, Value::Bytes(label)));
    let id = uri.id.clone().map(|id| (CKA_ID, Value::Bytes(id)));
    [Some((CKA_CLASS, Value::Number(class))), label, id].into_iter().flatten().collect()
}

/// Finds the one private key that the uri selects, and its public half if the token has it.
///
/// # Errors
/// [`Fault::Keys`], [`Fault::Module`].
pub fn find(cryptoki: &dyn Cryptoki, session: Handle, uri: &KeyUri) -> Result<(Handle, Option<Public>), Fault> {
    let keys = cryptoki.find(session, &template(CKO_PRIVATE_KEY, uri))?;
    let [key] = keys[..] else { return Err(Fault::Keys(keys.len())) };
    if let Some(public) = public_half(cryptoki, session, key)? {
        return Ok((key, Some(public)));
    }
    let public = match cryptoki.find(session, &template(CKO_PUBLIC_KEY, uri))?[..] {
        [public] => public_half(cryptoki, session, public)?,
        _ => None,
    };
    Ok((key, public))
}

fn public_half(cryptoki: &dyn Cryptoki, session: Handle, key: Handle) -> Result<Option<Public>, Fault> {
    let bytes = |kind: AttributeType| -> Result<Option<Vec<u8>>, CryptokiError> {
        Ok(match cryptoki.attribute(session, key, kind)? {
            // There, and of a length that a message holds.
            Some(Value::Bytes(bytes)) if (1..=768).contains(&bytes.len()) => Some(bytes),
            _ => None,
        })
    };
    Ok(if cryptoki.attribute(session, key, CKA_KEY_TYPE)? == Some(Value::Number(CKK_RSA)) {
        bytes(CKA_MODULUS)?.zip(bytes(CKA_PUBLIC_EXPONENT)?).map(|(n, e)| Public::Rsa { n, e })
    } else {
        bytes(CKA_EC_PARAMS)?.zip(bytes(CKA_EC_POINT)?).map(|(params, point)| Public::Ec { params, point })
    })
}

/// Makes one raw signature.
///
/// # Errors
/// [`Fault::Module`].
pub fn sign(cryptoki: &dyn Cryptoki, session: Handle, key: Handle, scheme: Scheme, data: &[u8]) -> Result<Vec<u8>, Fault> {
    let mechanism = match scheme {
        Scheme::RsaPkcs => CKM_RSA_PKCS,
        Scheme::Ecdsa => CKM_ECDSA,
        Scheme::Eddsa => CKM_EDDSA,
    };
    cryptoki.sign_init(session, mechanism, key)?;
    Ok(cryptoki.sign(session, data)?)
}
