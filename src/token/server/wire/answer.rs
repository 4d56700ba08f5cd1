//! Answers, as p11-kit's server writes them, or somebody in its place.

use super::{Call, ERROR, HEADER, MAX_ANSWER, WireError, is_as_in_memory};
use crate::token::cryptoki::{AttributeType, Shape, Value};
use cryptoki_sys::{CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, CKR_BUFFER_TOO_SMALL, CKR_OK};

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
