//! Where blobs are written: a directory of files that are named by their digests, each of them complete or not there.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::error::LayerError;
use crate::Digest;

/// A directory that blobs are written into, under the 64 hexadecimal digits of their digests.
#[derive(Debug, Clone)]
pub struct BlobSink {
    directory: PathBuf,
    durable: bool,
}

impl BlobSink {
    /// A directory, which exists. Blobs are synced to the disk before they get their name.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), durable: true }
    }

    /// A directory that lives no longer than the process: blobs are not synced.
    #[must_use]
    pub fn scratch(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), durable: false }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of a blob, whether it exists or not.
    #[must_use]
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    pub(crate) fn begin(&self) -> Result<BlobWriter, LayerError> {
        let temporary = tempfile::Builder::new().prefix(".blob-").tempfile_in(&self.directory);
        let temporary = temporary.map_err(LayerError::write(&self.directory))?;
        Ok(BlobWriter { sink: self.clone(), temporary, hasher: Sha256::new(), size: 0 })
    }
}

/// A blob that is being written; dropped before its end, it leaves nothing.
pub(crate) struct BlobWriter {
    sink: BlobSink,
    temporary: NamedTempFile,
    hasher: Sha256,
    size: u64,
}

/// A blob that was written.
pub(crate) struct WrittenBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) path: PathBuf,
}

impl BlobWriter {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.temporary.as_file_mut().write_all(bytes).map_err(LayerError::write(self.temporary.path()))
    }

    pub(crate) fn finish(self) -> Result<WrittenBlob, LayerError> {
        let digest = Digest::from_hasher(self.hasher);
        let path = self.sink.path(digest);
        let written = WrittenBlob { digest, size: self.size, path };
        if fs::metadata(&written.path).is_ok_and(|known| known.len() == self.size) {
            return Ok(written);
        }
        let file = self.temporary.as_file();
        file.set_permissions(Permissions::from_mode(0o644)).map_err(LayerError::write(&written.path))?;
        if self.sink.durable {
            file.sync_all().map_err(LayerError::write(&written.path))?;
        }
        self.temporary
            .persist(&written.path)
            .map_err(|error| LayerError::Write { path: written.path.clone(), source: error.error })?;
        if self.sink.durable {
            let directory = File::open(&self.sink.directory).and_then(|directory| directory.sync_all());
            directory.map_err(LayerError::write(&self.sink.directory))?;
        }
        Ok(written)
    }
}
