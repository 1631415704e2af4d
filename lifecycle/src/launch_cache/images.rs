//! What is known of images: their manifests and configurations, by id.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use longshore_image::{Config, Manifest};
use serde::{Deserialize, Serialize};

/// The file of an image: both to the byte.
#[derive(Serialize, Deserialize)]
struct Record {
    manifest: String,
    config: String,
}

fn folder(directory: &Path) -> PathBuf {
    directory.join("images")
}

/// The hexadecimal digits of an id: Podman says them alone.
pub(super) fn hex(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

/// The image of that id, if it is known and its file is whole.
pub(super) fn read(directory: &Path, id: &str) -> Option<(Manifest, Config)> {
    let path = folder(directory).join(format!("{id}.json"));
    let bytes = fs::read(&path).ok()?;
    let image = parse(&bytes, id);
    if image.is_none() {
        tracing::warn!("'{}' of the launch cache is damaged: it is not used", path.display());
    }
    image
}

fn parse(bytes: &[u8], id: &str) -> Option<(Manifest, Config)> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    let manifest = Manifest::parse(record.manifest.into_bytes().into(), None).ok()?;
    let config = Config::parse(record.config.into_bytes()).ok()?;
    let named = manifest.as_image().map(|image| image.config.digest.hex())?;
    let is_whole = config.image_id().hex() == id && named == id;
    is_whole.then_some((manifest, config))
}

/// Notes an image, under the digest of its configuration.
pub(super) fn write(directory: &Path, manifest: &Manifest, config: &[u8]) -> io::Result<()> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(io::Error::other);
    let Some(image) = manifest.as_image() else { return Ok(()) };
    let record = Record { manifest: text(manifest.raw())?, config: text(config)? };
    let folder = folder(directory);
    fs::create_dir_all(&folder)?;
    let mut file = tempfile::NamedTempFile::new_in(&folder)?;
    file.write_all(&serde_json::to_vec(&record)?)?;
    let persisted = file.persist(folder.join(format!("{}.json", image.config.digest.hex())));
    persisted.map(drop).map_err(|error| error.error)
}

/// Removes all images but those of these ids.
pub(super) fn retain(directory: &Path, ids: &BTreeSet<String>) -> io::Result<()> {
    super::layers::remove(&folder(directory), |name| {
        !name.strip_suffix(".json").is_some_and(|id| ids.contains(id))
    })
}
