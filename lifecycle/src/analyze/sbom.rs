//! Restores the launch SBOM files of the previous image, for restore to hand out.

use std::fs;
use std::io;
use std::path::Path;

use longshore_cnb::lifecycle_metadata::LifecycleMetadata;
use longshore_image::{DiffId, Image};

use super::{AnalyzeError, AnalyzeInput};
use crate::image_layers;
use crate::restore::{self, extract};

/// Extracts the SBOM layer into `<layers>/sbom/launch`. A layer that has gone or is corrupt is left out.
pub(super) fn restore_sbom(
    input: &AnalyzeInput<'_>,
    previous: &Image,
    metadata: &LifecycleMetadata,
) -> Result<(), AnalyzeError> {
    let Some(diff_id) = metadata.sbom.as_ref().and_then(|sbom| sbom.sha.parse::<DiffId>().ok()) else {
        return Ok(());
    };
    let Some(descriptor) = image_layers::find(previous, diff_id) else {
        tracing::warn!("the previous image does not have the SBOM layer {diff_id} that its label names");
        return Ok(());
    };
    tracing::info!("Restoring data for SBOM from previous image");
    let directory = input.layers.join("sbom/launch");
    remove(&directory.host)?;
    restore::create_directory(&input.layers.host, "sbom/launch", input.owner)
        .map_err(|source| AnalyzeError::Layers { path: directory.host.clone(), source })?;
    let blob = input.target.open_blob(&previous.reference, &descriptor);
    let failed = AnalyzeError::read("previous image", &previous.reference);
    match extract(blob.map_err(failed)?, diff_id, &directory, input.owner) {
        Err(error) if error.is_corrupt() => {
            tracing::warn!("the SBOM layer of the previous image cannot be used: {error}");
            remove(&directory.host)
        }
        result => result.map_err(AnalyzeError::Sbom),
    }
}

/// Also what an earlier build left there, when platforms keep the layers directory.
fn remove(directory: &Path) -> Result<(), AnalyzeError> {
    match fs::remove_dir_all(directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(AnalyzeError::Layers { path: directory.to_owned(), source })
        }
        _ => Ok(()),
    }
}
