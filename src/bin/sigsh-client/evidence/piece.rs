//! One file of an endorsement or approval. What is none of them stays here: it may be anything, such as a private key.

use crate::error::lower;
use crate::input::read_at_most;
use rustix::fs::OFlags;
use sigsh::request::{Bytes, MAX_EVIDENCE, Statement};
use sigsh::warrant::sshsig::SshSig;
use sigsh::warrant::{mac, openpgp};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The longest file in bytes: there is base64 in it, in an approval twice.
const MAX_FILE: u64 = 2 * MAX_EVIDENCE as u64;

/// Reads what somebody has named, be it a pipe.
///
/// # Errors
/// What the system says, or that it is too long.
pub(super) fn named(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(&mut File::open(path)?, MAX_FILE)
}

/// Reads what nobody has named: a regular file itself, and nothing that must be waited for.
///
/// # Errors
/// Why not.
pub(super) fn found(path: &Path) -> Result<Vec<u8>, String> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path);
    let mut file = file.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => "it is a symbolic link".to_owned(),
        _ => lower(&error),
    })?;
    match file.metadata() {
        Ok(metadata) if !metadata.is_file() => Err("it is no regular file".to_owned()),
        metadata => metadata.and_then(|_| read_at_most(&mut file, MAX_FILE)).map_err(|error| lower(&error)),
    }
}

/// An endorsement that is whole, as its host reads it.
///
/// # Errors
/// Why it is none.
pub(super) fn endorsement(bytes: Vec<u8>) -> Result<Bytes, String> {
    let none = |why: &str| Err(format!("this is no endorsement: {why}"));
    let is_openpgp = bytes.first().is_some_and(|byte| byte & 0x80 != 0) || bytes.starts_with(b"-----BEGIN PGP ");
    match bytes.as_slice() {
        ssh if SshSig::is_one(ssh) && SshSig::parse(ssh).is_none() => none("it is no ssh signature that is understood"),
        ssh if SshSig::is_one(ssh) => Ok(()),
        // What an operator gives to a build begins alike, and is a secret.
        line if mac::is_one(line) && mac::parse("", "", line).is_none() => {
            none("it is not one line of mac-v1, ID, NOT-BEFORE, NOT-AFTER, MAX and HEX")
        }
        line if mac::is_one(line) => Ok(()),
        packets if is_openpgp => openpgp::check(packets).or_else(|why| none(&format!("it {why}"))),
        _ => none("it is neither an ssh signature, nor mac-v1, nor OpenPGP"),
    }?;
    // What is too long with its armor goes without.
    let bytes = if bytes.len() > MAX_EVIDENCE { SshSig::dearmored(&bytes).unwrap_or_default() } else { bytes };
    if bytes.len() > MAX_EVIDENCE { Err("it is longer than 6 KiB".to_owned()) } else { Ok(bytes.into()) }
}

/// An approval as `approve` writes it: a time, '=' and an ssh signature in base64, on one line.
///
/// # Errors
/// Why it is none.
pub(super) fn statement(bytes: &[u8]) -> Result<Statement, String> {
    let none = |why: String| format!("this is no approval: {why}");
    let text = str::from_utf8(bytes).unwrap_or_default();
    let statement = Statement::parse(text.strip_suffix('\n').unwrap_or(text)).map_err(none)?;
    match SshSig::parse(&statement.signature) {
        Some(_) => Ok(statement),
        None => Err(none("it holds no ssh signature that is understood".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Secrets in every form that they are kept in.
    #[test]
    fn no_secret_is_an_endorsement() {
        let nonce = "ab".repeat(64);
        let grant = format!("mac-v1 {} sign1 build-7 2026-01-02T01:04:05Z 2026-01-02T03:04:05Z 64 {nonce}\n", "0A".repeat(20));
        for secret in [
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtz\n".as_slice(),
            b"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n",
            b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
            b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlFgE\n-----END PGP PRIVATE KEY BLOCK-----\n",
            b"openssh-key-v1\0\0\0\0\x04none",
            // A secret key, and a subkey, as OpenPGP packets of either kind of head.
            b"\x94\x58\x04\x67\x00\x00\x00\x16",
            b"\xc5\x58\x04\x67\x00\x00\x00\x16",
            b"\xc7\x58\x04\x67\x00\x00\x00\x16",
            grant.as_bytes(),
            b"mac-v1 build-7 2026-01-02T01:04:05Z 2026-01-02T03:04:05Z 64 secret\n",
            b"SSHSIG and a password",
            b"-----BEGIN SSH SIGNATURE-----\npassword\n-----END SSH SIGNATURE-----\n",
            b"password",
            b"\0",
        ] {
            let why = endorsement(secret.to_vec()).expect_err("it would be sent");
            assert!(why.starts_with("this is no endorsement: it "), "{why}");
        }
        let mac = format!("mac-v1 build-7 2026-01-02T01:04:05Z 2026-01-02T03:04:05Z 64 {nonce}\n");
        assert_eq!(endorsement(mac.clone().into_bytes()).as_deref(), Ok(mac.as_bytes()));
    }
}
