#!/bin/sh
# sh tests/tokens.sh: the suite of signing tests (tests/it/tokens.rs) with every kind of token, also those that take minutes.
#
# A tests/tokens/NAME.sh builds or installs what the token of that name needs. It exits with 77 where this machine cannot have it, its
# last line being the reason: the token's tests are then skipped, and the reason is told at the end.
set -eu
cd -- "$(dirname -- "$0")/.."
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
export PATH

output=$(mktemp)
trap 'rm -f "$output"' EXIT
skipped=
set -- # what the test program is not to run
for script in tests/tokens/*.sh; do
    [ -f "$script" ] || continue
    name=$(basename "$script" .sh)
    echo "== $name: sh $script"
    status=0
    sh "$script" >"$output" 2>&1 || status=$?
    cat "$output"
    case $status in
    0) ;;
    77)
        set -- "$@" --skip "tokens::$name::"
        skipped="$skipped
== skipped: $name: $(tail -n 1 "$output")"
        ;;
    *) exit $status ;;
    esac
done

# What is shipped.
cargo build --release --locked
SIGSH_BUILT=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)
export SIGSH_BUILT
status=0
sh sshd/static.sh || status=$?
case $status in
0) SIGSH_STATIC=$(cd "${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-musl/release" && pwd) && export SIGSH_STATIC ;;
77) skipped="$skipped
== skipped: the static build, for the reason above" ;;
*) exit $status ;;
esac

cargo build --locked --examples
status=0
cargo test --locked --config "target.'cfg(all())'.runner = 'sh tests/inside.sh'" --test it -- \
    --include-ignored --nocapture --test-threads 1 "$@" tokens:: || status=$?
[ -z "$skipped" ] || echo "$skipped"
exit $status
