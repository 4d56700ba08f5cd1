#!/bin/sh
# sh tests/tokens/kryoptic.sh: builds Kryoptic, a PKCS#11 3.2 token with post-quantum keys, unless it is there; prints the module's path.
#
# From crates.io, into target/kryoptic, in about ten minutes, once. Kryoptic's ML-DSA is OpenSSL's, from 3.5 on, which Debian 12 has
# not: so libcrypto, from the crate openssl-src, and SQLite are linked into the module, and it needs nothing but libc.
# It needs libclang, too. What it signs is judged by an sqv that tests/sqv.sh builds. Exits with 77 where the machine cannot have it.
set -eu
cd -- "$(dirname -- "$0")/../.."
kryoptic=1.5.4 openssl=300.6.1
mkdir -p "${CARGO_TARGET_DIR:-target}/kryoptic"
here=$(cd "${CARGO_TARGET_DIR:-target}/kryoptic" && pwd)
module=$here/kryoptic-$kryoptic-$openssl.so
exec 3>&1 1>&2

skip() {
    echo "$1"
    exit 77
}
sh tests/sqv.sh >/dev/null || skip "sqv cannot be built"
unset CARGO_TARGET_DIR

if [ ! -e "$module" ]; then
    start=$(date +%s)
    find /usr/lib /usr/lib64 -name 'libclang[.-]*so*' 2>/dev/null | grep -q . ||
        skip "libclang is missing: apt-get install libclang1-14, or a newer one"
    work=$here/build
    mkdir -p "$work/src"
    : >"$work/src/lib.rs"
    cat >"$work/Cargo.toml" <<END
[package]
name = "build"
edition = "2024"

[dependencies]
kryoptic = { version = "=$kryoptic", default-features = false, features = ["standard", "pqc"] }
ossl = { version = "=$kryoptic", features = ["ossl-sys"] }
rusqlite = { version = "*", features = ["bundled"] }

[build-dependencies]
openssl-src = "=$openssl"

[workspace]
END
    echo "Kryoptic: fetching its sources"
    cargo metadata --quiet --format-version 1 --manifest-path "$work/Cargo.toml" >"$work/metadata" || skip "its sources cannot be fetched"
    sources=$(python3 -c 'import json, os, sys
print(*(os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == "openssl-src"))' <"$work/metadata")

    if [ ! -e "$work/openssl/libcrypto.a" ]; then
        echo "Kryoptic: building OpenSSL $openssl's libcrypto"
        rm -rf "$work/openssl"
        cp -r "$sources/openssl" "$work/openssl"
        # No handler at exit: a module may be unloaded before.
        (cd "$work/openssl" && ./Configure no-shared no-module no-apps no-tests no-docs no-atexit no-legacy no-engine \
            no-deprecated no-dso -fPIC && make -j2 build_generated && make -j2 libcrypto.a) >"$work/openssl.log" 2>&1 ||
            { tail "$work/openssl.log" && exit 1; }
    fi

    echo "Kryoptic: building the module"
    # libclang comes without the compiler's own headers; the C compiler has them.
    BINDGEN_EXTRA_CLANG_ARGS="-I$(cc -print-file-name=include)" KRYOPTIC_OPENSSL_SOURCES=$work/openssl \
        cargo build --quiet --release --manifest-path "$work/Cargo.toml" --target-dir "$work/target" -p kryoptic
    cp "$work"/target/release/deps/libkryoptic_pkcs11-*.so "$module.new"
    mv "$module.new" "$module" # whole or not at all
    rm -rf "$work"
    echo "Kryoptic: built in $(($(date +%s) - start)) s"
fi
echo "$module" >&3
