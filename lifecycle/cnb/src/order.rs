//! `order.toml`: the groups of buildpacks and image extensions to try, in order.
//!
//! Spec: platform.md "`order.toml` (TOML)", buildpack.md "Order".

use std::fmt;

use serde::{Deserialize, Serialize};

/// The contents of `order.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderToml {
    /// Groups of buildpacks, tried in order.
    #[serde(default)]
    pub order: Vec<OrderGroup>,
    /// Groups of image extensions, tried in order before each group of buildpacks.
    #[serde(default, rename = "order-extensions", skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<OrderGroup>,
}

/// A group of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderGroup {
    /// The members of the group, in the order they take part.
    #[serde(default)]
    pub group: Vec<OrderEntry>,
}

/// A reference to a buildpack or an image extension in a group of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEntry {
    /// The ID of the module.
    pub id: String,
    /// The version of the module. Platforms may leave it out where only one version exists; the lifecycle needs it.
    #[serde(default)]
    pub version: String,
    /// Whether the group can pass without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// The execution environments in which the entry applies; empty means all.
    #[serde(default, rename = "exec-env", skip_serializing_if = "Vec::is_empty")]
    pub exec_env: Vec<String>,
}

impl fmt::Display for OrderEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.id, self.version)
    }
}
