#!/bin/sh
# Runs fuzz targets: scripts/fuzz.sh [SECONDS [TARGET]...]. Without names, all of tests/fuzz/targets in turn, 60 seconds
# each. Needs a nightly compiler (rustup toolchain install nightly) and a C++ compiler. New inputs go to
# target/fuzz/corpus. One that fails is there as crash-*, and belongs into tests/fuzz/corpus/TARGET together with the
# fix.
set -eu
cd "$(dirname "$0")/../tests/fuzz"
seconds=${1:-60}
[ $# -eq 0 ] || shift
# Names of targets contain no spaces.
# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $(basename -s .rs targets/*.rs)

CARGO_TARGET_DIR=$PWD/../../target/fuzz
export CARGO_TARGET_DIR
host=$(rustc -vV | sed -n 's/^host: //p')
flags='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters'
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
# With --target the flags do not apply to build scripts.
RUSTFLAGS=$flags cargo +nightly build -q --locked --release --target "$host" --bins

for target; do
    found=$CARGO_TARGET_DIR/corpus/$target
    mkdir -p "$found"
    echo "== $target, $seconds seconds"
    "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=512 -max_len=4096 -print_final_stats=1 \
        -artifact_prefix="$found/" "$found" "corpus/$target"
done
