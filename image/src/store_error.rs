//! Why a store could not do what it was asked.

use std::error::Error;
use std::path::PathBuf;

use crate::config::InvalidConfig;
use crate::manifest::InvalidManifest;
use crate::{Digest, Platform, Reference};

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file of the store could not be read or written.
    #[error("cannot use `{path}`")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A directory or file that is no OCI image layout or image archive, or of a version that we do not know.
    #[error("`{path}` is not an OCI image layout or image archive that can be used: {reason}")]
    NotAStore {
        /// Which directory or file.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// There is no image of that name.
    #[error("there is no image `{reference}`")]
    NotFound {
        /// The name.
        reference: String,
    },
    /// A blob that an image points to is not there.
    #[error("blob {digest} of `{reference}` is not there")]
    NotFoundBlob {
        /// The image.
        reference: String,
        /// The blob.
        digest: Digest,
    },
    /// An index has no image for the platform.
    #[error("`{reference}` has no image for {platform}; it has {}", if available.is_empty() { "none" } else { available })]
    NoPlatform {
        /// The index.
        reference: String,
        /// The platform that was wanted.
        platform: Box<Platform>,
        /// The platforms that it has, joined by commas.
        available: String,
    },
    /// The bytes are not those that were asked for: damaged on the way, on the disk, or forged.
    #[error("blob {digest} of `{place}` is damaged: its bytes have the digest {actual}")]
    DigestMismatch {
        /// The image or file it was read from.
        place: String,
        /// The digest that was expected.
        digest: Digest,
        /// The digest of what was read.
        actual: Digest,
    },
    /// The bytes are more or fewer than the descriptor says.
    #[error("blob {digest} of `{place}` is damaged: it has {actual} bytes instead of {expected}")]
    SizeMismatch {
        /// The image or file it was read from.
        place: String,
        /// The blob.
        digest: Digest,
        /// The size in the descriptor, in bytes.
        expected: u64,
        /// The size that was found, in bytes.
        actual: u64,
    },
    /// The manifest of an image cannot be used.
    #[error("the manifest of `{reference}` cannot be used")]
    InvalidManifest {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: InvalidManifest,
    },
    /// The configuration of an image cannot be used.
    #[error("the configuration of `{reference}` cannot be used")]
    InvalidConfig {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: InvalidConfig,
    },
    /// It is something else than an image that can be run.
    #[error("`{reference}` is {what}, not an image")]
    NotAnImage {
        /// The name.
        reference: String,
        /// What it is.
        what: String,
    },
    /// What the image is made of contradicts itself (an index that contains itself, layers without a DiffID, ...).
    #[error("the image `{reference}` contradicts itself: {reason}")]
    Contradiction {
        /// The image.
        reference: String,
        /// What does not fit.
        reason: String,
    },
    /// A place that can only be read was to be written.
    #[error("`{place}` can only be read")]
    ReadOnly {
        /// The archive or file.
        place: String,
    },
    /// A registry or a daemon failed; the error says which and how.
    #[error(transparent)]
    Registry(Box<dyn Error + Send + Sync>),
}

impl StoreError {
    /// Adds the path to an I/O error, for `map_err`.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// There is no image of that name.
    #[must_use]
    pub fn not_found(reference: &Reference) -> Self {
        Self::NotFound { reference: reference.familiar() }
    }

    /// Whether a registry answered that it does not take manifests of that kind, so that another family's may work.
    #[must_use]
    pub fn is_rejected_manifest(&self) -> bool {
        match self {
            Self::Registry(error) => error
                .downcast_ref::<crate::registry::RegistryError>()
                .is_some_and(crate::registry::RegistryError::is_rejected_manifest),
            _ => false,
        }
    }

    /// Whether a registry did not take a manifest because it does not have what that points to.
    #[must_use]
    pub fn is_missing_blob(&self) -> bool {
        match self {
            Self::Registry(error) => error
                .downcast_ref::<crate::registry::RegistryError>()
                .is_some_and(crate::registry::RegistryError::is_missing_blob),
            _ => false,
        }
    }

    /// Whether the image or blob does not exist, as against cannot be read.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::NotFoundBlob { .. })
    }
}
