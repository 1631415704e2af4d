//! The index of images, each of them perhaps there twice: with gzip for everybody, with zstd for who prefers it.

use std::collections::BTreeMap;

use crate::{
    Descriptor, Fields, IndexManifest, LayerFormat, Manifest, ManifestFormat, MediaType, Platform,
    ZSTD_ANNOTATION,
};

/// An index of images, each for a platform: those with zstd layers are annotated as containers/image does it, and stand
/// after all others. Docker and containerd take the first of their platform, podman and CRI-O prefer the annotated one,
/// and older ones take the first too.
#[must_use]
pub fn image_index(images: &[(Platform, &Manifest)], family: ManifestFormat) -> IndexManifest {
    let (with_zstd, others): (Vec<_>, Vec<_>) = images.iter().partition(|(_, manifest)| has_zstd(manifest));
    let manifests = others.into_iter().chain(with_zstd).map(|(platform, manifest)| {
        let mut descriptor = manifest.descriptor();
        descriptor.platform = Some(platform.clone());
        if has_zstd(manifest) {
            descriptor.annotations.insert(ZSTD_ANNOTATION.to_owned(), "true".to_owned());
        }
        descriptor
    });
    IndexManifest {
        schema_version: 2,
        media_type: MediaType::Index(family),
        manifests: manifests.collect(),
        annotations: BTreeMap::new(),
        other: Fields::default(),
    }
}

fn has_zstd(manifest: &Manifest) -> bool {
    let is_zstd = |layer: &Descriptor| super::format_of(&layer.media_type) == Some(LayerFormat::TarZstd);
    manifest.as_image().is_some_and(|image| image.layers.iter().any(is_zstd))
}
