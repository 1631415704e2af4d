//! Reads files ahead of the tar, with a few threads: on a cold page cache waiting for the disk costs more than anything
//! else, and small files cost a round trip each.
//!
//! Each batch is gone through twice. The first time whatever is in the page cache is taken, and of whatever is not the kernel
//! only begins to read (`preadv2` with `RWF_NOWAIT`); the second time what has come is taken. So a thread waits for a batch
//! rather than for each file, and the disk always has many requests to choose from.

use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rustix::io::ReadWriteFlags;

use super::entry::{Content, Entry, EntryKind};
use super::error::LayerError;
use super::memory;
use super::open_file::{OpenFile, open};
use super::stat::Stat;

/// Files up to this size are read into memory; larger ones are opened, and read when their turn comes.
const SMALL: u64 = 256 << 10;
/// As much of a larger file the kernel begins to read when it is opened.
const BEGINNING: u64 = 2 << 20;
/// A batch is closed at this many entries, bytes or large files.
const BATCH_ENTRIES: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
const BATCH_FILES: usize = 4;

/// How many files stay open in this process until what they have has come from the disk. The others are waited for at once.
const MOST_AWAITED: usize = 256;
static AWAITED: AtomicUsize = AtomicUsize::new(0);

/// Entries that are loaded together.
#[derive(Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
    files: usize,
}

impl Batch {
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += small(&entry).map_or(0, room);
        self.files += usize::from(is_large(&entry));
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
        let mut memory = memory::batch(self.bytes);
        let mut used = 0;
        let begun = self.entries.into_iter().map(|entry| {
            let start = used;
            used += small(&entry).map_or(0, room);
            let read = begin(&entry, start, &mut memory)?;
            Ok((entry, read))
        });
        let begun: Vec<(Entry, Read)> = begun.collect::<Result<_, LayerError>>()?;
        let ended = begun.into_iter().map(|(entry, read)| Ok((read.end(&entry, &mut memory)?, entry)));
        let ended: Vec<(Ended, Entry)> = ended.collect::<Result<_, LayerError>>()?;
        let bytes = memory::shared(memory);
        let content = |ended| match ended {
            Ended::Small(range) => LoadedContent::Bytes(bytes.slice(range)),
            Ended::Other(content) => content,
        };
        Ok(ended.into_iter().map(|(ended, entry)| Loaded { entry, content: content(ended) }).collect())
    }
}

/// What the file system said about a file that is read into the memory of its batch.
fn small(entry: &Entry) -> Option<&Stat> {
    let EntryKind::File(Content::Host { .. }) = entry.kind else { return None };
    entry.stat.as_ref().filter(|stat| stat.size <= SMALL)
}

/// How much memory a small file gets. One byte more than it has: one that has grown is found out without another question.
const fn room(stat: &Stat) -> usize {
    stat.size as usize + 1
}

fn is_large(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::File(Content::Host { .. })) && small(entry).is_none()
}

/// What was done for an entry at first.
enum Read {
    Ended(Ended),
    /// A small file that the kernel reads, and the memory for it.
    Awaited(File, Range<usize>, Stat, Place),
}

/// What was read for an entry.
enum Ended {
    /// Its bytes, in the memory of the batch.
    Small(Range<usize>),
    Other(LoadedContent),
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
            LoadedContent::File(file) => file.size(),
        }
    }
}

/// Takes what is at hand; `start` is where the entry's memory begins.
fn begin(entry: &Entry, start: usize, memory: &mut [u8]) -> Result<Read, LayerError> {
    let other = |content| Ok(Read::Ended(Ended::Other(content)));
    let path = match &entry.kind {
        EntryKind::File(Content::Bytes(bytes)) => return other(LoadedContent::Bytes(bytes.clone())),
        EntryKind::File(Content::Host { path, .. }) => path,
        _ => return other(LoadedContent::None),
    };
    let file = open(entry.folder.as_ref(), path)?;
    let Some(stat) = small(entry) else { return other(whole(file, path)?) };
    let range = start..start + room(stat);
    if is_read(&file, stat, &mut memory[range.clone()], ReadWriteFlags::NOWAIT) {
        return Ok(Read::Ended(Ended::Small(start..range.end - 1)));
    }
    match Place::take() {
        Some(place) => Ok(Read::Awaited(file, range, *stat, place)),
        None => end(file, range, stat, path, memory).map(Read::Ended),
    }
}

impl Read {
    /// Waits for what is not at hand yet.
    fn end(self, entry: &Entry, memory: &mut [u8]) -> Result<Ended, LayerError> {
        match (self, &entry.kind) {
            (Self::Ended(ended), _) => Ok(ended),
            (Self::Awaited(file, range, stat, _place), EntryKind::File(Content::Host { path, .. })) => {
                end(file, range, &stat, path, memory)
            }
            (Self::Awaited(..), _) => Ok(Ended::Other(LoadedContent::None)),
        }
    }
}

fn end(
    file: File,
    range: Range<usize>,
    stat: &Stat,
    path: &Path,
    memory: &mut [u8],
) -> Result<Ended, LayerError> {
    if is_read(&file, stat, &mut memory[range.clone()], ReadWriteFlags::empty()) {
        return Ok(Ended::Small(range.start..range.end - 1));
    }
    // Somebody wrote to it since it was found: what it is now is as good.
    whole(file, path).map(Ended::Other)
}

/// Reads the file in one call of the kernel's; whether it is whole and still what it was when it was found.
fn is_read(file: &File, found: &Stat, memory: &mut [u8], flags: ReadWriteFlags) -> bool {
    let size = memory.len() - 1;
    let read = rustix::io::preadv2(file, &mut [IoSliceMut::new(memory)], 0, flags);
    read == Ok(size) && file.metadata().is_ok_and(|now| Stat::of(&now) == *found)
}

/// A file as it is now.
fn whole(file: File, path: &Path) -> Result<LoadedContent, LayerError> {
    let mut file = OpenFile::of(file, path)?;
    let size = file.size();
    if size > SMALL {
        file.advise(BEGINNING);
        return Ok(LoadedContent::File(file));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.read_to(&mut bytes, size)?;
    file.finish()?;
    Ok(LoadedContent::Bytes(bytes.into()))
}

/// One of the places for files that stay open.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let take = |awaited| (awaited < MOST_AWAITED).then_some(awaited + 1);
        AWAITED.try_update(Ordering::Relaxed, Ordering::Relaxed, take).ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        AWAITED.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::Advice;

    use super::super::entry::{Ownership, ParentOwnership};
    use super::super::walk;
    use super::*;

    /// The batch of all files in a directory, as they are now.
    fn found(directory: &Path) -> Batch {
        let mut batch = Batch::default();
        let ownership = Ownership { uid: 0, gid: 0, parents: ParentOwnership::OnDisk };
        walk::tree(directory, Path::new("/layer"), &ownership, &mut |entry| {
            batch.push(entry);
            Ok(())
        })
        .unwrap();
        batch
    }

    fn contents(loaded: Vec<Loaded>) -> Vec<(String, Vec<u8>)> {
        let files = loaded.into_iter().filter(|loaded| matches!(loaded.entry.kind, EntryKind::File(_)));
        files
            .map(|loaded| {
                let size = loaded.size();
                let mut bytes = Vec::new();
                match loaded.content {
                    LoadedContent::Bytes(content) => bytes.extend_from_slice(&content),
                    LoadedContent::File(mut file) => file.read_to(&mut bytes, size).unwrap(),
                    LoadedContent::None => panic!("{:?} has no content", loaded.entry.path),
                }
                (loaded.entry.path.file_name().unwrap().to_string_lossy().into_owned(), bytes)
            })
            .collect()
    }

    /// More files than may be awaited at once, none of them in the page cache where there is one to leave.
    #[test]
    fn what_the_disk_has_is_the_same_as_what_the_cache_has() {
        let directory = tempfile::tempdir().unwrap();
        let content = |index: usize| format!("{index} ").repeat(index % 7 * 1000).into_bytes();
        let name = |index: usize| format!("{index:04}");
        for index in 0..MOST_AWAITED + 50 {
            std::fs::write(directory.path().join(name(index)), content(index)).unwrap();
        }
        std::fs::write(directory.path().join("large"), vec![7; SMALL as usize + 1]).unwrap();
        rustix::fs::syncfs(File::open(directory.path()).unwrap()).unwrap();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let file = File::open(entry.unwrap().path()).unwrap();
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
        let expected: Vec<_> = (0..MOST_AWAITED + 50)
            .map(|index| (name(index), content(index)))
            .chain([("large".to_owned(), vec![7; SMALL as usize + 1])])
            .collect();
        for _ in 0..2 {
            assert!(contents(found(directory.path()).load().unwrap()) == expected);
        }
    }

    /// What changes between being found and being read is read as it is then, and does not spill into its neighbours.
    #[test]
    fn what_has_changed_is_read_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d", "e"] {
            std::fs::write(directory.path().join(name), "before").unwrap();
        }
        let batch = found(directory.path());
        let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
        let large = vec![1; SMALL as usize + 1];
        write("a", b"longer than before");
        write("b", b"");
        write("c", &large);
        write("d", b"beyond");
        let contents = contents(batch.load().unwrap());
        let contents: Vec<_> =
            contents.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let expected: [(&str, &[u8]); 5] =
            [("a", b"longer than before"), ("b", b""), ("c", &large), ("d", b"beyond"), ("e", b"before")];
        assert!(contents == expected);
    }
}
