//! Cloud Native Buildpacks file formats, labels and API versions.

pub mod analyzed;
pub mod api;
pub mod build_metadata;
pub mod build_toml;
pub mod buildpack_toml;
pub mod environment;
pub mod extend_config;
pub mod go_json;
pub mod go_toml;
pub mod group;
pub mod launch_toml;
pub mod layer_toml;
pub mod lifecycle_metadata;
pub mod metadata_toml;
pub mod order;
pub mod plan;
pub mod process;
pub mod project_metadata;
pub mod report;
pub mod run;
pub mod stack;
pub mod store_toml;
pub mod system;
pub mod target;
pub mod toml_file;

pub use api::{ApiError, BuildpackApi, PlatformApi};
pub use toml_file::TomlFileError;
