//! Reads files ahead of the tar, with a few threads: on a cold page cache waiting for the disk costs more than anything
//! else, and small files cost a round trip each.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

use super::entry::{Content, Entry, EntryKind};
use super::error::LayerError;
use super::folder::{self, Folder};
use super::memory;
use super::stat::Stat;

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

    /// Reads the small files into one piece of memory.
    pub(super) fn load(self) -> Result<Vec<Loaded>, LayerError> {
        // One byte more: a file that has grown by one is found out without another question.
        let mut bytes = memory::batch(self.bytes as usize + 1);
        let read = self.entries.into_iter().map(|entry| {
            let read = match &entry.kind {
                EntryKind::File(Content::Bytes(bytes)) => Read::Done(LoadedContent::Bytes(bytes.clone())),
                EntryKind::File(Content::Host { path, .. }) => read(&entry, path, &mut bytes)?,
                _ => Read::Done(LoadedContent::None),
            };
            Ok((entry, read))
        });
        let read: Vec<(Entry, Read)> = read.collect::<Result<_, LayerError>>()?;
        let bytes = memory::shared(bytes);
        let content = |read| match read {
            Read::Small(range) => LoadedContent::Bytes(bytes.slice(range)),
            Read::Done(content) => content,
        };
        Ok(read.into_iter().map(|(entry, read)| Loaded { entry, content: content(read) }).collect())
    }
}

/// What was read for an entry.
enum Read {
    /// Its bytes, in the memory of the batch.
    Small(Range<usize>),
    Done(LoadedContent),
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
    pub(super) fn size(&self) -> u64 {
        match &self.content {
            LoadedContent::None => 0,
            LoadedContent::Bytes(bytes) => bytes.len() as u64,
            LoadedContent::File(file) => file.state.size,
        }
    }
}

fn read(entry: &Entry, path: &Path, bytes: &mut Vec<u8>) -> Result<Read, LayerError> {
    let start = bytes.len();
    let file = open(entry.folder.as_ref(), path)?;
    if entry.stat.is_some_and(|stat| stat.size <= SMALL && is_read(&file, &stat, bytes)) {
        return Ok(Read::Small(start..bytes.len()));
    }
    // Somebody wrote to it since it was found: what it is now is as good.
    bytes.truncate(start);
    let mut file = OpenFile::of(file, path)?;
    if file.state.size > SMALL {
        // Only advice: where it is refused, the file is read without it.
        let _ = rustix::fs::fadvise(&file.file, 0, None, rustix::fs::Advice::Sequential);
        return Ok(Read::Done(LoadedContent::File(file)));
    }
    file.read_to(bytes, file.state.size)?;
    file.finish()?;
    Ok(Read::Small(start..bytes.len()))
}

/// Reads the file in one call of the kernel's; whether it is whole and still what it was when it was found.
fn is_read(file: &File, found: &Stat, bytes: &mut Vec<u8>) -> bool {
    let size = found.size as usize;
    bytes.reserve(size + 1);
    let read = rustix::io::read(file, rustix::buffer::spare_capacity(bytes));
    read == Ok(size) && file.metadata().is_ok_and(|now| Stat::of(&now) == *found)
}

pub(super) fn open(folder: Option<&Folder>, path: &Path) -> Result<File, LayerError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let (at, name) = folder::place(folder, path);
    let file = rustix::fs::openat(at, name, flags, Mode::empty());
    file.map(File::from).map_err(|errno| LayerError::read(path)(errno.into()))
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
        Self::of(open(None, path)?, path)
    }

    fn of(file: File, path: &Path) -> Result<Self, LayerError> {
        let state = state(&file, path)?;
        Ok(Self { path: path.to_owned(), file, state })
    }

    pub(super) fn size(&self) -> u64 {
        self.state.size
    }

    /// Appends the next `size` bytes of the file, for which there is room already; a file that ends before has changed.
    pub(super) fn read_to(&mut self, bytes: &mut Vec<u8>, size: u64) -> Result<(), LayerError> {
        match (&self.file).take(size).read_to_end(bytes) {
            Ok(read) if read as u64 == size => Ok(()),
            Ok(_) => Err(LayerError::Changed { path: self.path.clone() }),
            Err(error) => Err(LayerError::Read { path: self.path.clone(), source: error }),
        }
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
        assert!(changed(shrunk.read_to(&mut Vec::new(), 6)));
        let grown = OpenFile::open(&path).unwrap();
        std::fs::write(&path, "before and after").unwrap();
        assert!(changed(grown.finish()));
        let same = OpenFile::open(&path).unwrap();
        assert!(same.finish().is_ok());
        assert!(OpenFile::open(directory.path()).is_err());
    }
}
