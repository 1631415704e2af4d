//! Layers that are made, or were found in the previous image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use longshore_image::layer::LayerDigest;
use longshore_image::{Descriptor, DiffId};

use super::plan::Role;

/// A layer of the app image above the run image.
pub(super) struct Made {
    pub(super) identifier: String,
    pub(super) created_by: String,
    pub(super) role: Role,
    pub(super) diff_id: DiffId,
    pub(super) descriptor: Descriptor,
    pub(super) blob: Blob,
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

/// The DiffIDs of directories that were read for the app image. The cache uses them instead of reading again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerDigests(BTreeMap<PathBuf, LayerDigest>);

impl LayerDigests {
    pub(super) fn of(made: &[Made]) -> Self {
        let digests = made.iter().filter_map(|layer| {
            let (directory, uncompressed_size) = layer.origin.clone()?;
            Some((directory, LayerDigest { diff_id: layer.diff_id, uncompressed_size }))
        });
        Self(digests.collect())
    }

    pub(super) fn get(&self, directory: &Path) -> Option<LayerDigest> {
        self.0.get(directory).copied()
    }
}
