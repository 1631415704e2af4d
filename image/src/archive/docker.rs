//! What `docker save` wrote before it wrote layouts: `manifest.json`, configurations and uncompressed layers, without
//! the manifests, which are made here.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Archive, Part, PartReader};
use crate::layout::name_descriptor;
use crate::{
    Config, Descriptor, Digest, Fields, ImageManifest, IndexManifest, LayerFormat, Manifest, ManifestFormat,
    MediaType, StoreError,
};

/// An image in `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImage {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

pub(super) fn empty_index() -> IndexManifest {
    IndexManifest {
        schema_version: 2,
        media_type: MediaType::Index(ManifestFormat::Oci),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
        other: Fields::default(),
    }
}

/// Makes the manifests and the index of an archive that has none.
pub(super) fn read(
    archive: &mut Archive,
    files: &BTreeMap<String, Part>,
    manifest: &[u8],
) -> Result<(), StoreError> {
    let images: Vec<SavedImage> = serde_json::from_slice(manifest)
        .map_err(|error| archive.unusable(format!("its `manifest.json` cannot be read: {error}")))?;
    let mut index = empty_index();
    for image in images {
        let manifest = Manifest::image(image_manifest(archive, files, &image)?);
        let names = image.repo_tags.unwrap_or_default();
        let names = if names.is_empty() { vec![String::new()] } else { names };
        for name in names {
            let full = name.parse().ok();
            index.manifests.push(name_descriptor(manifest.descriptor(), full.as_ref()));
        }
        archive.made.insert(manifest.digest(), manifest);
    }
    archive.index = Manifest::index(index);
    Ok(())
}

fn image_manifest(
    archive: &mut Archive,
    files: &BTreeMap<String, Part>,
    image: &SavedImage,
) -> Result<ImageManifest, StoreError> {
    let part = |archive: &Archive, name: &str| {
        let found = files.get(name.trim_start_matches("./")).copied();
        found.ok_or_else(|| {
            archive.unusable(format!("it has no file `{name}`, which its `manifest.json` names"))
        })
    };
    let config_part = part(archive, &image.config)?;
    let bytes = archive.small(config_part)?;
    let config_digest = Digest::of(&bytes);
    let config = Config::parse(bytes)
        .map_err(|source| StoreError::InvalidConfig { reference: archive.place(), source })?;
    let diff_ids = config.diff_ids();
    if diff_ids.len() != image.layers.len() {
        return Err(archive.unusable("an image in it has not as many layers as its configuration says"));
    }
    archive.blobs.insert(config_digest, config_part);
    let mut layers = Vec::new();
    for (name, diff_id) in image.layers.iter().zip(diff_ids) {
        let part = part(archive, name)?;
        let (format, digest) = layer(archive, part, diff_id.into())?;
        archive.blobs.insert(digest, part);
        let media_type = MediaType::Layer(ManifestFormat::Docker, format);
        layers.push(Descriptor::new(media_type, digest, part.size));
    }
    let media_type = MediaType::Config(ManifestFormat::Docker);
    let config = Descriptor::new(media_type, config_digest, config_part.size);
    Ok(ImageManifest::new(ManifestFormat::Docker, config, layers))
}

/// An uncompressed layer is named by its DiffID, and checked when it is read; a compressed one has to be hashed here.
fn layer(archive: &Archive, part: Part, diff_id: Digest) -> Result<(LayerFormat, Digest), StoreError> {
    let mut reader = PartReader { file: Arc::clone(&archive.file), part };
    let mut start = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut start).map_err(StoreError::file(&archive.path))?;
    let format = crate::decompress::format(&start);
    if format == LayerFormat::Tar {
        return Ok((format, diff_id));
    }
    let mut whole = PartReader { file: Arc::clone(&archive.file), part };
    let digest = crate::verify::digest_of(&mut whole).map_err(StoreError::file(&archive.path))?;
    Ok((format, digest))
}
