//! A tar cut into chunks, which go to the hasher and to the compressors.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use super::compress;
use super::error::LayerError;
use super::memory::{Chunk, Output};
use super::pipeline::{Slot, stopped};
use crate::LayerFormat;

type Result<T, E = LayerError> = std::result::Result<T, E>;

/// The tar as it is cut into chunks.
pub(super) struct Cutter {
    hash: Sender<Arc<Chunk>>,
    compress: Option<Compress>,
    /// The one that is being filled, once there is something to fill it with.
    chunk: Option<Chunk>,
}

/// How chunks are compressed, and where the places of the results go, in the order of the tar.
pub(super) struct Compress {
    pub(super) format: LayerFormat,
    pub(super) ordered: Sender<Slot<Compressed>>,
}

impl Cutter {
    pub(super) fn new(hash: Sender<Arc<Chunk>>, compress: Option<Compress>) -> Self {
        Self { hash, compress, chunk: None }
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let chunk = self.chunk.get_or_insert_with(Chunk::take);
            let taken = bytes.len().min(chunk.room());
            chunk.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.flush_full()?;
        }
        Ok(())
    }

    /// Appends `size` bytes; `read` appends as many as it is told straight to the chunk.
    pub(super) fn fill(
        &mut self,
        mut size: u64,
        mut read: impl FnMut(&mut Vec<u8>, u64) -> Result<()>,
    ) -> Result<()> {
        while size > 0 {
            let chunk = self.chunk.get_or_insert_with(Chunk::take);
            let taken = size.min(chunk.room() as u64);
            read(chunk, taken)?;
            size -= taken;
            self.flush_full()?;
        }
        Ok(())
    }

    fn flush_full(&mut self) -> Result<()> {
        if self.chunk.as_ref().is_some_and(|chunk| chunk.room() == 0) { self.flush() } else { Ok(()) }
    }

    /// Hands on what there is.
    pub(super) fn flush(&mut self) -> Result<()> {
        let Some(chunk) = self.chunk.take().map(Arc::new) else { return Ok(()) };
        self.hash.send(Arc::clone(&chunk)).map_err(stopped)?;
        match &self.compress {
            Some(compress) => compress.send(chunk),
            None => Ok(()),
        }
    }
}

impl Compress {
    fn send(&self, chunk: Arc<Chunk>) -> Result<()> {
        let (done, slot) = bounded(1);
        self.ordered.send(slot).map_err(stopped)?;
        let format = self.format;
        compress::spawn(move || {
            let made = compress::compress(format, &chunk).map_err(LayerError::Compress);
            // Nobody waits for it any more when another stage has failed.
            let _ = done.send(made.map(|bytes| Compressed { chunk, bytes }));
        })
    }
}

/// A chunk as it goes into the blob. It is kept until it is written: so many bytes more are in memory at most.
pub(super) struct Compressed {
    chunk: Arc<Chunk>,
    /// `None` where it is stored as it is.
    bytes: Option<Output>,
}

impl Compressed {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(&self.chunk)
    }
}
