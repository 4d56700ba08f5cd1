//! The token that a uri selects, and the one login.

use super::cryptoki::{Cryptoki, CryptokiError, Handle, TokenInfo};
use super::pin::{Login, Marker, Pin, Verdict};
use super::{Fault, printable};
use crate::config::uri::TokenUri;
use cryptoki_sys::*;
use std::time::Duration;

/// Finds the one token that the uri selects.
///
/// # Errors
/// [`Fault::Tokens`], [`Fault::Taken`], [`Fault::Module`].
fn find(cryptoki: &dyn Cryptoki, uri: &TokenUri) -> Result<(Handle, TokenInfo), Fault> {
    let (mut found, mut failed) = (Vec::new(), String::new());
    for slot in cryptoki.slots()? {
        match cryptoki.token(slot) {
            Ok(info) if info.flags & CKF_TOKEN_INITIALIZED != 0 && selects(uri, &info) => found.push((slot, info)),
            Ok(_) => {}
            // It has an unreadable token, which nobody selects.
            Err(error) => failed = format!("; slot {slot}: {error}"),
        }
    }
    match (found.len(), found.pop()) {
        (1, Some(token)) => Ok(token),
        (0, _) => match cryptoki.unreadable() {
            Err(error) if error.rv() == Some(CKR_DEVICE_ERROR) => {
                Err(Fault::Taken(printable(&format!("{error}: another program may keep its card to itself"))))
            }
            _ => Err(Fault::Tokens(0, failed.into())),
        },
        (count, _) => Err(Fault::Tokens(count, String::new().into())),
    }
}

fn selects(uri: &TokenUri, info: &TokenInfo) -> bool {
    let attributes = [
        (&uri.label, &info.label),
        (&uri.manufacturer, &info.manufacturer),
        (&uri.model, &info.model),
        (&uri.serial, &info.serial),
    ];
    attributes.into_iter().all(|(wanted, is)| wanted.as_ref().is_none_or(|wanted| wanted == is))
}

/// Logs in, on a session that may change the token if so asked. Whatever becomes of it, the marker knows.
///
/// # Errors
/// Any [`Fault`] but [`Fault::Keys`].
pub fn log_in(
    cryptoki: &dyn Cryptoki,
    uri: &TokenUri,
    pin: &Pin,
    marker: &Marker,
    patience: Duration,
    writable: bool,
) -> Result<Handle, Fault> {
    let turn = marker.turn(Login::First, patience)?;
    turn.refuse_tried()?;
    let attempt = || -> Result<(Verdict, Handle), (Verdict, Fault)> {
        let unknown = |fault| (Verdict::Unknown, fault);
        let (slot, info) = find(cryptoki, uri).map_err(unknown)?;
        spare(&info).map_err(unknown)?;
        let session = cryptoki.open(slot, writable).map_err(|error| unknown(opened_by_others(error)))?;
        turn.mark().map_err(unknown)?;
        let verdict = match cryptoki.login(session, CKU_USER, pin.bytes()) {
            Ok(()) => Verdict::Right,
            // By whatever PIN.
            Err(error) if error.rv() == Some(CKR_USER_ALREADY_LOGGED_IN) => Verdict::Unknown,
            Err(error) => return Err(judge(error)),
        };
        Ok((verdict, session))
    };
    match attempt() {
        Ok((verdict, session)) => turn.after(verdict).map(|()| session),
        Err((verdict, fault)) => turn.after(verdict).and(Err(fault)),
    }
}

/// The login before each signature, for keys that want it. It spends no try either of a PIN that is known to be wrong, or was never
/// right for this: a token may have another PIN for it.
pub struct Again {
    /// Locked in memory until the process ends.
    pub pin: Pin,
    /// What all sessions know of it.
    pub marker: Marker,
    /// How long to wait for the turn of others.
    pub patience: Duration,
}

impl Again {
    /// C_Login as CKU_CONTEXT_SPECIFIC, behind C_SignInit. The token has been looked at in [`log_in`]; not all can be once logged in
    /// (SoftHSM, where it must not write).
    ///
    /// # Errors
    /// As for [`log_in`].
    pub(super) fn log_in(&self, cryptoki: &dyn Cryptoki, session: Handle) -> Result<(), Fault> {
        let turn = self.marker.turn(Login::Again, self.patience)?;
        turn.refuse_tried()?;
        turn.mark()?;
        match cryptoki.login(session, CKU_CONTEXT_SPECIFIC, self.pin.bytes()) {
            Ok(()) => turn.after(Verdict::Right),
            Err(error) => {
                let (verdict, fault) = judge(error);
                turn.after(verdict).and(Err(fault))
            }
        }
    }
}

fn opened_by_others(error: CryptokiError) -> Fault {
    match error.rv() {
        Some(CKR_SESSION_COUNT) => Fault::Taken(printable(&format!("{error}: it bears no more sessions"))),
        _ => error.into(),
    }
}

/// What a refused login says of the PIN. Tokens may be vague: what does not clearly come before the PIN may have been its fault, and
/// a PIN that was never right is then not sent again.
fn judge(error: CryptokiError) -> (Verdict, Fault) {
    match error.rv() {
        Some(CKR_PIN_INCORRECT | CKR_PIN_INVALID | CKR_PIN_LEN_RANGE) => (Verdict::Wrong, Fault::PinIncorrect),
        Some(CKR_PIN_LOCKED | CKR_PIN_EXPIRED) => (Verdict::Wrong, error.into()),
        Some(
            CKR_CRYPTOKI_NOT_INITIALIZED
            | CKR_DEVICE_MEMORY
            | CKR_DEVICE_REMOVED
            | CKR_HOST_MEMORY
            | CKR_SESSION_CLOSED
            | CKR_SESSION_HANDLE_INVALID
            | CKR_TOKEN_NOT_PRESENT
            | CKR_TOKEN_NOT_RECOGNIZED
            | CKR_USER_ALREADY_LOGGED_IN
            | CKR_USER_ANOTHER_ALREADY_LOGGED_IN
            | CKR_USER_PIN_NOT_INITIALIZED
            | CKR_USER_TOO_MANY_TYPES,
        ) => (Verdict::Unknown, error.into()),
        _ => (Verdict::Doubtful, error.into()),
    }
}

/// A token that counts wrong PINs may be one try from being lost: it is left alone.
fn spare(info: &TokenInfo) -> Result<(), Fault> {
    let low = [
        (CKF_USER_PIN_LOCKED, "its PIN is locked"),
        (CKF_USER_PIN_FINAL_TRY, "one try of its PIN is left"),
        (CKF_USER_PIN_COUNT_LOW, "its PIN was wrong before"),
    ];
    match low.into_iter().find(|(flag, _)| info.flags & flag != 0) {
        Some((_, what)) => Err(Fault::PinLow(printable(&what))),
        None => Ok(()),
    }
}
