#!/bin/sh
# sh tests/trixie.sh: makes target/trixie.tar.gz, a small Debian 13 with its apt, sqv and gpgv, unless it is there.
#
# Tests judge signatures by the rules of the newest stable Debian, whatever this machine is. 80 MB from
# deb.debian.org, whose signature is checked; half a minute, once.
set -eu
cd -- "$(dirname -- "$0")/.."
PATH=$PATH:/usr/sbin:/sbin # debootstrap: not in the PATH of a Debian user
target=${CARGO_TARGET_DIR:-target}
archive=$target/trixie.tar.gz
# Anew each month: its rules are those of the day it was made.
[ -z "$(find "$archive" -mtime -30 2>/dev/null)" ] || exit 0

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -E "$@"; fi
}

mkdir -p "$target"
work=$(mktemp -d "$target/trixie.XXXXXX")
trap 'as_root rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
if ! as_root debootstrap --variant=minbase --include=gpgv,sqv --force-check-gpg trixie "$(realpath "$work")/root" \
    http://deb.debian.org/debian >"$work/log" 2>&1; then
    cat "$work/log" >&2
    exit 1
fi
as_root tar -C "$work/root" --exclude='./dev/*' --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
    --exclude='./usr/share/locale/*' --exclude='./var/cache/*/*' --exclude='./var/lib/apt/lists/*' \
    --exclude='./var/log/*' -cz . >"$work/archive"
mv "$work/archive" "$archive" # whole or not at all
