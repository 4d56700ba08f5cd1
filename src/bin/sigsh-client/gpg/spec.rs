//! Which key a name means: fingerprint, key id, mail or user id, as gpg takes them for `--local-user`. A part of one means a key only
//! where that is said: gpg's own `release@example.org` is also `prerelease@example.org`.

use std::ffi::OsStr;

/// What a certificate can be called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The fingerprint of the primary key, in upper-case hexadecimal.
    pub(crate) primary: String,
    /// Those of the subkeys.
    pub(crate) subkeys: Vec<String>,
    /// Those of the keys among them that may sign.
    pub(crate) signers: Vec<String>,
    /// The user ids.
    pub(crate) uids: Vec<String>,
}

impl Names {
    /// Whether `spec` means this certificate; with `!` after hexadecimal digits, one of its keys that may sign. A fingerprint or a
    /// key id is never looked for in user ids. What cannot be read means nothing.
    pub(crate) fn matches(&self, spec: &OsStr) -> bool {
        let Some(spec) = spec.to_str().map(str::trim) else {
            return false;
        };
        if let Some(hex) = Hex::read(spec) {
            let mut keys = std::iter::once(&self.primary).chain(&self.subkeys);
            return if hex.exact { self.only(spec.as_ref()).is_some() } else { keys.any(|it| hex.is(it)) };
        }
        let mut uids = self.uids.iter();
        match spec.split_at_checked(1) {
            None => false,
            Some(("=", exact)) => uids.any(|uid| uid == exact),
            Some(("<", mail)) => uids.any(|uid| same(mailbox(uid), mail.strip_suffix('>').unwrap_or(mail))),
            Some(("*", part)) => uids.any(|uid| contains(uid, part)),
            // A part of a mail address, forms of X.509, or what gpg has never searched by.
            Some(("@" | "." | "+" | "/" | "#" | ":" | "&", _)) => false,
            Some(_) => uids.any(|uid| same(uid, spec) || same(mailbox(uid), spec)),
        }
    }

    /// The fingerprint of the only key that may sign, where `spec` demands one by `!`.
    pub(crate) fn only(&self, spec: &OsStr) -> Option<&str> {
        let hex = Hex::read(spec.to_str()?.trim()).filter(|it| it.exact)?;
        self.signers.iter().find(|it| hex.is(it)).map(String::as_str)
    }
}

/// Digits that can only be a fingerprint or a key id.
struct Hex {
    digits: String,
    exact: bool,
}

impl Hex {
    fn read(spec: &str) -> Option<Hex> {
        let (prefixed, rest) = spec.strip_prefix("0x").map_or((false, spec), |rest| (true, rest));
        let (exact, rest) = rest.strip_suffix('!').map_or((false, rest), |rest| (true, rest));
        let digits: String = rest.chars().filter(|&it| it != ' ').collect();
        let spaced = digits.len() != rest.len();
        let whole = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_hexdigit());
        let long = [8, 16, 32, 40, 64].contains(&digits.len());
        // What has the prefix is nothing else; key ids are not written with spaces.
        let hex = prefixed || whole && long && (!spaced || digits.len() >= 32);
        hex.then(|| Hex { digits: if whole && long { digits.to_ascii_uppercase() } else { String::new() }, exact })
    }

    fn is(&self, fingerprint: &str) -> bool {
        match self.digits.len() {
            8 => keyid(fingerprint).ends_with(&self.digits),
            16 => keyid(fingerprint) == self.digits,
            0 => false,
            _ => *fingerprint == self.digits,
        }
    }
}

/// RFC 9580 §5.5.4: the last 64 bits of a version 4 fingerprint, the first of a later one.
pub(super) fn keyid(fingerprint: &str) -> &str {
    match fingerprint.len() {
        40 => fingerprint.get(24..),
        _ => fingerprint.get(..16),
    }
    .unwrap_or_default()
}

/// The address of a user id: between the brackets, or all of it.
fn mailbox(uid: &str) -> &str {
    uid.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(uid, |(mail, _)| mail)
}

fn same(this: &str, that: &str) -> bool {
    this.eq_ignore_ascii_case(that)
}

fn contains(this: &str, part: &str) -> bool {
    !part.is_empty() && this.to_ascii_lowercase().contains(&part.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::Names;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_name_means_our_key_or_another() {
        let names = Names {
            primary: "0E0926C12DC9569C2A5D3ACDF2D5B2669EC9A986".to_string(),
            subkeys: ["9BFCA7F272FCC5123BC422EB3678DF4CFF680F94", "AF5CF4FEF18BB6D3B9BB303B9A4C533CB6B468AA"]
                .map(String::from)
                .into(),
            signers: vec!["9BFCA7F272FCC5123BC422EB3678DF4CFF680F94".to_string()],
            uids: ["Release Key (2026) <release@example.org>", "bare@example.org", "DEADBEEF Ltd"].map(String::from).into(),
        };
        for (spec, ours) in [
            ("0E0926C12DC9569C2A5D3ACDF2D5B2669EC9A986", true),
            ("0e0926c12dc9569c2a5d3acdf2d5b2669ec9a986", true),
            ("0x0E0926C12DC9569C2A5D3ACDF2D5B2669EC9A986", true),
            ("0E09 26C1 2DC9 569C 2A5D  3ACD F2D5 B266 9EC9 A986", true),
            (" 0E0926C12DC9569C2A5D3ACDF2D5B2669EC9A986 ", true),
            ("AF5CF4FEF18BB6D3B9BB303B9A4C533CB6B468AA", true),
            ("9BFCA7F272FCC5123BC422EB3678DF4CFF680F94!", true),
            ("0E0926C12DC9569C2A5D3ACDF2D5B2669EC9A986!", false),
            ("AF5CF4FEF18BB6D3B9BB303B9A4C533CB6B468AA!", false),
            ("F2D5B2669EC9A986", true),
            ("0xf2d5b2669ec9a986", true),
            ("3678DF4CFF680F94!", true),
            ("F2D5B2669EC9A986!", false),
            ("9EC9A986", true),
            ("0x9EC9A986", true),
            ("F2D5B266", false),
            ("0E0926C12DC9569C", false),
            ("0E0926C12DC9569C2A5D3ACDF2D5B2669EC9A987", false),
            ("0x0E0926C12DC9569C2A5D3ACDF2D5B2669EC9A98", false),
            ("0x", false),
            ("release@example.org", true),
            ("RELEASE@example.org", true),
            ("<release@example.org>", true),
            ("<Release@Example.org", true),
            ("<ease@example.org>", false),
            ("<bare@example.org>", true),
            ("=Release Key (2026) <release@example.org>", true),
            ("=Release Key", false),
            ("=release key (2026) <release@example.org>", false),
            ("Release Key (2026) <release@example.org>", true),
            ("release key (2026) <RELEASE@example.org>", true),
            ("Release Key <release@example.org>", false),
            ("Release Key (2026)", false),
            ("ease@example.org", false),
            ("release@example.or", false),
            ("BARE@example.org", true),
            ("are@example.org", false),
            ("release key", false),
            ("*release key", true),
            ("@example", false),
            ("@release@example.org", false),
            // Hexadecimal digits name a key, even where a user id has the same.
            ("DEADBEEF", false),
            ("DEADBEEF Ltd", true),
            ("DEADBEEF L", false),
            ("*DEADBEEF L", true),
            ("deadbee", false),
            ("other@example.org", false),
            ("+release", false),
            ("/CN=release", false),
            ("#01", false),
            ("&0E0926C12DC9569C2A5D3ACDF2D5B2669EC9A986", false),
            ("", false),
            (" ", false),
            ("*", false),
            ("@", false),
            ("<>", false),
            ("=", false),
            ("é", false),
        ] {
            assert_eq!(names.matches(OsStr::new(spec)), ours, "{spec:?}");
        }
        assert!(!names.matches(OsStr::from_bytes(b"\xff")));
        assert_eq!(names.only(OsStr::new("0x3678DF4CFF680F94!")), Some("9BFCA7F272FCC5123BC422EB3678DF4CFF680F94"));
        assert_eq!(names.only(OsStr::new("3678DF4CFF680F94")), None);
        let later =
            Names { primary: "AB".repeat(8) + &"CD".repeat(24), subkeys: Vec::new(), signers: Vec::new(), uids: Vec::new() };
        assert!(later.matches(OsStr::new("ABABABABABABABAB")));
        assert!(!later.matches(OsStr::new("CDCDCDCDCDCDCDCD")));
        assert!(later.matches(OsStr::new(&later.primary)));
        assert!(!later.matches(OsStr::new(&format!("{}!", later.primary))));
    }
}
