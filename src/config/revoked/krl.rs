//! A binary list of revoked keys and certificates, as `ssh-keygen -k` makes it (PROTOCOL.krl of OpenSSH).

use super::{Certificates, Revoked, Serials};
use crate::config::values::SshFingerprint;
use sha2::{Digest, Sha256};
use ssh_encoding::Decode;

/// What one begins with.
pub(super) const MAGIC: &[u8] = b"SSHKRL\n\0";

/// The only format there is.
const FORMAT: u32 = 1;

/// Sections, and sections within that of certificates. Not among them: signatures and extensions, which would have to be understood.
const CERTIFICATES: u8 = 1;
const EXPLICIT_KEY: u8 = 2;
const FINGERPRINT_SHA1: u8 = 3;
const FINGERPRINT_SHA256: u8 = 5;
const SERIAL_LIST: u8 = 0x20;
const SERIAL_RANGE: u8 = 0x21;
const SERIAL_BITMAP: u8 = 0x22;
const KEY_ID: u8 = 0x23;

/// Reads one; `None` when any of it is not understood.
pub(super) fn parse(bytes: &[u8]) -> Option<Revoked> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let reader = &mut rest;
    if u32::decode(reader).ok()? != FORMAT {
        return None;
    }
    let [_version, _date, flags] = [number(reader)?, number(reader)?, number(reader)?];
    let [_reserved, _comment] = [string(reader)?, string(reader)?];
    if flags != 0 {
        return None;
    }
    let mut revoked = Revoked::default();
    while !reader.is_empty() {
        let (kind, section) = (u8::decode(reader).ok()?, string(reader)?);
        let mut section = section.as_slice();
        match kind {
            CERTIFICATES => certificates(&mut section, &mut revoked)?,
            EXPLICIT_KEY => each(&mut section, |section| {
                // A key's fingerprint is that of the bytes that OpenSSH writes.
                let key = string(section).filter(|key| !key.is_empty())?;
                revoked.keys.push(SshFingerprint::from_sha256(Sha256::digest(key).into()));
                Some(())
            })?,
            FINGERPRINT_SHA1 => each(&mut section, |section| {
                revoked.sha1s.push(string(section)?.try_into().ok()?);
                Some(())
            })?,
            FINGERPRINT_SHA256 => each(&mut section, |section| {
                revoked.keys.push(SshFingerprint::from_sha256(string(section)?.try_into().ok()?));
                Some(())
            })?,
            _ => return None,
        }
    }
    Some(revoked)
}

/// What of one authority is revoked, or, where none is named, of any.
fn certificates(section: &mut &[u8], revoked: &mut Revoked) -> Option<()> {
    let [ca, _reserved] = [string(section)?, string(section)?];
    let mut found = Certificates::default();
    each(section, |section| {
        let (kind, part) = (u8::decode(section).ok()?, string(section)?);
        let mut part = part.as_slice();
        match kind {
            SERIAL_LIST => each(&mut part, |part| {
                let serial = number(part)?;
                range(&mut found, serial, serial)
            }),
            SERIAL_RANGE => {
                let [first, last] = [number(&mut part)?, number(&mut part)?];
                range(&mut found, first, last)
            }
            SERIAL_BITMAP => bitmap(&mut found, number(&mut part)?, string(&mut part)?),
            KEY_ID => each(&mut part, |part| {
                found.ids.push(string(part)?);
                Some(())
            }),
            _ => None,
        }?;
        part.is_empty().then_some(())
    })?;
    if ca.is_empty() {
        revoked.certificates.serials.append(&mut found.serials);
        revoked.certificates.ids.append(&mut found.ids);
    } else {
        let (_, ca) = SshFingerprint::of_blob(&ca)?;
        revoked.of_one.push((ca, found));
    }
    Some(())
}

/// Zero is no serial.
fn range(found: &mut Certificates, first: u64, last: u64) -> Option<()> {
    (1..=last).contains(&first).then(|| found.serials.push(Serials::Range(first, last)))
}

/// The bits of a positive number (RFC 4251 §5, mpint): that of 2^n stands for the offset plus n.
fn bitmap(found: &mut Certificates, offset: u64, bits: Vec<u8>) -> Option<()> {
    let highest = bits.first().filter(|first| **first < 0x80)?;
    let length = 8 * bits.len() as u64 - u64::from(highest.leading_zeros());
    offset.checked_add(length.saturating_sub(1))?;
    let serials = Serials::Bits(offset, bits);
    (!serials.contain(0)).then(|| found.serials.push(serials))
}

/// Reads until there is no more.
fn each(section: &mut &[u8], mut read: impl FnMut(&mut &[u8]) -> Option<()>) -> Option<()> {
    while !section.is_empty() {
        read(section)?;
    }
    Some(())
}

fn number(reader: &mut &[u8]) -> Option<u64> {
    u64::decode(reader).ok()
}

fn string(reader: &mut &[u8]) -> Option<Vec<u8>> {
    Vec::decode(reader).ok()
}
