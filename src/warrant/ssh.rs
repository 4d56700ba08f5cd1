//! The word of a build that an operator has permitted by an ssh certificate.

use super::{Subject, Warrant, WarrantError};
use crate::config::values::SshFingerprint;
use crate::config::{Endorsement, Revoked};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

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
        Authorities { keys, revoked: revoked.clone(), max_age: table.max_age() }
    }

    /// Whether a build that may has signed this.
    ///
    /// # Errors
    /// [`WarrantError::Endorsement`].
    pub fn judge(&self, subject: &Subject, bytes: &[u8], now: SystemTime, warrant: &mut Warrant) -> Result<(), WarrantError> {
        let _ = (&self.keys, &self.revoked, self.max_age, subject, bytes, now, warrant);
        Err(WarrantError::Endorsement("is not believed".to_owned()))
    }
}
