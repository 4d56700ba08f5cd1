//! The same listings, by gpg and of the certificates that it exports.

use super::Certificate;
use crate::gpg::call::{Half, Keyid};
use crate::gpg::facts::seconds;
use crate::gpg::home::Home;
use sigsh::openpgp::Pinned;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn exported(home: &Home, now: SystemTime, secret: impl Fn(&str) -> bool) -> Certificate {
    let pinned = Pinned::read(&home.run("--export").stdout).unwrap();
    let policy = sequoia_openpgp::policy::StandardPolicy::new();
    Certificate::of(&pinned.certs()[0], &policy, now, secret).unwrap()
}

/// gpg's listing without what ours does not have: keygrips, hashes of user ids, compliance.
fn colons(home: &Home, line: &str, list: &str) -> String {
    let mut rest = String::new();
    for line in home.gpg(&format!("{line} --with-colons {list}")).lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        match fields[0] {
            "grp" | "tru" => continue,
            "sec" | "ssb" | "pub" | "sub" => fields[17] = "",
            "uid" => fields[7] = "",
            _ => {}
        }
        rest += &(fields.join(":") + "\n");
    }
    rest
}

#[test]
fn listings_are_those_of_gpg() {
    for (algorithm, subkeys) in [
        ("ed25519", &["ed25519 sign 2y", "cv25519 encr never", "ed25519 auth never"][..]),
        ("nistp256", &["nistp384/ecdsa sign 5y", "nistp256/ecdsa sign 1d", "nistp521 encr 5y"]),
        ("rsa2048", &["rsa3072 sign never", "rsa2048 encr 10y", "rsa2048 sign 1d"]),
        ("rsa4096", &[]),
    ] {
        let home = Home::empty();
        let user = r"Über: the \\ <t@x>";
        let made =
            home.run(&format!("--faked-system-time 20240229T010203 --quick-generate-key '{user}' {algorithm} sign,cert 12y"));
        assert!(made.status.success());
        let fingerprint = home.fingerprint();
        for (day, subkey) in subkeys.iter().enumerate() {
            let added = home.run(&format!("--faked-system-time 2024030{}T000000 --quick-add-key {fingerprint} {subkey}", day + 1));
            assert!(added.status.success(), "{subkey}");
        }
        let now = SystemTime::now();
        let certificate = exported(&home, now, |_| true);
        let now = seconds(now);
        for (list, half) in [
            ("-K", Half::Secret),
            ("-k", Half::Public { with_secret: false }),
            ("-k --with-secret", Half::Public { with_secret: true }),
        ] {
            assert_eq!(certificate.colons(half, now), colons(&home, "", list));
            assert_eq!(certificate.people(half, Keyid::None, now), home.gpg(&format!("{list} {fingerprint}")));
        }
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
        // gpg's faked clock goes on.
        for time in [last - 60, last + 1] {
            let faked = format!("--faked-system-time {time}");
            let certificate = exported(&home, UNIX_EPOCH + Duration::from_secs(time.into()), |_| true);
            assert_eq!(certificate.colons(Half::Secret, time), colons(&home, &faked, "-K"));
            assert_eq!(certificate.people(Half::Secret, Keyid::None, time), home.gpg(&format!("{faked} -K {fingerprint}")));
        }
    }
}

#[test]
fn what_a_token_does_not_hold_is_marked() {
    let home = Home::with_key("ed25519");
    let primary = home.fingerprint();
    assert!(home.run(&format!("--quick-add-key {primary} ed25519 sign")).status.success());
    assert!(home.run(&format!("--quick-add-uid {primary} 'Later <l@x>'")).status.success());
    assert!(home.run(&format!("--quick-set-primary-uid {primary} 'Test <t@x>'")).status.success());
    let other = Home::empty();
    std::fs::write(other.path("subkeys"), home.run("--export-secret-subkeys").stdout).unwrap();
    std::fs::write(other.path("trust"), format!("{primary}:6:\n")).unwrap();
    assert!(other.run("--import subkeys").status.success() && other.run("--import-ownertrust trust").status.success());
    let now = SystemTime::now();
    let certificate = exported(&home, now, |it| it != primary);
    let now = seconds(now);
    let listing = certificate.colons(Half::Secret, now);
    assert_eq!(listing, colons(&other, "", "-K"));
    assert_eq!(certificate.people(Half::Secret, Keyid::None, now), other.gpg(&format!("-K {primary}")));
    assert!(listing.contains(":#::ed25519") && listing.contains(":+::ed25519"));
}

#[test]
fn a_certificate_is_called_by_what_it_bears() {
    let home = Home::with_key("ed25519");
    let primary = home.fingerprint();
    let now = SystemTime::now();
    let names = exported(&home, now, |_| true).names(seconds(now));
    assert_eq!((&names.primary, names.signers, names.uids), (&primary, vec![primary.clone()], vec!["Test <t@x>".to_string()]));
    for (subkey, signers) in [("cv25519 encr", 1), ("ed25519 sign", 2)] {
        assert!(home.run(&format!("--quick-add-key {primary} {subkey}")).status.success());
        let now = SystemTime::now();
        assert_eq!(exported(&home, now, |_| true).names(seconds(now)).signers.len(), signers, "{subkey}");
    }
}
