//! What caches that keep layers as tars have in common.

use std::fs;
use std::io::{self, ErrorKind, Read};

use longshore_image::DiffId;
use longshore_image::layer::{self, LayerSource};

use super::{CacheError, LayerDirectory, Put};
use crate::directory::{MappedDirectory, Owner};
use crate::restore::{ExtractError, extract};

/// A cache of tars in the making.
pub(super) trait TarUpdate {
    /// Takes a layer over from the old cache, if it holds one of that DiffID and size in bytes; tells whether it did.
    ///
    /// # Errors
    /// When the old cache cannot be read or the new one cannot be written.
    fn reuse_layer(&mut self, diff_id: DiffId, uncompressed_size: u64) -> Result<bool, CacheError>;

    /// Adds a layer, unless it was added before, and returns its DiffID.
    ///
    /// # Errors
    /// When it cannot be read or written.
    fn add_layer(&mut self, source: &LayerSource) -> Result<DiffId, CacheError>;
}

/// Puts a directory in as a tar. A tar that the old cache may have is not written again.
pub(super) fn put(update: &mut dyn TarUpdate, layer: &LayerDirectory<'_>) -> Result<Put, CacheError> {
    let source = layer.source()?;
    if layer.known.is_some() || layer.previous.is_some() {
        let digest = layer.known.map_or_else(|| layer::digest(&source), |known| Ok(known.digest))?;
        if update.reuse_layer(digest.diff_id, digest.uncompressed_size)? {
            return Ok(Put { diff_id: digest.diff_id, is_new: false });
        }
    }
    Ok(Put { diff_id: update.add_layer(&source)?, is_new: true })
}

/// Unpacks a tar beside its place, checks its DiffID, and renames it to its place.
pub(super) fn restore(
    content: impl Read,
    diff_id: DiffId,
    directory: &MappedDirectory,
    owner: Option<Owner>,
) -> Result<(), CacheError> {
    let write = |path: &std::path::Path| {
        let path = path.to_owned();
        move |source: io::Error| ExtractError::Write { path, source }
    };
    let parent = directory.host.parent().unwrap_or(&directory.host);
    let staging = tempfile::Builder::new().prefix(".restoring-").tempdir_in(parent).map_err(write(parent))?;
    let target = MappedDirectory { host: staging.path().to_owned(), name: directory.name.clone() };
    extract(content, diff_id, &target, owner)?;
    remove(directory)?;
    fs::rename(staging.keep(), &directory.host).map_err(write(&directory.host))?;
    Ok(())
}

/// Removes what is where a layer is to go.
pub(super) fn remove(directory: &MappedDirectory) -> Result<(), ExtractError> {
    let path = &directory.host;
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(|source| ExtractError::Write { path: path.clone(), source })
}
