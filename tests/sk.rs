//! `sk`: what stands in for a hardware security key in the tests, behind the interface by which OpenSSH loads the libraries of
//! others (sk-api.h): ssh-keygen makes its keys and signs with them as with a FIDO token. SK_FLAGS, in the environment, is what it says
//! of the moment: 1 that it was touched, 4 that it verified who did; without it, whatever it was asked for.

// Called by C.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, clippy::expect_used, clippy::missing_safety_doc, missing_docs)]

use libc::{c_char, c_int, calloc, malloc};
use sha2::{Digest, Sha256};
use signature::Signer;
use ssh_encoding::Decode;
use ssh_key::private::{EcdsaPrivateKey, Ed25519Keypair};
use ssh_key::{Mpint, Signature};
use std::ffi::{CStr, c_void};
use std::{ptr, slice};

/// SSH_SK_VERSION_MAJOR of OpenSSH 8.9 and later.
const VERSION: u32 = 0x000a_0000;
const ECDSA: u32 = 0;
const UNSUPPORTED: c_int = -2;

/// The only key of P-256 that it has: a point, and its number as an SSH mpint.
const POINT: &str = "0423e5e5c030faaf3057f07fdf7871aff0ab5352e0253d0087f9e885f31b3b1e31\
                     b0479d293990269e7faa75ea13855e865876b4713582f3c44ce7b231ef7236d5";
const NUMBER: &str = "0000002100efdc78c79538154b8e9b568bda1cf963c6a7ed96cfc6d767e9b453bd8a57e3cc";

#[repr(C)]
pub struct Enrolled {
    flags: u8,
    public_key: Bytes,
    key_handle: Bytes,
    signature: Bytes,
    certificate: Bytes,
    data: Bytes,
}

#[repr(C)]
pub struct Signed {
    flags: u8,
    counter: u32,
    r: Bytes,
    s: Bytes,
}

/// What the caller frees.
#[repr(C)]
pub struct Bytes(*mut u8, usize);

impl Bytes {
    fn of(bytes: &[u8]) -> Bytes {
        unsafe {
            let copy = malloc(bytes.len().max(1)).cast::<u8>();
            ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
            Bytes(copy, bytes.len())
        }
    }
}

/// A response, zeroed, which the caller frees.
unsafe fn response<T>() -> *mut T {
    unsafe { calloc(1, size_of::<T>()).cast() }
}

#[unsafe(no_mangle)]
pub extern "C" fn sk_api_version() -> u32 {
    VERSION
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sk_enroll(
    algorithm: u32,
    _challenge: *const u8,
    _challenge_len: usize,
    _application: *const c_char,
    flags: u8,
    _pin: *const c_char,
    _options: *const c_void,
    enrolled: *mut *mut Enrolled,
) -> c_int {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("randomness");
    let public = match algorithm {
        ECDSA => hex::decode(POINT).expect("a point"),
        _ => Ed25519Keypair::from_seed(&seed).public.0.to_vec(),
    };
    unsafe {
        let answer = response::<Enrolled>();
        (*answer).flags = flags;
        (*answer).public_key = Bytes::of(&public);
        (*answer).key_handle = Bytes::of(&seed);
        (*answer).signature = Bytes::of(&[]);
        *enrolled = answer;
    }
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sk_sign(
    algorithm: u32,
    data: *const u8,
    data_len: usize,
    application: *const c_char,
    key_handle: *const u8,
    _key_handle_len: usize,
    flags: u8,
    _pin: *const c_char,
    _options: *const c_void,
    signed: *mut *mut Signed,
) -> c_int {
    let counter = 7u32;
    let flags = std::env::var("SK_FLAGS").map_or(flags, |flags| flags.parse().expect("a number"));
    unsafe {
        let application = Sha256::digest(CStr::from_ptr(application).to_bytes());
        let message = Sha256::digest(slice::from_raw_parts(data, data_len));
        let own = [application.as_slice(), &[flags], &counter.to_be_bytes(), &message].concat();
        let answer = response::<Signed>();
        ((*answer).flags, (*answer).counter) = (flags, counter);
        if algorithm == ECDSA {
            let number = hex::decode(NUMBER).expect("a number");
            let signature: Signature = EcdsaPrivateKey::<32>::decode(&mut number.as_slice()).expect("a key").sign(&own);
            let parts = &mut signature.as_bytes();
            let mut part = || Mpint::decode(parts).expect("a part").as_positive_bytes().map(Bytes::of).expect("it is positive");
            ((*answer).r, (*answer).s) = (part(), part());
        } else {
            let seed = slice::from_raw_parts(key_handle, 32).try_into().expect("a seed");
            (*answer).r = Bytes::of(Ed25519Keypair::from_seed(seed).sign(&own).as_bytes());
        }
        *signed = answer;
    }
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sk_load_resident_keys(
    _pin: *const c_char,
    _options: *const c_void,
    _keys: *mut c_void,
    _count: *mut usize,
) -> c_int {
    UNSUPPORTED
}
