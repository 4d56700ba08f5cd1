//! A build host: an account whose `gpg` signs elsewhere, and beside it anybody, who has the certificate and nothing else.

use super::front::Front;
use crate::world::scratch;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Where a program is sought after the front end's directory: Debian's own, whatever else this machine has.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

pub struct Host {
    /// A directory of this test's own that the account owns; commands start there.
    pub home: String,
    pub front: Front,
}

/// How a command ended, and all that it said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub text: String,
}

impl Host {
    /// A host that may sign with this key.
    pub fn new(key: &str) -> Host {
        account();
        let home = scratch();
        own(&home);
        for directory in ["signer", "anyone"] {
            fs::create_dir(format!("{home}/{directory}")).unwrap();
            own(&format!("{home}/{directory}"));
        }
        fs::set_permissions(format!("{home}/anyone"), fs::Permissions::from_mode(0o700)).unwrap();
        let host = Host { front: Front::new(key, "build1", &home), home };
        host.signs("sigsh-client", &["setup", "gpg", "bin"]);
        host
    }

    /// The same host, whose every signature is refused.
    pub fn refused(key: &str) -> Host {
        Host::new(key).refusing(key)
    }

    /// The same when the host has signed already.
    pub fn refusing(&self, key: &str) -> Host {
        Host { front: Front::new(key, "stranger", &self.home), home: self.home.clone() }
    }

    /// Writes a file of the account, with its directories.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = format!("{}/{name}", self.home);
        for (end, _) in name.match_indices('/') {
            let parent = format!("{}/{}", self.home, &name[..end]);
            fs::create_dir_all(&parent).unwrap();
            own(&parent);
        }
        fs::write(&path, text).unwrap();
        own(&path);
    }

    pub fn executable(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(format!("{}/{name}", self.home), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(format!("{}/{name}", self.home)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn exists(&self, name: &str) -> bool {
        Path::new(&format!("{}/{name}", self.home)).exists()
    }

    /// A program of the account that finds the front end.
    pub fn signer(&self, program: &str) -> Command {
        let mut command = self.configured(program);
        command.env("PATH", format!("{}:{PATH}", self.front.directory));
        command
    }

    /// A program of the account that does not find it, but tells it where its configuration is.
    pub fn configured(&self, program: &str) -> Command {
        let mut command = self.command(program, "signer");
        command.env("SIGSH_CONFIG", &self.front.config).env("XDG_RUNTIME_DIR", &self.front.runtime);
        command
    }

    /// A program that knows of no front end and no keyring.
    pub fn anyone(&self, program: &str) -> Command {
        self.command(program, "anyone")
    }

    fn command(&self, program: &str, who: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--init-groups", "--"]).arg(program);
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").env("HOME", format!("{}/{who}", self.home));
        command.current_dir(&self.home);
        command
    }

    /// Runs what signs, which must succeed.
    #[track_caller]
    pub fn signs(&self, program: &str, arguments: &[&str]) -> String {
        run(self.signer(program).args(arguments)).succeeds()
    }

    /// Runs what verifies, which must succeed.
    #[track_caller]
    pub fn verifies(&self, program: &str, arguments: &[&str]) -> String {
        run(self.anyone(program).args(arguments)).succeeds()
    }

    /// GnuPG has left nothing with the account that signs, no file and no agent.
    #[track_caller]
    pub fn has_no_keyring(&self) {
        let left = ["gnupg", "signer/.gnupg", "signer/pubring.kbx", "signer/trustdb.gpg", "signer/private-keys-v1.d"];
        assert_eq!(left.into_iter().find(|name| self.exists(name)), None);
        let home = format!("HOME={}/signer\0", self.home);
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let agents = processes.filter(|path| fs::read(path.join("comm")).is_ok_and(|name| name == b"gpg-agent\n"));
        let ours = |path: &std::path::PathBuf| {
            fs::read(path.join("environ")).is_ok_and(|all| String::from_utf8_lossy(&all).contains(&home))
        };
        assert_eq!(agents.into_iter().find(ours), None);
    }

    /// gpgv's word on a detached signature, by the certificate alone.
    #[track_caller]
    pub fn gpgv(&self, signature: &str, file: &str) {
        let text = self.verifies("gpgv", &["--keyring", &self.front.certificate, signature, file]);
        assert!(text.contains("gpgv: Good signature from \"Test "), "{text}");
    }
}

impl Ran {
    #[track_caller]
    pub fn succeeds(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.text);
        self.text
    }

    /// With this code, and having said this.
    #[track_caller]
    pub fn fails(self, code: i32, says: &str) {
        assert!(self.code == Some(code) && self.text.contains(says), "{:?}, {}", self.code, self.text);
    }
}

pub fn run(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    Ran { code: output.status.code(), text: format!("{command:?}:\n{}", String::from_utf8_lossy(&text)) }
}

const ACCOUNT: &str = "packager";

/// The account of all build hosts, made at the first call: makepkg does not run as root.
fn account() -> (u32, u32) {
    static MADE: OnceLock<(u32, u32)> = OnceLock::new();
    *MADE.get_or_init(|| {
        crate::world::world();
        // No password fits, but sshd lets a key in.
        let like = ["--user-group", "--no-create-home", "--home-dir", "/", "--shell", "/bin/sh", "--password", "*"];
        run(Command::new("useradd").args(like).arg(ACCOUNT)).succeeds();
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd.lines().find(|line| line.starts_with("packager:")).unwrap();
        let mut words = line.split(':').skip(2).map(|word| word.parse().unwrap());
        (words.next().unwrap(), words.next().unwrap())
    })
}

/// Gives a file to the account.
pub fn own(path: &str) {
    let (user, group) = account();
    chown(path, Some(user), Some(group)).unwrap();
}
