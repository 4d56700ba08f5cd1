//! How somebody has logged in.

use super::IdentityError;
use super::certificate::{Certificate, date};
use crate::config::values::SshFingerprint;
use ssh_key::PublicKey;
use std::time::{SystemTime, UNIX_EPOCH};

/// How somebody has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// By a plain key.
    Key(SshFingerprint),
    /// By a certificate.
    Certificate(Certificate),
}

impl Login {
    /// Reads the SSH_USER_AUTH file's text: one line, `publickey TYPE BASE64`.
    ///
    /// # Errors
    /// [`IdentityError::NotOneKey`], [`IdentityError::Certificate`].
    pub fn parse(text: &str) -> Result<Login, IdentityError> {
        let key = text.strip_suffix('\n').and_then(|line| line.strip_prefix("publickey ")).ok_or(IdentityError::NotOneKey)?;
        // The parsers below trim: a second, empty line would pass.
        if key.contains(|c: char| c.is_ascii_control()) {
            return Err(IdentityError::NotOneKey);
        }
        if Certificate::is_one(key) {
            return Certificate::parse(key).map(Login::Certificate).ok_or(IdentityError::Certificate);
        }
        let key = PublicKey::from_openssh(key).map_err(|_| IdentityError::NotOneKey)?;
        Ok(Login::Key(SshFingerprint::of(key.key_data())))
    }

    /// Whether it is a user's, and may be used at this time.
    ///
    /// # Errors
    /// [`IdentityError::Host`], [`IdentityError::NotYet`], [`IdentityError::Expired`].
    pub fn check_time(&self, now: SystemTime) -> Result<(), IdentityError> {
        let Login::Certificate(certificate) = self else { return Ok(()) };
        // A clock before 1970 is none.
        let now = now.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        if !certificate.user {
            Err(IdentityError::Host)
        } else if now.is_none_or(|now| now < certificate.valid_after) {
            Err(IdentityError::NotYet(date(certificate.valid_after)))
        } else if now.is_some_and(|now| now >= certificate.valid_before) {
            Err(IdentityError::Expired(date(certificate.valid_before)))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn one_public_key_is_an_identity() {
        let Login::Key(key) = Login::parse(&format!("publickey {KEY}\n")).unwrap() else { panic!("no key") };
        assert!(key.to_string().starts_with("SHA256:"));
    }

    /// As `ssh-keygen` makes them, hardware keys included.
    #[test]
    fn keys_of_every_type_are_identities() {
        let point = "AAAAIbmlzdHAyNTYAAABBBGsX0fLhLEJH+Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT+NC4v4af5uO5+tKfA+eFivOM1drMV7Oy7ZAaDe/UfU=";
        for key in [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            format!("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY{point}"),
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAACQDYAAAAAAAAAQ==".to_owned(),
            "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABHNzaDo=".to_owned(),
        ] {
            assert!(Login::parse(&format!("publickey {key}\n")).is_ok(), "{key}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        let line = format!("publickey {KEY}\n");
        for text in [
            String::new(),
            format!("publickey {KEY}"),
            format!("{line}{line}"),
            format!("password\n{line}"),
            format!("{line}password\n"),
            format!("{line}\n"),
            line.replace('\n', "\r\n"),
            format!("hostbased {KEY}\n"),
            line.replace("AAAA\n", "\n"),
            line.replace("ssh-ed25519", "ssh-rsa"),
            "publickey \n".to_owned(),
        ] {
            assert_eq!(Login::parse(&text), Err(IdentityError::NotOneKey), "{text}");
        }
        let certificate = "publickey ssh-ed25519-cert-v01@openssh.com AAAA\n";
        assert_eq!(Login::parse(certificate), Err(IdentityError::Certificate));
    }

    #[test]
    fn validity_is_exact_and_never_overflows() {
        let fingerprint = || SshFingerprint::try_from("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU".to_owned()).unwrap();
        let at = |valid_after, valid_before, seconds: i64| {
            let (key_id, principals) = (Vec::new(), Vec::new());
            let (key, ca) = (fingerprint(), fingerprint());
            let certificate = Certificate { key, ca, user: true, serial: 0, key_id, principals, valid_after, valid_before };
            let since = std::time::Duration::from_secs(seconds.unsigned_abs());
            let now = if seconds < 0 { UNIX_EPOCH - since } else { UNIX_EPOCH + since };
            Login::Certificate(certificate).check_time(now)
        };
        let not_yet = |date: &str| Err(IdentityError::NotYet(date.to_owned()));
        let expired = |date: &str| Err(IdentityError::Expired(date.to_owned()));
        let far = i64::MAX as u64;
        for (after, before, now, result) in [
            (0, u64::MAX, 0, Ok(())),
            (0, u64::MAX, 1 << 40, Ok(())),
            (100, 200, 99, not_yet("1970-01-01T00:01:40Z")),
            (100, 200, 100, Ok(())),
            (100, 200, 199, Ok(())),
            (100, 200, 200, expired("1970-01-01T00:03:20Z")),
            (200, 100, 150, not_yet("1970-01-01T00:03:20Z")),
            (0, 0, 0, expired("1970-01-01T00:00:00Z")),
            (0, u64::MAX, -1, not_yet("1970-01-01T00:00:00Z")),
            (u64::MAX, u64::MAX, 1 << 40, not_yet("the end of time")),
            (far, u64::MAX, 5, not_yet("the end of time")),
            (far + 1, u64::MAX, 5, not_yet("the end of time")),
            (253_402_300_799, u64::MAX, 5, not_yet("9999-12-31T23:59:59Z")),
            (253_402_300_800, u64::MAX, 5, not_yet("the end of time")),
            (0, 253_402_300_800, 253_402_300_800, expired("the end of time")),
        ] {
            assert_eq!(at(after, before, now), result, "{after} {before} {now}");
        }
    }
}
