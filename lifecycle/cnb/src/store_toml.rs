//! `store.toml`: metadata that a buildpack keeps from one build to the next.
//!
//! Spec: buildpack.md "store.toml (TOML)".

use serde::{Deserialize, Serialize};

/// The contents of `<layers>/<buildpack>/store.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreToml {
    /// Whatever the buildpack wants to find again.
    #[serde(default)]
    pub metadata: toml::Table,
}
