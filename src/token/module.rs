//! PKCS#11, through cryptoki: load a module, find one token, log in once, find one key, sign.

use super::pin::{Marker, Verdict};
use super::{Fault, printable};
use crate::config::uri::{KeyUri, TokenUri};
use crate::openpgp::{Public, Scheme};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::RawAuthPin;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::Duration;

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Module(match error {
            // The crate's own words for a return value fill a paragraph; its name is what an operator looks for.
            Error::Pkcs11(value, function) => printable(&format!("C_{function:?} returned {value:?}")),
            error => printable(&error),
        })
    }
}

/// Loads and initialises a module.
///
/// # Errors
/// [`Fault::Module`].
pub fn load(path: &Path) -> Result<ManuallyDrop<Pkcs11>, Fault> {
    // A module that has failed gets no more calls, not even its destructors', before the monitor knows.
    let module = ManuallyDrop::new(Pkcs11::new(path)?);
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    Ok(module)
}

/// Finds the one token that the uri selects.
///
/// # Errors
/// [`Fault::Tokens`], [`Fault::Module`].
pub fn find_token(module: &Pkcs11, uri: &TokenUri) -> Result<(Slot, TokenInfo), Fault> {
    let mut found = Vec::new();
    for slot in module.get_slots_with_token()? {
        // A slot that fails here has an unreadable token, which nobody selects.
        let Ok(info) = module.get_token_info(slot) else { continue };
        if info.token_initialized() && selects(uri, &info) {
            found.push((slot, info));
        }
    }
    match (found.len(), found.pop()) {
        (1, Some(token)) => Ok(token),
        (count, _) => Err(Fault::Tokens(count)),
    }
}

fn selects(uri: &TokenUri, info: &TokenInfo) -> bool {
    let attributes = [
        (&uri.label, info.label()),
        (&uri.manufacturer, info.manufacturer_id()),
        (&uri.model, info.model()),
        (&uri.serial, info.serial_number()),
    ];
    attributes.into_iter().all(|(wanted, is)| wanted.as_ref().is_none_or(|wanted| wanted == is.trim_end_matches([' ', '\0'])))
}

/// Logs in, on a session as `open` opens it. Whatever becomes of it, the marker knows.
///
/// # Errors
/// Any [`Fault`] but [`Fault::Keys`].
pub fn log_in(
    module: &Pkcs11,
    uri: &TokenUri,
    pin: RawAuthPin,
    marker: Marker,
    patience: Duration,
    open: fn(&Pkcs11, Slot) -> Result<Session, Error>,
) -> Result<Session, Fault> {
    let turn = marker.turn(patience)?;
    turn.refuse_tried()?;
    let attempt = || -> Result<Session, (Verdict, Fault)> {
        let unknown = |fault| (Verdict::Unknown, fault);
        let (slot, info) = find_token(module, uri).map_err(unknown)?;
        spare(&info).map_err(unknown)?;
        let session = open(module, slot).map_err(|error| unknown(error.into()))?;
        turn.mark().map_err(unknown)?;
        match session.login_with_raw(UserType::User, &pin) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(Error::Pkcs11(value, function)) => Err(judge(value, function)),
            Err(error) => Err(unknown(error.into())),
        }
    };
    match attempt() {
        Ok(session) => turn.after(Verdict::Right).map(|()| session),
        Err((verdict, fault)) => turn.after(verdict).and(Err(fault)),
    }
}

/// What a refused login says of the PIN. Tokens may be vague: what does not clearly come before the PIN may have been its fault, and
/// a PIN that was never right is then not sent again.
fn judge(value: RvError, function: Function) -> (Verdict, Fault) {
    use RvError::*;
    match value {
        PinIncorrect | PinInvalid | PinLenRange => (Verdict::Wrong, Fault::PinIncorrect),
        PinLocked | PinExpired => (Verdict::Wrong, Error::Pkcs11(value, function).into()),
        CryptokiNotInitialized
        | DeviceMemory
        | DeviceRemoved
        | HostMemory
        | SessionClosed
        | SessionHandleInvalid
        | TokenNotPresent
        | TokenNotRecognized
        | UserAnotherAlreadyLoggedIn
        | UserPinNotInitialized
        | UserTooManyTypes => (Verdict::Unknown, Error::Pkcs11(value, function).into()),
        _ => (Verdict::Doubtful, Error::Pkcs11(value, function).into()),
    }
}

/// A token that counts wrong PINs may be one try from being lost: it is left alone.
fn spare(info: &TokenInfo) -> Result<(), Fault> {
    let low = [
        (info.user_pin_locked(), "its PIN is locked"),
        (info.user_pin_final_try(), "one try of its PIN is left"),
        (info.user_pin_count_low(), "its PIN was wrong before"),
    ];
    match low.into_iter().find(|(set, _)| *set) {
        Some((_, what)) => Err(Fault::PinLow(printable(&what))),
        None => Ok(()),
    }
}

/// The attributes that select a key.
pub(crate) fn template(class: ObjectClass, uri: &KeyUri) -> Vec<Attribute> {
    let label = uri.label.clone().map(Attribute::Label);
    let id = uri.id.clone().map(Attribute::Id);
    [Some(Attribute::Class(class)), label, id].into_iter().flatten().collect()
}

/// Finds the one private key that the uri selects, and its public half if the token has it.
///
/// # Errors
/// [`Fault::Keys`], [`Fault::Module`].
pub fn find_key(session: &Session, uri: &KeyUri) -> Result<(ObjectHandle, Option<Public>), Fault> {
    let keys = session.find_objects(&template(ObjectClass::PRIVATE_KEY, uri))?;
    let [key] = keys[..] else { return Err(Fault::Keys(keys.len())) };
    if let Some(public) = public_half(session, key)? {
        return Ok((key, Some(public)));
    }
    let public = match session.find_objects(&template(ObjectClass::PUBLIC_KEY, uri))?[..] {
        [public] => public_half(session, public)?,
        _ => None,
    };
    Ok((key, public))
}

fn public_half(session: &Session, key: ObjectHandle) -> Result<Option<Public>, Fault> {
    let kind = session.get_attributes(key, &[AttributeType::KeyType])?;
    let wanted = match kind.as_slice() {
        [Attribute::KeyType(KeyType::RSA)] => [AttributeType::Modulus, AttributeType::PublicExponent],
        _ => [AttributeType::EcParams, AttributeType::EcPoint],
    };
    Ok(match session.get_attributes(key, &wanted)?.as_slice() {
        [Attribute::Modulus(n), Attribute::PublicExponent(e)] if fits(&[n, e]) => Some(Public::Rsa { n: n.clone(), e: e.clone() }),
        [Attribute::EcParams(params), Attribute::EcPoint(point)] if fits(&[params, point]) => {
            Some(Public::Ec { params: params.clone(), point: point.clone() })
        }
        _ => None,
    })
}

/// Whether the values are there, and of a length that a message holds.
fn fits(values: &[&Vec<u8>]) -> bool {
    values.iter().all(|value| (1..=768).contains(&value.len()))
}

/// Makes one raw signature.
///
/// # Errors
/// [`Fault::Module`].
pub fn sign(session: &Session, key: ObjectHandle, scheme: Scheme, data: &[u8]) -> Result<Vec<u8>, Fault> {
    let mechanism = match scheme {
        Scheme::RsaPkcs => Mechanism::RsaPkcs,
        Scheme::Ecdsa => Mechanism::Ecdsa,
        Scheme::Eddsa => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)),
        Scheme::Composite(_) => return Err(Fault::Module(printable(&"not yet"))),
    };
    let signature = session.sign(&mechanism, key, data)?;
    // The longest is RSA-4096's.
    if signature.len() > 512 { Err(Fault::Module(printable(&"the signature is too long"))) } else { Ok(signature) }
}
