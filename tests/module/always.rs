//! Keys that want a login before each signature. SoftHSM has them, but notes each such login in its store, which sigsh never lets it.

use cryptoki_sys::*;
use std::env;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static ALWAYS: LazyLock<bool> = LazyLock::new(|| env::var_os("MODULE_ALWAYS").is_some());

/// Between C_SignInit and its login.
static WANTED: AtomicBool = AtomicBool::new(false);

pub(crate) fn begin() {
    WANTED.store(*ALWAYS, Ordering::Relaxed);
}

/// C_Login as CKU_CONTEXT_SPECIFIC.
pub(crate) fn log_in() -> CK_RV {
    if WANTED.swap(false, Ordering::Relaxed) { CKR_OK } else { CKR_OPERATION_NOT_INITIALIZED }
}

/// What C_Sign returns without one.
pub(crate) fn refuse() -> Option<CK_RV> {
    WANTED.load(Ordering::Relaxed).then_some(CKR_USER_NOT_LOGGED_IN)
}

/// What C_GetAttributeValue has answered is the truth but for this.
pub(crate) unsafe fn pretend(template: *mut CK_ATTRIBUTE, count: CK_ULONG) {
    if !*ALWAYS || template.is_null() {
        return;
    }
    for attribute in std::slice::from_raw_parts(template, count as usize) {
        if attribute.type_ == CKA_ALWAYS_AUTHENTICATE && !attribute.pValue.is_null() {
            attribute.pValue.cast::<CK_BBOOL>().write(CK_TRUE);
        }
    }
}
