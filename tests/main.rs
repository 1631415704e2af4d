//! End-to-end tests, through the binary, one module per area.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

/// The program under test.
const LONGSHORE: &str = env!("CARGO_BIN_EXE_longshore");

mod apps;
mod bad_input;
mod build;
mod buildpacks;
#[cfg(target_arch = "x86_64")]
mod cache_directory;
mod conformance;
mod containers;
#[cfg(target_arch = "x86_64")]
mod crash;
mod delta;
#[cfg(target_arch = "x86_64")]
mod detection;
mod documents;
mod exporter;
mod extensions;
mod image;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod power_loss;
mod publish;
#[cfg(target_arch = "x86_64")]
mod published_blobs;
mod rebase;
mod reproducible;
mod round_trips;
mod run;
mod run_image_update;
mod surroundings;
#[cfg(target_arch = "x86_64")]
mod unpacking;
