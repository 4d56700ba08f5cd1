//! KRLs, as `ssh-keygen -k` writes and `ssh-keygen -Q` reads them.

use crate::vouched::{new_key, print};
use crate::world::{scratch, succeed, world};
use sigsh::config::Revoked;
use sigsh::identity::Login;
use sigsh::identity::certificate::Certificate;
use std::fs;
use std::process::Command;

/// Certificates of two authorities, with these serials; and the plain key.
const SERIALS: [u64; 16] = [0, 1, 2, 3, 9, 15, 16, 17, 18, 63, 64, 65, 1000, 70_000, 5_000_000_000, u64::MAX];

struct Subjects {
    authorities: [String; 2],
    keys: [String; 2],
    files: Vec<String>,
}

fn subjects() -> Subjects {
    world();
    let (authorities, keys) = ([new_key("ed25519"), new_key("rsa-2048")], [new_key("ed25519"), new_key("ecdsa-256")]);
    let directory = scratch();
    let mut files = keys.iter().map(|key| format!("{key}.pub")).collect::<Vec<_>>();
    for (ca, key) in [(0, 0), (0, 1), (1, 0)] {
        for serial in SERIALS {
            let copy = format!("{directory}/{ca}-{key}-{serial}");
            fs::copy(format!("{}.pub", keys[key]), format!("{copy}.pub")).unwrap();
            let (serial, id) = (serial.to_string(), format!("build-{}", serial % 7));
            succeed(Command::new("ssh-keygen").args(["-q", "-s", &authorities[ca], "-I", &id, "-z", &serial, &copy]));
            files.push(format!("{copy}-cert.pub"));
        }
    }
    Subjects { authorities, keys, files }
}

impl Subjects {
    /// Of which of them ssh-keygen says that they are revoked; `None` where it cannot read the list.
    fn asked(&self, krl: &str) -> Option<Vec<bool>> {
        let output = Command::new("ssh-keygen").args(["-Q", "-f", krl]).args(&self.files).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let said = text.lines().map(|line| line.ends_with(": REVOKED")).collect::<Vec<_>>();
        (said.len() == self.files.len()).then_some(said)
    }

    fn ours(&self, list: &Revoked) -> Vec<bool> {
        let login = |file: &String| {
            let line = fs::read_to_string(file).unwrap();
            let words = line.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ");
            match Certificate::parse(&words) {
                Some(certificate) => Login::Certificate(certificate),
                None => Login::parse(&format!("publickey {words}\n")).unwrap(),
            }
        };
        self.files.iter().map(|file| list.of(&login(file)).is_some()).collect()
    }
}

#[test]
fn ssh_keygen_and_we_read_the_same() {
    let subjects = subjects();
    let line = |path: &str| fs::read_to_string(format!("{path}.pub")).unwrap();
    let [key, other] = [&subjects.keys[0], &subjects.keys[1]];
    let (ca, certificate) = (&subjects.authorities[0], fs::read_to_string(&subjects.files[3]).unwrap());
    let odd = (1..200).step_by(2).map(|serial| format!("serial: {serial}\n")).collect::<String>();
    let high = (0..5).map(|n| format!("serial: {}\n", u64::MAX - 3 * n)).collect::<String>();
    let everything = format!("{odd}{high}id: build-3\nsha256: {}sha1: {}", line(other), line(key));
    for (spec, authority) in [
        (String::new(), Some(0)),
        ("serial: 1\n".to_owned(), Some(0)),
        ("serial: 1\n".to_owned(), Some(1)),
        ("serial: 1\nserial: 70000\nserial: 5000000000\n".to_owned(), Some(0)),
        ("serial: 2-64\nserial: 18446744073709551615\n".to_owned(), Some(0)),
        (odd, Some(0)),
        (high, Some(0)),
        ("serial: 16\nserial: 18\nserial: 63-65\n".to_owned(), Some(1)),
        ("id: build-1\nid: build-6\nid: build\n".to_owned(), Some(0)),
        (format!("key: {}", line(key)), None),
        (format!("sha1: {}", line(key)), None),
        (format!("sha256: {}", line(other)), None),
        (format!("hash: {}\n", print(other)), None),
        (line(ca), None),
        (format!("sha1: {}", line(ca)), None),
        (certificate, None),
        (everything, Some(0)),
    ] {
        let directory = scratch();
        let (path, krl) = (format!("{directory}/spec"), format!("{directory}/krl"));
        fs::write(&path, &spec).unwrap();
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-k", "-f", &krl]);
        // Without an authority it is one for all; ssh-keygen wants one for serials and ids.
        let none = format!("{directory}/none");
        match authority {
            Some(number) => command.args(["-s", &format!("{}.pub", subjects.authorities[number])]),
            None => command.args(["-z", "1"]),
        };
        fs::write(&none, "").unwrap();
        succeed(command.arg(&path));
        let bytes = fs::read(&krl).unwrap();
        let list = Revoked::parse(&bytes).unwrap_or_else(|error| panic!("{spec}: {error:?}"));
        assert_eq!(Some(subjects.ours(&list)), subjects.asked(&krl), "{spec}");
    }
    // Of every authority.
    let directory = scratch();
    let (path, krl) = (format!("{directory}/spec"), format!("{directory}/krl"));
    fs::write(&path, "serial: 9\nserial: 1000\nid: build-4\n").unwrap();
    succeed(Command::new("ssh-keygen").args(["-q", "-k", "-f", &krl, "-s", "none", &path]));
    let list = Revoked::parse(&fs::read(&krl).unwrap()).unwrap();
    assert_eq!(Some(subjects.ours(&list)), subjects.asked(&krl));
    assert_eq!(subjects.ours(&list).iter().filter(|revoked| **revoked).count(), 9);
}

#[test]
fn what_ssh_keygen_cannot_read_is_no_list() {
    world();
    let (ca, key, directory) = (new_key("ed25519"), new_key("ed25519"), scratch());
    let (path, krl) = (format!("{directory}/spec"), format!("{directory}/krl"));
    let public = fs::read_to_string(format!("{key}.pub")).unwrap();
    let odd = (1..100).step_by(2).map(|serial| format!("serial: {serial}\n")).collect::<String>();
    let spec = format!("{odd}serial: 500-700\nserial: 5000000000\nid: a\nkey: {public}sha1: {public}sha256: {public}");
    fs::write(&path, spec).unwrap();
    succeed(Command::new("ssh-keygen").args(["-q", "-k", "-f", &krl, "-s", &format!("{ca}.pub"), &path]));
    let good = fs::read(&krl).unwrap();
    let reads = |bytes: &[u8]| {
        fs::write(&krl, bytes).unwrap();
        let output = Command::new("ssh-keygen").args(["-Q", "-f", &krl, &format!("{key}.pub")]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().contains(": ")
    };
    assert!(reads(&good) && Revoked::parse(&good).is_ok());
    let mut altered = (9..good.len()).map(|length| good[..length].to_vec()).collect::<Vec<_>>();
    for at in 8..good.len() {
        for byte in [0, 1, 4, 0x39, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            altered.push(bad);
        }
    }
    let accepted = altered.iter().filter(|bad| Revoked::parse(bad).is_ok()).collect::<Vec<_>>();
    // Only a key's or an id's own bytes, serials, and what nobody looks at can be others.
    for bad in accepted.iter().step_by(accepted.len().div_ceil(60)) {
        assert!(reads(bad), "{bad:02x?}");
    }
}
