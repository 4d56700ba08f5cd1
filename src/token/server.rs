//! A token behind a p11-kit server: its module lives in another process, under another account, and what it says is not believed
//! further than what a token says.
//!
//! Works with p11-kit 0.24 and later. The connection is made, and the server's account looked at, before anything is sent.

pub mod peer;
pub mod wire;

use super::Fault;
use super::cryptoki::{
    Attribute, AttributeType, Cryptoki, CryptokiError, Handle, MAX_SIGNATURE, MAX_SLOTS, MAX_VALUE, Pair, Rv, TokenInfo, Value,
};
use crate::sys;
use cryptoki_sys::{CKF_RW_SESSION, CKF_SERIAL_SESSION};
use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use wire::{Answer, Call, HEADER, MAX_REQUEST, Request, WireError};
use zeroize::{Zeroize, Zeroizing};

/// What p11-kit's client says first.
const HANDSHAKE: &[u8] = b"PRIVATE-GNOME-KEYRING-PKCS11-PROTOCOL-V-1";

/// How a connection that the other end has closed shows.
const CLOSED: [ErrorKind; 3] = [ErrorKind::UnexpectedEof, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];

/// A server at the other end of a connection, its module initialised.
pub struct Server<S>(RefCell<Connection<S>>);

struct Connection<S> {
    stream: S,
    version: u8,
    serial: u32,
    /// Where every request is written: locked in memory, and wiped when it is sent, for one of them holds the PIN.
    request: Zeroizing<Vec<u8>>,
}

impl<S: Read + Write> Server<S> {
    /// Agrees with the server on a version and has it initialise its module.
    ///
    /// # Errors
    /// [`Fault::Full`], [`Fault::Module`].
    pub fn initialize(mut stream: S) -> Result<Server<S>, Fault> {
        let mut version = [wire::VERSION];
        stream.write_all(&version).and_then(|()| stream.read_exact(&mut version)).map_err(|error| match error.kind() {
            // What systemd does with one connection more than MaxConnections=.
            kind if CLOSED.contains(&kind) => Fault::Full,
            _ => broken(error).into(),
        })?;
        let version = match version {
            [version] if version <= wire::VERSION => version,
            [version] => return Err(CryptokiError::Broken(format!("the p11-kit server speaks version {version} alone")).into()),
        };
        // Locked before anything is in it, and never longer: no copy is left behind by growing.
        let mut request = Zeroizing::new(vec![0; MAX_REQUEST]);
        let _ = sys::lock_memory(&request);
        request.clear();
        let server = Server(RefCell::new(Connection { stream, version, serial: 0, request }));
        // Nothing in the reserved field.
        server.call(&wire::INITIALIZE, |request| request.bytes(HANDSHAKE).byte(0).bytes(&[]), nothing)?;
        Ok(server)
    }

    /// Makes one call: `arguments` writes them, and `result` reads what comes back.
    fn call<T>(
        &self,
        call: &Call,
        arguments: impl FnOnce(Request<'_>) -> Request<'_>,
        result: impl FnOnce(&mut Answer<'_>) -> Result<T, WireError>,
    ) -> Result<T, CryptokiError> {
        let body = self.0.borrow_mut().exchange(call, arguments)?;
        let read = |mut answer: Answer<'_>| {
            let value = result(&mut answer)?;
            answer.end().map(|()| value)
        };
        Answer::new(&body, call).and_then(read).map_err(|error| failed(call, error))
    }
}

impl<S: Read + Write> Connection<S> {
    /// Sends a request, and waits for as long as the monitor lets us: what stands behind the header of the answer.
    fn exchange(&mut self, call: &Call, arguments: impl FnOnce(Request<'_>) -> Request<'_>) -> Result<Vec<u8>, CryptokiError> {
        self.serial = self.serial.wrapping_add(1);
        let request = arguments(Request::new(&mut self.request, self.version, self.serial, call)).finish();
        let sent = request.map_err(|error| failed(call, error)).and_then(|bytes| self.stream.write_all(bytes).map_err(broken));
        self.request.zeroize();
        sent?;
        let mut header = [0; HEADER];
        self.stream.read_exact(&mut header).map_err(broken)?;
        let mut body = vec![0; wire::length(header, self.serial).map_err(|error| failed(call, error))?];
        self.stream.read_exact(&mut body).map_err(broken)?;
        Ok(body)
    }
}

fn failed(call: &Call, error: WireError) -> CryptokiError {
    match error {
        WireError::Returned(value) => CryptokiError::Returned(call.name, Rv(value)),
        error => CryptokiError::Broken(format!("{}: {error}", call.name)),
    }
}

fn broken(error: std::io::Error) -> CryptokiError {
    CryptokiError::Broken(match error.kind() {
        kind if CLOSED.contains(&kind) => "the p11-kit server has closed the connection".to_owned(),
        _ => format!("cannot talk to the p11-kit server: {error}"),
    })
}

/// What most calls give back.
fn nothing(_: &mut Answer<'_>) -> Result<(), WireError> {
    Ok(())
}

impl<S: Read + Write> Cryptoki for Server<S> {
    fn slots(&self) -> Result<Vec<Handle>, CryptokiError> {
        self.call(&wire::GET_SLOT_LIST, |request| request.byte(1).room(MAX_SLOTS), |answer| answer.numbers(MAX_SLOTS))
    }

    fn token(&self, slot: Handle) -> Result<TokenInfo, CryptokiError> {
        let info = |answer: &mut Answer<'_>| {
            let mut text = |length| answer.text(length).map(TokenInfo::text);
            let (label, manufacturer, model, serial) = (text(32)?, text(32)?, text(16)?, text(16)?);
            let flags = answer.number()?;
            for _ in 0..10 {
                answer.number()?;
            }
            answer.version()?;
            answer.version()?;
            answer.text(16)?;
            Ok(TokenInfo { label, manufacturer, model, serial, flags })
        };
        self.call(&wire::GET_TOKEN_INFO, |request| request.number(slot), info)
    }

    fn open(&self, slot: Handle, writable: bool) -> Result<Handle, CryptokiError> {
        let flags = CKF_SERIAL_SESSION | if writable { CKF_RW_SESSION } else { 0 };
        self.call(&wire::OPEN_SESSION, |request| request.number(slot).number(flags), |answer| answer.number())
    }

    fn login(&self, session: Handle, user: u64, pin: &[u8]) -> Result<(), CryptokiError> {
        self.call(&wire::LOGIN, |request| request.number(session).number(user).bytes(pin), nothing)
    }

    fn find_init(&self, session: Handle, template: &[Attribute]) -> Result<(), CryptokiError> {
        self.call(&wire::FIND_OBJECTS_INIT, |request| request.number(session).attributes(template), nothing)
    }

    fn find_some(&self, session: Handle, most: usize) -> Result<Vec<Handle>, CryptokiError> {
        self.call(&wire::FIND_OBJECTS, |request| request.number(session).room(most), |answer| answer.numbers(most))
    }

    fn find_final(&self, session: Handle) -> Result<(), CryptokiError> {
        self.call(&wire::FIND_OBJECTS_FINAL, |request| request.number(session), nothing)
    }

    fn attribute(&self, session: Handle, object: Handle, kind: AttributeType) -> Result<Option<Value>, CryptokiError> {
        let value = |answer: &mut Answer<'_>| answer.attribute(kind, MAX_VALUE);
        self.call(&wire::GET_ATTRIBUTE_VALUE, |request| request.number(session).number(object).wanted(kind, MAX_VALUE), value)
    }

    fn sign_init(&self, session: Handle, by: u64, parameters: &[u64], key: Handle) -> Result<(), CryptokiError> {
        self.call(&wire::SIGN_INIT, |request| request.number(session).mechanism(by, parameters).number(key), nothing)
    }

    fn sign(&self, session: Handle, data: &[u8]) -> Result<Vec<u8>, CryptokiError> {
        let signature = |answer: &mut Answer<'_>| answer.bytes(MAX_SIGNATURE).map(<[u8]>::to_vec);
        self.call(&wire::SIGN, |request| request.number(session).bytes(data).room(MAX_SIGNATURE), signature)
    }

    fn generate(&self, session: Handle, by: u64, public: &[Attribute], private: &[Attribute]) -> Result<Pair, CryptokiError> {
        self.call(
            &wire::GENERATE_KEY_PAIR,
            |request| request.number(session).mechanism(by, &[]).attributes(public).attributes(private),
            |answer| Ok((answer.number()?, answer.number()?)),
        )
    }

    fn destroy(&self, session: Handle, object: Handle) -> Result<(), CryptokiError> {
        self.call(&wire::DESTROY_OBJECT, |request| request.number(session).number(object), nothing)
    }

    fn leave(&self, session: Handle) {
        // Waited for: who has the next turn at the token finds it free.
        let _ = self.call(&wire::CLOSE_SESSION, |request| request.number(session), nothing);
        let _ = self.call(&wire::FINALIZE, |request| request, nothing);
    }
}

#[cfg(test)]
mod tests;
