//! The smallest HTTP client that tests need, and free ports.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// An answer to a GET request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Ports below those that the kernel gives to outgoing connections, one after the other: a port that it picked itself
/// could be taken again, by any client, before the server listens on it.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A port of the loopback interface that nobody listens on, and that no other test of this process is given.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    // Other test processes start elsewhere.
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("less than the number of ports");
    for _ in 0..COUNT {
        let offset =
            (u32::from(start) + u32::from(NEXT_PORT.fetch_add(1, Ordering::Relaxed))) % u32::from(COUNT);
        let port = FIRST + u16::try_from(offset).expect("less than the number of ports");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("all ports from {FIRST} on are taken");
}

/// One GET of `path` from a server on loopback, without retrying.
///
/// # Errors
/// When the server does not answer within five seconds, or not in HTTP.
pub fn get_once(port: u16, path: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let invalid = || std::io::Error::new(std::io::ErrorKind::InvalidData, format!("not HTTP: {text}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(invalid)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(invalid)?;
    Ok(Answer { status, body: body.to_owned() })
}

/// GETs `path` from a server on loopback that may still be starting.
///
/// # Panics
/// When it has not answered with 200 within `limit`.
#[must_use]
pub fn get(port: u16, path: &str, limit: Duration) -> String {
    let start = Instant::now();
    loop {
        let last = match get_once(port, path) {
            Ok(Answer { status: 200, body }) => return body,
            Ok(answer) => format!("{answer:?}"),
            Err(error) => error.to_string(),
        };
        assert!(
            start.elapsed() < limit,
            "http://127.0.0.1:{port}{path} does not answer after {limit:?}: {last}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
