#!/bin/sh
# sh tests/signstar.sh: makes target/signstar/bin/signstar-request-signature, Signstar's own client, unless it is there.
#
# Tests have it ask sigsh for signatures. It is built as it was published, with its own lock file, and is not optimised but
# for its hash: 75 seconds on two cores, once. cargo goes by the version, and asks nobody where that is there already.
set -eu
cd -- "$(dirname -- "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target/signstar-build # kept where it is interrupted
cargo install --quiet --locked --debug --root "$target/signstar" --target-dir "$work" \
    --config profile.dev.debug=0 --config profile.dev.package.sha2.opt-level=3 signstar-request-signature@=0.3.0
rm -rf "$work"
