//! The gpg that a build host's tools find.

use super::fixture::{own, run};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

pub struct Front {
    /// What goes first into PATH.
    pub directory: String,
    pub environment: HashMap<String, String>,
    /// The key's whole fingerprint, in upper case.
    pub fingerprint: String,
    pub user_id: String,
    /// The certificate that verifiers are given, binary; and the same armored.
    pub certificate: String,
    pub armored: String,
}

const GNUPGHOME: &str = "/srv/gnupg";

/// Makes the front end's directory for one host.
pub fn front(key: &str, willing: bool, home: &str) -> Front {
    let fingerprint = local(key);
    let directory = format!("{home}/{}", if willing { "bin" } else { "refusing" });
    fs::create_dir(&directory).unwrap();
    let refuse = if willing { "" } else { "for a; do case $a in -s*|-b*|--detach*|--clear*|--sign) exit 2; esac; done\n" };
    let digest = "case \" $* \" in *\" --openpgp --detach-sign \"*) shift; set -- --digest-algo SHA512 \"$@\"; esac\n";
    for (name, text) in [
        ("gpg", format!("#!/bin/sh\n{refuse}{digest}exec /usr/bin/gpg --default-key {fingerprint} \"$@\"\n")),
        ("gpgconf", format!("#!/bin/sh\n/usr/bin/gpgconf \"$@\" | sed 's,/usr/bin/gpg$,{directory}/gpg,'\n")),
    ] {
        let path = format!("{directory}/{name}");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let certificate = format!("{home}/certificate.pgp");
    let armored = format!("{home}/certificate.asc");
    for (path, how) in [(&certificate, "--no-armor"), (&armored, "--armor")] {
        gpg(&["--yes", how, "-o", path, "--export", &fingerprint]);
        own(path);
    }
    let environment = HashMap::from([("GNUPGHOME".to_owned(), GNUPGHOME.to_owned())]);
    let user_id = format!("Test {key} <{key}@example.org>");
    Front { directory, environment, fingerprint, user_id, certificate, armored }
}

fn local(key: &str) -> String {
    static MADE: OnceLock<Mutex<HashMap<String, String>>> = OnceLock::new();
    let mut made = MADE.get_or_init(Default::default).lock().unwrap();
    if let Some(fingerprint) = made.get(key) {
        return fingerprint.clone();
    }
    if made.is_empty() {
        fs::create_dir(GNUPGHOME).unwrap();
        own(GNUPGHOME);
        fs::set_permissions(GNUPGHOME, fs::Permissions::from_mode(0o700)).unwrap();
    }
    gpg(&["--passphrase", "", "--quick-gen-key", &format!("Test {key} <{key}@example.org>"), key, "sign", "never"]);
    let list = gpg(&["--with-colons", "--list-keys", &format!("{key}@example.org")]);
    let line = list.lines().find(|line| line.starts_with("fpr:")).unwrap();
    let fingerprint = line.split(':').nth(9).unwrap().to_owned();
    made.insert(key.to_owned(), fingerprint.clone());
    fingerprint
}

fn gpg(arguments: &[&str]) -> String {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "packager", "--regid", "packager", "--init-groups", "--", "gpg", "--quiet", "--batch"]);
    run(command.args(arguments).env("GNUPGHOME", GNUPGHOME)).succeeds()
}
