//! Which keys of a certificate may sign at a moment, and why others may not any more, with the date.

use super::certificate::date;
use super::{OpenpgpError, one_line};
use openpgp::cert::amalgamation::key::ErasedKeyAmalgamation;
use openpgp::cert::amalgamation::{ValidAmalgamation, ValidateAmalgamation};
use openpgp::cert::{Cert, ValidCert};
use openpgp::packet::key::{PublicParts, UnspecifiedRole};
use openpgp::packet::{Key, Signature};
use openpgp::policy::{Policy, StandardPolicy};
use openpgp::types::RevocationStatus;
use sequoia_openpgp as openpgp;
use std::time::SystemTime;

const POLICY: &dyn Policy = &StandardPolicy::new();

/// When a key expires, and when what binds it does.
type Until = [Option<SystemTime>; 2];

type PublicKey = Key<PublicParts, UnspecifiedRole>;

/// A key that may sign.
pub(crate) struct Live {
    pub(crate) key: PublicKey,
    pub(crate) expires: Option<SystemTime>,
}

/// A key that may not sign any more: its fingerprint, and why, with the date.
pub(crate) type Dead = (PublicKey, String);

/// A key for signing, dead or alive.
pub(crate) struct Candidate {
    pub(super) key: PublicKey,
    expires: Option<SystemTime>,
    verdict: Result<(), String>,
}

/// The certificate's user id, and its keys for signing, dead and alive, when it is itself good at `now`.
pub(crate) fn examine(cert: &Cert, now: SystemTime) -> Result<(String, Vec<Candidate>), OpenpgpError> {
    let primary = cert.primary_key();
    if primary.key().creation_time() > now {
        return Err(OpenpgpError::Clock);
    }
    if let Some(when) = revoked(primary.self_revocations()) {
        return Err(bad(format!("was revoked{when}")));
    }
    let valid = cert.with_policy(POLICY, now).map_err(|error| bad(format!("is not valid: {}", one_line(&error))))?;
    let primary = valid.primary_key();
    if primary.alive().is_err() {
        return Err(bad(format!("expired{}", on(primary.key_expiration_time()))));
    }
    let until = [primary.key_expiration_time(), primary.binding_signature().signature_expiration_time()];
    let user_id = user_id(&valid)?;
    let candidates = cert.keys().filter_map(|key| candidate(&key, until, now)).collect();
    Ok((user_id, candidates))
}

/// What becomes of one key, if it is or was for signing.
fn candidate(key: &ErasedKeyAmalgamation<'_, PublicParts>, until: Until, now: SystemTime) -> Option<Candidate> {
    let (bound, verdict): (Until, _) = match key.clone().with_policy(POLICY, now) {
        Ok(valid) if !valid.for_signing() => return None,
        Ok(valid) => {
            let expires = valid.key_expiration_time();
            let verdict = if valid.alive().is_err() { Err(format!("expired{}", on(expires))) } else { Ok(()) };
            ([expires, valid.binding_signature().signature_expiration_time()], verdict)
        }
        Err(_) => {
            let bindings = key.self_signatures().filter(|binding| binding.key_flags().is_some_and(|flags| flags.for_signing()));
            let when = bindings.filter_map(|binding| binding.signature_expiration_time()).max().filter(|when| *when <= now)?;
            ([None, None], Err(format!("was bound until {}", date(when))))
        }
    };
    let verdict = revoked(key.self_revocations()).map_or(verdict, |when| Err(format!("was revoked{when}")));
    Some(Candidate { key: key.key().clone(), expires: until.into_iter().chain(bound).flatten().min(), verdict })
}

/// Those that are alive, at least one, and the others.
pub(crate) fn alive(candidates: Vec<Candidate>) -> Result<(Vec<Live>, Vec<Dead>), OpenpgpError> {
    let (mut live, mut dead) = (Vec::new(), Vec::new());
    for Candidate { key, expires, verdict } in candidates {
        match verdict {
            Ok(()) => live.push(Live { key, expires }),
            Err(why) => {
                let why = format!("{} {why}", key.fingerprint().to_hex());
                dead.push((key, why));
            }
        }
    }
    match (live.is_empty(), dead.is_empty()) {
        (false, _) => Ok((live, dead)),
        (true, true) => Err(bad("has no key that may sign")),
        (true, false) => {
            let all = dead.into_iter().map(|(_, why)| why).collect::<Vec<_>>();
            Err(bad(format!("has no live signing key: {}", all.join(", "))))
        }
    }
}

/// When it was revoked, if ever. gpg lets no later signature undo that, so neither do we: a verifier may be either.
fn revoked<'a>(mut revocations: impl Iterator<Item = &'a Signature>) -> Option<String> {
    revocations.next().map(|revocation| on(revocations.chain([revocation]).filter_map(|by| by.signature_creation_time()).min()))
}

/// A user id that is not revoked; nothing where there is none at all, for a certificate needs none.
fn user_id(valid: &ValidCert<'_>) -> Result<String, OpenpgpError> {
    let mut revoked = None;
    for id in valid.userids() {
        match id.revocation_status() {
            RevocationStatus::Revoked(by) => revoked = by.iter().filter_map(|by| by.signature_creation_time()).max().max(revoked),
            _ => return Ok(String::from_utf8_lossy(id.userid().value()).into_owned()),
        }
    }
    match revoked {
        Some(when) => Err(bad(format!("has no user id left: the last was revoked on {}", date(when)))),
        None => Ok(String::new()),
    }
}

pub(super) fn bad(what: impl Into<String>) -> OpenpgpError {
    OpenpgpError::Certificate(what.into())
}

fn on(when: Option<SystemTime>) -> String {
    when.map_or_else(String::new, |when| format!(" on {}", date(when)))
}
