//! Makes layers, several at once, or finds them in the previous image.

use std::sync::Arc;

use longshore_image::layer::{self, LayerDigest, LayerError, LayerSource, TarCopy};
use longshore_image::stat_index::Finding;
use longshore_image::{BlobSink, Descriptor, DiffId, Image, LayerFormat, ManifestFormat, MediaType};
use rayon::prelude::*;

use super::ahead::Take;
use super::made::{Blob, Made};
use super::plan::{Content, Planned, Role};
use super::{ExportError, ExportInput};
use crate::directory::MappedDirectory;
use crate::image_layers;

/// Makes all layers, in order, and tells `take` of each as soon as it is there.
pub(super) fn make(
    input: &ExportInput<'_>,
    planned: Vec<Planned>,
    previous: Option<&Image>,
    (family, format): (ManifestFormat, LayerFormat),
    sink: &BlobSink,
    take: &Take<'_>,
) -> Result<Vec<Made>, ExportError> {
    let maker = Maker { input, previous, family, format, sink };
    let make = |layer| maker.make(layer).inspect(take);
    let made: Vec<Made> = planned.into_par_iter().map(make).collect::<Result<_, _>>()?;
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
    input: &'a ExportInput<'a>,
    previous: Option<&'a Image>,
    family: ManifestFormat,
    format: LayerFormat,
    sink: &'a BlobSink,
}

/// A layer's content and its blob.
struct Found {
    digest: LayerDigest,
    descriptor: Descriptor,
    blob: Blob,
    is_unread: bool,
    tar: Option<Arc<TarCopy>>,
}

impl Maker<'_> {
    fn make(&self, planned: Planned) -> Result<Made, ExportError> {
        let identifier = planned.identifier;
        let failed = |source| ExportError::Layer { layer: identifier.clone(), source };
        let is_cached = matches!(&planned.role, Role::Launch { metadata, .. } if metadata.cache);
        let (diff_id, found, origin) = match planned.content {
            Content::Previous(diff_id) => {
                let descriptor = self.in_previous(diff_id).ok_or_else(|| ExportError::NotReusable {
                    layer: identifier.clone(),
                    reason: "the previous image does not have the layer that its metadata names",
                })?;
                (diff_id, (descriptor, Blob::Previous, false, None), None)
            }
            Content::Source { source, directory } => {
                let found =
                    self.find(&identifier, &source, planned.had_previous, is_cached).map_err(failed)?;
                let Found { digest, descriptor, blob, is_unread, tar } = found;
                (digest.diff_id, (descriptor, blob, is_unread, tar), origin(directory, digest))
            }
        };
        let (descriptor, blob, is_unread, tar) = found;
        Ok(Made {
            identifier,
            created_by: planned.created_by,
            role: planned.role,
            diff_id,
            descriptor,
            blob,
            is_unread,
            tar,
            origin,
        })
    }

    /// Reads as little as can be: nothing of a layer that the index knows to be unchanged, and else each layer once.
    ///
    /// Reading a layer for its DiffID costs a sixth of compressing it. So one that may still be what it was is read
    /// first, and only compressed when it is not: a copy, or files that were written anew with as many bytes each. One
    /// in which some files are edited, or another size, is compressed at once. Without an index nothing is known but that
    /// the previous image had such a layer.
    fn find(
        &self,
        name: &str,
        source: &LayerSource,
        had_previous: bool,
        is_cached: bool,
    ) -> Result<Found, LayerError> {
        let had_previous = had_previous && self.previous.is_some();
        let finding = self.input.index.map_or(Ok(Finding::Unknown), |index| index.find(name, source))?;
        let may_be_the_same = match finding {
            Finding::Unchanged(digest) => {
                if let Some(found) = self.at_hand(name, digest) {
                    tracing::debug!("Layer '{name}' is unchanged and not read");
                    return Ok(Found { is_unread: true, ..found });
                }
                false
            }
            Finding::Similar => true,
            Finding::Changed => false,
            Finding::Unknown => had_previous,
        };
        if may_be_the_same {
            let digest =
                self.input.index.map_or_else(|| layer::digest(source), |index| index.read(name, source))?;
            if let Some(found) = self.at_hand(name, digest) {
                return Ok(found);
            }
        }
        self.build(name, source, is_cached)
    }

    fn build(&self, name: &str, source: &LayerSource, is_cached: bool) -> Result<Found, LayerError> {
        let tars = self.input.tars.filter(|_| is_cached);
        let (layer, tar) = layer::build_with_tar(source, self.format, self.family, self.sink, tars)?;
        if let Some(index) = self.input.index {
            index.note_made(name, &layer, self.format);
        }
        let digest = LayerDigest { diff_id: layer.diff_id, uncompressed_size: layer.uncompressed_size };
        let (descriptor, blob) = match self.reusable(layer.diff_id) {
            Some(descriptor) => (descriptor, Blob::Previous),
            None => (layer.descriptor, Blob::File(layer.path)),
        };
        Ok(Found { digest, descriptor, blob, is_unread: false, tar: tar.map(Arc::new) })
    }

    /// A blob with this content that need not be made: the previous image's, or one of an earlier build.
    fn at_hand(&self, name: &str, digest: LayerDigest) -> Option<Found> {
        if let Some(descriptor) = self.reusable(digest.diff_id) {
            return Some(Found { digest, descriptor, blob: Blob::Previous, is_unread: false, tar: None });
        }
        let (blob, size) = self.input.index?.blob(name, digest.diff_id, self.format)?;
        let path = self.input.sink.kept(blob, size)?;
        let descriptor = Descriptor::new(MediaType::Layer(self.family, self.format), blob, size);
        Some(Found { digest, descriptor, blob: Blob::File(path), is_unread: false, tar: None })
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
