//! The word of a build that an operator has permitted by an ssh certificate: an SSHSIG over the artifact, made by a key whose certificate
//! says which key it is for, on which host, how often and how long.

use super::sshsig::{self, SshSig, plain_key};
use super::terms::{Terms, rough};
use super::{Permit, Quota, Subject, Warrant, WarrantError};
use crate::config::values::SshFingerprint;
use crate::config::{Endorsement, Revoked};
use crate::identity::certificate::{Certificate, Signed};
use crate::request::encode;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What `ssh-keygen -Y sign` takes by `-n`.
pub const NAMESPACE: &str = "artifact@sigsh";

/// The critical option that makes a certificate a permit. sshd knows none of this name, and so lets nobody in by it.
pub const GRANT: &str = "grant@sigsh";

/// The longest key id in a record, in bytes after encoding.
const MAX_ID: usize = 256;

/// Whose certificates permit builds, and which of them are revoked.
pub struct Authorities {
    keys: Vec<SshFingerprint>,
    revoked: Rc<Revoked>,
    max_age: Duration,
}

impl Authorities {
    /// Those that a key's table names.
    pub fn of(table: &Endorsement, revoked: &Rc<Revoked>) -> Authorities {
        let keys = table.ssh_ca.iter().map(|ca| *ca.get_ref()).collect();
        Authorities::new(keys, revoked, table.max_age())
    }

    /// Those that have these keys, and permit nothing for longer than `max_age`.
    pub fn new(keys: Vec<SshFingerprint>, revoked: &Rc<Revoked>, max_age: Duration) -> Authorities {
        Authorities { keys, revoked: revoked.clone(), max_age }
    }

    /// Whether a build that may has signed this.
    ///
    /// # Errors
    /// [`WarrantError::Endorsement`].
    pub fn judge(&self, subject: &Subject, bytes: &[u8], now: SystemTime, warrant: &mut Warrant) -> Result<(), WarrantError> {
        self.permit(subject, bytes, now)?.enter(warrant);
        Ok(())
    }

    /// The permit by which a build has signed this.
    ///
    /// # Errors
    /// [`WarrantError::Endorsement`].
    pub fn permit(&self, subject: &Subject, bytes: &[u8], now: SystemTime) -> Result<Permit, WarrantError> {
        let signature = SshSig::parse(bytes).ok_or_else(|| wrong("is no ssh signature that is understood"))?;
        if signature.namespace != NAMESPACE.as_bytes() {
            return Err(wrong(&format!("was made for another purpose: ssh-keygen -Y sign -n {NAMESPACE}")));
        }
        let hash = subject.digest.algorithm;
        if signature.hash != hash {
            return Err(wrong(&format!("is by another hash than the key's: ssh-keygen -Y sign -O hashalg={}", hash.name())));
        }
        if plain_key(&signature.key).is_some() {
            return Err(wrong("is by an ssh key without a certificate"));
        }
        let signed = Signed::parse(&signature.key).ok_or_else(|| wrong("is by a certificate that is not understood"))?;
        self.is_ours(&signed)?;
        let certificate = &signed.certificate;
        self.is_valid(certificate, now)?;
        let terms = terms(&signed)?;
        is_for(certificate, subject)?;
        terms.are_for(&subject.place)?;
        let key = plain_key(&signed.key).ok_or_else(|| wrong("is by a key of a kind that is not taken"))?;
        match signature.verify(&key, &subject.digest.bytes) {
            Some(None) => {}
            Some(Some(touch)) if touch.presence => {}
            Some(Some(_)) => return Err(wrong("is by a security key that nobody has touched")),
            None => return Err(wrong("is of another artifact, or not by the key of its certificate")),
        }
        Ok(permit(certificate, &terms))
    }

    /// Whether one of the authorities has made it, and nobody has taken it back.
    fn is_ours(&self, signed: &Signed) -> Result<(), WarrantError> {
        let certificate = &signed.certificate;
        if !self.keys.contains(&certificate.ca) {
            return Err(wrong("is by a certificate of an authority that this key does not know"));
        }
        let ca = plain_key(&signed.ca).ok_or_else(|| wrong("is by a certificate of an authority whose key is not taken"))?;
        match sshsig::verify(&ca, &signed.signed, &signed.signature) {
            Some(None) => {}
            Some(Some(touch)) if touch.presence => {}
            _ => return Err(wrong("is by a certificate that its authority has not signed")),
        }
        let revoked = self.revoked.of_certificate(certificate);
        revoked.map_or(Ok(()), |what| Err(wrong(&format!("is by a certificate that is revoked ({what})"))))
    }

    /// Whether it is a user's, has a number, and is valid, but not for too long.
    fn is_valid(&self, certificate: &Certificate, now: SystemTime) -> Result<(), WarrantError> {
        let Certificate { valid_after, valid_before, .. } = *certificate;
        // A clock before 1970 is none.
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let [ahead, over, left, length] =
            [(valid_after, now), (now, valid_before), (valid_before, now), (valid_before, valid_after)]
                .map(|(end, begin)| Duration::from_secs(end.saturating_sub(begin)));
        if !certificate.user {
            Err(wrong("is by a certificate of a host"))
        } else if now < valid_after {
            Err(wrong(&format!("is by a certificate that becomes valid in {}", rough(ahead))))
        } else if now >= valid_before {
            Err(wrong(&format!("is by a certificate that expired {} ago", rough(over))))
        } else if left > self.max_age || length > self.max_age {
            Err(wrong(&format!("is by a certificate that is valid for more than {}", rough(self.max_age))))
        } else if certificate.serial == 0 {
            Err(wrong("is by a certificate without a serial"))
        } else {
            Ok(())
        }
    }
}

fn wrong(why: &str) -> WarrantError {
    WarrantError::Endorsement(why.to_owned())
}

/// What the certificate's only critical option says.
fn terms(signed: &Signed) -> Result<Terms, WarrantError> {
    let (name, data) = match signed.critical.as_slice() {
        [] => return Err(wrong(&format!("is by a certificate that endorses nothing: it has no critical option {GRANT}"))),
        [(name, data)] => (name, data),
        _ => return Err(wrong(&format!("is by a certificate with other critical options than {GRANT}"))),
    };
    if name != GRANT.as_bytes() {
        return Err(wrong(&format!("is by a certificate with other critical options than {GRANT}")));
    }
    // PROTOCOL.certkeys: an option's data is a string that holds the packed value, here another one.
    let text = data.split_at_checked(4).filter(|(length, text)| *length == (text.len() as u32).to_be_bytes());
    let text = text.and_then(|(_, text)| std::str::from_utf8(text).ok());
    text.and_then(Terms::parse).ok_or_else(|| wrong(&format!("is by a certificate whose {GRANT} is not 'host=HOST;max=NUMBER'")))
}

/// Whether one of its principals is the key, to the letter.
fn is_for(certificate: &Certificate, subject: &Subject) -> Result<(), WarrantError> {
    let principal = format!("build@{}", subject.key);
    if certificate.principals.is_empty() {
        Err(wrong("is by a certificate for no key: it has no principals"))
    } else if certificate.principals.iter().any(|own| own == principal.as_bytes()) {
        Ok(())
    } else {
        Err(wrong("is by a certificate for another key"))
    }
}

/// What a good one permits. Its times are near this one: neither sum overflows.
fn permit(certificate: &Certificate, terms: &Terms) -> Permit {
    let Certificate { ca, serial, key_id, valid_after, valid_before, .. } = certificate;
    let since = UNIX_EPOCH + Duration::from_secs(*valid_after);
    Permit {
        kind: "ssh",
        by: ca.to_string(),
        serial: serial.to_string(),
        id: encode(key_id, MAX_ID),
        quota: Quota { name: format!("ssh:{ca}:{serial}"), max: terms.max, since },
        expires: UNIX_EPOCH + Duration::from_secs(*valid_before),
    }
}
