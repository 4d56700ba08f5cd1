//! Requests and answers of p11-kit's RPC, as its rpc-message.h and rpc-message.c write them: draft-ueno-pkcs11-rpc, where it says enough.

mod answer;
mod request;

pub use answer::{Answer, length};
pub use request::Request;

use crate::token::cryptoki::AttributeType;
use cryptoki_sys::CKA_PARAMETER_SET;

/// The longest request in bytes. The longest of ours makes a key, and has some 300.
pub const MAX_REQUEST: usize = 4096;

/// The longest answer in bytes, without its header. The longest to us is a signature.
pub const MAX_ANSWER: u32 = 64 << 10;

/// The length of a header in bytes: a number that the answer repeats, the length of the options, the length of the rest.
pub const HEADER: usize = 12;

/// The newest protocol that is spoken here, and the one since which a mechanism without parameters is written in another way
/// (0: p11-kit 0.24, 1: 0.25, 2: 0.25.6 and later).
pub const VERSION: u8 = 2;

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

/// p11-kit does not know attributes of PKCS#11 3.2, and carries their values as they stand in memory: its server's machine is ours.
fn is_as_in_memory(kind: AttributeType) -> bool {
    kind == CKA_PARAMETER_SET
}
