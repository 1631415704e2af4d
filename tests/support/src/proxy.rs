//! What stands between a client and a server: an HTTP proxy, and a line that is cut.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Accepts connections until it is dropped, and handles each on a thread of its own.
#[derive(Debug)]
pub(crate) struct Acceptor {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
}

impl Acceptor {
    pub(crate) fn start(handle: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of the loopback");
        let address = listener.local_addr().expect("the port");
        let ends = Arc::new(AtomicBool::new(false));
        let (handle, ended) = (Arc::new(handle), Arc::clone(&ends));
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let handle = Arc::clone(&handle);
                // A client or server that goes away is what these proxies are for.
                thread::spawn(move || drop(handle(client)));
            }
        });
        Self { address, ends }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Wakes the thread up. When that fails, it ends with the process.
        drop(TcpStream::connect(self.address));
    }
}

/// A proxy for `http_proxy` and `https_proxy`. Whatever host is named, it connects to the same port of the loopback:
/// names that only the proxy knows show that it was used.
#[derive(Debug)]
pub struct HttpProxy {
    acceptor: Acceptor,
    requests: Arc<Mutex<Vec<String>>>,
}

impl HttpProxy {
    /// Starts a proxy for everybody, or for one user and password.
    ///
    /// # Panics
    /// When no port of the loopback can be had.
    #[must_use]
    pub fn start(credentials: Option<(&str, &str)>) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let expected = credentials
            .map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        let acceptor = Acceptor::start(move |client| pass_on(client, expected.as_deref(), &log));
        Self { acceptor, requests }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.acceptor.address.to_string()
    }

    /// The first lines of all requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One connection: `CONNECT HOST:PORT`, or a request with the whole URL.
fn pass_on(mut client: TcpStream, expected: Option<&str>, log: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (line, fields) = head.split_once("\r\n").unwrap_or_default();
    log.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
    let given = fields.lines().find_map(|field| {
        let (name, value) = field.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization").then_some(value)
    });
    if expected.is_some() && given != expected {
        return client.write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\n\
              Content-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let rest = target.strip_prefix("http://").unwrap_or(target);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(80);
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        // One request for each connection: this proxy does not know where a body ends.
        server.write_all(format!("{method} /{path} HTTP/1.1\r\nConnection: close\r\n{fields}").as_bytes())?;
    }
    join(client, server, usize::MAX).map(drop)
}

/// Copies both ways until both ends are done, or `limit` bytes have passed one way; whether it was the limit.
fn join(client: TcpStream, server: TcpStream, limit: usize) -> io::Result<bool> {
    let ends = [client.try_clone()?, server.try_clone()?];
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || copy(from_client, to_server, limit));
    let down = copy(server, client, limit);
    let cut = |ends: &[TcpStream; 2]| ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
    if down {
        cut(&ends);
    }
    let up = up.join().unwrap_or_default();
    cut(&ends);
    Ok(up || down)
}

/// Copies one way; whether the limit was reached, which cuts both ends at once.
fn copy(mut from: TcpStream, mut to: TcpStream, limit: usize) -> bool {
    let mut buffer = vec![0; 64 << 10];
    let mut passed = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let allowed = count.min(limit - passed);
        if to.write_all(&buffer[..allowed]).is_err() {
            break;
        }
        passed += allowed;
        if passed == limit {
            // What was written may still leave; nothing more comes from either side.
            drop(from.shutdown(Shutdown::Both));
            drop(to.shutdown(Shutdown::Both));
            return true;
        }
    }
    drop(to.shutdown(Shutdown::Write));
    false
}

/// A line to a server that is cut when some bytes have passed in one direction, some times.
#[derive(Debug)]
pub struct CutLine {
    acceptor: Acceptor,
    left: Arc<AtomicUsize>,
}

impl CutLine {
    /// Starts a line to a port of the loopback whose first `times` connections that carry `after` bytes are cut there.
    ///
    /// # Panics
    /// When no port of the loopback can be had.
    #[must_use]
    pub fn start(port: u16, after: usize, times: usize) -> Self {
        let left = Arc::new(AtomicUsize::new(times));
        let shared = Arc::clone(&left);
        let acceptor = Acceptor::start(move |client| {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            let limit = if shared.load(Ordering::Relaxed) > 0 { after } else { usize::MAX };
            if join(client, server, limit)? {
                // Two connections at once may both be cut: not below none.
                let fewer = |left: usize| left.checked_sub(1);
                let _none_left = shared.try_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
            }
            Ok(())
        });
        Self { acceptor, left }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.acceptor.address.to_string()
    }

    /// How many more connections will be cut.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Cuts `times` more connections.
    pub fn cut(&self, times: usize) {
        self.left.store(times, Ordering::Relaxed);
    }
}

/// A line to a server that counts what goes over it.
#[derive(Debug)]
pub struct CountingLine {
    acceptor: Acceptor,
    connections: Arc<AtomicUsize>,
    round_trips: Arc<AtomicUsize>,
}

/// What went over a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that were made.
    pub connections: usize,
    /// How often the client spoke after the server had, or first: the answers that it waited for.
    pub round_trips: usize,
}

impl CountingLine {
    /// Starts a line to a port of the loopback.
    ///
    /// # Panics
    /// When no port of the loopback can be had.
    #[must_use]
    pub fn start(port: u16) -> Self {
        let (connections, round_trips) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&connections), Arc::clone(&round_trips));
        let acceptor = Acceptor::start(move |client| {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            counts.0.fetch_add(1, Ordering::Relaxed);
            count(client, server, Arc::clone(&counts.1))
        });
        Self { acceptor, connections, round_trips }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.acceptor.address.to_string()
    }

    /// What goes over the line while `act` runs.
    pub fn during(&self, act: impl FnOnce()) -> Traffic {
        let now = || Traffic {
            connections: self.connections.load(Ordering::Relaxed),
            round_trips: self.round_trips.load(Ordering::Relaxed),
        };
        let before = now();
        act();
        let after = now();
        Traffic {
            connections: after.connections - before.connections,
            round_trips: after.round_trips - before.round_trips,
        }
    }
}

/// Copies both ways until both ends are done.
fn count(client: TcpStream, server: TcpStream, round_trips: Arc<AtomicUsize>) -> io::Result<()> {
    let waits = Arc::new(AtomicBool::new(false));
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let asked = Arc::clone(&waits);
    let up = thread::spawn(move || {
        watch(from_client, to_server, || {
            if !asked.swap(true, Ordering::SeqCst) {
                round_trips.fetch_add(1, Ordering::SeqCst);
            }
        });
    });
    // Before the answer goes on: the client may speak as soon as it has it.
    watch(server, client, || waits.store(false, Ordering::SeqCst));
    drop(up.join());
    Ok(())
}

/// Copies one way, and tells of everything that comes before it goes on.
fn watch(mut from: TcpStream, mut to: TcpStream, tell: impl Fn()) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        tell();
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}
