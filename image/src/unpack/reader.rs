//! Reads a tar entry by entry and hashes all of it.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::error::{Malformed, UnpackError};
use super::header::{BLOCK, Block, Entry, Raw, Records};
use super::policy::Limits;
use crate::DiffId;

/// The most that PAX records or a GNU long name may have, in bytes.
const RECORDS_LIMIT: u64 = 1 << 20;

/// A tar that is being read.
pub(crate) struct TarReader<R> {
    inner: R,
    hasher: Sha256,
    limits: Limits,
    read: u64,
    entries: u64,
    /// What is left of the current entry's content, and the zeros after it.
    content: u64,
    padding: u64,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R, limits: Limits) -> Self {
        Self { inner, hasher: Sha256::new(), limits, read: 0, entries: 0, content: 0, padding: 0 }
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
        let mut data = vec![0; size as usize];
        self.content(&mut data)?;
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

    /// Fills `buffer` with content of the current entry, which has at least as much left.
    pub(crate) fn content(&mut self, buffer: &mut [u8]) -> Result<(), UnpackError> {
        self.content = self
            .content
            .checked_sub(buffer.len() as u64)
            .ok_or(Malformed("an entry has less content than it states"))?;
        let filled = self.fill(buffer)?;
        if filled < buffer.len() { Err(cut_off()) } else { Ok(()) }
    }

    fn skip_content(&mut self) -> Result<(), UnpackError> {
        let mut buffer = [0; 8 * BLOCK];
        let mut left = std::mem::take(&mut self.content) + std::mem::take(&mut self.padding);
        while left > 0 {
            let part = left.min(buffer.len() as u64) as usize;
            if self.fill(&mut buffer[..part])? < part {
                return Err(cut_off());
            }
            left -= part as u64;
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
        let mut buffer = [0; 8 * BLOCK];
        loop {
            let filled = self.fill(&mut buffer)?;
            if buffer[..filled].iter().any(|byte| *byte != 0) {
                return Err(UnpackError::Malformed("something follows its end"));
            }
            if filled < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Fills `buffer`, less only at the end of the stream.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, UnpackError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.inner.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::Read(error)),
            }
        }
        self.hasher.update(&buffer[..filled]);
        self.read += filled as u64;
        if self.read > self.limits.bytes { Err(self.too_many_bytes()) } else { Ok(filled) }
    }

    fn too_many_bytes(&self) -> UnpackError {
        UnpackError::TooLarge { what: "bytes", limit: self.limits.bytes }
    }

    /// The digest of all that was read, how many bytes that were, and how many entries.
    pub(crate) fn finish(self) -> (DiffId, u64, u64) {
        (DiffId::from_hasher(self.hasher), self.read, self.entries)
    }
}

fn cut_off() -> UnpackError {
    UnpackError::Read(io::Error::new(io::ErrorKind::UnexpectedEof, "the tar is cut off"))
}
