//! The tar of a layer in a file of its own, written in the pass that makes the layer.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tempfile::NamedTempFile;

use crate::blob_file::{self, FileError};

/// The tar of a layer in a temporary file, which is removed with it unless it was given a name.
#[derive(Debug)]
pub struct TarCopy(Mutex<Option<NamedTempFile>>);

impl TarCopy {
    pub(super) fn new(file: NamedTempFile) -> Self {
        Self(Mutex::new(Some(file)))
    }

    /// Gives the tar a name on the same file system, in the place of what has it, once its bytes are on the disk. Whether
    /// it was still there: that can be done once.
    ///
    /// # Errors
    /// When it cannot be synced or renamed.
    pub fn persist(&self, path: &Path) -> io::Result<bool> {
        let Some(file) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(false);
        };
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(true)
    }
}

/// Removes the tars in a directory that processes left which were killed.
///
/// # Errors
/// When the directory cannot be read, or a file not removed.
pub fn remove_abandoned_tars(directory: &Path) -> io::Result<()> {
    blob_file::remove_abandoned(directory).map(drop).map_err(|FileError { source, .. }| source)
}
