# What a developer types. `make` alone lists it.

HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
PREFIX ?= /usr/local
# Passed to the tests: make test TESTS="buildpacks -- --nocapture"
TESTS ?=

.PHONY: help quickstart build install test test-packages lint format

help:
	@echo 'make quickstart     install what is needed, build Longshore, and build and run an app with it'
	@echo 'make build          the release binary, in target/$(HOST)/release'
	@echo 'make install        the same, installed below PREFIX ($(PREFIX))'
	@echo 'make test           every test; installs the packages that they need'
	@echo 'make test-packages  only install those packages'
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
test: test-packages
	@scripts/toolchain.sh
	cargo build --workspace --bins --target $(HOST)
	cargo test --workspace --target $(HOST) $(TESTS)

lint:
	@scripts/toolchain.sh
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --target $(HOST) -- -D warnings
	@scripts/lint-dependencies.sh
	@scripts/lint-files.sh

format:
	cargo fmt --all
