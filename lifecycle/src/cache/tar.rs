//! What caches that keep layers as tars have in common.

use std::fs;
use std::io::{self, ErrorKind, Read};

use longshore_image::DiffId;
use longshore_image::layer::{self, Layer, LayerDigest, LayerError, LayerSource, TarCopy};
use longshore_image::stat_index::Finding;

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

    /// Adds a layer whose tar is there already; tells whether it did.
    ///
    /// # Errors
    /// When it cannot be written.
    fn add_tar(&mut self, _: DiffId, _: &TarCopy) -> Result<bool, CacheError> {
        Ok(false)
    }

    /// Adds a layer, unless it was added before.
    ///
    /// # Errors
    /// When it cannot be read or written.
    fn add_layer(&mut self, source: &LayerSource) -> Result<Layer, CacheError>;
}

/// Puts a directory in as a tar. A tar that the old cache may have is not written again.
pub(super) fn put(update: &mut dyn TarUpdate, layer: &LayerDirectory<'_>) -> Result<Put, CacheError> {
    let source = layer.source()?;
    if let Some(LayerDigest { diff_id, uncompressed_size }) = digest(layer, &source)? {
        if update.reuse_layer(diff_id, uncompressed_size)? {
            return Ok(Put { diff_id, is_new: false });
        }
        let tar = layer.known.and_then(|known| known.tar.as_ref());
        if let Some(tar) = tar
            && update.add_tar(diff_id, tar)?
        {
            return Ok(Put { diff_id, is_new: true });
        }
    }
    let made = update.add_layer(&source)?;
    if let Some((index, name)) = layer.index {
        index.note_read(name, &made);
    }
    Ok(Put { diff_id: made.diff_id, is_new: true })
}

/// Which layer it is, where that is known, or worth being found out before it is written: when it may be the one that the
/// old cache has.
fn digest(layer: &LayerDirectory<'_>, source: &LayerSource) -> Result<Option<LayerDigest>, LayerError> {
    if let Some(known) = layer.known {
        return Ok(Some(known.digest));
    }
    let finding = layer.index.map_or(Ok(Finding::Unknown), |(index, name)| index.find(name, source))?;
    let may_be_the_same = match finding {
        Finding::Unchanged(digest) => return Ok(Some(digest)),
        Finding::Similar => true,
        Finding::Changed => false,
        Finding::Unknown => layer.previous.is_some(),
    };
    if !may_be_the_same {
        return Ok(None);
    }
    layer.index.map_or_else(|| layer::digest(source), |(index, name)| index.read(name, source)).map(Some)
}

/// Unpacks a tar beside its place, checks its DiffID, and renames it to its place.
pub(super) fn restore(
    content: impl Read + Send,
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
