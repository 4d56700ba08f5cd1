//! The private key that a uri selects, its public half, and what it signs.

use super::Fault;
use super::cryptoki::{Attribute, AttributeType, Cryptoki, CryptokiError, Handle, Value};
use super::login::Again;
use crate::config::uri::KeyUri;
use crate::openpgp::{Public, Scheme};
use cryptoki_sys::*;

/// A private key in the token.
#[derive(Clone, Copy, Debug)]
pub struct Private {
    handle: Handle,
    /// CKA_ALWAYS_AUTHENTICATE: the token wants the PIN before each signature.
    pub always_authenticate: bool,
}

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
pub fn find(cryptoki: &dyn Cryptoki, session: Handle, uri: &KeyUri) -> Result<(Private, Option<Public>), Fault> {
    let keys = cryptoki.find(session, &template(CKO_PRIVATE_KEY, uri))?;
    let [handle] = keys[..] else { return Err(Fault::Keys(keys.len())) };
    let always_authenticate = cryptoki.attribute(session, handle, CKA_ALWAYS_AUTHENTICATE)? == Some(Value::Bool(true));
    let key = Private { handle, always_authenticate };
    if let Some(public) = public_half(cryptoki, session, handle)? {
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

/// Makes one raw signature. `again` is for a key that wants the PIN each time.
///
/// # Errors
/// [`Fault::Module`]; for such a key, what [`Again::log_in`] says.
pub fn sign(
    cryptoki: &dyn Cryptoki,
    session: Handle,
    key: Private,
    again: Option<&Again<'_>>,
    scheme: Scheme,
    data: &[u8],
) -> Result<Vec<u8>, Fault> {
    let mechanism = match scheme {
        Scheme::RsaPkcs => CKM_RSA_PKCS,
        Scheme::Ecdsa => CKM_ECDSA,
        Scheme::Eddsa => CKM_EDDSA,
    };
    cryptoki.sign_init(session, mechanism, key.handle)?;
    // PKCS#11 3.2 §4.9: between the two.
    if let Some(again) = again.filter(|_| key.always_authenticate) {
        again.log_in(cryptoki, session)?;
    }
    Ok(cryptoki.sign(session, data)?)
}
