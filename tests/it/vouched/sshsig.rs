//! What `ssh-keygen -Y verify` refuses, sigsh refuses: each bit of an endorsement, and each way to write it down.

use crate::vouched::{base64, certify, dearmor, new_key, print, ssh_sign};
use crate::world::{HOST, scratch};
use sha2::{Digest as _, Sha512};
use sigsh::config::Revoked;
use sigsh::hash_state::HashAlgorithm;
use sigsh::request::Digest;
use sigsh::warrant::ssh::Authorities;
use sigsh::warrant::{Place, Subject};
use std::fs::{self, File};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

struct Signed {
    ca: String,
    armored: Vec<u8>,
}

fn signed(kind: &str) -> Signed {
    crate::world::world();
    let (ca, build) = (new_key(kind), new_key(kind));
    let grant = format!("critical:grant@sigsh=host={HOST};max=64");
    let words = ["-I", "id", "-n", "build@release", "-V", "-5m:+2h", "-z", "7", "-O", "clear", "-O", &grant];
    let armored = ssh_sign(&certify(&ca, &build, &words), "artifact@sigsh", b"data", &[]);
    Signed { ca, armored }
}

impl Signed {
    fn authorities(&self) -> Authorities {
        let revoked = Rc::new(Revoked::default());
        Authorities::new(vec![print(&self.ca).try_into().unwrap()], &revoked, Duration::from_secs(24 * 60 * 60))
    }

    /// What ssh-keygen says.
    fn verifies(&self) -> impl Fn(&[u8]) -> bool {
        let directory = scratch();
        let ca = fs::read_to_string(format!("{}.pub", self.ca)).unwrap();
        fs::write(format!("{directory}/allowed"), format!("build@release cert-authority {ca}")).unwrap();
        fs::write(format!("{directory}/data"), "data").unwrap();
        move |armored| {
            fs::write(format!("{directory}/sig"), armored).unwrap();
            let mut command = Command::new("ssh-keygen");
            command.args(["-Y", "verify", "-I", "build@release", "-n", "artifact@sigsh", "-f"]);
            command.args([format!("{directory}/allowed"), "-s".to_owned(), format!("{directory}/sig")]);
            command.stdin(File::open(format!("{directory}/data")).unwrap()).output().unwrap().status.success()
        }
    }
}

fn subject() -> Subject {
    Subject {
        key: "release".to_owned().try_into().unwrap(),
        fingerprint: "AB".repeat(20),
        size: 4,
        digest: Digest { algorithm: HashAlgorithm::Sha512, bytes: Sha512::digest(b"data").to_vec() },
        place: Place { host: HOST.to_owned(), fleet: None },
        requester: "build1".to_owned().try_into().unwrap(),
    }
}

fn armor(blob: &[u8]) -> Vec<u8> {
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", base64(blob)).into_bytes()
}

#[test]
fn no_bit_of_it_is_free() {
    for kind in ["ed25519", "ecdsa-256", "rsa-2048"] {
        let signed = signed(kind);
        let (authorities, subject, now, good) = (signed.authorities(), subject(), SystemTime::now(), dearmor(&signed.armored));
        assert!(authorities.permit(&subject, &good, now).is_ok());
        // One of each byte where looking at it costs more.
        let (bits, step) = (8 * good.len(), if kind == "rsa-2048" { 9 } else { 1 });
        for bit in (0..bits).step_by(step) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(authorities.permit(&subject, &bad, now).is_err(), "{kind}: bit {bit}");
        }
        for length in 0..good.len() {
            assert!(authorities.permit(&subject, &good[..length], now).is_err(), "{kind}: {length} bytes");
        }
    }
}

#[test]
fn each_second_counts() {
    let signed = signed("ed25519");
    let (authorities, blob) = (signed.authorities(), dearmor(&signed.armored));
    let permit = authorities.permit(&subject(), &blob, SystemTime::now()).unwrap();
    let (begin, end, second) = (permit.quota.since, permit.expires, Duration::from_secs(1));
    assert_eq!(end.duration_since(begin).unwrap().as_secs(), 7500);
    let at = |time| authorities.permit(&subject(), &blob, time).map(drop).map_err(|error| error.to_string());
    let refused = |why: &str| Err(format!("the endorsement is by a certificate that {why}"));
    for (time, result) in [
        (begin - second, refused("becomes valid in 1 second")),
        (begin - Duration::from_millis(1), refused("becomes valid in 1 second")),
        (begin, Ok(())),
        (end - second, Ok(())),
        (end - Duration::from_millis(1), Ok(())),
        (end, refused("expired 0 seconds ago")),
        (end + second, refused("expired 1 second ago")),
        (SystemTime::UNIX_EPOCH - second, refused(&format!("becomes valid in {} days", days(begin)))),
    ] {
        assert_eq!(at(time), result, "{time:?}");
    }
    // As long as its validity is what a key permits at most.
    for (max, good) in [(7500, true), (7499, false)] {
        let key = vec![print(&signed.ca).try_into().unwrap()];
        let authorities = Authorities::new(key, &Rc::new(Revoked::default()), Duration::from_secs(max));
        assert_eq!(authorities.permit(&subject(), &blob, end - second).is_ok(), good);
    }
}

fn days(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 86_400
}

/// Whatever is accepted here, ssh-keygen accepts.
#[test]
fn ssh_keygen_agrees() {
    let signed = signed("ed25519");
    let (authorities, verifies, good) = (signed.authorities(), signed.verifies(), dearmor(&signed.armored));
    let permits = |endorsement: &[u8]| authorities.permit(&subject(), endorsement, SystemTime::now()).is_ok();
    assert!(verifies(&signed.armored) && permits(&signed.armored));
    let text = String::from_utf8(signed.armored.clone()).unwrap();
    let (begin, end) = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----");
    let one_line = String::from_utf8(armor(&good)).unwrap();
    for (armored, good) in [
        (one_line.clone(), true),
        (text.replace('\n', "\r\n"), false),
        (text.trim_end().to_owned(), true),
        (format!("{text}\n"), true),
        (text.replace('\n', "\r"), false),
        (format!("\n{text}"), false),
        (format!("text\n{text}"), false),
        (format!("{text}text\n"), false),
        (format!("{text}{text}"), false),
        (text.replace(begin, "-----BEGIN SSH SIGNATUR-----"), false),
        (text.replace(begin, &format!("{begin}\nVersion: 1\n")), false),
        (text.replace(end, ""), false),
        (text.replace("=\n", "\n"), false),
        (text.replace(&format!("\n{end}"), &format!("AAAA\n{end}")), false),
        (text.replace("U1NIU0lH", "U1NIU0l"), false),
        (text.replace("U1NIU0lH", "U1NI U0lH"), false),
        (text.replace("U1NIU0lH", "U1NI-0lH"), false),
    ] {
        let ours = permits(armored.as_bytes());
        assert!(!ours || verifies(armored.as_bytes()), "{armored}");
        assert_eq!(ours, good, "{armored}");
    }
    // Each field made longer and shorter, and each length a lie.
    let mut altered = vec![[&good[..], b"\0"].concat(), good[1..].to_vec()];
    for at in (0..good.len()).step_by(5) {
        for byte in [0, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            altered.push(bad);
        }
        let mut longer = good.clone();
        longer.insert(at, 0);
        altered.push(longer);
        altered.push([&good[..at], &good[at + 1..]].concat());
    }
    for bad in altered.iter().filter(|bad| **bad != good) {
        assert!(!permits(bad), "{bad:02x?}");
    }
    assert!(altered.iter().step_by(7).all(|bad| *bad == good || !verifies(&armor(bad))));
}
