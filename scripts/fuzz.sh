#!/bin/sh
# fuzz.sh SECONDS [TARGET...]: runs the fuzz targets (all, if none is named) for so long each, with the stable compiler.
#
# What was found to be of interest is kept in target/fuzz/corpus; fuzz/seeds holds what to start with. The address
# sanitizer is left out: unsafe code is in the sandbox alone, and in libraries that are fuzzed by their own projects.
set -eu

seconds=${1:?fuzz.sh SECONDS [TARGET...]}
shift
[ $# -gt 0 ] || set -- reference manifest archive unpack toml
cd "$(dirname "$0")/.."
scripts/packages.sh fuzz

coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=16 --cfg fuzzing"
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS=$coverage cargo build --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --target "$host" --release --bins

for name in "$@"; do
    mkdir -p "target/fuzz/corpus/$name" "target/fuzz/artifacts/$name"
    echo "fuzzing $name for $seconds s"
    "target/fuzz/$host/release/$name" "target/fuzz/corpus/$name" "fuzz/seeds/$name" \
        -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="target/fuzz/artifacts/$name/"
done
