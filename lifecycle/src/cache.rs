//! Caches: where cached layers are kept from one build to the next (buildpack.md "Cached Layers", platform.md "Caching").
//!
//! A cache is a directory of tars as the reference lifecycle has it, an image, or, for builds of one machine, a directory
//! of trees that are moved in and out. All hold layers under their DiffIDs and the same metadata. A cache is only ever
//! replaced as a whole, after everything in the new one is written: whoever is interrupted keeps the old one.

mod directory;
mod files;
mod image;
mod tar;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_cnb::lifecycle_metadata::CacheMetadata;
use longshore_image::layer::{LayerDigest, LayerError, LayerSource, Ownership, TarCopy};
use longshore_image::{BlobSource, Descriptor, DiffId, Reference, StatIndex, StoreError};

use crate::directory::{MappedDirectory, Owner};
use crate::restore::ExtractError;
pub use directory::DirectoryCache;
pub use image::ImageCache;
pub use tree::{CollectedCaches, LockedCache, PublishedBlobs, TreeCache, Trust, collect, published_blobs};

/// Why a cache could not be read or written. A build goes on without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// A file or directory of a cache directory could not be read or written.
    #[error("cannot use `{path}` of the cache")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The cache does not hold a layer that its metadata names.
    #[error("the cache `{cache}` does not hold the layer {diff_id}")]
    Missing {
        /// The cache.
        cache: String,
        /// The layer.
        diff_id: DiffId,
    },
    /// The cache image could not be read or written.
    #[error("cannot use the cache image `{reference}`")]
    Store {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// A layer of the cache is corrupt, or its place cannot be written.
    #[error(transparent)]
    Restore(#[from] ExtractError),
    /// A layer could not be written into the cache.
    #[error("cannot make a layer for the cache")]
    Layer(#[from] LayerError),
    /// The metadata could not be written.
    #[error("cannot write the metadata of the cache")]
    Metadata(#[source] serde_json::Error),
}

impl CacheError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// Whether a layer that the cache has is not what it should be.
    pub(crate) fn is_corrupt(&self) -> bool {
        matches!(self, Self::Restore(error) if error.is_corrupt())
    }
}

/// Layers of earlier builds.
pub trait Cache: Send + Sync {
    /// What it is called in messages.
    fn name(&self) -> String;

    /// What the cache says about its layers; `None` when there is no cache yet, or it is corrupt.
    ///
    /// # Errors
    /// When the cache is there and cannot be read.
    fn metadata(&self) -> Result<Option<CacheMetadata>, CacheError>;

    /// Puts the content of a layer in the place of what is at `directory`, whose parent exists. Somebody else's it is
    /// given to when `owner` says so.
    ///
    /// # Errors
    /// When the cache does not hold it or cannot be read, its content is not the DiffID's, or the place cannot be written.
    fn restore_layer(
        &self,
        diff_id: DiffId,
        directory: &MappedDirectory,
        owner: Option<Owner>,
    ) -> Result<(), CacheError>;

    /// The same for the SBOM files of cached layers, of which the cache keeps its own.
    ///
    /// # Errors
    /// As [`Cache::restore_layer`].
    fn restore_sbom(
        &self,
        diff_id: DiffId,
        directory: &MappedDirectory,
        owner: Option<Owner>,
    ) -> Result<(), CacheError> {
        self.restore_layer(diff_id, directory, owner)
    }

    /// Takes a layer whose content was found to be corrupt out of the cache, so that the next export writes it anew.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn discard_layer(&self, diff_id: DiffId) -> Result<(), CacheError>;

    /// Where the tars of layers are to be written while layers are made, so that the cache need not read those again.
    fn tars(&self) -> Option<&Path> {
        None
    }

    /// Begins a new cache, which replaces this one when it is committed and is forgotten when it is dropped.
    ///
    /// # Errors
    /// When it cannot be written to.
    fn begin(&self) -> Result<Box<dyn CacheUpdate + '_>, CacheError>;
}

/// A layer's directory that is put into a cache.
pub struct LayerDirectory<'a> {
    /// Where it is, and its name in the build environment.
    pub directory: &'a MappedDirectory,
    /// To whom its files belong in the layer.
    pub ownership: Ownership,
    /// What export found out about it, when it is in the app image too.
    pub known: Option<&'a KnownLayer>,
    /// Which layer it was in the old cache.
    pub previous: Option<DiffId>,
    /// What the layers were at the last build, and what it is called there.
    pub index: Option<(&'a StatIndex, &'a str)>,
}

impl LayerDirectory<'_> {
    fn source(&self) -> Result<LayerSource, LayerError> {
        LayerSource::directory(&self.directory.host, &self.directory.name, self.ownership)
    }
}

/// A layer whose content is known already.
#[derive(Debug, Clone)]
pub struct KnownLayer {
    pub(crate) digest: LayerDigest,
    /// Its blob, when it is in the app image too.
    pub(crate) blob: Option<KnownBlob>,
    /// Its tar, when it was made for the app image just now and the cache wants tars.
    pub(crate) tar: Option<Arc<TarCopy>>,
}

/// The blob of a layer of the app image, which is there.
#[derive(Debug, Clone)]
pub(crate) struct KnownBlob {
    pub(crate) descriptor: Descriptor,
    pub(crate) source: BlobSource,
    pub(crate) mount_from: Option<Reference>,
}

/// What became of a layer that was put into a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// Its DiffID.
    pub diff_id: DiffId,
    /// Whether the old cache did not have it.
    pub is_new: bool,
}

/// A cache in the making.
pub trait CacheUpdate {
    /// Puts a layer in. Its directory may be gone once the cache is committed.
    ///
    /// # Errors
    /// When it cannot be read or the cache cannot be written.
    fn put(&mut self, layer: &LayerDirectory<'_>) -> Result<Put, CacheError>;

    /// Replaces the old cache.
    ///
    /// # Errors
    /// When that fails; the old cache is then still there.
    fn commit(self: Box<Self>, metadata: &CacheMetadata) -> Result<(), CacheError>;
}
