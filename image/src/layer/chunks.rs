//! A tar cut into chunks, which go to the hasher and to the compressors.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use super::compress;
use super::error::LayerError;
use super::load::Loaded;
use super::memory::{CHUNK, Chunk, Output};
use super::pipeline::{Slot, stopped};
use crate::LayerFormat;

type Result<T, E = LayerError> = std::result::Result<T, E>;

/// The tar as it is cut into chunks.
pub(super) struct Cutter {
    hash: Sender<Arc<Chunk>>,
    compress: Option<Compress>,
    /// The one that is being filled, once there is something to fill it with.
    chunk: Option<Chunk>,
    /// What follows what was handed on, once a chunk was loaded that has more or fewer bytes than were planned.
    rest: Vec<u8>,
}

/// How chunks are compressed, and where the places of the results go, in the order of the tar.
pub(super) struct Compress {
    pub(super) format: LayerFormat,
    pub(super) ordered: Sender<Slot<Compressed>>,
}

impl Cutter {
    pub(super) fn new(hash: Sender<Arc<Chunk>>, compress: Option<Compress>) -> Self {
        Self { hash, compress, chunk: None, rest: Vec::new() }
    }

    /// Hands on a chunk of which all is there. What does not fit where it was planned is cut anew: where a tar is cut
    /// depends on nothing but its bytes.
    pub(super) fn pass(&mut self, loaded: Loaded) -> Result<()> {
        let mut chunk = match loaded {
            Loaded::AsPlanned(chunk) if self.rest.is_empty() => return self.hand_on(chunk),
            Loaded::AsPlanned(chunk) => {
                self.rest.extend_from_slice(&chunk);
                chunk
            }
            Loaded::Otherwise { bytes, chunk } => {
                self.rest.extend(bytes);
                chunk
            }
        };
        if self.rest.len() < CHUNK {
            return Ok(());
        }
        chunk.clear();
        chunk.append(&self.rest);
        self.rest.drain(..CHUNK);
        self.hand_on(chunk)
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let taken = self.chunk.get_or_insert_with(Chunk::take).append(bytes);
            bytes = &bytes[taken..];
            self.flush_full()?;
        }
        Ok(())
    }

    /// Appends `size` bytes; `read` fills as many as it is given.
    pub(super) fn fill(
        &mut self,
        mut size: u64,
        mut read: impl FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        while size > 0 {
            let chunk = self.chunk.get_or_insert_with(Chunk::take);
            let place = chunk.extend(usize::try_from(size).unwrap_or(CHUNK));
            size -= place.len() as u64;
            read(&mut chunk[place])?;
            self.flush_full()?;
        }
        Ok(())
    }

    fn flush_full(&mut self) -> Result<()> {
        match self.chunk.take_if(|chunk| chunk.room() == 0) {
            Some(chunk) => self.hand_on(chunk),
            None => Ok(()),
        }
    }

    /// Hands on what there is.
    pub(super) fn finish(mut self) -> Result<()> {
        let rest = std::mem::take(&mut self.rest);
        self.append(&rest)?;
        self.chunk.take().map_or(Ok(()), |chunk| self.hand_on(chunk))
    }

    fn hand_on(&self, chunk: Chunk) -> Result<()> {
        let chunk = Arc::new(chunk);
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
