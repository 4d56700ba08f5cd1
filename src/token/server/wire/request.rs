//! Requests, as p11-kit's server reads them.

use super::{Call, HEADER, MAX_REQUEST, WireError, is_as_in_memory};
use crate::token::cryptoki::{Attribute, AttributeType, Shape, Value};
use cryptoki_sys::{CKM_EC_KEY_PAIR_GEN, CKM_ECDSA, CKM_RSA_PKCS, CKM_RSA_PKCS_KEY_PAIR_GEN};

/// What stands for no parameters at all.
const NONE: u32 = u32::MAX;

/// A request that is being written, into a buffer that never moves: it may hold a PIN.
#[derive(Debug)]
pub struct Request<'a> {
    buffer: &'a mut Vec<u8>,
    version: u8,
    fits: bool,
}

impl<'a> Request<'a> {
    /// Begins one, as this version of the protocol has it, in a buffer that must be empty and have room for [`MAX_REQUEST`] bytes.
    pub fn new(buffer: &'a mut Vec<u8>, version: u8, serial: u32, call: &Call) -> Request<'a> {
        // No options, and the length of the rest, see `finish`.
        Request { buffer, version, fits: true }.count(serial).count(0).count(0).count(call.number).array(call.takes)
    }

    /// `y`
    pub fn byte(self, byte: u8) -> Self {
        self.put(&[byte])
    }

    /// `u`
    pub fn number(self, number: u64) -> Self {
        self.put(&number.to_be_bytes())
    }

    /// `fu`, `fy`: how much there is room for in the answer.
    pub fn room(self, room: usize) -> Self {
        self.length(room)
    }

    /// `ay`
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.byte(1).array(bytes)
    }

    /// `M`. Parameters are for mechanisms that p11-kit does not know, as they stand in the module's memory.
    pub fn mechanism(self, mechanism: u64, parameters: &[u64]) -> Self {
        let parameters = parameters.iter().copied().flat_map(u64::to_ne_bytes).collect::<Vec<_>>();
        let request = self.kind(mechanism);
        match (request.version, mechanism, parameters.is_empty()) {
            (0 | 1, _, false) => request.array(&parameters),
            (_, _, false) => request.bytes(&parameters),
            (0 | 1, _, true) => request.count(NONE),
            // p11-kit has a list of those that cannot have any.
            (_, CKM_RSA_PKCS | CKM_ECDSA | CKM_RSA_PKCS_KEY_PAIR_GEN | CKM_EC_KEY_PAIR_GEN, true) => request,
            _ => request.byte(0),
        }
    }

    /// `aA`
    pub fn attributes(self, attributes: &[Attribute]) -> Self {
        attributes.iter().fold(self.length(attributes.len()), |request, (kind, value)| {
            let request = request.kind(*kind).byte(1);
            match value {
                Value::Bool(value) => request.count(1).byte((*value).into()),
                Value::Number(number) if is_as_in_memory(*kind) => request.count(8).array(&number.to_ne_bytes()),
                Value::Number(number) => request.count(8).number(*number),
                Value::Bytes(bytes) => request.length(bytes.len()).array(bytes),
            }
        })
    }

    /// `fA`, for one of at most so many bytes.
    pub fn wanted(self, kind: AttributeType, longest: usize) -> Self {
        self.count(1).kind(kind).length(match Shape::of(kind) {
            Shape::Bool => 1,
            Shape::Number => 8,
            Shape::Bytes => longest,
        })
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

    /// CKA_… or CKM_….
    fn kind(self, kind: u64) -> Self {
        self.length(usize::try_from(kind).unwrap_or(usize::MAX))
    }

    fn array(self, bytes: &[u8]) -> Self {
        self.length(bytes.len()).put(bytes)
    }

    fn length(self, length: usize) -> Self {
        match u32::try_from(length) {
            Ok(length) => self.count(length),
            Err(_) => Request { fits: false, ..self },
        }
    }

    fn count(self, count: u32) -> Self {
        self.put(&count.to_be_bytes())
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.fits &= self.buffer.len() + bytes.len() <= MAX_REQUEST.min(self.buffer.capacity());
        if self.fits {
            self.buffer.extend_from_slice(bytes);
        }
        self
    }
}
