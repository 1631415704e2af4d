//! The phases of the Cloud Native Buildpacks lifecycle.

mod exit_code;

pub use exit_code::ExitCode;
