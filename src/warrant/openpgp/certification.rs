//! What an operator says of a build's key by certifying it: `gpg --cert-notation grant@sigsh='key=release;host=H;max=64'`.

use super::{AHEAD, until};
use crate::config::Revoked;
use crate::openpgp::examine;
use crate::request::{MAX_NAME, encode};
use crate::warrant::{Permit, Quota, Subject, Terms, WarrantError};
use openpgp::cert::Cert;
use openpgp::packet::{Signature, UserID};
use openpgp::policy::{HashAlgoSecurity, Policy, StandardPolicy};
use sequoia_openpgp as openpgp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The notation that permits. It may be critical: then nothing but sigsh takes the certification for one.
const NOTATION: &str = "grant@sigsh";

/// What a build may endorse, and at what time that is judged.
pub(super) struct Question<'a> {
    pub(super) subject: &'a Subject,
    pub(super) now: SystemTime,
    pub(super) max_age: Duration,
    pub(super) revoked: &'a Revoked,
}

/// The permit that one of these operators has given to a build's key, and when: the latest, where there are several.
///
/// # Errors
/// [`WarrantError::Endorsement`].
pub(super) fn find(cert: &Cert, operators: &[Cert], question: &Question<'_>) -> Result<(Permit, SystemTime), WarrantError> {
    let mut found: Result<(Permit, SystemTime), _> = Err("is by a key that none of this key's operators has certified".to_owned());
    for id in cert.userids() {
        for signature in id.certifications() {
            let issuers = signature.get_issuers();
            let is_by = |operator: &&Cert| issuers.iter().any(|issuer| issuer.aliases(operator.key_handle()));
            for operator in operators.iter().filter(is_by) {
                let permit = permit(operator, signature, cert, id.userid(), question);
                found = match (found, permit) {
                    (Ok(known), Ok(other)) => Ok(if other.1 > known.1 { other } else { known }),
                    (Ok(known), Err(_)) => Ok(known),
                    (Err(_), other) => other,
                };
            }
        }
    }
    found.map_err(WarrantError::Endorsement)
}

/// What one certification permits, and when it was made.
fn permit(
    operator: &Cert,
    signature: &Signature,
    cert: &Cert,
    id: &UserID,
    question: &Question<'_>,
) -> Result<(Permit, SystemTime), String> {
    let Question { subject, now, max_age, revoked } = *question;
    let wrong = |what: &str| Err(what.to_owned());
    let (by, build) = (operator.primary_key().key(), cert.primary_key().key());
    let mut policy = StandardPolicy::at(now);
    policy.good_critical_notations(&[NOTATION]);
    // RFC 9580 §5.2.1.3: of the types 0x10 to 0x13, which all mean the same here.
    if signature.verify_userid_binding(by, build, id).is_err() {
        return wrong("has a certification that its operator did not make");
    }
    if policy.signature(signature, HashAlgoSecurity::CollisionResistance).is_err() {
        return wrong("has a certification by means that are no longer safe, or that demands what is not known here");
    }
    examine(operator, now).map_err(|_| {
        format!("is certified by {}, whose key has expired, is revoked or not safe", operator.fingerprint().to_hex())
    })?;
    if revoked.has_openpgp(&operator.fingerprint().to_hex()) {
        return wrong("is certified by an operator whose key is revoked here");
    }
    let Some(created) = signature.signature_creation_time().filter(|created| *created <= now + AHEAD) else {
        return wrong("has a certification from the future: one of the two clocks is wrong");
    };
    let Some(end) = signature.signature_expiration_time() else {
        return wrong("has a certification that never expires: gpg --default-cert-expire seconds=7200 gives it two hours");
    };
    if end <= now {
        return wrong("has a certification that has expired");
    }
    if [now, created].into_iter().any(|from| end.duration_since(from).is_ok_and(|length| length > max_age)) {
        return wrong("has a certification that is good for longer than this key allows");
    }
    let max = terms(signature, subject)?;
    let fingerprint = operator.fingerprint().to_hex();
    // What an earlier certification of the same key permitted is not this one's.
    let second = created.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let name = format!("openpgp:{fingerprint}:{}:{second}", cert.fingerprint().to_hex());
    // The operator's clock may be ahead of ours, by which the ledger's lines are dated.
    let quota = Quota { name, max, since: created - AHEAD };
    let id = encode(id.value(), MAX_NAME);
    let expires = until(operator, now).into_iter().fold(end, SystemTime::min);
    Ok((Permit { kind: "openpgp", by: fingerprint, serial: String::new(), id, quota, expires }, created))
}

/// For how many signatures it is good.
fn terms(signature: &Signature, subject: &Subject) -> Result<u64, String> {
    let notations = signature.hashed_area().iter().filter_map(|packet| match packet.value() {
        openpgp::packet::signature::subpacket::SubpacketValue::NotationData(data) if data.name() == NOTATION => Some(data),
        _ => None,
    });
    let notations = notations.collect::<Vec<_>>();
    let [notation] = notations.as_slice() else {
        return Err(format!("has a certification with {} notations {NOTATION}, where one permits a build", notations.len()));
    };
    let text = std::str::from_utf8(notation.value()).ok().filter(|_| notation.flags().human_readable());
    let parts = text.and_then(|text| text.strip_prefix("key=")?.split_once(';'));
    let Some((key, terms)) = parts.and_then(|(key, terms)| Some((key, Terms::parse(terms)?))) else {
        return Err(format!("has a certification whose {NOTATION} is not a text like key=KEY;host=HOST;max=64"));
    };
    if *key != *subject.key {
        return Err("is for another key".to_owned());
    }
    terms.are_for(&subject.place).map_err(|error| match error {
        WarrantError::Endorsement(what) => what,
        other => other.to_string(),
    })?;
    Ok(terms.max)
}
