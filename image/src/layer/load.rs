//! Reads files ahead of the tar, with a few threads: on a cold page cache waiting for the disk costs more than anything
//! else, and small files cost a round trip each.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::entry::{Content, Entry, EntryKind};
use super::error::LayerError;

/// Files up to this size are read into memory; larger ones are opened, and read when their turn comes.
const SMALL: u64 = 256 << 10;
/// A batch is closed at this many entries, bytes or large files.
const BATCH_ENTRIES: usize = 256;
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_FILES: usize = 4;

/// Entries that are loaded together.
#[derive(Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    bytes: u64,
    files: usize,
}

impl Batch {
    pub(super) fn push(&mut self, entry: Entry) {
        if let EntryKind::File(Content::Host { size, .. }) = &entry.kind {
            self.bytes += (*size).min(SMALL);
            self.files += usize::from(*size > SMALL);
        }
        self.entries.push(entry);
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES || self.files >= BATCH_FILES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn load(self) -> Result<Vec<Loaded>, LayerError> {
        self.entries.into_iter().map(Loaded::new).collect()
    }
}

/// An entry with its content at hand.
pub(super) struct Loaded {
    pub(super) entry: Entry,
    pub(super) content: LoadedContent,
}

pub(super) enum LoadedContent {
    None,
    Bytes(Bytes),
    File(OpenFile),
}

impl Loaded {
    fn new(entry: Entry) -> Result<Self, LayerError> {
        let content = match &entry.kind {
            EntryKind::File(Content::Bytes(bytes)) => LoadedContent::Bytes(bytes.clone()),
            EntryKind::File(Content::Host { path, .. }) => load(path)?,
            _ => LoadedContent::None,
        };
        Ok(Self { entry, content })
    }

    pub(super) fn size(&self) -> u64 {
        match &self.content {
            LoadedContent::None => 0,
            LoadedContent::Bytes(bytes) => bytes.len() as u64,
            LoadedContent::File(file) => file.state.size,
        }
    }
}

fn load(path: &Path) -> Result<LoadedContent, LayerError> {
    let mut file = OpenFile::open(path)?;
    if file.state.size > SMALL {
        // Only advice: where it is refused, the file is read without it.
        let _ = rustix::fs::fadvise(&file.file, 0, None, rustix::fs::Advice::Sequential);
        return Ok(LoadedContent::File(file));
    }
    let mut bytes = vec![0; file.state.size as usize];
    file.read_exact(&mut bytes)?;
    file.finish()?;
    Ok(LoadedContent::Bytes(bytes.into()))
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// An open file and its state when it was opened.
pub(super) struct OpenFile {
    path: PathBuf,
    file: File,
    state: State,
}

impl OpenFile {
    pub(super) fn open(path: &Path) -> Result<Self, LayerError> {
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
        let open = File::options().read(true).custom_flags(flags as i32).open(path);
        let file = open.map_err(LayerError::read(path))?;
        let state = state(&file, path)?;
        Ok(Self { path: path.to_owned(), file, state })
    }

    pub(super) fn size(&self) -> u64 {
        self.state.size
    }

    /// Fills `bytes`; a file that ends before has changed.
    pub(super) fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), LayerError> {
        self.file.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => LayerError::Changed { path: self.path.clone() },
            _ => LayerError::Read { path: self.path.clone(), source: error },
        })
    }

    /// Checks that the file was not written to since it was opened.
    pub(super) fn finish(&self) -> Result<(), LayerError> {
        if state(&self.file, &self.path)? == self.state {
            return Ok(());
        }
        Err(LayerError::Changed { path: self.path.clone() })
    }
}

fn state(file: &File, path: &Path) -> Result<State, LayerError> {
    let metadata = file.metadata().map_err(LayerError::read(path))?;
    if !metadata.is_file() {
        return Err(LayerError::Changed { path: path.to_owned() });
    }
    Ok(State {
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that shrinks, grows or is written in place while it is read must not end up half old and half new.
    #[test]
    fn a_file_that_changes_is_found_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let changed = |result| matches!(result, Err(LayerError::Changed { .. }));
        std::fs::write(&path, "before").unwrap();
        let mut shrunk = OpenFile::open(&path).unwrap();
        std::fs::write(&path, "b").unwrap();
        assert!(changed(shrunk.read_exact(&mut [0; 6])));
        let grown = OpenFile::open(&path).unwrap();
        std::fs::write(&path, "before and after").unwrap();
        assert!(changed(grown.finish()));
        let same = OpenFile::open(&path).unwrap();
        assert!(same.finish().is_ok());
        assert!(OpenFile::open(directory.path()).is_err());
    }
}
