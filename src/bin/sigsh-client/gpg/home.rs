//! A home for the real gpg, which says in tests what is right.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub(super) struct Home(PathBuf);

impl Home {
    pub(super) fn empty() -> Home {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let home = Home(std::env::temp_dir().join(format!("sigsh-gpg-{}-{next}", std::process::id())));
        std::fs::create_dir(&home.0).unwrap();
        home
    }

    /// With one key, for signing.
    pub(super) fn with_key(algorithm: &str) -> Home {
        let home = Home::empty();
        assert!(home.run(&format!("--quick-generate-key 'Test <t@x>' {algorithm} sign never")).status.success());
        home
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn command(&self) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.current_dir(&self.0).env("GNUPGHOME", &self.0).env("LC_ALL", "C.UTF-8");
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
        let _ = Command::new("gpgconf").env("GNUPGHOME", &self.0).args(["--kill", "all"]).status();
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
