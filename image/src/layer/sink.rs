//! Where the blobs of new layers are written: files that are named by their digests, each complete or not there.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::LayerError;
use crate::Digest;
use crate::blob_file::{BlobFile, FileError};

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

    pub(super) fn begin(&self) -> Result<BlobFile, LayerError> {
        let begun = if self.durable { BlobFile::begin_durable } else { BlobFile::begin };
        Ok(begun(&self.directory)?)
    }

    /// Names a blob by its digest. One that is there already is kept, and counts as used just now.
    pub(super) fn finish(&self, blob: BlobFile) -> Result<WrittenBlob, LayerError> {
        let (digest, size) = (blob.digest(), blob.size());
        let path = self.path(digest);
        if fs::metadata(&path).is_ok_and(|known| known.len() == size) {
            touch(&path);
        } else {
            blob.finish(&digest.hex(), self.durable)?;
        }
        Ok(WrittenBlob { digest, size, path })
    }
}

/// A blob that was written.
pub(super) struct WrittenBlob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) path: PathBuf,
}

/// Marks a blob as used just now, so that a collection that runs at this moment keeps it.
pub(crate) fn touch(path: &Path) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    if let Err(error) = utimensat(CWD, path, &times, AtFlags::empty()) {
        // In a store that belongs to somebody else: collecting it is then theirs too.
        tracing::debug!("cannot mark `{}` as used: {error}", path.display());
    }
}

impl From<FileError> for LayerError {
    fn from(error: FileError) -> Self {
        Self::Write { path: error.path, source: error.source }
    }
}
