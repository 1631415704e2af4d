//! The bytes of a blob on their way out: from memory, a file or another store, from any offset, any number of times.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _, try_unfold};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::mpsc;

use super::error::RegistryError;
use crate::{BlobSource, Descriptor};

/// How much is read at once.
const CHUNK: usize = 128 << 10;

/// A part of a blob's source.
#[derive(Debug, Clone)]
pub(super) struct BlobPayload {
    pub(super) source: BlobSource,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Whether nothing of the blob comes after it.
    is_last: bool,
}

impl BlobPayload {
    /// The whole blob, after a look at its size.
    pub(super) async fn whole(source: &BlobSource, blob: &Descriptor) -> Result<Self, RegistryError> {
        let found = match source {
            BlobSource::Bytes(bytes) => bytes.len() as u64,
            BlobSource::File(path) => {
                tokio::fs::metadata(path).await.map_err(|error| unreadable(path, error))?.len()
            }
            BlobSource::Lazy(_) => blob.size,
        };
        if found != blob.size {
            return Err(RegistryError::SourceSize { digest: blob.digest, expected: blob.size, found });
        }
        Ok(Self { source: source.clone(), offset: 0, length: blob.size, is_last: true })
    }

    /// A part of this part.
    pub(super) fn part(&self, offset: u64, length: u64) -> Self {
        let is_last = self.is_last && offset + length == self.length;
        Self { source: self.source.clone(), offset: self.offset + offset, length, is_last }
    }

    /// All of it at once.
    pub(super) async fn bytes(&self) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        if let BlobSource::Bytes(bytes) = &self.source {
            return Ok(bytes.clone());
        }
        let chunks: Vec<Bytes> = self.stream(Arc::default())?.try_collect().await?;
        Ok(chunks.concat().into())
    }

    /// The bytes, counted in `sent`.
    pub(super) fn stream(
        &self,
        sent: Arc<AtomicU64>,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, RegistryError> {
        let stream: BoxStream<'static, io::Result<Bytes>> = match &self.source {
            BlobSource::Bytes(bytes) => from_bytes(bytes, self.offset, self.length),
            BlobSource::File(path) => from_file(path, self.offset, self.length),
            BlobSource::Lazy(opener) => {
                let opener = opener.clone();
                let offset = self.offset;
                let open = move || opener.open_from(offset).map_err(io::Error::other);
                from_reader(open, self.length, self.is_last)
            }
        };
        Ok(stream.inspect(move |chunk| {
            let length = chunk.as_ref().map_or(0, Bytes::len);
            sent.fetch_add(length as u64, Ordering::Relaxed);
        }))
    }
}

fn unreadable(path: &Path, source: io::Error) -> RegistryError {
    RegistryError::Source { path: path.to_owned(), source }
}

fn from_bytes(bytes: &Bytes, offset: u64, length: u64) -> BoxStream<'static, io::Result<Bytes>> {
    let bytes = bytes.clone();
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let end = usize::try_from(offset + length).unwrap_or(usize::MAX).min(bytes.len());
    let starts = (start..end).step_by(CHUNK);
    let chunks = starts.map(move |at| Ok(bytes.slice(at..(at + CHUNK).min(end))));
    futures_util::stream::iter(chunks).boxed()
}

fn from_file(path: &Path, offset: u64, length: u64) -> BoxStream<'static, io::Result<Bytes>> {
    let path = path.to_owned();
    let state = (None::<tokio::fs::File>, length);
    try_unfold(state, move |(file, left)| {
        let path = path.clone();
        async move {
            if left == 0 {
                return Ok(None);
            }
            let mut file = match file {
                Some(file) => file,
                None => {
                    let mut file = tokio::fs::File::open(&path).await?;
                    file.seek(io::SeekFrom::Start(offset)).await?;
                    file.set_max_buf_size(CHUNK);
                    file
                }
            };
            let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
            (&mut file).take(left).read_buf(&mut chunk).await?;
            if chunk.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
            }
            let left = left - chunk.len() as u64;
            Ok(Some((chunk.freeze(), (Some(file), left))))
        }
    })
    .boxed()
}

/// Reads on a thread that may block, a few chunks ahead.
fn from_reader(
    open: impl FnOnce() -> io::Result<Box<dyn Read + Send>> + Send + 'static,
    length: u64,
    is_last: bool,
) -> BoxStream<'static, io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let send_all = || -> io::Result<()> {
            let mut reader = open()?;
            let mut left = length;
            while left > 0 {
                let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
                let count = reader.read(&mut chunk)?;
                if count == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob is too short"));
                }
                chunk.truncate(count);
                left -= count as u64;
                if sender.blocking_send(Ok(chunk.into())).is_err() {
                    // The request ended before its body did; it says why.
                    return Ok(());
                }
            }
            // The reader checks digest and size at its end.
            if is_last && reader.read(&mut [0])? != 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the blob is too long"));
            }
            Ok(())
        };
        if let Err(error) = send_all() {
            // As above: nobody listens any more.
            let _request_ended = sender.blocking_send(Err(error));
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    })
    .boxed()
}
