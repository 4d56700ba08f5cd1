//! Another sshd beside the world's, with settings of its own.

use super::fixture::Host;
use crate::world::{HOME, patient, ssh_key, succeed, world};
use std::fs::{self, File};
use std::process::{Child, Command};

pub struct Door {
    child: Child,
    /// What ssh is told to find it.
    port: u16,
}

impl Door {
    /// One that has the shipped settings with these in place of those of the same name, and nothing that would hide them.
    pub fn shipped(port: u16, changes: &[&str]) -> Door {
        world();
        let shipped = fs::read_to_string("/etc/ssh/sshd_config.d/50-sigsh.conf").unwrap();
        let name = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
        let kept = shipped.lines().filter(|line| !changes.iter().any(|change| name(change) == name(line)));
        Door::open(port, &format!("{}\n{}\n", changes.join("\n"), kept.collect::<Vec<_>>().join("\n")))
    }

    /// One that lets this host's own account in, and runs a script in place of sigsh: `$SIGSH` signs, as far as the script lets it.
    pub fn forced(port: u16, host: &Host, script: &str) -> Door {
        let ssh = format!("ssh -F {HOME}/ssh_config -i {}/build1_key signer@127.0.0.1", host.home);
        host.executable("forced", &format!("#!/bin/sh\nSIGSH=\"{ssh}\"\n{script}\n"));
        host.write("authorized_keys", fs::read(format!("{}.pub", ssh_key("build1"))).unwrap());
        let home = &host.home;
        let door = Door::open(
            port,
            &format!(
                "StrictModes no\nAuthorizedKeysFile {home}/authorized_keys\nForceCommand {home}/forced\nAllowUsers packager\n"
            ),
        );
        host.front.change("signer@", "packager@");
        door
    }

    fn open(port: u16, settings: &str) -> Door {
        let config = format!("{HOME}/door{port}");
        succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &format!("{config}_key")]));
        let own = format!("ListenAddress 127.0.0.1:{port}\nHostKey {config}_key\nPidFile none\nUsePAM no\n");
        fs::write(&config, own + settings).unwrap();
        let log = File::create(format!("{config}.log")).unwrap();
        let child = Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f", &config]).stderr(log).spawn().unwrap();
        patient(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Door { child, port }
    }

    /// Has this host sign through it.
    pub fn lead(&self, host: &Host) {
        host.front.change("ssh-options = [", &format!("ssh-options = [\"-p\", \"{}\", ", self.port));
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
