//! Where everything goes in a layer's tar, before any file is read: sizes are known from the walk. So files are read straight
//! into the chunks that are hashed and compressed, several chunks at a time, and no byte of them is copied.

use std::ops::Range;

use super::entry::{Content, Entry, EntryKind};
use super::error::LayerError;
use super::header;
use super::memory::Chunk;

/// A chunk of the tar in which all is there but the content of files.
pub(super) struct Plan {
    pub(super) chunk: Chunk,
    /// In the order of the tar.
    pub(super) pieces: Vec<Piece>,
}

/// Content of a file that goes into a chunk.
pub(super) struct Piece {
    /// The file.
    pub(super) entry: Entry,
    /// From where on it is read.
    pub(super) offset: u64,
    /// Where its bytes go.
    pub(super) place: Range<usize>,
    /// Where the entry is from its header to its padding, if all of it is in this chunk.
    pub(super) whole: Option<Range<usize>>,
}

/// Lays out a tar.
pub(super) struct Planner<'a> {
    send: &'a mut dyn FnMut(Plan) -> Result<(), LayerError>,
    /// The one that is being planned, once there is something for it.
    plan: Option<Plan>,
    /// Memory for headers.
    head: Vec<u8>,
}

impl<'a> Planner<'a> {
    /// Gives each chunk to `send`.
    pub(super) fn new(send: &'a mut dyn FnMut(Plan) -> Result<(), LayerError>) -> Self {
        Self { send, plan: None, head: Vec::new() }
    }

    /// The next entry.
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), LayerError> {
        let size = size(&entry);
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        header::write(&entry, size, &mut head)?;
        match &entry.kind {
            EntryKind::File(Content::Host { .. }) => self.push_file(entry, size, &head)?,
            EntryKind::File(Content::Bytes(bytes)) => {
                self.append(&head)?;
                self.append(bytes)?;
                self.append(padding(size))?;
            }
            _ => self.append(&head)?,
        }
        self.head = head;
        Ok(())
    }

    /// The end of the tar.
    pub(super) fn finish(mut self) -> Result<(), LayerError> {
        self.append(&[0; 2 * header::BLOCK])?;
        self.plan.take().map_or(Ok(()), |plan| (self.send)(plan))
    }

    fn push_file(&mut self, entry: Entry, size: u64, head: &[u8]) -> Result<(), LayerError> {
        let Plan { chunk, pieces } = self.plan();
        let length = size.saturating_add((head.len() + padding(size).len()) as u64);
        if length <= chunk.room() as u64 {
            let start = chunk.len();
            chunk.append(head);
            let place = chunk.extend(size as usize);
            chunk.append(padding(size));
            let whole = Some(start..chunk.len());
            pieces.push(Piece { entry, offset: 0, place, whole });
            return self.send_full();
        }
        self.append(head)?;
        let mut offset = 0;
        while offset < size {
            let Plan { chunk, pieces } = self.plan();
            let place = chunk.extend(usize::try_from(size - offset).unwrap_or(usize::MAX));
            let end = offset + place.len() as u64;
            pieces.push(Piece { entry: entry.clone(), offset, place, whole: None });
            offset = end;
            self.send_full()?;
        }
        self.append(padding(size))
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), LayerError> {
        while !bytes.is_empty() {
            let added = self.plan().chunk.append(bytes);
            bytes = &bytes[added..];
            self.send_full()?;
        }
        Ok(())
    }

    /// One with room.
    fn plan(&mut self) -> &mut Plan {
        self.plan.get_or_insert_with(|| Plan { chunk: Chunk::take(), pieces: Vec::new() })
    }

    fn send_full(&mut self) -> Result<(), LayerError> {
        match self.plan.take_if(|plan| plan.chunk.room() == 0) {
            Some(plan) => (self.send)(plan),
            None => Ok(()),
        }
    }
}

fn size(entry: &Entry) -> u64 {
    match (&entry.kind, &entry.stat) {
        (EntryKind::File(Content::Bytes(bytes)), _) => bytes.len() as u64,
        (EntryKind::File(Content::Host { .. }), Some(stat)) => stat.size,
        _ => 0,
    }
}

fn padding(size: u64) -> &'static [u8] {
    &[0; header::BLOCK][..header::padding(size)]
}
