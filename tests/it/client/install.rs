//! What `install.sh client` puts on a build server.

use crate::world::{built, scratch, succeed};
use std::process::Command;

/// Nothing of the signing host's: no account, no settings of sshd.
#[test]
fn the_client_alone() {
    let root = scratch();
    succeed(Command::new("sh").args(["sshd/install.sh", "client"]).env("BUILT", built()).env("DESTDIR", &root));
    let found =
        succeed(Command::new("find").args([".", "-not", "-type", "d", "-not", "-path", "*/man/*"]).current_dir(&root)).stdout;
    let mut found = String::from_utf8(found).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    found.sort();
    assert_eq!(
        found,
        [
            "./usr/bin/sigsh-client",
            "./usr/bin/sigsh-gpg",
            "./usr/share/bash-completion/completions/sigsh-client",
            "./usr/share/fish/vendor_completions.d/sigsh-client.fish",
            "./usr/share/zsh/vendor-completions/_sigsh-client",
        ]
    );
    succeed(Command::new("bash").args(["-n", &format!("{root}/usr/share/bash-completion/completions/sigsh-client")]));
    let version = succeed(Command::new(format!("{root}/usr/bin/sigsh-gpg")).arg("--version")).stdout;
    assert!(version.starts_with(b"gpg (GnuPG) "));
}
