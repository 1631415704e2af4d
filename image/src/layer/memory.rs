//! The memory that all layers of the process share, however many are made side by side.
//!
//! A chunk is taken before it is filled, and given back when it is hashed and its compressed form is written. Whoever finds
//! none left waits. That ends, since what is out is being planned, filled from files, hashed, compressed or written; none of
//! these waits for memory. Used memory is used again: the kernel would have to clear new memory each time.

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

use memmap2::{Advice, MmapMut};

use super::compress;

/// The tar is cut here before it is compressed. Part of what decides a blob's digest: changing it changes all blobs.
pub(super) const CHUNK: usize = 4 << 20;
/// How many chunks there are beside two for each compressor: so many may wait for their turn to be filled or written.
const WAITING: usize = 8;

static CHUNKS: LazyLock<Chunks> = LazyLock::new(|| Chunks {
    state: Mutex::new(State { left: 2 * compress::threads() + WAITING, idle: Vec::new() }),
    returned: Condvar::new(),
});

struct Chunks {
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    /// How many may still be taken.
    left: usize,
    /// The memory of those that were given back.
    idle: Vec<Memory>,
}

/// Memory that chunks use one after the other.
enum Memory {
    /// Huge pages, where the kernel has them: it clears two instead of a thousand, and frees as many when the process ends.
    Mapped(MmapMut),
    /// Where none can be mapped.
    Heap(Vec<u8>),
}

impl Memory {
    fn of_a_chunk() -> Self {
        let Ok(pages) = MmapMut::map_anon(CHUNK) else { return Self::Heap(vec![0; CHUNK]) };
        // Only advice: kernels may be built without huge pages.
        let _ = pages.advise(Advice::HugePage);
        Self::Mapped(pages)
    }

    const fn none() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(pages) => pages,
            Self::Heap(bytes) => bytes,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(pages) => pages,
            Self::Heap(bytes) => bytes,
        }
    }
}

/// A piece of a tar, of at most [`CHUNK`] bytes, with room for as many.
pub(super) struct Chunk {
    /// [`CHUNK`] bytes, of which those after the first `used` are whatever was there before.
    memory: Memory,
    used: usize,
}

impl Chunk {
    /// An empty one. Waits until one is left.
    pub(super) fn take() -> Self {
        let none_left = |state: &mut State| state.left == 0;
        let state = CHUNKS.returned.wait_while(locked(&CHUNKS.state), none_left);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.left -= 1;
        Self { memory: state.idle.pop().unwrap_or_else(Memory::of_a_chunk), used: 0 }
    }

    pub(super) fn room(&self) -> usize {
        CHUNK - self.used
    }

    /// Adds as many of the bytes as there is room for; how many that are.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let place = self.extend(bytes.len());
        let added = place.len();
        self.memory[place].copy_from_slice(&bytes[..added]);
        added
    }

    /// Adds `size` bytes, or as many as there is room for, that are to be filled yet; where they are.
    pub(super) fn extend(&mut self, size: usize) -> Range<usize> {
        let start = self.used;
        self.used += size.min(self.room());
        start..self.used
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.used]
    }
}

impl DerefMut for Chunk {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.used]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, Memory::none());
        let mut state = locked(&CHUNKS.state);
        state.left += 1;
        state.idle.push(memory);
        drop(state);
        CHUNKS.returned.notify_one();
    }
}

/// How many layers are being made.
static LAYERS: AtomicUsize = AtomicUsize::new(0);

/// A layer's share of what there is for all of them. Layers that are made side by side read less far ahead each.
pub(super) struct Share {
    layers: usize,
}

impl Share {
    /// Of a layer that begins.
    pub(super) fn begin() -> Self {
        Self { layers: LAYERS.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// The layer's share of `all`, which is two at least.
    pub(super) fn of(&self, all: usize) -> usize {
        (all / self.layers).max(2)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        LAYERS.fetch_sub(1, Ordering::Relaxed);
    }
}

static IDLE_OUTPUTS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// What a chunk was compressed to. There are no more of them than chunks, which they are kept with.
pub(super) struct Output {
    memory: Vec<u8>,
    size: usize,
}

impl Output {
    /// What `fill` writes to the start of at most `bound` bytes; it returns how many these are.
    pub(super) fn fill(bound: usize, fill: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Self> {
        // The one that was used last, so that few of them are ever written to.
        let idle = locked(&IDLE_OUTPUTS).pop().filter(|memory| memory.len() >= bound);
        let mut output = Self { memory: idle.unwrap_or_else(|| vec![0; bound]), size: 0 };
        output.size = fill(&mut output.memory[..bound])?;
        Ok(output)
    }
}

impl Deref for Output {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.size]
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        locked(&IDLE_OUTPUTS).push(std::mem::take(&mut self.memory));
    }
}

/// Nothing is left half done under these locks, so a thread that panicked elsewhere spoils nothing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More threads than there are chunks, each with one half full: all come to their end, and nothing is lost.
    #[test]
    fn who_finds_no_chunk_waits_for_one() {
        std::thread::scope(|scope| {
            for byte in 0..64 {
                scope.spawn(move || {
                    for _ in 0..50 {
                        let mut chunk = Chunk::take();
                        assert!(chunk.is_empty() && chunk.room() == CHUNK);
                        assert_eq!(chunk.append(&[byte; 100]), 100);
                        std::thread::yield_now();
                        assert_eq!(*chunk, [byte; 100]);
                    }
                });
            }
        });
        let state = locked(&CHUNKS.state);
        assert!(state.idle.len() <= 2 * compress::threads() + WAITING);
    }

    #[test]
    fn a_chunk_takes_what_there_is_room_for() {
        let mut chunk = Chunk::take();
        assert_eq!(chunk.extend(CHUNK - 3), 0..CHUNK - 3);
        assert_eq!(chunk.append(b"abcd"), 3);
        assert_eq!((chunk.room(), &chunk[CHUNK - 3..]), (0, &b"abc"[..]));
        assert_eq!((chunk.append(b"d"), chunk.extend(1)), (0, CHUNK..CHUNK));
        chunk.clear();
        assert!(chunk.is_empty() && chunk.room() == CHUNK);
    }
}
