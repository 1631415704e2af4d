//! The manifests of the app image, and the blobs that they need.

use std::sync::Arc;

use bytes::Bytes;
use longshore_image::convert::{self, Compression, ImageLayer};
use longshore_image::{
    BlobOpener, BlobSink, BlobSource, Descriptor, Image, ImageManifest, LayerFormat, LayerFormats, Manifest,
    ManifestContent, ManifestFormat, MediaType, Reference, ZSTD_ANNOTATION,
};
use rayon::prelude::*;

use super::ahead::Ahead;
use super::base::Base;
use super::form::Form;
use super::made::{Blob, Made};
use super::{ExportError, ExportInput};
use crate::image_layers;
use crate::publish::{self, Publication, PublishError, Upload};

/// What the app image is made of.
pub(super) struct Parts<'a> {
    pub(super) base: &'a Base,
    pub(super) previous: Option<&'a (Reference, Image)>,
    pub(super) made: &'a [Made],
    /// What the target has got already.
    pub(super) ahead: Ahead<'a>,
    pub(super) config: Bytes,
}

/// A layer, the repository that has its blob, and how it may be stored.
struct Part {
    layer: ImageLayer,
    mount_from: Option<Reference>,
    compression: Compression,
}

/// One manifest of the app image, and the blobs that it needs.
struct Variant {
    manifest: Manifest,
    uploads: Vec<Upload>,
    /// The layers that are not the run image's as they are.
    layers: Vec<Descriptor>,
}

/// The app image as it is where it was to be.
pub(super) struct Published {
    pub(super) manifest: Manifest,
    /// The layers that are not the run image's as they are, in all formats.
    pub(super) layers: Vec<Descriptor>,
}

/// Makes the manifest, or the two and their index, and publishes everything under all names.
pub(super) fn publish(
    input: &ExportInput<'_>,
    names: &[Reference],
    parts: &Parts<'_>,
    form: Form,
) -> Result<Published, ExportError> {
    let previous = parts.previous.map(|(reference, image)| (reference, image));
    let sink = &names.first().map_or_else(|| input.sink.clone(), |name| input.sink(name));
    let layers = parts.list(input, form.existing, form.existing)?;
    let first = variant(input, (parts, layers), previous, form.family, sink)?;
    if form.layers != LayerFormats::Dual {
        let Variant { manifest, uploads, layers } = first;
        let publication = Publication {
            root: &manifest,
            children: &[],
            uploads: &uploads,
            known: None,
            is_new: is_new(parts.previous, &manifest),
        };
        publish::publish(&input.target, names, &publication)?;
        return Ok(Published { manifest, layers });
    }
    // The run image's layers stay as they are: a manifest may have both formats, and they need not be pulled.
    let layers = parts.list(input, Compression::Kept, Compression::All(LayerFormat::TarZstd))?;
    let previous = zstd_of(input, names.first(), parts.previous)?;
    let previous = previous.as_ref().map(|(reference, image)| (reference, image));
    let second = variant(input, (parts, layers), previous, form.family, sink)?;
    let platform = parts.base.image.config.platform();
    let both = [(platform.clone(), &first.manifest), (platform, &second.manifest)];
    let index = Manifest::index(convert::image_index(&both, form.family));
    let children = [first.manifest, second.manifest];
    let mut uploads = first.uploads;
    let new = second.uploads.into_iter();
    uploads.extend(new.filter(|upload| upload.is_new_to(&children[0])));
    let layers = first.layers.into_iter().chain(second.layers).collect();
    publish::publish(
        &input.target,
        names,
        &Publication { root: &index, children: &children, uploads: &uploads, known: None, is_new: false },
    )?;
    Ok(Published { manifest: index, layers })
}

/// Whether the image is certainly another than the previous one. An index may have been found by one of its images.
fn is_new(previous: Option<&(Reference, Image)>, manifest: &Manifest) -> bool {
    previous.is_some_and(|(_, image)| image.index.is_none() && image.manifest.digest() != manifest.digest())
}

impl Parts<'_> {
    /// All layers, lowest first.
    fn list(
        &self,
        input: &ExportInput<'_>,
        base: Compression,
        made: Compression,
    ) -> Result<Vec<Part>, ExportError> {
        let base_layers = self.base.layers().into_iter().map(|(diff_id, descriptor)| {
            let opener = BlobOpener::of(
                Arc::clone(&input.run_images),
                self.base.reference.clone(),
                descriptor.clone(),
            );
            Ok(Part {
                layer: ImageLayer { diff_id, descriptor, source: BlobSource::Lazy(opener) },
                // Whether that is the same registry is seen by its name: the store may stand for several.
                mount_from: Some(self.base.reference.clone()),
                compression: base,
            })
        });
        let made_layers = self.made.iter().map(|layer| {
            let (source, mount_from) = match (&layer.blob, self.previous) {
                (Blob::File(path), _) => (BlobSource::File(path.clone()), None),
                (Blob::Previous, Some((reference, _))) => {
                    let target = Arc::clone(&input.target);
                    let opener = BlobOpener::of(target, reference.clone(), layer.descriptor.clone());
                    (BlobSource::Lazy(opener), Some(reference.clone()))
                }
                (Blob::Previous, None) => return Err(no_previous_image()),
            };
            let descriptor = layer.descriptor.clone();
            let layer = ImageLayer { diff_id: layer.diff_id, descriptor, source };
            Ok(Part { layer, mount_from, compression: made })
        });
        base_layers.chain(made_layers).collect()
    }
}

/// Converts the layers that need it, and makes the manifest.
fn variant(
    input: &ExportInput<'_>,
    (all, parts): (&Parts<'_>, Vec<Part>),
    previous: Option<(&Reference, &Image)>,
    family: ManifestFormat,
    sink: &BlobSink,
) -> Result<Variant, ExportError> {
    let parts: Vec<Part> = parts
        .into_par_iter()
        .map(|part| convert(input, part, previous, family, sink))
        .collect::<Result<_, _>>()?;
    let (config, config_upload) = Upload::config(all.config.clone(), family);
    let descriptors: Vec<_> = parts.iter().map(|part| part.layer.descriptor.clone()).collect();
    let of_base = all.base.layers().len();
    let is_own = |position: usize, part: &Part| {
        position >= of_base || matches!(part.layer.source, BlobSource::File(_))
    };
    let layers = parts.iter().enumerate().filter(|(position, part)| is_own(*position, part));
    let layers = layers.map(|(_, part)| part.layer.descriptor.clone()).collect();
    let manifest = Manifest::image(ImageManifest::new(family, config, descriptors));
    // What the previous image has is there in its repository, and need not be asked for.
    let uploads = parts.into_iter().map(|part| {
        let upload = Upload::layer(part.layer, part.mount_from);
        match previous {
            Some((reference, image)) if !upload.is_new_to(&image.manifest) => upload.held_by(reference),
            _ => all.ahead.mark(upload),
        }
    });
    Ok(Variant { manifest, uploads: uploads.chain([config_upload]).collect(), layers })
}

fn convert(
    input: &ExportInput<'_>,
    part: Part,
    previous: Option<(&Reference, &Image)>,
    family: ManifestFormat,
    sink: &BlobSink,
) -> Result<Part, ExportError> {
    let format = convert::wanted_format(&part.layer.descriptor, part.compression, family);
    if format.is_none_or(|format| convert::format_of(&part.layer.descriptor.media_type) == Some(format)) {
        let descriptor = convert::in_family(part.layer.descriptor, family);
        return Ok(Part { layer: ImageLayer { descriptor, ..part.layer }, ..part });
    }
    // The last build may have converted it already.
    let known = previous.and_then(|(reference, image)| {
        let descriptor = image_layers::find(image, part.layer.diff_id)?;
        (convert::format_of(&descriptor.media_type) == format).then_some((reference, descriptor))
    });
    if let Some((reference, descriptor)) = known {
        let opener = BlobOpener::of(Arc::clone(&input.target), reference.clone(), descriptor.clone());
        let descriptor = convert::in_family(descriptor, family);
        let layer = ImageLayer { diff_id: part.layer.diff_id, descriptor, source: BlobSource::Lazy(opener) };
        return Ok(Part { layer, mount_from: Some(reference.clone()), ..part });
    }
    let is_of_image = matches!(part.layer.source, BlobSource::Lazy(_));
    let format = format.filter(|_| !is_of_image);
    if let Some(layer) = format.and_then(|format| converted_before(input, &part.layer, format, family)) {
        return Ok(Part { layer, mount_from: None, ..part });
    }
    if is_of_image {
        tracing::info!("Converting layer {} of an image that is there already", part.layer.diff_id);
    }
    // An earlier build may have put it there in this format: that is asked by its digest before anything is sent.
    let sink = if is_of_image { &sink.clone().followed_by(None) } else { sink };
    let layer = convert::layer(part.layer, part.compression, family, sink)?;
    if let (Some(index), Some(format)) = (input.index, format) {
        index.note_converted(layer.diff_id, format, (layer.descriptor.digest, layer.descriptor.size));
    }
    Ok(Part { layer, mount_from: None, ..part })
}

/// A layer of ours that an earlier build has stored in this format, of which the target has lost its copy.
fn converted_before(
    input: &ExportInput<'_>,
    layer: &ImageLayer,
    format: LayerFormat,
    family: ManifestFormat,
) -> Option<ImageLayer> {
    let (digest, size) = input.index?.blob_of(layer.diff_id, format)?;
    let path = input.sink.kept(digest, size)?;
    let descriptor = Descriptor::new(MediaType::Layer(family, format), digest, size);
    Some(ImageLayer { diff_id: layer.diff_id, descriptor, source: BlobSource::File(path) })
}

/// The zstd image beside the previous image, when the last build made both.
fn zstd_of(
    input: &ExportInput<'_>,
    name: Option<&Reference>,
    previous: Option<&(Reference, Image)>,
) -> Result<Option<(Reference, Image)>, ExportError> {
    let Some((reference, image)) = previous else { return Ok(None) };
    let index = image.index.clone().or_else(|| index_of(input, name?, image));
    let children = match index.as_ref().map(Manifest::content) {
        Some(ManifestContent::Index(index)) => index.manifests.as_slice(),
        _ => return Ok(None),
    };
    let is_zstd = |child: &&Descriptor| {
        child.annotations.contains_key(ZSTD_ANNOTATION)
            && child.platform.as_ref().is_some_and(|platform| input.platform.accepts(platform))
            && matches!(child.media_type, MediaType::Manifest(_))
    };
    let Some(child) = children.iter().find(is_zstd) else { return Ok(None) };
    let by_digest = reference.with_digest(child.digest);
    let found = input.target.resolve(&by_digest, &input.platform);
    let found = found.map_err(ExportError::store("read the previous image", reference))?;
    Ok(found.map(|image| (reference.clone(), image)))
}

/// The index under `name`, when the image is one of those that it points to: analyzers tell the image's own digest.
fn index_of(input: &ExportInput<'_>, name: &Reference, image: &Image) -> Option<Manifest> {
    let found =
        input.target.manifest(name).inspect_err(|error| tracing::debug!("no index is known: {error}"));
    let index = found.ok().flatten()?;
    let ManifestContent::Index(content) = index.content() else { return None };
    let points_to_it = content.manifests.iter().any(|child| child.digest == image.manifest.digest());
    points_to_it.then_some(index)
}

/// Layers are only taken from a previous image when there is one; this says so without a panic.
fn no_previous_image() -> ExportError {
    ExportError::NotReusable { layer: "app".to_owned(), reason: "the previous image has gone" }
}

impl From<PublishError> for ExportError {
    fn from(PublishError { action, reference, written, source }: PublishError) -> Self {
        if written.is_empty() {
            Self::Store { action, reference, source }
        } else {
            Self::Name { reference, written, source }
        }
    }
}
