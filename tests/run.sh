#!/bin/sh
# sh tests/run.sh: everything that must pass, from nothing but Rust's toolchain on Debian.
#
# Installs the Debian packages that are missing. The tests run as root in a throw-away copy of this machine
# (tests/inside.sh), where sigsh gets an account of its own, as in production.
set -eu
cd -- "$(dirname -- "$0")/.."
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
export PATH
. tests/common.sh

# step NAME COMMAND...
step() {
    name=$1
    shift
    echo "== $name: $*"
    start=$(date +%s)
    "$@"
    echo "== $name: $(($(date +%s) - start)) s"
}

step packages install_all

step format cargo fmt --all --check
step scripts shellcheck .ci/run src/bin/sigsh-client/setup/*.sh sshd/*.sh tests/*.sh tests/tokens/*.sh
# What waits for the linker or the network leaves a core to the rest.
mkdir -p target
beside=target/beside.log
(
    step build cargo build --quiet --release --locked
    step Signstar sh tests/signstar.sh
    step "Debian 13" sh tests/trixie.sh
) >"$beside" 2>&1 &
step lints cargo clippy --quiet --workspace --all-targets --locked -- -D warnings
if command -v cargo-deny >/dev/null; then
    step dependencies cargo deny check bans licenses sources
else
    skip dependencies "cargo-deny is not installed"
fi
step fuzzing sh tests/fuzz.sh 1
# A directory of its own: what README installs is not built by this profile.
step "static build" static_build quick
status=0
wait $! || status=$?
cat "$beside"
[ $status = 0 ] || exit $status

step demonstration sh sshd/demo.sh

# The tests drive what is shipped.
SIGSH_BUILT=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)
# Many tests wait for something: for a second, for a journal, for a session that must not end. On two cores a third one runs meanwhile.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-3}
export SIGSH_BUILT RUST_TEST_THREADS
runner="target.'cfg(all())'.runner = 'sh tests/inside.sh'"
echo "== tests: cargo test --locked, each program through tests/inside.sh"
cargo test --locked --config "$runner"
