//! Images in another form than the one they have.

use std::io::Read;

use super::{CopyError, CopyRequest, DEPTH, Work};
use crate::convert::{self, Compression, ConvertError, ImageLayer, image_index};
use crate::{
    BlobSource, Config, Descriptor, ImageManifest, LayerFormat, LayerFormats, Manifest, ManifestContent,
    ManifestFormat, MediaType, Platform, StoreError,
};

/// An image of the source.
struct Leaf {
    platform: Option<Platform>,
    manifest: Manifest,
    config: Config,
}

/// What is written for all images of `root` in a form. Where only one thing is asked for, the other stays as it is.
pub(super) fn work(
    request: &CopyRequest<'_>,
    root: &Manifest,
    layers: Option<LayerFormats>,
    family: Option<ManifestFormat>,
) -> Result<Work, CopyError> {
    let leaves = leaves(request, root)?;
    let needs_oci = layers.is_some_and(|layers| !layers.fits(ManifestFormat::Docker));
    let family = family.unwrap_or_else(|| match root.media_type() {
        MediaType::Manifest(family) | MediaType::Index(family) if !needs_oci => *family,
        _ => ManifestFormat::Oci,
    });
    if let Some(formats) = layers.filter(|layers| !layers.fits(family)) {
        return Err(ConvertError::ZstdInDocker { formats }.into());
    }
    let compressions = match layers {
        None => vec![Compression::Kept],
        Some(LayerFormats::One(format)) => vec![Compression::All(format)],
        Some(LayerFormats::Dual) => {
            [LayerFormat::TarGzip, LayerFormat::TarZstd].map(Compression::All).to_vec()
        }
    };
    let mut blobs = Vec::new();
    let mut images = Vec::new();
    for leaf in leaves {
        for compression in &compressions {
            let manifest = convert_image(request, &leaf, *compression, family, &mut blobs)?;
            images.push((leaf.platform.clone().unwrap_or_else(|| leaf.config.platform()), manifest));
        }
    }
    let is_index = matches!(root.content(), ManifestContent::Index(_));
    let single = match images.as_slice() {
        [(_, manifest)] if !is_index => Some(manifest.clone()),
        _ => None,
    };
    if let Some(root) = single {
        return Ok(Work { blobs, children: Vec::new(), root });
    }
    let parts: Vec<_> = images.iter().map(|(platform, manifest)| (platform.clone(), manifest)).collect();
    let mut index = image_index(&parts, family);
    if let ManifestContent::Index(old) = root.content() {
        index.annotations.clone_from(&old.annotations);
        if family == ManifestFormat::Oci || old.media_type == MediaType::Index(family) {
            index.other.clone_from(&old.other);
        }
    }
    let children = images.into_iter().map(|(_, manifest)| manifest).collect();
    Ok(Work { blobs, children, root: Manifest::index(index) })
}

/// What comes nearest to what was asked for with Docker's types.
pub(super) fn in_docker(request: &CopyRequest<'_>, root: &Manifest) -> Result<Work, CopyError> {
    let layers = request.layers.map(|layers| layers.in_docker().into());
    work(request, root, layers, Some(ManifestFormat::Docker))
}

/// All images, each once: of an image that is there in two forms, the first.
fn leaves(request: &CopyRequest<'_>, root: &Manifest) -> Result<Vec<Leaf>, CopyError> {
    let mut leaves = Vec::new();
    gather(request, root, None, &mut leaves, 0)?;
    if leaves.is_empty() {
        let reference = request.from.familiar();
        let reason = "it has no image that runs, but other artifacts".to_owned();
        return Err(ConvertError::NotAnImage { reference, reason }.into());
    }
    Ok(leaves)
}

fn gather(
    request: &CopyRequest<'_>,
    manifest: &Manifest,
    platform: Option<&Platform>,
    leaves: &mut Vec<Leaf>,
    depth: usize,
) -> Result<(), CopyError> {
    let index = match manifest.content() {
        ManifestContent::Image(image) => {
            let is_image = matches!(image.config.media_type, MediaType::Config(_))
                && platform.is_none_or(|platform| platform.os != "unknown");
            let is_known = leaves.iter().any(|leaf| config_of(&leaf.manifest) == Some(&image.config.digest));
            if !is_image {
                tracing::warn!(
                    "leaving out {}: it is no image, and what it is about gets another digest",
                    manifest.digest()
                );
            } else if !is_known {
                let config = config(request, &image.config)?;
                leaves.push(Leaf { platform: platform.cloned(), manifest: manifest.clone(), config });
            }
            return Ok(());
        }
        ManifestContent::Index(index) => index,
    };
    if depth > DEPTH {
        let reference = request.from.familiar();
        let reason = "indexes stand in indexes too deep".to_owned();
        return Err(ConvertError::NotAnImage { reference, reason }.into());
    }
    index.manifests.iter().try_for_each(|descriptor| {
        let child = request.source.child(request.from, descriptor).map_err(request.unreadable())?;
        gather(request, &child, descriptor.platform.as_ref(), leaves, depth + 1)
    })
}

fn config_of(manifest: &Manifest) -> Option<&crate::Digest> {
    manifest.as_image().map(|image| &image.config.digest)
}

fn config(request: &CopyRequest<'_>, blob: &Descriptor) -> Result<Config, CopyError> {
    let mut bytes = Vec::new();
    let reader = request.source.open_blob(request.from, blob).map_err(request.unreadable())?;
    reader
        .take(crate::select::CONFIG_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| crate::verify::unwrap_error(error, std::path::Path::new(&request.from.familiar())))
        .map_err(request.unreadable())?;
    let reference = request.from.familiar();
    Config::parse(bytes)
        .map_err(|source| StoreError::InvalidConfig { reference, source })
        .map_err(request.unreadable())
}

/// One image in its new form; its blobs are added to `blobs`.
fn convert_image(
    request: &CopyRequest<'_>,
    leaf: &Leaf,
    compression: Compression,
    family: ManifestFormat,
    blobs: &mut Vec<(Descriptor, BlobSource)>,
) -> Result<Manifest, CopyError> {
    let not_an_image = |reason: &str| ConvertError::NotAnImage {
        reference: request.from.familiar(),
        reason: reason.to_owned(),
    };
    let old = leaf.manifest.as_image().ok_or_else(|| not_an_image("it is an index"))?;
    let diff_ids = leaf.config.diff_ids();
    if diff_ids.len() != old.layers.len() {
        return Err(not_an_image("its configuration does not name as many layers as it has").into());
    }
    let mut layers = Vec::new();
    for (diff_id, blob) in diff_ids.into_iter().zip(&old.layers) {
        let layer = ImageLayer { diff_id, descriptor: blob.clone(), source: request.lazy(blob) };
        let layer = convert::layer(layer, compression, family, request.sink)?;
        blobs.push((layer.descriptor.clone(), layer.source));
        layers.push(layer.descriptor);
    }
    let config = convert::in_family(old.config.clone(), family);
    blobs.push((config.clone(), request.lazy(&old.config)));
    let mut manifest = ImageManifest::new(family, config, layers);
    manifest.annotations.clone_from(&old.annotations);
    // Those of OCI, `subject` and `artifactType`, mean nothing in Docker's manifests.
    if family == ManifestFormat::Oci || old.media_type == MediaType::Manifest(family) {
        manifest.other.clone_from(&old.other);
    }
    Ok(Manifest::image(manifest))
}
