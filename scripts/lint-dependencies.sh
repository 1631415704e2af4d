#!/bin/sh
# Licences, bans and sources of the dependencies, by cargo-deny and deny.toml.
set -eu

cd "$(dirname "$0")/.."
if ! cargo deny --version >/dev/null 2>&1; then
    echo "Installing cargo-deny, once; this takes some minutes"
    cargo install --quiet --locked cargo-deny@0.20.2
fi
# Advisories come from a repository on the network, so they are left to a scheduled job.
cargo deny --all-features check --hide-inclusion-graph bans licenses sources
