#!/bin/sh
# sh tests/sqv.sh: builds an sqv that knows the keys of RFC 9980, unless it is there; prints its path.
#
# Debian 13's is sqv 1.3 on Nettle, which has no ML-DSA. This is the newest from crates.io on Sequoia's Rust backend; some minutes, once.
set -eu
cd -- "$(dirname -- "$0")/.."
version=1.5.0
target=${CARGO_TARGET_DIR:-target}
program=$target/sqv/sqv-$version
mkdir -p "$target/sqv"
if [ ! -e "$program" ]; then
    start=$(date +%s)
    echo "sqv: building version $version" >&2
    cargo install sequoia-sqv --quiet --version "$version" --locked --debug --root "$target/sqv" --target-dir "$target/sqv/build" \
        --no-default-features --features \
        crypto-rust,sequoia-openpgp/allow-experimental-crypto,sequoia-openpgp/allow-variable-time-crypto >&2
    mv "$target/sqv/bin/sqv" "$program"
    rm -rf "$target/sqv/build"
    echo "sqv: built in $(($(date +%s) - start)) s" >&2
fi
realpath "$program"
