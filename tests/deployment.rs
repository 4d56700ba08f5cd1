//! README's commands, run for real on a fresh host: every block of shell that a comment marks, in order, to a signature that gpgv
//! calls good; and then those of docs/APPROVALS.md, which goes on from there. A program of its own, so that `tests/inside.sh` gives it a
//! machine on which nothing is installed yet.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;

/// What stands in for a second machine, for the network and for systemd. README's own text is run unchanged.
const AROUND: &str = r#"
set -eux
umask 022

export HOME=/srv/deployment PATH="/srv/deployment/bin:$PATH"
mkdir -p $HOME/.ssh $HOME/bin
cd $HOME
# The package archive is not reachable from here, and the tests have built already.
printf '#!/bin/sh\nshift\ndpkg-query -W "$@"\n' >bin/apt-get
chmod +x bin/apt-get
cargo() { :; }
# One machine plays both hosts, and root both users.
scp() { cp "$1" "${2#*:}"; }
echo 'what is to be signed' >package.tar.gz
for number in 1 2 3; do echo "package $number" >package-$number.pkg.tar.zst; done
mkdir packages
cp package-* packages

# sshd as Debian ships it, with the settings of no other package.
sshd() { /usr/sbin/sshd "$@"; }
rm -f /etc/ssh/sshd_config.d/* /run/sshd.pid
cp /usr/share/openssh/sshd_config /etc/ssh/sshd_config
ssh-keygen -A
listening() {
    tries=250
    until [ -s /run/sshd.pid ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { cat $HOME/sshd.log; exit 1; }
        sleep 0.02
    done
}
sshd -E $HOME/sshd.log
listening
# journald as it is on a host, where a large batch would be too much.
sed -i /RateLimit/d /etc/systemd/journald.conf.d/zz-inside.conf
systemctl() {
    [ "$*" != 'restart systemd-journald' ] || return 0
    [ "$*" = 'reload ssh' ]
    pid=$(cat /run/sshd.pid)
    rm /run/sshd.pid
    kill -HUP "$pid"
    listening
}
cat >/etc/ssh/ssh_config.d/signing.conf <<END
Host signing.example.org
    HostName 127.0.0.1
    HostKeyAlias signing.example.org
    UserKnownHostsFile $HOME/.ssh/known_hosts
    BatchMode yes
    IdentityAgent none
END
echo "signing.example.org $(cat /etc/ssh/ssh_host_ed25519_key.pub)" >$HOME/.ssh/known_hosts
# The first commands are for a checkout, the others for wherever an operator is.
cd "$CHECKOUT"
"#;

/// What README says of what is there now.
const AFTER: &str = r#"
cd $HOME
for package in package-[123].pkg.tar.zst packages/*.zst; do gpgv --keyring ./release.pgp $package.sig $package; done
"#;

/// What docs/APPROVALS.md says of what is there in the end.
const APPROVED: &str = r#"
cd $HOME
for kind in production emergency; do gpgv --keyring ./production.pgp package.tar.gz.$kind.sig package.tar.gz; done
ssh -T -i ~/.ssh/developer signer@signing.example.org certificate > development.pgp
gpgv --keyring ./development.pgp package.tar.gz.development.sig package.tar.gz
# The same approvals of anything else are none.
approvals="--approval $until=$(base64 -w 0 alice.sig) --approval $until=$(base64 -w 0 bob.sig)"
code=0
ssh -T -i ~/.ssh/build2 signer@signing.example.org "sign production --size 4 --digest sha512:$(printf evil | sha512sum | cut -d ' ' -f 1) \
    --endorsement $(base64 -w 0 package.tar.gz.endorsement) $approvals" < <(printf evil) > evil.sig || code=$?
[ $code = 77 ]
[ ! -s evil.sig ]
"#;

#[test]
fn the_commands_of_the_readme_end_with_a_good_signature() {
    assert!(Path::new("/run/systemd/journal/socket").exists(), "run this with tests/run.sh, or under tests/inside.sh");
    assert!(!Path::new("/etc/sigsh").exists(), "sigsh is installed already: this is not a fresh host");
    let checkout = env!("CARGO_MANIFEST_DIR");
    let readme = std::fs::read_to_string(format!("{checkout}/README.md")).unwrap();
    let blocks = blocks(&readme);
    assert_eq!(blocks.len(), 16, "README has other blocks than expected: {blocks:#?}");
    for command in ["install.sh", "key generate", "certificate create", "sigsh-admin check", "gpgv", "journalctl"] {
        assert!(blocks.iter().any(|block| block.contains(command)), "{command}");
    }
    let approvals = std::fs::read_to_string(format!("{checkout}/docs/APPROVALS.md")).unwrap();
    let more = self::blocks(&approvals).join("\ncd $HOME\n");
    let mut script = Command::new("bash");
    script.arg("-c").arg(format!("{AROUND}\n{}\n{AFTER}\n{more}\n{APPROVED}", blocks.join("\ncd $HOME\n")));
    let debug = || Path::new(env!("CARGO_BIN_EXE_sigsh")).parent().unwrap().into();
    script.env("CHECKOUT", checkout).env("BUILT", std::env::var_os("SIGSH_BUILT").unwrap_or_else(debug));
    let output = script.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let good = err.matches("gpgv: Good signature from \"Example releases <release@example.org>\"").count();
    assert_eq!(good, 7, "{out}\n{err}");
    let findings = out.lines().filter(|line| ["ok: ", "warning: ", "error: "].iter().any(|word| line.starts_with(word)));
    let findings = findings.collect::<Vec<_>>();
    // What inside.sh's journald says of itself is not what a host's does, and it has no /dev/log.
    let expected = |line: &str| line.starts_with("ok: ") || line.contains("Storage=volatile") || line.contains(": syslog: ");
    let wrong = findings.iter().filter(|line| !expected(line)).collect::<Vec<_>>();
    assert!(findings.len() > 5 && wrong.is_empty(), "{out}");
    assert!(out.contains("ok: package.tar.gz (package.tar.gz.asc): signed by "), "{out}");
    assert!(out.contains("signed an artifact of 21 bytes for client build1 with key release"), "{out}");
    assert!(out.contains("ok: ssh certificate of key SHA256:") && out.contains(": client 'ci'"), "{out}");
}

/// The fenced blocks that follow the mark.
fn blocks(text: &str) -> Vec<&str> {
    let marked = text.split("<!-- test: deployment -->\n```sh\n").skip(1);
    marked.map(|rest| rest.split_once("```\n").expect("a block has an end").0).collect()
}
