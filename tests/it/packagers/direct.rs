//! Signatures by RSA keys stand before the package managers' own rules, too.

use crate::world::{HOME, scratch, ssh_key, succeed, verify, world};
use std::fs;
use std::process::Command;

const RSA: [&str; 3] = ["rsa2048", "rsa3072", "rsa4096"];

/// rpm signs with whatever writes a signature of its standard input: `ssh` does, without a front end.
#[test]
fn rpm_signs_and_verifies() {
    world();
    let directory = scratch();
    let spec = format!("{directory}/tiny.spec");
    let text = "Name: tiny\nVersion: 1\nRelease: 1\nSummary: tiny\nLicense: none\nBuildArch: noarch\n%description\ntiny\n%files\n";
    fs::write(&spec, text).unwrap();
    succeed(Command::new("rpmbuild").args(["-bb", "--define", &format!("_topdir {directory}"), &spec]).env("HOME", &directory));
    let built = format!("{directory}/RPMS/noarch/tiny-1-1.noarch.rpm");
    for key in RSA {
        let package = format!("{directory}/{key}.rpm");
        fs::copy(&built, &package).unwrap();
        let ssh = format!("ssh -F {HOME}/ssh_config -i {} -T signer@127.0.0.1 sign {key}", ssh_key("build1"));
        let sign = format!("__gpg_sign_cmd /bin/sh sh -c \"exec {ssh} > %{{__signature_filename}}\"");
        let name = format!("_gpg_name {key}");
        succeed(
            Command::new("rpmsign").args(["--define", &sign, "--define", &name, "--addsign", &package]).env("HOME", &directory),
        );

        let database = format!("{directory}/{key}.db");
        let certificate = format!("{directory}/{key}.asc");
        let armored = succeed(Command::new("sigsh-admin").args(["certificate", "show", key, "--armor"])).stdout;
        fs::write(&certificate, armored).unwrap();
        let rpmkeys = |arguments: &[&str]| {
            let mut command = Command::new("rpmkeys");
            command.args(["--dbpath", &database]).args(arguments).output().unwrap()
        };
        let unknown = rpmkeys(&["--checksig", &package]);
        assert!(!unknown.status.success(), "{key}: {unknown:?}");
        assert!(rpmkeys(&["--import", &certificate]).status.success());
        let checked = rpmkeys(&["--checksig", "--verbose", &package]);
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success() && text.contains("Signature, key ID") && !text.contains("00000000"), "{key}: {text}");
    }
}

/// pacman's rules are those of `pacman-key --verify`: gpg, with the key trusted by the local master key.
#[test]
fn pacman_verifies() {
    let data = b"a package";
    let directory = scratch();
    let keyring = format!("{directory}/gnupg");
    let pacman_key = |arguments: &[&str]| succeed(Command::new("pacman-key").args(["--gpgdir", &keyring]).args(arguments));
    world();
    pacman_key(&["--init"]);
    for key in RSA {
        let outcome = world().session("build1", &format!("sign {key}")).run(data);
        verify(key, outcome.signature(), data);
        let (file, signature) = (format!("{directory}/{key}.pkg"), format!("{directory}/{key}.pkg.sig"));
        fs::write(&file, data).unwrap();
        fs::write(&signature, outcome.signature()).unwrap();
        pacman_key(&["--add", &format!("/etc/sigsh/{key}.pgp")]);
        pacman_key(&["--lsign-key", &format!("{key}@example.org")]);
        let verified = pacman_key(&["--verify", &signature, &file]);
        let text = [verified.stdout, verified.stderr].concat();
        assert!(String::from_utf8_lossy(&text).contains("Good signature"), "{key}");
    }
}
