//! The token by itself, in a process of its own: what no program can do without.

use crate::world::PIN;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use std::time::{Duration, Instant};

pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub const SOFTHSM2_CONF: &str = "/etc/sigsh/softhsm2.conf";

/// Loads, initialises, logs in, finds, and signs so many times; tells how long C_Sign alone took.
pub fn sign(key: &str, count: usize) -> Duration {
    let module = Pkcs11::new(MODULE).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let label = |slot: &cryptoki::slot::Slot| module.get_token_info(*slot).unwrap().label() == "release";
    let slot = module.get_slots_with_token().unwrap().into_iter().find(label).unwrap();
    let session = module.open_ro_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(key.into())];
    let found = session.find_objects(&template).unwrap()[0];
    let (mechanism, length) = match key {
        "ed25519" => (Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), 64),
        _ => (Mechanism::RsaPkcs, 83),
    };
    let data = vec![7; length];
    let began = Instant::now();
    for _ in 0..count {
        assert!(!session.sign(&mechanism, found, &data).unwrap().is_empty());
    }
    let time = began.elapsed();
    std::mem::forget(session);
    time
}
