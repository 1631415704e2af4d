//! Putting a builder together: a build image, then one layer each for the directories, the lifecycle, every module and
//! every file in `/cnb`, the way pack lays builders out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use longshore_cnb::go_json;
use longshore_cnb::group::ModuleKind;
use longshore_cnb::order::{OrderGroup, OrderToml};
use longshore_cnb::system::SystemBuildpacks;
use longshore_image::layer::{self, Entry};
use longshore_image::{BlobSink, Layer, LayerFormat, LayerSource, ManifestFormat, Timestamp};
use serde::Serialize;

use super::configuration::BuilderConfiguration;
use super::image::{build_ids, target_of};
use super::labels::{self, BuilderMetadata, Creator, ModuleLayer, ModuleLayers, ModuleMetadata};
use super::module::Module;
use super::order::{ModuleId, resolve_order};
use crate::images::{FoundImage, NewImage};
use crate::programs;

/// What a builder is made of.
pub(crate) struct BuilderRequest<'a> {
    /// The configuration.
    pub(crate) configuration: &'a BuilderConfiguration,
    /// The build image.
    pub(crate) build_image: &'a FoundImage,
    /// The modules.
    pub(crate) modules: Vec<Module>,
    /// The lifecycle's program.
    pub(crate) lifecycle: &'a Path,
    /// The launcher.
    pub(crate) launcher: &'a Path,
    /// When the builder says it was made.
    pub(crate) created: Timestamp,
    /// How its layers are compressed.
    pub(crate) format: LayerFormat,
    /// Where its layers are written.
    pub(crate) sink: &'a BlobSink,
}

/// Makes the builder, whose layers are then in the sink.
///
/// # Errors
/// When the build image is none, a module does not fit, or the order names what is not there.
pub(crate) fn assemble(request: &BuilderRequest<'_>) -> anyhow::Result<NewImage> {
    let (uid, gid) = build_ids(&request.build_image.image.config)
        .with_context(|| format!("`{}` is not a build image", request.configuration.build_image()))?;
    let modules = sorted(&request.modules)?;
    check(request, &modules)?;
    let image = NewImage::on(request.build_image, request.created)?;
    let mut assembly = Assembly { request, image };
    assembly.layer(&LayerSource::entries(directories(uid, gid)), "directories")?;
    assembly.layer(&lifecycle(request), "lifecycle")?;
    let buildpacks = assembly.modules(&modules, ModuleKind::Buildpack)?;
    let extensions = assembly.modules(&modules, ModuleKind::Extension)?;
    assembly.order(&buildpacks, &extensions)?;
    assembly.system(&labels::module_ids(&buildpacks))?;
    assembly.run_images()?;
    assembly.build_env()?;
    assembly.metadata(&modules)?;
    assembly.label(labels::BUILDPACK_LAYERS, &buildpacks)?;
    assembly.label(labels::EXTENSION_LAYERS, &extensions)?;
    assembly.image.config.set_working_dir("/layers");
    Ok(assembly.image)
}

/// The modules by kind, id and version; the same one twice must be the same directory.
fn sorted(modules: &[Module]) -> anyhow::Result<Vec<&Module>> {
    let mut by_id: BTreeMap<(bool, ModuleId), &Module> = BTreeMap::new();
    for module in modules {
        let key = (module.descriptor.kind == ModuleKind::Extension, module.id());
        if let Some(other) = by_id.insert(key, module) {
            ensure!(
                other.directory == module.directory,
                "`{}` is in both `{}` and `{}`",
                module.id(),
                other.directory.display(),
                module.directory.display()
            );
        }
    }
    Ok(by_id.into_values().collect())
}

fn check(request: &BuilderRequest<'_>, modules: &[&Module]) -> anyhow::Result<()> {
    let target = target_of(&request.build_image.image.config);
    let known: Vec<_> = modules.iter().map(|module| module.id()).collect();
    for module in modules {
        let descriptor = &module.descriptor;
        resolve_order(&descriptor.order, &known)
            .with_context(|| format!("the order of buildpack `{}` cannot be used", module.id()))?;
        let targets = &descriptor.targets;
        if !targets.is_empty() && !targets.iter().any(|supported| supported.supports(&target)) {
            let names: Vec<_> = targets.iter().map(ToString::to_string).collect();
            bail!(
                "buildpack `{}` is for {}, but the build image `{}` is {target}",
                module.id(),
                names.join(", "),
                request.configuration.build_image()
            );
        }
    }
    Ok(())
}

fn directories(uid: u32, gid: u32) -> Vec<Entry> {
    let of_user = ["/workspace", "/layers"].map(|path| Entry::directory(path, 0o755).owned_by(uid, gid));
    let of_root = [
        "/cnb",
        "/cnb/buildpacks",
        "/cnb/extensions",
        "/platform",
        "/platform/env",
        "/cnb/build-config",
        "/cnb/build-config/env",
    ]
    .map(|path| Entry::directory(path, 0o755));
    of_user.into_iter().chain(of_root).collect()
}

/// One program with a link for each phase, as the reference lifecycle has it, and the launcher.
fn lifecycle(request: &BuilderRequest<'_>) -> LayerSource {
    let directory = Path::new("/cnb/lifecycle");
    let mut entries = vec![
        Entry::directory("/cnb", 0o755),
        Entry::directory(directory, 0o755),
        Entry::host_file(directory.join("launcher"), 0o755, request.launcher),
        Entry::host_file(directory.join("lifecycle"), 0o755, request.lifecycle),
    ];
    let links = programs::PHASES.iter().map(|phase| Entry::symlink(directory.join(phase), "lifecycle"));
    entries.extend(links);
    entries.push(Entry::symlink("/lifecycle", directory));
    LayerSource::entries(entries)
}

/// A builder that is being put together.
struct Assembly<'a> {
    request: &'a BuilderRequest<'a>,
    image: NewImage,
}

impl Assembly<'_> {
    fn layer(&mut self, source: &LayerSource, what: &str) -> anyhow::Result<Layer> {
        let layer = layer::build(source, self.request.format, ManifestFormat::Oci, self.request.sink)
            .with_context(|| format!("cannot make the layer with the {what}"))?;
        self.image.add(&layer, &format!("longshore builder create ({what})"));
        Ok(layer)
    }

    fn file(&mut self, path: &str, text: String) -> anyhow::Result<Layer> {
        let entries = vec![Entry::directory("/cnb", 0o755), Entry::file(path, 0o644, text)];
        self.layer(&LayerSource::entries(entries), path)
    }

    fn label<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> anyhow::Result<()> {
        let json = go_json::to_string(value).with_context(|| format!("cannot write the label `{name}`"))?;
        self.image.config.set_label(name, &json);
        Ok(())
    }

    fn modules(&mut self, modules: &[&Module], kind: ModuleKind) -> anyhow::Result<ModuleLayers> {
        let mut layers = ModuleLayers::new();
        for module in modules.iter().filter(|module| module.descriptor.kind == kind) {
            let id = module.id();
            let layer = self.layer(&module.layer()?, &id.to_string())?;
            let entry = ModuleLayer::new(&module.descriptor, layer.diff_id.to_string());
            layers.entry(id.id).or_default().insert(id.version, entry);
        }
        Ok(layers)
    }

    fn order(&mut self, buildpacks: &ModuleLayers, extensions: &ModuleLayers) -> anyhow::Result<()> {
        let configuration = self.request.configuration;
        let resolve = |order: &[OrderGroup], layers| {
            resolve_order(order, &labels::module_ids(layers)).context("the order cannot be used")
        };
        let order = OrderToml {
            order: resolve(&configuration.order, buildpacks)?,
            extensions: resolve(&configuration.order_extensions, extensions)?,
        };
        let text = toml::to_string(&order).context("cannot write order.toml")?;
        self.file("/cnb/order.toml", text)?;
        self.label(labels::ORDER, &order.order)?;
        self.label(labels::ORDER_EXTENSIONS, &order.extensions)
    }

    fn system(&mut self, known: &[ModuleId]) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct File<'a> {
            system: &'a SystemBuildpacks,
        }
        let mut system = self.request.configuration.system.clone();
        if system.pre.buildpacks.is_empty() && system.post.buildpacks.is_empty() {
            return Ok(());
        }
        for entries in [&mut system.pre.buildpacks, &mut system.post.buildpacks] {
            let group = [OrderGroup { group: std::mem::take(entries) }];
            let resolved = resolve_order(&group, known).context("the system buildpacks cannot be used")?;
            *entries = resolved.into_iter().flat_map(|group| group.group).collect();
        }
        let text = toml::to_string(&File { system: &system }).context("cannot write system.toml")?;
        self.file("/cnb/system.toml", text)?;
        self.label(labels::SYSTEM, &system)
    }

    fn run_images(&mut self) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct Stack<'a, T> {
            #[serde(rename = "run-image")]
            run_image: &'a T,
        }
        #[derive(Serialize)]
        struct Run<'a, T> {
            images: &'a [T],
        }
        let images = self.request.configuration.run_images();
        if let Some(run_image) = images.first() {
            let stack = toml::to_string(&Stack { run_image }).context("cannot write stack.toml")?;
            self.file("/cnb/stack.toml", stack)?;
        }
        let run = toml::to_string(&Run { images: &images }).context("cannot write run.toml")?;
        self.file("/cnb/run.toml", run)?;
        Ok(())
    }

    fn build_env(&mut self) -> anyhow::Result<()> {
        let files = self.request.configuration.build_env()?;
        if files.is_empty() {
            return Ok(());
        }
        let directory = Path::new("/cnb/build-config/env");
        let mut entries = ["/cnb", "/cnb/build-config", "/cnb/build-config/env"]
            .map(|path| Entry::directory(path, 0o755))
            .to_vec();
        entries
            .extend(files.into_iter().map(|(name, value)| Entry::file(directory.join(name), 0o644, value)));
        self.layer(&LayerSource::entries(entries), "variables of the build")?;
        Ok(())
    }

    fn metadata(&mut self, modules: &[&Module]) -> anyhow::Result<()> {
        let configuration = self.request.configuration;
        let of_kind = |kind: ModuleKind| {
            let modules = modules.iter().filter(|module| module.descriptor.kind == kind);
            let metadata = modules.map(|module| ModuleMetadata {
                id: module.descriptor.info.id.clone(),
                version: module.descriptor.info.version.clone(),
                homepage: module.descriptor.info.homepage.clone(),
            });
            metadata.collect()
        };
        let images: Vec<_> = configuration.run_images().iter().map(Into::into).collect();
        let metadata = BuilderMetadata {
            description: configuration.description.clone(),
            buildpacks: of_kind(ModuleKind::Buildpack),
            extensions: of_kind(ModuleKind::Extension),
            stack: labels::StackMetadata { run_image: images.first().cloned().unwrap_or_default() },
            lifecycle: labels::our_lifecycle(),
            created_by: Creator {
                name: "Longshore".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            images,
        };
        self.label(labels::METADATA, &metadata)?;
        if let Some(id) = configuration.stack_id() {
            self.image.config.set_label(labels::STACK_ID, id);
        }
        if self.image.config.label(labels::STACK_MIXINS).is_none() {
            self.image.config.set_label(labels::STACK_MIXINS, "[]");
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "assembly_tests.rs"]
mod tests;
