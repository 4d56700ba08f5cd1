#!/bin/sh
# sh sshd/demo.sh: signs a real package over ssh, from nothing but Rust's toolchain on Debian.
#
# Installs the Debian packages that are missing and builds sigsh. All else (account, token, sshd, journal)
# is made in a throw-away copy of this machine, by tests/inside.sh, and gone at the end.
set -eu
umask 022
cd -- "$(dirname -- "$0")/.."
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
export PATH

step=0
say() {
    step=$((step + 1))
    printf '%2d. %s\n' "$step" "$*"
}

show() {
    printf '    $ %s\n' "$*"
}

# quiet COMMAND...: what it prints is shown only when it fails, and then the demo has failed, too.
quiet() {
    "$@" >"$demo/log" 2>&1 || {
        status=$?
        cat "$demo/log" >&2
        echo "demo.sh: exit code $status from: $*" >&2
        exit 1
    }
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

if [ "${1-}" != --inside ]; then
    demo=$(mktemp -d /tmp/sigsh-demo.XXXXXX)
    trap 'rm -rf "$demo"' EXIT
    trap 'exit 1' INT TERM
    missing=
    for package in gcc gpgv iproute2 libc6-dev openssh-client openssh-server softhsm2 systemd; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            missing="$missing $package"
    done
    if [ -n "$missing" ]; then
        say "Install what is missing (this alone stays, and Debian starts services as usual):"
        show "apt-get install$missing"
        quiet as_root apt-get update -q
        # shellcheck disable=SC2086 # a list of words
        quiet as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
    fi
    say "Build sigsh. The first time takes some minutes."
    show cargo build --release --locked
    quiet cargo build --release --locked
    say "Download a package to sign."
    apt-cache show hello >/dev/null 2>&1 || quiet as_root apt-get update -q
    show apt-get download hello
    (cd "$demo" && quiet apt-get download -q -o APT::Sandbox::User=root hello)
    sh tests/inside.sh sh sshd/demo.sh --inside "$demo" "$step"
    exit
fi

demo=$2
step=$3
home=/srv/sigsh-demo # in memory
mkdir $home
mv "$demo"/hello_*.deb $home/hello.deb

say "Install sigsh, its account and sshd's settings, in a throw-away copy of this machine."
show sh sshd/install.sh
quiet sh sshd/install.sh

say "Make a SoftHSM token that belongs to the account, and put its PIN where only the account reads it."
show softhsm2-util --init-token --free --label release
install -d -o signer -g signer -m 0700 /var/lib/sigsh/tokens
echo 'directories.tokendir = /var/lib/sigsh/tokens' >/etc/sigsh/softhsm2.conf
pin=$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
echo "$pin" | install -g signer -m 0640 /dev/stdin /etc/sigsh/hsm.pin
quiet setpriv --reuid signer --regid signer --clear-groups env SOFTHSM2_CONF=/etc/sigsh/softhsm2.conf \
    softhsm2-util --init-token --free --label release --pin "$pin" --so-pin "$pin"

say "Let one build server in: its ssh key goes into sshd's list and into sigsh.toml."
show ssh-keygen -t ed25519 -f build1
ssh-keygen -q -t ed25519 -N '' -C build1 -f $home/build1
install -g signer -m 0640 $home/build1.pub /etc/sigsh/authorized_keys
fingerprint=$(ssh-keygen -l -f $home/build1.pub | cut -d ' ' -f 2)
sed "s|SHA256:[A-Za-z0-9+/]*|$fingerprint|" sshd/sigsh.toml |
    install -g signer -m 0640 /dev/stdin /etc/sigsh/sigsh.toml

say "Make the signing key on the token, and its OpenPGP certificate."
show sigsh-admin key generate release --algorithm rsa4096
quiet sigsh-admin key generate release --algorithm rsa4096
show "sigsh-admin certificate create release --user-id 'Demo <demo@example.org>'"
quiet sigsh-admin certificate create release --user-id 'Demo <demo@example.org>'

say "Make the ledger."
show sigsh-admin ledger init
quiet sigsh-admin ledger init

cd $home
say "Start sshd on the loopback, with the shipped 50-sigsh.conf."
ssh-keygen -q -t ed25519 -N '' -C host -f host
cat >sshd_config <<END
ListenAddress 127.0.0.1:2222
HostKey $home/host
PidFile none
UsePAM no
Include /etc/ssh/sshd_config.d/50-sigsh.conf
END
cat >ssh_config <<END
Port 2222
IdentityFile $home/build1
IdentitiesOnly yes
IdentityAgent none
UserKnownHostsFile $home/known_hosts
BatchMode yes
RequestTTY no
END
echo "[127.0.0.1]:2222 $(cat host.pub)" >known_hosts
show sshd -f sshd_config
quiet "$(command -v sshd)" -f sshd_config -E sshd.log
quiet timeout 10 sh -c "until grep -q 'Server listening' sshd.log; do sleep 0.1; done"
quiet sigsh-admin check --sshd-config $home/sshd_config

say "Sign: $(stat -c %s hello.deb) bytes in, a detached signature out."
show 'ssh -F ssh_config signer@127.0.0.1 < hello.deb > hello.deb.sig'
ssh -F ssh_config signer@127.0.0.1 <hello.deb >hello.deb.sig

say "Verify, with a tool that has never heard of sigsh."
show 'sigsh-admin certificate show release > release.pgp; gpgv --keyring ./release.pgp hello.deb.sig hello.deb'
sigsh-admin certificate show release >release.pgp
gpgv --keyring ./release.pgp hello.deb.sig hello.deb 2>"$demo/log" || { cat "$demo/log" >&2; exit 1; }
sed 's/^/    /' "$demo/log"

say "Sign a directory, by one session: a tar in, a tar of signatures out. Verify each file."
mkdir packages
for number in 1 2 3; do
    head -c 1500 /dev/urandom >packages/package-$number.pkg.tar.zst
done
show 'tar -c packages | ssh -F ssh_config signer@127.0.0.1 sign-tar > signatures.tar && tar -xf signatures.tar'
tar -c packages | ssh -F ssh_config signer@127.0.0.1 sign-tar >signatures.tar
tar -xf signatures.tar
for file in packages/*.zst; do
    show "gpgv --keyring ./release.pgp $file.sig $file"
    gpgv --keyring ./release.pgp "$file.sig" "$file" 2>"$demo/log" || { cat "$demo/log" >&2; exit 1; }
    sed -n 's/^gpgv: \(Good.*\)/    \1/p' "$demo/log"
done

say "Ask for a key that is not there, and for a shell."
for request in 'sign other' /bin/sh; do
    show "ssh -F ssh_config signer@127.0.0.1 $request < hello.deb"
    status=0
    ssh -F ssh_config signer@127.0.0.1 "$request" <hello.deb >refused 2>"$demo/log" || status=$?
    sed 's/^/    /' "$demo/log"
    if [ -s refused ] || [ $status = 0 ]; then
        echo "demo.sh: that was not refused" >&2
        exit 1
    fi
    echo "    exit code $status, no output"
done

say "Read in the journal who signed what."
show journalctl -t sigsh
journalctl --sync
journalctl -q -t sigsh -o cat | sed 's/^/    /'
show journalctl -t sigsh SIGSH_EVENT=signed -n 1 -o verbose
journalctl -q -t sigsh SIGSH_EVENT=signed -n 1 -o verbose >signed
grep -q SIGSH_FINGERPRINT= signed || { echo "demo.sh: the journal has no record of it" >&2; exit 1; }
sed -n 's/^ *\(SIGSH_[A-Z0-9_]*=\)/    \1/p' signed

say "The same from the ledger, which is on the disk before a signature leaves, and verify it."
show sigsh-admin ledger show
sigsh-admin ledger show | sed 's/^/    /'
show sigsh-admin ledger verify --journal
sigsh-admin ledger verify --journal >"$demo/log" || { cat "$demo/log" >&2; exit 1; }
sed 's/^/    /' "$demo/log"

say "Done: account, token, sshd and journal are gone."
