#!/bin/sh
# sh tests/fuzz.sh SECONDS [TARGET...]: each fuzz target, for so long, beginning with the examples in fuzz/corpus.
#
# Installs cargo-fuzz where it is missing; needs g++ for libFuzzer, and no nightly toolchain. What is found is kept
# below cargo's target directory, in fuzz/corpus and, where it breaks something, in fuzz/found.
set -eu
seconds=${1:?sh tests/fuzz.sh SECONDS [TARGET...]}
shift
cd -- "$(dirname -- "$0")/.."
directory=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
mkdir -p "$directory/found"
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz
options="--sanitizer none --codegen-units 16 --target-dir"
# shellcheck disable=SC2086 # a list of words
cargo fuzz build $options "$directory" 2>"$directory/log" || { cat "$directory/log" && exit 1; }
[ $# -gt 0 ] || set -- fuzz/fuzz_targets/*.rs
for target; do
    target=$(basename "$target" .rs)
    mkdir -p "$directory/corpus/$target"
    # shellcheck disable=SC2086 # a list of words
    cargo fuzz run $options "$directory" "$target" "$directory/corpus/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=20000 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$directory/found/$target-" 2>"$directory/log" || { tail -n 60 "$directory/log" && exit 1; }
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$directory/log") runs"
done
