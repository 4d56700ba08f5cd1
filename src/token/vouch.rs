//! Whether a MAC is right: the only secret for that is in this process, for as long as it takes to derive one nonce.

use super::{Fault, Request, printable};
use crate::channel::Channel;
use crate::sys;
use crate::trusted::{self, Trusted};
use crate::warrant::mac::Question;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// How many bytes a file for MACs has: as many at random.
pub const MASTER: usize = 32;

/// What stands before the text that a nonce is derived from, so that the secret never authenticates anything else by it.
const DOMAIN: &[u8] = b"sigsh permit\0";

/// How much of the stack is wiped, in bytes: more than HMAC takes, by far.
const STACK: usize = 64 << 10;

/// What the monitor asks; `None` where it has gone, or asks something else.
pub(super) fn asked(channel: &Channel) -> Option<Question> {
    match channel.receive() {
        Ok(Request::Vouch(question)) => Some(question),
        _ => None,
    }
}

/// Whether the MAC is that of the text. Neither the secret nor anything that was made of it is left in memory.
///
/// # Errors
/// [`Fault::Trust`], [`Fault::Files`].
pub(super) fn is_right(file: &Path, question: &Question) -> Result<bool, Fault> {
    let right = apart(|| authenticates(&nonce(file, &question.permit)?, question));
    wipe_stack();
    right
}

/// Not inlined, like what wipes: all that is left behind stands below the frame of who calls both.
#[inline(never)]
fn apart<T>(body: impl FnOnce() -> T) -> T {
    black_box(body())
}

/// The nonce that belongs to a permit, of [`crate::warrant::mac::LENGTH`] bytes.
///
/// # Errors
/// [`Fault::Trust`], [`Fault::Files`].
pub fn nonce(file: &Path, permit: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
    derive(&master(file)?, permit)
}

fn derive(master: &[u8], permit: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mac = keyed(master)?.chain_update(DOMAIN).chain_update(permit);
    Ok(secret(&mac.finalize().into_bytes()))
}

/// In constant time, and of the whole length alone.
fn authenticates(nonce: &[u8], question: &Question) -> Result<bool, Fault> {
    Ok(keyed(nonce)?.chain_update(&question.text).verify_slice(&question.mac).is_ok())
}

/// Opens the file, if it is as it should be: nobody else's, closed to others, and of [`MASTER`] bytes.
///
/// # Errors
/// [`Fault::Trust`], [`Fault::Files`].
pub fn open(path: &Path) -> Result<Trusted, Fault> {
    let opened = trusted::open(path)?;
    trusted::is_secret(path, &opened.stat)?;
    if opened.stat.st_size == MASTER as i64 {
        Ok(opened)
    } else {
        Err(Fault::Files(printable(&format!("the file for MACs has {} bytes instead of {MASTER}", opened.stat.st_size))))
    }
}

fn master(path: &Path) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut opened = open(path)?;
    let mut master = secret(&[0; MASTER]);
    let failed = |error| Fault::Files(printable(&format!("cannot read the file for MACs: {error}")));
    opened.file.read_exact(&mut master).map_err(failed)?;
    Ok(master)
}

/// A copy that is locked in memory, and wiped when it goes.
fn secret(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let copy = Zeroizing::new(bytes.to_vec());
    let _ = sys::lock_memory(&copy);
    copy
}

fn keyed(key: &[u8]) -> Result<Hmac<Sha512>, Fault> {
    Hmac::new_from_slice(key).map_err(|error| Fault::Files(printable(&error)))
}

/// HMAC leaves its key, padded, on the stack.
#[inline(never)]
fn wipe_stack() {
    let mut stack = [0u8; STACK];
    stack.zeroize();
    black_box(&stack);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    const PERMIT: &str = "permit-v1\nkey 0123456789ABCDEF0123456789ABCDEF01234567\nhost sign1.example.org\nid build-1234\n\
                          not-before 2026-01-02T01:04:05Z\nnot-after 2026-01-02T03:04:05Z\nmax 64\n";

    /// By Python's hmac.digest(bytes(range(32)), b"sigsh permit\0" + PERMIT, "sha512").
    const NONCE: &str = "ad109b69f605e632bacdd70b5a1578b73dd8347a24c89e33718e58e4be27dea0\
                         96c2ba8b1d18b3852732a9e5c2c66a24c572bd3cabceb11a8c41dbc3fde0a226";

    /// By hmac.digest(NONCE, TEXT, "sha512").
    const MAC: &str = "88f0874bd78e1d98ead09f3fbd3c6c7151e52e7620d971b1d92f15d94844d820\
                       96ac67dfa1dbe34370c2951ee97a70cd8815d33b7f75e4cac84a2a19b925793f";

    fn question(mac: &[u8]) -> Question {
        let digest = hex::encode(<Sha512 as sha2::Digest>::digest(b"abc"));
        let text = PERMIT.replace("permit-v1", "endorse-v1") + &format!("size 3\ndigest sha512:{digest}\n");
        Question { permit: PERMIT.to_owned(), text, mac: mac.to_vec() }
    }

    #[test]
    fn the_nonce_and_the_mac_are_those_of_python() {
        let master = (0..32).collect::<Vec<u8>>();
        let nonce = derive(&master, PERMIT).unwrap();
        assert_eq!(hex::encode(&nonce), NONCE);
        let mac = hex::decode(MAC).unwrap();
        assert_eq!(authenticates(&nonce, &question(&mac)), Ok(true));
    }

    #[test]
    fn any_other_mac_text_or_nonce_is_wrong() {
        let (nonce, mac) = (hex::decode(NONCE).unwrap(), hex::decode(MAC).unwrap());
        for (at, bit) in (0..mac.len()).flat_map(|at| [(at, 1), (at, 0x80)]) {
            let (mut other, mut key) = (mac.clone(), nonce.clone());
            other[at] ^= bit;
            key[at] ^= bit;
            assert_eq!(authenticates(&nonce, &question(&other)), Ok(false));
            assert_eq!(authenticates(&key, &question(&mac)), Ok(false));
        }
        for mac in [&mac[..63], &mac[..32], &[], &[&mac[..], &[0]].concat(), &mac.repeat(2)] {
            assert_eq!(authenticates(&nonce, &question(mac)), Ok(false));
        }
        let text = question(&mac).text;
        for (at, _) in text.bytes().enumerate() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(authenticates(&nonce, &Question { text, ..question(&mac) }), Ok(false), "{at}");
        }
    }

    /// What is left there is found, and is gone once that is wiped.
    #[test]
    fn the_stack_is_wiped() {
        let left = || {
            let here = black_box(0u8);
            let (to, mut below) = (std::ptr::from_ref(&here).addr(), vec![0; STACK / 2]);
            let memory = std::fs::File::open("/proc/self/mem").unwrap();
            memory.read_exact_at(&mut below, (to - STACK / 2) as u64).unwrap();
            below.windows(MASTER).filter(|window| window.iter().all(|byte| *byte == 0x71)).count()
        };
        let _ = apart(|| black_box([0x71u8; STACK / 8]).len());
        assert!(left() > 0);
        wipe_stack();
        assert_eq!(left(), 0);
    }

    /// Neither the text of another permit, nor the same one byte later, nor what the secret would authenticate without its tag.
    #[test]
    fn each_permit_has_a_nonce_of_its_own() {
        let master = (0..32).collect::<Vec<u8>>();
        let other = |permit: &str| hex::encode(derive(&master, permit).unwrap());
        for (from, to) in [
            ("0123", "1123"),
            ("sign1", "sign2"),
            ("1234\n", "1235\n"),
            ("01:04:05Z", "01:04:06Z"),
            ("03:04:05Z", "03:04:06Z"),
            ("max 64", "max 65"),
        ] {
            assert_ne!(other(&PERMIT.replace(from, to)), NONCE, "{from}");
        }
        let plain = keyed(&master).unwrap().chain_update(PERMIT).finalize().into_bytes();
        assert_ne!(hex::encode(plain), NONCE);
    }
}
