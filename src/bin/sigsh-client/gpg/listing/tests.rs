//! Listings of the real gpg, made again from what they say.

use super::{Certificate, Key, Uid, Usage};
use crate::gpg::call::{Half, Keyid};
use crate::gpg::home::Home;
use std::time::SystemTime;

/// A key as a record and the one of its fingerprint have it.
fn key(record: &[&str], fingerprint: &str) -> Key {
    let usage = |letter| record[11].contains(letter);
    Key {
        fingerprint: fingerprint.to_string(),
        algorithm: record[3].parse().unwrap(),
        bits: record[2].parse().unwrap(),
        curve: ["ed25519", "cv25519", "nistp256", "nistp384"].into_iter().find(|&it| it == record[16]),
        created: record[5].parse().unwrap(),
        expires: record[6].parse().ok(),
        revoked: false,
        usage: Usage { sign: usage('s'), certify: usage('c'), encrypt: usage('e'), authenticate: usage('a') },
        secret: record[14] == "+",
    }
}

/// Reads a listing; and the same listing without what ours does not have: keygrips, hashes of user ids, compliance.
fn read(listing: &str) -> (Certificate, String) {
    let (mut keys, mut uids, mut rest) = (Vec::new(), Vec::new(), String::new());
    let mut last = Vec::new();
    for line in listing.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        match fields[0] {
            "grp" => continue,
            "tru" => continue,
            "sec" | "ssb" | "pub" | "sub" => {
                last = fields.clone();
                fields[17] = "";
            }
            "fpr" => keys.push(key(&last, fields[9])),
            "uid" => {
                let name = fields[9].replace("\\x3a", ":").replace("\\x5c", "\\");
                uids.push(Uid { name, created: fields[5].parse().unwrap() });
                fields[7] = "";
            }
            other => panic!("{other}"),
        }
        rest += &(fields.join(":") + "\n");
    }
    let subkeys = keys.split_off(1);
    (Certificate { primary: keys.remove(0), subkeys, uids }, rest)
}

#[test]
fn listings_are_those_of_gpg() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
    for (algorithm, subkeys) in [
        ("ed25519", &["ed25519 sign 2y", "cv25519 encr never", "ed25519 auth never"][..]),
        ("nistp256", &["nistp384/ecdsa sign,auth 5y"]),
        ("rsa2048", &["rsa3072 sign never", "rsa2048 encr 10y", "rsa2048 sign 1d"]),
        ("rsa4096", &[]),
    ] {
        let home = Home::empty();
        let user = r"Über: the \\ <t@x>";
        let made =
            home.run(&format!("--faked-system-time 20240229T010203 --quick-generate-key '{user}' {algorithm} sign,cert 12y"));
        assert!(made.status.success());
        let fingerprint = home.fingerprint();
        for subkey in subkeys {
            let added = home.run(&format!("--faked-system-time 20240301T000000 --quick-add-key {fingerprint} {subkey}"));
            assert!(added.status.success(), "{subkey}");
        }
        let (certificate, colons) = read(&home.gpg("--with-colons -K"));
        assert_eq!(certificate.colons(Half::Secret, now), colons);
        for (option, with_secret) in [("", false), ("--with-secret", true)] {
            let half = Half::Public { with_secret };
            assert_eq!(certificate.colons(half, now), read(&home.gpg(&format!("--with-colons -k {option}"))).1);
            assert_eq!(certificate.people(half, Keyid::None, now), home.gpg(&format!("-k {option} {fingerprint}")));
        }
        assert_eq!(certificate.names(&fingerprint).primary, fingerprint);
        for (keyid, name) in [
            (Keyid::None, "none"),
            (Keyid::Short, "short"),
            (Keyid::HexShort, "0xshort"),
            (Keyid::Long, "long"),
            (Keyid::HexLong, "0xlong"),
        ] {
            assert_eq!(certificate.people(Half::Secret, keyid, now), home.gpg(&format!("--keyid-format {name} -K {fingerprint}")));
        }
        let last = certificate.primary.expires.unwrap();
        for time in [last - 60, last + 1] {
            let faked = format!("--faked-system-time {time}");
            assert_eq!(certificate.colons(Half::Secret, time), read(&home.gpg(&format!("{faked} --with-colons -K"))).1);
            assert_eq!(certificate.people(Half::Secret, Keyid::None, time), home.gpg(&format!("{faked} -K {fingerprint}")));
        }
    }
}

#[test]
fn what_a_token_does_not_hold_is_marked() {
    let home = Home::with_key("ed25519");
    let fingerprint = home.fingerprint();
    assert!(home.run(&format!("--quick-add-key {fingerprint} ed25519 sign")).status.success());
    let (all, _) = read(&home.gpg("--with-colons -K"));
    let halves = home.run("--export-secret-subkeys").stdout;
    let other = Home::empty();
    std::fs::write(other.path("subkeys"), halves).unwrap();
    assert!(other.run("--import subkeys").status.success());
    // Nobody trusts that copy ultimately.
    assert!(other.run(&format!("--import-ownertrust {}", ownertrust(&other, &fingerprint))).status.success());
    let (halved, colons) = read(&other.gpg("--with-colons -K"));
    assert_eq!(halved.colons(Half::Secret, all.primary.created), colons);
    assert_eq!(halved.people(Half::Secret, Keyid::None, all.primary.created), other.gpg(&format!("-K {fingerprint}")));
    assert!(colons.contains(":#::ed25519") && colons.contains(":+::ed25519"));
}

fn ownertrust(home: &Home, fingerprint: &str) -> String {
    let file = home.path("trust");
    std::fs::write(&file, format!("{fingerprint}:6:\n")).unwrap();
    file.to_str().unwrap().to_string()
}
