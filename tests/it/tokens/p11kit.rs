//! A token behind p11-kit, its module under an account of its own, as sshd/systemd/ starts it for each connection.

use super::{Daemon, Key, Lab, suite};
use crate::world::{PIN, patient, scratch, succeed, world};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A SoftHSM store of the token's account.
pub struct Store {
    conf: String,
    tokens: String,
}

impl Store {
    /// With the token and the keys of all tests.
    pub fn of_the_world() -> Store {
        world();
        let store = Store::empty();
        succeed(Command::new("cp").args(["-a", "/var/lib/sigsh/tokens/.", &store.tokens]));
        store.read_only(false);
        store
    }

    fn empty() -> Store {
        world();
        let directory = format!("/var/lib/sigsh-token/{}", scratch().rsplit('/').next().unwrap());
        let store = Store { conf: format!("{directory}/softhsm2.conf"), tokens: format!("{directory}/tokens") };
        fs::create_dir_all(&store.tokens).unwrap();
        fs::write(&store.conf, format!("directories.tokendir = {}\nlog.level = ERROR\n", store.tokens)).unwrap();
        store.read_only(false);
        store
    }

    /// As `ProtectSystem=strict` leaves it to the unit: SoftHSM rewrites what it can at every login, and parallel sessions fail.
    pub fn read_only(&self, so: bool) {
        let (owner, mode) = if so { ("root:sigsh-token", "u=rwX,g=rX,o=") } else { ("sigsh-token:sigsh-token", "u=rwX,g=rX,o=") };
        succeed(Command::new("chown").args(["-R", owner, &self.tokens]));
        succeed(Command::new("chmod").args(["-R", mode, &self.tokens]));
    }
}

/// The words of a unit's line.
fn unit(name: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/usr/lib/systemd/system/{name}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    line.split(' ').map(str::to_owned).collect()
}

/// A socket on which root listens, and for each connection what the unit's ExecStart says, under the account that it says.
pub fn activated(store: &Store) -> (Daemon, PathBuf) {
    let directory = scratch();
    let socket = format!("{directory}/pkcs11");
    let user = unit("sigsh-token@.service", "User").concat();
    let start = unit("sigsh-token@.service", "ExecStart").into_iter().map(|word| match word.as_str() {
        "${MODULE}" => MODULE.to_owned(),
        "${TOKEN}" => "pkcs11:token=release".to_owned(),
        _ => word,
    });
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--accept", "--inetd", "--listen", &socket, "-E", &format!("SOFTHSM2_CONF={}", store.conf)]);
    command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]).args(start).env_clear();
    let daemon = Daemon(command.stderr(Stdio::null()).spawn().unwrap());
    let socket = PathBuf::from(socket);
    patient(|| socket.exists());
    let [group, mode] = ["SocketGroup", "SocketMode"].map(|key| unit("sigsh-token.socket", key).concat());
    succeed(Command::new("chgrp").arg(&group).arg(&socket));
    succeed(Command::new("chmod").arg(&mode).arg(&socket));
    (daemon, socket)
}

/// A server as the units start it, for the token of the world, and its table.
pub fn server() -> (Daemon, String) {
    let store = Store::of_the_world();
    store.read_only(true);
    let (daemon, socket) = activated(&store);
    (daemon, format!("server = \"{}\"\nuri = \"pkcs11:token=release\"\n", socket.display()))
}

#[test]
fn what_the_units_start_passes() {
    let (_daemon, table) = server();
    let key = |name: &'static str| Key { generate: None, ..Key::new(name, &format!("pkcs11:object={name}"), name) };
    let modern = Key { name: "modern", ..key("ed25519") }.v6();
    suite(&Lab::new("p11-kit", table, PIN, vec![key("ed25519"), key("rsa4096"), key("nistp384"), modern]));
}
