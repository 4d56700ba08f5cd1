#!/bin/sh
# RUSTC_WORKSPACE_WRAPPER of tests/fuzz.sh: our own crates tell libFuzzer which ways they took, as cargo-fuzz has them do.
# The crates that we use are those of every other build: nothing of them is compiled again. Nor has build.rs a libFuzzer to tell.
case " $* " in
*" --crate-name build_script_build "*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
