//! The manifest of the app image, and the blobs that it needs.

use bytes::Bytes;
use longshore_image::{BlobSource, Image, ImageManifest, Manifest, ManifestFormat, Reference};

use super::made::{Blob, Made};
use super::{Base, ExportError, ExportInput};
use crate::image_layers;
use crate::publish::{self, PublishError, Upload};

/// Makes the manifest and publishes everything under all names.
pub(super) fn publish(
    input: &ExportInput<'_>,
    names: &[Reference],
    base: &Base,
    previous: Option<&(Reference, Image)>,
    family: ManifestFormat,
    made: &[Made],
    config: Bytes,
) -> Result<Manifest, ExportError> {
    let base_layers = base.layers().into_iter().map(|(_, blob)| image_layers::in_family(blob, family));
    let layers = base_layers.clone().chain(made.iter().map(|layer| layer.descriptor.clone()));
    let (config, config_upload) = Upload::config(config, family);
    let manifest = Manifest::image(ImageManifest::new(family, config, layers.collect()));
    let mut uploads: Vec<Upload> = base_layers
        .map(|blob| Upload::of_image(blob, &input.run_images, &base.reference, &input.target))
        .collect();
    for layer in made {
        let descriptor = layer.descriptor.clone();
        uploads.push(match (&layer.blob, previous) {
            (Blob::File(path), _) => Upload::new(descriptor, BlobSource::File(path.clone())),
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
