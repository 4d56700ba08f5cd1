#!/bin/sh
# sh tests/fuzz.sh SECONDS [TARGET...]: each fuzz target, for so long, beginning with the examples in fuzz/corpus.
#
# Needs g++ for libFuzzer, and neither cargo-fuzz nor a nightly toolchain. What is found is kept below cargo's target
# directory, in fuzz/corpus and, where it breaks something, in fuzz/found.
set -eu
seconds=${1:?sh tests/fuzz.sh SECONDS [TARGET...]}
shift
cd -- "$(dirname -- "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$target/fuzz/found"
RUSTC_WORKSPACE_WRAPPER=$PWD/tests/sancov.sh cargo build --quiet --locked --package sigsh-fuzz
[ $# -gt 0 ] || set -- fuzz/fuzz_targets/*.rs
for name; do
    name=$(basename "$name" .rs)
    found=$target/fuzz/corpus/$name
    log=$target/fuzz/$name.log
    mkdir -p "$found"
    "$target/debug/$name" "$found" "fuzz/corpus/$name" -max_total_time="$seconds" -max_len=20000 -timeout=10 \
        -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$target/fuzz/found/$name-" 2>"$log" ||
        { tail -n 60 "$log" && exit 1; }
    echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs"
done
