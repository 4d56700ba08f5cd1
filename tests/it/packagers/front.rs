//! The gpg that a build host's tools find: sigsh-client, which signs on the world's host through its sshd.

use super::fixture::own;
use crate::world::{HOME, ssh_key, succeed, world};
use sigsh::openpgp::Pinned;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

pub struct Front {
    /// What goes first into PATH.
    pub directory: String,
    /// The client's configuration.
    pub config: String,
    /// Where its connections are.
    pub runtime: String,
    /// The key's whole fingerprint, in upper case.
    pub fingerprint: String,
    pub user_id: String,
    /// The certificate that verifiers are given, binary; and the same armored.
    pub certificate: String,
    pub armored: String,
}

impl Front {
    /// That of one host, which knows this key; to sigsh it is this client.
    pub fn new(key: &str, client: &str, home: &str) -> Front {
        world();
        let front = Front {
            directory: format!("{home}/bin"),
            config: format!("{home}/{client}.toml"),
            runtime: format!("{home}/run"),
            fingerprint: fingerprint(key),
            user_id: format!("Test {key} <{key}@example.org>"),
            certificate: format!("{home}/certificate.pgp"),
            armored: format!("{home}/certificate.asc"),
        };
        fs::write(&front.config, configuration(key, client, home)).unwrap();
        fs::copy(format!("/etc/sigsh/{key}.pgp"), &front.certificate).unwrap();
        fs::write(&front.armored, succeed(Command::new("sigsh-admin").args(["certificate", "show", key, "--armor"])).stdout)
            .unwrap();
        if !fs::exists(&front.runtime).unwrap() {
            fs::create_dir(&front.runtime).unwrap();
            own(&front.runtime);
            fs::set_permissions(&front.runtime, fs::Permissions::from_mode(0o700)).unwrap();
        }
        front
    }

    /// The configuration with another text in place of one of its texts.
    pub fn change(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        fs::write(&self.config, text.replace(from, to)).unwrap();
    }
}

/// With a private ssh key that only the account can read.
fn configuration(key: &str, client: &str, home: &str) -> String {
    let identity = format!("{home}/{client}_key");
    if !fs::exists(&identity).unwrap() {
        fs::copy(ssh_key(client), &identity).unwrap();
        own(&identity);
        fs::set_permissions(&identity, fs::Permissions::from_mode(0o400)).unwrap();
    }
    format!(
        "hosts = [\"signer@127.0.0.1\"]\nssh-options = [\"-F\", \"{HOME}/ssh_config\", \"-i\", \"{identity}\"]\nlog = \"{home}/log\"\n\
         [key.{key}]\ncertificate = \"{home}/certificate.pgp\"\n"
    )
}

fn fingerprint(key: &str) -> String {
    let pinned = Pinned::read(&fs::read(format!("/etc/sigsh/{key}.pgp")).unwrap()).unwrap();
    pinned.certs()[0].fingerprint().to_hex()
}
