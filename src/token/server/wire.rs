//! Requests and answers of p11-kit's RPC, as its rpc-message.h and rpc-message.c write them: draft-ueno-pkcs11-rpc, where it says enough.

use crate::token::cryptoki::{Attribute, AttributeType, Shape, Value};
use cryptoki_sys::{
    CKA_PARAMETER_SET, CKM_EC_KEY_PAIR_GEN, CKM_ECDSA, CKM_RSA_PKCS, CKM_RSA_PKCS_KEY_PAIR_GEN, CKR_ATTRIBUTE_SENSITIVE,
    CKR_ATTRIBUTE_TYPE_INVALID, CKR_BUFFER_TOO_SMALL, CKR_OK,
};

/// The longest request in bytes. The longest of ours makes a key, and has some 300.
pub const MAX_REQUEST: usize = 4096;

/// The longest answer in bytes, without its header. The longest to us is a signature.
pub const MAX_ANSWER: u32 = 64 << 10;

/// The length of a header in bytes: a number that the answer repeats, the length of the options, the length of the rest.
pub const HEADER: usize = 12;

/// The newest protocol that is spoken here, and the one since which a mechanism without parameters is written in another way
/// (0: p11-kit 0.24, 1: 0.25, 2: 0.25.6 and later).
pub const VERSION: u8 = 2;

/// What stands for no parameters at all.
const NONE: u32 = u32::MAX;

/// Why an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// CKR_…, and not CKR_OK.
    #[error("the server returned {0:#x}")]
    Returned(u64),
    /// It does not fit a request.
    #[error("this is too long for a p11-kit server")]
    TooLong,
    /// It answers something else, or has an order of its own.
    #[error("the server answered what was not asked")]
    NotAsked,
    /// It is longer than any that was asked for.
    #[error("the server's answer is too long")]
    Long,
    /// It ends before its end, or goes on behind it.
    #[error("the server's answer does not have the length that it should have")]
    Length,
    /// It is not written as the protocol has it.
    #[error("the server's answer is not written as it should be")]
    Malformed,
}

/// A function of PKCS#11, as it goes over the wire.
#[derive(Debug)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    number: u32,
    takes: &'static [u8],
    gives: &'static [u8],
}

macro_rules! call {
    ($constant:ident $name:literal $number:literal $takes:literal $gives:literal) => {
        #[doc = $name]
        pub const $constant: Call = Call { name: $name, number: $number, takes: $takes, gives: $gives };
    };
}

call!(INITIALIZE "C_Initialize" 1 b"ayyay" b"");
call!(FINALIZE "C_Finalize" 2 b"" b"");
call!(GET_SLOT_LIST "C_GetSlotList" 4 b"yfu" b"au");
call!(GET_TOKEN_INFO "C_GetTokenInfo" 6 b"u" b"ssssuuuuuuuuuuuvvs");
call!(OPEN_SESSION "C_OpenSession" 10 b"uu" b"u");
call!(CLOSE_SESSION "C_CloseSession" 11 b"u" b"");
call!(LOGIN "C_Login" 18 b"uuay" b"");
call!(DESTROY_OBJECT "C_DestroyObject" 22 b"uu" b"");
call!(GET_ATTRIBUTE_VALUE "C_GetAttributeValue" 24 b"uufA" b"aAu");
call!(FIND_OBJECTS_INIT "C_FindObjectsInit" 26 b"uaA" b"");
call!(FIND_OBJECTS "C_FindObjects" 27 b"ufu" b"au");
call!(FIND_OBJECTS_FINAL "C_FindObjectsFinal" 28 b"u" b"");
call!(SIGN_INIT "C_SignInit" 42 b"uMu" b"");
call!(SIGN "C_Sign" 43 b"uayfy" b"ay");
call!(GENERATE_KEY_PAIR "C_GenerateKeyPair" 59 b"uMaAaA" b"uu");

/// The answer to any call that did not return CKR_OK.
const ERROR: Call = Call { name: "", number: 0, takes: b"", gives: b"u" };

/// A request that is being written, into a buffer that never moves: it may hold a PIN.
#[derive(Debug)]
pub struct Request<'a> {
    buffer: &'a mut Vec<u8>,
    fits: bool,
}

impl<'a> Request<'a> {
    /// Begins one in a buffer that must be empty and have room for [`MAX_REQUEST`] bytes.
    pub fn new(buffer: &'a mut Vec<u8>, serial: u32, call: &Call) -> Request<'a> {
        let mut request = Request { buffer, fits: true };
        request.count(serial);
        request.count(0); // options
        request.count(0); // its length, see `finish`
        request.count(call.number);
        request.array(call.takes);
        request
    }

    /// `y`
    pub fn byte(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    /// `u`
    pub fn number(&mut self, number: u64) {
        self.put(&number.to_be_bytes());
    }

    /// `fu`, `fy`: how much there is room for in the answer.
    pub fn room(&mut self, room: usize) {
        self.length(room);
    }

    /// `ay`
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.byte(1);
        self.array(bytes);
    }

    /// `M`, without parameters.
    pub fn mechanism(&mut self, mechanism: u64, version: u8) {
        match u32::try_from(mechanism) {
            Ok(number) => self.count(number),
            Err(_) => self.fits = false,
        }
        match (version, mechanism) {
            (0 | 1, _) => self.count(NONE),
            // p11-kit has a list of those that cannot have any.
            (_, CKM_RSA_PKCS | CKM_ECDSA | CKM_RSA_PKCS_KEY_PAIR_GEN | CKM_EC_KEY_PAIR_GEN) => {}
            _ => self.byte(0),
        }
    }

    /// `M`, with parameters: for mechanisms that p11-kit does not know, as they stand in the module's memory.
    pub fn mechanism_with(&mut self, mechanism: u64, parameters: &[u8], version: u8) {
        match u32::try_from(mechanism) {
            Ok(number) => self.count(number),
            Err(_) => self.fits = false,
        }
        if version > 1 {
            self.byte(1);
        }
        self.array(parameters);
    }

    /// `aA`
    pub fn attributes(&mut self, attributes: &[Attribute]) {
        self.length(attributes.len());
        for (kind, value) in attributes {
            self.kind(*kind);
            self.byte(1);
            match value {
                Value::Bool(value) => {
                    self.count(1);
                    self.byte((*value).into());
                }
                Value::Number(number) if is_as_in_memory(*kind) => {
                    self.count(8);
                    self.array(&number.to_ne_bytes());
                }
                Value::Number(number) => {
                    self.count(8);
                    self.number(*number);
                }
                Value::Bytes(bytes) => {
                    self.length(bytes.len());
                    self.array(bytes);
                }
            }
        }
    }

    /// `fA`, for one of at most so many bytes.
    pub fn wanted(&mut self, kind: AttributeType, longest: usize) {
        self.count(1);
        self.kind(kind);
        self.length(match Shape::of(kind) {
            Shape::Bool => 1,
            Shape::Number => 8,
            Shape::Bytes => longest,
        });
    }

    /// The whole, with its header.
    ///
    /// # Errors
    /// [`WireError::TooLong`].
    pub fn finish(self) -> Result<&'a [u8], WireError> {
        let length = self.buffer.len().checked_sub(HEADER).and_then(|length| u32::try_from(length).ok());
        match (self.buffer.get_mut(8..HEADER), length) {
            (Some(place), Some(length)) if self.fits => place.copy_from_slice(&length.to_be_bytes()),
            _ => return Err(WireError::TooLong),
        }
        Ok(self.buffer)
    }

    fn kind(&mut self, kind: AttributeType) {
        self.length(usize::try_from(kind).unwrap_or(usize::MAX));
    }

    fn array(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.put(bytes);
    }

    fn length(&mut self, length: usize) {
        match u32::try_from(length) {
            Ok(length) => self.count(length),
            Err(_) => self.fits = false,
        }
    }

    fn count(&mut self, count: u32) {
        self.put(&count.to_be_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.fits &= self.buffer.len() + bytes.len() <= MAX_REQUEST.min(self.buffer.capacity());
        if self.fits {
            self.buffer.extend_from_slice(bytes);
        }
    }
}

/// p11-kit does not know attributes of PKCS#11 3.2, and carries their values as they stand in memory: its server's machine is ours.
fn is_as_in_memory(kind: AttributeType) -> bool {
    kind == CKA_PARAMETER_SET
}

/// What an answer's header says of its length.
///
/// # Errors
/// [`WireError::NotAsked`], [`WireError::Long`].
pub fn length(header: [u8; HEADER], serial: u32) -> Result<usize, WireError> {
    let mut header = Answer(&header);
    match (header.count()?, header.count()?, header.count()?) {
        (number, 0, length) if number == serial => {
            usize::try_from(length).ok().filter(|_| length <= MAX_ANSWER).ok_or(WireError::Long)
        }
        _ => Err(WireError::NotAsked),
    }
}

/// An answer that is being read, from its first byte to its last.
#[derive(Debug)]
pub struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    /// Begins with what stands behind the header.
    ///
    /// # Errors
    /// [`WireError::Returned`], or any other.
    pub fn new(body: &'a [u8], call: &Call) -> Result<Answer<'a>, WireError> {
        let mut answer = Answer(body);
        let number = answer.count()?;
        let gives = answer.array()?;
        if (number, gives) == (call.number, call.gives) {
            return Ok(answer);
        }
        if (number, gives) != (ERROR.number, ERROR.gives) {
            return Err(WireError::NotAsked);
        }
        let value = answer.number()?;
        answer.end()?;
        Err(if value == CKR_OK { WireError::Malformed } else { WireError::Returned(value) })
    }

    /// `u`
    ///
    /// # Errors
    /// [`WireError::Length`].
    pub fn number(&mut self) -> Result<u64, WireError> {
        self.take().map(u64::from_be_bytes)
    }

    /// `v`
    ///
    /// # Errors
    /// [`WireError::Length`].
    pub fn version(&mut self) -> Result<[u8; 2], WireError> {
        self.take()
    }

    /// `s`, of a length that PKCS#11 prescribes.
    ///
    /// # Errors
    /// Any but [`WireError::Returned`]; so all others.
    pub fn text(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        self.array().and_then(|text| if text.len() == length { Ok(text) } else { Err(WireError::Malformed) })
    }

    /// `ay`, of at most so many.
    ///
    /// # Errors
    /// Any.
    pub fn bytes(&mut self, most: usize) -> Result<&'a [u8], WireError> {
        self.present()?;
        self.array().and_then(|bytes| if bytes.len() <= most { Ok(bytes) } else { Err(WireError::Long) })
    }

    /// `au`, of at most so many.
    ///
    /// # Errors
    /// Any.
    pub fn numbers(&mut self, most: usize) -> Result<Vec<u64>, WireError> {
        self.present()?;
        let count = self.count()?;
        if usize::try_from(count).is_ok_and(|count| count <= most) {
            (0..count).map(|_| self.number()).collect()
        } else {
            Err(WireError::Long)
        }
    }

    /// `aAu`, where one was wanted; `None` where it is not there, or not for us.
    ///
    /// # Errors
    /// Any.
    pub fn attribute(&mut self, kind: AttributeType, longest: usize) -> Result<Option<Value>, WireError> {
        if self.count()? != 1 || u64::from(self.count()?) != kind {
            return Err(WireError::NotAsked);
        }
        let value = match self.byte()? {
            0 => None,
            1 => Some(self.value(kind, longest)?),
            _ => return Err(WireError::Malformed),
        };
        match (self.number()?, value) {
            (CKR_OK, None) => Err(WireError::Malformed),
            (CKR_OK, value) => Ok(value),
            (CKR_ATTRIBUTE_SENSITIVE | CKR_ATTRIBUTE_TYPE_INVALID | CKR_BUFFER_TOO_SMALL, _) => Ok(None),
            (other, _) => Err(WireError::Returned(other)),
        }
    }

    fn value(&mut self, kind: AttributeType, longest: usize) -> Result<Value, WireError> {
        let length = usize::try_from(self.count()?).map_err(|_| WireError::Long)?;
        match (Shape::of(kind), length) {
            (Shape::Bool, 1) => match self.byte()? {
                0 => Ok(Value::Bool(false)),
                1 => Ok(Value::Bool(true)),
                _ => Err(WireError::Malformed),
            },
            (Shape::Number, 8) if is_as_in_memory(kind) => {
                self.array()?.try_into().map(|bytes| Value::Number(u64::from_ne_bytes(bytes))).map_err(|_| WireError::Malformed)
            }
            (Shape::Number, 8) => self.number().map(Value::Number),
            (Shape::Bytes, length) if length <= longest => self.text(length).map(|bytes| Value::Bytes(bytes.to_vec())),
            (Shape::Bytes, _) => Err(WireError::Long),
            _ => Err(WireError::Malformed),
        }
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// [`WireError::Length`].
    pub fn end(&self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Length) }
    }

    /// The byte that says whether an array is there, or only its length, as for a buffer that was too small.
    fn present(&mut self) -> Result<(), WireError> {
        match self.byte()? {
            0 => Err(WireError::Returned(CKR_BUFFER_TOO_SMALL)),
            1 => Ok(()),
            _ => Err(WireError::Malformed),
        }
    }

    fn array(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.count()?).map_err(|_| WireError::Length)?;
        let (array, rest) = self.0.split_at_checked(length).ok_or(WireError::Length)?;
        self.0 = rest;
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        self.take().map(|[byte]| byte)
    }

    fn count(&mut self) -> Result<u32, WireError> {
        self.take().map(u32::from_be_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(WireError::Length)?;
        self.0 = rest;
        Ok(*taken)
    }
}
