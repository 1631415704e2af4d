//! Reads files into the chunks that they go into, ahead of the tar, with a few threads: on a cold page cache waiting for the
//! disk costs more than anything else, and small files cost a round trip each.
//!
//! The pieces of a chunk are read in groups, each of which is gone through twice. The first time whatever is in the page
//! cache is taken, and of whatever is not the kernel only begins to read (`preadv2` with `RWF_NOWAIT`); the second time what
//! has come is taken. So a thread waits for a group rather than for each file, and the disk always has many requests to
//! choose from.

use std::fs::File;
use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

use super::entry::{Content, EntryKind};
use super::error::LayerError;
use super::header;
use super::memory::Chunk;
use super::open_file::{OpenFile, open};
use super::plan::{Piece, Plan};
use super::stat::Stat;

/// Files up to this size are read as they are when another size was found: a log that is being written must not keep a
/// layer from being made.
const SMALL: u64 = 256 << 10;
/// How many pieces are waited for together.
const GROUP: usize = 64;

/// How many files stay open in this process until what they have has come from the disk. The others are waited for at once.
const MOST_AWAITED: usize = 256;
static AWAITED: AtomicUsize = AtomicUsize::new(0);

/// A chunk of a tar, of which all is there.
pub(super) enum Loaded {
    /// As it was planned.
    AsPlanned(Chunk),
    /// With other bytes, more or fewer, instead of those of the chunk: files have other sizes than they had.
    Otherwise { bytes: Vec<u8>, chunk: Chunk },
}

/// An entry that is not what it was when it was found, by its piece, and its bytes from the header on.
type Changed = (usize, Vec<u8>);

impl Plan {
    /// Reads the files.
    pub(super) fn load(self) -> Result<Loaded, LayerError> {
        let Self { mut chunk, pieces } = self;
        let mut changed: Vec<Changed> = Vec::new();
        let mut awaited = Vec::with_capacity(GROUP);
        for (group, pieces) in pieces.chunks(GROUP).enumerate() {
            for (index, piece) in pieces.iter().enumerate() {
                let reading = Reading::begin(piece)?;
                match reading.at_hand(piece, &mut chunk)? {
                    Step::Done => {}
                    Step::Changed(bytes) => changed.push((group * GROUP + index, bytes)),
                    Step::Awaited(reading, place) => awaited.push((index, reading, place)),
                }
            }
            for (index, reading, _place) in awaited.drain(..) {
                if let Some(bytes) = reading.rest(&pieces[index], &mut chunk)? {
                    changed.push((group * GROUP + index, bytes));
                }
            }
        }
        if changed.is_empty() {
            return Ok(Loaded::AsPlanned(chunk));
        }
        changed.sort_unstable();
        Ok(Loaded::Otherwise { bytes: spliced(&chunk, &pieces, changed), chunk })
    }
}

/// The chunk with other bytes for entries that have changed, in order.
fn spliced(chunk: &Chunk, pieces: &[Piece], changed: Vec<Changed>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(chunk.len());
    let mut end = 0;
    for (index, entry) in changed {
        if let Some(whole) = &pieces[index].whole {
            bytes.extend_from_slice(&chunk[end..whole.start]);
            bytes.extend(entry);
            end = whole.end;
        }
    }
    bytes.extend_from_slice(&chunk[end..]);
    bytes
}

/// A piece that is being read.
struct Reading {
    file: File,
    /// How many bytes of it are in the chunk.
    read: usize,
}

/// How far a piece came without waiting.
enum Step {
    Done,
    /// It is another file now, or another state of it: the bytes of its entry.
    Changed(Vec<u8>),
    Awaited(Reading, Place),
}

impl Reading {
    fn begin(piece: &Piece) -> Result<Self, LayerError> {
        Ok(Self { file: open(piece.entry.folder.as_ref(), path(piece))?, read: 0 })
    }

    /// Takes what is in the page cache.
    fn at_hand(mut self, piece: &Piece, chunk: &mut Chunk) -> Result<Step, LayerError> {
        if !piece.place.is_empty() {
            // Whatever fails here fails again when it is waited for.
            let _ = self.read(piece, chunk, |file, memory, offset| {
                rustix::io::preadv2(file, &mut [IoSliceMut::new(memory)], offset, ReadWriteFlags::NOWAIT)
            });
        }
        if self.read < piece.place.len()
            && let Some(place) = Place::take()
        {
            self.advise(piece);
            return Ok(Step::Awaited(self, place));
        }
        Ok(self.rest(piece, chunk)?.map_or(Step::Done, Step::Changed))
    }

    /// Lets the kernel read the rest of a large piece; of a small one it does so by itself.
    fn advise(&self, piece: &Piece) {
        let rest = (piece.place.len() - self.read) as u64;
        if rest > SMALL {
            // Only advice: where it is refused, the file is read without it.
            let _ = rustix::fs::fadvise(
                &self.file,
                piece.offset + self.read as u64,
                NonZeroU64::new(rest),
                Advice::WillNeed,
            );
        }
    }

    /// Waits for what is not there yet; the bytes of the entry when it has changed.
    fn rest(mut self, piece: &Piece, chunk: &mut Chunk) -> Result<Option<Vec<u8>>, LayerError> {
        while self.read < piece.place.len() {
            // Not every system has `preadv2`: emulators and sandboxes may leave it out.
            match self.read(piece, chunk, |file, memory, offset| rustix::io::pread(file, memory, offset)) {
                Ok(0) => return self.changed(piece),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    // One that is no file any more is told of as such.
                    OpenFile::of(self.file, path(piece))?;
                    return Err(LayerError::read(path(piece))(errno.into()));
                }
            }
        }
        let now = self.file.metadata().map_err(LayerError::read(path(piece)))?;
        if piece.entry.stat.is_some_and(|found| is_same(&found, &Stat::of(&now))) {
            return Ok(None);
        }
        self.changed(piece)
    }

    /// Reads once, as much as comes.
    fn read(
        &mut self,
        piece: &Piece,
        chunk: &mut Chunk,
        read: impl FnOnce(&File, &mut [u8], u64) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let memory = &mut chunk[piece.place.start + self.read..piece.place.end];
        let count = read(&self.file, memory, piece.offset + self.read as u64)?;
        self.read += count;
        Ok(count)
    }

    /// The entry as it is now: somebody wrote to its file since it was found, and what it is now is as good.
    fn changed(self, piece: &Piece) -> Result<Option<Vec<u8>>, LayerError> {
        let path = path(piece);
        let mut file = OpenFile::of(self.file, path)?;
        let size = file.size();
        if piece.whole.is_none() || size > SMALL {
            return Err(LayerError::Changed { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        header::write(&piece.entry, size, &mut bytes)?;
        let start = bytes.len();
        bytes.resize(start + size as usize, 0);
        file.read_to(&mut bytes[start..])?;
        file.finish()?;
        bytes.resize(bytes.len() + header::padding(size), 0);
        Ok(Some(bytes))
    }
}

/// Whether nobody wrote to a file. Another one in its place has another time; inodes say nothing on file systems of other
/// machines, which may number them anew.
fn is_same(found: &Stat, now: &Stat) -> bool {
    let state = |stat: &Stat| (stat.mode, stat.size, stat.modified, stat.changed);
    state(found) == state(now)
}

fn path(piece: &Piece) -> &Path {
    match &piece.entry.kind {
        EntryKind::File(Content::Host { path, .. }) => path,
        // No other entry has a piece.
        _ => &piece.entry.path,
    }
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
    use std::io::Read as _;

    use crossbeam_channel::unbounded;

    use super::super::chunks::Cutter;
    use super::super::entry::{Ownership, ParentOwnership};
    use super::super::memory::CHUNK;
    use super::super::plan::Planner;
    use super::super::walk;
    use super::*;

    /// The chunks of a directory's tar. `meanwhile` comes between finding the files and reading them.
    fn chunks(directory: &Path, meanwhile: impl FnOnce()) -> Result<Vec<Vec<u8>>, LayerError> {
        let mut plans = Vec::new();
        let mut send = |plan| {
            plans.push(plan);
            Ok(())
        };
        let mut planner = Planner::new(&mut send);
        let ownership = Ownership { uid: 0, gid: 0, parents: ParentOwnership::OnDisk };
        walk::tree(directory, Path::new("/layer"), &ownership, &mut |entry| planner.push(entry))?;
        planner.finish()?;
        meanwhile();
        let (sender, chunks) = unbounded();
        let mut cutter = Cutter::new(sender, None);
        for plan in plans {
            cutter.pass(plan.load()?)?;
        }
        cutter.finish()?;
        Ok(chunks.iter().map(|chunk| chunk.to_vec()).collect())
    }

    /// The files of a tar by their names.
    fn contents(chunks: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
        let tar = chunks.concat();
        let mut archive = tar::Archive::new(tar.as_slice());
        let files = archive.entries().unwrap().map(Result::unwrap);
        let files = files.filter(|entry| entry.header().entry_type().is_file());
        files
            .map(|mut entry| {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                let path = entry.path().unwrap().into_owned();
                (path.file_name().unwrap().to_string_lossy().into_owned(), bytes)
            })
            .collect()
    }

    /// Bytes that are others at each place.
    fn pattern(size: usize) -> Vec<u8> {
        (0_u32..).flat_map(u32::to_le_bytes).take(size).collect()
    }

    /// More files than may be awaited at once, and larger ones than a chunk, none of them in the page cache where there is
    /// one to leave.
    #[test]
    fn what_the_disk_has_is_the_same_as_what_the_cache_has() {
        let directory = tempfile::tempdir().unwrap();
        let name = |index: usize| format!("{index:04}");
        let content = |index: usize| match index % 150 {
            0 => pattern(CHUNK + index),
            _ => format!("{index} ").repeat(index % 7 * 1000).into_bytes(),
        };
        let expected: Vec<_> = (0..MOST_AWAITED + 50).map(|index| (name(index), content(index))).collect();
        for (name, content) in &expected {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        rustix::fs::syncfs(File::open(directory.path()).unwrap()).unwrap();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let file = File::open(entry.unwrap().path()).unwrap();
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
        for _ in 0..2 {
            assert!(contents(&chunks(directory.path(), || ()).unwrap()) == expected);
        }
    }

    /// What changes between being found and being read is read as it is then, and the tar is cut where it would have been.
    #[test]
    fn what_has_changed_is_read_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
        for name in ["a", "b", "c", "d", "e", "z"] {
            write(name, b"before");
        }
        write("large", &pattern(2 * CHUNK));
        let change = || {
            write("a", b"longer than before");
            write("b", b"");
            write("c", &vec![1; SMALL as usize]);
            write("d", b"beyond");
            write("z", &[2; 1000]);
        };
        let cut = chunks(directory.path(), change).unwrap();
        assert!(cut.len() == 3 && cut[..2].iter().all(|chunk| chunk.len() == CHUNK));
        assert!(cut == chunks(directory.path(), || ()).unwrap());
        let found = contents(&cut);
        assert_eq!(found[0], ("a".to_owned(), b"longer than before".to_vec()));
        assert_eq!(found[4], ("e".to_owned(), b"before".to_vec()));
    }

    /// Of one that is large now, or not all in one chunk, what was read before may be of another state.
    #[test]
    fn what_cannot_be_read_as_it_is_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
        let changed = |meanwhile: &dyn Fn()| match chunks(directory.path(), meanwhile) {
            Err(LayerError::Changed { path }) => path == directory.path().join("a"),
            _ => false,
        };
        write("a", b"before");
        assert!(changed(&|| write("a", &vec![1; SMALL as usize + 1])), "larger");
        write("a", &pattern(CHUNK));
        assert!(changed(&|| write("a", &pattern(CHUNK + 1))), "not in one chunk");
        assert!(
            changed(&|| std::fs::remove_file(directory.path().join("a"))
                .and_then(|()| std::fs::create_dir(directory.path().join("a")))
                .unwrap()),
            "a directory"
        );
    }
}
