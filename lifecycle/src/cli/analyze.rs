//! `analyzer`. Spec: platform.md "`analyzer`".

use std::sync::Arc;

use super::connected::{self, Connection};
use super::failure::Failure;
use super::inputs::Inputs;
use crate::MappedDirectory;
use crate::analyze::{AnalyzeInput, analyze};
use longshore_cnb::analyzed::Analyzed;

pub(super) fn run(inputs: &Inputs) -> Result<(), Failure> {
    let connection = Connection::open(inputs)?;
    let volumes =
        [Some(inputs.layers.as_path()), inputs.cache_directory.as_deref(), inputs.launch_cache.as_deref()];
    connected::give_up_privileges(inputs, &volumes)?;
    run_analysis(inputs, &connection).map(drop)
}

/// Analyzes and writes `analyzed.toml`.
pub(super) fn run_analysis(inputs: &Inputs, connection: &Connection) -> Result<Analyzed, Failure> {
    warn_of_ignored_caches(inputs);
    let output = analyze(&AnalyzeInput {
        platform_api: inputs.platform_api,
        image: inputs.images.first().map(String::as_str).unwrap_or_default(),
        tags: &inputs.tags,
        previous_image: inputs.previous_image.as_deref(),
        run_image: inputs.run_image.as_deref(),
        run_images: &connected::run_images(inputs)?,
        cache_image: inputs.cache_image.as_deref().map(|name| (name, Arc::clone(&connection.registry))),
        layers: MappedDirectory::in_place(&inputs.layers),
        skip_layers: inputs.skip_layers,
        owner: None,
        platform: connection.platform.clone(),
        target: Arc::clone(&connection.store),
        run_image_store: Arc::clone(&connection.store),
        identify: connection.identify.clone(),
    })
    .map_err(|error| Failure::new(error.exit_code(), "analyze", &error))?;
    connected::write(&inputs.analyzed, &output.analyzed.to_document())?;
    Ok(output.analyzed)
}

fn warn_of_ignored_caches(inputs: &Inputs) {
    if inputs.launch_cache.is_some() && !inputs.daemon {
        tracing::warn!("Ignoring -launch-cache, only intended for use with -daemon");
    }
    if inputs.parallel && inputs.cache_image.is_none() && inputs.cache_directory.is_none() {
        tracing::warn!(
            "Parallel export has been enabled, but it has not taken effect because no cache has been specified."
        );
    }
}
