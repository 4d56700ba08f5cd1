//! Keys as gpg lists them, for programs and for people.

use super::call::{Half, Keyid};
use super::spec::{Names, keyid};
use std::time::{Duration, UNIX_EPOCH};

/// A certificate, as far as a listing shows it.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// The primary key.
    pub(crate) primary: Key,
    /// The subkeys.
    pub(crate) subkeys: Vec<Key>,
    /// The user ids that are valid, the primary one first.
    pub(crate) uids: Vec<Uid>,
}

/// A user id.
#[derive(Clone, Debug)]
pub(crate) struct Uid {
    /// Its text.
    pub(crate) name: String,
    /// When it was bound to the key, in seconds since 1970.
    pub(crate) created: u32,
}

/// A key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// In upper-case hexadecimal.
    pub(crate) fingerprint: String,
    /// RFC 9580 §9.1.
    pub(crate) algorithm: u8,
    /// Its size.
    pub(crate) bits: u32,
    /// gpg's name of its curve, where it is on one: `ed25519`, `nistp256`.
    pub(crate) curve: Option<&'static str>,
    /// In seconds since 1970.
    pub(crate) created: u32,
    /// In seconds since 1970.
    pub(crate) expires: Option<u32>,
    /// It was revoked.
    pub(crate) revoked: bool,
    /// What it is for.
    pub(crate) usage: Usage,
    /// The secret half is there to be used.
    pub(crate) secret: bool,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Signing data.
    pub(crate) sign: bool,
    /// Signing keys and user ids.
    pub(crate) certify: bool,
    /// Encryption.
    pub(crate) encrypt: bool,
    /// Logging in.
    pub(crate) authenticate: bool,
}

impl Certificate {
    /// What it can be called by at `now`.
    pub(crate) fn names(&self, now: u32) -> Names {
        let signs = |it: &&Key| it.usage.sign && self.validity(it, now) == Validity::Ultimate;
        Names {
            primary: self.primary.fingerprint.clone(),
            subkeys: self.subkeys.iter().map(|it| it.fingerprint.clone()).collect(),
            signers: self.keys().filter(signs).map(|it| it.fingerprint.clone()).collect(),
            uids: self.uids.iter().map(|it| it.name.clone()).collect(),
        }
    }

    /// For programs, at `now`: doc/DETAILS of GnuPG, without keygrips, hashes of user ids and compliance.
    pub(crate) fn colons(&self, half: Half, now: u32) -> String {
        let usable: Vec<Usage> = self.keys().filter(|it| self.validity(it, now) == Validity::Ultimate).map(|it| it.usage).collect();
        let any = |of: fn(&Usage) -> bool| usable.iter().any(of);
        let all = Usage {
            sign: any(|it| it.sign),
            certify: any(|it| it.certify),
            encrypt: any(|it| it.encrypt),
            authenticate: any(|it| it.authenticate),
        };
        let (validity, (primary, sub)) = (self.primary.validity(now), tags(half));
        let capabilities = self.primary.usage.letters() + &all.letters().to_ascii_uppercase();
        let mut lines =
            self.primary.record(half, primary, validity, "u", &capabilities) + ":0:\n" + &self.primary.fingerprint_record();
        for Uid { name, created } in &self.uids {
            lines += &format!("uid:{}::::{created}::::{}::::::::::0:\n", validity.letter(), sanitized(name, &[':', '\\']));
        }
        for subkey in &self.subkeys {
            lines += &(subkey.record(half, sub, self.validity(subkey, now), "", &subkey.usage.letters())
                + "\n"
                + &subkey.fingerprint_record());
        }
        lines
    }

    /// For people, at `now`, with an empty line at the end. Subkeys that cannot be used any more are left out.
    pub(crate) fn people(&self, half: Half, format: Keyid, now: u32) -> String {
        let (primary, sub) = tags(half);
        let mut lines = self.primary.line(half, primary, format, now) + &format!("      {}\n", self.primary.fingerprint);
        let indent = shown(format, &self.primary.fingerprint).map_or(10, |it| it.len()) + 1;
        for uid in &self.uids {
            let validity = self.primary.validity(now).word();
            lines += &format!("uid{:indent$}[{validity:>8}] {}\n", "", sanitized(&uid.name, &[]));
        }
        for subkey in self.subkeys.iter().filter(|it| self.validity(it, now) == Validity::Ultimate) {
            lines += &subkey.line(half, sub, format, now);
        }
        lines + "\n"
    }

    /// A subkey lasts no longer than the primary key.
    fn validity(&self, key: &Key, now: u32) -> Validity {
        match self.primary.validity(now) {
            Validity::Ultimate => key.validity(now),
            over => over,
        }
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.primary).chain(&self.subkeys)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Validity {
    Ultimate,
    Expired,
    Revoked,
}

impl Validity {
    fn letter(self) -> char {
        match self {
            Validity::Ultimate => 'u',
            Validity::Expired => 'e',
            Validity::Revoked => 'r',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Validity::Ultimate => "ultimate",
            Validity::Expired => "expired",
            Validity::Revoked => "revoked",
        }
    }
}

impl Key {
    fn validity(&self, now: u32) -> Validity {
        match (self.revoked, self.expires) {
            (true, _) => Validity::Revoked,
            (false, Some(expires)) if expires < now => Validity::Expired,
            (false, _) => Validity::Ultimate,
        }
    }

    /// All that a key and a subkey have in common, up to field 18.
    fn record(&self, half: Half, tag: &str, validity: Validity, trust: &str, capabilities: &str) -> String {
        let Key { algorithm, bits, created, .. } = self;
        let (validity, keyid) = (validity.letter(), keyid(&self.fingerprint));
        let expires = self.expires.map(|it| it.to_string()).unwrap_or_default();
        let secret = match half {
            Half::Public { with_secret: false } => "",
            _ if self.secret => "+",
            _ => "#",
        };
        let curve = self.curve.unwrap_or_default();
        format!("{tag}:{validity}:{bits}:{algorithm}:{keyid}:{created}:{expires}::{trust}:::{capabilities}:::{secret}::{curve}::")
    }

    fn fingerprint_record(&self) -> String {
        format!("fpr:::::::::{}:\n", self.fingerprint)
    }

    fn line(&self, half: Half, tag: &str, format: Keyid, now: u32) -> String {
        let secret = if self.secret || half != Half::Secret { ' ' } else { '#' };
        let kind = match (self.curve, self.algorithm) {
            (Some(curve), _) => curve.to_string(),
            (None, 1..=3) => format!("rsa{}", self.bits),
            (None, 17) => format!("dsa{}", self.bits),
            (None, 16) => format!("elg{}", self.bits),
            (None, other) => format!("unknown_{other}"),
        };
        let keyid = shown(format, &self.fingerprint).map(|it| format!("/{it}")).unwrap_or_default();
        let until = match (self.expires, self.validity(now)) {
            (Some(expires), Validity::Expired) => format!(" [expired: {}]", date(expires)),
            (Some(expires), _) => format!(" [expires: {}]", date(expires)),
            (None, _) => String::new(),
        };
        format!("{tag}{secret}  {kind}{keyid} {} [{}]{until}\n", date(self.created), self.usage.capitals())
    }
}

/// What a line begins with: that of a primary key, that of a subkey.
fn tags(half: Half) -> (&'static str, &'static str) {
    if half == Half::Secret { ("sec", "ssb") } else { ("pub", "sub") }
}

impl Usage {
    fn letters(self) -> String {
        chosen([(self.encrypt, 'e'), (self.sign, 's'), (self.certify, 'c'), (self.authenticate, 'a')])
    }

    fn capitals(self) -> String {
        chosen([(self.sign, 'S'), (self.certify, 'C'), (self.encrypt, 'E'), (self.authenticate, 'A')])
    }
}

fn chosen(letters: [(bool, char); 4]) -> String {
    letters.into_iter().filter_map(|(it, letter)| it.then_some(letter)).collect()
}

fn shown(format: Keyid, fingerprint: &str) -> Option<String> {
    let long = keyid(fingerprint);
    let short = long.get(8..).unwrap_or_default();
    match format {
        Keyid::None => None,
        Keyid::Short => Some(short.to_string()),
        Keyid::HexShort => Some(format!("0x{short}")),
        Keyid::Long => Some(long.to_string()),
        Keyid::HexLong => Some(format!("0x{long}")),
    }
}

fn date(seconds: u32) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds.into());
    humantime::format_rfc3339_seconds(time).to_string().chars().take(10).collect()
}

fn sanitized(text: &str, also: &[char]) -> String {
    let escape = |it: char| match it.is_ascii_control() || also.contains(&it) {
        true => format!("\\x{:02x}", u32::from(it)),
        false => it.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
#[path = "listing/tests.rs"]
mod tests;
