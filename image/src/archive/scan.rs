//! Finds the files of an archive by reading only its headers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Part;
use crate::unpack::header::{BLOCK, Block, Entry, Kind, Raw, Records};
use crate::unpack::name::{Place, place};
use crate::{LayerFormat, StoreError, decompress};

/// The most entries that are read; each image has few.
const ENTRIES: usize = 100_000;
/// The most that PAX records or a long name may have, in bytes.
const RECORDS: u64 = 1 << 20;

/// Where the regular files are, by their names without `./`; links to files of the archive are followed.
pub(super) fn scan(file: &File, path: &Path) -> Result<BTreeMap<String, Part>, StoreError> {
    let mut scan =
        Scan { file, path, files: BTreeMap::new(), links: Vec::new(), records: Records::default() };
    let mut offset = 0;
    for _ in 0..ENTRIES {
        let mut block: Block = [0; BLOCK];
        scan.read(&mut block, offset)?;
        if block == [0; BLOCK] {
            return Ok(scan.finish());
        }
        if offset == 0 && decompress::format(&block) != LayerFormat::Tar {
            return Err(scan.unusable("it is compressed; decompress it first"));
        }
        let content = offset + BLOCK as u64;
        let size = scan.entry(&block, content)?;
        let next = size.checked_next_multiple_of(BLOCK as u64).and_then(|padded| content.checked_add(padded));
        offset = next.ok_or_else(|| scan.unusable("a size in it is too large"))?;
    }
    Err(scan.unusable("it has too many entries"))
}

struct Scan<'a> {
    file: &'a File,
    path: &'a Path,
    files: BTreeMap<String, Part>,
    links: Vec<(String, String)>,
    records: Records,
}

impl Scan<'_> {
    fn unusable(&self, reason: &str) -> StoreError {
        StoreError::NotAStore { path: self.path.to_owned(), reason: reason.to_owned() }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), StoreError> {
        match self.file.read_exact_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.unusable("it is cut off")),
            other => other.map_err(StoreError::file(self.path)),
        }
    }

    /// Notes an entry whose content is at `content`, and gives its size.
    fn entry(&mut self, block: &Block, content: u64) -> Result<u64, StoreError> {
        let raw = Raw::new(block).map_err(|error| self.unusable(error.0))?;
        match raw.type_flag() {
            b'x' | b'g' | b'L' | b'K' => self.special(&raw, content),
            _ => {
                let mut entry = raw.entry().map_err(|error| self.unusable(error.0))?;
                std::mem::take(&mut self.records).apply(&mut entry);
                self.note(&entry, content);
                Ok(entry.size)
            }
        }
    }

    fn special(&mut self, raw: &Raw<'_>, content: u64) -> Result<u64, StoreError> {
        let size = raw.size().map_err(|error| self.unusable(error.0))?;
        if size > RECORDS {
            return Err(self.unusable("the PAX records or the name of an entry are over 1 MiB"));
        }
        let mut data = vec![0; size as usize];
        self.read(&mut data, content)?;
        let text = || data.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        match raw.type_flag() {
            b'x' => self.records.read(&data).map_err(|error| self.unusable(error.0))?,
            b'L' => self.records.set_path(text()),
            b'K' => self.records.set_link(text()),
            _ => {}
        }
        Ok(size)
    }

    fn note(&mut self, entry: &Entry, content: u64) {
        let Some(name) = text(&entry.path) else { return };
        let target = match entry.kind {
            Kind::File => {
                self.files.insert(name, Part { offset: content, size: entry.size });
                return;
            }
            Kind::HardLink => text(&entry.link),
            Kind::Symlink => beside(&name, &entry.link),
            _ => None,
        };
        self.links.extend(target.map(|target| (name, target)));
    }

    fn finish(mut self) -> BTreeMap<String, Part> {
        for (name, target) in self.links {
            if let Some(part) = self.files.get(&target).copied() {
                self.files.insert(name, part);
            }
        }
        self.files
    }
}

fn text(name: &[u8]) -> Option<String> {
    match place(name, None) {
        Ok(Place::Inside(path)) => String::from_utf8(path).ok(),
        _ => None,
    }
}

/// The target of a link, as `docker save` writes them: `../OTHER/layer.tar` in a directory of the archive's top.
fn beside(name: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    match target.strip_prefix("../") {
        Some(target) if name.matches('/').count() == 1 => text(target.as_bytes()),
        _ => None,
    }
}
