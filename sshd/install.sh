#!/bin/sh
# sh sshd/install.sh: puts what `cargo build --release --locked` has built, and the files of sshd/, in place.
#
# PREFIX (default /usr) and DESTDIR (default none) mean what they mean to make. Without DESTDIR it also
# makes the account and its directories, which a package does after it was unpacked. BUILT names another
# directory of binaries.
#
# sh sshd/install.sh client: on a build server, sigsh-client alone.
set -eu
umask 022
cd -- "$(dirname -- "$0")/.."
prefix=${PREFIX:-/usr}
root=${DESTDIR:-}
target=${CARGO_TARGET_DIR:-target}
built=${BUILT:-$target/release}

programs='sigsh sigsh-admin sigsh-client'
[ "${1-}" != client ] || programs=sigsh-client
for program in $programs; do
    if [ ! -x "$built/$program" ]; then
        echo "install.sh: no $program in $built: cargo build --release --locked" >&2
        exit 1
    fi
done

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

for program in $programs; do
    put 0755 "$built/$program" "$prefix/bin/$program"
done
ln -sf sigsh-client "$root$prefix/bin/sigsh-gpg"
# put_completion SHELL DESTINATION
put_completion() {
    "$built/sigsh-client" completions "$1" | install -D -m 0644 /dev/stdin "$root$prefix/share/$2"
    echo "installed $root$prefix/share/$2"
}
put_completion bash bash-completion/completions/sigsh-client
put_completion zsh zsh/vendor-completions/_sigsh-client
put_completion fish fish/vendor_completions.d/sigsh-client.fish
for page in "$target"/man/*.[158]; do
    [ "$programs" != sigsh-client ] || [ "${page##*/sigsh-client}" != "$page" ] || continue
    [ ! -f "$page" ] || put 0644 "$page" "$prefix/share/man/man${page##*.}/${page##*/}"
done
[ "$programs" != sigsh-client ] || exit 0
put_text sshd/sigsh.toml "$prefix/share/doc/sigsh/sigsh.toml"
put_text sshd/opensc.conf "$prefix/share/doc/sigsh/opensc.conf"
put_text sshd/pcsc.rules "$prefix/share/doc/sigsh/pcsc.rules"
put_text sshd/sysusers.d/sigsh.conf "$prefix/lib/sysusers.d/sigsh.conf"
put_text sshd/sysusers.d/sigsh-token.conf "$prefix/lib/sysusers.d/sigsh-token.conf"
put_text sshd/tmpfiles.d/sigsh.conf "$prefix/lib/tmpfiles.d/sigsh.conf"
# Of use once somebody enables them: the token under an account of its own.
for unit in sshd/systemd/*; do
    put_text "$unit" "$prefix/lib/systemd/system/${unit##*/}"
done
[ -e "$root/etc/sigsh-token/token.env" ] || put_text sshd/token.env /etc/sigsh-token/token.env

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
getent passwd sigsh-token >/dev/null || systemd-sysusers "$prefix/lib/sysusers.d/sigsh-token.conf"
systemd-tmpfiles --create "$prefix/lib/tmpfiles.d/sigsh.conf"
echo "next: write /etc/sigsh/sigsh.toml, starting from $prefix/share/doc/sigsh/sigsh.toml; then sigsh-admin ledger init, sigsh-admin check"
