//! Makes layers, several at once, or finds them in the previous image.

use longshore_image::layer::{self, LayerDigest, LayerError, LayerSource};
use longshore_image::{BlobSink, Descriptor, DiffId, Image, LayerFormat, ManifestFormat, MediaType};
use rayon::prelude::*;

use super::ExportError;
use super::made::{Blob, Made};
use super::plan::{Content, Planned, Role};
use crate::directory::MappedDirectory;
use crate::image_layers;

/// Makes all layers, in order.
pub(super) fn make(
    planned: Vec<Planned>,
    previous: Option<&Image>,
    family: ManifestFormat,
    format: LayerFormat,
    sink: &BlobSink,
) -> Result<Vec<Made>, ExportError> {
    let maker = Maker { previous, family, format, sink };
    let made: Vec<Made> = planned.into_par_iter().map(|layer| maker.make(layer)).collect::<Result<_, _>>()?;
    log(&made);
    Ok(made)
}

/// Says what happened, in the order of the layers whatever order they were made in. The slices of the app are counted.
fn log(made: &[Made]) {
    let is_app = |layer: &&Made| matches!(layer.role, Role::App);
    let mut is_counted = false;
    for layer in made {
        if !is_app(&layer) {
            let action = if layer.is_reused() { "Reusing" } else { "Adding" };
            tracing::info!("{action} layer '{}'", layer.identifier);
            tracing::debug!("Layer '{}' SHA: {}", layer.identifier, layer.diff_id);
        } else if !std::mem::replace(&mut is_counted, true) {
            let total = made.iter().filter(is_app).count();
            let reused = made.iter().filter(is_app).filter(|layer| layer.is_reused()).count();
            for (action, count) in [("Reused", reused), ("Added", total - reused)] {
                if count > 0 {
                    tracing::info!("{action} {count}/{total} app layer(s)");
                }
            }
        }
    }
}

struct Maker<'a> {
    previous: Option<&'a Image>,
    family: ManifestFormat,
    format: LayerFormat,
    sink: &'a BlobSink,
}

impl Maker<'_> {
    fn make(&self, planned: Planned) -> Result<Made, ExportError> {
        let identifier = planned.identifier;
        let (diff_id, descriptor, blob, origin) = match planned.content {
            Content::Previous(diff_id) => {
                let descriptor = self.in_previous(diff_id).ok_or_else(|| ExportError::NotReusable {
                    layer: identifier.clone(),
                    reason: "the previous image does not have the layer that its metadata names",
                })?;
                (diff_id, descriptor, Blob::Previous, None)
            }
            Content::Source { source, directory } => {
                let (digest, descriptor, blob) = self
                    .find_or_build(&source, planned.had_previous)
                    .map_err(|source| ExportError::Layer { layer: identifier.clone(), source })?;
                (digest.diff_id, descriptor, blob, origin(directory, digest))
            }
        };
        Ok(Made {
            identifier,
            created_by: planned.created_by,
            role: planned.role,
            diff_id,
            descriptor,
            blob,
            origin,
        })
    }

    /// A layer that the previous image may have is first read for its DiffID alone: compressing it costs far more than
    /// reading it twice.
    fn find_or_build(
        &self,
        source: &LayerSource,
        had_previous: bool,
    ) -> Result<(LayerDigest, Descriptor, Blob), LayerError> {
        if had_previous && self.previous.is_some() {
            let digest = layer::digest(source)?;
            if let Some(descriptor) = self.reusable(digest.diff_id) {
                return Ok((digest, descriptor, Blob::Previous));
            }
        }
        let layer = layer::build(source, self.format, self.family, self.sink)?;
        let digest = LayerDigest { diff_id: layer.diff_id, uncompressed_size: layer.uncompressed_size };
        match self.reusable(layer.diff_id) {
            Some(descriptor) => Ok((digest, descriptor, Blob::Previous)),
            None => Ok((digest, layer.descriptor, Blob::File(layer.path))),
        }
    }

    /// The previous image's blob, if it is stored the way that was asked for.
    fn reusable(&self, diff_id: DiffId) -> Option<Descriptor> {
        self.in_previous(diff_id)
            .filter(|descriptor| descriptor.media_type == MediaType::Layer(self.family, self.format))
    }

    fn in_previous(&self, diff_id: DiffId) -> Option<Descriptor> {
        let descriptor = image_layers::find(self.previous?, diff_id)?;
        Some(image_layers::in_family(descriptor, self.family))
    }
}

fn origin(directory: Option<MappedDirectory>, digest: LayerDigest) -> Option<(std::path::PathBuf, u64)> {
    directory.map(|directory| (directory.host, digest.uncompressed_size))
}
