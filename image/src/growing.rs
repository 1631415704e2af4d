//! Blobs that are still being written, for those who want their bytes before the end.
//!
//! Whoever follows a blob reads its file behind the writer, which only tells how far it is: however slow a follower is, it
//! never holds up the writer, and what it has not read yet takes no memory.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::Digest;

/// Takes note of blobs while they are being written.
pub trait BlobFollower: Send + Sync {
    /// A new blob has reached a size from which on it pays to follow it. Must not block.
    fn follow(&self, blob: GrowingBlob);
}

/// How far the writer of a blob is. A writer that is gone before the end has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// So many bytes are in the file, and more may follow.
    Growing(u64),
    /// All are.
    Complete { digest: Digest, size: u64 },
}

impl Growth {
    fn size(self) -> u64 {
        match self {
            Self::Growing(size) | Self::Complete { size, .. } => size,
        }
    }
}

/// A blob that is being written into a file.
#[derive(Debug, Clone)]
pub struct GrowingBlob {
    /// The open file: it stays the same whatever name it gets, and also when it is removed.
    file: Arc<File>,
    growth: watch::Receiver<Growth>,
}

/// The writer's end of a growing blob.
#[derive(Debug)]
pub(crate) struct Grower(watch::Sender<Growth>);

/// The writer of a blob failed.
#[derive(Debug, thiserror::Error)]
#[error("the blob was not finished")]
pub(crate) struct Abandoned;

impl GrowingBlob {
    /// A blob of which `size` bytes are in the file.
    pub(crate) fn new(file: File, size: u64) -> (Grower, Self) {
        let (sender, growth) = watch::channel(Growth::Growing(size));
        (Grower(sender), Self { file: Arc::new(file), growth })
    }

    /// How many bytes are in the file by now.
    pub(crate) fn size(&self) -> u64 {
        self.growth.borrow().size()
    }

    /// Digest and size, when the blob is complete.
    pub(crate) fn complete(&self) -> Option<(Digest, u64)> {
        match *self.growth.borrow() {
            Growth::Complete { digest, size } => Some((digest, size)),
            Growth::Growing(_) => None,
        }
    }

    /// Whether the writer has gone before the end.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.complete().is_none() && self.growth.has_changed().is_err()
    }

    /// Digest and size, when the blob is complete, however long that takes.
    pub(crate) async fn completed(&self) -> Result<(Digest, u64), Abandoned> {
        let is_complete = |growth: &Growth| matches!(growth, Growth::Complete { .. });
        let mut growth = self.growth.clone();
        growth.wait_for(is_complete).await.map_err(|_writer_is_gone| Abandoned)?;
        self.complete().ok_or(Abandoned)
    }

    /// The next bytes from an offset on, at most `limit`, when there are any; empty at the end of the blob.
    pub(crate) async fn next(&self, offset: u64, limit: usize) -> io::Result<Bytes> {
        let has_news = |growth: &Growth| growth.size() > offset || matches!(growth, Growth::Complete { .. });
        let mut growth = self.growth.clone();
        let size =
            growth.wait_for(has_news).await.map_err(|_writer_is_gone| io::Error::other(Abandoned))?.size();
        let length = usize::try_from(size.saturating_sub(offset)).unwrap_or(limit).min(limit);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let file = Arc::clone(&self.file);
        // What was just written is in memory, but need not stay there.
        let read = tokio::task::spawn_blocking(move || read_at(&file, offset, length));
        read.await.map_err(io::Error::other)?
    }
}

fn read_at(file: &File, mut offset: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let before = bytes.len();
        let count = rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), offset)?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file of the blob became shorter"));
        }
        bytes.truncate(length);
        offset += (bytes.len() - before) as u64;
    }
    Ok(bytes.into())
}

impl Grower {
    /// So many bytes are in the file.
    pub(crate) fn grow(&self, size: u64) {
        // Nobody may follow any more, which is not the writer's concern.
        self.0.send_replace(Growth::Growing(size));
    }

    /// The blob is complete.
    pub(crate) fn complete(self, digest: Digest, size: u64) {
        self.0.send_replace(Growth::Complete { digest, size });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
    }

    async fn all(blob: GrowingBlob) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        loop {
            let bytes = blob.next(read.len() as u64, 7).await?;
            if bytes.is_empty() {
                return Ok(read);
            }
            read.extend_from_slice(&bytes);
        }
    }

    #[test]
    fn a_follower_reads_all_that_is_written_and_no_more() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"first ").unwrap();
        let (grower, blob) = GrowingBlob::new(file.reopen().unwrap(), 6);
        let runtime = runtime();
        let followers: Vec<_> = (0..3).map(|_| runtime.spawn(all(blob.clone()))).collect();
        for length in 0..50 {
            let text = vec![b'a' + length % 26; usize::from(length)];
            file.write_all(&text).unwrap();
            grower.grow(file.as_file().metadata().unwrap().len());
        }
        assert_eq!(blob.complete(), None);
        let bytes = std::fs::read(file.path()).unwrap();
        let digest = Digest::of(&bytes);
        drop(file);
        grower.complete(digest, bytes.len() as u64);
        for follower in followers {
            assert_eq!(runtime.block_on(follower).unwrap().unwrap(), bytes);
        }
        assert_eq!(runtime.block_on(blob.completed()).unwrap(), (digest, bytes.len() as u64));
    }

    #[test]
    fn a_writer_that_fails_ends_those_who_follow() {
        let (grower, blob) = GrowingBlob::new(tempfile::tempfile().unwrap(), 0);
        let runtime = runtime();
        let follower = runtime.spawn(all(blob.clone()));
        drop(grower);
        assert!(runtime.block_on(follower).unwrap().is_err());
        assert!(runtime.block_on(blob.completed()).is_err());
    }
}
