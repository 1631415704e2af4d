//! Longshore: a Cloud Native Buildpacks platform and lifecycle in one static binary, without a container daemon.

mod base;
mod build;
mod builder;
mod command;
mod container;
mod creation_time;
mod directories;
mod images;
mod known_registries;
mod output;
mod pretty_json;
mod programs;
mod project;
mod rootfs;
mod settings;
mod spared;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Sandboxes start this program again as their helper, which needs a process with one thread.
    longshore_sandbox::init_with(&[rootfs::UNPACK]);
    // Inside a build environment this program is the lifecycle; its name says which phase.
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default().to_string_lossy().into_owned();
    if longshore_lifecycle::cli::is_program(&program) {
        return longshore_lifecycle::cli::main(&program, arguments, programs::LIFECYCLE_VERSION);
    }
    command::run()
}
