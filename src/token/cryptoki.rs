//! The few calls of PKCS#11 that sigsh makes, whoever answers them: a module that the process has loaded, or a p11-kit server.

use cryptoki_sys as sys;
use cryptoki_sys::{CK_RV, CKR_OK};
use std::fmt;

/// A slot, session or object.
pub type Handle = u64;

/// A public key and its private one.
pub type Pair = (Handle, Handle);

/// A CKA_… of PKCS#11.
pub type AttributeType = u64;

/// The longest value of an attribute in bytes that is asked for: the public key of ML-DSA-87 has 2592.
pub const MAX_VALUE: usize = 4096;

/// The longest signature in bytes: that of ML-DSA-87.
pub const MAX_SIGNATURE: usize = 4627;

/// What CKM_EDDSA demands for Ed448, CK_EDDSA_PARAMS with neither a hash of its own nor a context (PKCS#11 3.2 §6.3.16): a flag, a
/// length and a pointer, all of them zero.
pub const PURE_ED448: [u64; size_of::<sys::CK_EDDSA_PARAMS>() / 8] = [0; size_of::<sys::CK_EDDSA_PARAMS>() / 8];

/// How many slots are looked at.
pub const MAX_SLOTS: usize = 256;

/// How many objects a search returns at most: one is wanted, and the number of others is only told.
pub const MAX_FOUND: usize = 16;

/// A return value, CKR_….
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rv(pub CK_RV);

impl fmt::Display for Rv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(value, _)| *value == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "CKR {:#x}", self.0),
        }
    }
}

/// Why a call did not work out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptokiError {
    /// The function returned something else than CKR_OK.
    #[error("{0} returned {1}")]
    Returned(&'static str, Rv),
    /// There is no module, nobody answers, or not as PKCS#11 has it.
    #[error("{0}")]
    Broken(String),
}

impl CryptokiError {
    /// `Ok` for CKR_OK alone.
    ///
    /// # Errors
    /// [`CryptokiError::Returned`] otherwise.
    pub fn check(function: &'static str, value: CK_RV) -> Result<(), CryptokiError> {
        if value == CKR_OK { Ok(()) } else { Err(CryptokiError::Returned(function, Rv(value))) }
    }

    /// What the function returned, if it did.
    pub fn rv(&self) -> Option<CK_RV> {
        match self {
            CryptokiError::Returned(_, Rv(value)) => Some(*value),
            CryptokiError::Broken(_) => None,
        }
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// CK_BBOOL.
    Bool(bool),
    /// CK_ULONG.
    Number(u64),
    /// Text, big integers, DER.
    Bytes(Vec<u8>),
}

/// How the value of an attribute is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// [`Value::Bool`].
    Bool,
    /// [`Value::Number`].
    Number,
    /// [`Value::Bytes`].
    Bytes,
}

impl Shape {
    /// That of an attribute that sigsh uses.
    pub fn of(kind: AttributeType) -> Shape {
        match kind {
            sys::CKA_TOKEN
            | sys::CKA_PRIVATE
            | sys::CKA_SENSITIVE
            | sys::CKA_EXTRACTABLE
            | sys::CKA_SIGN
            | sys::CKA_VERIFY
            | sys::CKA_ALWAYS_AUTHENTICATE => Shape::Bool,
            sys::CKA_CLASS | sys::CKA_KEY_TYPE | sys::CKA_MODULUS_BITS | sys::CKA_PARAMETER_SET => Shape::Number,
            _ => Shape::Bytes,
        }
    }
}

/// An attribute and its value.
pub type Attribute = (AttributeType, Value);

/// What C_GetTokenInfo tells. Texts are without the blanks that fill them up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenInfo {
    /// The application's name for it.
    pub label: String,
    /// Who made it.
    pub manufacturer: String,
    /// What it is.
    pub model: String,
    /// Which one it is.
    pub serial: String,
    /// CKF_….
    pub flags: u64,
}

impl TokenInfo {
    /// A text of a fixed length, as PKCS#11 fills it up.
    pub fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).trim_end_matches([' ', '\0']).to_owned()
    }
}

/// A PKCS#11 token, initialised. No call is made again, and none is made to one that has failed, in any way that [`CryptokiError`] has.
pub trait Cryptoki {
    /// C_GetSlotList: slots with a token in them.
    fn slots(&self) -> Result<Vec<Handle>, CryptokiError>;

    /// C_GetSlotInfo of every slot, with a token or without: fails for one whose token cannot be read, as OpenSC's does for a card that
    /// another program keeps to itself. Servers are not asked.
    fn unreadable(&self) -> Result<(), CryptokiError> {
        Ok(())
    }

    /// C_GetTokenInfo.
    fn token(&self, slot: Handle) -> Result<TokenInfo, CryptokiError>;

    /// C_OpenSession, which may change the token if so asked.
    fn open(&self, slot: Handle, writable: bool) -> Result<Handle, CryptokiError>;

    /// C_Login as CKU_USER or CKU_CONTEXT_SPECIFIC.
    fn login(&self, session: Handle, user: u64, pin: &[u8]) -> Result<(), CryptokiError>;

    /// C_FindObjectsInit.
    fn find_init(&self, session: Handle, template: &[Attribute]) -> Result<(), CryptokiError>;

    /// C_FindObjects, once: at most so many, and none when there are no more.
    fn find_some(&self, session: Handle, most: usize) -> Result<Vec<Handle>, CryptokiError>;

    /// C_FindObjectsFinal.
    fn find_final(&self, session: Handle) -> Result<(), CryptokiError>;

    /// A whole search: at most [`MAX_FOUND`].
    fn find(&self, session: Handle, template: &[Attribute]) -> Result<Vec<Handle>, CryptokiError> {
        self.find_init(session, template)?;
        let mut found = Vec::new();
        // They may come one by one; only none is the end (PKCS#11 3.2 §5.7.8).
        while found.len() < MAX_FOUND {
            let more = self.find_some(session, MAX_FOUND - found.len())?;
            if more.is_empty() {
                break;
            }
            found.extend(more);
        }
        self.find_final(session)?;
        Ok(found)
    }

    /// C_GetAttributeValue; `None` where the object has no such attribute, keeps it to itself, or it is longer than [`MAX_VALUE`].
    fn attribute(&self, session: Handle, object: Handle, kind: AttributeType) -> Result<Option<Value>, CryptokiError>;

    /// C_SignInit by this mechanism, with these parameters as they stand in memory: none, or [`PURE_ED448`].
    fn sign_init(&self, session: Handle, by: u64, parameters: &[u64], key: Handle) -> Result<(), CryptokiError>;

    /// C_Sign: at most [`MAX_SIGNATURE`] bytes.
    fn sign(&self, session: Handle, data: &[u8]) -> Result<Vec<u8>, CryptokiError>;

    /// C_GenerateKeyPair, by a mechanism without parameters.
    fn generate(&self, session: Handle, by: u64, public: &[Attribute], private: &[Attribute]) -> Result<Pair, CryptokiError>;

    /// C_DestroyObject.
    fn destroy(&self, session: Handle, object: Handle) -> Result<(), CryptokiError>;

    /// C_CloseSession and C_Finalize. What they return is nobody's business any more.
    fn leave(&self, session: Handle);
}

macro_rules! names {
    ($($name:ident)*) => { &[$((sys::$name, stringify!($name))),*] };
}

/// What these calls may return (PKCS#11 3.2 §5.1). Others are told by their number.
#[rustfmt::skip]
const NAMES: &[(CK_RV, &str)] = names!(
    CKR_OK CKR_CANCEL CKR_HOST_MEMORY CKR_SLOT_ID_INVALID CKR_GENERAL_ERROR CKR_FUNCTION_FAILED CKR_ARGUMENTS_BAD
    CKR_NEED_TO_CREATE_THREADS CKR_CANT_LOCK CKR_ATTRIBUTE_READ_ONLY CKR_ATTRIBUTE_SENSITIVE CKR_ATTRIBUTE_TYPE_INVALID
    CKR_ATTRIBUTE_VALUE_INVALID CKR_ACTION_PROHIBITED CKR_DATA_INVALID CKR_DATA_LEN_RANGE CKR_DEVICE_ERROR CKR_DEVICE_MEMORY
    CKR_DEVICE_REMOVED CKR_FUNCTION_CANCELED CKR_FUNCTION_NOT_PARALLEL CKR_FUNCTION_NOT_SUPPORTED CKR_KEY_HANDLE_INVALID
    CKR_KEY_SIZE_RANGE CKR_KEY_TYPE_INCONSISTENT CKR_KEY_FUNCTION_NOT_PERMITTED CKR_MECHANISM_INVALID
    CKR_MECHANISM_PARAM_INVALID CKR_OBJECT_HANDLE_INVALID CKR_OPERATION_ACTIVE CKR_OPERATION_NOT_INITIALIZED CKR_PIN_INCORRECT
    CKR_PIN_INVALID CKR_PIN_LEN_RANGE CKR_PIN_EXPIRED CKR_PIN_LOCKED CKR_SESSION_CLOSED CKR_SESSION_COUNT
    CKR_SESSION_HANDLE_INVALID CKR_SESSION_PARALLEL_NOT_SUPPORTED CKR_SESSION_READ_ONLY CKR_SESSION_EXISTS
    CKR_SESSION_READ_ONLY_EXISTS CKR_SESSION_READ_WRITE_SO_EXISTS CKR_TEMPLATE_INCOMPLETE CKR_TEMPLATE_INCONSISTENT
    CKR_TOKEN_NOT_PRESENT CKR_TOKEN_NOT_RECOGNIZED CKR_TOKEN_WRITE_PROTECTED CKR_USER_ALREADY_LOGGED_IN CKR_USER_NOT_LOGGED_IN
    CKR_USER_PIN_NOT_INITIALIZED CKR_USER_TYPE_INVALID CKR_USER_ANOTHER_ALREADY_LOGGED_IN CKR_USER_TOO_MANY_TYPES
    CKR_RANDOM_SEED_NOT_SUPPORTED CKR_RANDOM_NO_RNG CKR_DOMAIN_PARAMS_INVALID CKR_CURVE_NOT_SUPPORTED CKR_BUFFER_TOO_SMALL
    CKR_INFORMATION_SENSITIVE CKR_CRYPTOKI_NOT_INITIALIZED CKR_CRYPTOKI_ALREADY_INITIALIZED CKR_MUTEX_BAD CKR_MUTEX_NOT_LOCKED
    CKR_NEW_PIN_MODE CKR_FIPS_SELF_TEST_FAILED CKR_LIBRARY_LOAD_FAILED CKR_PIN_TOO_WEAK CKR_PUBLIC_KEY_INVALID
    CKR_FUNCTION_REJECTED CKR_TOKEN_RESOURCE_EXCEEDED CKR_KEY_EXHAUSTED CKR_PENDING CKR_VENDOR_DEFINED
);
