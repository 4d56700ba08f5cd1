//! Calls into a loaded PKCS#11 module. What it does there is its own business: it shares the process, which has been confined for it.
//! What it returns is looked at as if an enemy had written it.

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_MECHANISM, CK_RV, CK_SLOT_INFO, CK_TOKEN_INFO, CK_ULONG,
    CK_UNAVAILABLE_INFORMATION, CKF_OS_LOCKING_OK, CKR_FUNCTION_NOT_SUPPORTED, CKR_GENERAL_ERROR, CKR_OK, Pkcs11,
};
use std::ffi::c_void;
use std::mem::{self, ManuallyDrop};
use std::path::Path;
use std::ptr;

/// A loaded module. It is never unloaded: the process ends first.
pub(crate) struct Functions(CK_FUNCTION_LIST);

/// An attribute of a template: its type, and its value in the bytes of this machine.
pub(crate) type Raw<'a> = (CK_ULONG, &'a [u8]);

/// Calls a function of the list, if the module has it.
macro_rules! call {
    ($list:expr, $name:ident($($argument:expr),*)) => {
        match $list.$name {
            // SAFETY: the function is the module's own, of the type that PKCS#11 gives it; the pointers among the arguments are to
            // live values of that type, which the call outlives, or null where PKCS#11 allows it.
            Some(function) => ok(unsafe { function($($argument),*) }),
            None => Err(CKR_FUNCTION_NOT_SUPPORTED),
        }
    };
}

fn ok(value: CK_RV) -> Result<(), CK_RV> {
    if value == CKR_OK { Ok(()) } else { Err(value) }
}

fn length(bytes: &[u8]) -> CK_ULONG {
    bytes.len() as CK_ULONG
}

/// How many of `most` a module says that it has filled in: no more than there was room for.
fn filled(count: CK_ULONG, most: usize) -> Result<usize, CK_RV> {
    usize::try_from(count).ok().filter(|count| *count <= most).ok_or(CKR_GENERAL_ERROR)
}

/// PKCS#11 writes `CK_VOID_PTR` where it only reads.
fn reading(bytes: &[u8]) -> *mut u8 {
    bytes.as_ptr().cast_mut()
}

fn raw(template: &[Raw<'_>]) -> Vec<CK_ATTRIBUTE> {
    let attribute =
        |(kind, value): &Raw<'_>| CK_ATTRIBUTE { type_: *kind, pValue: reading(value).cast::<c_void>(), ulValueLen: length(value) };
    template.iter().map(attribute).collect()
}

fn mechanism(mechanism: CK_ULONG, parameters: &[u64]) -> CK_MECHANISM {
    let place = if parameters.is_empty() { ptr::null_mut() } else { parameters.as_ptr().cast_mut().cast::<c_void>() };
    CK_MECHANISM { mechanism, pParameter: place, ulParameterLen: mem::size_of_val(parameters) as CK_ULONG }
}

impl Functions {
    /// Loads the module, whose initialisers run at once.
    ///
    /// # Errors
    /// What the loader says, or what C_GetFunctionList returned.
    pub(crate) fn load(path: &Path) -> Result<Functions, String> {
        // SAFETY: code that the operator has named is run; that is what for. It is never unloaded, so that what it hands out stays.
        let module = ManuallyDrop::new(unsafe { Pkcs11::new(path) }.map_err(|error| error.to_string())?);
        let missing = |_| "it has no C_GetFunctionList".to_owned();
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the one symbol that every module exports, of the type that PKCS#11 gives it; the pointer is to a live value.
        let value = unsafe { module.C_GetFunctionList.as_ref().map_err(missing)?(&mut list) };
        // SAFETY: null is told apart; anything else is, by PKCS#11, a table of the module's for as long as it is loaded.
        match unsafe { list.as_ref() } {
            Some(list) if value == CKR_OK => Ok(Functions(*list)),
            _ => Err(format!("C_GetFunctionList returned {value:#x}")),
        }
    }

    pub(crate) fn initialize(&self) -> Result<(), CK_RV> {
        let mut arguments = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: CKF_OS_LOCKING_OK,
            pReserved: ptr::null_mut(),
        };
        call!(self.0, C_Initialize((&raw mut arguments).cast::<c_void>()))
    }

    /// With a token in them, or all.
    pub(crate) fn slots(&self, present: bool, most: usize) -> Result<Vec<CK_ULONG>, CK_RV> {
        // Modules look for readers and cards when they are asked for the number alone (PKCS#11 3.2 §5.5.1).
        let mut count = 0;
        call!(self.0, C_GetSlotList(present.into(), ptr::null_mut(), &mut count))?;
        let (mut slots, mut count) = (vec![0; most], most as CK_ULONG);
        call!(self.0, C_GetSlotList(present.into(), slots.as_mut_ptr(), &mut count))?;
        slots.truncate(filled(count, most)?);
        Ok(slots)
    }

    pub(crate) fn slot(&self, slot: CK_ULONG) -> Result<(), CK_RV> {
        call!(self.0, C_GetSlotInfo(slot, &mut CK_SLOT_INFO::default()))
    }

    pub(crate) fn token(&self, slot: CK_ULONG) -> Result<CK_TOKEN_INFO, CK_RV> {
        let mut info = CK_TOKEN_INFO::default();
        call!(self.0, C_GetTokenInfo(slot, &mut info)).map(|()| info)
    }

    pub(crate) fn open(&self, slot: CK_ULONG, flags: CK_ULONG) -> Result<CK_ULONG, CK_RV> {
        let mut session = 0;
        call!(self.0, C_OpenSession(slot, flags, ptr::null_mut(), None, &mut session))?;
        Ok(session)
    }

    pub(crate) fn login(&self, session: CK_ULONG, user: CK_ULONG, pin: &[u8]) -> Result<(), CK_RV> {
        call!(self.0, C_Login(session, user, reading(pin), length(pin)))
    }

    pub(crate) fn find_init(&self, session: CK_ULONG, template: &[Raw<'_>]) -> Result<(), CK_RV> {
        let mut template = raw(template);
        call!(self.0, C_FindObjectsInit(session, template.as_mut_ptr(), template.len() as CK_ULONG))
    }

    pub(crate) fn find(&self, session: CK_ULONG, most: usize) -> Result<Vec<CK_ULONG>, CK_RV> {
        let (mut found, mut count) = (vec![0; most], 0);
        call!(self.0, C_FindObjects(session, found.as_mut_ptr(), most as CK_ULONG, &mut count))?;
        found.truncate(filled(count, most)?);
        Ok(found)
    }

    pub(crate) fn find_final(&self, session: CK_ULONG) -> Result<(), CK_RV> {
        call!(self.0, C_FindObjectsFinal(session))
    }

    /// `None` where the module says so by a length (CK_UNAVAILABLE_INFORMATION).
    pub(crate) fn attribute(
        &self,
        session: CK_ULONG,
        object: CK_ULONG,
        kind: CK_ULONG,
        most: usize,
    ) -> Result<Option<Vec<u8>>, CK_RV> {
        let mut value = vec![0; most];
        let mut attribute = CK_ATTRIBUTE { type_: kind, pValue: value.as_mut_ptr().cast::<c_void>(), ulValueLen: most as CK_ULONG };
        call!(self.0, C_GetAttributeValue(session, object, &mut attribute, 1))?;
        if attribute.ulValueLen == CK_UNAVAILABLE_INFORMATION {
            return Ok(None);
        }
        value.truncate(filled(attribute.ulValueLen, most)?);
        Ok(Some(value))
    }

    pub(crate) fn sign_init(&self, session: CK_ULONG, by: CK_ULONG, parameters: &[u64], key: CK_ULONG) -> Result<(), CK_RV> {
        call!(self.0, C_SignInit(session, &mut mechanism(by, parameters), key))
    }

    pub(crate) fn sign(&self, session: CK_ULONG, data: &[u8], most: usize) -> Result<Vec<u8>, CK_RV> {
        let (mut signature, mut count) = (vec![0; most], most as CK_ULONG);
        call!(self.0, C_Sign(session, reading(data), length(data), signature.as_mut_ptr(), &mut count))?;
        signature.truncate(filled(count, most)?);
        Ok(signature)
    }

    pub(crate) fn generate(
        &self,
        session: CK_ULONG,
        by: CK_ULONG,
        public: &[Raw<'_>],
        private: &[Raw<'_>],
    ) -> Result<(CK_ULONG, CK_ULONG), CK_RV> {
        let (mut public, mut private) = (raw(public), raw(private));
        let (publics, privates) = (public.len() as CK_ULONG, private.len() as CK_ULONG);
        let (from, to, by) = (public.as_mut_ptr(), private.as_mut_ptr(), &mut mechanism(by, &[]));
        let (mut one, mut other) = (0, 0);
        call!(self.0, C_GenerateKeyPair(session, by, from, publics, to, privates, &mut one, &mut other))?;
        Ok((one, other))
    }

    pub(crate) fn destroy(&self, session: CK_ULONG, object: CK_ULONG) -> Result<(), CK_RV> {
        call!(self.0, C_DestroyObject(session, object))
    }

    pub(crate) fn leave(&self, session: CK_ULONG) {
        let _ = call!(self.0, C_CloseSession(session));
        let _ = call!(self.0, C_Finalize(ptr::null_mut()));
    }
}

// Handles and attributes are u64 everywhere else: sigsh is for 64-bit machines.
const _: () = assert!(mem::size_of::<CK_ULONG>() == mem::size_of::<u64>());

/// A number as the module reads it.
pub(crate) fn number(number: u64) -> [u8; mem::size_of::<CK_ULONG>()] {
    number.to_ne_bytes()
}
