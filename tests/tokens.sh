#!/bin/sh
# sh tests/tokens.sh: the suite of signing tests (tests/it/tokens.rs) with every kind of token, also those that take minutes.
#
# Installs the Debian packages that are missing. A tests/tokens/NAME.sh builds or installs what the token of that name needs. It exits with
# 77 where this machine cannot have it, its last line on stdout being the reason: the token's tests are then skipped, which is told at the end.
set -eu
cd -- "$(dirname -- "$0")/.."
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
export PATH

. tests/common.sh

install_all
sh tests/trixie.sh

set -- # what the test program is not to run
for script in tests/tokens/*.sh; do
    name=$(basename "$script" .sh)
    echo "== $name: sh $script"
    status=0
    said=$(sh "$script") || status=$?
    echo "$said"
    case $status in
    0) ;;
    77)
        set -- "$@" --skip "tokens::$name::"
        skip "the tests of tokens::$name" "$(echo "$said" | tail -n 1)"
        ;;
    *) exit $status ;;
    esac
done

# What is shipped.
cargo build --release --locked
SIGSH_BUILT=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)
export SIGSH_BUILT
static_build release

# `tokens::` is in client::tokens::, too.
cargo build --locked --examples
cargo test --locked --config "target.'cfg(all())'.runner = 'sh tests/inside.sh'" --test it -- \
    --include-ignored --nocapture --test-threads 1 "$@" tokens:: always:: static_build::
