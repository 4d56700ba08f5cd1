//! A PKCS#11 module for the tests: the real one, which counts its calls and misbehaves on demand.
//!
//! Everything passes through to the real module but for what the environment asks for. It is read
//! once, at the first `C_GetFunctionList`. A fault that is not in the table, or one that lacks its
//! `MODULE_TARGET`, is refused there: a misspelt fault would otherwise be a test that proves nothing.
//!
//! | variable | meaning |
//! |---|---|
//! | `MODULE_REAL` | path of the real module; SoftHSM when unset |
//! | `MODULE_HSM` | HOST:PORT of `tests/hsm.rs`, which is asked in place of the real module |
//! | `MODULE_ALWAYS` | when set, every key says CKA_ALWAYS_AUTHENTICATE, and no signature is made without a login of its own |
//! | `MODULE_COUNT` | an existing file that gets a line for each call of `C_Initialize`, `C_OpenSession`, `C_Login`, `C_FindObjectsInit`, `C_SignInit`, `C_Sign` (size queries too), `C_Finalize` |
//! | `MODULE_FAULT` | one of the faults below |
//! | `MODULE_TARGET` | the path that `chmod`, `open-read`, `open-write` and `truncate` try, and `wait-sign` waits for |
//!
//! | fault | what happens |
//! |---|---|
//! | `hang-load`, `hang-initialize`, `hang-login`, `hang-sign`, `hang-finalize` | an endless loop without system calls |
//! | `wait-sign` | `C_Sign` goes on once the target is gone |
//! | `crash-load` | abort in `C_GetFunctionList` |
//! | `crash-initialize`, `crash-sign`, `crash-finalize` | a write to an unmapped address |
//! | `exit-initialize`, `exit-sign` | the process leaves with status 0, silently |
//! | `fail-initialize` | `CKR_GENERAL_ERROR` |
//! | `fail-login`, `fail-sign` | `CKR_FUNCTION_FAILED` |
//! | `wrong-pin` | `C_Login`: `CKR_PIN_INCORRECT`; the real module is not asked |
//! | `pin-low`, `pin-final`, `pin-locked` | `C_GetTokenInfo` sets that user PIN flag |
//! | `garbage-info` | `C_GetTokenInfo` fills its texts with 0xff |
//! | `no-slots` | `C_GetSlotList` finds none |
//! | `no-public` | a search for `CKO_PUBLIC_KEY` finds none |
//! | `one-session` | `C_OpenSession`: `CKR_SESSION_COUNT`, and the line `REFUSED`, while another process has one |
//! | `removed` | `C_SignInit`: `CKR_DEVICE_REMOVED` |
//! | `wrong-signature` | the last bit of the signature is flipped |
//! | `zero-signature` | the signature is all zero |
//! | `short-signature` | the last byte of the signature is missing |
//! | `empty-signature` | the signature has no bytes |
//! | `long-signature` | 4096 bytes are claimed, size query or not; only the caller's buffer is filled |
//! | `other-digest` | the data are signed with their last byte inverted |
//! | `FAULT@N` | one of these, but only from the Nth call of `C_SignInit` to the next |
//! | `FUNCTION=ANSWER` | this function, `C_Initialize` for one, answers with one of the answers below; `STRUCK` is noted |
//! | `FUNCTION=ANSWER@N` | the same, but only its Nth call |
//! | `print` | text on descriptors 0, 1 and 2 in `C_Initialize` and `C_Sign` |
//!
//! | answer | what happens |
//! |---|---|
//! | a number | it returns this CKR value, and the real module is not asked |
//! | `hang`, `crash` | it waits for ever; it writes to an unmapped address |
//! | `zero`, `long`, `huge`, `unavailable` | the length or number of what it has filled in is 0, one more than there was room for, 2^64 - 2, or `CK_UNAVAILABLE_INFORMATION` |
//! | `garbage` | all that it has filled in, handles and texts and bytes alike, is 0xff |
//! | `endless` | `C_FindObjects` finds one object more, whenever it is asked |
//!
//! The trials are what a sandbox must stop. Each is made at the start of every `C_Sign` or, with
//! `-load` appended to its name, of `C_Initialize`. When the process survives it, `MODULE_COUNT`
//! gets `ESCAPED <fault>` or `DENIED <fault>`, and the call goes on.
//!
//! | trial | what is tried |
//! |---|---|
//! | `tcp`, `tcp6` | a TCP connection to port `MODULE_PORT` of this host, over either family |
//! | `tcp-other`, `fastopen` | to port `MODULE_OTHER`; the second by `MSG_FASTOPEN` |
//! | `udp`, `mptcp`, `netlink` | such a socket |
//! | `thread` | a thread, which ends at once |
//! | `listen` | a TCP socket, bound to a port of the kernel's choice and listening |
//! | `exec` | execve of `/bin/sh`, which writes the `ESCAPED` line: nobody else would be left to |
//! | `fork` | fork; the child exits at once |
//! | `socket`, `socket-unix` | an `AF_INET` or `AF_UNIX` socket |
//! | `ptrace` | `PTRACE_TRACEME` |
//! | `kill-parent` | getppid, then SIGKILL to it |
//! | `mmap-exec` | an anonymous writable and executable mapping; also the line `MAPPED` on success |
//! | `chmod` | chmod of the target to 0666 |
//! | `open-read` | the target with `O_RDONLY`; also the line `OPENED` on success |
//! | `open-write` | the target with `O_WRONLY \| O_CREAT` |
//! | `truncate` | the target with `O_RDONLY \| O_TRUNC` |

// All of this is called from C on the terms of PKCS#11: pointers are as valid as the caller made
// them, and saying so at each of them would add nothing.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

/// The functions of this module by these names, and the others of that list.
macro_rules! functions {
    ($others:expr) => {
        CK_FUNCTION_LIST {
            C_Initialize: Some(initialize),
            C_Finalize: Some(finalize),
            C_GetSlotList: Some(get_slot_list),
            C_GetTokenInfo: Some(get_token_info),
            C_OpenSession: Some(open_session),
            C_CloseSession: Some(close_session),
            C_Login: Some(login),
            C_FindObjectsInit: Some(find_objects_init),
            C_FindObjects: Some(find_objects),
            C_FindObjectsFinal: Some(find_objects_final),
            C_GetAttributeValue: Some(get_attribute_value),
            C_SignInit: Some(sign_init),
            C_Sign: Some(sign),
            ..$others
        }
    };
}

#[path = "module/always.rs"]
mod always;
#[path = "module/remote.rs"]
mod remote;
#[path = "module/wire.rs"]
mod wire;

use std::env;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStringExt;
use std::ptr;
use std::slice;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cryptoki_sys::*;

const SOFTHSM: &str = "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so";
const LONG: CK_ULONG = 4096;

#[rustfmt::skip]
const FAULTS: &[&str] = &[
    "", "crash-load", "hang-load", "fail-initialize", "hang-initialize", "crash-initialize",
    "exit-initialize", "fail-login", "hang-login", "wrong-pin", "pin-low", "pin-final",
    "pin-locked", "removed", "fail-sign", "hang-sign", "crash-sign", "exit-sign",
    "wrong-signature", "zero-signature", "short-signature", "empty-signature", "long-signature",
    "other-digest", "no-slots", "garbage-info", "no-public", "print", "hang-finalize", "crash-finalize",
    "one-session",
];
#[rustfmt::skip]
const TRIALS: &[&str] =
    &["tcp", "tcp6", "tcp-other", "fastopen", "udp", "mptcp", "netlink", "listen", "thread", "exec", "fork", "socket", "socket-unix", "ptrace", "kill-parent", "mmap-exec"];
const TARGETED: &[&str] = &["chmod", "open-read", "open-write", "truncate", "wait-sign"];

struct Switches {
    fault: String,
    /// At which signature alone it strikes, from 1.
    at: Option<u64>,
    answer: Option<Answer>,
    count: Option<CString>,
    target: Option<CString>,
}

static SWITCHES: LazyLock<Switches> = LazyLock::new(|| {
    let path = |name| CString::new(env::var_os(name)?.into_vec()).ok();
    let fault = env::var_os("MODULE_FAULT").map(|fault| fault.to_string_lossy().into_owned()).unwrap_or_default();
    let (fault, at) = fault.split_once('@').map_or((fault.clone(), None), |(fault, at)| (fault.to_owned(), Some(at)));
    let at = at.map(|at| at.parse().unwrap_or(0));
    Switches { answer: Answer::of(&fault, at), at, fault, count: path("MODULE_COUNT"), target: path("MODULE_TARGET") }
});

/// What one function answers.
struct Answer {
    function: String,
    lie: Lie,
    /// Of which call alone, from 1.
    at: Option<u64>,
    calls: AtomicU64,
}

#[derive(Clone, Copy, PartialEq)]
enum Lie {
    Code(CK_RV),
    Hang,
    Crash,
    Zero,
    Long,
    Huge,
    Unavailable,
    Garbage,
    Endless,
}

impl Answer {
    fn of(fault: &str, at: Option<u64>) -> Option<Answer> {
        let (function, lie) = fault.split_once('=')?;
        let lie = match lie {
            "hang" => Lie::Hang,
            "crash" => Lie::Crash,
            "zero" => Lie::Zero,
            "long" => Lie::Long,
            "huge" => Lie::Huge,
            "unavailable" => Lie::Unavailable,
            "garbage" => Lie::Garbage,
            "endless" => Lie::Endless,
            number => Lie::Code(number.parse().ok()?),
        };
        Some(Answer { function: function.to_owned(), lie, at, calls: AtomicU64::new(0) })
    }
}

impl Lie {
    /// How many there are, when there is room for so many.
    fn count(self, count: &mut CK_ULONG, room: CK_ULONG) {
        match self {
            Lie::Zero => *count = 0,
            Lie::Long => *count = room + 1,
            Lie::Huge => *count = CK_ULONG::MAX - 1,
            Lie::Unavailable => *count = CK_UNAVAILABLE_INFORMATION,
            _ => {}
        }
    }

    /// What it has filled in.
    unsafe fn fill<T>(self, values: *mut T, count: usize) {
        match self {
            Lie::Garbage if !values.is_null() => values.write_bytes(0xff, count),
            Lie::Zero if !values.is_null() => values.write_bytes(0, count),
            _ => {}
        }
    }
}

/// Begins a call of this function: what it is to lie about what it fills in, or what it returns at once.
fn begin(function: &str) -> Result<Option<Lie>, CK_RV> {
    let Some(answer) = SWITCHES.answer.as_ref().filter(|answer| answer.function == function) else { return Ok(None) };
    let call = answer.calls.fetch_add(1, Ordering::Relaxed) + 1;
    if answer.at.is_some_and(|at| at != call) {
        return Ok(None);
    }
    note("STRUCK");
    match answer.lie {
        Lie::Code(rv) => Err(rv),
        Lie::Hang => loop {
            unsafe { libc::ppoll(ptr::null_mut(), 0, ptr::null(), ptr::null()) };
        },
        Lie::Crash => crash(),
        lie => Ok(Some(lie)),
    }
}

macro_rules! begin {
    ($function:literal) => {
        match begin($function) {
            Ok(lie) => lie,
            Err(rv) => return rv,
        }
    };
}

fn crash() -> ! {
    loop {
        // Not the null pointer itself: builds with debug assertions stop before that write.
        unsafe { ptr::without_provenance_mut::<u8>(1).write_volatile(1) };
    }
}

/// The real module's functions, and those that the caller gets.
static FUNCTIONS: LazyLock<Option<[CK_FUNCTION_LIST; 2]>> = LazyLock::new(|| {
    if env::var_os("MODULE_HSM").is_some() {
        return Some(with_ours(remote::functions()));
    }
    let path = env::var_os("MODULE_REAL").unwrap_or_else(|| OsString::from(SOFTHSM));
    let mut list = ptr::null_mut();
    let real = unsafe {
        let module = Pkcs11::new(path).ok()?;
        let rv = module.C_GetFunctionList.as_ref().ok()?(&mut list);
        // Unloading it would leave the list dangling.
        std::mem::forget(module);
        *(rv == CKR_OK).then_some(list)?.as_ref()?
    };
    Some(with_ours(real))
});

fn with_ours(real: CK_FUNCTION_LIST) -> [CK_FUNCTION_LIST; 2] {
    [real, CK_FUNCTION_LIST { C_GetFunctionList: Some(get_function_list), ..functions!(real) }]
}

/// How many signatures were begun.
static SIGNATURES: AtomicU64 = AtomicU64::new(0);

/// Whether the search under way is the one that `no-public` empties.
static SEARCH_IS_EMPTY: AtomicBool = AtomicBool::new(false);

macro_rules! real {
    ($name:ident($($argument:expr),*)) => {
        match FUNCTIONS.as_ref().and_then(|[real, _]| real.$name) {
            Some(function) => function($($argument),*),
            None => CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}

fn fault() -> &'static str {
    let strikes = |at| SIGNATURES.load(Ordering::Relaxed) == at;
    if SWITCHES.at.is_none_or(strikes) { &SWITCHES.fault } else { "" }
}

/// Appends one line to the count. By a plain call, since the filter knows what it comes to.
fn note(line: &str) {
    let line = format!("{line}\n");
    if *COUNT >= 0 {
        unsafe { libc::write(*COUNT, line.as_ptr().cast(), line.len()) };
    }
}

/// Where lines are appended. Opened once: not every sandbox leaves the right to do so later.
static COUNT: LazyLock<c_int> = LazyLock::new(|| {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC;
    SWITCHES.count.as_ref().map_or(-1, |path| unsafe { libc::open(path.as_ptr(), flags) })
});

/// What a fault does at any place; a code if the call is to fail with it.
fn strike(place: &str) -> Option<CK_RV> {
    if fault() == "print" && ["initialize", "sign"].contains(&place) {
        let text = b"printed by the module\n";
        for descriptor in 0..=2 {
            unsafe { libc::write(descriptor, text.as_ptr().cast(), text.len()) };
        }
    }
    let trial_here = match place {
        "initialize" => fault().strip_suffix("-load"),
        "sign" => Some(fault()),
        _ => None,
    };
    if let Some(escaped) = trial_here.and_then(trial) {
        let outcome = if escaped { "ESCAPED" } else { "DENIED" };
        note(&format!("{outcome} {}", fault()));
    }
    match fault().split_once('-')? {
        (_, at) if at != place => None,
        ("hang", _) => loop {
            std::hint::spin_loop();
        },
        ("crash", "load") => std::process::abort(),
        ("crash", _) => crash(),
        ("exit", _) => unsafe { libc::_exit(0) },
        ("wait", _) => {
            // A sandbox that hides the file does not hide that it is there.
            while SWITCHES.target.as_deref().is_some_and(exists) {
                std::hint::spin_loop();
            }
            None
        }
        ("fail", "initialize") => Some(CKR_GENERAL_ERROR),
        ("fail", _) => Some(CKR_FUNCTION_FAILED),
        _ => None,
    }
}

fn exists(path: &CStr) -> bool {
    let descriptor = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if descriptor < 0 {
        return std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOENT);
    }
    unsafe { libc::close(descriptor) };
    true
}

/// Tries what a sandbox must stop: whether it could be done, or nothing for a name that is no trial.
fn trial(name: &str) -> Option<bool> {
    let path = |path: &'static Option<CString>| path.as_deref().map_or(c"", |path| path).as_ptr();
    let target = path(&SWITCHES.target);
    let open = |flags: c_int| unsafe { libc::open(target, flags, 0o600) >= 0 };
    Some(match name {
        "exec" => unsafe {
            let script = c"echo \"ESCAPED $1\" >> \"$0\"".as_ptr();
            let fault = CString::new(fault()).ok()?;
            let arguments: [*const c_char; 6] =
                [c"sh".as_ptr(), c"-c".as_ptr(), script, path(&SWITCHES.count), fault.as_ptr(), ptr::null()];
            libc::execve(c"/bin/sh".as_ptr(), arguments.as_ptr(), &ptr::null());
            false
        },
        "fork" => match unsafe { libc::fork() } {
            0 => unsafe { libc::_exit(0) },
            child => child > 0,
        },
        "tcp" => TcpStream::connect((Ipv4Addr::LOCALHOST, port("MODULE_PORT"))).is_ok(),
        "tcp6" => TcpStream::connect((Ipv6Addr::LOCALHOST, port("MODULE_PORT"))).is_ok(),
        "tcp-other" => TcpStream::connect((Ipv4Addr::LOCALHOST, port("MODULE_OTHER"))).is_ok(),
        "fastopen" => fastopen(port("MODULE_OTHER")),
        "udp" => unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) >= 0 },
        "mptcp" => unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP) >= 0 },
        "netlink" => unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) >= 0 },
        "thread" => std::thread::Builder::new().spawn(|| ()).is_ok_and(|thread| thread.join().is_ok()),
        "listen" => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_ok(),
        "socket" => unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) >= 0 },
        "socket-unix" => unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) >= 0 },
        "ptrace" => unsafe { libc::ptrace(libc::PTRACE_TRACEME) == 0 },
        "kill-parent" => unsafe { libc::kill(libc::getppid(), libc::SIGKILL) == 0 },
        "mmap-exec" => {
            let protection = libc::PROT_WRITE | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let mapping = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0) };
            noted("MAPPED", mapping != libc::MAP_FAILED)
        }
        "chmod" => unsafe { libc::chmod(target, 0o666) == 0 },
        "open-read" => noted("OPENED", open(libc::O_RDONLY)),
        "open-write" => open(libc::O_WRONLY | libc::O_CREAT),
        "truncate" => open(libc::O_RDONLY | libc::O_TRUNC),
        _ => return None,
    })
}

fn port(variable: &str) -> u16 {
    env::var(variable).ok().and_then(|port| port.parse().ok()).unwrap_or(0)
}

/// Connects by what it sends.
fn fastopen(port: u16) -> bool {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    };
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let length = size_of::<libc::sockaddr_in>() as u32;
        libc::sendto(socket, c"x".as_ptr().cast(), 1, libc::MSG_FASTOPEN, (&raw const address).cast(), length) == 1
    }
}

fn noted(line: &str, success: bool) -> bool {
    if success {
        note(line);
    }
    success
}

#[unsafe(export_name = "C_GetFunctionList")]
unsafe extern "C" fn get_function_list(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    let fault = SWITCHES.fault.as_str();
    let trial = fault.strip_suffix("-load").unwrap_or(fault);
    let targeted = TARGETED.contains(&trial) && SWITCHES.target.is_some();
    let known = FAULTS.contains(&fault) || TRIALS.contains(&trial) || targeted || SWITCHES.answer.is_some();
    if list.is_null() || SWITCHES.at == Some(0) || !known {
        return CKR_ARGUMENTS_BAD;
    }
    begin!("C_GetFunctionList");
    if let Some(rv) = strike("load") {
        return rv;
    }
    let Some([_, ours]) = FUNCTIONS.as_ref() else {
        return CKR_GENERAL_ERROR;
    };
    *list = ptr::from_ref(ours).cast_mut();
    CKR_OK
}

unsafe extern "C" fn initialize(arguments: *mut c_void) -> CK_RV {
    note("C_Initialize");
    begin!("C_Initialize");
    match strike("initialize") {
        Some(rv) => rv,
        None => real!(C_Initialize(arguments)),
    }
}

unsafe extern "C" fn finalize(reserved: *mut c_void) -> CK_RV {
    note("C_Finalize");
    begin!("C_Finalize");
    match strike("finalize") {
        Some(rv) => rv,
        None => real!(C_Finalize(reserved)),
    }
}

unsafe extern "C" fn get_slot_list(present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    let lie = begin!("C_GetSlotList");
    let room = *count;
    let rv = real!(C_GetSlotList(present, slots, count));
    if rv == CKR_OK && fault() == "no-slots" {
        *count = 0;
    }
    if let (CKR_OK, Some(lie)) = (rv, lie) {
        lie.fill(slots, *count as usize);
        lie.count(&mut *count, room);
    }
    rv
}

unsafe extern "C" fn get_token_info(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let lie = begin!("C_GetTokenInfo");
    let rv = real!(C_GetTokenInfo(slot, info));
    let Some(info) = info.as_mut().filter(|_| rv == CKR_OK) else {
        return rv;
    };
    if let Some(lie) = lie {
        lie.fill(info, 1);
    }
    match fault() {
        "pin-low" => info.flags |= CKF_USER_PIN_COUNT_LOW,
        "pin-final" => info.flags |= CKF_USER_PIN_FINAL_TRY,
        "pin-locked" => info.flags |= CKF_USER_PIN_LOCKED,
        "garbage-info" => {
            info.label.fill(0xff);
            info.manufacturerID.fill(0xff);
            info.model.fill(0xff);
            info.serialNumber.fill(0xff);
            info.utcTime.fill(0xff);
        }
        _ => {}
    }
    rv
}

unsafe extern "C" fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut c_void,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    note("C_OpenSession");
    let lie = begin!("C_OpenSession");
    if fault() == "one-session" && !alone() {
        note("REFUSED");
        return CKR_SESSION_COUNT;
    }
    let rv = real!(C_OpenSession(slot, flags, application, notify, session));
    if let (CKR_OK, Some(lie)) = (rv, lie) {
        lie.fill(session, 1);
    }
    rv
}

unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    begin!("C_CloseSession");
    real!(C_CloseSession(session))
}

/// Whether no other process has a session: a lock on the count that lasts as long as the process.
fn alone() -> bool {
    let Some(path) = &SWITCHES.count else { return false };
    unsafe {
        let descriptor = libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        descriptor >= 0 && libc::flock(descriptor, libc::LOCK_EX | libc::LOCK_NB) == 0
    }
}

unsafe extern "C" fn login(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, length: CK_ULONG) -> CK_RV {
    note("C_Login");
    begin!("C_Login");
    match strike("login") {
        Some(rv) => rv,
        None if fault() == "wrong-pin" => CKR_PIN_INCORRECT,
        None if user == CKU_CONTEXT_SPECIFIC => always::log_in(),
        None => real!(C_Login(session, user, pin, length)),
    }
}

unsafe extern "C" fn find_objects_init(session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, length: CK_ULONG) -> CK_RV {
    note("C_FindObjectsInit");
    begin!("C_FindObjectsInit");
    let attributes = match template.is_null() {
        true => &[],
        false => slice::from_raw_parts(template, length as usize),
    };
    let public = attributes.iter().any(|attribute| {
        let class: *const CK_OBJECT_CLASS = attribute.pValue.cast();
        attribute.type_ == CKA_CLASS && !class.is_null() && class.read_unaligned() == CKO_PUBLIC_KEY
    });
    SEARCH_IS_EMPTY.store(public && fault() == "no-public", Ordering::Relaxed);
    real!(C_FindObjectsInit(session, template, length))
}

unsafe extern "C" fn find_objects(
    session: CK_SESSION_HANDLE,
    objects: *mut CK_OBJECT_HANDLE,
    room: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_RV {
    let lie = begin!("C_FindObjects");
    let rv = real!(C_FindObjects(session, objects, room, count));
    if rv == CKR_OK && SEARCH_IS_EMPTY.load(Ordering::Relaxed) {
        *count = 0;
    }
    match lie {
        Some(Lie::Endless) => (*objects, *count) = (1, 1),
        Some(lie) if rv == CKR_OK => {
            lie.fill(objects, *count as usize);
            lie.count(&mut *count, room);
        }
        _ => {}
    }
    rv
}

unsafe extern "C" fn find_objects_final(session: CK_SESSION_HANDLE) -> CK_RV {
    begin!("C_FindObjectsFinal");
    real!(C_FindObjectsFinal(session))
}

unsafe extern "C" fn get_attribute_value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let lie = begin!("C_GetAttributeValue");
    let attributes = slice::from_raw_parts_mut(template, count as usize);
    let rooms = attributes.iter().map(|attribute| attribute.ulValueLen).collect::<Vec<_>>();
    let rv = real!(C_GetAttributeValue(session, object, template, count));
    if rv == CKR_OK {
        always::pretend(template, count);
    }
    if let (CKR_OK, Some(lie)) = (rv, lie) {
        for (attribute, room) in attributes.iter_mut().zip(rooms) {
            lie.fill(attribute.pValue.cast::<u8>(), attribute.ulValueLen as usize);
            lie.count(&mut attribute.ulValueLen, room);
        }
    }
    rv
}

unsafe extern "C" fn sign_init(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) -> CK_RV {
    note("C_SignInit");
    begin!("C_SignInit");
    SIGNATURES.fetch_add(1, Ordering::Relaxed);
    if fault() == "removed" {
        return CKR_DEVICE_REMOVED;
    }
    always::begin();
    real!(C_SignInit(session, mechanism, key))
}

unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    mut data: *mut CK_BYTE,
    data_length: CK_ULONG,
    signature: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    note("C_Sign");
    let lie = begin!("C_Sign");
    if let Some(rv) = strike("sign") {
        return rv;
    }
    if let Some(rv) = always::refuse() {
        return rv;
    }
    let mut other = Vec::new();
    if fault() == "other-digest" && !data.is_null() {
        other.extend_from_slice(slice::from_raw_parts(data, data_length as usize));
        if let Some(last) = other.last_mut() {
            *last ^= 0xff;
        }
        data = other.as_mut_ptr();
    }
    let room = length.as_ref().copied().unwrap_or(0);
    let rv = real!(C_Sign(session, data, data_length, signature, length));
    let Some(length) = length.as_mut().filter(|_| rv == CKR_OK) else {
        return rv;
    };
    if signature.is_null() {
        if fault() == "long-signature" {
            *length = LONG;
        }
        return rv;
    }
    if let Some(lie) = lie {
        lie.fill(signature, *length as usize);
        lie.count(length, room);
        return rv;
    }
    let made = slice::from_raw_parts_mut(signature, *length as usize);
    match fault() {
        "wrong-signature" => made.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1),
        "zero-signature" => made.fill(0),
        "short-signature" => *length = length.saturating_sub(1),
        "empty-signature" => *length = 0,
        "long-signature" => {
            let rest = room.min(LONG).saturating_sub(*length);
            signature.add(made.len()).write_bytes(0x5a, rest as usize);
            *length = LONG;
        }
        _ => {}
    }
    rv
}
