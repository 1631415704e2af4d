//! Finds the files of an archive by reading only its headers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Part;
use crate::StoreError;
use crate::unpack::header::{BLOCK, Block, Kind, Raw, Records};
use crate::unpack::name::{Place, place};

/// The most entries that are read; each image has few.
const ENTRIES: usize = 100_000;
/// The most that PAX records or a long name may have, in bytes.
const RECORDS: u64 = 1 << 20;

/// Where the regular files are, by their names without `./`; links to files of the archive are followed.
pub(super) fn scan(file: &File, path: &Path) -> Result<BTreeMap<String, Part>, StoreError> {
    let unusable = |reason: &str| StoreError::NotAStore { path: path.to_owned(), reason: reason.to_owned() };
    let mut files = BTreeMap::new();
    let mut links = Vec::new();
    let mut records = Records::default();
    let mut offset = 0;
    for _ in 0..ENTRIES {
        let mut block: Block = [0; BLOCK];
        match file.read_exact_at(&mut block, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(unusable("it is cut off"));
            }
            other => other.map_err(StoreError::file(path))?,
        }
        if block == [0; BLOCK] {
            for (name, target) in links {
                if let Some(part) = files.get(&target).copied() {
                    files.insert(name, part);
                }
            }
            return Ok(files);
        }
        let raw = Raw::new(&block).map_err(|error| unusable(error.0))?;
        let content = offset + BLOCK as u64;
        let size = match raw.type_flag() {
            b'x' | b'g' | b'L' | b'K' => {
                let size = raw.size().map_err(|error| unusable(error.0))?;
                let mut data = vec![0; size.min(RECORDS) as usize];
                file.read_exact_at(&mut data, content).map_err(StoreError::file(path))?;
                let text = || data.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
                match raw.type_flag() {
                    b'x' => records.read(&data).map_err(|error| unusable(error.0))?,
                    b'L' => records.set_path(text()),
                    b'K' => records.set_link(text()),
                    _ => {}
                }
                size
            }
            _ => {
                let mut entry = raw.entry().map_err(|error| unusable(error.0))?;
                std::mem::take(&mut records).apply(&mut entry);
                let size = entry.size;
                if let Some(name) = text(&entry.path) {
                    match entry.kind {
                        Kind::File => {
                            files.insert(name, Part { offset: content, size });
                        }
                        Kind::HardLink => links.extend(text(&entry.link).map(|target| (name, target))),
                        Kind::Symlink => {
                            links.extend(beside(&name, &entry.link).map(|target| (name, target)))
                        }
                        _ => {}
                    }
                }
                size
            }
        };
        offset = size
            .checked_next_multiple_of(BLOCK as u64)
            .and_then(|padded| content.checked_add(padded))
            .ok_or_else(|| unusable("a size in it is too large"))?;
    }
    Err(unusable("it has too many entries"))
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
