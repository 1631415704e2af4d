//! Longshore: a Cloud Native Buildpacks platform and lifecycle in one static binary, without a container daemon.

mod base;
mod builder;
mod command;
mod creation_time;
mod directories;
mod images;
mod output;
mod programs;
mod project;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::run()
}
