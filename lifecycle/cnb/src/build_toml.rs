//! `build.toml`: what a buildpack reports about the build apart from its layers.
//!
//! Spec: buildpack.md "build.toml (TOML)".

use serde::{Deserialize, Serialize};

/// The contents of `<layers>/<buildpack>/build.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct BuildToml {
    /// The deprecated unstructured bill of materials of the build.
    #[serde(default)]
    pub bom: Vec<BomEntry>,
    /// The entries of the buildpack plan that the buildpack leaves to later ones.
    #[serde(default)]
    pub unmet: Vec<Unmet>,
}

/// An entry of the buildpack plan that was not met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Unmet {
    /// The name of the dependency.
    #[serde(default)]
    pub name: String,
}

/// An entry of the deprecated, unstructured bill of materials (`bom` of `launch.toml` and `build.toml`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BomEntry {
    /// The name of the dependency.
    #[serde(default)]
    pub name: String,
    /// Not allowed any more: `metadata.version` takes its place.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Anything that describes the dependency.
    #[serde(default)]
    pub metadata: toml::Table,
}
