//! A cache in a directory, laid out as the reference lifecycle's volume cache: `committed/` holds
//! `sha256:<hex>.tar` files and the metadata.
//!
//! A new cache grows in `staging/` and takes the place of `committed/` in one step of the kernel (`RENAME_EXCHANGE`).
//! Where the file system cannot do that, `committed/` is first renamed to `committed-backup/`, and whoever opens the
//! cache next puts it back if the process died in between; the reference would start from nothing.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use longshore_cnb::go_json;
use longshore_cnb::lifecycle_metadata::{CACHE_METADATA_LABEL, CacheMetadata};
use longshore_image::layer::{self, BlobSink, Layer, LayerSource, TarCopy, remove_abandoned_tars};
use longshore_image::{DiffId, LayerFormat, ManifestFormat};
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::files::sync_directory;
use super::tar::{self, TarUpdate};
use super::{Cache, CacheError, CacheUpdate, LayerDirectory, Put};
use crate::directory::{MappedDirectory, Owner};

/// A cache in a directory, which must exist.
#[derive(Debug)]
pub struct DirectoryCache {
    directory: PathBuf,
}

impl DirectoryCache {
    /// The cache in a directory. A replacement that was interrupted is undone.
    ///
    /// # Errors
    /// When the directory does not exist or cannot be written.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let cache = Self { directory: directory.into() };
        fs::metadata(&cache.directory).map_err(CacheError::file(&cache.directory))?;
        let (committed, backup) = (cache.committed(), cache.backup());
        if !committed.exists() && backup.exists() {
            tracing::debug!(
                "putting back the cache `{}`, whose replacement was interrupted",
                backup.display()
            );
            fs::rename(&backup, &committed).map_err(CacheError::file(&backup))?;
        }
        Ok(cache)
    }

    fn committed(&self) -> PathBuf {
        self.directory.join("committed")
    }

    fn backup(&self) -> PathBuf {
        self.directory.join("committed-backup")
    }

    fn layer(&self, diff_id: DiffId) -> PathBuf {
        self.committed().join(layer_file(diff_id))
    }

    /// The uncompressed tar of a layer.
    fn open_layer(&self, diff_id: DiffId) -> Result<File, CacheError> {
        let path = self.layer(diff_id);
        File::open(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => CacheError::Missing { cache: self.name(), diff_id },
            _ => CacheError::File { path, source },
        })
    }
}

fn layer_file(diff_id: DiffId) -> String {
    format!("{diff_id}.tar")
}

impl Cache for DirectoryCache {
    fn name(&self) -> String {
        self.directory.display().to_string()
    }

    fn metadata(&self) -> Result<Option<CacheMetadata>, CacheError> {
        let path = self.committed().join(CACHE_METADATA_LABEL);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CacheError::File { path, source: error }),
        };
        match serde_json::from_slice(&bytes) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) => {
                tracing::warn!("ignoring the cache: its metadata `{}` is corrupt: {error}", path.display());
                Ok(None)
            }
        }
    }

    fn restore_layer(
        &self,
        diff_id: DiffId,
        directory: &MappedDirectory,
        owner: Option<Owner>,
    ) -> Result<(), CacheError> {
        tar::restore(self.open_layer(diff_id)?, diff_id, directory, owner)
    }

    fn discard_layer(&self, diff_id: DiffId) -> Result<(), CacheError> {
        let path = self.layer(diff_id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(CacheError::File { path, source: error })
            }
            _ => Ok(()),
        }
    }

    fn tars(&self) -> Option<&Path> {
        Some(&self.directory)
    }

    fn begin(&self) -> Result<Box<dyn CacheUpdate + '_>, CacheError> {
        Ok(Box::new(DirectoryUpdate::begin(self)?))
    }
}

/// The staging directory, and the lock that keeps other builds from using it at the same time.
struct DirectoryUpdate<'a> {
    cache: &'a DirectoryCache,
    staging: PathBuf,
    _lock: File,
}

impl<'a> DirectoryUpdate<'a> {
    fn begin(cache: &'a DirectoryCache) -> Result<Self, CacheError> {
        let lock_path = cache.directory.join("lock");
        let lock = File::create(&lock_path).map_err(CacheError::file(&lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|errno| CacheError::File { path: lock_path, source: errno.into() })?;
        remove_abandoned_tars(&cache.directory).map_err(CacheError::file(&cache.directory))?;
        let staging = cache.directory.join("staging");
        remove_directory(&staging)?;
        fs::create_dir_all(&staging).map_err(CacheError::file(&staging))?;
        Ok(Self { cache, staging, _lock: lock })
    }

    fn staged(&self, diff_id: DiffId) -> PathBuf {
        self.staging.join(layer_file(diff_id))
    }

    fn write_metadata(&self, metadata: &CacheMetadata) -> Result<(), CacheError> {
        let mut text = go_json::to_string(metadata).map_err(CacheError::Metadata)?;
        text.push('\n');
        let path = self.staging.join(CACHE_METADATA_LABEL);
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(CacheError::file(&path))
    }

    /// Puts `staging` where `committed` is.
    fn replace(&self) -> Result<(), CacheError> {
        let (committed, backup) = (self.cache.committed(), self.cache.backup());
        let failed = |errno: Errno| CacheError::File { path: committed.clone(), source: errno.into() };
        match rustix::fs::renameat_with(CWD, &self.staging, CWD, &committed, RenameFlags::EXCHANGE) {
            // The old cache is only removed when it cannot come back.
            Ok(()) => return self.sync().and_then(|()| remove_directory(&self.staging)),
            Err(Errno::NOENT) => {
                rustix::fs::rename(&self.staging, &committed).map_err(failed)?;
                return self.sync();
            }
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(failed(errno)),
        }
        remove_directory(&backup)?;
        rustix::fs::rename(&committed, &backup).map_err(failed)?;
        if let Err(errno) = rustix::fs::rename(&self.staging, &committed) {
            // Best effort: `open` does the same for the next build if this fails too.
            let _ = rustix::fs::rename(&backup, &committed);
            return Err(failed(errno));
        }
        self.sync()?;
        remove_directory(&backup)
    }

    fn sync(&self) -> Result<(), CacheError> {
        sync_directory(&self.cache.directory)
    }
}

impl TarUpdate for DirectoryUpdate<'_> {
    fn reuse_layer(&mut self, diff_id: DiffId, uncompressed_size: u64) -> Result<bool, CacheError> {
        let (old, new) = (self.cache.layer(diff_id), self.staged(diff_id));
        if !fs::metadata(&old).is_ok_and(|metadata| metadata.len() == uncompressed_size) {
            return Ok(false);
        }
        match fs::hard_link(&old, &new) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(true),
            Ok(()) => Ok(true),
            Err(_) => {
                // Some file systems have no hard links.
                fs::copy(&old, &new).map_err(CacheError::file(&new))?;
                Ok(true)
            }
        }
    }

    fn add_tar(&mut self, diff_id: DiffId, tar: &TarCopy) -> Result<bool, CacheError> {
        let path = self.staged(diff_id);
        tar.persist(&path).map_err(CacheError::file(&path))
    }

    fn add_layer(&mut self, source: &LayerSource) -> Result<Layer, CacheError> {
        let sink = BlobSink::new(&self.staging);
        let layer = layer::build(source, LayerFormat::Tar, ManifestFormat::Oci, &sink)?;
        let path = self.staged(layer.diff_id);
        fs::rename(&layer.path, &path).map_err(CacheError::file(&path))?;
        Ok(layer)
    }
}

impl CacheUpdate for DirectoryUpdate<'_> {
    fn put(&mut self, layer: &LayerDirectory<'_>) -> Result<Put, CacheError> {
        tar::put(self, layer)
    }

    fn commit(self: Box<Self>, metadata: &CacheMetadata) -> Result<(), CacheError> {
        self.write_metadata(metadata)?;
        sync_directory(&self.staging)?;
        self.replace()
    }
}

fn remove_directory(path: &Path) -> Result<(), CacheError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(CacheError::File { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use longshore_cnb::lifecycle_metadata::LayerSha;
    use longshore_image::layer::Entry;

    use super::*;

    fn source(text: &str) -> LayerSource {
        LayerSource::entries(vec![Entry::file("/layers/a/b", 0o644, text.to_owned())])
    }

    fn metadata(diff_id: DiffId) -> CacheMetadata {
        CacheMetadata { sbom: LayerSha { sha: diff_id.to_string() }, ..CacheMetadata::default() }
    }

    fn fill(cache: &DirectoryCache, text: &str) -> DiffId {
        let mut update = DirectoryUpdate::begin(cache).map(Box::new).unwrap();
        let diff_id = update.add_layer(&source(text)).unwrap().diff_id;
        update.commit(&metadata(diff_id)).unwrap();
        diff_id
    }

    #[test]
    fn layout_is_that_of_the_reference() {
        let root = tempfile::tempdir().unwrap();
        let cache = DirectoryCache::open(root.path()).unwrap();
        assert_eq!(cache.metadata().unwrap(), None);
        let diff_id = fill(&cache, "one");
        let tar = fs::read(root.path().join(format!("committed/sha256:{}.tar", diff_id.hex()))).unwrap();
        assert_eq!(DiffId::of(&tar), diff_id);
        let text =
            fs::read_to_string(root.path().join("committed/io.buildpacks.lifecycle.cache.metadata")).unwrap();
        assert_eq!(text, format!("{{\"sbom\":{{\"sha\":\"{diff_id}\"}},\"buildpacks\":null}}\n"));
        assert!(!root.path().join("staging").exists());
    }

    #[test]
    fn layers_are_reused_when_they_are_there_and_whole() {
        let root = tempfile::tempdir().unwrap();
        let cache = DirectoryCache::open(root.path()).unwrap();
        let diff_id = fill(&cache, "one");
        let size = fs::metadata(cache.layer(diff_id)).unwrap().len();
        let mut update = DirectoryUpdate::begin(&cache).map(Box::new).unwrap();
        assert!(!update.reuse_layer(DiffId::of(b"other"), size).unwrap());
        assert!(!update.reuse_layer(diff_id, size + 1).unwrap(), "a truncated layer must not be reused");
        assert!(update.reuse_layer(diff_id, size).unwrap());
        assert!(update.reuse_layer(diff_id, size).unwrap(), "twice is once");
        update.commit(&metadata(diff_id)).unwrap();
        assert!(cache.open_layer(diff_id).is_ok());
    }

    /// The reference removes its backup on start and so loses the cache when it died between its two renames.
    #[test]
    fn an_interrupted_update_keeps_the_old_cache() {
        let root = tempfile::tempdir().unwrap();
        let cache = DirectoryCache::open(root.path()).unwrap();
        let diff_id = fill(&cache, "one");
        let mut update = DirectoryUpdate::begin(&cache).map(Box::new).unwrap();
        update.add_layer(&source("two")).unwrap();
        drop(update);
        assert_eq!(cache.metadata().unwrap(), Some(metadata(diff_id)));
        fs::rename(cache.committed(), cache.backup()).unwrap();
        let reopened = DirectoryCache::open(root.path()).unwrap();
        assert_eq!(reopened.metadata().unwrap(), Some(metadata(diff_id)));
    }

    #[test]
    fn what_is_corrupt_or_missing_is_no_panic() {
        let root = tempfile::tempdir().unwrap();
        assert!(DirectoryCache::open(root.path().join("missing")).is_err());
        let cache = DirectoryCache::open(root.path()).unwrap();
        let diff_id = fill(&cache, "one");
        fs::write(cache.committed().join(CACHE_METADATA_LABEL), "{").unwrap();
        assert_eq!(cache.metadata().unwrap(), None);
        cache.discard_layer(diff_id).unwrap();
        cache.discard_layer(diff_id).unwrap();
        assert!(matches!(cache.open_layer(diff_id), Err(CacheError::Missing { .. })));
    }
}
