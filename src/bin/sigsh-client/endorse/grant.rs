//! What `sigsh-admin grant mac` has printed, and what a build makes of it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;
use sigsh::hash_state::HashAlgorithm;
use sigsh::request::Moment;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// `mac-v1 FINGERPRINT HOST ID NOT-AFTER MAX NONCE`
pub(super) struct Grant {
    /// What stands in the text that is authenticated, as it was granted.
    about: String,
    id: String,
    not_after: Moment,
    max: String,
    nonce: Zeroizing<[u8; 64]>,
}

impl Grant {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8], now: SystemTime) -> Result<Grant, &'static str> {
        const NONE: &str = "this is not what 'sigsh-admin grant mac' prints";
        let text = str::from_utf8(bytes).map_err(|_| NONE)?;
        let line = text.strip_suffix('\n').unwrap_or(text);
        let plain = line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let ["mac-v1", key, host, id, not_after, max, hex] = line.split(' ').collect::<Vec<_>>()[..] else { return Err(NONE) };
        let mut nonce = Zeroizing::new([0; 64]);
        let (moment, read) = (Moment::parse(not_after), hex::decode_to_slice(hex, &mut *nonce));
        let (Ok(until), Ok(()), true) = (moment, read, plain) else { return Err(NONE) };
        if until.time() <= now {
            return Err("it has expired");
        }
        let about = format!("endorse-v1\nkey {key}\nhost {host}\nid {id}\nnot-after {until}\nmax {max}\n");
        Ok(Grant { about, id: id.to_owned(), not_after: until, max: max.to_owned(), nonce })
    }

    /// The endorsement of a file; `None` where this library has no HMAC for 64 bytes.
    pub(super) fn endorse(&self, size: u64, hash: HashAlgorithm, digest: &[u8]) -> Option<Vec<u8>> {
        let text = format!("{}size {size}\ndigest {}:{}\n", self.about, hash.name(), hex::encode(digest));
        let mut mac = Hmac::<Sha512>::new_from_slice(&*self.nonce).ok()?;
        mac.update(text.as_bytes());
        let mac = hex::encode(mac.finalize().into_bytes());
        Some(format!("mac-v1 {} {} {} {mac}\n", self.id, self.not_after, self.max).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    const LINE: &str = "mac-v1 0123456789ABCDEF0123456789ABCDEF01234567 sign1.example.org build-7 2026-01-02T03:04:05Z 64 ";
    const END: u64 = 1_767_323_045;

    fn parse(line: &str, at: u64) -> Result<Grant, &'static str> {
        Grant::parse(line.as_bytes(), UNIX_EPOCH + Duration::from_secs(at))
    }

    /// The figure is Python's: `hmac.new(bytes(range(64)), text, "sha512")`.
    #[test]
    fn an_endorsement_is_what_python_computes() {
        let nonce = hex::encode((0..64).collect::<Vec<u8>>());
        for end in ["", "\n"] {
            let grant = parse(&format!("{LINE}{nonce}{end}"), END - 1).unwrap_or_else(|why| panic!("{why}"));
            let endorsement = grant.endorse(5, HashAlgorithm::Sha256, &[0xab; 32]).unwrap();
            let mac = "75a27be5c2825f5b68621cd7d88f14362ce16a350de847c6e434b5afc78baa8f\
                       41a1724ae6655f0912d38875506714a5fbbeca7d8d215b4d4bec3d348ac0666c";
            assert_eq!(String::from_utf8(endorsement).unwrap(), format!("mac-v1 build-7 2026-01-02T03:04:05Z 64 {mac}\n"));
        }
    }

    #[test]
    fn what_is_no_grant() {
        let nonce = "00".repeat(64);
        let good = format!("{LINE}{nonce}");
        assert_eq!(parse(&good, END).err(), Some("it has expired"));
        for bad in [
            good.replace("mac-v1", "mac-v2"),
            good.replace("mac-v1 ", ""),
            good.replace(" 64 ", " "),
            good.replace(" 64 ", "  64 "),
            good.replace("05Z", "05+00:00"),
            good.replace("build-7", "build\u{1b}7"),
            good.replace("build-7", "b\u{fc}ild-7"),
            format!("{good}00"),
            format!("{good}\n\n"),
            format!("{good}\r\n"),
            good[..good.len() - 2].to_owned(),
            good.replace("0000", "000g"),
            String::new(),
        ] {
            assert_eq!(parse(&bad, END - 1).err(), Some("this is not what 'sigsh-admin grant mac' prints"), "{bad:?}");
        }
    }
}
