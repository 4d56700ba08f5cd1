//! The ssh key by which a person approves, as far as it is public.

use crate::error::Error;
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// A key that ssh-keygen can sign by.
pub(super) struct Identity {
    /// What ssh-keygen is told.
    pub(super) path: PathBuf,
    key: PublicKey,
}

impl Identity {
    /// Reads its public part: the file itself, or the one beside it.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub(super) fn read(path: &Path) -> Result<Identity, Error> {
        let mut beside = OsString::from(path);
        beside.push(".pub");
        let read = |path: &Path| std::fs::read_to_string(path).ok().and_then(|text| PublicKey::from_openssh(&text).ok());
        let key = read(path).or_else(|| read(beside.as_ref()));
        let none = || io::Error::other("neither it nor the file beside it that ends in .pub is a public ssh key");
        let key = key.ok_or_else(|| Error::Input(path.to_owned(), none()))?;
        Ok(Identity { path: path.to_owned(), key })
    }

    /// It as `ssh-keygen -l` shows it.
    pub(super) fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Whether it is this one, as a signature has it.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        self.key.to_bytes().is_ok_and(|ours| ours == bytes)
    }

    /// It, to verify by.
    pub(super) fn key(&self) -> &KeyData {
        self.key.key_data()
    }

    /// A name for files: who it is here, and by which key, since two people may be called the same on two machines.
    pub(super) fn person(&self) -> String {
        let user = std::env::var("LOGNAME").or_else(|_| std::env::var("USER")).unwrap_or_default();
        let plain = user.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(32).collect::<String>();
        let tag = hex::encode(self.key.fingerprint(HashAlg::Sha256).as_bytes().get(..4).unwrap_or_default());
        if plain.is_empty() { tag } else { format!("{plain}-{tag}") }
    }
}
