//! A member of a group that is tried.

use std::fmt;
use std::sync::Arc;

use longshore_cnb::group::{GroupElement, ModuleKind};
use longshore_cnb::order::OrderEntry;

use crate::module_store::Module;

/// A component buildpack or an image extension in a group that is tried.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Which of the two it is.
    pub(super) kind: ModuleKind,
    /// Its ID.
    pub(super) id: String,
    /// Its version.
    pub(super) version: String,
    /// Whether the group can pass without it.
    pub(super) optional: bool,
    pub(super) module: Arc<Module>,
}

/// What identifies a module: its `bin/detect` runs once, however many groups it is in.
pub(super) type ModuleKey = (ModuleKind, String, String);

impl Member {
    pub(super) fn new(kind: ModuleKind, entry: &OrderEntry, module: Arc<Module>) -> Self {
        let (id, version) = (entry.id.clone(), entry.version.clone());
        Self { kind, id, version, optional: entry.optional, module }
    }

    pub(super) fn key(&self) -> ModuleKey {
        (self.kind, self.id.clone(), self.version.clone())
    }

    pub(super) fn group_element(&self) -> GroupElement {
        GroupElement {
            id: self.id.clone(),
            version: self.version.clone(),
            api: self.module.descriptor.api_text.clone(),
            homepage: self.module.descriptor.info.homepage.clone(),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.id, self.version)
    }
}
