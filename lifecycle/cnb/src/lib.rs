//! Cloud Native Buildpacks file formats, labels and API versions.

pub mod api;
pub mod environment;

pub use api::{ApiError, BuildpackApi, PlatformApi};

pub mod go_json;
pub mod go_toml;
