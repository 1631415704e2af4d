//! The phases of the Cloud Native Buildpacks lifecycle.

pub mod build;
mod build_target;
pub mod detect;
mod exit_code;
mod module_environment;
mod module_process;
mod module_store;

pub use exit_code::ExitCode;
pub use module_store::{Module, ModuleError, ModuleStore};
