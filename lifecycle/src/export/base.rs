//! The run image that the app image stands on, and its layers in the app image.

use std::io;
use std::sync::Arc;

use longshore_image::layer::{self, LayerError, LayerSource};
use longshore_image::{
    BlobSink, Descriptor, DiffId, Image, ImageStore, LayerFormat, ManifestFormat, MediaType, Reference,
};

use super::made::Blob;
use super::{ExportError, ExportInput};
use crate::image_layers;

/// The run image.
pub(super) struct Base {
    pub(super) reference: Reference,
    pub(super) image: Image,
}

/// A layer of the run image in the app image.
#[derive(Debug)]
pub(super) struct BaseLayer {
    pub(super) descriptor: Descriptor,
    pub(super) blob: Blob,
}

impl Base {
    pub(super) fn resolve(input: &ExportInput<'_>) -> Result<Self, ExportError> {
        let run_image = input.analyzed.run_image.as_ref();
        let text = run_image.map(|image| image.reference.as_str()).filter(|text| !text.is_empty());
        let reference: Reference = text.ok_or(ExportError::NoRunImage)?.parse()?;
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

    /// The family of the app image's manifest: the run image's, unless a layer needs OCI's.
    pub(super) fn family(&self, format: Option<LayerFormat>) -> ManifestFormat {
        let is_kept = |blob: &Descriptor| !must_convert(blob, format);
        let needs_oci = format == Some(LayerFormat::TarZstd)
            || self.layers().iter().any(|(_, blob)| is_zstd(blob) && is_kept(blob));
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

    /// The run image's layers as they are, unless they are zstd and something that every client reads was asked for:
    /// then they are converted, which leaves their DiffIDs as they are.
    pub(super) fn layers_in(
        &self,
        input: &ExportInput<'_>,
        previous: Option<&Image>,
        family: ManifestFormat,
    ) -> Result<Vec<BaseLayer>, ExportError> {
        let layers = self.layers().into_iter().map(|(diff_id, blob)| {
            match input.layer_format.filter(|_| must_convert(&blob, input.layer_format)) {
                Some(format) => self.converted(input, diff_id, &blob, (family, format), previous),
                None => Ok(BaseLayer { descriptor: image_layers::in_family(blob, family), blob: Blob::Base }),
            }
        });
        layers.collect()
    }

    fn converted(
        &self,
        input: &ExportInput<'_>,
        diff_id: DiffId,
        blob: &Descriptor,
        (family, format): (ManifestFormat, LayerFormat),
        previous: Option<&Image>,
    ) -> Result<BaseLayer, ExportError> {
        let known = previous.and_then(|image| image_layers::find(image, diff_id));
        if let Some(descriptor) = known.filter(|known| known.media_type == MediaType::Layer(family, format)) {
            return Ok(BaseLayer { descriptor, blob: Blob::Previous });
        }
        tracing::info!("Converting layer {diff_id} of the run image from zstd");
        let made = convert(&input.run_images, &self.reference, blob, (family, format), &input.sink)?;
        if made.diff_id != diff_id {
            return Err(ExportError::RunImage {
                reference: self.reference.familiar(),
                reason: format!("its layer {diff_id} has the DiffID {}", made.diff_id),
            });
        }
        Ok(BaseLayer { descriptor: made.descriptor, blob: Blob::File(made.path) })
    }
}

/// Docker before 23 reads no zstd, and whoever asks for another format has such a client.
fn must_convert(blob: &Descriptor, format: Option<LayerFormat>) -> bool {
    is_zstd(blob) && format.is_some_and(|format| format != LayerFormat::TarZstd)
}

fn is_zstd(blob: &Descriptor) -> bool {
    matches!(blob.media_type, MediaType::Layer(_, LayerFormat::TarZstd))
}

fn convert(
    store: &Arc<dyn ImageStore>,
    image: &Reference,
    blob: &Descriptor,
    (family, format): (ManifestFormat, LayerFormat),
    sink: &BlobSink,
) -> Result<layer::Layer, ExportError> {
    let reader = store.open_blob(image, blob).map_err(ExportError::store("read a layer of", image))?;
    let failed =
        |source| ExportError::Layer { layer: format!("{} of {}", blob.digest, image.familiar()), source };
    let write = |source: io::Error| failed(LayerError::Write { path: sink.directory().to_owned(), source });
    let mut tar = tempfile::NamedTempFile::new_in(sink.directory()).map_err(write)?;
    longshore_image::decompress(reader)
        .and_then(|mut content| io::copy(&mut content, tar.as_file_mut()))
        .map_err(write)?;
    layer::build(&LayerSource::tar(tar.path()), format, family, sink).map_err(failed)
}
