//! The manifest of the app image, and the blobs that it needs.

use bytes::Bytes;
use longshore_image::{BlobSource, Image, ImageManifest, Manifest, ManifestFormat, Reference};

use super::base::{Base, BaseLayer};
use super::made::{Blob, Made};
use super::{ExportError, ExportInput};
use crate::publish::{self, PublishError, Upload};

/// What the app image is made of.
pub(super) struct Parts<'a> {
    pub(super) base: &'a Base,
    pub(super) base_layers: &'a [BaseLayer],
    pub(super) previous: Option<&'a (Reference, Image)>,
    pub(super) family: ManifestFormat,
    pub(super) made: &'a [Made],
    pub(super) config: Bytes,
}

/// Makes the manifest and publishes everything under all names.
pub(super) fn publish(
    input: &ExportInput<'_>,
    names: &[Reference],
    parts: &Parts<'_>,
) -> Result<Manifest, ExportError> {
    let base = parts.base_layers.iter().map(|layer| (&layer.descriptor, &layer.blob));
    let made = parts.made.iter().map(|layer| (&layer.descriptor, &layer.blob));
    let layers: Vec<_> = base.chain(made).collect();
    let (config, config_upload) = Upload::config(parts.config.clone(), parts.family);
    let descriptors = layers.iter().map(|(descriptor, _)| (*descriptor).clone()).collect();
    let manifest = Manifest::image(ImageManifest::new(parts.family, config, descriptors));
    let mut uploads = Vec::new();
    for (descriptor, blob) in layers {
        let descriptor = descriptor.clone();
        uploads.push(match (blob, parts.previous) {
            (Blob::File(path), _) => Upload::new(descriptor, BlobSource::File(path.clone())),
            (Blob::Base, _) => {
                Upload::of_image(descriptor, &input.run_images, &parts.base.reference, &input.target)
            }
            (Blob::Previous, Some((reference, _))) => {
                Upload::of_image(descriptor, &input.target, reference, &input.target)
            }
            (Blob::Previous, None) => return Err(no_previous_image()),
        });
    }
    uploads.push(config_upload);
    publish::publish(&input.target, names, &input.platform, &manifest, &uploads)?;
    Ok(manifest)
}

/// Layers are only taken from a previous image when there is one; this says so without a panic.
fn no_previous_image() -> ExportError {
    ExportError::NotReusable { layer: "app".to_owned(), reason: "the previous image has gone" }
}

impl From<PublishError> for ExportError {
    fn from(PublishError { action, reference, source }: PublishError) -> Self {
        Self::Store { action, reference, source }
    }
}
