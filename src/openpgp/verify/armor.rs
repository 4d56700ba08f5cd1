//! ASCII armor (RFC 9580 §6.2), by its letter: what one verifier skips and another does not, none of them has signed.

use super::BadSignature;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The longest line: gpgv takes no longer ones (RFC 9580 §6.2.4).
const MAX_LINE: usize = 76;

/// What one armored signature holds, behind which there is nothing but white space.
///
/// # Errors
/// [`BadSignature`], also for a checksum that is not its own.
pub fn dearmor(bytes: &[u8]) -> Result<Vec<u8>, BadSignature> {
    dearmor_all(bytes, &["SIGNATURE"])
}

/// The same for several, of these kinds, with nothing between them.
///
/// # Errors
/// [`BadSignature`].
pub fn dearmor_all(bytes: &[u8], kinds: &[&str]) -> Result<Vec<u8>, BadSignature> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut binary = Vec::new();
    for kind in kinds {
        binary.extend(block(&mut lines, kind)?);
    }
    if lines.all(|line| line.trim_ascii().is_empty()) { Ok(binary) } else { Err(alone()) }
}

fn wrong(what: &str) -> BadSignature {
    BadSignature(what.to_owned())
}

fn alone() -> BadSignature {
    wrong("not one armored signature alone")
}

fn block<'a>(lines: &mut impl Iterator<Item = &'a [u8]>, kind: &str) -> Result<Vec<u8>, BadSignature> {
    let [begin, end] = ["BEGIN", "END"].map(|edge| format!("-----{edge} PGP {kind}-----").into_bytes());
    if lines.next() != Some(&begin) {
        return Err(alone());
    }
    if !lines.by_ref().find(|line| !is_header(line)).is_some_and(<[u8]>::is_empty) {
        return Err(wrong("an empty line is missing before what is armored"));
    }
    let (mut body, mut checksum) = (Vec::new(), None);
    loop {
        match lines.next().ok_or_else(alone)? {
            line if line == end => break,
            _ if checksum.is_some() => return Err(alone()),
            [b'=', sum @ ..] if sum.len() == 4 => checksum = Some(decode(sum)),
            line if line.is_empty() || line.starts_with(b"-----") => return Err(alone()),
            line if line.len() > MAX_LINE => return Err(wrong("its armor has too long a line")),
            line => body.extend_from_slice(line),
        }
    }
    let binary = decode(&body).ok_or_else(|| wrong("its armor is damaged"))?;
    match checksum {
        Some(sum) if sum != Some(crc24(&binary)) => Err(wrong("the checksum of its armor is another one")),
        _ => Ok(binary),
    }
}

/// Such as `Comment: text`.
fn is_header(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let named = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    named && line.get(name.len()..).is_some_and(|rest| rest.starts_with(b": "))
}

/// Base64; `None` for what no encoder writes.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut binary = Vec::with_capacity(text.len() / 4 * 3);
    let mut groups = text.chunks(4).peekable();
    while let Some(group) = groups.next() {
        let digits =
            if groups.peek().is_some() { group } else { group.strip_suffix(b"==").or(group.strip_suffix(b"=")).unwrap_or(group) };
        let digit = |byte: &u8| ALPHABET.iter().position(|letter| letter == byte);
        let value = digits.iter().try_fold(0_u32, |value, byte| Some(value << 6 | u32::try_from(digit(byte)?).ok()?))?;
        let bits = u32::try_from(digits.len()).ok()? * 6;
        let spare = bits % 8;
        if group.len() != 4 || spare == 6 || value & ((1 << spare) - 1) != 0 {
            return None;
        }
        let bytes = (value >> spare).to_be_bytes();
        binary.extend_from_slice(bytes.get(4 - digits.len() * 6 / 8..)?);
    }
    Some(binary)
}

/// RFC 9580 §6.1.1.
fn crc24(bytes: &[u8]) -> Vec<u8> {
    let bit = |crc: u32, _| if crc & 0x80_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x0186_4cfb };
    let crc = bytes.iter().fold(0x00b7_04ce, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte) << 16, bit) & 0xff_ffff);
    crc.to_be_bytes().get(1..).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "-----BEGIN PGP SIGNATURE-----\nComment: one\n\nYWJj\nZGU=\n=SUM0\n-----END PGP SIGNATURE-----\n";

    #[test]
    fn it_is_read() {
        let sum = encode(&crc24(b"abcde"));
        let whole = WHOLE.replace("SUM0", &sum);
        for text in [
            whole.clone(),
            whole.replace('\n', "\r\n"),
            whole.replace("Comment: one\n", ""),
            whole.replace(&format!("={sum}\n"), ""),
            whole.clone() + "\n \t\r\n",
            whole.trim_end().to_owned(),
        ] {
            assert_eq!(dearmor(text.as_bytes()), Ok(b"abcde".to_vec()), "{text}");
        }
        for (from, to) in [
            ("-----BEGIN", " -----BEGIN"),
            ("-----BEGIN", "\n-----BEGIN"),
            ("SIGNATURE", "MESSAGE"),
            ("one\n\n", "one\n"),
            ("one\n\n", "one\n \n"),
            ("Comment: one", "Comment:one"),
            ("YWJj", "YWJ"),
            ("YWJj", "YW=j"),
            ("YWJj", "YWJ*"),
            ("YWJj\n", "YWJj\n\n"),
            ("ZGU=", "ZGV="),
            ("ZGU=", "Z==="),
            ("ZGU=", "ZGU"),
            (&*format!("={sum}\n"), "=AAAA\n"),
            (&*format!("={sum}\n"), "=AA*A\n"),
            (&*format!("={sum}\n"), "=A\n"),
            ("-----END", "-----BEGIN"),
            ("-----END PGP SIGNATURE-----\n", ""),
            ("-----END PGP SIGNATURE-----\n", "-----END PGP SIGNATURE-----\nx"),
        ] {
            assert!(whole.contains(from), "{from}");
            assert!(dearmor(whole.replacen(from, to, 1).as_bytes()).is_err(), "{from} {to}");
        }
        assert!(dearmor(b"").is_err());
    }

    fn encode(three: &[u8]) -> String {
        let value = three.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
        (0..4).rev().map(|at| char::from(ALPHABET[(value >> (6 * at) & 63) as usize])).collect()
    }

    /// The check value of CRC-24/OPENPGP.
    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc24(b"123456789"), [0x21, 0xcf, 0x02]);
    }
}
