//! gpgme itself, on which reprepro, ostree and flatpak stand: what it asks gpg, and what it makes of the answers.

use super::fixture::{Host, run};
use std::fs;

#[test]
fn gpgme_finds_the_key_and_understands_the_signature() {
    let script = fs::read_to_string("tests/gpgme.py").unwrap();
    for (key, algorithm) in [("rsa4096", 1), ("ed25519", 303)] {
        let host = Host::new(key);
        host.write("gpgme.py", &script);
        host.write("data", "through gpgme\n");
        let fpr = &host.front.fingerprint;
        for spec in [fpr, &fpr[24..], &fpr[32..], &format!("0x{}", &fpr[24..]), &format!("{key}@example.org"), &host.front.user_id]
        {
            let text = host.signs("python3", &["gpgme.py", "data", spec]);
            let said = text.split_once(":\n").unwrap().1;
            // Detached is mode 1 and class 0; a cleartext is mode 2 and class 1. 10 is SHA-512.
            assert_eq!(
                said,
                format!("{spec} public {fpr} 1 0\n{spec} secret {fpr} 1 1\n1 {algorithm} 10 0 {fpr}\n2 {algorithm} 10 1 {fpr}\n")
            );
            host.gpgv("data.asc", "data");
            let text = host.verifies("gpgv", &["--keyring", &host.front.certificate, "--output", "-", "data.clear"]);
            assert!(text.contains("\nthrough gpgme\n"), "{text}");
        }
        host.has_no_keyring();
        let stranger = "nobody@example.org";
        run(host.signer("python3").args(["gpgme.py", "data", stranger])).fails(1, "gpgme_op_keylist_next: End of file");
        let refused = host.refusing(key);
        run(refused.signer("python3").args(["gpgme.py", "data", fpr])).fails(1, "gpgme_op_sign: ");
    }
}
