//! The phases of the Cloud Native Buildpacks lifecycle.

mod build_target;
pub mod detect;
mod exit_code;
mod module_environment;
mod module_store;

pub use exit_code::ExitCode;
pub use module_store::{Module, ModuleError, ModuleStore};
