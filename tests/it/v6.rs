//! Version 6 of OpenPGP: certificates and signatures by every kind of key, judged by the sqv of Debian 13. That of Debian 12 and gpgv
//! know nothing of it.

use crate::trixie;
use crate::world::{KEYS, Session, changed, field, scratch, succeed, world};
use openpgp::packet::{Packet, Signature};
use openpgp::parse::Parse;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::SerializeInto;
use openpgp::types::{PublicKeyAlgorithm, SignatureType};
use sequoia_openpgp as openpgp;
use sha2::{Digest, Sha512};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The host's keys with certificates of version 6.
pub fn config() -> &'static Path {
    static CONFIG: OnceLock<PathBuf> = OnceLock::new();
    CONFIG.get_or_init(|| {
        world();
        let config = with(&[]);
        for key in KEYS {
            let id = format!("Test {key} <{key}@example.org>");
            succeed(admin(&config).args(["certificate", "create", key, "--openpgp", "v6", "--expires", "10y", "--user-id", &id]));
        }
        config
    })
}

fn with(more: &[(&str, &str)]) -> PathBuf {
    let paths = KEYS.map(|key| (format!("\"/etc/sigsh/{key}.pgp\""), format!("\"{}\"", certificate(key))));
    let changes = paths.iter().map(|(old, new)| (old.as_str(), new.as_str())).chain(more.iter().copied());
    changed(&changes.collect::<Vec<_>>())
}

pub fn certificate(key: &str) -> String {
    format!("/etc/sigsh/v6-{key}.pgp")
}

fn admin(config: &Path) -> Command {
    let mut command = Command::new("sigsh-admin");
    command.arg("--config").arg(config);
    command
}

fn session(request: &str) -> Session {
    Session::new(config()).client("build1").request(request)
}

/// The salt of a signature, after a look at the rest of it.
#[track_caller]
fn salt(signature: &[u8], kind: SignatureType) -> Vec<u8> {
    let Packet::Signature(Signature::V6(signature)) = Packet::from_bytes(signature).unwrap() else { panic!("no v6 signature") };
    assert_eq!((signature.typ(), signature.issuers().count(), signature.issuer_fingerprints().count()), (kind, 0, 1));
    assert_ne!(signature.pk_algo(), PublicKeyAlgorithm::EdDSA);
    signature.salt().to_vec()
}

#[test]
fn every_kind_of_key() {
    let data = b"two lines \nof text";
    for key in KEYS {
        for (more, kind, mode) in [
            ("", SignatureType::Binary, "artifact"),
            (" --armor", SignatureType::Binary, "artifact"),
            (" --type text", SignatureType::Text, "text"),
        ] {
            let outcome = session(&format!("sign {key}{more}")).run(data);
            trixie::verify(&certificate(key), outcome.signature(), data);
            assert_eq!(salt(&outcome.out, kind).len(), 32);
            // The digest of the file is the hasher's word: what is signed has a salt before it.
            for record in &outcome.records {
                assert_eq!((field(record, "SIGSH_MODE"), field(record, "SIGSH_CLAIMED")), (mode, "yes"));
                assert_eq!((field(record, "SIGSH_SIZE"), field(record, "SIGSH_FINGERPRINT").len()), ("18", 64));
                assert_eq!(field(record, "SIGSH_SHA512"), hex::encode(Sha512::digest(data)));
            }
        }
        let outcome = session(&format!("sign {key} --cleartext")).run(data);
        assert!(
            outcome.signature().starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----\n\ntwo lines \nof text\n-----BEGIN PGP SIGNATURE")
        );
        assert_eq!(trixie::cleartext(&certificate(key), &outcome.out).as_deref(), Some(&b"two lines\nof text"[..]));
    }
}

/// Sizes around a block, which the salt shifts.
#[test]
fn sizes_around_a_block() {
    for size in [0usize, 1, 31, 32, 63, 64, 95, 96, 97, 127, 128, 129, 1 << 20] {
        let data = (0..size).map(|n| (n % 251) as u8).collect::<Vec<_>>();
        let outcome = session(&format!("sign ed25519 --size {size}")).run(&data);
        trixie::verify(&certificate("ed25519"), outcome.signature(), &data);
    }
}

/// RFC 9580 §9.5: as long as the hash wants it, and another one for each signature.
#[test]
fn each_salt_is_fresh() {
    for (hash, length) in [("sha256", 16), ("sha384", 24), ("sha512", 32)] {
        config();
        let hashed = format!("[key.nistp256]\nhash = \"{hash}\"\n");
        let config = with(&[("[key.nistp256]\n", &hashed)]);
        let salts = [(); 3].map(|()| {
            let outcome = Session::new(&config).client("build1").request("sign nistp256").run(b"the same");
            trixie::verify(&certificate("nistp256"), outcome.signature(), b"the same");
            salt(&outcome.out, SignatureType::Binary)
        });
        assert!(salts.iter().all(|salt| salt.len() == length), "{salts:?}");
        assert!(salts[0] != salts[1] && salts[1] != salts[2] && salts[0] != salts[2], "{salts:?}");
    }
}

#[test]
fn certificates() {
    for key in KEYS {
        let outcome = session(&format!("certificate {key}")).run(b"");
        assert_eq!((outcome.code, &outcome.out), (Some(0), &fs::read(certificate(key)).unwrap()));
        let cert = openpgp::Cert::from_bytes(&outcome.out).unwrap();
        let primary = cert.primary_key();
        assert_eq!((primary.key().version(), cert.userids().count(), cert.keys().count()), (6, 1, 1));
        assert!(key != "ed25519" || primary.key().pk_algo() == PublicKeyAlgorithm::Ed25519);
        // What concerns the key stands in its own signature, and only there (RFC 9580 §10.1.1).
        let direct = primary.self_signatures().collect::<Vec<_>>();
        assert_eq!((direct.len(), direct[0].typ(), direct[0].version()), (1, SignatureType::DirectKey, 6));
        let flags = direct[0].key_flags().unwrap();
        assert!(flags.for_signing() && flags.for_certification() && !flags.for_authentication());
        assert!(direct[0].features().is_some() && direct[0].preferred_hash_algorithms().is_some());
        assert_eq!(direct[0].key_validity_period().unwrap().as_secs() / 86400 / 365, 10);
        let bindings = cert.userids().next().unwrap().self_signatures().collect::<Vec<_>>();
        assert_eq!((bindings.len(), bindings[0].version(), bindings[0].key_flags()), (1, 6, None));
        assert_eq!(cert.with_policy(&StandardPolicy::new(), None).unwrap().keys().for_signing().count(), 1);
    }
    let shown = succeed(admin(config()).args(["certificate", "show", "ed25519", "--armor"])).stdout;
    assert!(shown.starts_with(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"));
    // Without the option it is version 4, and a wrong version is told.
    let help = String::from_utf8(succeed(Command::new("sigsh-admin").args(["certificate", "create", "--help"])).stdout).unwrap();
    assert!(help.contains("[default: v4]") && help.contains("[possible values: v4, v6]"), "{help}");
}

#[test]
fn check_signs_with_each_of_them() {
    let output = admin(config()).arg("check").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for key in KEYS {
        assert!(said.lines().any(|line| line.starts_with(&format!("ok: key '{key}' signs; certificate "))), "{said}");
    }
}

#[test]
fn the_certificate_of_another_key() {
    config();
    for (key, other) in [("ed25519", "nistp256"), ("nistp256", "rsa2048"), ("rsa2048", "rsa3072"), ("nistp384", "nistp256")] {
        let (from, to) = (format!("\"{}\"", certificate(key)), format!("\"{}\"", certificate(other)));
        let mut config = fs::read_to_string(with(&[])).unwrap();
        config = config.replacen(&from, &to, 1);
        let path = format!("/etc/sigsh/v6-other-{key}.toml");
        fs::write(&path, config).unwrap();
        let outcome = Session::new(&path).client("build1").request(&format!("sign {key}")).run(b"data");
        outcome.fails(78, "the key's certificate cannot be used", "refused", "is not that of the key in the token");
    }
}

#[test]
fn apt_of_debian_13() {
    config();
    trixie::apt("v6", &certificate("ed25519"), |release| session("sign ed25519 --cleartext").run(release).signature().to_vec());
}

/// RFC 9980's example of a post-quantum signature. What docs/PACKAGERS.md says of today's verifiers; one that takes it one day makes
/// that page wrong.
#[test]
fn post_quantum_signatures_before_verifiers_of_today() {
    world();
    let directory = scratch();
    let example = |name: &str| fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rfc9980").join(name)).unwrap();
    let (armored, signature) = (example("mldsa-65-certificate.asc"), example("mldsa-65-signature.asc"));
    let path = |name: &str| format!("{directory}/{name}");
    let certificate = openpgp::Cert::from_bytes(&armored).unwrap();
    fs::write(path("certificate"), SerializeInto::to_vec(&certificate).unwrap()).unwrap();
    fs::write(path("certificate.asc"), armored).unwrap();
    fs::write(path("text.asc"), &signature).unwrap();
    fs::write(path("text"), "Testing\n").unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output =
            command.args(arguments).current_dir(&directory).env("GNUPGHOME", &directory).env("LC_ALL", "C").output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    for (program, arguments, why) in [
        ("gpgv", &["--keyring", "./certificate", "text.asc", "text"][..], "packet(2) with unknown version 6"),
        ("gpg", &["--import", "certificate"], "packet(6) with unknown version 6"),
        ("sqv", &["--keyring", "certificate", "text.asc", "text"], "Malformed"),
        ("rpmkeys", &["--dbpath", &path("db"), "--import", "certificate.asc"], "key 1 not an armored public key"),
    ] {
        let (good, said) = run(program, arguments);
        assert!(!good && said.contains(why), "{program}: {said}");
    }
    assert!(!trixie::accepts(&path("certificate"), &signature, b"Testing\n"));
    let (good, said) = run("sigsh-client", &["--certificate", "certificate.asc", "verify", "text"]);
    assert!(good && said.contains("A3E2E14B6A493FF930FB27321F125E9A6880338BE9FB7DA3AE065EA65793242F"), "{said}");
}
