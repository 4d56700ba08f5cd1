//! A module whose token is behind TCP: what it is called for, it asks `tests/hsm.rs`. One connection, from `C_Initialize` on.

use super::wire;
use cryptoki_sys::*;
use std::ffi::c_void;
use std::net::TcpStream;
use std::ptr;
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

static CONNECTION: Mutex<Option<TcpStream>> = Mutex::new(None);

/// The calls that go through. Others are not there.
pub(crate) fn functions() -> CK_FUNCTION_LIST {
    CK_FUNCTION_LIST { C_GenerateKeyPair: Some(generate_key_pair), ..functions!(CK_FUNCTION_LIST::default()) }
}

fn connection() -> MutexGuard<'static, Option<TcpStream>> {
    CONNECTION.lock().unwrap_or_else(PoisonError::into_inner)
}

type Results = (CK_RV, Vec<Vec<u8>>);

/// Asks, and waits for the answer.
fn ask(function: u64, arguments: &[&[u8]]) -> Results {
    let mut connection = connection();
    let Some(connection) = connection.as_mut() else { return (CKR_CRYPTOKI_NOT_INITIALIZED, vec![]) };
    let asked = wire::write(connection, function, arguments).and_then(|()| wire::read(connection));
    asked.unwrap_or((CKR_DEVICE_ERROR, vec![]))
}

/// The same of a session, with numbers for arguments.
fn ask_for(function: u64, arguments: &[CK_ULONG]) -> Results {
    let arguments = arguments.iter().map(|argument| argument.to_ne_bytes()).collect::<Vec<_>>();
    ask(function, &arguments.iter().map(<[u8; 8]>::as_slice).collect::<Vec<_>>())
}

/// `MODULE_HSM` is its HOST:PORT.
unsafe extern "C" fn initialize(_: *mut c_void) -> CK_RV {
    let Some(connection) = std::env::var("MODULE_HSM").ok().and_then(|hsm| TcpStream::connect(hsm).ok()) else {
        return CKR_DEVICE_REMOVED;
    };
    let _ = connection.set_nodelay(true);
    *self::connection() = Some(connection);
    ask(wire::INITIALIZE, &[]).0
}

unsafe extern "C" fn finalize(_: *mut c_void) -> CK_RV {
    let (rv, _) = ask(wire::FINALIZE, &[]);
    *connection() = None;
    rv
}

/// Hands handles out, as far as there is room.
unsafe fn handles((rv, found): Results, to: *mut CK_ULONG, room: CK_ULONG, count: *mut CK_ULONG) -> CK_RV {
    for (number, handle) in found.iter().take(room as usize).enumerate() {
        if !to.is_null() {
            *to.add(number) = wire::number(handle);
        }
    }
    *count = found.len() as CK_ULONG;
    rv
}

unsafe extern "C" fn get_slot_list(_: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    handles(ask(wire::SLOTS, &[]), slots, *count, count)
}

unsafe extern "C" fn get_token_info(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let (rv, results) = ask_for(wire::TOKEN, &[slot]);
    if let Some(bytes) = results.first().filter(|bytes| bytes.len() == size_of::<CK_TOKEN_INFO>()) {
        ptr::copy_nonoverlapping(bytes.as_ptr(), info.cast(), bytes.len());
    }
    rv
}

unsafe extern "C" fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    _: *mut c_void,
    _: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    handles(ask_for(wire::OPEN, &[slot, flags]), session, 1, &mut 0)
}

unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    ask_for(wire::CLOSE, &[session]).0
}

unsafe extern "C" fn login(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, length: CK_ULONG) -> CK_RV {
    ask(wire::LOGIN, &[&session.to_ne_bytes(), &user.to_ne_bytes(), slice::from_raw_parts(pin, length as usize)]).0
}

/// The types of attributes, and then the value of each.
unsafe fn template(attributes: *mut CK_ATTRIBUTE, count: CK_ULONG) -> Vec<Vec<u8>> {
    let attributes = slice::from_raw_parts(attributes, count as usize);
    let kinds = attributes.iter().flat_map(|attribute| attribute.type_.to_ne_bytes()).collect();
    let value = |attribute: &CK_ATTRIBUTE| slice::from_raw_parts(attribute.pValue.cast(), attribute.ulValueLen as usize).to_vec();
    [kinds].into_iter().chain(attributes.iter().map(value)).collect()
}

unsafe extern "C" fn find_objects_init(session: CK_SESSION_HANDLE, attributes: *mut CK_ATTRIBUTE, count: CK_ULONG) -> CK_RV {
    let template = template(attributes, count);
    let session = session.to_ne_bytes();
    let arguments = [&session[..]].into_iter().chain(template.iter().map(Vec::as_slice)).collect::<Vec<_>>();
    ask(wire::FIND_INIT, &arguments).0
}

unsafe extern "C" fn find_objects(
    session: CK_SESSION_HANDLE,
    objects: *mut CK_OBJECT_HANDLE,
    room: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_RV {
    handles(ask_for(wire::FIND, &[session, room]), objects, room, count)
}

unsafe extern "C" fn find_objects_final(session: CK_SESSION_HANDLE) -> CK_RV {
    ask_for(wire::FIND_FINAL, &[session]).0
}

/// Of one attribute: sigsh asks for no more at once.
unsafe extern "C" fn get_attribute_value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    attribute: *mut CK_ATTRIBUTE,
    _: CK_ULONG,
) -> CK_RV {
    let attribute = &mut *attribute;
    let (rv, results) = ask_for(wire::ATTRIBUTE, &[session, object, attribute.type_, attribute.ulValueLen]);
    let [length, value] = &results[..] else { return rv };
    if value.len() as CK_ULONG <= attribute.ulValueLen {
        ptr::copy_nonoverlapping(value.as_ptr(), attribute.pValue.cast(), value.len());
    }
    attribute.ulValueLen = wire::number(length);
    rv
}

unsafe extern "C" fn sign_init(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) -> CK_RV {
    ask_for(wire::SIGN_INIT, &[session, (*mechanism).mechanism, key]).0
}

unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_length: CK_ULONG,
    signature: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    let (rv, results) = ask(wire::SIGN, &[&session.to_ne_bytes(), slice::from_raw_parts(data, data_length as usize)]);
    if let Some(made) = results.first().filter(|made| made.len() as CK_ULONG <= *length) {
        ptr::copy_nonoverlapping(made.as_ptr(), signature, made.len());
        *length = made.len() as CK_ULONG;
    }
    rv
}

unsafe extern "C" fn generate_key_pair(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    publics: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    privates: CK_ULONG,
    one: *mut CK_OBJECT_HANDLE,
    other: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let templates = [template(public, publics), template(private, privates)].concat();
    let numbers = [session, (*mechanism).mechanism].map(CK_ULONG::to_ne_bytes);
    let arguments = numbers.iter().map(<[u8; 8]>::as_slice).chain(templates.iter().map(Vec::as_slice)).collect::<Vec<_>>();
    let (rv, results) = ask(wire::GENERATE, &arguments);
    if let [public, private] = &results[..] {
        (*one, *other) = (wire::number(public), wire::number(private));
    }
    rv
}
