//! `cache.json`: what a cache of trees holds. It is replaced at once, after everything that it names is in place; what it
//! does not name is rubbish.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use longshore_cnb::lifecycle_metadata::CacheMetadata;
use longshore_image::{DiffId, DirectoryFingerprint};
use serde::{Deserialize, Serialize};

use super::super::CacheError;
use super::super::files::replace_file;

const NAME: &str = "cache.json";

/// What a cache holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Document {
    /// The app image whose cache it is; no other app's build is given anything of it.
    pub(super) image: String,
    /// The layers of each buildpack.
    pub(super) metadata: CacheMetadata,
    /// Their directories.
    pub(super) trees: Vec<Tree>,
}

/// The directory of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Tree {
    /// The DiffID of its content.
    pub(super) diff_id: DiffId,
    /// Its place in the layers directory of a build.
    pub(super) path: PathBuf,
    /// What its files are.
    pub(super) fingerprint: DirectoryFingerprint,
    /// Since which start of the machine the content may be in memory only; `None` when it is on the disk.
    #[serde(default)]
    pub(super) boot: Option<String>,
}

impl Tree {
    /// Its name in the cache. Trees that differ have different names, so that a new one never takes the place of an old
    /// one that is still needed.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.diff_id.hex(), &self.fingerprint.digest.hex()[..16])
    }
}

impl Document {
    /// Reads the document; an empty one when there is none, or it cannot be used.
    pub(super) fn read(directory: &Path) -> Result<Self, CacheError> {
        let path = directory.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(CacheError::File { path, source }),
        };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!("ignoring the cache: `{}` is corrupt: {error}", path.display());
            Self::default()
        }))
    }

    /// Writes the document in the place of the old one, lastingly.
    pub(super) fn write(&self, directory: &Path) -> Result<(), CacheError> {
        let text = serde_json::to_vec(self).map_err(CacheError::Metadata)?;
        replace_file(directory, NAME, &text)
    }

    /// Removes the document, so that the cache holds nothing.
    pub(super) fn remove(directory: &Path) -> Result<(), CacheError> {
        let path = directory.join(NAME);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(CacheError::File { path, source }),
            _ => Ok(()),
        }
    }
}
