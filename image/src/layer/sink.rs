//! Where the blobs of new layers are written: files that are named by their digests, each complete or not there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs};

use super::error::LayerError;
use crate::Digest;
use crate::blob_file::{BlobFile, FileError};
use crate::growing::{BlobFollower, Grower, GrowingBlob};

/// From how many bytes on a blob is followed while it is written. What is smaller is one chunk of tar, or hardly more, and
/// done before anything could be made of it.
const FOLLOWED: u64 = 1 << 20;

/// A directory that blobs are written into, under the 64 hexadecimal digits of their digests.
#[derive(Clone)]
pub struct BlobSink {
    directory: PathBuf,
    durable: bool,
    follower: Option<Arc<dyn BlobFollower>>,
    /// Locked by whoever removes blobs from the directory.
    lock: Option<PathBuf>,
}

impl BlobSink {
    /// A directory, which exists. Blobs are synced to the disk before they get their name.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), durable: true, follower: None, lock: None }
    }

    /// A directory that lives no longer than the process: blobs are not synced.
    #[must_use]
    pub fn scratch(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), durable: false, follower: None, lock: None }
    }

    /// The same directory; whoever removes blobs from it locks this file meanwhile.
    #[must_use]
    pub(crate) fn locked_by(self, lock: PathBuf) -> Self {
        Self { lock: Some(lock), ..self }
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

    /// The same directory; whoever is given here learns of the larger blobs while they are being written.
    #[must_use]
    pub fn followed_by(self, follower: Option<Arc<dyn BlobFollower>>) -> Self {
        Self { follower, ..self }
    }

    /// The file of a blob that was written before, which then counts as used just now.
    #[must_use]
    pub fn kept(&self, digest: Digest, size: u64) -> Option<PathBuf> {
        // A collection that found the file to be an old one has removed it by now; one that comes later finds it used.
        let _lock = self.lock.as_deref().and_then(lock_shared);
        let path = self.path(digest);
        let is_whole = fs::metadata(&path).is_ok_and(|known| known.is_file() && known.len() == size);
        is_whole.then(|| {
            touch(&path);
            path
        })
    }

    pub(super) fn begin(&self) -> Result<NewBlob, LayerError> {
        let begun = if self.durable { BlobFile::begin_durable } else { BlobFile::begin };
        Ok(NewBlob { file: begun(&self.directory)?, follower: self.follower.clone(), grower: None })
    }

    /// Names a blob by its digest. One that is there already is kept, and counts as used just now.
    pub(super) fn finish(&self, blob: NewBlob) -> Result<WrittenBlob, LayerError> {
        let NewBlob { file, grower, .. } = blob;
        let (digest, size) = (file.digest(), file.size());
        let path = self.path(digest);
        // Who follows the blob need not wait for the disk; what cannot be named here fails, whatever became of it there.
        if let Some(grower) = grower {
            grower.complete(digest, size);
        }
        if self.kept(digest, size).is_none() {
            file.finish(&digest.hex(), self.durable)?;
        }
        Ok(WrittenBlob { digest, size, path })
    }
}

impl fmt::Debug for BlobSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("BlobSink").field(&self.directory).finish()
    }
}

/// A blob that is being written; dropped before its end, it leaves nothing.
pub(super) struct NewBlob {
    file: BlobFile,
    /// Who is to be told of it, until it was.
    follower: Option<Arc<dyn BlobFollower>>,
    grower: Option<Grower>,
}

impl NewBlob {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.file.write(bytes)?;
        let size = self.file.size();
        if let Some(grower) = &self.grower {
            grower.grow(size);
        } else if let Some(follower) = self.follower.take_if(|_| size >= FOLLOWED) {
            let (grower, blob) = GrowingBlob::new(self.file.handle()?, size);
            self.grower = Some(grower);
            follower.follow(blob);
        }
        Ok(())
    }
}

/// A blob that was written.
pub(super) struct WrittenBlob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) path: PathBuf,
}

/// Waits until nobody removes blobs, and lets nobody begin. `None` where nothing can be locked, or written.
fn lock_shared(path: &Path) -> Option<File> {
    let lock = || {
        let file = File::options().create(true).append(true).open(path)?;
        file.lock_shared()?;
        Ok::<_, std::io::Error>(file)
    };
    lock().inspect_err(|error| tracing::debug!("cannot lock `{}`: {error}", path.display())).ok()
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
