//! The list of revoked keys and certificates: the text that `ssh-keygen -k` makes a KRL of (KEY REVOCATION LISTS in ssh-keygen(1)),
//! or the bare public keys that sshd's RevokedKeys takes; and, of what permits builds, OpenPGP keys and ids of MACs. Or the KRL itself.

mod krl;

use super::values::SshFingerprint;
use super::{ConfigError, Location};
use crate::identity::Login;
use crate::identity::certificate::Certificate;
use crate::trusted::{self, Trusted};
use ssh_key::PublicKey;
use std::path::Path;

/// The longest list in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Who is revoked. Without a file nobody is.
#[derive(Debug, Default)]
pub struct Revoked {
    keys: Vec<SshFingerprint>,
    /// Keys by their SHA-1, which a KRL may name them by.
    sha1s: Vec<[u8; 20]>,
    /// Certificates of any authority,
    certificates: Certificates,
    /// and of one alone.
    of_one: Vec<(SshFingerprint, Certificates)>,
    openpgp: Vec<String>,
    macs: Vec<String>,
    sources: Vec<Trusted>,
}

/// Certificates by what their authorities call them.
#[derive(Debug, Default)]
struct Certificates {
    serials: Vec<Serials>,
    ids: Vec<Vec<u8>>,
}

/// Numbers of certificates.
#[derive(Debug)]
enum Serials {
    /// From one to another.
    Range(u64, u64),
    /// This one and those behind it, as far as their bits are set; the last byte has the first of them.
    Bits(u64, Vec<u8>),
}

impl Serials {
    fn contain(&self, serial: u64) -> bool {
        match self {
            Serials::Range(first, last) => (*first..=*last).contains(&serial),
            Serials::Bits(offset, bits) => {
                let at = serial.checked_sub(*offset);
                let byte = at.and_then(|at| bits.iter().rev().nth(usize::try_from(at / 8).ok()?));
                at.zip(byte).is_some_and(|(at, byte)| byte >> (at % 8) & 1 == 1)
            }
        }
    }
}

impl Revoked {
    /// Reads the list, and keeps its file open.
    ///
    /// # Errors
    /// [`ConfigError::Trust`], [`ConfigError::Wrong`].
    pub fn open(path: &Path) -> Result<Revoked, ConfigError> {
        let opened = trusted::open(path)?;
        let bytes = opened.read(path, MAX_FILE)?;
        let wrong = |line, message| ConfigError::Wrong { at: Location { file: path.to_owned(), line, column: 1 }, message };
        let mut revoked = Revoked::parse(&bytes).map_err(|(line, message)| wrong(line, message.to_owned()))?;
        revoked.sources.push(opened);
        Ok(revoked)
    }

    /// What this list revokes or another one.
    #[must_use]
    pub fn or(mut self, other: Revoked) -> Revoked {
        let Revoked { keys, sha1s, certificates, of_one, openpgp, macs, sources } = other;
        self.keys.extend(keys);
        self.sha1s.extend(sha1s);
        self.certificates.serials.extend(certificates.serials);
        self.certificates.ids.extend(certificates.ids);
        self.of_one.extend(of_one);
        self.openpgp.extend(openpgp);
        self.macs.extend(macs);
        self.sources.extend(sources);
        self
    }

    /// Reads a list.
    ///
    /// # Errors
    /// The number of a line that is not understood, and why.
    pub fn parse(bytes: &[u8]) -> Result<Revoked, (usize, &'static str)> {
        if bytes.starts_with(krl::MAGIC) {
            return krl::parse(bytes).ok_or((1, "this KRL is broken, signed, or has sections that are not known"));
        }
        let mut revoked = Revoked::default();
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            // ssh-keygen cuts 'id: build#7' to 'build' without a word.
            let glued = |at: usize| at > 0 && !matches!(line.get(at - 1), Some(b' ' | b'\t'));
            let comment = line.iter().position(|byte| *byte == b'#');
            let begins =
                |word: &[u8]| line.trim_ascii_start().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
            if (begins(b"id:") || begins(b"mac:")) && comment.is_some_and(glued) {
                return Err((number + 1, "a '#' begins a comment: an id with one in it cannot be named, but its serial can"));
            }
            let line = line.get(..comment.unwrap_or(line.len())).unwrap_or_default();
            let line = std::str::from_utf8(line).map_err(|_| (number + 1, "the line is not UTF-8"))?;
            let line = line.trim_matches([' ', '\t', '\r']);
            if !line.is_empty() {
                revoked.add(line).map_err(|message| (number + 1, message))?;
            }
        }
        Ok(revoked)
    }

    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let (directive, rest) =
            line.split_once(':').map_or(("", line), |(word, rest)| (word, rest.trim_start_matches([' ', '\t'])));
        match directive.to_ascii_lowercase().as_str() {
            "serial" => {
                let serials = serials(rest).ok_or("serials are N or N-M, from 1 to 18446744073709551615")?;
                self.certificates.serials.push(serials);
            }
            "id" if !rest.is_empty() => self.certificates.ids.push(rest.as_bytes().to_vec()),
            "id" => return Err("an id is missing"),
            "hash" => self.keys.push(rest.to_owned().try_into()?),
            "openpgp" => self.openpgp.push(openpgp(rest).ok_or("an OpenPGP key is named by its fingerprint")?),
            "mac" if rest.is_empty() || rest.contains([' ', '\t']) => return Err("one id belongs here"),
            "mac" => self.macs.push(rest.to_owned()),
            "key" | "sha1" | "sha256" if Certificate::is_one(rest) => {
                // As ssh-keygen does: its key is meant.
                self.keys.push(Certificate::parse(&two_words(rest)).ok_or("this is no ssh certificate")?.key);
            }
            "key" | "sha1" | "sha256" => self.keys.push(key(rest)?),
            _ if Certificate::is_one(line) => {
                return Err("this is a certificate; revoke it by 'serial:' or 'id:', or its key by 'key:'");
            }
            _ => self.keys.push(key(line)?),
        }
        Ok(())
    }

    /// What of a login is revoked, if anything.
    pub fn of(&self, login: &Login) -> Option<&'static str> {
        match login {
            Login::Key(key) => self.has(key).then_some("the ssh key"),
            Login::Certificate(certificate) => self.of_certificate(certificate),
        }
    }

    /// What of a certificate is revoked, if anything.
    pub fn of_certificate(&self, certificate: &Certificate) -> Option<&'static str> {
        let lists = || {
            let of_one = self.of_one.iter().filter(|(ca, _)| *ca == certificate.ca).map(|(_, certificates)| certificates);
            of_one.chain([&self.certificates])
        };
        let by_serial = || lists().any(|list| list.serials.iter().any(|serials| serials.contain(certificate.serial)));
        [
            (self.has(&certificate.key), "the key of the ssh certificate"),
            (self.has(&certificate.ca), "the key of the certificate authority"),
            (by_serial(), "the serial of the ssh certificate"),
            (lists().any(|list| list.ids.contains(&certificate.key_id)), "the key id of the ssh certificate"),
        ]
        .into_iter()
        .find_map(|(is, what)| is.then_some(what))
    }

    /// Whether a key is revoked.
    pub fn has(&self, key: &SshFingerprint) -> bool {
        self.keys.contains(key) || key.sha1().is_some_and(|sha1| self.sha1s.contains(sha1))
    }

    /// Whether an OpenPGP key of this fingerprint, in hexadecimal digits, is revoked.
    pub fn has_openpgp(&self, fingerprint: &str) -> bool {
        self.openpgp.iter().any(|revoked| revoked.eq_ignore_ascii_case(fingerprint))
    }

    /// Whether the permit of this id, by which a build makes MACs, is revoked.
    pub fn has_mac(&self, id: &str) -> bool {
        self.macs.iter().any(|revoked| revoked == id)
    }

    /// How many lines say something, or parts of a KRL.
    pub fn entries(&self) -> usize {
        let lists = self.of_one.iter().map(|(_, list)| list).chain([&self.certificates]);
        let certificates = lists.map(|list| list.serials.len() + list.ids.len()).sum::<usize>();
        self.keys.len() + self.sha1s.len() + certificates + self.openpgp.len() + self.macs.len()
    }

    /// Whether the files are still what was read: nobody has written to them, nor put others in their place.
    pub fn is_unchanged(&self) -> bool {
        self.sources.iter().all(Trusted::is_unchanged)
    }
}

/// `N` or `N-M`; decimal, hexadecimal or octal as strtoull(3) reads them.
fn serials(text: &str) -> Option<Serials> {
    let number = |text: &str| match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    (1..=last).contains(&first).then_some(Serials::Range(first, last))
}

/// A fingerprint of version 4 or 6, without blanks.
fn openpgp(text: &str) -> Option<String> {
    let good = [40, 64].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| text.to_owned())
}

fn key(text: &str) -> Result<SshFingerprint, &'static str> {
    let key = PublicKey::from_openssh(&two_words(text)).map_err(|_| "this is neither a public ssh key nor a known directive")?;
    Ok(SshFingerprint::of(key.key_data()))
}

/// A key without its comment.
fn two_words(text: &str) -> String {
    text.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const OTHER: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

    fn certificate(serial: u64, key_id: &str) -> Login {
        let fingerprint = |text: &str| SshFingerprint::try_from(text.to_owned()).unwrap();
        let (key, ca) = (fingerprint(&OTHER.replace("47", "48")), fingerprint(OTHER));
        let (user, key_id, principals) = (true, key_id.as_bytes().to_vec(), vec![]);
        Login::Certificate(Certificate { key, ca, user, serial, key_id, principals, valid_after: 0, valid_before: u64::MAX })
    }

    #[test]
    fn every_directive_revokes_what_it_names() {
        let key = Login::Key(super::key(KEY).unwrap());
        for line in [KEY, &format!("key: {KEY} a comment"), &format!("sha256:\t{KEY}"), &format!("  SHA1: {KEY} # why")] {
            let revoked = Revoked::parse(format!("# a comment\n\n{line}\r\n").as_bytes()).unwrap();
            assert_eq!((revoked.of(&key), revoked.entries()), (Some("the ssh key"), 1), "{line}");
            assert_eq!(revoked.of(&certificate(1, "a")), None);
        }
        let what = |line: &str, serial, id: &str| Revoked::parse(line.as_bytes()).unwrap().of(&certificate(serial, id));
        let (by_serial, by_id) = (Some("the serial of the ssh certificate"), Some("the key id of the ssh certificate"));
        for (line, serial, id, result) in [
            ("serial: 7", 7, "a", by_serial),
            ("serial: 7", 8, "a", None),
            ("Serial:5-7", 5, "a", by_serial),
            ("serial: 5-7", 7, "a", by_serial),
            ("serial: 5-7", 4, "a", None),
            ("serial: 0x10", 16, "a", by_serial),
            ("serial: 010", 8, "a", by_serial),
            ("serial: 1-18446744073709551615", u64::MAX, "a", by_serial),
            ("id: a b", 0, "a b", by_id),
            ("id: a b", 0, "a", None),
            ("id: a # not b", 0, "a", by_id),
            ("serial: 5 - 7", 6, "a", by_serial),
            (&format!("hash: {OTHER}"), 0, "a", Some("the key of the certificate authority")),
            (&format!("hash: {}", OTHER.replace("47", "48")), 0, "a", Some("the key of the ssh certificate")),
        ] {
            assert_eq!(what(line, serial, id), result, "{line}");
        }
    }

    #[test]
    fn permits_of_other_kinds_are_named_too() {
        let (fingerprint, long) = ("0123456789ABCDEF0123456789abcdef01234567", "0123456789ABCDEF".repeat(4));
        let list = Revoked::parse(format!("openpgp: {fingerprint}\nOpenPGP:{long} # why\nmac: build-7\n").as_bytes()).unwrap();
        assert!(list.has_openpgp(&fingerprint.to_lowercase()) && list.has_openpgp(&long) && !list.has_openpgp(&"0".repeat(40)));
        assert!(list.has_mac("build-7") && !list.has_mac("build") && !list.has_mac("Build-7"));
        assert_eq!(list.entries(), 3);
    }

    #[test]
    fn either_of_two_lists_revokes() {
        let list = |text: &str| Revoked::parse(text.as_bytes()).unwrap();
        let one = format!("serial: 7\n{KEY}\nopenpgp: {}\n", "0".repeat(40));
        for both in [list(&one).or(list("id: a\nmac: m\n")), list("mac: m\nid: a\n").or(list(&one))] {
            assert!(both.has(&super::key(KEY).unwrap()) && both.has_mac("m") && both.has_openpgp(&"0".repeat(40)));
            let what = [(7, "b"), (8, "a"), (8, "b")].map(|(serial, id)| both.of(&certificate(serial, id)).is_some());
            assert_eq!((what, both.entries()), ([true, true, false], 5));
        }
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_line() {
        for line in [
            "serial: 0",
            "serial: 7-5",
            "serial: 18446744073709551616",
            "serial: -1",
            "serial: +1",
            "serial: 1 2",
            "serial:",
            "serial: 09",
            "id:",
            "id: build#7",
            "openpgp:",
            "openpgp: 01234567",
            "openpgp: 0123 4567 89AB CDEF 0123 4567 89AB CDEF 0123 4567",
            "mac:",
            "mac: a b",
            "mac: a#b",
            "hash: MD5:00",
            "hash:",
            "key: x",
            "key:",
            "serials: 1",
            "x",
            "ssh-ed25519 AAAA",
            "ssh-ed25519-cert-v01@openssh.com AAAA",
            "key: ssh-ed25519-cert-v01@openssh.com AAAA",
            "\u{fc}",
        ] {
            let error = Revoked::parse(format!("# one\n{KEY}\n{line}\n").as_bytes()).unwrap_err();
            assert_eq!(error.0, 3, "{line}: {error:?}");
        }
        assert_eq!(Revoked::parse(b"a\xff").unwrap_err(), (1, "the line is not UTF-8"));
        let binary = Revoked::parse(b"SSHKRL\n\0\0\0\0\x01").unwrap_err();
        assert_eq!(binary, (1, "this KRL is broken, signed, or has sections that are not known"));
        assert_eq!(Revoked::parse(b"").unwrap().entries(), 0);
    }
}
