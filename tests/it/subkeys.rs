//! A primary key that is elsewhere, and a signing subkey in the token: which certificates sign, which do not, and what is said of them.

use crate::world::{
    HOME, Outcome, PIN, PIN_FILE, Session, account, as_account, faulty, field, fingerprint, finish_child, scratch, softhsm,
    succeed, world,
};
use openpgp::cert::{CertRevocationBuilder, SubkeyRevocationBuilder, UserIDRevocationBuilder};
use openpgp::crypto::KeyPair;
use openpgp::packet::key::{Key4, SecretParts, UnspecifiedRole};
use openpgp::packet::signature::SignatureBuilder;
use openpgp::packet::{Key, UserID};
use openpgp::parse::Parse;
use openpgp::serialize::SerializeInto;
use openpgp::types::{HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType};
use openpgp::{Cert, Packet};
use sequoia_openpgp as openpgp;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

const BAD: &str = "the key's certificate cannot be used";
const DAY: u64 = 24 * 3600;

/// 2020-01-01: when everything was made.
const MADE: u64 = 1_577_836_800;

/// Seeds of Ed25519 keys. The token holds A and B; of the primary key it knows nothing.
const PRIMARY: u8 = 1;
const A: u8 = 2;
const B: u8 = 3;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn key(seed: u8, made: u64) -> Key<SecretParts, UnspecifiedRole> {
    Key::from(Key4::<SecretParts, UnspecifiedRole>::import_secret_ed25519(&[seed; 32], at(made)).unwrap())
}

fn pair(seed: u8, made: u64) -> KeyPair {
    key(seed, made).into_keypair().unwrap()
}

fn primary() -> KeyPair {
    pair(PRIMARY, MADE)
}

fn builder(kind: SignatureType, made: u64) -> SignatureBuilder {
    SignatureBuilder::new(kind).set_hash_algo(HashAlgorithm::SHA512).set_signature_creation_time(at(made)).unwrap()
}

/// What can be told of a key or a user id: for how long it is valid, in seconds from 2020 on, or when its binding ends.
#[derive(Clone, Copy, Default)]
struct Terms {
    lasts: Option<u64>,
    bound: Option<u64>,
}

const FOR_EVER: Terms = Terms { lasts: None, bound: None };

fn lasts(seconds: u64) -> Terms {
    Terms { lasts: Some(seconds), bound: None }
}

fn bound(seconds: u64) -> Terms {
    Terms { lasts: None, bound: Some(seconds) }
}

/// A certificate in the making.
#[derive(Clone)]
struct Maker(Cert);

impl Maker {
    fn add(self, packets: Vec<Packet>) -> Maker {
        Maker(self.0.insert_packets(packets).unwrap().0)
    }

    /// A primary key that certifies, and one user id.
    fn new(terms: Terms) -> Maker {
        Maker::able(KeyFlags::empty().set_certification(), terms)
    }

    fn able(flags: KeyFlags, terms: Terms) -> Maker {
        let public = key(PRIMARY, MADE).role_into_primary().parts_into_public();
        let cert = Cert::from_packets([Packet::from(public)].into_iter()).unwrap();
        Maker(cert).user_id("Release <release@example.org>", flags, terms)
    }

    fn user_id(self, text: &str, flags: KeyFlags, terms: Terms) -> Maker {
        let id = UserID::from(text);
        let binding = builder(SignatureType::PositiveCertification, MADE).set_key_flags(flags).unwrap();
        let mut binding = binding.set_key_validity_period(terms.lasts.map(Duration::from_secs)).unwrap();
        if let Some(bound) = terms.bound {
            binding = binding.set_signature_validity_period(Duration::from_secs(bound)).unwrap();
        }
        let binding = binding.sign_userid_binding(&mut primary(), None, &id).unwrap();
        self.add(vec![id.into(), binding.into()])
    }

    fn subkey(self, seed: u8, made: u64, terms: Terms) -> Maker {
        self.subkey_by(seed, made, terms, MADE.max(made), Some(pair(seed, made)))
    }

    /// A signing subkey that was bound at this time, with a signature of its own by `by`.
    fn subkey_by(self, seed: u8, made: u64, terms: Terms, when: u64, by: Option<KeyPair>) -> Maker {
        let subkey = key(seed, made).role_into_subordinate().parts_into_public();
        let ours = self.0.primary_key().key().clone();
        let mut binding = builder(SignatureType::SubkeyBinding, when).set_key_flags(KeyFlags::empty().set_signing()).unwrap();
        binding = binding.set_key_validity_period(terms.lasts.map(Duration::from_secs)).unwrap();
        if let Some(bound) = terms.bound {
            binding = binding.set_signature_validity_period(Duration::from_secs(bound)).unwrap();
        }
        if let Some(mut by) = by {
            let back = builder(SignatureType::PrimaryKeyBinding, when).sign_primary_key_binding(&mut by, &ours, &subkey).unwrap();
            binding = binding.set_embedded_signature(back).unwrap();
        }
        let binding = binding.sign_subkey_binding(&mut primary(), Some(&ours), &subkey).unwrap();
        self.add(vec![subkey.into(), binding.into()])
    }

    fn encryption_subkey(self) -> Maker {
        let subkey = Key::from(Key4::<SecretParts, _>::generate_ecc(false, openpgp::types::Curve::Cv25519).unwrap());
        let subkey = subkey.parts_into_public();
        let binding = builder(SignatureType::SubkeyBinding, now()).set_key_flags(KeyFlags::empty().set_transport_encryption());
        let binding = binding.unwrap().sign_subkey_binding(&mut primary(), None, &subkey).unwrap();
        self.add(vec![subkey.into(), binding.into()])
    }

    fn revoke(self, reason: ReasonForRevocation, when: u64) -> Maker {
        let revocation = CertRevocationBuilder::new().set_reason_for_revocation(reason, b"").unwrap();
        let revocation = revocation.set_signature_creation_time(at(when)).unwrap().build(&mut primary(), &self.0, None).unwrap();
        self.add(vec![revocation.into()])
    }

    fn revoke_subkey(self, seed: u8, made: u64, reason: ReasonForRevocation, when: u64) -> Maker {
        let subkey = key(seed, made).role_into_subordinate().parts_into_public();
        let revocation = SubkeyRevocationBuilder::new().set_reason_for_revocation(reason, b"").unwrap();
        let revocation = revocation.set_signature_creation_time(at(when)).unwrap();
        let revocation = revocation.build(&mut primary(), &self.0, &subkey, None).unwrap();
        self.add(vec![revocation.into()])
    }

    fn revoke_user_id(self, text: &str, when: u64) -> Maker {
        let revocation = UserIDRevocationBuilder::new().set_reason_for_revocation(ReasonForRevocation::UIDRetired, b"").unwrap();
        let revocation = revocation.set_signature_creation_time(at(when)).unwrap();
        let revocation = revocation.build(&mut primary(), &self.0, &UserID::from(text), None).unwrap();
        self.add(vec![revocation.into()])
    }

    /// Writes it, and a configuration for it and the token's key of this name.
    fn configure(&self, object: &str) -> (PathBuf, String) {
        world();
        let name = scratch().rsplit('/').next().unwrap().to_owned();
        let certificate = format!("/etc/sigsh/{name}.pgp");
        fs::write(&certificate, self.0.export_to_vec().unwrap()).unwrap();
        (configure(&name, &certificate, object), certificate)
    }
}

/// A configuration of one key, in a token that holds keys A and B.
fn configure(name: &str, certificate: &str, object: &str) -> PathBuf {
    static TOKEN: OnceLock<()> = OnceLock::new();
    TOKEN.get_or_init(|| {
        softhsm("subkeys");
        for (seed, label) in [(A, "a"), (B, "b")] {
            // RFC 8410 §7: PKCS#8 of an Ed25519 key.
            let der = [b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".as_slice(), &[seed; 32]].concat();
            let file = format!("{}/key", scratch());
            fs::write(format!("{file}.der"), der).unwrap();
            let mut openssl = Command::new("openssl");
            succeed(openssl.args(["pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-in", &format!("{file}.der"), "-out", &file]));
            import(&file, "subkeys", label);
        }
    });
    let path = PathBuf::from(format!("/etc/sigsh/{name}.toml"));
    fs::write(&path, configuration("subkeys", certificate, object)).unwrap();
    path
}

fn configuration(token: &str, certificate: &str, object: &str) -> String {
    format!(
        "account = \"signer\"\n[token.hsm]\nmodule = \"/usr/lib/softhsm/libsofthsm2.so\"\nuri = \"pkcs11:token={token}\"\n\
         pin-file = \"{PIN_FILE}\"\nsandbox = \"softhsm\"\nread = [\"/var/lib/sigsh/tokens\"]\n\
         environment = {{ SOFTHSM2_CONF = \"/etc/sigsh/softhsm2.conf\" }}\n\
         [key.k]\ntoken = \"hsm\"\nuri = \"pkcs11:object={object}\"\ncertificate = \"{certificate}\"\n\
         [client.build1]\nssh-keys = [\"{}\"]\nkeys = [\"k\"]\n[limits]\nrefusals = \"1000000/s\"\n",
        fingerprint("build1")
    )
}

fn import(file: &str, token: &str, label: &str) {
    let (uid, gid) = account();
    chown(file, Some(uid), Some(gid)).unwrap();
    let mut command = as_account("softhsm2-util");
    command.args(["--import", file, "--token", token, "--label", label, "--id", &hex::encode(label), "--pin", PIN]);
    succeed(command.env("SOFTHSM2_CONF", "/etc/sigsh/softhsm2.conf"));
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn day(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(at(seconds)).to_string()[..10].to_owned()
}

fn fpr(seed: u8, made: u64) -> String {
    key(seed, made).fingerprint().to_hex()
}

fn sign(config: &Path) -> Outcome {
    Session::new(config).client("build1").run(b"artifact")
}

/// Demands a signature that gpgv and sqv accept, by this key and no other.
#[track_caller]
fn signs(what: &str, config: &Path, certificate: &str, by: &str) {
    let outcome = sign(config);
    let signature = outcome.signature();
    assert_eq!(field(&outcome.records[1], "SIGSH_FINGERPRINT"), by, "{what}");
    let Packet::Signature(packet) = Packet::from_bytes(signature).unwrap() else { panic!("{what}") };
    assert_eq!(packet.issuer_fingerprints().map(|it| it.to_hex()).collect::<Vec<_>>(), [by], "{what}");
    assert_eq!(packet.issuers().map(|it| it.to_hex()).collect::<Vec<_>>(), [&by[24..]], "{what}");
    let directory = scratch();
    let (sig, file) = (format!("{directory}/f.sig"), format!("{directory}/f"));
    fs::write(&sig, signature).unwrap();
    fs::write(&file, b"artifact").unwrap();
    succeed(Command::new("gpgv").args(["--keyring", certificate, &sig, &file]).env("GNUPGHOME", HOME));
    succeed(Command::new("sqv").args(["--keyring", certificate, &sig, &file]));
}

#[test]
fn a_subkey_signs() {
    const OLD: u64 = MADE + 100 * DAY;
    let plain = || Maker::new(FOR_EVER).subkey(A, MADE, FOR_EVER);
    let both = || plain().subkey(B, OLD, FOR_EVER);
    let second = "Second <second@example.org>";
    let certify = KeyFlags::empty().set_certification();
    for (what, maker, object, by) in [
        ("alone", plain(), "a", fpr(A, MADE)),
        ("beside one for encryption", plain().encryption_subkey(), "a", fpr(A, MADE)),
        (
            "of a primary key that signs, too",
            Maker::able(certify.set_signing(), FOR_EVER).subkey(A, MADE, FOR_EVER),
            "a",
            fpr(A, MADE),
        ),
        ("beside its successor", both(), "a", fpr(A, MADE)),
        ("beside its predecessor", both(), "b", fpr(B, OLD)),
        ("beside an expired one", plain().subkey(B, OLD, lasts(DAY)), "a", fpr(A, MADE)),
        ("beside a revoked one", both().revoke_subkey(B, OLD, ReasonForRevocation::KeyCompromised, OLD + DAY), "a", fpr(A, MADE)),
        ("beside one without its own signature", plain().subkey_by(B, OLD, FOR_EVER, OLD, None), "a", fpr(A, MADE)),
        (
            "extended",
            Maker::new(FOR_EVER).subkey(A, MADE, lasts(DAY)).subkey_by(A, MADE, FOR_EVER, OLD, Some(pair(A, MADE))),
            "a",
            fpr(A, MADE),
        ),
        (
            "with a user id that was revoked, and one that was not",
            plain().user_id(second, KeyFlags::empty().set_certification(), FOR_EVER).revoke_user_id(second, OLD),
            "a",
            fpr(A, MADE),
        ),
    ] {
        let (config, certificate) = maker.configure(object);
        signs(what, &config, &certificate, &by);
    }
}

#[test]
fn a_certificate_that_is_not_good_does_not_sign() {
    use ReasonForRevocation::{KeyCompromised, KeyRetired, KeySuperseded, Unspecified};
    const WHEN: u64 = MADE + 500 * DAY;
    let plain = || Maker::new(FOR_EVER).subkey(A, MADE, FOR_EVER);
    let later = WHEN + 100 * DAY;
    let dead = |why: &str| format!("the certificate has no live signing key: {} {why}", fpr(A, MADE));
    let revoked = format!("the certificate was revoked on {}", day(WHEN));
    let mut rows = vec![
        ("expired", Maker::new(lasts(500 * DAY)).subkey(A, MADE, FOR_EVER), format!("the certificate expired on {}", day(WHEN))),
        (
            "expired before its subkey",
            Maker::new(lasts(DAY)).subkey(A, MADE, lasts(5000 * DAY)),
            "the certificate expired on 2020-01-02".into(),
        ),
        ("subkey expired", Maker::new(FOR_EVER).subkey(A, MADE, lasts(500 * DAY)), dead(&format!("expired on {}", day(WHEN)))),
        (
            "no longer bound",
            Maker::new(FOR_EVER).subkey(A, MADE, bound(500 * DAY)),
            dead(&format!("was bound until {}", day(WHEN))),
        ),
        (
            "user id no longer bound",
            Maker::new(bound(500 * DAY)).subkey(A, MADE, FOR_EVER),
            "the certificate is not valid: ".into(),
        ),
        (
            "no user id left",
            plain().revoke_user_id("Release <release@example.org>", WHEN),
            format!("the certificate has no user id left: the last was revoked on {}", day(WHEN)),
        ),
        (
            "no cross-certification",
            Maker::new(FOR_EVER).subkey_by(A, MADE, FOR_EVER, MADE, None),
            "the certificate has no key that may sign".into(),
        ),
        (
            "cross-certified by another",
            Maker::new(FOR_EVER).subkey_by(A, MADE, FOR_EVER, MADE, Some(pair(B, MADE))),
            "the certificate has no key that may sign".into(),
        ),
        ("no signing key", Maker::new(FOR_EVER).encryption_subkey(), "the certificate has no key that may sign".into()),
        (
            "the key of another",
            Maker::new(FOR_EVER).subkey(B, MADE, FOR_EVER),
            "the certificate is not that of the key in the token".into(),
        ),
        (
            "revoked, beside a live one",
            plain().revoke_subkey(A, MADE, KeyRetired, WHEN).subkey(B, MADE, FOR_EVER),
            format!("the certificate has live signing keys, but not the token's: {} was revoked on {}", fpr(A, MADE), day(WHEN)),
        ),
        (
            "the same key twice",
            plain().subkey(A, MADE + DAY, FOR_EVER),
            "the certificate has several signing keys, and the token does not show which one it holds".into(),
        ),
        (
            "both dead",
            plain().revoke_subkey(A, MADE, KeyRetired, WHEN).subkey(B, MADE, lasts(DAY)),
            format!("{}, {} expired on 2020-01-02", dead(&format!("was revoked on {}", day(WHEN))), fpr(B, MADE)),
        ),
    ];
    for reason in [KeyCompromised, Unspecified, KeySuperseded, KeyRetired] {
        rows.push(("revoked", plain().revoke(reason, WHEN), revoked.clone()));
        rows.push(("subkey revoked", plain().revoke_subkey(A, MADE, reason, WHEN), dead(&format!("was revoked on {}", day(WHEN)))));
        // For gpg a revocation is final.
        let again = plain().revoke_subkey(A, MADE, reason, WHEN).subkey_by(A, MADE, FOR_EVER, later, Some(pair(A, MADE)));
        rows.push(("subkey revoked and bound again", again, dead(&format!("was revoked on {}", day(WHEN)))));
    }
    for (what, maker, reason) in rows {
        let (config, _) = maker.configure("a");
        let outcome = sign(&config);
        assert_eq!(outcome.code, Some(78), "{what}: {outcome:?}");
        outcome.fails(78, BAD, "refused", &reason);
        let events = outcome.records.iter().map(|record| field(record, "SIGSH_EVENT")).collect::<Vec<_>>();
        let asked =
            ["the key in the token", "the token does not show", "not the token's"].iter().any(|words| reason.contains(words));
        assert_eq!(events, if asked { vec!["intent", "refused"] } else { vec!["refused"] }, "{what}");
    }
}

/// Where the token tells nothing of its keys, one key is the certificate's, and of several nobody knows which.
#[test]
fn a_token_that_shows_no_public_key() {
    let (one, two) = (Maker::new(FOR_EVER).subkey(A, MADE, FOR_EVER), Maker::new(FOR_EVER).subkey(A, MADE, FOR_EVER));
    for (maker, good) in [(one, true), (two.subkey(B, MADE, FOR_EVER), false)] {
        let (_, certificate) = maker.configure("a");
        let (config, count) = faulty(
            "no-public",
            &[
                ("pkcs11:token=release", "pkcs11:token=subkeys"),
                ("pkcs11:object=ed25519;id=%07", "pkcs11:object=a"),
                ("/etc/sigsh/ed25519.pgp", &certificate),
            ],
        );
        let outcome = Session::new(config).client("build1").request("sign ed25519").run(b"artifact");
        if good {
            outcome.signature();
        } else {
            outcome.fails(78, BAD, "refused", "the certificate has several signing keys, and the token does not show which one");
            let both = field(&outcome.records[0], "SIGSH_FINGERPRINT").split(' ').collect::<Vec<_>>();
            assert!(both.len() == 2 && both.contains(&fpr(A, MADE).as_str()), "{both:?}");
        }
        assert_eq!(crate::world::calls(&count, "C_SignInit"), usize::from(good));
    }
}

/// The last byte comes when key, certificate or binding have expired, which was not so when the first came.
#[test]
fn an_upload_that_outlives_the_key() {
    world();
    // The first of them makes the token, which takes its time.
    Maker::new(FOR_EVER).subkey(A, MADE, FOR_EVER).configure("a");
    let end = now() + 10;
    let made = end - 100;
    let rows = [
        (Maker::new(lasts(end - MADE)).subkey(A, MADE, FOR_EVER), "the certificate expired on "),
        (Maker::new(FOR_EVER).subkey(A, made, lasts(100)), " expired on "),
        (Maker::new(FOR_EVER).subkey(A, made, bound(100)), " was bound until "),
        // Another one is alive all the time, but the token, once it is asked, has this one.
        (Maker::new(FOR_EVER).subkey(A, made, lasts(100)).subkey(B, MADE, FOR_EVER), " expired on "),
    ];
    let started = rows.map(|(maker, reason)| (Session::new(maker.configure("a").0).client("build1").start(), reason));
    while now() <= end {
        std::thread::sleep(Duration::from_millis(100));
    }
    for (child, reason) in started {
        let outcome = finish_child(child, b"artifact");
        outcome.fails(78, BAD, "refused", &format!("{reason}{}", day(end)));
        let events = outcome.records.iter().map(|record| field(record, "SIGSH_EVENT")).collect::<Vec<_>>();
        assert!(events == ["refused"] || events == ["intent", "refused"], "{outcome:#?}");
        assert_eq!(field(&outcome.records[0], "SIGSH_SIZE"), "8", "{outcome:#?}");
    }
}

fn check(config: &Path) -> (Option<i32>, Vec<String>) {
    let sshd = format!("{HOME}/sshd_config");
    let output = Command::new("sigsh-admin").arg("--config").arg(config).args(["check", "--sshd-config", &sshd]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().filter(|line| line.contains("key 'k'")).map(str::to_owned).collect())
}

#[test]
fn check_tells_of_subkeys_and_warns_in_time() {
    // Half a day more: the days that are left are counted later.
    let (now, spare) = (now(), DAY / 2);
    let age = now - MADE;
    let of =
        format!("key 'k' signs; subkey {} of certificate {} of Release <release@example.org>", fpr(A, MADE), fpr(PRIMARY, MADE));
    let soon = |days| format!("it expires on {}, in {days} days; extend it, or replace it", day(now + days * DAY + spare));
    for (maker, until, days) in [
        (Maker::new(FOR_EVER).subkey(A, MADE, FOR_EVER), "without expiry".to_owned(), None),
        (Maker::new(FOR_EVER).subkey(A, MADE, lasts(age + 61 * DAY)), format!("until {}", day(now + 61 * DAY)), None),
        (
            Maker::new(FOR_EVER).subkey(A, MADE, lasts(age + 59 * DAY + spare)),
            format!("until {}", day(now + 59 * DAY + spare)),
            Some(59),
        ),
        (
            Maker::new(lasts(age + 10 * DAY + spare)).subkey(A, MADE, FOR_EVER),
            format!("until {}", day(now + 10 * DAY + spare)),
            Some(10),
        ),
        (Maker::new(FOR_EVER).subkey(A, MADE, bound(age + DAY + spare)), format!("until {}", day(now + DAY + spare)), Some(1)),
    ] {
        let (code, lines) = check(&maker.configure("a").0);
        let mut expected = vec![format!("ok: {of}, {until}")];
        expected.extend(days.map(|days| format!("warning: key 'k': {}", soon(days))));
        assert_eq!((code, lines), (Some(0), expected));
    }
    for (maker, error) in [
        (Maker::new(lasts(DAY)).subkey(A, MADE, FOR_EVER), "the certificate expired on 2020-01-02".to_owned()),
        (
            Maker::new(FOR_EVER).subkey(A, MADE, FOR_EVER).revoke(ReasonForRevocation::KeyRetired, MADE + DAY),
            "the certificate was revoked on 2020-01-02".to_owned(),
        ),
        (
            Maker::new(FOR_EVER).subkey(A, MADE, lasts(DAY)),
            format!("the certificate has no live signing key: {} expired on 2020-01-02", fpr(A, MADE)),
        ),
    ] {
        assert_eq!(check(&maker.configure("a").0), (Some(1), vec![format!("error: key 'k': {error}")]));
    }
}

/// The commands of sigsh-admin(8), on one machine and without a terminal: the passphrases come from here.
const AROUND: &str = r#"
set -eux
umask 022
cd "$1"
export GNUPGHOME="$1/home"
mkdir -m 0700 home
openssl() { if [ "$1" = pkcs12 ]; then command openssl "$@" -passout pass:x; else command openssl "$@"; fi; }
gpgsm() { echo x | command gpgsm --batch --pinentry-mode loopback --passphrase-fd 0 "$@"; }
gpg() { command gpg --no-tty --pinentry-mode loopback --passphrase x "$@"; }
sigsh-admin() { :; }
gpg --batch --quick-generate-key 'Offline <offline@example.org>' ed25519 cert 10y
primary=$(gpg --batch --with-colons --list-keys | awk -F: '$1 == "fpr" { print $10; exit }')
"#;

#[test]
fn an_operator_gets_there_with_gpg() {
    world();
    softhsm("offline");
    let page = include_str!("../../docs/man/sigsh-admin.8.md");
    let section = page.split_once("# AN OFFLINE PRIMARY KEY").unwrap().1.split_once("\n# ").unwrap().0;
    let commands = section.lines().filter_map(|line| line.strip_prefix("    ")).collect::<Vec<_>>().join("\n");
    let certificate = "/etc/sigsh/offline.pgp";
    let here = commands.replace("--token release", "--token offline").replace("/etc/sigsh/release.pgp", certificate);
    assert!(here.lines().count() > 10 && here.matches("offline").count() == 2, "{here}");
    let directory = scratch();
    // dash has no functions with a dash in their names.
    succeed(Command::new("bash").args(["-c", &format!("{AROUND}\n{here}"), "bash", &directory]));
    let _ = Command::new("gpgconf").args(["--homedir", &format!("{directory}/home"), "--kill", "all"]).status();

    let path = PathBuf::from("/etc/sigsh/offline.toml");
    fs::write(&path, configuration("offline", certificate, "release;id=%01")).unwrap();
    let listing =
        succeed(Command::new("gpg").args(["--batch", "--homedir", &scratch(), "--with-colons", "--show-keys", certificate]));
    let listing = String::from_utf8(listing.stdout).unwrap();
    let subkey = listing.split_once("\nsub:").unwrap().1.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).unwrap();
    signs("gpg's", &path, certificate, subkey.trim_end_matches(':'));
    let (code, lines) = check(&path);
    assert_eq!((code, lines.len()), (Some(0), 1), "{lines:?}");
    assert!(lines[0].contains(" of Offline <offline@example.org>, until 20"), "{lines:?}");
}
