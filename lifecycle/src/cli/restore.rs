//! `restorer`. Spec: platform.md "`restorer`".

use std::sync::Arc;

use longshore_cnb::analyzed::Analyzed;
use longshore_cnb::group::Group;
use longshore_cnb::lifecycle_metadata::LifecycleMetadata;

use super::connected::{self, Connection};
use super::failure::Failure;
use super::inputs::Inputs;
use crate::MappedDirectory;
use crate::cache::Cache;
use crate::restore::{RefreshInput, RestoreInput, refresh, restore};

pub(super) fn run(inputs: &Inputs) -> Result<(), Failure> {
    let connection = Connection::open(inputs)?;
    connected::give_up_privileges(
        inputs,
        &[Some(&inputs.layers), inputs.cache_directory.as_deref(), Some(&inputs.kaniko)],
    )?;
    let group = connected::group(inputs)?;
    let mut analyzed = connected::analyzed(inputs)?.unwrap_or_else(|| {
        tracing::warn!("No analyzed metadata found at path '{}'", inputs.analyzed.display());
        Analyzed::default()
    });
    refresh(
        &RefreshInput {
            platform_api: inputs.platform_api,
            run_images: &connected::run_images(inputs)?,
            group: &group,
            build_image: inputs.build_image.as_deref(),
            platform: connection.platform.clone(),
            store: Arc::clone(&connection.store),
            registry: Arc::clone(&connection.registry),
            identify: connection.identify.clone(),
            kaniko: inputs.kaniko.clone(),
        },
        &mut analyzed,
    )
    .map_err(|error| Failure::new(error.exit_code(), "update analyzed metadata", &error))?;
    connected::write(&inputs.analyzed, &analyzed.to_document())?;
    let scratch = connected::scratch(inputs)?;
    let cache = connected::cache(inputs, &connection, scratch.path())?;
    run_restoration(inputs, &group, &analyzed.metadata, cache.as_deref())
}

pub(super) fn run_restoration(
    inputs: &Inputs,
    group: &Group,
    metadata: &LifecycleMetadata,
    cache: Option<&dyn Cache>,
) -> Result<(), Failure> {
    restore(&RestoreInput {
        platform_api: inputs.platform_api,
        layers: MappedDirectory::in_place(&inputs.layers),
        group,
        metadata,
        cache,
        skip_layers: inputs.skip_layers,
        owner: None,
    })
    .map(drop)
    .map_err(|error| Failure::new(error.exit_code(), "restore", &error))
}
