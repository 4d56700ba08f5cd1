#!/bin/sh
# sh sshd/install.sh: puts what `cargo build --release --locked` has built, and the files of sshd/, in place.
#
# PREFIX (default /usr) and DESTDIR (default none) mean what they mean to make. Without DESTDIR it also
# makes the account and its directories, which a package does after it was unpacked. BUILT names another
# directory of binaries.
set -eu
umask 022
cd -- "$(dirname -- "$0")/.."
prefix=${PREFIX:-/usr}
root=${DESTDIR:-}
target=${CARGO_TARGET_DIR:-target}
built=${BUILT:-$target/release}

if [ ! -x "$built/sigsh" ] || [ ! -x "$built/sigsh-admin" ] || [ ! -x "$built/sigsh-client" ]; then
    echo "install.sh: no sigsh, sigsh-admin and sigsh-client in $built: cargo build --release --locked" >&2
    exit 1
fi

# put MODE FILE DESTINATION
put() {
    install -D -m "$1" "$2" "$root$3"
    echo "installed $root$3"
}

# put_text FILE DESTINATION: with the path of sigsh that PREFIX makes.
put_text() {
    sed "s|/usr/bin/sigsh|$prefix/bin/sigsh|g" "$1" | install -D -m 0644 /dev/stdin "$root$2"
    echo "installed $root$2"
}

put 0755 "$built/sigsh" "$prefix/bin/sigsh"
put 0755 "$built/sigsh-admin" "$prefix/bin/sigsh-admin"
put 0755 "$built/sigsh-client" "$prefix/bin/sigsh-client"
ln -sf sigsh-client "$root$prefix/bin/sigsh-gpg"
echo "installed $root$prefix/bin/sigsh-gpg"
put_text sshd/sigsh.toml "$prefix/share/doc/sigsh/sigsh.toml"
put_text sshd/sysusers.d/sigsh.conf "$prefix/lib/sysusers.d/sigsh.conf"
put_text sshd/tmpfiles.d/sigsh.conf "$prefix/lib/tmpfiles.d/sigsh.conf"
for page in "$target"/man/*.[158]; do
    [ ! -f "$page" ] || put 0644 "$page" "$prefix/share/man/man${page##*.}/${page##*/}"
done

# sshd reads *.conf only, so a new version beside an edited one waits for whoever edited it.
settings=/etc/ssh/sshd_config.d/50-sigsh.conf
if [ -e "$root$settings" ]; then
    put_text sshd/50-sigsh.conf "$settings.new"
    if cmp -s "$root$settings" "$root$settings.new"; then
        rm "$root$settings.new"
        echo "unchanged: $root$settings"
    else
        echo "kept your own $root$settings: compare it with $settings.new"
    fi
else
    put_text sshd/50-sigsh.conf "$settings"
fi

[ -z "$root" ] || exit 0
if ! getent passwd signer >/dev/null; then
    systemd-sysusers "$prefix/lib/sysusers.d/sigsh.conf"
    # No password fits, but without the `!` of sysusers, with which sshd lets no key in under `UsePAM no`.
    usermod --password '*' signer
fi
systemd-tmpfiles --create "$prefix/lib/tmpfiles.d/sigsh.conf"
echo "next: write /etc/sigsh/sigsh.toml, starting from $prefix/share/doc/sigsh/sigsh.toml; then sigsh-admin ledger init, sigsh-admin check"
