//! Longshore: a Cloud Native Buildpacks platform and lifecycle in one static binary, without a container daemon.

mod base;
mod command;
mod directories;
mod output;
mod project;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::run()
}
