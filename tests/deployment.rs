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

export USER=root HOME=/srv/deployment PATH="/srv/deployment/bin:$PATH"
mkdir -p $HOME/.ssh $HOME/bin
cd $HOME
# The package archive is not reachable from here, and the tests have built already.
printf '#!/bin/sh\nshift\ndpkg-query -W "$@"\n' >bin/apt-get
chmod +x bin/apt-get
cargo() { :; }
# One machine plays all hosts, and root all users: each has a home, and what scp does not bring there is not there.
MACHINES=/srv/machines
mkdir -p $MACHINES
ln -s $HOME $MACHINES/signing
at() {
    export USER=$1 HOME=$MACHINES/$1
    mkdir -p $HOME/.ssh
    cd $HOME
}
scp() {
    local path paths=()
    for path; do
        case $path in *.example.org:*) path=${path#*@} path=$MACHINES/${path%%.*}/${path#*:};; esac
        paths+=("$path")
    done
    cp "${paths[@]}"
}
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

/// What docs/APPROVALS.md needs: an artifact, and the file that README has made on a build server.
const BETWEEN: &str = r#"
mkdir $MACHINES/operator $MACHINES/auditor $MACHINES/build $MACHINES/developer
for machine in build developer; do cp $HOME/package.tar.gz $MACHINES/$machine; done
cp -r $HOME/.config $MACHINES/build
# An auditor is an ordinary user, and the signing host's configuration none of theirs.
sigsh-admin() {
    [ "$USER" = auditor ] || { command sigsh-admin "$@"; return; }
    chown -R nobody $HOME
    setpriv --reuid nobody --regid nogroup --clear-groups sigsh-admin --config /nonexistent "$@"
}
"#;

/// What docs/APPROVALS.md says of what is there in the end.
const APPROVED: &str = r#"
cmp $MACHINES/build/.config/sigsh/client.toml /srv/deployment/.config/sigsh/client.toml
at developer
ssh -T -i ~/.ssh/developer signer@signing.example.org certificate > development.pgp
gpgv --keyring ./development.pgp package.tar.gz.development.sig package.tar.gz
at build
for kind in production emergency; do gpgv --keyring ./production.pgp package.tar.gz.$kind.sig package.tar.gz; done
ask() {
    code=0
    ssh -T -i ~/.ssh/build2 signer@signing.example.org "sign production --size $(stat -c %s "$1") \
        --digest sha512:$(sha512sum "$1" | cut -d ' ' -f 1) --endorsement $(base64 -w 0 package.tar.gz.endorsement) \
        $(shift; printf -- ' --approval %s' "$@")" < "$1" > refused.sig 2> said || code=$?
    [ $code = 77 ]
    [ ! -s refused.sig ]
}
alice=$(cat $MACHINES/alice/package.tar.gz.alice.approval) bob=$(cat $MACHINES/bob/package.tar.gz.bob.approval)
ask package.tar.gz "$alice"
grep -x 'sigsh: error: 1 of 2 approvals' said
# The same approvals of anything else are none.
printf evil > evil
ask evil "$alice" "$bob"
# The intent and the signature; grep reads to the end, for pipefail.
[ "$(journalctl -t sigsh -p crit -o cat _UID="$(id -u signer)" | grep -c '^break-glass: ')" = 2 ]
# An auditor who has other keys of these people finds them out.
at auditor
ssh-keygen -q -t ed25519 -N '' -f other
sed "s|^bob@.*|bob@example.org $(cut -d ' ' -f 1,2 other.pub)|" approvers > others
code=0
sigsh-admin ledger verify --approvals=others ledger.jsonl > found || code=$?
[ $code = 1 ]
grep '^error: .*bob' found >&2
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
    let more = self::machines(&approvals);
    assert_eq!(more.len(), approvals.matches("```sh\n").count() - 1, "only how an approver answers is not run: {more:#?}");
    let more = more.join("\n");
    let mut script = Command::new("bash");
    script.arg("-c").arg(format!("{AROUND}\n{}\n{AFTER}\n{BETWEEN}\n{more}\n{APPROVED}", blocks.join("\ncd $HOME\n")));
    let debug = || Path::new(env!("CARGO_BIN_EXE_sigsh")).parent().unwrap().into();
    script.env("CHECKOUT", checkout).env("BUILT", std::env::var_os("SIGSH_BUILT").unwrap_or_else(debug));
    let output = script.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let good = err.matches("gpgv: Good signature from \"Example releases <release@example.org>\"").count();
    assert_eq!(good, 7, "{out}\n{err}");
    let findings = out.lines().filter(|line| ["ok: ", "warning: ", "error: "].iter().any(|word| line.starts_with(word)));
    let findings = findings.collect::<Vec<_>>();
    // What inside.sh's journald says of itself is not what a host's does, and it has no /dev/log. An auditor has no configuration.
    let known = ["Storage=volatile", ": syslog: ", "1 endorsements were not looked at"];
    let expected = |line: &str| line.starts_with("ok: ") || known.iter().any(|known| line.contains(known));
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

/// The fenced blocks that follow a mark with machines, as one does after the other, each in a shell of its own.
fn machines(text: &str) -> Vec<String> {
    let marked = text.split("<!-- test: at ").skip(1);
    let block = |rest: &str| {
        let (machines, rest) = rest.split_once(" -->\n```sh\n").expect("a block follows its mark");
        let block = rest.split_once("```\n").expect("a block has an end").0;
        machines.split(' ').map(|machine| format!("(\nat {machine}\n{block})\n")).collect()
    };
    marked.map(block).collect()
}
