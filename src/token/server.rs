//! A token behind a p11-kit server: its module lives in another process, under another account, and what it says is not believed
//! further than what a token says.
//!
//! Works with p11-kit 0.24 and later. The connection is made, and the server's account looked at, before anything is sent.

pub mod peer;
pub mod wire;

use super::Fault;
use super::cryptoki::{
    Attribute, AttributeType, Cryptoki, CryptokiError, Handle, MAX_SIGNATURE, MAX_SLOTS, MAX_VALUE, Rv, TokenInfo, Value,
};
use crate::sys;
use cryptoki_sys::{CK_EDDSA_PARAMS, CKF_RW_SESSION, CKF_SERIAL_SESSION, CKM_EDDSA};
use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use wire::{Answer, Call, HEADER, MAX_REQUEST, Request, WireError};
use zeroize::{Zeroize, Zeroizing};

/// CK_EDDSA_PARAMS in memory, all of it zero: no hash, no context, and no pointer to one. p11-kit hands it to the module as it is.
const NEITHER_HASH_NOR_CONTEXT: [u8; size_of::<CK_EDDSA_PARAMS>()] = [0; size_of::<CK_EDDSA_PARAMS>()];

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
            _ => broken(&error).into(),
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
        let arguments = |request: &mut Request<'_>, _| {
            request.bytes(HANDSHAKE);
            // Nothing in the reserved field.
            request.byte(0);
            request.bytes(&[]);
        };
        server.call(&wire::INITIALIZE, arguments, |_| Ok(()))?;
        Ok(server)
    }

    /// Makes one call: `arguments` writes them, given the version of the protocol, and `result` reads what comes back.
    fn call<T>(
        &self,
        call: &Call,
        arguments: impl FnOnce(&mut Request<'_>, u8),
        result: impl FnOnce(&mut Answer<'_>) -> Result<T, WireError>,
    ) -> Result<T, CryptokiError> {
        let said = |error| match error {
            WireError::Returned(value) => CryptokiError::Returned(call.name, Rv(value)),
            error => CryptokiError::Broken(format!("{}: {error}", call.name)),
        };
        let body = self.0.borrow_mut().exchange(call, arguments).map_err(|error| match error {
            Trouble::Wire(error) => said(error),
            Trouble::Stream(error) => broken(&error),
        })?;
        let read = |mut answer: Answer<'_>| {
            let value = result(&mut answer)?;
            answer.end().map(|()| value)
        };
        Answer::new(&body, call).and_then(read).map_err(said)
    }

    fn sign_by(&self, session: Handle, mechanism: u64, parameters: Option<&[u8]>, key: Handle) -> Result<(), CryptokiError> {
        let arguments = |request: &mut Request<'_>, version| {
            request.number(session);
            request.mechanism(mechanism, parameters, version);
            request.number(key);
        };
        self.call(&wire::SIGN_INIT, arguments, nothing)
    }
}

/// What keeps a request or its answer from the other end.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Stream(#[from] std::io::Error),
}

impl<S: Read + Write> Connection<S> {
    /// Sends a request, and waits for as long as the monitor lets us: what stands behind the header of the answer.
    fn exchange(&mut self, call: &Call, arguments: impl FnOnce(&mut Request<'_>, u8)) -> Result<Vec<u8>, Trouble> {
        self.serial = self.serial.wrapping_add(1);
        let mut request = Request::new(&mut self.request, self.serial, call);
        arguments(&mut request, self.version);
        let sent = request.finish().map_err(Trouble::from).and_then(|request| Ok(self.stream.write_all(request)?));
        self.request.zeroize();
        sent?;
        let mut header = [0; HEADER];
        self.stream.read_exact(&mut header)?;
        let mut body = vec![0; wire::length(header, self.serial)?];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }
}

fn broken(error: &std::io::Error) -> CryptokiError {
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
        let arguments = |request: &mut Request<'_>, _| {
            request.byte(1);
            request.room(MAX_SLOTS);
        };
        self.call(&wire::GET_SLOT_LIST, arguments, |answer| answer.numbers(MAX_SLOTS))
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
        self.call(&wire::GET_TOKEN_INFO, |request, _| request.number(slot), info)
    }

    fn open(&self, slot: Handle, writable: bool) -> Result<Handle, CryptokiError> {
        let arguments = |request: &mut Request<'_>, _| {
            request.number(slot);
            request.number(CKF_SERIAL_SESSION | if writable { CKF_RW_SESSION } else { 0 });
        };
        self.call(&wire::OPEN_SESSION, arguments, |answer| answer.number())
    }

    fn login(&self, session: Handle, user: u64, pin: &[u8]) -> Result<(), CryptokiError> {
        let arguments = |request: &mut Request<'_>, _| {
            request.number(session);
            request.number(user);
            request.bytes(pin);
        };
        self.call(&wire::LOGIN, arguments, nothing)
    }

    fn find_init(&self, session: Handle, template: &[Attribute]) -> Result<(), CryptokiError> {
        let arguments = |request: &mut Request<'_>, _| {
            request.number(session);
            request.attributes(template);
        };
        self.call(&wire::FIND_OBJECTS_INIT, arguments, nothing)
    }

    fn find_some(&self, session: Handle, most: usize) -> Result<Vec<Handle>, CryptokiError> {
        let arguments = |request: &mut Request<'_>, _| {
            request.number(session);
            request.room(most);
        };
        self.call(&wire::FIND_OBJECTS, arguments, |answer| answer.numbers(most))
    }

    fn find_final(&self, session: Handle) -> Result<(), CryptokiError> {
        self.call(&wire::FIND_OBJECTS_FINAL, |request, _| request.number(session), nothing)
    }

    fn attribute(&self, session: Handle, object: Handle, kind: AttributeType) -> Result<Option<Value>, CryptokiError> {
        let arguments = |request: &mut Request<'_>, _| {
            request.number(session);
            request.number(object);
            request.wanted(kind, MAX_VALUE);
        };
        self.call(&wire::GET_ATTRIBUTE_VALUE, arguments, |answer| answer.attribute(kind, MAX_VALUE))
    }

    fn sign_init(&self, session: Handle, mechanism: u64, key: Handle) -> Result<(), CryptokiError> {
        self.sign_by(session, mechanism, None, key)
    }

    fn sign_init_ed448(&self, session: Handle, key: Handle) -> Result<(), CryptokiError> {
        self.sign_by(session, CKM_EDDSA, Some(&NEITHER_HASH_NOR_CONTEXT), key)
    }

    fn sign(&self, session: Handle, data: &[u8]) -> Result<Vec<u8>, CryptokiError> {
        let arguments = |request: &mut Request<'_>, _| {
            request.number(session);
            request.bytes(data);
            request.room(MAX_SIGNATURE);
        };
        self.call(&wire::SIGN, arguments, |answer| answer.bytes(MAX_SIGNATURE).map(<[u8]>::to_vec))
    }

    fn generate(
        &self,
        session: Handle,
        mechanism: u64,
        public: &[Attribute],
        private: &[Attribute],
    ) -> Result<(Handle, Handle), CryptokiError> {
        let arguments = |request: &mut Request<'_>, version| {
            request.number(session);
            request.mechanism(mechanism, None, version);
            request.attributes(public);
            request.attributes(private);
        };
        self.call(&wire::GENERATE_KEY_PAIR, arguments, |answer| Ok((answer.number()?, answer.number()?)))
    }

    fn destroy(&self, session: Handle, object: Handle) -> Result<(), CryptokiError> {
        let arguments = |request: &mut Request<'_>, _| {
            request.number(session);
            request.number(object);
        };
        self.call(&wire::DESTROY_OBJECT, arguments, nothing)
    }

    fn leave(&self, session: Handle) {
        // Waited for: who has the next turn at the token finds it free.
        let _ = self.call(&wire::CLOSE_SESSION, |request, _| request.number(session), nothing);
        let _ = self.call(&wire::FINALIZE, |_, _| (), nothing);
    }
}

#[cfg(test)]
mod tests;
