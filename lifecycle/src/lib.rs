//! The phases of the Cloud Native Buildpacks lifecycle.

pub mod analyze;
pub mod build;
mod build_target;
pub mod cache;
pub mod cli;
pub mod detect;
pub mod detector;
mod directory;
mod dockerfile;
mod exit_code;
mod experimental;
pub mod export;
pub mod extend;
pub mod generate;
mod image_identifier;
mod image_layers;
mod launch_cache;
mod module_environment;
mod module_process;
mod module_store;
mod publish;
pub mod rebase;
pub mod restore;
pub mod run_image;

use longshore_image::Timestamp;

pub use directory::{LayersDirectoryError, MalformedLayer, MappedDirectory, Owner};
pub use exit_code::ExitCode;
pub use experimental::{ExperimentalError, ExperimentalMode};
pub use image_identifier::Identify;
pub use module_store::{Module, ModuleError, ModuleStore};

/// When an image says it was created, unless a platform asks for another time: a constant, so that the same input gives
/// the same image (platform.md "Build Reproducibility"). 1980-01-01T00:00:01Z, as the reference lifecycle.
#[must_use]
pub fn default_created() -> Timestamp {
    Timestamp::constant(315_532_801, 0)
}
