//! Reads a tar entry by entry.

use std::io::{self, BufRead as _};

use super::ahead::Ahead;
use super::error::UnpackError;
use super::header::{BLOCK, Block, Entry, Raw, Records};
use super::policy::Limits;
use crate::DiffId;

/// The most that PAX records or a GNU long name may have, in bytes.
const RECORDS_LIMIT: u64 = 1 << 20;

/// A tar that is being read.
pub(crate) struct TarReader {
    inner: Ahead,
    limits: Limits,
    read: u64,
    entries: u64,
    /// What is left of the current entry's content, and the zeros after it.
    content: u64,
    padding: u64,
}

impl TarReader {
    pub(crate) fn new(inner: Ahead, limits: Limits) -> Self {
        Self { inner, limits, read: 0, entries: 0, content: 0, padding: 0 }
    }

    /// The next entry; `None` at the end, which has been read to the last byte then.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut records: Option<Records> = None;
        loop {
            self.skip_content()?;
            let mut block: Block = [0; BLOCK];
            if !self.block(&mut block)? || block == [0; BLOCK] {
                if records.is_some() {
                    return Err(UnpackError::Malformed("it ends after the PAX records of an entry"));
                }
                self.read_tail()?;
                return Ok(None);
            }
            let raw = Raw::new(&block)?;
            match raw.type_flag() {
                // Global records are comments of `git archive` and the like; the other tools do not apply them either.
                b'g' => {
                    self.special(&raw)?;
                }
                b'x' => {
                    let data = self.special(&raw)?;
                    records.get_or_insert_default().read(&data)?;
                }
                b'L' => {
                    let name = self.long_name(&raw)?;
                    records.get_or_insert_default().set_path(name);
                }
                b'K' => {
                    let name = self.long_name(&raw)?;
                    records.get_or_insert_default().set_link(name);
                }
                _ => return self.entry(&raw, records.unwrap_or_default()).map(Some),
            }
        }
    }

    fn entry(&mut self, raw: &Raw<'_>, records: Records) -> Result<Entry, UnpackError> {
        let mut entry = raw.entry()?;
        records.apply(&mut entry);
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UnpackError::TooLarge { what: "entries", limit: self.limits.entries });
        }
        self.begin(entry.size)?;
        Ok(entry)
    }

    fn special(&mut self, raw: &Raw<'_>) -> Result<Vec<u8>, UnpackError> {
        let size = raw.size()?;
        if size > RECORDS_LIMIT {
            return Err(UnpackError::Malformed("the PAX records or the name of an entry are over 1 MiB"));
        }
        self.begin(size)?;
        let mut data = Vec::with_capacity(size as usize);
        while !self.is_content_read() {
            self.content(|part| data.extend_from_slice(part))?;
        }
        Ok(data)
    }

    fn long_name(&mut self, raw: &Raw<'_>) -> Result<Vec<u8>, UnpackError> {
        let mut name = self.special(raw)?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn begin(&mut self, size: u64) -> Result<(), UnpackError> {
        if size > self.limits.bytes {
            return Err(self.too_many_bytes());
        }
        self.content = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        Ok(())
    }

    /// Lets `take` have some more content of the current entry.
    pub(crate) fn content<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> Result<T, UnpackError> {
        let left = self.content;
        let available = self.available()?;
        let count = left.min(available.len() as u64) as usize;
        if count == 0 {
            return Err(cut_off());
        }
        let taken = take(&available[..count]);
        self.content -= count as u64;
        self.consume(count)?;
        Ok(taken)
    }

    /// Whether all content of the current entry was read.
    pub(crate) const fn is_content_read(&self) -> bool {
        self.content == 0
    }

    fn skip_content(&mut self) -> Result<(), UnpackError> {
        let mut left = std::mem::take(&mut self.content) + std::mem::take(&mut self.padding);
        while left > 0 {
            let count = left.min(self.available()?.len() as u64);
            if count == 0 {
                return Err(cut_off());
            }
            self.consume(count as usize)?;
            left -= count;
        }
        Ok(())
    }

    /// A whole block, or nothing at the end of the stream.
    fn block(&mut self, block: &mut Block) -> Result<bool, UnpackError> {
        match self.fill(block)? {
            BLOCK => Ok(true),
            0 => Ok(false),
            _ => Err(cut_off()),
        }
    }

    /// After the first block of zeros there may only be zeros.
    fn read_tail(&mut self) -> Result<(), UnpackError> {
        loop {
            let available = self.available()?;
            if available.iter().any(|byte| *byte != 0) {
                return Err(UnpackError::Malformed("something follows its end"));
            }
            let count = available.len();
            if count == 0 {
                return Ok(());
            }
            self.consume(count)?;
        }
    }

    /// Fills `buffer`, less only at the end of the stream.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, UnpackError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let available = self.available()?;
            let count = available.len().min(buffer.len() - filled);
            if count == 0 {
                break;
            }
            buffer[filled..filled + count].copy_from_slice(&available[..count]);
            self.consume(count)?;
            filled += count;
        }
        Ok(filled)
    }

    /// What can be read without waiting; nothing at the end of the stream.
    fn available(&mut self) -> Result<&[u8], UnpackError> {
        self.inner.fill_buf().map_err(UnpackError::Read)
    }

    fn consume(&mut self, count: usize) -> Result<(), UnpackError> {
        self.inner.consume(count);
        self.read += count as u64;
        if self.read > self.limits.bytes { Err(self.too_many_bytes()) } else { Ok(()) }
    }

    fn too_many_bytes(&self) -> UnpackError {
        UnpackError::TooLarge { what: "bytes", limit: self.limits.bytes }
    }

    /// The digest of all that was read, how many bytes that were, and how many entries.
    pub(crate) fn finish(self) -> Result<(DiffId, u64, u64), UnpackError> {
        let ended = || UnpackError::Read(io::Error::other("the thread that hashes the layer failed"));
        Ok((self.inner.finish().ok_or_else(ended)?, self.read, self.entries))
    }
}

fn cut_off() -> UnpackError {
    UnpackError::Read(io::Error::new(io::ErrorKind::UnexpectedEof, "the tar is cut off"))
}
