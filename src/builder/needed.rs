//! Which layers of a builder a build needs.
//!
//! Every buildpack that the order can reach takes part in detection, so its layer is needed before anything is known of the
//! app. The layers of other modules are not. A layer of a buildpack holds that buildpack alone (distribution specification,
//! "Buildpackage"), so leaving it out changes nothing else.
//!
//! The labels say which layers these are before any of them is there. What counts for detection are the files, so once the
//! other layers are there it is made sure that these say nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use longshore_cnb::group::directory_name;
use longshore_cnb::order::{OrderGroup, OrderToml};
use longshore_cnb::system::SystemToml;
use longshore_image::DiffId;
use longshore_sandbox::read_in_layers;
use serde::Deserialize;

use super::labels::ModuleLayers;
use super::order::resolve_version;
use super::{BuilderImage, Module, ModuleId};

/// What a build takes from its builder.
pub(crate) struct Needs<'a> {
    builder: &'a BuilderImage,
    /// The order, when it is not the builder's.
    order: Option<&'a [OrderGroup]>,
    /// Buildpacks that the builder does not have.
    modules: &'a [Module],
    /// What the order reaches as far as the labels tell; `None` when they do not tell.
    reached: Option<BTreeSet<ModuleId>>,
}

impl<'a> Needs<'a> {
    /// What the labels of `builder` say that a build needs with this order and these buildpacks.
    pub(crate) fn new(
        builder: &'a BuilderImage,
        order: Option<&'a [OrderGroup]>,
        modules: &'a [Module],
    ) -> Self {
        let mut needs = Self { builder, order, modules, reached: None };
        let system = SystemToml::from(builder.system.clone());
        let order = system.merge_into(order.unwrap_or(&builder.order));
        needs.reached = needs.reach(&order, |id| needs.order_of_label(id));
        needs
    }

    /// The layers that are not needed, out of those of the image, the lowest first.
    pub(crate) fn spared(&self, layers: &[DiffId]) -> BTreeSet<DiffId> {
        let Some(reached) = &self.reached else { return BTreeSet::new() };
        // A layer with several buildpacks is needed for any of them. `build` runs no image extensions.
        let mut needed: BTreeMap<DiffId, bool> = BTreeMap::new();
        let mut note = |layers: &ModuleLayers, is_reached: &dyn Fn(&ModuleId) -> bool| {
            for (id, versions) in layers {
                for (version, layer) in versions {
                    let id = ModuleId { id: id.clone(), version: version.clone() };
                    if let Ok(diff_id) = layer.layer_diff_id.parse() {
                        *needed.entry(diff_id).or_default() |= is_reached(&id);
                    }
                }
            }
        };
        note(&self.builder.buildpacks, &|id| reached.contains(id));
        note(&self.builder.extensions, &|_| false);
        // Whatever the labels say: the lowest layer is the base image's.
        if let Some(lowest) = layers.first() {
            needed.insert(*lowest, true);
        }
        layers.iter().filter(|layer| needed.get(layer) == Some(&false)).copied().collect()
    }

    /// Whether the files of the builder reach no more than its labels say; `layers` are those that are needed, unpacked,
    /// the lowest first.
    pub(crate) fn agrees_with_files(&self, layers: &[PathBuf]) -> bool {
        let order = match self.order {
            Some(order) => Some(order.to_vec()),
            None => read::<OrderToml>(layers, Path::new("/cnb/order.toml"))
                .filter(|order| order.extensions.is_empty())
                .map(|order| order.order),
        };
        let system = match read_in_layers(layers, Path::new("/cnb/system.toml")) {
            Ok(None) => Some(SystemToml::default()),
            _ => read(layers, Path::new("/cnb/system.toml")),
        };
        let found = order.zip(system).and_then(|(order, system)| {
            self.reach(&system.merge_into(&order), |id| self.order_of_file(id, layers))
        });
        found.zip(self.reached.as_ref()).is_some_and(|(found, expected)| found.is_subset(expected))
    }

    /// All modules that an order reaches, through composite buildpacks as well; `None` when one of them is not known.
    fn reach(
        &self,
        order: &[OrderGroup],
        order_of: impl Fn(&ModuleId) -> Option<Vec<OrderGroup>>,
    ) -> Option<BTreeSet<ModuleId>> {
        let mut known = self.builder.buildpack_ids();
        known.extend(self.modules.iter().map(Module::id));
        let mut reached = BTreeSet::new();
        let mut pending = order.to_vec();
        while let Some(group) = pending.pop() {
            for entry in group.group {
                let version = resolve_version(&entry.id, &entry.version, &known).ok()?;
                let id = ModuleId { id: entry.id, version };
                if reached.insert(id.clone()) {
                    pending.extend(order_of(&id)?);
                }
            }
        }
        Some(reached)
    }

    fn order_of_label(&self, id: &ModuleId) -> Option<Vec<OrderGroup>> {
        let label = self.builder.buildpacks.get(&id.id).and_then(|versions| versions.get(&id.version));
        let mut order = label.map(|layer| layer.order.clone()).unwrap_or_default();
        order.extend(self.order_of_module(id));
        Some(order)
    }

    fn order_of_file(&self, id: &ModuleId, layers: &[PathBuf]) -> Option<Vec<OrderGroup>> {
        let mut order = self.order_of_module(id);
        if self.modules.iter().any(|module| module.id() == *id) {
            return Some(order);
        }
        let directory = Path::new("/cnb/buildpacks").join(directory_name(&id.id)).join(&id.version);
        let text = read_text(layers, &directory.join("buildpack.toml"))?;
        if may_be_composite(&text) {
            #[derive(Deserialize)]
            struct Composite {
                #[serde(default)]
                order: Vec<OrderGroup>,
            }
            order.extend(toml::from_str::<Composite>(&text).ok()?.order);
        }
        Some(order)
    }

    fn order_of_module(&self, id: &ModuleId) -> Vec<OrderGroup> {
        let own = self.modules.iter().filter(|module| module.id() == *id);
        own.flat_map(|module| module.descriptor.order.clone()).collect()
    }
}

/// Whether a line looks as if it began an order. Most descriptors have none, and some are long.
fn may_be_composite(descriptor: &str) -> bool {
    descriptor.lines().any(|line| line.trim_start_matches([' ', '\t', '[', '"', '\'']).starts_with("order"))
}

fn read_text(layers: &[PathBuf], path: &Path) -> Option<String> {
    String::from_utf8(read_in_layers(layers, path).ok()??).ok()
}

fn read<T: serde::de::DeserializeOwned>(layers: &[PathBuf], path: &Path) -> Option<T> {
    toml::from_str(&read_text(layers, path)?).ok()
}

#[cfg(test)]
#[path = "needed_tests.rs"]
mod tests;
