//! Other forms of an image: its layers compressed in another way, its media types those of another family.
//!
//! A configuration names layers by their uncompressed tars, so it stays what it is, and so does the image's identity. A
//! blob whose compression stays is never read: only its media type is written in the words of the family.

mod index;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Cursor, Read};

pub use index::image_index;

use crate::layer::{self, LayerError};
use crate::{
    BlobSink, BlobSource, Descriptor, DiffId, LayerFormat, ManifestFormat, MediaType, StoreError, decompress,
};

/// A layer of an image: what it is, and where its blob can be read.
#[derive(Debug, Clone)]
pub struct ImageLayer {
    /// The digest of the uncompressed tar, by the configuration.
    pub diff_id: DiffId,
    /// The blob.
    pub descriptor: Descriptor,
    /// Where the blob is.
    pub source: BlobSource,
}

/// How the layers of an image are to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As they are, where a manifest of the family can say so; else with gzip.
    Kept,
    /// As they are, but none with zstd: those become this format, which every client reads.
    WithoutZstd(LayerFormat),
    /// All in this format.
    All(LayerFormat),
}

/// Why an image could not be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// Docker has no media type for zstd.
    #[error(
        "a Docker manifest cannot have layers in the format `{formats}`: Docker's media types know no zstd; use OCI's, \
         or `tar+gzip`"
    )]
    ZstdInDocker {
        /// What was asked for.
        formats: crate::LayerFormats,
    },
    /// The type of a layer is not known, so its bytes cannot be read.
    #[error(
        "the layer {digest} is of type `{media_type}`, which cannot be converted; copy the image as it is"
    )]
    UnknownType {
        /// The layer's blob.
        digest: crate::Digest,
        /// Its type.
        media_type: String,
    },
    /// The layer is not what the configuration says.
    #[error("the layer {digest} has the DiffID {actual}, and the configuration of its image says {expected}")]
    DiffId {
        /// The layer's blob.
        digest: crate::Digest,
        /// By the configuration.
        expected: DiffId,
        /// In truth.
        actual: DiffId,
    },
    /// The image is not one that can be run, or contradicts itself.
    #[error("`{reference}` cannot be converted: {reason}")]
    NotAnImage {
        /// The image.
        reference: String,
        /// Why not.
        reason: String,
    },
    /// A blob could not be read.
    #[error("cannot read the layer {digest}")]
    Blob {
        /// The blob.
        digest: crate::Digest,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// A layer could not be written in its new form.
    #[error("cannot convert the layer {digest}")]
    Layer {
        /// The blob.
        digest: crate::Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
}

/// A layer in the form that is wanted: its blob is made anew only when its compression is to change, and the DiffID of
/// what is read is verified then.
///
/// # Errors
/// When its type is not known, its bytes are not what they should be, or cannot be read or written.
pub fn layer(
    layer: ImageLayer,
    compression: Compression,
    family: ManifestFormat,
    sink: &BlobSink,
) -> Result<ImageLayer, ConvertError> {
    let Some(format) = format_of(&layer.descriptor.media_type) else {
        return Err(ConvertError::UnknownType {
            digest: layer.descriptor.digest,
            media_type: layer.descriptor.media_type.to_string(),
        });
    };
    let wanted = wanted(format, compression, family);
    if wanted == format {
        return Ok(ImageLayer { descriptor: in_family(layer.descriptor, family), ..layer });
    }
    recompress(&layer, wanted, family, sink)
}

/// The format that a layer gets; `None` for types that are not known.
#[must_use]
pub fn wanted_format(
    blob: &Descriptor,
    compression: Compression,
    family: ManifestFormat,
) -> Option<LayerFormat> {
    format_of(&blob.media_type).map(|format| wanted(format, compression, family))
}

fn wanted(format: LayerFormat, compression: Compression, family: ManifestFormat) -> LayerFormat {
    let is_zstd = format == LayerFormat::TarZstd;
    match compression {
        Compression::All(wanted) => wanted,
        Compression::WithoutZstd(wanted) if is_zstd => wanted,
        Compression::Kept if is_zstd && family == ManifestFormat::Docker => LayerFormat::TarGzip,
        Compression::Kept | Compression::WithoutZstd(_) => format,
    }
}

/// The same layer compressed in another way.
fn recompress(
    layer: &ImageLayer,
    format: LayerFormat,
    family: ManifestFormat,
    sink: &BlobSink,
) -> Result<ImageLayer, ConvertError> {
    let digest = layer.descriptor.digest;
    tracing::debug!("converting the layer {digest} from {} to {format:?}", layer.descriptor.media_type);
    let blob = open(layer).map_err(|source| ConvertError::Blob { digest, source: Box::new(source) })?;
    let failed = |source| ConvertError::Layer { digest, source };
    let name = digest.to_string();
    let mut tar = decompress(blob).map_err(LayerError::read(&name)).map_err(failed)?;
    let made = layer::build_from(&mut tar, &name, format, family, sink).map_err(failed)?;
    drop(tar);
    if made.diff_id != layer.diff_id {
        return Err(ConvertError::DiffId { digest, expected: layer.diff_id, actual: made.diff_id });
    }
    let annotations = layer.descriptor.annotations.clone();
    // Those of lazy-pulling formats describe the bytes of the old blob.
    let annotations = annotations.into_iter().filter(|(name, _)| !is_about_bytes(name)).collect();
    let descriptor = Descriptor { annotations, ..made.descriptor.in_place_of(&layer.descriptor) };
    Ok(ImageLayer { diff_id: layer.diff_id, descriptor, source: BlobSource::File(made.path) })
}

fn open(layer: &ImageLayer) -> Result<Box<dyn Read + Send>, StoreError> {
    Ok(match &layer.source {
        BlobSource::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
        BlobSource::File(path) => Box::new(File::open(path).map_err(StoreError::file(path))?),
        BlobSource::Lazy(opener) => opener.open()?,
    })
}

/// Annotations about the bytes of a compressed blob (zstd:chunked, eStargz).
fn is_about_bytes(annotation: &str) -> bool {
    ["io.github.containers.zstd-chunked.", "io.containers.zstd-chunked.", "containerd.io/snapshot/stargz/"]
        .iter()
        .any(|prefix| annotation.starts_with(prefix))
}

/// How a layer of that type is stored; `None` for types that are not known.
#[must_use]
pub fn format_of(media_type: &MediaType) -> Option<LayerFormat> {
    match media_type {
        MediaType::Layer(_, format) => Some(*format),
        MediaType::Other(text) => {
            FOREIGN.iter().find(|(known, ..)| known == text).map(|(_, _, format)| *format)
        }
        _ => None,
    }
}

/// Layers that were not to be distributed (deprecated by image-spec 1.1), which are ordinary ones today.
const FOREIGN: [(&str, ManifestFormat, LayerFormat); 5] = [
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ManifestFormat::Docker,
        LayerFormat::TarGzip,
    ),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar", ManifestFormat::Docker, LayerFormat::Tar),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        ManifestFormat::Oci,
        LayerFormat::TarGzip,
    ),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", ManifestFormat::Oci, LayerFormat::Tar),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        ManifestFormat::Oci,
        LayerFormat::TarZstd,
    ),
];

/// The same blob under the media type of a manifest's family, which must not mix them. A blob of a type that is not
/// known stays what it is.
#[must_use]
pub fn in_family(mut blob: Descriptor, family: ManifestFormat) -> Descriptor {
    blob.media_type = match blob.media_type {
        MediaType::Config(_) => MediaType::Config(family),
        other => match format_of(&other) {
            Some(format) => MediaType::Layer(family, format),
            None => other,
        },
    };
    blob
}
