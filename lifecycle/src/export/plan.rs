//! Which layers the app image gets, in order: launch layers, SBOM, app slices, launcher, configuration, process types
//! (buildpack.md "Phase #6: Export", platform.md "`exporter`").

use std::path::Path;

use longshore_cnb::go_json;
use longshore_cnb::group::GroupElement;
use longshore_cnb::lifecycle_metadata::{LayerMetadata, LifecycleMetadata, Store};
use longshore_cnb::metadata_toml::BuildMetadata;
use longshore_image::layer::{self, LayerError, LayerSource};
use longshore_image::{DiffId, Image};

use super::{ExportError, ExportInput};
use crate::directory::{BuildpackDirectory, FoundLayer, MappedDirectory};

/// A layer that is to be made or reused.
pub(super) struct Planned {
    /// What it is called in messages (`acme/web:deps`).
    pub(super) identifier: String,
    /// The `created_by` of its history entry.
    pub(super) created_by: String,
    /// What it is in the label.
    pub(super) role: Role,
    /// Where its content is.
    pub(super) content: Content,
    /// Whether the previous image had such a layer: then it is worth looking whether it still is the same.
    pub(super) had_previous: bool,
}

/// What a layer is.
pub(super) enum Role {
    /// Made by an image extension.
    Extension,
    /// A launch layer of a buildpack; its metadata, still without the DiffID.
    Launch { buildpack: usize, name: String, metadata: LayerMetadata },
    /// The launch SBOM files.
    Sbom,
    /// A slice of the app, or a change of it.
    App,
    /// The launcher.
    Launcher,
    /// `<layers>/config`.
    Config,
    /// The links of the process types.
    ProcessTypes,
}

/// Where a layer's content is.
pub(super) enum Content {
    /// On this machine; the directory it is from, if it is one.
    Source { source: LayerSource, directory: Option<MappedDirectory> },
    /// In the previous image: the buildpack left metadata only.
    Previous(DiffId),
}

/// The layers of the app image above the run image, and what the label says of each buildpack beside them.
pub(super) struct Plan {
    pub(super) layers: Vec<Planned>,
    pub(super) stores: Vec<Option<Store>>,
}

/// Plans all layers, those of the app among them. Nothing is read but the metadata files.
pub(super) fn plan(
    input: &ExportInput<'_>,
    build: &BuildMetadata,
    previous: Option<&Image>,
    app: Vec<Planned>,
) -> Result<Plan, ExportError> {
    let old = &input.analyzed.metadata;
    let mut plan = Plan { layers: Vec::new(), stores: Vec::new() };
    for (index, buildpack) in input.group.buildpacks.iter().enumerate() {
        let directory = BuildpackDirectory::read(&input.layers, buildpack)?;
        for found in directory.layers {
            plan.layers.extend(launch_layer(input, (index, buildpack), found, previous)?);
        }
        plan.stores.push(
            directory
                .store
                .map(|store| Store { metadata: go_json::from_toml(&toml::Value::Table(store.metadata)) }),
        );
    }
    let sbom = input.layers.join("sbom/launch");
    if input.platform_api.has_sbom_layers() && sbom.host.is_dir() {
        plan.layers.push(directory_layer(
            input,
            "buildpacksio/lifecycle:launch.sbom",
            sbom,
            Role::Sbom,
            old,
        )?);
    }
    plan.layers.extend(app);
    plan.layers.push(Planned {
        identifier: "buildpacksio/lifecycle:launcher".to_owned(),
        created_by: "Buildpacks Application Launcher".to_owned(),
        role: Role::Launcher,
        content: Content::Source { source: layer::launcher(&input.launcher), directory: None },
        had_previous: !old.launcher.sha.is_empty(),
    });
    let config = input.layers.join("config");
    plan.layers.push(directory_layer(input, "buildpacksio/lifecycle:config", config, Role::Config, old)?);
    if !build.processes.is_empty() {
        plan.layers.push(process_types(build, old)?);
    }
    Ok(plan)
}

fn launch_layer(
    input: &ExportInput<'_>,
    (index, buildpack): (usize, &GroupElement),
    found: FoundLayer,
    previous: Option<&Image>,
) -> Result<Option<Planned>, ExportError> {
    let FoundLayer { identifier, name, directory, content } = found;
    let content =
        content.map_err(|source| ExportError::MalformedLayer { layer: identifier.clone(), source })?;
    if !content.types.launch {
        return Ok(None);
    }
    let known = input.analyzed.metadata.buildpack(&buildpack.id).and_then(|known| known.layers.get(&name));
    let source = match directory {
        Some(directory) => Content::Source {
            source: source(input, &directory).map_err(failed(&identifier))?,
            directory: Some(directory),
        },
        None => Content::Previous(reusable(&identifier, content.types.cache, known, previous)?),
    };
    let metadata = LayerMetadata {
        sha: String::new(),
        data: content.metadata.as_ref().map(go_json::from_toml).unwrap_or_default(),
        build: content.types.build,
        launch: content.types.launch,
        cache: content.types.cache,
    };
    Ok(Some(Planned {
        identifier,
        created_by: format!("Layer: '{name}', Created by buildpack: {buildpack}"),
        had_previous: known.is_some(),
        role: Role::Launch { buildpack: index, name, metadata },
        content: source,
    }))
}

/// The DiffID of a layer whose directory the buildpack left out because the previous image has it (buildpack.md
/// "Launch Layers").
fn reusable(
    identifier: &str,
    cached: bool,
    known: Option<&LayerMetadata>,
    previous: Option<&Image>,
) -> Result<DiffId, ExportError> {
    let refuse = |reason| ExportError::NotReusable { layer: identifier.to_owned(), reason };
    if cached {
        return Err(refuse("it is a cached layer, which must have one"));
    }
    let known = known.ok_or_else(|| refuse("the previous image has no metadata for it"))?;
    let diff_id = known.sha.parse().ok();
    let diff_id = diff_id.ok_or_else(|| refuse("the previous image has no valid DiffID for it"))?;
    let previous = previous.ok_or_else(|| refuse("the previous image has gone"))?;
    if crate::image_layers::find(previous, diff_id).is_none() {
        return Err(refuse("the previous image does not have the layer that its metadata names"));
    }
    Ok(diff_id)
}

fn directory_layer(
    input: &ExportInput<'_>,
    identifier: &str,
    directory: MappedDirectory,
    role: Role,
    old: &LifecycleMetadata,
) -> Result<Planned, ExportError> {
    let (created_by, had_previous) = match role {
        Role::Sbom => ("Software Bill-of-Materials", old.sbom.is_some()),
        _ => ("Buildpacks Launcher Config", !old.config.sha.is_empty()),
    };
    Ok(Planned {
        identifier: identifier.to_owned(),
        created_by: created_by.to_owned(),
        role,
        content: Content::Source {
            source: source(input, &directory).map_err(failed(identifier))?,
            directory: Some(directory),
        },
        had_previous,
    })
}

fn process_types(build: &BuildMetadata, old: &LifecycleMetadata) -> Result<Planned, ExportError> {
    let types = build.processes.iter().map(|process| process.process_type.as_str());
    if let Some(invalid) = types.clone().find(|name| !is_process_type(name)) {
        return Err(ExportError::InvalidProcessType(invalid.to_owned()));
    }
    Ok(Planned {
        identifier: "buildpacksio/lifecycle:process-types".to_owned(),
        created_by: "Buildpacks Process Types".to_owned(),
        role: Role::ProcessTypes,
        content: Content::Source { source: layer::process_types(types), directory: None },
        had_previous: !old.process_types.sha.is_empty(),
    })
}

fn is_process_type(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '>', '<', ':', '|', '&', '\\'])
}

fn source(input: &ExportInput<'_>, directory: &MappedDirectory) -> Result<LayerSource, LayerError> {
    LayerSource::directory(&directory.host, Path::new(&directory.name), input.ownership)
}

pub(super) fn failed(layer: &str) -> impl FnOnce(LayerError) -> ExportError + use<> {
    let layer = layer.to_owned();
    move |source| ExportError::Layer { layer, source }
}
