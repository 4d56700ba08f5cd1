#!/bin/sh
# sh sshd/static.sh: builds the three programs without any library, for a host or container that has none.
#
# Rust's library for musl is fetched where it is missing. Exits with 77 when that cannot be, and says why in its last line.
set -eu
cd -- "$(dirname -- "$0")/.."
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
export PATH

target=$(rustc -vV | sed -n 's/^host: \([^-]*\)-.*/\1/p')-unknown-linux-musl
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    echo "static.sh: rustup target add $target"
    if ! rustup target add "$target"; then
        echo "static.sh: Rust has no library for $target here, and rustup cannot fetch it"
        exit 77
    fi
fi
cargo build --release --locked --bins --target "$target"

built=${CARGO_TARGET_DIR:-target}/$target/release
for program in sigsh sigsh-admin sigsh-client; do
    # It says so with an exit code of 0 or 1, depending on its version.
    linked=$(LC_ALL=C ldd "$built/$program" 2>&1) || :
    case $linked in
    *"not a dynamic executable"* | *"statically linked"*) echo "$built/$program: ${linked#"${linked%%[![:space:]]*}"}" ;;
    *)
        printf 'static.sh: %s is not static:\n%s\n' "$built/$program" "$linked" >&2
        exit 1
        ;;
    esac
done
