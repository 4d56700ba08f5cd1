//! All that a p11-kit server says in a session: what the client makes of it is within its bounds, and no byte of it a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::token::cryptoki::{Cryptoki, MAX_FOUND, MAX_SIGNATURE, MAX_VALUE, Value};
use sigsh::token::server::Server;
use std::io::{Read, Result, Write};

/// Hears nothing, and says what it has to say.
struct Peer<'a>(&'a [u8]);

impl Read for Peer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fuzz_target!(|said: &[u8]| {
    let Ok(server) = Server::initialize(Peer(said)) else { return };
    if let Ok(slots) = server.slots() {
        assert!(slots.len() <= 256);
    }
    if let Ok(token) = server.token(1) {
        assert!(token.label.chars().count() <= 32 && token.serial.chars().count() <= 16);
    }
    let _ = server.open(1, false);
    let _ = server.login(1, 1, b"4711");
    let template = [(0, Value::Number(3)), (0x103, Value::Bool(true)), (3, Value::Bytes(b"key".to_vec()))];
    if let Ok(found) = server.find(1, &template) {
        assert!(found.len() <= MAX_FOUND);
    }
    // CKA_KEY_TYPE, CKA_EC_POINT, CKA_ALWAYS_AUTHENTICATE, CKA_PARAMETER_SET
    for kind in [0x100, 0x181, 0x202, 0x61d] {
        if let Ok(Some(Value::Bytes(bytes))) = server.attribute(1, 1, kind) {
            assert!(bytes.len() <= MAX_VALUE);
        }
    }
    let _ = server.sign_init(1, 0x1057, &[], 1);
    if let Ok(signature) = server.sign(1, b"digest") {
        assert!(signature.len() <= MAX_SIGNATURE);
    }
    let _ = server.generate(1, 0x1055, &template, &template);
    server.leave(1);
});
