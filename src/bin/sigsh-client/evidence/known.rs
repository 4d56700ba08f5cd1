//! What an approval of a file must say, as far as the configuration here tells.

use crate::approve::signing;
use crate::settings::{Key, Place};
use sigsh::config::values::Name;
use sigsh::request::{Digest, Statement};
use sigsh::warrant::approval::{BREAK_GLASS, Matter, Purpose, text};
use sigsh::warrant::sshsig::{SshSig, plain_key};

/// A file, its key, and who asks for it where.
pub(super) struct Known {
    size: u64,
    digest: Digest,
    /// All else, where it is configured.
    terms: Option<Terms>,
}

struct Terms {
    fingerprint: String,
    requester: Name,
    place: Place,
}

impl Known {
    /// What is known of a file that this key signs.
    pub(super) fn of(key: &Key, size: u64, digest: Digest) -> Known {
        let terms = key.requester.clone().zip(key.place.clone()).and_then(|(requester, place)| {
            let fingerprint = signing(key).ok()?.fingerprint();
            Some(Terms { fingerprint, requester, place })
        });
        Known { size, digest, terms }
    }

    /// Whether an approval can be one of this file. By whom it is, and whether he may, the host knows.
    ///
    /// # Errors
    /// What it is of, or is not.
    pub(super) fn check(&self, purpose: Purpose, statement: &Statement) -> Result<(), String> {
        let Some(signature) = SshSig::parse(&statement.signature) else { return Ok(()) };
        if signature.namespace != purpose.namespace.as_bytes() {
            return Err(format!("it was not signed with -n {}", purpose.namespace));
        }
        let (Some(Terms { fingerprint, requester, place }), Some(key)) = (&self.terms, plain_key(&signature.key)) else {
            return Ok(());
        };
        // An emergency is one host's, and which one is not said here.
        if purpose == BREAK_GLASS && matches!(place, Place::Fleet(_)) {
            return Ok(());
        }
        let matter = Matter { fingerprint, size: self.size, digest: &self.digest, requester };
        let text = text(purpose, matter, statement.not_after, place.as_where());
        match signature.verify(&key, &signature.digest(text.as_bytes())) {
            Some(_) => Ok(()),
            None => Err(format!("it is not of this file, key and time, {} and requester {requester}", place.as_where())),
        }
    }
}
