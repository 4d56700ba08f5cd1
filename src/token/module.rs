//! A PKCS#11 module that is loaded into this process.

use super::cryptoki::{
    Attribute, AttributeType, Cryptoki, CryptokiError, Handle, MAX_SIGNATURE, MAX_SLOTS, MAX_VALUE, Pair, Rv, Shape, TokenInfo,
    Value,
};
use crate::sys::pkcs11::{Functions, Raw, number};
use cryptoki_sys::{
    CK_RV, CKF_RW_SESSION, CKF_SERIAL_SESSION, CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, CKR_BUFFER_TOO_SMALL,
};
use std::path::Path;

/// A loaded module.
pub struct Module(Functions);

/// What a function of the module returned.
fn named<T>(function: &'static str, result: Result<T, CK_RV>) -> Result<T, CryptokiError> {
    result.map_err(|value| CryptokiError::Returned(function, Rv(value)))
}

impl Module {
    /// Loads and initialises it.
    ///
    /// # Errors
    /// Any [`CryptokiError`].
    pub fn load(path: &Path) -> Result<Module, CryptokiError> {
        let functions = Functions::load(path).map_err(CryptokiError::Broken)?;
        named("C_Initialize", functions.initialize())?;
        Ok(Module(functions))
    }
}

/// A value in the bytes of this machine.
fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Bool(value) => vec![u8::from(*value)],
        Value::Number(value) => number(*value).to_vec(),
        Value::Bytes(value) => value.clone(),
    }
}

/// Does something with a template in the bytes of this machine.
fn with<T>(template: &[Attribute], run: impl FnOnce(&[Raw<'_>]) -> T) -> T {
    let values = template.iter().map(|(kind, value)| (*kind, bytes(value))).collect::<Vec<_>>();
    run(&values.iter().map(|(kind, value)| (*kind, value.as_slice())).collect::<Vec<_>>())
}

impl Cryptoki for Module {
    fn slots(&self) -> Result<Vec<Handle>, CryptokiError> {
        named("C_GetSlotList", self.0.slots(true, MAX_SLOTS))
    }

    fn unreadable(&self) -> Result<(), CryptokiError> {
        for slot in named("C_GetSlotList", self.0.slots(false, MAX_SLOTS))? {
            named("C_GetSlotInfo", self.0.slot(slot))?;
        }
        Ok(())
    }

    fn token(&self, slot: Handle) -> Result<TokenInfo, CryptokiError> {
        let info = named("C_GetTokenInfo", self.0.token(slot))?;
        Ok(TokenInfo {
            label: TokenInfo::text(&info.label),
            manufacturer: TokenInfo::text(&info.manufacturerID),
            model: TokenInfo::text(&info.model),
            serial: TokenInfo::text(&info.serialNumber),
            flags: info.flags,
        })
    }

    fn open(&self, slot: Handle, writable: bool) -> Result<Handle, CryptokiError> {
        let flags = CKF_SERIAL_SESSION | if writable { CKF_RW_SESSION } else { 0 };
        named("C_OpenSession", self.0.open(slot, flags))
    }

    fn login(&self, session: Handle, user: u64, pin: &[u8]) -> Result<(), CryptokiError> {
        named("C_Login", self.0.login(session, user, pin))
    }

    fn find_init(&self, session: Handle, template: &[Attribute]) -> Result<(), CryptokiError> {
        named("C_FindObjectsInit", with(template, |template| self.0.find_init(session, template)))
    }

    fn find_some(&self, session: Handle, most: usize) -> Result<Vec<Handle>, CryptokiError> {
        named("C_FindObjects", self.0.find(session, most))
    }

    fn find_final(&self, session: Handle) -> Result<(), CryptokiError> {
        named("C_FindObjectsFinal", self.0.find_final(session))
    }

    fn attribute(&self, session: Handle, object: Handle, kind: AttributeType) -> Result<Option<Value>, CryptokiError> {
        let bytes = match self.0.attribute(session, object, kind, MAX_VALUE) {
            Err(CKR_ATTRIBUTE_SENSITIVE | CKR_ATTRIBUTE_TYPE_INVALID | CKR_BUFFER_TOO_SMALL) => None,
            other => named("C_GetAttributeValue", other)?,
        };
        Ok(bytes.and_then(|bytes| match Shape::of(kind) {
            Shape::Bytes => Some(Value::Bytes(bytes)),
            Shape::Bool => <[u8; 1]>::try_from(bytes).ok().map(|[byte]| Value::Bool(byte != 0)),
            Shape::Number => bytes.try_into().ok().map(|bytes| Value::Number(u64::from_ne_bytes(bytes))),
        }))
    }

    fn sign_init(&self, session: Handle, by: u64, parameters: &[u64], key: Handle) -> Result<(), CryptokiError> {
        named("C_SignInit", self.0.sign_init(session, by, parameters, key))
    }

    fn sign(&self, session: Handle, data: &[u8]) -> Result<Vec<u8>, CryptokiError> {
        named("C_Sign", self.0.sign(session, data, MAX_SIGNATURE))
    }

    fn generate(&self, session: Handle, by: u64, public: &[Attribute], private: &[Attribute]) -> Result<Pair, CryptokiError> {
        let generate = |public: &[Raw<'_>]| with(private, |private| self.0.generate(session, by, public, private));
        named("C_GenerateKeyPair", with(public, generate))
    }

    fn destroy(&self, session: Handle, object: Handle) -> Result<(), CryptokiError> {
        named("C_DestroyObject", self.0.destroy(session, object))
    }

    fn leave(&self, session: Handle) {
        self.0.leave(session);
    }
}
