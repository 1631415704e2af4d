//! Layers of an image by DiffID.

use longshore_image::{Descriptor, DiffId, Image, ManifestFormat, MediaType};

/// Each layer of an image with its DiffID, lowest first. An image whose configuration and manifest disagree about the
/// number of layers has none that can be told apart.
pub(crate) fn pairs(image: &Image) -> Vec<(DiffId, Descriptor)> {
    let layers = image.manifest.as_image().map(|manifest| manifest.layers.as_slice()).unwrap_or_default();
    let diff_ids = image.config.diff_ids();
    if diff_ids.len() != layers.len() {
        return Vec::new();
    }
    diff_ids.into_iter().zip(layers.iter().cloned()).collect()
}

/// The blob of a layer.
pub(crate) fn find(image: &Image, diff_id: DiffId) -> Option<Descriptor> {
    pairs(image).into_iter().find_map(|(known, descriptor)| (known == diff_id).then_some(descriptor))
}

/// The same blob under the media type of a manifest's family: a manifest must not mix them.
pub(crate) fn in_family(mut descriptor: Descriptor, family: ManifestFormat) -> Descriptor {
    if let MediaType::Layer(_, format) = descriptor.media_type {
        descriptor.media_type = MediaType::Layer(family, format);
    }
    descriptor
}
