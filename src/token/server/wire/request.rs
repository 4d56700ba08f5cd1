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

    /// `M`. Parameters are for mechanisms that p11-kit does not know, as they stand in the module's memory.
    pub fn mechanism(&mut self, mechanism: u64, parameters: Option<&[u8]>, version: u8) {
        self.kind(mechanism);
        match (version, mechanism, parameters) {
            (0 | 1, _, Some(parameters)) => self.array(parameters),
            (_, _, Some(parameters)) => self.bytes(parameters),
            (0 | 1, _, None) => self.count(NONE),
            // p11-kit has a list of those that cannot have any.
            (_, CKM_RSA_PKCS | CKM_ECDSA | CKM_RSA_PKCS_KEY_PAIR_GEN | CKM_EC_KEY_PAIR_GEN, None) => {}
            _ => self.byte(0),
        }
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

    /// CKA_… or CKM_….
    fn kind(&mut self, kind: u64) {
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
