#!/bin/sh
# Makes sure that a Rust toolchain is there that is new enough, and a directory that everything can be built in.
set -eu

cd "$(dirname "$0")/.."
wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

if ! command -v cargo >/dev/null; then
    cat >&2 <<END
There is no cargo. Install Rust $wanted or newer with rustup:
  - on Debian 13 or newer: apt-get install rustup && rustup toolchain install stable
  - elsewhere, with curl, as https://rustup.rs says: curl -sSf https://sh.rustup.rs | sh -s -- -y && . "\$HOME/.cargo/env"
Debian's own cargo and rustc are older, those of other distributions may do.
END
    exit 1
fi
found=$(rustc --version | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
    echo "Rust $wanted or newer is needed, found $found. With rustup: rustup update stable" >&2
    exit 1
fi
case $PWD in
    *[[:space:]]*)
        echo "ISA-L, which compresses gzip, cannot be built in a path with blanks: $PWD" >&2
        echo "Clone the repository to a path without them." >&2
        exit 1
        ;;
esac
