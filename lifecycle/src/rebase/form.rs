//! The rebased image in its form: as it was, or with other formats. Whatever is converted, names move only once.

use std::sync::Arc;

use longshore_image::convert::{self, Compression, ConvertError, ImageLayer, image_index};
use longshore_image::{
    BlobOpener, BlobSource, Descriptor, DiffId, Image, ImageManifest, IndexManifest, LayerFormat,
    LayerFormats, Manifest, ManifestChoice, ManifestContent, ManifestFormat, MediaType, Reference,
};
use rayon::prelude::*;

use super::read::{Leaf, Reading};
use super::{RebaseError, RebaseInput};
use crate::image_layers;
use crate::publish::{self, Publication, PublishError, Upload};

/// How the layers of one manifest are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variant {
    base: Compression,
    app: Compression,
}

/// The form of the rebased image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    /// One manifest for each of them, of every image.
    variants: Vec<Variant>,
    /// Whose media types are used; each image's own when `None`.
    family: Option<ManifestFormat>,
    /// Whether Docker's types are tried when the registry refuses OCI's.
    pub(super) may_fall_back: bool,
}

impl Form {
    /// The form that was asked for; else that of the old image, in one format or in two.
    pub(super) fn of(input: &RebaseInput<'_>, reading: &Reading) -> Result<Self, RebaseError> {
        let was_dual = reading.leaves.iter().any(|leaf| !leaf.others.is_empty());
        let formats = input.layer_format.or(was_dual.then_some(LayerFormats::Dual));
        let family = input.manifest_format.map(ManifestChoice::family);
        if let Some(formats) = formats.filter(|formats| family.is_some_and(|family| !formats.fits(family))) {
            if input.layer_format.is_some() {
                return Err(ConvertError::ZstdInDocker { formats }.into());
            }
            // Nobody asked for two formats: Docker's types have one.
            return Ok(Self::new(Some(formats.in_docker().into()), family, input));
        }
        let needs_oci = formats.is_some_and(|formats| !formats.fits(ManifestFormat::Docker));
        Ok(Self::new(formats, family.or(needs_oci.then_some(ManifestFormat::Oci)), input))
    }

    fn new(formats: Option<LayerFormats>, family: Option<ManifestFormat>, input: &RebaseInput<'_>) -> Self {
        // The run image's layers stay what they are where every client reads them: then they need not be pulled.
        let base = |format| match format {
            LayerFormat::TarZstd => Compression::Kept,
            other => Compression::WithoutZstd(other),
        };
        let all = |format| Variant { base: base(format), app: Compression::All(format) };
        let variants = match formats {
            None => vec![Variant {
                base: input.readable.map_or(Compression::Kept, |formats| base(formats.first())),
                app: Compression::Kept,
            }],
            Some(LayerFormats::One(format)) => vec![all(format)],
            Some(LayerFormats::Dual) => vec![all(LayerFormat::TarGzip), all(LayerFormat::TarZstd)],
        };
        let may_fall_back = input.manifest_format == Some(ManifestChoice::Auto);
        Self { variants, family, may_fall_back }
    }

    /// What comes nearest to it with Docker's types.
    pub(super) fn in_docker(&self) -> Self {
        let plain = |compression| match compression {
            Compression::All(LayerFormat::TarZstd) => Compression::All(LayerFormat::TarGzip),
            Compression::Kept => Compression::WithoutZstd(LayerFormat::TarGzip),
            other => other,
        };
        let variants = self.variants.iter().take(1);
        let variants = variants.map(|variant| Variant { base: plain(variant.base), app: plain(variant.app) });
        Self { variants: variants.collect(), family: Some(ManifestFormat::Docker), may_fall_back: false }
    }
}

/// Makes the manifests and publishes them under all names; what the names are then. An image that `stays` is only given
/// the names that it does not have.
pub(super) fn publish(
    input: &RebaseInput<'_>,
    reading: &Reading,
    form: &Form,
    stays: bool,
) -> Result<Manifest, RebaseError> {
    let mut images = Vec::new();
    for leaf in &reading.leaves {
        let variants =
            if stays { old_images(input, reading, leaf) } else { made(input, reading, leaf, form)? };
        images.extend(variants.into_iter().map(|(manifest, uploads)| (leaf, manifest, uploads)));
    }
    let mut uploads: Vec<Upload> = Vec::new();
    let mut children: Vec<Manifest> = Vec::new();
    let mut listed: Vec<(&Leaf, Manifest)> = Vec::new();
    for (leaf, manifest, blobs) in images {
        let is_new = |upload: &Upload| children.iter().all(|known| upload.is_new_to(known));
        uploads.extend(blobs.into_iter().filter(is_new));
        children.push(manifest.clone());
        listed.push((leaf, manifest));
    }
    let root = if stays { reading.root.clone() } else { root(reading, form, &listed)? };
    if matches!(root.content(), ManifestContent::Image(_)) {
        children.clear();
    }
    let known = Some((&reading.app, reading.root.digest()));
    let publication =
        Publication { root: &root, children: &children, uploads: &uploads, known, is_new: false };
    publish::publish(&input.target, &reading.names, &publication)?;
    Ok(root)
}

/// The one image, or the index of all.
fn root(reading: &Reading, form: &Form, images: &[(&Leaf, Manifest)]) -> Result<Manifest, RebaseError> {
    let old = match reading.root.content() {
        ManifestContent::Index(index) => Some(index),
        ManifestContent::Image(_) => None,
    };
    if let (None, [(_, only)]) = (old, images) {
        return Ok(only.clone());
    }
    let family = form.family.unwrap_or_else(|| match reading.root.media_type() {
        MediaType::Index(family) | MediaType::Manifest(family) => *family,
        _ => ManifestFormat::Oci,
    });
    let parts: Vec<_> = images.iter().map(|(leaf, manifest)| (leaf.platform(), manifest)).collect();
    let mut index = image_index(&parts, family);
    let Some(old) = old else { return Ok(Manifest::index(index)) };
    if form.variants.len() == 1 && images.iter().all(|(leaf, _)| leaf.others.is_empty()) {
        // All of them as they stood, with what was said of each.
        index.manifests = images.iter().map(|(leaf, manifest)| relisted(leaf, manifest)).collect();
    }
    Ok(Manifest::index(IndexManifest {
        schema_version: old.schema_version,
        annotations: old.annotations.clone(),
        other: old.other.clone(),
        ..index
    }))
}

/// What an index says of an image, about the new one.
fn relisted(leaf: &Leaf, manifest: &Manifest) -> Descriptor {
    let mut descriptor = manifest.descriptor();
    if let Some(listed) = &leaf.listed {
        descriptor = descriptor.in_place_of(listed);
        descriptor.platform.clone_from(&listed.platform);
        descriptor.annotations.clone_from(&listed.annotations);
    }
    descriptor
}

/// The image as it is, with all that it needs.
fn old_images(input: &RebaseInput<'_>, reading: &Reading, leaf: &Leaf) -> Vec<(Manifest, Vec<Upload>)> {
    let images = std::iter::once(&leaf.image).chain(&leaf.others);
    let all = images.map(|image| {
        let content = image.manifest.as_image();
        let blobs = content.into_iter().flat_map(|content| content.layers.iter().chain([&content.config]));
        let uploads = blobs.map(|blob| held(input, &reading.app, blob.clone()));
        (image.manifest.clone(), uploads.collect())
    });
    all.collect()
}

fn held(input: &RebaseInput<'_>, app: &Reference, blob: Descriptor) -> Upload {
    Upload::of_image(blob, &input.target, app).held_by(app)
}

/// The manifests of one image on its new run image, one for each variant.
fn made(
    input: &RebaseInput<'_>,
    reading: &Reading,
    leaf: &Leaf,
    form: &Form,
) -> Result<Vec<(Manifest, Vec<Upload>)>, RebaseError> {
    form.variants.iter().map(|variant| made_one(input, reading, leaf, *variant, form.family)).collect()
}

fn made_one(
    input: &RebaseInput<'_>,
    reading: &Reading,
    leaf: &Leaf,
    variant: Variant,
    family: Option<ManifestFormat>,
) -> Result<(Manifest, Vec<Upload>), RebaseError> {
    let base = image_layers::pairs(&leaf.base);
    let app: Vec<_> = image_layers::pairs(&leaf.image).into_iter().skip(leaf.plan.kept_from).collect();
    let family = family.unwrap_or_else(|| own_family(leaf, base.iter().chain(&app).map(|(_, blob)| blob)));
    let source = Source { input, app: &reading.app, leaf, family };
    let base = base.into_par_iter().map(|(diff_id, blob)| source.base_layer(diff_id, blob, variant.base));
    let app = app.into_par_iter().map(|(diff_id, blob)| source.app_layer(diff_id, blob, variant.app));
    let layers = base.chain(app).collect::<Result<Vec<_>, _>>()?;
    let (config, config_upload) = Upload::config(leaf.plan.config.to_bytes(), family);
    let (layers, uploads): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
    // What takes longest comes first, and so gets the connection that is open: a layer is mounted with one request.
    let uploads = std::iter::once(config_upload).chain(uploads).collect();
    let mut manifest = ImageManifest::new(family, config, layers);
    if let Some(old) = leaf.image.manifest.as_image() {
        manifest.annotations.clone_from(&old.annotations);
        manifest.config = manifest.config.in_place_of(&old.config);
        // Those of OCI, `subject` and `artifactType`, mean nothing in Docker's manifests.
        if family == ManifestFormat::Oci || old.media_type == MediaType::Manifest(family) {
            manifest.other.clone_from(&old.other);
        }
    }
    Ok((Manifest::image(manifest), uploads))
}

/// The app image's own family, unless a layer needs OCI's.
fn own_family<'a>(leaf: &Leaf, mut layers: impl Iterator<Item = &'a Descriptor>) -> ManifestFormat {
    let needs_oci = layers.any(|blob| matches!(blob.media_type, MediaType::Layer(_, LayerFormat::TarZstd)));
    match leaf.image.manifest.media_type() {
        MediaType::Manifest(family) if !needs_oci => *family,
        _ => ManifestFormat::Oci,
    }
}

/// Where the layers of a rebased image come from.
struct Source<'a> {
    input: &'a RebaseInput<'a>,
    app: &'a Reference,
    leaf: &'a Leaf,
    family: ManifestFormat,
}

impl Source<'_> {
    fn base_layer(
        &self,
        diff_id: DiffId,
        blob: Descriptor,
        compression: Compression,
    ) -> Result<(Descriptor, Upload), RebaseError> {
        let name = &self.leaf.base.reference;
        if self.is_kept(&blob, compression) {
            let blob = convert::in_family(blob, self.family);
            let upload = Upload::of_image(blob.clone(), &self.input.run_image_store, name);
            let is_held = self.images().any(|image| !upload.is_new_to(&image.manifest));
            return Ok((blob, if is_held { upload.held_by(self.app) } else { upload }));
        }
        self.known_or_converted(diff_id, blob, compression, &self.input.run_image_store, name)
    }

    fn app_layer(
        &self,
        diff_id: DiffId,
        blob: Descriptor,
        compression: Compression,
    ) -> Result<(Descriptor, Upload), RebaseError> {
        if self.is_kept(&blob, compression) {
            let blob = convert::in_family(blob, self.family);
            return Ok((blob.clone(), held(self.input, self.app, blob)));
        }
        self.known_or_converted(diff_id, blob, compression, &self.input.target, self.app)
    }

    /// Whether the blob is used as it is: also one of a type that is not known.
    fn is_kept(&self, blob: &Descriptor, compression: Compression) -> bool {
        let wanted = convert::wanted_format(blob, compression, self.family);
        wanted.is_none() || wanted == convert::format_of(&blob.media_type)
    }

    /// The images that the app image is in the target, in all its formats.
    fn images(&self) -> impl Iterator<Item = &Image> {
        std::iter::once(&self.leaf.image).chain(&self.leaf.others)
    }

    /// The layer in another format: the app image may have it already.
    fn known_or_converted(
        &self,
        diff_id: DiffId,
        blob: Descriptor,
        compression: Compression,
        store: &Arc<dyn longshore_image::ImageStore>,
        image: &Reference,
    ) -> Result<(Descriptor, Upload), RebaseError> {
        let wanted = convert::wanted_format(&blob, compression, self.family);
        let known = self.images().filter_map(|image| image_layers::find(image, diff_id));
        let known = known.into_iter().find(|blob| convert::format_of(&blob.media_type) == wanted);
        if let Some(blob) = known {
            let blob = convert::in_family(blob, self.family);
            return Ok((blob.clone(), held(self.input, self.app, blob)));
        }
        tracing::info!("Converting layer {diff_id} of '{}'", image.familiar());
        let opener = BlobOpener::of(Arc::clone(store), image.clone(), blob.clone());
        let layer = ImageLayer { diff_id, descriptor: blob, source: BlobSource::Lazy(opener) };
        let layer = convert::layer(layer, compression, self.family, &self.input.sink)?;
        Ok((layer.descriptor.clone(), Upload::layer(layer, None)))
    }
}

impl From<PublishError> for RebaseError {
    fn from(PublishError { action, reference, written, source }: PublishError) -> Self {
        if written.is_empty() {
            Self::Store { action, reference, source }
        } else {
            Self::Name { reference, written, source }
        }
    }
}
