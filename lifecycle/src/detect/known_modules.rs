//! The modules that an order names.

use std::collections::HashMap;
use std::sync::Arc;

use longshore_cnb::group::ModuleKind;
use longshore_cnb::order::{OrderEntry, OrderToml};

use super::error::DetectError;
use super::member::ModuleKey;
use crate::module_store::{Module, ModuleStore};

/// The modules that have been read.
pub(super) struct KnownModules<'a> {
    store: &'a ModuleStore,
    order: &'a OrderToml,
    known: HashMap<ModuleKey, Arc<Module>>,
}

impl<'a> KnownModules<'a> {
    pub(super) fn new(store: &'a ModuleStore, order: &'a OrderToml) -> Self {
        Self { store, order, known: HashMap::new() }
    }

    /// Reads everything that the order itself names: it must be usable, whichever group passes. A builder that lacks a
    /// buildpack or has one of an unknown API is broken, and that must not depend on the app. Of buildpacks, that is what
    /// the groups up to `end` name.
    pub(super) fn check_order(&mut self, end: usize) -> Result<(), DetectError> {
        let order = self.order;
        let buildpacks = order.order.get(..end).unwrap_or(&order.order);
        let kinds = [(ModuleKind::Buildpack, buildpacks), (ModuleKind::Extension, &order.extensions)];
        for (kind, groups) in kinds {
            for entry in groups.iter().flat_map(|group| &group.group) {
                self.find(kind, entry)?;
            }
        }
        Ok(())
    }

    pub(super) fn find(&mut self, kind: ModuleKind, entry: &OrderEntry) -> Result<Arc<Module>, DetectError> {
        let key = (kind, entry.id.clone(), entry.version.clone());
        if let Some(module) = self.known.get(&key) {
            return Ok(Arc::clone(module));
        }
        let module = self.store.module(kind, &entry.id, &entry.version).map_err(|source| {
            let (name, source) = (entry.to_string(), Box::new(source));
            if self.is_top_level(entry) {
                DetectError::TopLevelModule { kind, name, source }
            } else {
                DetectError::NestedModule { kind, name, source }
            }
        })?;
        let module = Arc::new(module);
        self.known.insert(key, Arc::clone(&module));
        Ok(module)
    }

    fn is_top_level(&self, entry: &OrderEntry) -> bool {
        let groups = self.order.order.iter().chain(&self.order.extensions);
        groups.flat_map(|group| &group.group).any(|named| named == entry)
    }
}
