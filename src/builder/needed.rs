//! Which layers of a builder a build needs.
//!
//! Detection tries the groups of the order one after the other, and the first that passes is selected (buildpack
//! specification, "Order Resolution"). What the groups up to that one reach takes part in detection, so the layers of these
//! buildpacks are needed; those of other modules are not. A layer of a buildpack holds that buildpack alone (distribution
//! specification, "Buildpackage"), so leaving it out changes nothing else.
//!
//! The labels say which layers these are before any of them is there. What counts for detection are the files. It reads them
//! one by one as it comes to them, and says when one is not there: so what the labels say need not be compared with the files
//! in advance, which takes longer the more buildpacks there are.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use longshore_cnb::BuildpackApi;
use longshore_cnb::order::OrderGroup;
use longshore_cnb::system::SystemToml;
use longshore_image::DiffId;

use super::labels::ModuleLayers;
use super::order::resolve_version;
use super::{BuilderImage, Module, ModuleId};

/// What a build needs of its builder, as far as the labels tell.
pub(crate) struct Needs {
    /// How many groups the order has.
    groups: usize,
    /// Layers of modules, with the first group that needs them; `None` when none does.
    layers: BTreeMap<DiffId, Option<usize>>,
}

impl Needs {
    /// What the labels of `builder` say of its layers (`layers`, the lowest first), for this order if it is not the builder's,
    /// and buildpacks that the builder does not have.
    pub(crate) fn new(
        builder: &BuilderImage,
        layers: &[DiffId],
        order: Option<&[OrderGroup]>,
        modules: &[Module],
    ) -> Self {
        let system = SystemToml::from(builder.system.clone());
        let order = system.merge_into(order.unwrap_or(&builder.order));
        let labels = Labels { builder, modules };
        let layers = labels.reach(&order).map(|reached| labels.needs(&reached, layers)).unwrap_or_default();
        Self { groups: order.len(), layers }
    }

    /// How many groups the order has.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// The layers that the first `groups` groups do not need.
    pub(crate) fn spared(&self, groups: usize) -> BTreeSet<DiffId> {
        let spared = self.layers.iter().filter(|(_, first)| first.is_none_or(|first| first >= groups));
        spared.map(|(layer, _)| *layer).collect()
    }

    /// Up to which group the next stage of detection goes, when so many were tried: as far as there are layers, but by one
    /// group at least, for which those that are missing have to be fetched.
    pub(crate) fn next_stage(&self, tried: usize, is_there: impl Fn(DiffId) -> bool) -> usize {
        let later = self.layers.iter().filter_map(|(layer, first)| Some((*layer, (*first)?)));
        let missing = later.filter(|(layer, first)| *first > tried && !is_there(*layer));
        missing.map(|(_, first)| first).min().unwrap_or(self.groups)
    }
}

/// What the labels of a builder say, and the modules that come on top.
struct Labels<'a> {
    builder: &'a BuilderImage,
    modules: &'a [Module],
}

impl Labels<'_> {
    /// All modules that an order reaches, through composite buildpacks as well, with the first group that does; `None` when
    /// one of them is not known.
    fn reach(&self, order: &[OrderGroup]) -> Option<BTreeMap<ModuleId, usize>> {
        let mut known = self.builder.buildpack_ids();
        known.extend(self.modules.iter().map(Module::id));
        let mut reached = BTreeMap::new();
        for (number, group) in order.iter().enumerate() {
            let mut pending = vec![group.clone()];
            while let Some(group) = pending.pop() {
                for entry in group.group {
                    let version = resolve_version(&entry.id, &entry.version, &known).ok()?;
                    if let Entry::Vacant(new) = reached.entry(ModuleId { id: entry.id, version }) {
                        pending.extend(self.order_of(new.key()));
                        new.insert(number);
                    }
                }
            }
        }
        let mut named = order.iter().flat_map(|group| &group.group);
        if !named.all(|entry| self.is_usable(&entry.id)) {
            reached.values_mut().for_each(|first| *first = 0);
        }
        Some(reached)
    }

    /// Whether detection can use a buildpack, in each version. It makes sure of that for all that the order names before it
    /// tries any: a broken builder must be found whatever the app is.
    fn is_usable(&self, id: &str) -> bool {
        let mut versions = self.builder.buildpacks.get(id).into_iter().flat_map(BTreeMap::values);
        versions.all(|layer| BuildpackApi::parse(&layer.api).is_ok())
    }

    fn order_of(&self, id: &ModuleId) -> Vec<OrderGroup> {
        let label = self.builder.buildpacks.get(&id.id).and_then(|versions| versions.get(&id.version));
        let mut order = label.map(|layer| layer.order.clone()).unwrap_or_default();
        let own = self.modules.iter().filter(|module| module.id() == *id);
        order.extend(own.flat_map(|module| module.descriptor.order.clone()));
        order
    }

    /// The layers of modules, with the first group that needs them.
    fn needs(
        &self,
        reached: &BTreeMap<ModuleId, usize>,
        layers: &[DiffId],
    ) -> BTreeMap<DiffId, Option<usize>> {
        let mut needs: BTreeMap<DiffId, Option<usize>> = BTreeMap::new();
        let mut note = |modules: &ModuleLayers, first_of: &dyn Fn(&ModuleId) -> Option<usize>| {
            for (id, versions) in modules {
                for (version, layer) in versions {
                    let id = ModuleId { id: id.clone(), version: version.clone() };
                    if let Ok(diff_id) = layer.layer_diff_id.parse() {
                        // A layer with several buildpacks is needed for any of them.
                        let first = needs.entry(diff_id).or_default();
                        *first = first.iter().copied().chain(first_of(&id)).min();
                    }
                }
            }
        };
        note(&self.builder.buildpacks, &|id| reached.get(id).copied());
        // `build` runs no image extensions.
        note(&self.builder.extensions, &|_| None);
        // Whatever the labels say: the lowest layer is the base image's, and others have nothing to do with the image.
        let lowest = layers.first();
        needs.retain(|layer, _| lowest != Some(layer) && layers.contains(layer));
        needs
    }
}

#[cfg(test)]
#[path = "needed_tests.rs"]
mod tests;
