//! What the client says to a server word for word, and that it takes nothing for an answer that is none.

use super::*;
use crate::config::uri::KeyUri;
use crate::token::cryptoki::{CryptokiError, PURE_ED448, Value};
use crate::token::key;
use cryptoki_sys::{
    CKA_CLASS, CKA_LABEL, CKA_MODULUS, CKA_PARAMETER_SET, CKA_SIGN, CKK_RSA, CKM_EDDSA, CKM_RSA_PKCS, CKO_PRIVATE_KEY,
    CKR_FUNCTION_FAILED, CKU_USER,
};
use std::collections::VecDeque;
use std::rc::Rc;

/// A peer that has its answers ready, whatever it is asked.
#[derive(Clone, Default)]
struct Script {
    answers: Rc<RefCell<VecDeque<u8>>>,
    heard: Rc<RefCell<Vec<u8>>>,
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.answers.borrow_mut().read(buffer)
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.heard.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Script {
    fn say(&self, bytes: &[u8]) {
        self.answers.borrow_mut().extend(bytes);
    }

    fn heard(&self) -> Vec<u8> {
        std::mem::take(&mut self.heard.borrow_mut())
    }
}

fn be(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// A frame as p11-kit writes it, both ways.
fn frame(serial: u32, call: u32, signature: &str, body: &[u8]) -> Vec<u8> {
    let rest = [&be(call)[..], &be(signature.len() as u32), signature.as_bytes(), body].concat();
    [&be(serial)[..], &be(0), &be(rest.len() as u32), &rest].concat()
}

fn server(version: u8) -> (Server<Script>, Script) {
    let script = Script::default();
    script.say(&[version]);
    script.say(&frame(1, 1, "", b""));
    let server = Server::initialize(script.clone()).unwrap();
    (server, script)
}

fn number(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn broken<T: std::fmt::Debug>(result: Result<T, CryptokiError>) -> String {
    match result {
        Err(CryptokiError::Broken(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_greets_as_p11_kit_does() {
    let (_, script) = server(0);
    let handshake = [&[1, 0, 0, 0, 41][..], b"PRIVATE-GNOME-KEYRING-PKCS11-PROTOCOL-V-1", &[0, 1, 0, 0, 0, 0]].concat();
    assert_eq!(script.heard(), [&[2][..], &frame(1, 1, "ayyay", &handshake)].concat());
}

#[test]
fn versions() {
    for (said, why) in [
        (&[3][..], "the module failed: the p11-kit server speaks version 3 alone"),
        (&[255], "the module failed: the p11-kit server speaks version 255 alone"),
        (&[2], "the module failed: the p11-kit server has closed the connection"),
        (&[], "the p11-kit server lets nobody more in, or does not start"),
    ] {
        let script = Script::default();
        script.say(said);
        assert_eq!(Server::initialize(script).map(drop).unwrap_err().to_string(), why, "{said:?}");
    }
}

#[test]
fn a_mechanism_is_written_as_the_version_has_it() {
    for (version, mechanism, parameters) in
        [(0, CKM_RSA_PKCS, &[255; 4][..]), (1, CKM_EDDSA, &[255; 4]), (2, CKM_RSA_PKCS, &[]), (2, CKM_EDDSA, &[0])]
    {
        let (server, script) = server(version);
        script.heard();
        script.say(&frame(2, 42, "", b""));
        server.sign_init(7, mechanism, &[], 9).unwrap();
        let body = [number(7), be(mechanism as u32).to_vec(), parameters.to_vec(), number(9)].concat();
        assert_eq!(script.heard(), frame(2, 42, "uMu", &body), "{version} {mechanism}");
    }
}

#[test]
fn a_mechanism_with_parameters_is_written_as_the_version_has_it() {
    for (version, before) in [(0, &[][..]), (1, &[]), (2, &[1])] {
        let (server, script) = server(version);
        script.heard();
        script.say(&frame(2, 42, "", b""));
        server.sign_init(7, CKM_EDDSA, &PURE_ED448, 9).unwrap();
        let body = [&number(7)[..], &be(CKM_EDDSA as u32), before, &be(24), &[0; 24], &number(9)].concat();
        assert_eq!(script.heard(), frame(2, 42, "uMu", &body), "{version}");
    }
}

#[test]
fn an_object_is_destroyed() {
    let (server, script) = server(0);
    script.heard();
    script.say(&frame(2, 22, "", b""));
    server.destroy(7, 9).unwrap();
    assert_eq!(script.heard(), frame(2, 22, "uu", &[number(7), number(9)].concat()));
}

#[test]
fn a_login_and_a_signature() {
    let (server, script) = server(0);
    script.heard();
    script.say(&frame(2, 18, "", b""));
    server.login(7, CKU_USER, b"4711").unwrap();
    assert_eq!(script.heard(), frame(2, 18, "uuay", &[&number(7)[..], &number(1), &[1, 0, 0, 0, 4], b"4711"].concat()));
    // Nothing of it is left where it was written.
    let connection = server.0.borrow();
    assert!(connection.request.is_empty() && connection.request.capacity() == MAX_REQUEST);
    drop(connection);

    script.say(&frame(3, 43, "ay", &[&[1, 0, 0, 0, 3][..], b"sig"].concat()));
    assert_eq!(server.sign(7, b"digest"), Ok(b"sig".to_vec()));
    let body = [&number(7)[..], &[1, 0, 0, 0, 6], b"digest", &be(MAX_SIGNATURE as u32)].concat();
    assert_eq!(script.heard(), frame(3, 43, "uayfy", &body));
}

#[test]
fn attributes_of_every_shape() {
    let (server, script) = server(0);
    script.heard();
    let template = [
        (CKA_CLASS, Value::Number(CKO_PRIVATE_KEY)),
        (CKA_SIGN, Value::Bool(true)),
        (CKA_LABEL, Value::Bytes(b"key".to_vec())),
        (CKA_PARAMETER_SET, Value::Number(2)),
    ];
    script.say(&frame(2, 26, "", b""));
    script.say(&frame(3, 27, "au", &[&[1][..], &be(2), &number(5), &number(6)].concat()));
    script.say(&frame(4, 27, "au", &[&[1][..], &be(0)].concat()));
    script.say(&frame(5, 28, "", b""));
    assert_eq!(server.find(7, &template), Ok(vec![5, 6]));
    let wanted = [
        &number(7)[..],
        &be(4),
        &[&be(0)[..], &[1], &be(8), &number(3)].concat(),
        &[&be(0x108)[..], &[1], &be(1), &[1]].concat(),
        &[&be(3)[..], &[1], &be(3), &be(3), b"key"].concat(),
        &[&be(0x61d)[..], &[1], &be(8), &be(8), &2_u64.to_ne_bytes()].concat(),
    ];
    let more = |serial, most| frame(serial, 27, "ufu", &[&number(7)[..], &be(most)].concat());
    let asked = [frame(2, 26, "uaA", &wanted.concat()), more(3, 16), more(4, 14), frame(5, 28, "u", &number(7))];
    assert_eq!(script.heard(), asked.concat());

    // What stands behind the number of attributes and before what the function returned, and what it means.
    let cases = [
        (CKA_CLASS, [&be(0)[..], &[1], &be(8), &number(3)].concat(), 0, Ok(Some(Value::Number(3)))),
        (CKA_SIGN, [&be(0x108)[..], &[1], &be(1), &[0]].concat(), 0, Ok(Some(Value::Bool(false)))),
        (CKA_LABEL, [&be(3)[..], &[1], &be(1), &be(1), b"x"].concat(), 0, Ok(Some(Value::Bytes(b"x".to_vec())))),
        (CKA_LABEL, [&be(3)[..], &[1], &be(0), &be(0)].concat(), 0, Ok(Some(Value::Bytes(vec![])))),
        (CKA_PARAMETER_SET, [&be(0x61d)[..], &[1], &be(8), &be(8), &3_u64.to_ne_bytes()].concat(), 0, Ok(Some(Value::Number(3)))),
        (CKA_MODULUS, [&be(0x120)[..], &[0]].concat(), 0x11, Ok(None)),
        (CKA_MODULUS, [&be(0x120)[..], &[0]].concat(), 0x12, Ok(None)),
        (CKA_MODULUS, [&be(0x120)[..], &[0]].concat(), 0x150, Ok(None)),
        (CKA_MODULUS, [&be(0x120)[..], &[0]].concat(), 0, Err("not written as it should be")),
        (CKA_MODULUS, [&be(3)[..], &[0]].concat(), 0x12, Err("what was not asked")),
        (CKA_LABEL, [&be(3)[..], &[1], &be(1), &be(2), b"xy"].concat(), 0, Err("not written as it should be")),
        (CKA_LABEL, [&be(3)[..], &[1], &be(9999), &be(9999)].concat(), 0, Err("too long")),
        (CKA_LABEL, [&be(3)[..], &[1], &be(9), &be(u32::MAX)].concat(), 0, Err("length")),
        (CKA_SIGN, [&be(0x108)[..], &[1], &be(1), &[2]].concat(), 0, Err("not written as it should be")),
        (CKA_SIGN, [&be(0x108)[..], &[1], &be(2), &[1, 1]].concat(), 0, Err("not written as it should be")),
        (CKA_CLASS, [&be(0)[..], &[2]].concat(), 0, Err("not written as it should be")),
    ];
    for (serial, (kind, attribute, returned, expected)) in (6..).zip(cases) {
        script.say(&frame(serial, 24, "aAu", &[&be(1)[..], &attribute, &number(returned)].concat()));
        let got = server.attribute(7, 5, kind);
        match expected {
            Ok(value) => assert_eq!(got, Ok(value), "{serial}"),
            Err(why) => assert!(broken(got).contains(why), "{serial}"),
        }
    }
}

/// PKCS#11 ends a search with none, not with fewer than there was room for.
#[test]
fn two_keys_that_come_one_by_one_are_two() {
    let (server, script) = server(0);
    script.say(&frame(2, 26, "", b""));
    for (serial, found) in (3..).zip([&[5][..], &[6], &[]]) {
        let found = [&[1][..], &be(found.len() as u32), &found.iter().copied().flat_map(number).collect::<Vec<_>>()].concat();
        script.say(&frame(serial, 27, "au", &found));
    }
    script.say(&frame(6, 28, "", b""));
    let rsa = [&be(1)[..], &be(0x100), &[1], &be(8), &number(CKK_RSA), &number(0)].concat();
    for serial in [7, 8] {
        script.say(&frame(serial, 24, "aAu", &rsa));
    }
    let uri = KeyUri { label: Some(b"release".to_vec()), id: None };
    assert_eq!(key::find(&server, 7, &uri).unwrap_err(), Fault::Keys(2));
}

#[test]
fn a_token_is_told_by_its_texts() {
    let (server, script) = server(0);
    let text = |text: &str, length: usize| [&be(length as u32)[..], format!("{text:<length$}").as_bytes()].concat();
    let texts = [text("release", 32), text("SoftHSM project", 32), text("SoftHSM v2", 16), text("4711", 16)].concat();
    let numbers = [number(0x40d), number(0).repeat(10)].concat();
    let end = [&[1, 2, 3, 4][..], &text("", 16)].concat();
    script.say(&frame(2, 6, "ssssuuuuuuuuuuuvvs", &[&texts[..], &numbers, &end].concat()));
    let (label, manufacturer) = ("release".to_owned(), "SoftHSM project".to_owned());
    let expected = TokenInfo { label, manufacturer, model: "SoftHSM v2".into(), serial: "4711".into(), flags: 0x40d };
    assert_eq!(server.token(17), Ok(expected));
    script.say(&frame(3, 6, "ssssuuuuuuuuuuuvvs", &[&text("release", 31)[..], &texts, &numbers, &end].concat()));
    assert!(broken(server.token(17)).contains("not written as it should be"));
}

#[test]
fn what_is_no_answer_is_taken_for_none() {
    let sig = [&[1, 0, 0, 0, 3][..], b"sig"].concat();
    let good = frame(2, 43, "ay", &sig);
    let header = |serial: u32, options: u32, length: u32| [be(serial), be(options), be(length)].concat();
    let cases = [
        (vec![], "has closed the connection"),
        (good[..11].to_vec(), "has closed the connection"),
        (good[..good.len() - 1].to_vec(), "has closed the connection"),
        (frame(1, 43, "ay", &sig), "what was not asked"),
        (frame(3, 43, "ay", &sig), "what was not asked"),
        (frame(2, 42, "", b""), "what was not asked"),
        (frame(2, 43, "au", &sig), "what was not asked"),
        (frame(2, 43, "", b""), "what was not asked"),
        (frame(2, 0, "", b""), "what was not asked"),
        (frame(2, 0, "u", &number(0)), "not written as it should be"),
        (frame(2, 0, "u", b""), "length"),
        (frame(2, 0, "u", &[number(5), number(5)].concat()), "length"),
        (frame(2, 43, "ay", b""), "length"),
        (frame(2, 43, "ay", &[&sig[..], b"x"].concat()), "length"),
        (frame(2, 43, "ay", &[1, 0, 0, 0, 4, 1, 2, 3]), "length"),
        (frame(2, 43, "ay", &[2, 0, 0, 0, 0]), "not written as it should be"),
        (frame(2, 43, "ay", &[&[1][..], &be(4628), &[0; 4628]].concat()), "too long"),
        ([&header(2, 1, 30)[..], &good[12..]].concat(), "what was not asked"),
        (header(2, 0, u32::MAX), "too long"),
        (header(2, 0, (64 << 10) + 1), "too long"),
        (header(2, 0, 0), "length"),
        ([&header(2, 0, 3)[..], &[0; 3]].concat(), "length"),
    ];
    for (answer, why) in cases {
        let (server, script) = server(0);
        script.say(&answer);
        let said = broken(server.sign(7, b"digest"));
        assert!(said.contains(why), "{said} {answer:?}");
    }
    for (answer, value) in
        [(frame(2, 0, "u", &number(CKR_FUNCTION_FAILED)), 6), (frame(2, 43, "ay", &[&[0][..], &be(512)].concat()), 0x150)]
    {
        let (server, script) = server(0);
        script.say(&answer);
        assert_eq!(server.sign(7, b"digest"), Err(CryptokiError::Returned("C_Sign", Rv(value))));
    }
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let (server, script) = server(0);
    script.heard();
    assert!(broken(server.sign(7, &[0; MAX_REQUEST])).contains("too long"));
    assert_eq!(script.heard(), b"");
}

/// Whatever it returns, it is told as it is, and with the function's name.
#[test]
fn every_return_value_of_every_call() {
    type Made = fn(&Server<Script>) -> Result<(), CryptokiError>;
    let calls: [(&str, Made); 9] = [
        ("C_GetSlotList", |server| server.slots().map(drop)),
        ("C_GetTokenInfo", |server| server.token(1).map(drop)),
        ("C_OpenSession", |server| server.open(1, true).map(drop)),
        ("C_Login", |server| server.login(1, CKU_USER, b"4711")),
        ("C_FindObjectsInit", |server| server.find(1, &[]).map(drop)),
        ("C_GetAttributeValue", |server| server.attribute(1, 1, CKA_CLASS).map(drop)),
        ("C_SignInit", |server| server.sign_init(1, CKM_RSA_PKCS, &[], 1)),
        ("C_Sign", |server| server.sign(1, b"digest").map(drop)),
        ("C_GenerateKeyPair", |server| server.generate(1, CKM_RSA_PKCS, &[], &[]).map(drop)),
    ];
    let (server, script) = server(0);
    let values = (1..0x400).chain([0x8000_0000, u64::from(u32::MAX), u64::MAX]);
    let made = values.flat_map(|value| calls.map(|(name, made)| (value, name, made)));
    for (serial, (value, name, made)) in (2..).zip(made) {
        script.say(&frame(serial, 0, "u", &number(value)));
        assert_eq!(made(&server), Err(CryptokiError::Returned(name, Rv(value))));
    }
}
