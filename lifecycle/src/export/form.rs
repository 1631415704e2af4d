//! The form of the app image: how its layers are compressed, and whose media types its manifest has.

use longshore_image::convert::{Compression, ConvertError};
use longshore_image::{LayerFormat, LayerFormats, ManifestChoice, ManifestFormat};

use super::base::Base;

/// The form of the app image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// Whose media types the manifest has.
    pub(super) family: ManifestFormat,
    /// How new layers are compressed.
    pub(super) layers: LayerFormats,
    /// What happens to layers that are there already: those of the run image and of the previous image.
    pub(super) existing: Compression,
    /// Whether Docker's types are tried when the registry refuses OCI's.
    pub(super) may_fall_back: bool,
}

impl Form {
    /// The form that was asked for. Where nothing was, it is the run image's.
    pub(super) fn of(
        layers: Option<LayerFormats>,
        manifest: Option<ManifestChoice>,
        base: &Base,
    ) -> Result<Self, ConvertError> {
        let formats = layers.unwrap_or_else(|| base.layer_format().into());
        // Docker before 23 reads no zstd, and whoever asks for another format has such a client.
        let existing = match layers.map(LayerFormats::first) {
            Some(format) if format != LayerFormat::TarZstd => Compression::WithoutZstd(format),
            _ => Compression::Kept,
        };
        let family = manifest.map_or_else(
            || {
                if layers.is_some_and(|layers| !layers.fits(ManifestFormat::Docker)) {
                    ManifestFormat::Oci
                } else {
                    base.family(existing)
                }
            },
            ManifestChoice::family,
        );
        let formats = match layers {
            Some(layers) if !layers.fits(family) => {
                return Err(ConvertError::ZstdInDocker { formats: layers });
            }
            None if !formats.fits(family) => formats.in_docker().into(),
            _ => formats,
        };
        let may_fall_back = manifest == Some(ManifestChoice::Auto);
        Ok(Self { family, layers: formats, existing, may_fall_back })
    }

    /// What comes nearest to it with Docker's types.
    pub(super) fn in_docker(self) -> Self {
        let format = self.layers.in_docker();
        Self {
            family: ManifestFormat::Docker,
            layers: format.into(),
            existing: Compression::WithoutZstd(format),
            may_fall_back: false,
        }
    }
}
