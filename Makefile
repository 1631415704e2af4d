# What a developer types. `make` alone lists it.

HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
PREFIX ?= /usr/local
# Passed to the tests: make test TESTS="buildpacks -- --nocapture"
TESTS ?=
# Which rows of the benchmark run, and options for it: make bench ROWS="cold-zstd push" BENCH="--runs 9"
ROWS ?=
BENCH ?=

.PHONY: help quickstart build install test test-packages matrix bench lint format

help:
	@echo 'make quickstart     install what is needed, build Longshore, and build and run an app with it'
	@echo 'make build          the release binary, in target/$(HOST)/release'
	@echo 'make install        the same, installed below PREFIX ($(PREFIX))'
	@echo 'make test           every test; installs the packages that they need'
	@echo 'make test-packages  only install those packages'
	@echo 'make matrix         write into docs/registries.md what clients make of images today'
	@echo 'make bench          every row of docs/performance.md against its peer; writes the table into it'
	@echo 'make lint           formatting, clippy, licences and sources of dependencies'
	@echo 'make format         format the code'

quickstart:
	@scripts/quickstart.sh

build:
	@scripts/build.sh

install: build
	install -D -m 755 target/$(HOST)/release/longshore $(DESTDIR)$(PREFIX)/bin/longshore

test-packages:
	@scripts/packages.sh test

# The binaries come first: end-to-end tests start the launcher too, which Cargo does not know.
test:
	@scripts/toolchain.sh
	@scripts/packages.sh test
	cargo build --workspace --bins --target $(HOST)
	cargo test --workspace --target $(HOST) $(TESTS)

# A job of `make test` too, which compares what clients do with the document instead of writing it.
matrix:
	@scripts/toolchain.sh
	@scripts/packages.sh test
	cargo build --workspace --bins --target $(HOST)
	LONGSHORE_WRITE_MATRIX=1 cargo test --target $(HOST) --test longshore -- --test-threads=1 matrix::

# The harness needs no optimised build of the dependencies that it shares with the tests.
bench:
	@scripts/toolchain.sh
	@scripts/packages.sh bench
	@scripts/build.sh
	cargo build --target $(HOST) -p longshore-bench
	target/$(HOST)/debug/longshore-bench $(BENCH) $(ROWS)

lint:
	@scripts/toolchain.sh
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --target $(HOST) -- -D warnings
	@scripts/lint-dependencies.sh
	@scripts/lint-files.sh

format:
	cargo fmt --all
