//! Who asks: the key that authenticated this very session, as sshd hands it over.

use crate::config::values::SshFingerprint;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::geteuid;
use ssh_key::{HashAlg, PublicKey};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The longest SSH_USER_AUTH file in bytes: a line with an RSA key of 16384 bits has 2.8 KiB.
const MAX_FILE: u64 = 16 * 1024;

/// Why nobody is identified.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// SSH_USER_AUTH is not set: not started by sshd, or without `ExposeAuthInfo yes`.
    #[error("SSH_USER_AUTH is not set (ExposeAuthInfo in sshd_config)")]
    Unset,
    /// The file cannot be opened.
    #[error("cannot open the SSH_USER_AUTH file: {why}", why = .0.desc().to_lowercase())]
    Open(Errno),
    /// The file is not one that sshd has made for us.
    #[error("the SSH_USER_AUTH file is not a regular file of ours with mode 0600 and one link")]
    NotOurs,
    /// It does not hold one public key, and nothing else.
    #[error("the SSH_USER_AUTH file does not hold exactly one public key")]
    NotOneKey,
    /// It holds a certificate.
    #[error("the client authenticated by an ssh certificate, which no client of this configuration does")]
    Certificate,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The fingerprint of the ssh key that authenticated.
    pub ssh_key: SshFingerprint,
}

/// What the journal learns of the other end: address and port out of SSH_CONNECTION, checked to be such.
pub fn peer(connection: Option<OsString>) -> Option<String> {
    let connection = connection?.into_string().ok()?;
    let mut words = connection.split(' ');
    let address: std::net::IpAddr = words.next()?.split('%').next()?.parse().ok()?;
    let port: u16 = words.next()?.parse().ok()?;
    Some(std::net::SocketAddr::new(address, port).to_string())
}

impl Identity {
    /// Reads the file that SSH_USER_AUTH names.
    ///
    /// # Errors
    /// Any [`IdentityError`].
    pub fn establish(user_auth: Option<OsString>) -> Result<Identity, IdentityError> {
        let path = user_auth.ok_or(IdentityError::Unset)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = open(Path::new(&path), flags, Mode::empty()).map_err(IdentityError::Open)?;
        if !fstat(&file).is_ok_and(|stat| is_sshds(&stat)) {
            return Err(IdentityError::NotOurs);
        }
        let mut text = String::new();
        File::from(file).take(MAX_FILE).read_to_string(&mut text).map_err(|_| IdentityError::NotOneKey)?;
        Identity::parse(&text)
    }

    /// Reads the file's text: one line, `publickey TYPE BASE64`.
    ///
    /// # Errors
    /// [`IdentityError::NotOneKey`], [`IdentityError::Certificate`].
    pub fn parse(text: &str) -> Result<Identity, IdentityError> {
        let key = text.strip_suffix('\n').and_then(|line| line.strip_prefix("publickey ")).ok_or(IdentityError::NotOneKey)?;
        // The parser below trims: a second, empty line would pass.
        if key.contains(|c: char| c.is_ascii_control()) {
            return Err(IdentityError::NotOneKey);
        }
        if key.split(' ').next().is_some_and(|kind| kind.contains("-cert-v0")) {
            return Err(IdentityError::Certificate);
        }
        let key = PublicKey::from_openssh(key).map_err(|_| IdentityError::NotOneKey)?;
        Ok(Identity { ssh_key: key.fingerprint(HashAlg::Sha256).into() })
    }
}

fn is_sshds(stat: &FileStat) -> bool {
    let regular = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    regular && stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o7777 == 0o600 && stat.st_nlink == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn one_public_key_is_an_identity() {
        let identity = Identity::parse(&format!("publickey {KEY}\n")).unwrap();
        assert!(identity.ssh_key.to_string().starts_with("SHA256:"));
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
            assert!(Identity::parse(&format!("publickey {key}\n")).is_ok(), "{key}");
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
            assert_eq!(Identity::parse(&text), Err(IdentityError::NotOneKey), "{text}");
        }
        let certificate = "publickey ssh-ed25519-cert-v01@openssh.com AAAA\n";
        assert_eq!(Identity::parse(certificate), Err(IdentityError::Certificate));
    }

    #[test]
    fn the_peer_is_an_address_or_nothing() {
        let peer = |text: &str| peer(Some(text.into()));
        assert_eq!(peer("192.0.2.7 4711 192.0.2.1 22").as_deref(), Some("192.0.2.7:4711"));
        assert_eq!(peer("fe80::1%eth0 4711 fe80::2%eth0 22").as_deref(), Some("[fe80::1]:4711"));
        assert_eq!(peer("x\ny 1 2 3"), None);
        assert_eq!(super::peer(None), None);
    }
}
