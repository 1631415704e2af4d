#!/bin/sh
# fuzz.sh SECONDS [TARGET...]: runs the fuzz targets (all, if none is named) for so long each, with the stable compiler.
# fuzz.sh keep [TARGET...]: keeps what was found, in fuzz/corpus.
#
# fuzz/seeds holds what was written to start with, and fuzz/corpus what was found: a line for each input, compressed
# and in base64: the fewest that reach all code that is reached. While it is fuzzed, it is in target/fuzz/corpus. The address sanitizer is
# left out: unsafe code is in the sandbox alone, and in libraries that are fuzzed by their own projects.
set -eu

seconds=${1:?fuzz.sh SECONDS|keep [TARGET...]}
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
    corpus=target/fuzz/corpus/$name
    program=target/fuzz/$host/release/$name
    mkdir -p "$corpus" "target/fuzz/artifacts/$name" fuzz/corpus
    touch "fuzz/corpus/$name"
    number=0
    while read -r line; do
        number=$((number + 1))
        echo "$line" | base64 --decode | gzip -d >"$corpus/kept-$number"
    done <"fuzz/corpus/$name"
    if [ "$seconds" = keep ]; then
        fewest=$(mktemp -d)
        # By the code that they reach, not by how often: of the latter there would be thousands.
        "$program" -merge=1 -use_counters=0 -rss_limit_mb=1024 "$fewest" "fuzz/seeds/$name" "$corpus" 2>/dev/null
        for input in "$fewest"/*; do
            gzip -9n <"$input" | base64 --wrap=0
            echo
        done | LC_ALL=C sort >"fuzz/corpus/$name"
        rm -r "$fewest"
        echo "kept $(wc -l <"fuzz/corpus/$name") inputs of $name in $(wc -c <"fuzz/corpus/$name") bytes"
    else
        echo "fuzzing $name for $seconds s"
        "$program" "$corpus" "fuzz/seeds/$name" -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=20 \
            -print_final_stats=1 -artifact_prefix="target/fuzz/artifacts/$name/"
    fi
done
