//! Who asks: the key or certificate that authenticated this very session, as sshd hands it over; or a unix user, outside ssh.

pub mod certificate;
pub mod login;
pub mod user;

pub use login::Login;
pub use user::User;

use crate::audit::Field;
use crate::config::Revoked;
use crate::config::values::SshFingerprint;
use crate::request::encode;
use certificate::Certificate;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::geteuid;
use std::env::var_os;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::SystemTime;

/// The longest SSH_USER_AUTH file in bytes. A certificate with RSA keys of 16384 bits on both sides and 256 principals of 128 bytes has
/// 55 KiB.
const MAX_FILE: u64 = 128 * 1024;

/// The longest key id in a record, the longest list of principals and the longest of them, in bytes after encoding: the other fields
/// need their room.
const MAX_KEY_ID: usize = 256;
const MAX_PRINCIPALS: usize = 512;
const MAX_PRINCIPAL: usize = 128;

/// Why nobody is identified.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// SSH_USER_AUTH is not set in a session over ssh: without `ExposeAuthInfo yes`.
    #[error("SSH_USER_AUTH is not set (ExposeAuthInfo in sshd_config)")]
    Unset,
    /// The file cannot be opened.
    #[error("cannot open the SSH_USER_AUTH file: {why}", why = .0.desc().to_lowercase())]
    Open(Errno),
    /// The file is not one that sshd has made for us.
    #[error("the SSH_USER_AUTH file is not a regular file of ours with mode 0600 and one link")]
    NotOurs,
    /// It is longer than any key or certificate.
    #[error("the SSH_USER_AUTH file is longer than 128 KiB")]
    Long,
    /// It does not hold one public key, and nothing else.
    #[error("the SSH_USER_AUTH file does not hold exactly one public key")]
    NotOneKey,
    /// It holds a certificate that is none, or an absurd one.
    #[error("the SSH_USER_AUTH file holds an ssh certificate that is not understood")]
    Certificate,
    /// It holds a certificate of a host.
    #[error("the ssh certificate is a host's, not a user's")]
    Host,
    /// The certificate is not valid yet.
    #[error("the ssh certificate is not valid before {0}")]
    NotYet(String),
    /// The certificate is no longer valid.
    #[error("the ssh certificate was valid until {0}")]
    Expired(String),
    /// Something of it is in the list of revoked keys.
    #[error("{0} is revoked")]
    Revoked(&'static str),
    /// The list of revoked keys is no longer the one that was read.
    #[error("the list of revoked keys has changed")]
    ListChanged,
}

/// What sshd says in the environment: nothing, outside ssh.
#[derive(Default)]
pub struct Environment {
    user_auth: Option<OsString>,
    peer: Option<SocketAddr>,
    over_ssh: bool,
}

impl Environment {
    /// Reads it.
    pub fn read() -> Environment {
        let marks = ["SSH_CONNECTION", "SSH_CLIENT", "SSH_USER_AUTH", "SSH_ORIGINAL_COMMAND"];
        Environment {
            user_auth: var_os("SSH_USER_AUTH"),
            peer: peer(var_os("SSH_CONNECTION")),
            over_ssh: marks.iter().any(|name| var_os(name).is_some()),
        }
    }

    /// The other end: address and port.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

/// Address and port out of SSH_CONNECTION, checked to be such.
fn peer(connection: Option<OsString>) -> Option<SocketAddr> {
    let connection = connection?.into_string().ok()?;
    let mut words = connection.split(' ');
    let address: IpAddr = words.next()?.split('%').next()?.parse().ok()?;
    let port: u16 = words.next()?.parse().ok()?;
    Some(SocketAddr::new(address, port))
}

/// Who asks.
pub struct Identity {
    /// How it has logged in; `None` outside ssh.
    pub login: Option<Login>,
    /// As whom it runs.
    pub user: User,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    revoked: Revoked,
}

impl Identity {
    /// Reads what sshd and the system say. Whether it is still good is another question: [`Identity::check`].
    ///
    /// # Errors
    /// Any [`IdentityError`] about the SSH_USER_AUTH file.
    pub fn establish(environment: Environment, revoked: Revoked) -> Result<Identity, IdentityError> {
        let login = match environment.user_auth {
            Some(path) => Some(Login::parse(&read(&path)?)?),
            None if environment.over_ssh => return Err(IdentityError::Unset),
            None => None,
        };
        Ok(Identity { login, user: User::current(), address: environment.peer.map(|peer| peer.ip()), revoked })
    }

    /// Whether it may be used at this time: neither revoked nor outside its validity. A multiplexed connection starts sessions when its
    /// certificate has expired long ago, and an upload may outlive it.
    ///
    /// # Errors
    /// What has happened to it: any [`IdentityError`] about certificate and list.
    pub fn check(&self, now: SystemTime) -> Result<(), IdentityError> {
        let Some(login) = &self.login else { return Ok(()) };
        if !self.revoked.is_unchanged() {
            return Err(IdentityError::ListChanged);
        }
        login.check_time(now)?;
        self.revoked.of(login).map_or(Ok(()), |what| Err(IdentityError::Revoked(what)))
    }

    /// The ssh key that has logged in, be it inside a certificate.
    pub fn key(&self) -> Option<&SshFingerprint> {
        Some(match self.login.as_ref()? {
            Login::Key(key) => key,
            Login::Certificate(certificate) => &certificate.key,
        })
    }

    /// What the records say of it. The peer stands in them already.
    pub fn facts(&self) -> Vec<(Field, String)> {
        let mut facts = vec![(Field::UNIX_USER, self.user.name())];
        match &self.login {
            None => {}
            Some(Login::Key(key)) => facts.push((Field::SSH_KEY, key.to_string())),
            Some(Login::Certificate(certificate)) => facts.extend([
                (Field::SSH_KEY, certificate.key.to_string()),
                (Field::SSH_CA, certificate.ca.to_string()),
                (Field::CERT_ID, encode(&certificate.key_id, MAX_KEY_ID)),
                (Field::CERT_SERIAL, certificate.serial.to_string()),
                (Field::PRINCIPALS, principals(certificate)),
            ]),
        }
        facts
    }
}

/// All principals, joined by commas, none of which is one of theirs; as many as there is room for, so that the first always fits, and a
/// mark where others are left out.
fn principals(certificate: &Certificate) -> String {
    let mut text = String::new();
    for principal in &certificate.principals {
        let next = encode(principal, MAX_PRINCIPAL).replace(',', "%2C");
        if text.len() + next.len() + 1 > MAX_PRINCIPALS {
            // No encoded principal is this.
            text.push_str(",%...");
            break;
        }
        text = if text.is_empty() { next } else { format!("{text},{next}") };
    }
    text
}

fn read(path: &OsString) -> Result<String, IdentityError> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = openat(AT_FDCWD, Path::new(path), flags, Mode::empty()).map_err(IdentityError::Open)?;
    if !fstat(&file).is_ok_and(|stat| is_sshds(&stat)) {
        return Err(IdentityError::NotOurs);
    }
    let mut text = String::new();
    let read = File::from(file).take(MAX_FILE + 1).read_to_string(&mut text).map_err(|_| IdentityError::NotOneKey)?;
    if u64::try_from(read).map_or(true, |read| read > MAX_FILE) { Err(IdentityError::Long) } else { Ok(text) }
}

fn is_sshds(stat: &FileStat) -> bool {
    let regular = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    regular && stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o7777 == 0o600 && stat.st_nlink == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_cannot_be_mistaken_for_others() {
        let shown = |list: &[&[u8]]| {
            let key = || {
                crate::config::values::SshFingerprint::try_from("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU".to_owned())
                    .unwrap()
            };
            let names = list.iter().map(|name| name.to_vec()).collect();
            let (key, ca, key_id) = (key(), key(), Vec::new());
            principals(&Certificate { key, ca, user: true, serial: 0, key_id, principals: names, valid_after: 0, valid_before: 0 })
        };
        assert_eq!(shown(&[b"a", b"b,c d", b"\xff\n"]), "a,b%2Cc%20d,%FF%0A");
        assert_eq!(shown(&[&[b','; 600], b"x"]), format!("{},x", "%2C".repeat(128)));
        assert_eq!(shown(&[&[b'p'; 600]]), "p".repeat(128));
        assert_eq!(shown(&[]), "");
    }

    #[test]
    fn the_peer_is_an_address_or_nothing() {
        let peer = |text: &str| peer(Some(text.into())).map(|peer| peer.to_string());
        assert_eq!(peer("192.0.2.7 4711 192.0.2.1 22").as_deref(), Some("192.0.2.7:4711"));
        assert_eq!(peer("fe80::1%eth0 4711 fe80::2%eth0 22").as_deref(), Some("[fe80::1]:4711"));
        assert_eq!(peer("x\ny 1 2 3"), None);
        assert_eq!(super::peer(None), None);
    }
}
