//! The run image that the app image stands on.

use longshore_image::convert::{Compression, format_of};
use longshore_image::{Descriptor, DiffId, Image, LayerFormat, ManifestFormat, MediaType, Reference};

use super::{ExportError, ExportInput};
use crate::image_layers;

/// The run image.
pub(super) struct Base {
    pub(super) reference: Reference,
    pub(super) image: Image,
}

impl Base {
    pub(super) fn resolve(input: &ExportInput<'_>) -> Result<Self, ExportError> {
        let run_image = input.analyzed.run_image.as_ref();
        let text = run_image.map(|image| image.reference.as_str()).filter(|text| !text.is_empty());
        let reference = input.identify.parse(text.ok_or(ExportError::NoRunImage)?)?;
        let image = input
            .run_images
            .resolve(&reference, &input.platform)
            .map_err(ExportError::store("read the run image", &reference))?
            .ok_or_else(|| ExportError::RunImageNotFound { reference: reference.familiar() })?;
        let unusable = |reason: String| ExportError::RunImage { reference: reference.familiar(), reason };
        if !input.platform.accepts(&image.config.platform()) {
            return Err(unusable(format!(
                "it is for {}, and the app image is for {}",
                image.config.platform(),
                input.platform
            )));
        }
        if image_layers::pairs(&image).is_empty() {
            return Err(unusable(
                "it has no layers, or its manifest and configuration do not name the same".to_owned(),
            ));
        }
        Ok(Self { reference, image })
    }

    pub(super) fn layers(&self) -> Vec<(DiffId, Descriptor)> {
        image_layers::pairs(&self.image)
    }

    /// The family of the run image's manifest, unless layers that are kept need OCI's.
    pub(super) fn family(&self, existing: Compression) -> ManifestFormat {
        let needs_oci = existing == Compression::Kept && self.layers().iter().any(|(_, blob)| is_zstd(blob));
        match self.image.manifest.media_type() {
            MediaType::Manifest(family) if !needs_oci => *family,
            _ => ManifestFormat::Oci,
        }
    }

    /// How the run image's uppermost layer is stored, and so new layers when nothing else is asked for.
    pub(super) fn layer_format(&self) -> LayerFormat {
        match self.layers().last() {
            Some((_, blob)) if is_zstd(blob) => LayerFormat::TarZstd,
            _ => LayerFormat::TarGzip,
        }
    }
}

fn is_zstd(blob: &Descriptor) -> bool {
    format_of(&blob.media_type) == Some(LayerFormat::TarZstd)
}
