//! Layers that are made, or were found in the previous image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_image::layer::{LayerDigest, TarCopy};
use longshore_image::{BlobOpener, BlobSource, Descriptor, DiffId, ImageStore, Reference};

use super::plan::Role;
use crate::cache::{KnownBlob, KnownLayer};

/// A layer of the app image above the run image.
pub(super) struct Made {
    pub(super) identifier: String,
    pub(super) created_by: String,
    pub(super) role: Role,
    pub(super) diff_id: DiffId,
    pub(super) descriptor: Descriptor,
    pub(super) blob: Blob,
    /// Whether it is known without having been read.
    pub(super) is_unread: bool,
    /// Its tar, when it was made and a cache wants that.
    pub(super) tar: Option<Arc<TarCopy>>,
    /// The directory it is from, and its size in bytes before compression.
    pub(super) origin: Option<(PathBuf, u64)>,
}

/// Where a layer's blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Blob {
    /// In a file.
    File(PathBuf),
    /// Where the previous image is.
    Previous,
}

impl Made {
    pub(super) fn is_reused(&self) -> bool {
        self.blob == Blob::Previous
    }
}

/// The layers of directories that were read for the app image. The cache uses them instead of reading again.
#[derive(Debug, Clone, Default)]
pub struct LayerDigests(BTreeMap<PathBuf, KnownLayer>);

impl LayerDigests {
    pub(super) fn of(made: &[Made], place: &Place<'_>) -> Self {
        let layers = made.iter().filter_map(|layer| {
            let (directory, uncompressed_size) = layer.origin.clone()?;
            let digest = LayerDigest { diff_id: layer.diff_id, uncompressed_size };
            Some((directory, KnownLayer { digest, blob: Some(place.blob(layer)), tar: layer.tar.clone() }))
        });
        Self(layers.collect())
    }

    pub(super) fn get(&self, directory: &Path) -> Option<&KnownLayer> {
        self.0.get(directory)
    }
}

/// Where the app image is.
pub(super) struct Place<'a> {
    pub(super) target: &'a Arc<dyn ImageStore>,
    pub(super) image: &'a Reference,
    pub(super) previous: Option<&'a Reference>,
    /// Whether that may be a repository that blobs can be mounted from.
    pub(super) mounts: bool,
}

impl Place<'_> {
    fn blob(&self, layer: &Made) -> KnownBlob {
        let source = match &layer.blob {
            Blob::File(path) => BlobSource::File(path.clone()),
            Blob::Previous => {
                let image = self.previous.unwrap_or(self.image).clone();
                let target = Arc::clone(self.target);
                BlobSource::Lazy(BlobOpener::of(target, image, layer.descriptor.clone()))
            }
        };
        let mount_from = self.mounts.then(|| self.image.clone());
        KnownBlob { descriptor: layer.descriptor.clone(), source, mount_from }
    }
}
