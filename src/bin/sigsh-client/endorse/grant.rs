//! What `sigsh-admin grant mac` has printed, and what a build makes of it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;
use sigsh::request::{Digest, Moment};
use sigsh::warrant::mac::{Id, LENGTH, PREFIX, Scope};
use std::time::SystemTime;
use zeroize::Zeroizing;

/// `mac-v1 FINGERPRINT HOST ID NOT-BEFORE NOT-AFTER MAX NONCE`
pub(super) struct Grant<'a> {
    scope: Scope<'a>,
    nonce: Zeroizing<[u8; LENGTH]>,
}

impl Grant<'_> {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8], now: SystemTime) -> Result<Grant<'_>, &'static str> {
        const NONE: &str = "this is not what 'sigsh-admin grant mac' prints";
        let text = str::from_utf8(bytes).map_err(|_| NONE)?;
        let line = text.strip_suffix('\n').unwrap_or(text);
        let ["mac-v1", fingerprint, host, id, not_before, not_after, max, hex] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(NONE);
        };
        let mut nonce = Zeroizing::new([0; LENGTH]);
        let max = max.parse::<u64>().ok().filter(|number| number.to_string() == max);
        let time = Moment::parse;
        let (Ok(id), Ok(not_before), Ok(not_after), Some(max), Ok(())) =
            (Id::parse(id), time(not_before), time(not_after), max, hex::decode_to_slice(hex, &mut *nonce))
        else {
            return Err(NONE);
        };
        if not_after.time() <= now {
            return Err("it has expired");
        }
        Ok(Grant { scope: Scope { fingerprint, host, id, not_before, not_after, max }, nonce })
    }

    /// The endorsement of a file; `None` where this library has no HMAC for 64 bytes.
    pub(super) fn endorse(&self, size: u64, digest: &Digest) -> Option<Vec<u8>> {
        let mut mac = Hmac::<Sha512>::new_from_slice(&*self.nonce).ok()?;
        mac.update(self.scope.endorse(size, digest).as_bytes());
        let (Scope { id, not_before, not_after, max, .. }, mac) = (&self.scope, hex::encode(mac.finalize().into_bytes()));
        Some(format!("{PREFIX}{id} {not_before} {not_after} {max} {mac}\n").into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sigsh::hash_state::HashAlgorithm;
    use std::time::{Duration, UNIX_EPOCH};

    const LINE: &str = "mac-v1 0123456789ABCDEF0123456789ABCDEF01234567 sign1.example.org build-7 2026-01-02T01:04:05Z \
                        2026-01-02T03:04:05Z 64 ";
    const END: u64 = 1_767_323_045;

    fn parse(line: &str, at: u64) -> Result<Grant<'_>, &'static str> {
        Grant::parse(line.as_bytes(), UNIX_EPOCH + Duration::from_secs(at))
    }

    /// The figure is Python's: `hmac.new(bytes(range(64)), text, "sha512")`.
    #[test]
    fn an_endorsement_is_what_python_computes() {
        let nonce = hex::encode((0..64).collect::<Vec<u8>>());
        for end in ["", "\n"] {
            let line = format!("{LINE}{nonce}{end}");
            let grant = parse(&line, END - 1).unwrap_or_else(|why| panic!("{why}"));
            let digest = Digest { algorithm: HashAlgorithm::Sha256, bytes: vec![0xab; 32] };
            let endorsement = grant.endorse(5, &digest).unwrap();
            let mac = "db39803ab2c38b6046fd9f043e741067fbc188ae60d35af506dee3709281f393\
                       1b56300e352b55849033926d3b6152f5a9938b530a9ec9f28b352b2a9465ab24";
            assert_eq!(
                String::from_utf8(endorsement).unwrap(),
                format!("mac-v1 build-7 2026-01-02T01:04:05Z 2026-01-02T03:04:05Z 64 {mac}\n")
            );
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
            good.replace("03:04:05Z", "03:04:05+00:00"),
            good.replace("01:04:05Z", "01:04:05+00:00"),
            good.replace("2026-01-02T01:04:05Z ", ""),
            good.replace("build-7", "build\u{1b}7"),
            good.replace("build-7", "b\u{fc}ild-7"),
            good.replace(" 64 ", " 064 "),
            good.replace(" 64 ", " many "),
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
