//! Longshore: a Cloud Native Buildpacks platform and lifecycle in one static binary, without a container daemon.

mod base;
mod build;
mod builder;
mod command;
mod container;
mod creation_time;
mod directories;
mod images;
mod inside;
mod output;
mod programs;
mod project;
mod rootfs;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Sandboxes start this program again as their helper, which needs a process with one thread.
    longshore_sandbox::init_with(&[rootfs::UNPACK]);
    inside::run().unwrap_or_else(command::run)
}
