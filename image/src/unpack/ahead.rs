//! Decompresses on a thread of its own, a few buffers ahead of the unpacking.

use std::io::{self, Read};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

const BUFFER: usize = 1 << 20;
const BUFFERS: usize = 4;

type Filled = io::Result<Vec<u8>>;

/// What the thread has read, in order. After an error or the end there is nothing more.
pub(super) struct Ahead {
    filled: Receiver<Filled>,
    current: Vec<u8>,
    position: usize,
    empty: Sender<Vec<u8>>,
}

/// Calls `consume` with a reader that gives the bytes of `reader`, which another thread reads meanwhile.
pub(super) fn read_ahead<T>(reader: impl Read + Send, consume: impl FnOnce(Ahead) -> T) -> T {
    let (filled_sender, filled) = bounded(BUFFERS);
    let (empty, empties) = bounded(BUFFERS);
    thread::scope(|scope| {
        scope.spawn(move || produce(reader, &filled_sender, &empties));
        consume(Ahead { filled, current: Vec::new(), position: 0, empty })
    })
}

fn produce(mut reader: impl Read, filled: &Sender<Filled>, empties: &Receiver<Vec<u8>>) {
    loop {
        let mut buffer = empties.try_recv().unwrap_or_default();
        buffer.clear();
        let read = reader.by_ref().take(BUFFER as u64).read_to_end(&mut buffer);
        let is_last = !matches!(read, Ok(count) if count > 0);
        // What was read of this buffer before an error is dropped: the stream is of no use then.
        if filled.send(read.map(|_| buffer)).is_err() || is_last {
            return;
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() {
            let Ok(next) = self.filled.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.current, next?);
            self.position = 0;
            // The thread may have ended, or have buffers enough.
            let _ = self.empty.try_send(used);
        }
        let rest = &self.current[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_errors_come_in_order() {
        let bytes: Vec<u8> = (0..3_500_000_u32).map(|index| index as u8).collect();
        let mut read = Vec::new();
        read_ahead(&*bytes, |mut ahead| ahead.read_to_end(&mut read)).unwrap();
        assert!(read == bytes);
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
