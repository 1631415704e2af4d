//! Decompresses and hashes on threads of their own, some pieces ahead of the unpacking. Nothing is copied on the way: both
//! readers of a piece look at the same memory, which is used again afterwards.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::thread;

use crate::Sha256;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::DiffId;

/// Small enough that two of them stay in a processor's own cache.
const PIECE: usize = 256 << 10;
/// How many there are; this bounds the memory.
const PIECES: usize = 16;

/// A part of the stream. Its memory goes back when both readers are done.
struct Piece {
    /// As long as all pieces; only the first `filled` bytes count.
    bytes: Vec<u8>,
    filled: usize,
    empty: Sender<Vec<u8>>,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // The thread that fills them may have ended.
        let _ = self.empty.send(std::mem::take(&mut self.bytes));
    }
}

/// What the threads have read, in order. After an error or the end there is nothing more.
pub(crate) struct Ahead {
    filled: Receiver<io::Result<Arc<Piece>>>,
    current: Option<Arc<Piece>>,
    position: usize,
    digest: Receiver<DiffId>,
}

/// Calls `consume` with a reader that gives the bytes of `reader`, which other threads read and hash meanwhile.
pub(crate) fn read_ahead<T>(reader: impl Read + Send, consume: impl FnOnce(Ahead) -> T) -> T {
    let (empty, empties) = unbounded();
    for _ in 0..PIECES {
        // The other end is in scope.
        let _ = empty.send(Vec::new());
    }
    let (filled_sender, filled) = unbounded();
    let (hashed_sender, hashed) = unbounded::<Arc<Piece>>();
    let (digest_sender, digest) = bounded(1);
    thread::scope(|scope| {
        scope.spawn(move || produce(reader, &filled_sender, &hashed_sender, &empties, &empty));
        scope.spawn(move || {
            let mut hasher = Sha256::new();
            hashed.iter().for_each(|piece| hasher.update(piece.bytes()));
            let _ = digest_sender.send(DiffId::from_hasher(hasher));
        });
        consume(Ahead { filled, current: None, position: 0, digest })
    })
}

fn produce(
    mut reader: impl Read,
    filled: &Sender<io::Result<Arc<Piece>>>,
    hashed: &Sender<Arc<Piece>>,
    empties: &Receiver<Vec<u8>>,
    empty: &Sender<Vec<u8>>,
) {
    while let Ok(mut bytes) = empties.recv() {
        bytes.resize(PIECE, 0);
        let read = fill(&mut reader, &mut bytes);
        let is_last = !matches!(read, Ok(PIECE));
        let piece = read.map(|filled| Arc::new(Piece { bytes, filled, empty: empty.clone() }));
        if let Ok(piece) = &piece {
            let _ = hashed.send(Arc::clone(piece));
        }
        // What was read of this piece before an error is dropped: the stream is of no use then.
        if filled.send(piece).is_err() || is_last {
            return;
        }
    }
}

/// Fills `buffer`, less only at the end of the stream.
fn fill(mut reader: impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Ahead {
    /// The digest of the whole stream, once it was read to its end.
    pub(crate) fn finish(self) -> Option<DiffId> {
        let Self { filled, current, digest, .. } = self;
        drop((filled, current));
        digest.recv().ok()
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.as_ref().is_none_or(|piece| self.position == piece.filled) {
            self.current = None;
            self.position = 0;
            if let Ok(next) = self.filled.recv() {
                self.current = Some(next?);
            }
        }
        Ok(self.current.as_ref().map_or(&[], |piece| &piece.bytes()[self.position..]))
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_errors_come_in_order() {
        let bytes: Vec<u8> = (0..3_500_000_u32).map(|index| index as u8).collect();
        let mut read = Vec::new();
        let digest = read_ahead(&*bytes, |mut ahead| {
            ahead.read_to_end(&mut read).unwrap();
            ahead.finish()
        });
        assert!(read == bytes);
        assert_eq!(digest, Some(DiffId::of(&bytes)));
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let result = read_ahead((&*bytes).chain(Failing), |mut ahead| ahead.read_to_end(&mut Vec::new()));
        assert_eq!(result.unwrap_err().to_string(), "broken");
        // Whoever stops early does not wait for the rest.
        read_ahead(io::repeat(7), |mut ahead| ahead.read_exact(&mut [0; 10])).unwrap();
    }
}
