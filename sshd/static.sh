#!/bin/sh
# sh sshd/static.sh [PROFILE]: builds the three programs without any library, for a host or container that has none. Its last line says where.
#
# PROFILE is one of Cargo's; what is installed is built by `release`, as it is without. Rust's library for musl is fetched where it is
# missing. Exits with 77 when that cannot be, and says why in its last line.
set -eu
cd -- "$(dirname -- "$0")/.."
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
export PATH
profile=${1-release}

host=$(rustc -vV | sed -n 's/^host: //p')
case $host in
*-linux-musl) target=$host ;; # as Alpine's own Rust has it
*) target=${host%%-*}-unknown-linux-musl ;;
esac
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    echo "static.sh: rustup target add $target"
    if ! rustup target add "$target"; then
        echo "static.sh: Rust has no library for $target here, and rustup cannot fetch it"
        exit 77
    fi
fi
# Alpine's links to its libc unless told otherwise.
cargo build --profile "$profile" --locked --bins --target "$target" --config "target.$target.rustflags=['-Ctarget-feature=+crt-static']"

built=${CARGO_TARGET_DIR:-target}/$target/$profile
for program in sigsh sigsh-admin sigsh-client; do
    linked=$(LC_ALL=C readelf -ldW "$built/$program")
    case $linked in
    *INTERP* | *"(NEEDED)"*)
        printf 'static.sh: %s is not static:\n%s\n' "$built/$program" "$linked" >&2
        exit 1
        ;;
    esac
done
realpath "$built"
