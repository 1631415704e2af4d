#!/bin/sh
# Builds the release binaries: first the launcher, which then becomes a part of longshore.
set -eu

cd "$(dirname "$0")/.."
scripts/toolchain.sh
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --profile launcher "$@" --target "$host" -p longshore-launcher
LONGSHORE_LAUNCHER=$PWD/target/$host/launcher/launcher \
    cargo build --release "$@" --target "$host" -p longshore
