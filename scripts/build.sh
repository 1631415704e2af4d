#!/bin/sh
# Builds the release binaries: first the launcher, which then becomes a part of longshore.
set -eu

cd "$(dirname "$0")/.."
scripts/toolchain.sh
missing=
for tool in autoconf automake gcc libtoolize make nasm; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
    echo "Building Longshore needs these programs, which are not there:$missing" >&2
    echo "On Debian, scripts/packages.sh build installs what has them." >&2
    exit 1
fi
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --profile launcher "$@" --target "$host" -p longshore-launcher
LONGSHORE_LAUNCHER=$PWD/target/$host/launcher/launcher \
    cargo build --release "$@" --target "$host" -p longshore
