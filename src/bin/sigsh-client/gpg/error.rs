//! What goes wrong in gpg's place.

use super::call::CallError;
use super::status::Cause;
use crate::error::{Error, lower};
use std::io;

/// Why gpg, as which we stand here, fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum GpgError {
    /// It would not have begun.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no signature.
    #[error(transparent)]
    Sign(#[from] Error),
    #[error("the file descriptor {0} is not open")]
    Stream(i32),
    #[error("{0}: {why}", why = lower(.1))]
    Write(String, io::Error),
    #[error("several keys here are called '{0}'")]
    Ambiguous(String),
    #[error("no key here is called '{0}', and there is no other gpg to ask")]
    NoKey(String),
    #[error("sigsh makes detached and cleartext signatures only, not signed or encrypted messages")]
    Inline,
    #[error("a signature by sigsh cannot have what --{0} asks for")]
    Unmet(&'static str),
    #[error("several keys are to sign at once, and an output takes one signature")]
    SeveralKeys,
    #[error("{0} was to sign, and {1} has signed")]
    OtherKey(String, String),
    #[error("several files are to be signed as one")]
    SeveralFiles,
    #[error("cannot run {0}: {why}", why = lower(.1))]
    Real(String, io::Error),
    #[error("gpg leads back to sigsh-client")]
    Loop,
    #[error("there is no other gpg for this")]
    NoReal,
}

impl GpgError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            GpgError::Sign(Error::Exists(_)) => Some("--yes replaces it".to_owned()),
            GpgError::Sign(error) => error.hint(),
            GpgError::Ambiguous(_) => Some("name one by its fingerprint".to_owned()),
            GpgError::NoReal | GpgError::NoKey(_) => Some("install gnupg, or name it by gpg = \"…\" in client.toml".to_owned()),
            GpgError::Loop => Some("name the real one by gpg = \"…\" in client.toml".to_owned()),
            _ => None,
        }
    }

    /// What a status line says of it.
    pub(super) fn cause(&self) -> Cause {
        match self {
            GpgError::Sign(Error::Exists(_)) => Cause::FileExists,
            GpgError::NoKey(_) => Cause::NoSecretKey,
            _ => Cause::General,
        }
    }
}
