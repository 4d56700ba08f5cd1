#!/bin/sh
# sh tests/run.sh: everything that must pass, from nothing but Rust's toolchain on Debian.
#
# Installs the Debian packages that are missing. The tests run as root in a throw-away copy of this machine
# (tests/inside.sh), where sigsh gets an account of its own, as in production.
set -eu
cd -- "$(dirname -- "$0")/.."
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
export PATH

# step NAME COMMAND...
step() {
    name=$1
    shift
    echo "== $name: $*"
    start=$(date +%s)
    "$@"
    echo "== $name: $(($(date +%s) - start)) s"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends "$@" >/dev/null
}

missing=
for package in aptly createrepo-c dbus-daemon debian-archive-keyring debootstrap debsig-verify debsigs devscripts dpkg-dev \
    e2fsprogs fakeroot flatpak g++ gcc git gnupg gpgv iproute2 libarchive-tools libc6-dev makepkg man-db opensc openssh-client \
    openssh-server ostree p11-kit pacman-package-manager pandoc python3 python3-yaml reprepro rpm shellcheck softhsm2 sqv strace systemd; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
        missing="$missing $package"
done
# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || step "missing packages" install_packages $missing

step format cargo fmt --all --check
step scripts shellcheck .ci/run src/bin/sigsh-client/setup/*.sh sshd/*.sh tests/*.sh tests/tokens/*.sh
step lints cargo clippy --quiet --workspace --all-targets --locked -- -D warnings
if command -v cargo-deny >/dev/null; then
    step dependencies cargo deny check bans licenses sources
else
    echo "== dependencies: skipped, cargo-deny is not installed"
fi
step fuzzing sh tests/fuzz.sh 2
step build cargo build --quiet --release --locked

# Of the static build what the tests look at are its system calls and its answers: the same code has the same, optimised or not. It takes
# one minute of two cores, and optimised as it is shipped, five.
static_build() {
    status=0
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
        sh sshd/static.sh || status=$?
    case $status in
    0) SIGSH_STATIC=$(cd "${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-musl/release" && pwd) && export SIGSH_STATIC ;;
    77) echo "== static build: its tests are skipped, for the reason above" ;;
    *) exit $status ;;
    esac
}
step "static build" static_build

step demonstration sh sshd/demo.sh
step "Debian 13" sh tests/trixie.sh
step Signstar sh tests/signstar.sh

# The tests drive what is shipped: a debug build makes other system calls.
SIGSH_BUILT=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)
export SIGSH_BUILT
runner="target.'cfg(all())'.runner = 'sh tests/inside.sh'"
echo "== tests: cargo test --locked, each program through tests/inside.sh"
exec cargo test --locked --config "$runner"
