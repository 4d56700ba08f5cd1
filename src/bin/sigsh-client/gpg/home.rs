//! A home for the real gpg, which says in tests what is right.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

pub(super) struct Home(TempDir);

impl Home {
    pub(super) fn empty() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    /// With one key, for signing.
    pub(super) fn with_key(algorithm: &str) -> Home {
        let home = Home::empty();
        assert!(home.run(&format!("--quick-generate-key 'Test <t@x>' {algorithm} sign never")).status.success());
        home
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn command(&self) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.current_dir(self.0.path()).env("GNUPGHOME", self.0.path()).env("LC_ALL", "C.UTF-8");
        gpg.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        gpg
    }

    /// Runs a command line as a shell has it.
    pub(super) fn run(&self, line: &str) -> Output {
        let mut gpg = self.command();
        gpg.args(["--batch", "--quiet", "--passphrase", ""]).args(shlex::split(line).unwrap());
        gpg.stdout(Stdio::piped()).output().unwrap()
    }

    /// Its standard output, where that is text.
    pub(super) fn gpg(&self, line: &str) -> String {
        String::from_utf8(self.run(line).stdout).unwrap()
    }

    /// Of the first key.
    pub(super) fn fingerprint(&self) -> String {
        let listing = self.gpg("--with-colons --list-secret-keys");
        listing.lines().find(|it| it.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap().to_string()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").env("GNUPGHOME", self.0.path()).args(["--kill", "all"]).status();
    }
}
