//! Whose key a call of gpg means: one of ours, or one of the caller's own.

use super::BuildServer;
use crate::world::{Outcome, finish, succeed, verify};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

/// A home of the real gpg with a new key: its path, the key's fingerprint, its certificate.
pub fn keyring(server: &BuildServer, name: &str, uid: &str) -> (String, String, String) {
    let home = server.path(name);
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();
    let gpg = |line: &str| {
        let words = shlex::split(&format!("--homedir {home} --batch {line}")).unwrap();
        succeed(&mut server.program("/usr/bin/gpg", &words.iter().map(String::as_str).collect::<Vec<_>>())).stdout
    };
    gpg(&format!("--passphrase '' --quick-generate-key '{uid}' ed25519 sign never"));
    let listed = String::from_utf8(gpg("--with-colons --list-secret-keys")).unwrap();
    let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).unwrap().trim_end_matches(':').to_owned();
    let certificate = server.write(&format!("{name}.pgp"), gpg("--export"));
    (home, fingerprint, certificate)
}

fn call(server: &BuildServer, line: &str) -> Outcome {
    finish(server.gpg(line), b"x")
}

/// Which key would sign.
fn considered(outcome: &Outcome) -> Option<String> {
    let line = outcome.err.lines().find_map(|line| line.strip_prefix("[GNUPG:] KEY_CONSIDERED "));
    line.map(|line| line.split(' ').next().unwrap().to_owned())
}

#[test]
fn a_name_means_one_key() {
    let server = BuildServer::new("build1", &["ed25519"], "log = false");
    let (_, pre, pre_file) = keyring(&server, ".pre", "Pre <prerelease@example.org>");
    let (_, release, release_file) = keyring(&server, ".release", "Release <release@example.org>");
    let (_, twin, twin_file) = keyring(&server, ".twin", "Release <twin@example.org>");
    let (_, other, other_file) = keyring(&server, ".other", "Other Release <twin@example.org>");
    let table = [("a", pre_file), ("b", release_file.clone()), ("c", twin_file), ("d", other_file), ("e", release_file)];
    let keys = table.map(|(name, file)| format!("[key.{name}]\ncertificate = \"{file}\"\n")).concat();
    server.write(".config/sigsh/client.toml", format!("hosts = [\"h\"]\ndefault-key = \"a\"\nlog = false\n{keys}"));
    for (spec, key) in [
        ("release@example.org", &release),
        ("RELEASE@example.org", &release),
        ("<release@example.org>", &release),
        ("=Release <release@example.org>", &release),
        ("Release <release@example.org>", &release),
        ("prerelease@example.org", &pre),
        ("*prerelease", &pre),
        ("Release <twin@example.org>", &twin),
        ("Other Release <twin@example.org>", &other),
        (&release, &release),
        (&other[24..], &other),
    ] {
        let outcome = call(&server, &format!("--status-fd 2 -nb -u '{spec}'"));
        assert_eq!((outcome.code, considered(&outcome).as_ref()), (Some(0), Some(key)), "{spec}: {outcome:?}");
    }
    for spec in ["twin@example.org", "<TWIN@example.org>", "*release", "*twin"] {
        for how in ["-nb", "--clearsign -n"] {
            let outcome = call(&server, &format!("{how} -u '{spec}'"));
            let said =
                format!("sigsh-gpg: error: several keys here are called '{spec}'\nsigsh-gpg: hint: name one by its fingerprint\n");
            assert_eq!((outcome.code, outcome.err, outcome.out.len()), (Some(2), said, 0), "{spec}");
        }
        // A listing shows all that are called so.
        let listed = String::from_utf8(call(&server, &format!("--with-colons -K '{spec}'")).out).unwrap();
        assert!(listed.contains(&twin) && listed.contains(&other), "{listed}");
    }
    // A part of a name is none of ours; the real gpg has no such key.
    for spec in ["elease@example.org", "Release", "@example.org", "@release@example.org"] {
        let outcome = call(&server, &format!("--batch --status-fd 2 -b -u '{spec}'"));
        assert_eq!((outcome.code, considered(&outcome), outcome.out.len()), (Some(2), None, 0), "{spec}: {outcome:?}");
    }
}

/// A package's tests make a key and throw it away: it signs, and never the key that is meant for packages.
#[test]
fn a_keyring_of_the_callers_is_its_own() {
    let server = BuildServer::new("build1", &["ed25519"], "log = false");
    let (home, key, _) = keyring(&server, ".throwaway", "Test <test@example.org>");
    let with = |home: &str, line: &str| {
        let mut command = server.gpg(line);
        command.env("GNUPGHOME", home);
        finish(command, b"x")
    };
    let option = |line: &str| call(&server, &format!("--homedir {home} {line}"));
    let by_it = |outcome: &Outcome| {
        assert!(outcome.code == Some(0) && outcome.err.contains(&format!(" {key}\n")), "{outcome:?}");
    };
    for line in ["--batch --status-fd 2 -b", "--batch --status-fd 2 --clearsign", "--batch --status-fd 2 --sign"] {
        by_it(&with(&home, line));
        by_it(&option(line));
    }
    let elsewhere = server.path("nowhere.kbx");
    for line in [&format!("--no-default-keyring --keyring {elsewhere} --batch -b"), "--secret-keyring x --homedir /nowhere -b"] {
        let outcome = call(&server, line);
        assert_eq!((outcome.code, outcome.out.len()), (Some(2), 0), "{line}: {outcome:?}");
        assert!(outcome.err.contains("gpg: "), "{outcome:?}");
    }
    let listed = String::from_utf8(with(&home, "--with-colons -K").out).unwrap();
    assert!(listed.matches("sec:").count() == 1 && listed.contains(&key), "{listed}");
    // What is named is ours even so; and a home without a secret key, which dpkg wants to be there, changes nothing.
    let named = with(&home, "-b -u ed25519@example.org");
    verify("ed25519", &named.out, b"x");
    let empty = server.path(".empty");
    fs::create_dir_all(format!("{empty}/private-keys-v1.d")).unwrap();
    verify("ed25519", &with(&empty, "-b").out, b"x");
    verify("ed25519", &with("", "-b").out, b"x");
    // Nor does the user's own keyring; it is listed after ours.
    symlink(&home, server.path(".gnupg")).unwrap();
    verify("ed25519", &call(&server, "-b").out, b"x");
    let listed = String::from_utf8(call(&server, "--with-colons --list-secret-keys").out).unwrap();
    let users = listed.lines().filter(|line| line.starts_with("uid:")).collect::<Vec<_>>();
    assert!(users[0].contains("ed25519@example.org") && users[1].contains("test@example.org") && users.len() == 2, "{listed}");
}

#[test]
fn where_nothing_is_configured_all_keys_are_the_real_gpgs() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    fs::remove_dir_all(server.path(".config")).unwrap();
    let (home, key, _) = keyring(&server, ".gnupg", "Own <own@example.org>");
    for line in [
        "--batch --status-fd 2 -b -u own@example.org",
        "--batch --status-fd 2 --sign -u own@example.org",
        &format!("--homedir {home} --batch --status-fd 2 --clearsign"),
        "--with-colons -K own@example.org",
        "--with-colons -k own@example.org",
        &format!("--homedir {home} --with-colons -K"),
        "--batch --export own@example.org",
        &format!("--homedir {home} --batch --export"),
    ] {
        let outcome = call(&server, line);
        assert!(outcome.code == Some(0) && !outcome.out.is_empty(), "{line}: {outcome:?}");
        let text = [String::from_utf8_lossy(&outcome.out).into_owned(), outcome.err].concat();
        assert!(line.contains("--export") || text.contains(&key), "{line}: {text}");
    }
    for line in ["-b", "--clearsign", "--sign", "-K", "-k", "--export"] {
        let outcome = call(&server, line);
        let first = outcome.err.lines().next().unwrap();
        assert_eq!((outcome.code, outcome.out.len()), (Some(2), 0), "{line}: {outcome:?}");
        assert_eq!(first, "sigsh-gpg: error: no certificate is configured", "{line}");
    }
}

/// A certificate is enough to list it, and to know that another key is not ours.
#[test]
fn only_a_signature_needs_a_host() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let (_, key, _) = keyring(&server, ".gnupg", "Own <own@example.org>");
    fs::remove_dir_all(server.path(".config")).unwrap();
    let call = |line: &str| {
        let mut command = server.gpg(line);
        command.env("SIGSH_CERTIFICATE", "/etc/sigsh/ed25519.pgp");
        finish(command, b"x")
    };
    let listed = call("--with-colons -K ed25519@example.org");
    assert!(listed.code == Some(0) && listed.out.starts_with(b"sec:"), "{listed:?}");
    let exported = call("--export ed25519@example.org");
    assert_eq!((exported.code, exported.out), (Some(0), fs::read("/etc/sigsh/ed25519.pgp").unwrap()));
    let signed = call("--batch --status-fd 2 -b -u own@example.org");
    assert!(signed.code == Some(0) && signed.err.contains(&key), "{signed:?}");
    let refused = call("-b");
    assert!(refused.err.starts_with("sigsh-gpg: error: no host is configured\n") && refused.out.is_empty(), "{refused:?}");
}
