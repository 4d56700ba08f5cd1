//! A token that exists in these tests alone.

use super::super::cryptoki::{Pair, Rv, TokenInfo};
use super::super::generate::{self, Algorithm};
use super::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

const SESSION: Handle = 7;
const NAME: &[u8] = b"release";
/// Stands for CKM_EDDSA with parameters.
const ED448: u64 = u64::MAX;

/// Objects by their handles from 1 on; `None` where one was destroyed.
struct Fake {
    objects: RefCell<Vec<Option<Vec<Attribute>>>>,
    found: RefCell<VecDeque<Handle>>,
    /// The mechanism that it does not make keys by.
    refuses: u64,
    /// Whether it destroys a key of this class.
    destroys: fn(u64) -> bool,
    /// How long a signature by a mechanism and a key is.
    signature: fn(u64, Handle) -> usize,
    by: Cell<Option<(u64, Handle)>>,
}

fn refused(function: &'static str) -> CryptokiError {
    CryptokiError::Returned(function, Rv(CKR_MECHANISM_INVALID))
}

impl Cryptoki for Fake {
    fn slots(&self) -> Result<Vec<Handle>, CryptokiError> {
        Ok(vec![])
    }

    fn token(&self, _: Handle) -> Result<TokenInfo, CryptokiError> {
        Ok(TokenInfo::default())
    }

    fn open(&self, _: Handle, _: bool) -> Result<Handle, CryptokiError> {
        Ok(SESSION)
    }

    fn login(&self, _: Handle, _: u64, _: &[u8]) -> Result<(), CryptokiError> {
        Ok(())
    }

    fn find_init(&self, _: Handle, template: &[Attribute]) -> Result<(), CryptokiError> {
        let objects = self.objects.borrow();
        let found = objects
            .iter()
            .zip(1..)
            .filter(|(object, _)| object.as_ref().is_some_and(|object| template.iter().all(|wanted| object.contains(wanted))));
        self.found.replace(found.map(|(_, handle)| handle).collect());
        Ok(())
    }

    /// One by one.
    fn find_some(&self, _: Handle, _: usize) -> Result<Vec<Handle>, CryptokiError> {
        Ok(self.found.borrow_mut().pop_front().into_iter().collect())
    }

    fn find_final(&self, _: Handle) -> Result<(), CryptokiError> {
        Ok(())
    }

    fn attribute(&self, _: Handle, object: Handle, kind: AttributeType) -> Result<Option<Value>, CryptokiError> {
        let objects = self.objects.borrow();
        let object = objects[object as usize - 1].as_ref().unwrap();
        let private = object.contains(&(CKA_CLASS, Value::Number(CKO_PRIVATE_KEY)));
        assert!(!(private && kind == CKA_VALUE), "nobody asks for a secret");
        Ok(object.iter().find(|(own, _)| *own == kind).map(|(_, value)| value.clone()))
    }

    fn sign_init(&self, _: Handle, by: u64, parameters: &[u64], key: Handle) -> Result<(), CryptokiError> {
        self.by.set(Some((if parameters.is_empty() { by } else { ED448 }, key)));
        Ok(())
    }

    fn sign(&self, _: Handle, data: &[u8]) -> Result<Vec<u8>, CryptokiError> {
        assert_eq!(data, b"digest");
        let (mechanism, key) = self.by.take().unwrap();
        Ok(vec![key as u8; (self.signature)(mechanism, key)])
    }

    fn generate(&self, _: Handle, by: u64, public: &[Attribute], private: &[Attribute]) -> Result<Pair, CryptokiError> {
        if by == self.refuses {
            return Err(refused("C_GenerateKeyPair"));
        }
        let of = |class| (CKA_CLASS, Value::Number(class));
        let mut objects = self.objects.borrow_mut();
        objects.push(Some([public, &[of(CKO_PUBLIC_KEY)]].concat()));
        objects.push(Some([private, &[of(CKO_PRIVATE_KEY)]].concat()));
        Ok((objects.len() as Handle - 1, objects.len() as Handle))
    }

    fn destroy(&self, _: Handle, object: Handle) -> Result<(), CryptokiError> {
        let object = &mut self.objects.borrow_mut()[object as usize - 1];
        let is = |class| object.as_ref().unwrap().contains(&(CKA_CLASS, Value::Number(class)));
        if ![CKO_PRIVATE_KEY, CKO_PUBLIC_KEY].into_iter().any(|class| is(class) && (self.destroys)(class)) {
            return Err(refused("C_DestroyObject"));
        }
        *object = None;
        Ok(())
    }

    fn leave(&self, _: Handle) {}
}

fn plain(handle: Handle) -> Key {
    Key { handle, wants_login: false }
}

fn uri() -> KeyUri {
    KeyUri { label: Some(NAME.to_vec()), id: None }
}

fn key(class: u64, kind: u64, more: &[(AttributeType, Vec<u8>)]) -> Option<Vec<Attribute>> {
    let own = [(CKA_LABEL, Value::Bytes(NAME.to_vec())), (CKA_CLASS, Value::Number(class)), (CKA_KEY_TYPE, Value::Number(kind))];
    Some(own.into_iter().chain(more.iter().map(|(kind, value)| (*kind, Value::Bytes(value.clone())))).collect())
}

fn private(kind: u64) -> Option<Vec<Attribute>> {
    key(CKO_PRIVATE_KEY, kind, &[(CKA_VALUE, b"secret".to_vec())])
}

fn ec(class: u64) -> Option<Vec<Attribute>> {
    key(class, CKK_EC_EDWARDS, &[(CKA_EC_PARAMS, b"curve".to_vec()), (CKA_EC_POINT, b"point".to_vec())])
}

fn mldsa(length: usize) -> Option<Vec<Attribute>> {
    key(CKO_PUBLIC_KEY, CKK_ML_DSA, &[(CKA_VALUE, vec![1; length])])
}

fn found(objects: Vec<Option<Vec<Attribute>>>) -> Result<(Private, Option<Public>), Fault> {
    find(&Fake { objects: RefCell::new(objects), ..fake() }, SESSION, &uri())
}

fn fake() -> Fake {
    Fake {
        signature: |_, _| 64,
        destroys: |_| true,
        refuses: u64::MAX,
        objects: RefCell::default(),
        found: RefCell::default(),
        by: Cell::new(None),
    }
}

#[test]
fn one_key_or_one_pair() {
    let pair = |eddsa, mldsa| Private::Pair { eddsa: plain(eddsa), mldsa: plain(mldsa) };
    let (eddsa, ml) = (private(CKK_EC_EDWARDS), private(CKK_ML_DSA));
    for (what, objects, expected) in [
        ("one", vec![eddsa.clone()], Ok(Private::One(plain(1)))),
        ("a pair", vec![eddsa.clone(), ml.clone()], Ok(pair(1, 2))),
        ("a pair in the other order", vec![ml.clone(), eddsa.clone()], Ok(pair(2, 1))),
        ("none", vec![], Err(Fault::Keys(0))),
        ("the ML-DSA half alone", vec![ml.clone()], Err(Fault::Half)),
        ("two that sign alone", vec![eddsa.clone(), eddsa.clone()], Err(Fault::Keys(2))),
        ("two of ML-DSA", vec![ml.clone(), ml.clone()], Err(Fault::Keys(2))),
        ("ML-DSA with RSA", vec![ml.clone(), private(CKK_RSA)], Err(Fault::Keys(2))),
        ("ML-DSA with ECDSA", vec![private(CKK_EC), ml.clone()], Err(Fault::Keys(2))),
        ("a pair and one more", vec![eddsa.clone(), ml.clone(), eddsa], Err(Fault::Keys(3))),
    ] {
        assert_eq!(found(objects).map(|(key, _)| key), expected, "{what}");
    }
}

#[test]
fn the_public_half_of_a_pair() {
    let keys = |more: Vec<_>| [vec![private(CKK_EC_EDWARDS), private(CKK_ML_DSA)], more].concat();
    let whole = |length| Some(Public::Composite { params: b"curve".to_vec(), point: b"point".to_vec(), mldsa: vec![1; length] });
    let shown = vec![ec(CKO_PRIVATE_KEY), private(CKK_ML_DSA), mldsa(1952)];
    for (what, objects, expected) in [
        ("ML-DSA-65", keys(vec![ec(CKO_PUBLIC_KEY), mldsa(1952)]), whole(1952)),
        ("ML-DSA-87", keys(vec![mldsa(2592), ec(CKO_PUBLIC_KEY)]), whole(2592)),
        ("shown by the private key", shown, whole(1952)),
        ("of no such length", keys(vec![ec(CKO_PUBLIC_KEY), mldsa(1312)]), None),
        ("one half", keys(vec![ec(CKO_PUBLIC_KEY)]), None),
        ("the other", keys(vec![mldsa(1952)]), None),
        ("two of one half", keys(vec![ec(CKO_PUBLIC_KEY), mldsa(1952), mldsa(1952)]), None),
        ("two of the other", keys(vec![ec(CKO_PUBLIC_KEY), ec(CKO_PUBLIC_KEY), mldsa(1952)]), None),
        ("none", keys(vec![]), None),
    ] {
        assert_eq!(found(objects).unwrap().1, expected, "{what}");
    }
}

/// EdDSA's half first, by its own key, and each as long as it must be.
#[test]
fn both_halves_sign() {
    let pair = Private::Pair { eddsa: plain(1), mldsa: plain(2) };
    let lengths: fn(u64, Handle) -> usize = |mechanism, key| match (mechanism, key) {
        (CKM_EDDSA, 1) => 64,
        (CKM_ML_DSA, 2) => 3309,
        other => panic!("{other:?}"),
    };
    let lengths_448: fn(u64, Handle) -> usize = |mechanism, key| match (mechanism, key) {
        (ED448, 1) => 114,
        (CKM_ML_DSA, 2) => 4627,
        _ => 0,
    };
    let [small, large] = Composite::ALL.map(Scheme::Composite);
    let by = |signature, key, scheme| sign(&Fake { signature, ..fake() }, SESSION, key, None, scheme, b"digest");
    assert_eq!(by(lengths, pair, small), Ok([vec![1; 64], vec![2; 3309]].concat()));
    assert_eq!(by(lengths_448, pair, large), Ok([vec![1; 114], vec![2; 4627]].concat()));
    for (what, signature, scheme) in [
        ("swapped", (|mechanism, _| if mechanism == CKM_ML_DSA { 64 } else { 3309 }) as fn(u64, Handle) -> usize, small),
        ("nothing", |_, _| 0, small),
        ("a byte from one to the other", |mechanism, _| if mechanism == CKM_ML_DSA { 3310 } else { 63 }, small),
        ("of the other kind", lengths_448, small),
    ] {
        assert!(matches!(by(signature, pair, scheme), Err(Fault::Module(_))), "{what}");
    }
    for scheme in [Scheme::RsaPkcs, Scheme::Ecdsa, Scheme::Eddsa] {
        assert_eq!(by(|_, _| 64, pair, scheme), Err(Fault::Half));
        assert_eq!(by(|_, _| 64, Private::One(plain(3)), scheme), Ok(vec![3; 64]));
    }
    assert_eq!(by(lengths, Private::One(plain(1)), small), Err(Fault::Half));
}

#[test]
fn both_pairs_are_made_or_none() {
    let named = [(CKA_LABEL, Value::Bytes(NAME.to_vec()))];
    let failed = "the module failed: C_GenerateKeyPair returned CKR_MECHANISM_INVALID";
    let left = |what| {
        let why = "C_DestroyObject returned CKR_MECHANISM_INVALID";
        format!("; its ML-DSA {what} key, made before, is still in the token: {why}")
    };
    let never: fn(u64) -> bool = |_| false;
    for kind in Composite::ALL {
        for (refuses, destroys, expected, objects) in [
            (u64::MAX, never, None, 4),
            (CKM_ML_DSA_KEY_PAIR_GEN, never, Some(failed.to_owned()), 0),
            (CKM_EC_EDWARDS_KEY_PAIR_GEN, |_| true, Some(failed.to_owned()), 0),
            (CKM_EC_EDWARDS_KEY_PAIR_GEN, never, Some(format!("{failed}{}{}", left("private"), left("public"))), 2),
            (CKM_EC_EDWARDS_KEY_PAIR_GEN, |class| class == CKO_PUBLIC_KEY, Some(format!("{failed}{}", left("private"))), 1),
            (CKM_EC_EDWARDS_KEY_PAIR_GEN, |class| class == CKO_PRIVATE_KEY, Some(format!("{failed}{}", left("public"))), 1),
        ] {
            let token = Fake { refuses, destroys, ..fake() };
            let outcome = generate::make(&token, SESSION, Algorithm::Composite(kind), &named);
            assert_eq!(outcome.err().map(|fault| fault.to_string()), expected);
            let objects_left = token.objects.borrow().iter().flatten().count();
            assert_eq!(objects_left, objects);
        }
    }
}
