//! `hsm`: a network HSM for the tests. It prints the TCP port of 127.0.0.1 that it listens on, and answers what `tests/module/remote.rs`
//! asks there, by SoftHSM: one process for each connection, which is what logs in and out.
//!
//! A request is the call's name and its arguments, an answer what it returned and its results: a number and so many pieces of bytes.

// Calls into C, as in every module and every user of one.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "module/wire.rs"]
mod wire;

use cryptoki_sys::*;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::ptr;
use wire::{number, read, write};

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    let turn = std::env::args().nth(1).expect("hsm LOCKFILE");
    for connection in listener.incoming() {
        let mut connection = connection.expect("a connection");
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        if unsafe { libc::fork() } == 0 {
            serve(&mut connection, &turn);
            std::process::exit(0);
        }
    }
}

fn serve(connection: &mut TcpStream, turn: &str) {
    let turn = File::open(turn).expect("a file that is there");
    let list = unsafe {
        let module = std::mem::ManuallyDrop::new(Pkcs11::new(SOFTHSM).expect("SoftHSM"));
        let mut list = ptr::null_mut();
        assert_eq!(module.C_GetFunctionList.as_ref().expect("its list")(&mut list), CKR_OK);
        *list
    };
    while let Ok((function, arguments)) = read(connection) {
        // SoftHSM must not read its store while another process logs in.
        turn.lock().expect("the turn");
        let (rv, results) = unsafe { call(&list, function, arguments) };
        turn.unlock().expect("the turn's end");
        if write(connection, rv, &results.iter().map(Vec::as_slice).collect::<Vec<_>>()).is_err() {
            return;
        }
    }
}

type Results = Vec<Vec<u8>>;

fn numbers(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks(8).map(number).collect()
}

/// Attributes as they came: types, then values.
fn template(kinds: &[u8], values: &mut [Vec<u8>]) -> Vec<CK_ATTRIBUTE> {
    let attribute = |(kind, value): (CK_ULONG, &mut Vec<u8>)| CK_ATTRIBUTE {
        type_: kind,
        pValue: value.as_mut_ptr().cast(),
        ulValueLen: value.len() as CK_ULONG,
    };
    numbers(kinds).into_iter().zip(values).map(attribute).collect()
}

macro_rules! real {
    ($list:ident.$name:ident($($argument:expr),*)) => {
        $list.$name.expect("a function")($($argument),*)
    };
}

unsafe fn call(list: &CK_FUNCTION_LIST, function: u64, mut arguments: Results) -> (CK_RV, Results) {
    let first = arguments.first().map_or(0, |argument| number(argument));
    let mut count = 64;
    unsafe {
        match function {
            wire::INITIALIZE => (real!(list.C_Initialize(ptr::null_mut())), vec![]),
            wire::FINALIZE => (real!(list.C_Finalize(ptr::null_mut())), vec![]),
            wire::SLOTS => {
                let mut slots = [0; 64];
                let rv = real!(list.C_GetSlotList(1, slots.as_mut_ptr(), &mut count));
                (rv, slots.iter().take(count as usize).map(|slot| slot.to_ne_bytes().to_vec()).collect())
            }
            wire::TOKEN => {
                let mut info = CK_TOKEN_INFO::default();
                let rv = real!(list.C_GetTokenInfo(first, &mut info));
                let bytes = std::slice::from_raw_parts((&raw const info).cast::<u8>(), size_of::<CK_TOKEN_INFO>());
                (rv, vec![bytes.to_vec()])
            }
            wire::OPEN => {
                let mut session = 0;
                let rv = real!(list.C_OpenSession(first, number(&arguments[1]), ptr::null_mut(), None, &mut session));
                (rv, vec![session.to_ne_bytes().to_vec()])
            }
            wire::CLOSE => (real!(list.C_CloseSession(first)), vec![]),
            wire::LOGIN => {
                let (user, pin) = (number(&arguments[1]), &mut arguments[2]);
                (real!(list.C_Login(first, user, pin.as_mut_ptr(), pin.len() as CK_ULONG)), vec![])
            }
            wire::FIND_INIT => {
                let (kinds, values) = arguments[1..].split_first_mut().expect("types");
                let mut template = template(kinds, values);
                (real!(list.C_FindObjectsInit(first, template.as_mut_ptr(), template.len() as CK_ULONG)), vec![])
            }
            wire::FIND => {
                let (mut objects, room) = ([0; 64], number(&arguments[1]).min(64));
                let rv = real!(list.C_FindObjects(first, objects.as_mut_ptr(), room, &mut count));
                (rv, objects.iter().take(count as usize).map(|object| object.to_ne_bytes().to_vec()).collect())
            }
            wire::FIND_FINAL => (real!(list.C_FindObjectsFinal(first)), vec![]),
            wire::ATTRIBUTE => {
                let mut value = vec![0; number(&arguments[3]) as usize];
                let (kind, room) = (number(&arguments[2]), value.len() as CK_ULONG);
                let mut attribute = CK_ATTRIBUTE { type_: kind, pValue: value.as_mut_ptr().cast(), ulValueLen: room };
                let rv = real!(list.C_GetAttributeValue(first, number(&arguments[1]), &mut attribute, 1));
                value.truncate(attribute.ulValueLen as usize);
                (rv, vec![attribute.ulValueLen.to_ne_bytes().to_vec(), value])
            }
            wire::SIGN_INIT => {
                let mechanism = number(&arguments[1]);
                let mut mechanism = CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 };
                (real!(list.C_SignInit(first, &mut mechanism, number(&arguments[2]))), vec![])
            }
            wire::SIGN => {
                let (mut signature, data) = (vec![0; 1024], &mut arguments[1]);
                let mut length = signature.len() as CK_ULONG;
                let rv = real!(list.C_Sign(first, data.as_mut_ptr(), data.len() as CK_ULONG, signature.as_mut_ptr(), &mut length));
                signature.truncate(length as usize);
                (rv, vec![signature])
            }
            wire::GENERATE => {
                let mechanism = number(&arguments[1]);
                let mut mechanism = CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 };
                let (kinds, rest) = arguments[2..].split_first_mut().expect("types");
                let (public, rest) = rest.split_at_mut(numbers(kinds).len());
                let (more_kinds, private) = rest.split_first_mut().expect("types");
                let (mut public, mut private) = (template(kinds, public), template(more_kinds, private));
                let (mut one, mut other) = (0, 0);
                let (publics, privates) = (public.len() as CK_ULONG, private.len() as CK_ULONG);
                let (from, to) = (public.as_mut_ptr(), private.as_mut_ptr());
                let rv = real!(list.C_GenerateKeyPair(first, &mut mechanism, from, publics, to, privates, &mut one, &mut other));
                (rv, vec![one.to_ne_bytes().to_vec(), other.to_ne_bytes().to_vec()])
            }
            _ => (CKR_FUNCTION_NOT_SUPPORTED, vec![]),
        }
    }
}
