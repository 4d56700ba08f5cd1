//! The word of a build that an operator has permitted by certifying its OpenPGP key.

use super::{Subject, Warrant, WarrantError};
use crate::config::{Config, ConfigError, Endorsement, Revoked};
use crate::hash_state::HashState;
use std::rc::Rc;
use std::time::SystemTime;

/// Whose certifications permit builds.
pub struct Operators {}

impl Operators {
    /// Reads what a key's table names; `None` where it names nobody.
    ///
    /// # Errors
    /// Any [`ConfigError`].
    pub fn open(config: &Config, table: &Endorsement, revoked: &Rc<Revoked>) -> Result<Option<Operators>, ConfigError> {
        let _ = (config, revoked);
        Ok(table.openpgp.as_ref().map(|_| Operators {}))
    }

    /// Whether a build's key that may, has made a signature. Whether it is over the artifact is seen once that is hashed.
    ///
    /// # Errors
    /// [`WarrantError::Endorsement`].
    pub fn judge(&self, subject: &Subject, bytes: &[u8], now: SystemTime, warrant: &mut Warrant) -> Result<(), WarrantError> {
        let _ = (subject, bytes, now, warrant);
        Err(WarrantError::Endorsement("is not believed".to_owned()))
    }
}

/// A signature over an artifact's bytes, of which the key is good.
pub struct OverBytes {}

impl OverBytes {
    /// Whether it is over these bytes.
    ///
    /// # Errors
    /// [`WarrantError::Endorsement`].
    pub fn check(&self, state: &HashState) -> Result<(), WarrantError> {
        let _ = state;
        Err(WarrantError::Endorsement("is not believed".to_owned()))
    }
}
