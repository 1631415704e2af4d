//! `group.toml`: the buildpacks and image extensions that detection selected.
//!
//! Spec: platform.md "`group.toml` (TOML)".

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::api::{ApiError, BuildpackApi};
use crate::go_toml::Table;

/// Whether a module is a buildpack or an image extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ModuleKind {
    /// A buildpack, described by `buildpack.toml`.
    Buildpack,
    /// An image extension, described by `extension.toml`.
    Extension,
}

impl fmt::Display for ModuleKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Buildpack => "buildpack",
            Self::Extension => "image extension",
        })
    }
}

/// The contents of `group.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The buildpacks, in the order they run.
    #[serde(default, rename = "group")]
    pub buildpacks: Vec<GroupElement>,
    /// The image extensions, in the order they run.
    #[serde(default, rename = "group-extensions", skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<GroupElement>,
}

/// A selected buildpack or image extension.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupElement {
    /// The ID of the module.
    pub id: String,
    /// The version of the module.
    pub version: String,
    /// The Buildpack API it implements, as declared.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api: String,
    /// Its homepage; empty when it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub homepage: String,
}

impl Group {
    /// The contents of the file, as the reference writes them.
    #[must_use]
    pub fn to_document(&self) -> String {
        let tables =
            |elements: &[GroupElement]| elements.iter().map(GroupElement::to_toml).collect::<Vec<_>>();
        Table::new()
            .with_filled("group", tables(&self.buildpacks))
            .with_filled("group-extensions", tables(&self.extensions))
            .to_document()
    }
}

impl GroupElement {
    /// The element in `group.toml` and `metadata.toml`.
    pub(crate) fn to_toml(&self) -> Table {
        Table::new()
            .with("id", &self.id)
            .with("version", &self.version)
            .with_filled("api", &self.api)
            .with_filled("homepage", &self.homepage)
    }

    /// The Buildpack API it implements.
    ///
    /// # Errors
    ///
    /// When the declared version is missing, malformed or not supported.
    pub fn buildpack_api(&self) -> Result<BuildpackApi, ApiError> {
        BuildpackApi::parse(&self.api)
    }
}

impl fmt::Display for GroupElement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.id, self.version)
    }
}

/// The directory that belongs to a module ID, under the layers, buildpacks or extensions directory: the ID with its
/// slashes replaced.
pub fn directory_name(id: &str) -> String {
    id.replace('/', "_")
}
