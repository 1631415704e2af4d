//! A cache of trees in the making: nothing is moved before everything is known, so that a failure leaves the old cache.

use std::path::PathBuf;

use longshore_cnb::lifecycle_metadata::CacheMetadata;
use longshore_image::DirectoryFingerprint;
use longshore_image::layer::{self, LayerError};

use super::super::files::{move_directory, open_parent, remove_tree, sync_directory};
use super::super::{CacheError, CacheUpdate, LayerDirectory, Put};
use super::document::{Document, Tree};
use super::{TreeCache, file_name};

/// The layers of the new cache, still in the layers directory of the build.
pub(super) struct TreeUpdate<'a> {
    cache: &'a TreeCache,
    trees: Vec<Tree>,
}

impl<'a> TreeUpdate<'a> {
    pub(super) fn new(cache: &'a TreeCache) -> Self {
        Self { cache, trees: Vec::new() }
    }

    fn relative(&self, layer: &LayerDirectory<'_>) -> Result<PathBuf, CacheError> {
        let layers = &self.cache.layers.host;
        let relative = layer.directory.host.strip_prefix(layers).map_err(std::io::Error::other);
        Ok(relative.map_err(CacheError::file(&layer.directory.host))?.to_owned())
    }

    /// Moves the directories into the cache.
    fn take(&self) -> Result<(), CacheError> {
        let cache = &self.cache.cache;
        for tree in &self.trees {
            let (host, target) = (self.cache.layers.host.join(&tree.path), cache.tree(tree));
            if target.exists() {
                remove_tree(&target)?;
            }
            let moved = open_parent(&self.cache.layers.host, &tree.path)
                .and_then(|parent| move_directory(&parent, &file_name(&tree.path), &target));
            moved.map_err(CacheError::file(&host))?;
        }
        sync_directory(&cache.layers())
    }
}

impl CacheUpdate for TreeUpdate<'_> {
    /// A directory that is what it was when it was restored is not read.
    fn put(&mut self, layer: &LayerDirectory<'_>) -> Result<Put, CacheError> {
        let host = &layer.directory.host;
        let path = self.relative(layer)?;
        // Before the content is read: whatever changes afterwards shows.
        let fingerprint = DirectoryFingerprint::of_directory(host)
            .map_err(|source| LayerError::Read { path: host.clone(), source })?;
        let restored = self.cache.restored_trees();
        let unchanged = layer
            .previous
            .and_then(|previous| restored.get(&previous))
            .filter(|tree| tree.path == path && tree.fingerprint.digest == fingerprint.digest);
        let is_new = unchanged.is_none();
        let tree = match unchanged {
            Some(tree) => Tree { fingerprint, ..tree.clone() },
            None => {
                let digest =
                    layer.known.map_or_else(|| layer::digest(&layer.source()?), |known| Ok(known.digest))?;
                let boot = Some(self.cache.boot.clone().unwrap_or_default());
                Tree { diff_id: digest.diff_id, path, fingerprint, boot }
            }
        };
        let put = Put { diff_id: tree.diff_id, is_new };
        self.trees.push(tree);
        Ok(put)
    }

    fn commit(self: Box<Self>, metadata: &CacheMetadata) -> Result<(), CacheError> {
        let cache = &self.cache.cache;
        self.take()?;
        let document = Document { image: cache.image.clone(), metadata: metadata.clone(), trees: self.trees };
        document.write(&cache.directory)?;
        *cache.document() = document;
        cache.remove_rubbish()
    }
}
