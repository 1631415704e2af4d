//! Caches: where cached layers are kept from one build to the next (buildpack.md "Cached Layers", platform.md "Caching").
//!
//! A cache is a directory or an image. Both hold layers as uncompressed tars under their DiffIDs and the same metadata.
//! A cache is only ever replaced as a whole, after everything in the new one is written: whoever is interrupted keeps the
//! old one.

mod directory;
mod image;

use std::io::Read;
use std::path::PathBuf;

use longshore_cnb::lifecycle_metadata::CacheMetadata;
use longshore_image::layer::{LayerError, LayerSource};
use longshore_image::{DiffId, StoreError};

pub use directory::DirectoryCache;
pub use image::ImageCache;

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

    /// The uncompressed tar of a layer. Its content is not verified.
    ///
    /// # Errors
    /// When the cache does not hold it or cannot be read.
    fn open_layer(&self, diff_id: DiffId) -> Result<Box<dyn Read + Send>, CacheError>;

    /// Takes a layer whose content was found to be corrupt out of the cache, so that the next export writes it anew.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn discard_layer(&self, diff_id: DiffId) -> Result<(), CacheError>;

    /// Begins a new cache, which replaces this one when it is committed and is forgotten when it is dropped.
    ///
    /// # Errors
    /// When it cannot be written to.
    fn begin(&self) -> Result<Box<dyn CacheUpdate + '_>, CacheError>;
}

/// A cache in the making.
pub trait CacheUpdate {
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

    /// Replaces the old cache.
    ///
    /// # Errors
    /// When that fails; the old cache is then still there.
    fn commit(self: Box<Self>, metadata: &CacheMetadata) -> Result<(), CacheError>;
}
