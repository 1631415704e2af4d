//! A cache of directories, for builds whose work directories are on the file system of the cache. Nothing of a layer is
//! read or written to cache or restore it: its directory is renamed into the cache and out of it.
//!
//! ```text
//! <cache>/lock          held by a build from before restore to its end
//! <cache>/cache.json    the metadata, and a fingerprint of each directory (`document`)
//! <cache>/layers/<DiffID>-<fingerprint>/
//! <cache>/published.json  blobs in the local store (`published`)
//! ```
//!
//! A directory is trusted when the attributes of all its files are those of before, which no write leaves as they were
//! (see [`DirectoryFingerprint`]). Otherwise, and on request, its content is read and compared with the DiffID: after a start of the
//! machine, because what was not on the disk may be lost; and where inodes or times changed, because the cache was copied.
//!
//! While a build works on a layer, the cache does not have it. When the build ends without a new cache, directories that
//! it did not change go back, and the next build does that for one that was killed ([`LockedCache::take_back`]).
//!
//! Hard links would leave the cache its copy, but a buildpack that writes into a file would write into that too. Reflinks
//! would not, but cost a few calls for each file, which for a large layer is longer than restoring it may take.

mod collect;
mod document;
mod lock;
mod published;
#[cfg(test)]
mod tests;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_cnb::lifecycle_metadata::CacheMetadata;
use longshore_image::layer::{self, LayerSource, Ownership};
use longshore_image::{DiffId, DirectoryFingerprint};

use super::files::{give_tree, move_directory, move_directory_into, open_parent, remove_tree};
use super::{Cache, CacheError, CacheUpdate, tar};
use crate::directory::{MappedDirectory, Owner};
use crate::restore::{self, ExtractError};
pub use collect::{CollectedCaches, collect};
use document::{Document, Tree};
use lock::Lock;
pub use published::{PublishedBlobs, published_blobs};
use update::TreeUpdate;

/// Whether the attributes of a cached directory are enough to trust it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// They are, where the kernel vouches for them.
    Attributes,
    /// They are not: content is read.
    Content,
}

/// The cache of an app, which no other build uses meanwhile.
#[derive(Debug)]
pub struct LockedCache {
    directory: PathBuf,
    image: String,
    document: Mutex<Document>,
    _lock: Lock,
}

impl LockedCache {
    /// The cache in `directory`, which is made when it is not there. It is the cache of the app image `image`. Waits, and
    /// says so, while another build has it.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn wait(directory: impl Into<PathBuf>, image: &str) -> Result<Self, CacheError> {
        let directory = directory.into();
        let lock = Lock::take(&directory, image)?;
        // Files in it may belong to users of the sandbox and have set-id bits: nobody else comes in.
        fs::set_permissions(&directory, Permissions::from_mode(0o700))
            .map_err(CacheError::file(&directory))?;
        let mut document = Document::read(&directory)?;
        if document.image != image {
            if !document.image.is_empty() {
                tracing::warn!(
                    "ignoring the cache `{}`: it is that of `{}`, not of `{image}`",
                    directory.display(),
                    document.image
                );
            }
            document = Document::default();
        }
        let cache = Self { directory, image: image.to_owned(), document: Mutex::new(document), _lock: lock };
        Ok(cache)
    }

    /// The cache in `directory`, if there is one that nobody has locked.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open_unused(directory: impl Into<PathBuf>) -> Result<Option<Self>, CacheError> {
        let directory = directory.into();
        if !directory.is_dir() {
            return Ok(None);
        }
        let Some(lock) = Lock::try_take(&directory)? else { return Ok(None) };
        let document = Document::read(&directory)?;
        let image = document.image.clone();
        Ok(Some(Self { directory, image, document: Mutex::new(document), _lock: lock }))
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Forgets everything. Blobs in the local store are given up.
    ///
    /// # Errors
    /// When something cannot be removed, or what is to be removed cannot be noted.
    pub fn clear(&self) -> Result<(), CacheError> {
        let blobs = PublishedBlobs::read(&self.directory)?;
        if !blobs.used.is_empty() {
            blobs.given_up().write(&self.directory)?;
        }
        self.remove_layers()
    }

    fn remove_layers(&self) -> Result<(), CacheError> {
        Document::remove(&self.directory)?;
        *self.document() = Document::default();
        self.remove_rubbish()
    }

    /// Takes back what a build took and did not change, out of its layers directory. Without a new cache nobody else has
    /// it; after a commit there is nothing to take.
    pub fn take_back(&self, layers: &Path) {
        let document = self.document();
        for tree in &document.trees {
            let target = self.tree(tree);
            if target.exists() || !layers.join(&tree.path).exists() {
                continue;
            }
            match take_back(layers, tree, &target) {
                Ok(true) => tracing::debug!("took `{}` back into the cache", tree.path.display()),
                Ok(false) => tracing::info!(
                    "Forgetting the cached layer `{}`, which the build that did not finish has changed",
                    tree.path.display()
                ),
                Err(error) => tracing::warn!(
                    "the cached layer `{}` of a build that did not finish cannot be taken back: {error}",
                    tree.path.display()
                ),
            }
        }
    }

    /// Removes what the document does not name: what interrupted builds left.
    fn remove_rubbish(&self) -> Result<(), CacheError> {
        let used: BTreeSet<String> = self.document().trees.iter().map(Tree::name).collect();
        for (directory, is_used) in [
            (self.layers(), &(|name: &str| used.contains(name)) as &dyn Fn(&str) -> bool),
            (self.directory.clone(), &|name: &str| !name.starts_with(super::files::TEMPORARY)),
        ] {
            let children = match fs::read_dir(&directory) {
                Ok(children) => children,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(source) => return Err(CacheError::File { path: directory, source }),
            };
            for child in children {
                let child = child.map_err(CacheError::file(&directory))?;
                if child.file_name().to_str().is_some_and(is_used) {
                    continue;
                }
                remove_tree(&child.path())?;
            }
        }
        Ok(())
    }

    fn document(&self) -> MutexGuard<'_, Document> {
        self.document.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layers(&self) -> PathBuf {
        self.directory.join("layers")
    }

    fn tree(&self, tree: &Tree) -> PathBuf {
        self.layers().join(tree.name())
    }
}

/// Renames a tree back if it is what it was; tells whether it is.
fn take_back(layers: &Path, tree: &Tree, target: &Path) -> io::Result<bool> {
    let parent = open_parent(layers, &tree.path)?;
    let found = DirectoryFingerprint::of_directory(&layers.join(&tree.path))?;
    if found.digest != tree.fingerprint.digest {
        return Ok(false);
    }
    move_directory(&parent, &file_name(&tree.path), target)?;
    Ok(true)
}

fn file_name(path: &Path) -> PathBuf {
    path.file_name().map(PathBuf::from).unwrap_or_default()
}

/// The cache of an app for one build. When it is dropped, what was restored and not put in again goes back.
#[derive(Debug)]
pub struct TreeCache {
    cache: LockedCache,
    /// The layers directory of the build.
    layers: MappedDirectory,
    ownership: Ownership,
    trust: Trust,
    boot: Option<String>,
    restored: Mutex<BTreeMap<DiffId, Tree>>,
}

impl TreeCache {
    /// The cache for a build that has its layers directory at `layers`, on the same file system. `ownership` is that of
    /// layers.
    ///
    /// # Errors
    /// When what an interrupted build left cannot be removed.
    pub fn new(
        cache: LockedCache,
        layers: MappedDirectory,
        ownership: Ownership,
        trust: Trust,
    ) -> Result<Self, CacheError> {
        cache.remove_rubbish()?;
        let path = cache.layers();
        fs::create_dir_all(&path).map_err(CacheError::file(&path))?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let boot = boot.map(|id| id.trim().to_owned());
        Ok(Self { cache, layers, ownership, trust, boot, restored: Mutex::default() })
    }

    /// The directories that were restored. Their files belong to whom they belonged to when they were cached, or have
    /// been given to the owner that was asked for.
    #[must_use]
    pub fn restored(&self) -> BTreeSet<PathBuf> {
        self.restored_trees().values().map(|tree| self.layers.host.join(&tree.path)).collect()
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.cache.directory
    }

    /// The blobs that builds with this cache have put into the local store.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn published(&self) -> Result<PublishedBlobs, CacheError> {
        PublishedBlobs::read(&self.cache.directory)
    }

    /// Notes the blobs that builds with this cache have put into the local store.
    ///
    /// # Errors
    /// When the list cannot be written; it is then what it was.
    pub fn set_published(&self, blobs: &PublishedBlobs) -> Result<(), CacheError> {
        blobs.write(&self.cache.directory)
    }

    fn restored_trees(&self) -> MutexGuard<'_, BTreeMap<DiffId, Tree>> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, diff_id: DiffId) -> Result<Tree, CacheError> {
        let document = self.cache.document();
        let tree = document.trees.iter().find(|tree| tree.diff_id == diff_id);
        tree.cloned().ok_or_else(|| self.missing(diff_id))
    }

    fn missing(&self, diff_id: DiffId) -> CacheError {
        CacheError::Missing { cache: self.name(), diff_id }
    }

    /// Finds the directory of a layer and makes sure that it is that layer; what it is, as of now.
    fn checked(&self, diff_id: DiffId, name: &Path) -> Result<Tree, CacheError> {
        let mut tree = self.find(diff_id)?;
        let path = self.cache.tree(&tree);
        let found = match DirectoryFingerprint::of_directory(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.missing(diff_id)),
            Err(error) => return Err(ExtractError::Read(error).into()),
        };
        let recorded = std::mem::replace(&mut tree.fingerprint, found);
        let is_on_disk_or_in_memory = tree.boot.is_none() || tree.boot == self.boot;
        if self.trust == Trust::Attributes
            && recorded.settled
            && is_on_disk_or_in_memory
            && found.digest == recorded.digest
        {
            return Ok(tree);
        }
        tracing::debug!(
            "reading the cached layer `{}`, which cannot be told by its attributes",
            path.display()
        );
        let source = LayerSource::directory(&path, name, self.ownership)?;
        let read = layer::digest(&source).map_err(|error| ExtractError::Read(io::Error::other(error)))?;
        if read.diff_id != diff_id {
            return Err(ExtractError::Digest { found: read.diff_id }.into());
        }
        // What is read in another start of the machine than the one that wrote it is read from the disk.
        if !is_on_disk_or_in_memory {
            tree.boot = None;
        }
        Ok(tree)
    }
}

impl Cache for TreeCache {
    fn name(&self) -> String {
        self.cache.directory.display().to_string()
    }

    fn metadata(&self) -> Result<Option<CacheMetadata>, CacheError> {
        let document = self.cache.document();
        Ok((!document.image.is_empty()).then(|| document.metadata.clone()))
    }

    fn restore_layer(
        &self,
        diff_id: DiffId,
        directory: &MappedDirectory,
        owner: Option<Owner>,
    ) -> Result<(), CacheError> {
        let path = self.cache.tree(&self.find(diff_id)?);
        let tree = self.checked(diff_id, &directory.name)?;
        tar::remove(directory)?;
        let write = |source| ExtractError::Write { path: directory.host.clone(), source };
        let relative = directory
            .host
            .strip_prefix(&self.layers.host)
            .map_err(|error| write(io::Error::new(ErrorKind::InvalidInput, error)))?;
        let parent = open_parent(&self.layers.host, relative).map_err(write)?;
        move_directory_into(&path, &parent, &file_name(relative)).map_err(write)?;
        if let Some(owner) = owner.filter(|owner| tree.fingerprint.owner != Some((owner.uid, owner.gid))) {
            give_tree(&directory.host, owner).map_err(write)?;
        }
        self.restored_trees().insert(diff_id, tree);
        Ok(())
    }

    fn restore_sbom(
        &self,
        diff_id: DiffId,
        directory: &MappedDirectory,
        owner: Option<Owner>,
    ) -> Result<(), CacheError> {
        let path = self.cache.tree(&self.find(diff_id)?);
        self.checked(diff_id, &directory.name)?;
        tar::remove(directory)?;
        let copied = copy(&path, &directory.host, owner);
        copied.map_err(|source| ExtractError::Write { path: directory.host.clone(), source }.into())
    }

    fn discard_layer(&self, diff_id: DiffId) -> Result<(), CacheError> {
        remove_tree(&self.cache.tree(&self.find(diff_id)?))
    }

    fn begin(&self) -> Result<Box<dyn CacheUpdate + '_>, CacheError> {
        Ok(Box::new(TreeUpdate::new(self)))
    }
}

impl Drop for TreeCache {
    fn drop(&mut self) {
        self.cache.take_back(&self.layers.host);
        if let Err(error) = self.cache.remove_rubbish() {
            tracing::warn!("the cache is not tidied up: {}", restore::chain(&error));
        }
    }
}

/// Copies directories and regular files.
fn copy(from: &Path, to: &Path, owner: Option<Owner>) -> io::Result<()> {
    fs::create_dir(to)?;
    restore::give(to, owner)?;
    for child in fs::read_dir(from)? {
        let child = child?;
        let (kind, target) = (child.file_type()?, to.join(child.file_name()));
        if kind.is_dir() {
            copy(&child.path(), &target, owner)?;
        } else if kind.is_file() {
            fs::copy(child.path(), &target)?;
            restore::give(&target, owner)?;
        }
    }
    Ok(())
}
