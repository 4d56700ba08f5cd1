//! The values by which a client is known.

use super::values::{from_text, word};
use crate::trusted;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use wildmatch::WildMatch;

/// The longest text in bytes: what a match costs is bounded by it.
const MAX_TEXT: usize = 255;

/// The longest name of a person in bytes: several fit a record.
const MAX_PERSON: usize = 64;

/// The longest /etc/passwd in bytes.
const MAX_PASSWD: u64 = 4 << 20;

/// A network that a client comes from: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

from_text!(Network);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Network, String> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network =
            address.or_else(|_| text.parse::<IpNet>()).map_err(|_| "a network is such as \"192.0.2.0/24\" or \"2001:db8::/32\"")?;
        let mapped = matches!(network, IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some());
        if matches!(network, IpNet::V6(network) if network.addr().is_unicast_link_local()) {
            Err("a link-local address says nothing without its link".to_owned())
        } else if mapped {
            Err("write an IPv4 address as such: peers that are mapped into IPv6 count as IPv4".to_owned())
        } else if network.trunc() == network {
            Ok(Network(network))
        } else {
            Err(format!("bits behind the prefix are set; \"{}\" is meant, perhaps", network.trunc()))
        }
    }
}

impl Network {
    /// Whether an address belongs to it. One of IPv4 that is mapped into IPv6 counts as itself.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether it is all of IPv4, or of IPv6.
    pub fn is_everywhere(&self) -> bool {
        self.0.prefix_len() == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A principal of a certificate, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal(String);

from_text!(Principal);

impl TryFrom<String> for Principal {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Principal, Self::Error> {
        if is_text(&text) { Ok(Principal(text)) } else { Err("a principal is 1 to 255 bytes of text") }
    }
}

impl Principal {
    /// Whether a certificate's principal is this one.
    pub fn is(&self, principal: &[u8]) -> bool {
        self.0.as_bytes() == principal
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who approves, or asks: a principal that an allowed_signers file can only mean literally.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Person(String);

from_text!(Person);
word!(Person);

impl TryFrom<String> for Person {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Person, Self::Error> {
        let good = |byte: u8| byte.is_ascii_graphic() && !b"\"#!*,?\\".contains(&byte);
        if (1..=MAX_PERSON).contains(&text.len()) && text.bytes().all(good) {
            Ok(Person(text))
        } else {
            Err("a person is one principal, 1 to 64 of ASCII without blanks, '*', '?', '!', ',', '#', '\\' and quotes")
        }
    }
}

/// A pattern of key ids: `*` is any text, `?` one character. What else PATTERNS of ssh_config(5) has is refused, not misread.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern(WildMatch);

from_text!(Pattern);

impl TryFrom<String> for Pattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Pattern, Self::Error> {
        if text.starts_with('!') || text.contains(',') {
            return Err("a pattern here has no '!' before it, and no ',' in it");
        }
        if is_text(&text) { Ok(Pattern(WildMatch::new(&text))) } else { Err("a pattern is 1 to 255 bytes of text") }
    }
}

impl Pattern {
    /// Whether a key id fits. One that is not UTF-8 fits no pattern.
    pub fn fits(&self, key_id: &[u8]) -> bool {
        std::str::from_utf8(key_id).is_ok_and(|text| self.0.matches(text))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.pattern())
    }
}

fn is_text(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && !text.contains(char::is_control)
}

/// A unix user, by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixUser {
    /// A name in /etc/passwd.
    Name(String),
    /// A user id.
    Id(u32),
}

from_text!(UnixUser);

impl TryFrom<String> for UnixUser {
    type Error = &'static str;

    fn try_from(text: String) -> Result<UnixUser, Self::Error> {
        // useradd(8) admits fewer characters yet.
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.$".contains(&byte);
        match text.parse() {
            Ok(id) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(UnixUser::Id(id)),
            _ if (1..=64).contains(&text.len()) && text.bytes().all(good) && !text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(UnixUser::Name(text))
            }
            _ => Err("a unix user is a name in /etc/passwd or a number"),
        }
    }
}

impl UnixUser {
    /// Its user id: that of the first line with its name in /etc/passwd, as in getpwnam(3).
    pub fn id(&self) -> Option<u32> {
        match self {
            UnixUser::Id(id) => Some(*id),
            UnixUser::Name(name) => passwd().lines().filter_map(account).find(|(other, _)| other == name).map(|(_, id)| id),
        }
    }
}

/// /etc/passwd; nothing where it is not there or not trusted. No name service is asked: that would load libraries and open sockets.
pub(crate) fn passwd() -> String {
    let passwd = trusted::read(Path::new("/etc/passwd"), MAX_PASSWD).unwrap_or_default();
    String::from_utf8_lossy(&passwd).into_owned()
}

/// Name and user id in a line of it.
pub(crate) fn account(line: &str) -> Option<(String, u32)> {
    let mut words = line.split(':');
    Some((words.next()?.to_owned(), words.nth(1)?.parse().ok()?))
}

impl fmt::Display for UnixUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixUser::Name(name) => f.write_str(name),
            UnixUser::Id(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        for (network, address, within) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "::ffff:192.0.2.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("2001:db8::1", "2001:db8::1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            // Mapped, it is one of IPv4.
            ("::/0", "::ffff:192.0.2.1", false),
        ] {
            let found = Network::try_from(network.to_owned()).unwrap().contains(address.parse().unwrap());
            assert_eq!(found, within, "{network} {address}");
        }
        for text in [
            "",
            "192.0.2.1/24",
            "2001:db8::1/32",
            "192.0.2.0/33",
            "192.0.2",
            "host",
            "::ffff:192.0.2.0/120",
            "::ffff:192.0.2.1",
            "fe80::1%eth0",
        ] {
            assert!(Network::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_fit_as_in_ssh_config() {
        for (pattern, text, fits) in [
            ("ci-*", "ci-", true),
            ("ci-*", "ci-7", true),
            ("ci-*", "xci-7", false),
            ("ci-?", "ci-7", true),
            ("ci-?", "ci-", false),
            ("*", "", true),
            ("*a*b", "xaxxb", true),
            ("CI", "ci", false),
            ("a.c", "abc", false),
        ] {
            assert_eq!(Pattern::try_from(pattern.to_owned()).unwrap().fits(text.as_bytes()), fits, "{pattern} {text}");
        }
        assert!(!Pattern::try_from("*".to_owned()).unwrap().fits(b"\xff"));
        // As slow as it can get.
        let (pattern, text) = (format!("{}b", "*a".repeat(127)), "a".repeat(4096));
        let began = std::time::Instant::now();
        assert!(!Pattern::try_from(pattern).unwrap().fits(text.as_bytes()));
        assert!(began.elapsed().as_secs() < 2);
    }

    #[test]
    fn users_are_names_or_numbers() {
        let user = |text: &str| UnixUser::try_from(text.to_owned()).ok();
        assert_eq!((user("990"), user("signer")), (Some(UnixUser::Id(990)), Some(UnixUser::Name("signer".to_owned()))));
        assert_eq!([user(""), user("a:b"), user("4294967296"), user("a b"), user("-1 ")], [const { None }; 5]);
    }
}
