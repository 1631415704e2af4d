//! A line to a server that counts what passes, and can be as long as one across a continent.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use crate::proxy::Acceptor;

/// Pieces that are on their way: with 64 KiB each, what a window of TCP holds.
const ON_THEIR_WAY: usize = 64;

/// What has passed a line so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Connections that clients opened.
    pub connections: u64,
    /// Bytes from clients to the server.
    pub sent: u64,
    /// Bytes from the server to clients.
    pub received: u64,
}

impl std::ops::Sub for Passed {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            connections: self.connections - earlier.connections,
            sent: self.sent - earlier.sent,
            received: self.received - earlier.received,
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    connections: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    round_trip: AtomicU64,
}

/// A line to a port of the loopback.
#[derive(Debug)]
pub struct MeasuredLine {
    acceptor: Acceptor,
    shared: Arc<Shared>,
}

impl MeasuredLine {
    /// Starts a line to a port of the loopback that takes no time yet.
    ///
    /// # Panics
    /// When no port of the loopback can be had.
    #[must_use]
    pub fn start(port: u16) -> Self {
        let shared = Arc::new(Shared::default());
        let passed = Arc::clone(&shared);
        let acceptor = Acceptor::start(move |client| {
            passed.connections.fetch_add(1, Ordering::Relaxed);
            connect(client, TcpStream::connect((Ipv4Addr::LOCALHOST, port))?, &passed)
        });
        Self { acceptor, shared }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.acceptor.address().to_string()
    }

    /// The reference of `name`, such as `app:1`, in the registry at the other end.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// Lets connections that begin from now on take this long for there and back, and once more to be opened.
    pub fn set_round_trip(&self, time: Duration) {
        self.shared.round_trip.store(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What has passed so far.
    #[must_use]
    pub fn passed(&self) -> Passed {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { connections, sent, received, .. } = &*self.shared;
        Passed { connections: read(connections), sent: read(sent), received: read(received) }
    }
}

fn connect(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    let round_trip = Duration::from_micros(shared.round_trip.load(Ordering::Relaxed));
    // The loopback opened the connection at once; a long line would have needed a round trip for that.
    let opened = Instant::now() + round_trip;
    let way = |counter: fn(&Shared) -> &AtomicU64| Way {
        shared: Arc::clone(shared),
        counter,
        delay: round_trip / 2,
        opened,
    };
    let there = way(|shared| &shared.sent);
    let back = way(|shared| &shared.received);
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || there.carry(from_client, to_server));
    back.carry(server, client);
    let _ = up.join();
    Ok(())
}

/// One direction of a connection.
struct Way {
    shared: Arc<Shared>,
    counter: fn(&Shared) -> &AtomicU64,
    delay: Duration,
    opened: Instant,
}

impl Way {
    fn carry(&self, mut from: TcpStream, to: TcpStream) {
        let (sender, receiver) = mpsc::sync_channel(ON_THEIR_WAY);
        thread::scope(|scope| {
            scope.spawn(move || deliver(&receiver, to));
            self.collect(&mut from, &sender);
            drop(sender);
        });
    }

    fn collect(&self, from: &mut TcpStream, sender: &SyncSender<(Instant, Vec<u8>)>) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            (self.counter)(&self.shared).fetch_add(count as u64, Ordering::Relaxed);
            let due = Instant::now().max(self.opened) + self.delay;
            if sender.send((due, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
        drop(from.shutdown(Shutdown::Read));
    }
}

fn deliver(pieces: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (due, bytes) in pieces {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that answers five bytes with three, until its clients are gone.
    fn server() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut bytes = [0; 5];
                    while stream.read_exact(&mut bytes).is_ok() {
                        stream.write_all(b"yes").unwrap();
                    }
                });
            }
        });
        port
    }

    fn ask(stream: &mut TcpStream) {
        stream.write_all(b"well?").unwrap();
        stream.read_exact(&mut [0; 3]).unwrap();
    }

    #[test]
    fn everything_that_passes_is_counted_and_takes_its_time() {
        let line = MeasuredLine::start(server());
        let mut stream = TcpStream::connect(line.host()).unwrap();
        ask(&mut stream);
        ask(&mut stream);
        let before = line.passed();
        assert_eq!(before, Passed { connections: 1, sent: 10, received: 6 });

        let round_trip = Duration::from_millis(20);
        line.set_round_trip(round_trip);
        let start = Instant::now();
        let mut stream = TcpStream::connect(line.host()).unwrap();
        ask(&mut stream);
        ask(&mut stream);
        assert!(start.elapsed() >= round_trip * 3, "one to connect, and two questions");
        assert_eq!(line.passed() - before, Passed { connections: 1, sent: 10, received: 6 });
    }
}
