#!/bin/sh
# sh tests/tokens/kryoptic.sh: builds Kryoptic, a PKCS#11 3.2 token with post-quantum keys, unless it is there; prints the module's path.
#
# From crates.io, by the lock file in tests/kryoptic, into target/kryoptic, in about ten minutes, once. Kryoptic's ML-DSA is OpenSSL's,
# from 3.5 on, which Debian 12 has not: so libcrypto, from the crate openssl-src, and SQLite are linked into the module, and it needs
# nothing but libc. What it signs is judged by an sqv that tests/sqv.sh builds. Exits with 77 where Debian's packages cannot be installed.
set -eu
cd -- "$(dirname -- "$0")/../.."

# locked CRATE: its version.
locked() {
    sed -n "/^name = \"$1\"/{n;s/^version = \"\([^+\"]*\).*/\1/p}" tests/kryoptic/Cargo.lock
}
kryoptic=$(locked kryoptic)
openssl=$(locked openssl-src)
mkdir -p "${CARGO_TARGET_DIR:-target}/kryoptic"
here=$(cd "${CARGO_TARGET_DIR:-target}/kryoptic" && pwd)
module=$here/kryoptic-$kryoptic-$openssl.so
manifest=$PWD/tests/kryoptic/Cargo.toml
sh tests/sqv.sh >/dev/null

if [ ! -e "$module" ]; then
    start=$(date +%s)
    . tests/common.sh
    # shellcheck disable=SC2046 # one word or none
    need gcc libc6-dev make perl python3 $(libclang)
    exec 3>&1 1>&2
    work=$here/build
    mkdir -p "$work"
    echo "Kryoptic: fetching its sources"
    cargo metadata --quiet --locked --format-version 1 --manifest-path "$manifest" >"$work/metadata"
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
        cargo build --quiet --release --locked --manifest-path "$manifest" --target-dir "$work/target" -p kryoptic \
        --message-format json-render-diagnostics >"$work/made"
    made=$(python3 -c 'import json, sys
made = [m for m in map(json.loads, sys.stdin) if m["reason"] == "compiler-artifact" and m["target"]["name"] == "kryoptic_pkcs11"]
print(*(name for name in made[-1]["filenames"] if name.endswith(".so")))' <"$work/made")
    cp "$made" "$module.new"
    mv "$module.new" "$module" # whole or not at all
    rm -rf "$work"
    echo "Kryoptic: built in $(($(date +%s) - start)) s"
    exec 1>&3
fi
echo "$module"
