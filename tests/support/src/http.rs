//! The smallest HTTP client that tests need, and free ports.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;
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

/// What keeps the ports of this process from other test processes on the machine. Between the moment in which a port is
/// found free and the one in which its server listens, another process could find it free too; one of the two servers
/// then ends, and its test goes on with the other's.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port of the loopback interface that nobody listens on, and that no other test of this machine is given as long as
/// this process lives.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    // Other test processes start elsewhere.
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("less than the number of ports");
    let next =
        || (u32::from(start) + u32::from(NEXT_PORT.fetch_add(1, Ordering::Relaxed))) % u32::from(COUNT);
    let ports = (0..COUNT).map(|_| FIRST + u16::try_from(next()).expect("less than the number of ports"));
    claim_first_free(ports).unwrap_or_else(|| panic!("all ports from {FIRST} on are taken"))
}

fn claim_first_free(mut ports: impl Iterator<Item = u16>) -> Option<u16> {
    ports.find(|port| {
        let Some(claim) = claim(*port) else { return false };
        let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        if is_free {
            CLAIMS.lock().expect("no test panics while it has the list").push(claim);
        }
        is_free
    })
}

/// A socket named after the port: of one name there can only be one, any user can make it, and the kernel removes it with
/// the process.
fn claim(port: u16) -> Option<UnixListener> {
    let name = format!("longshore-test-port-{port}");
    let address = SocketAddr::from_abstract_name(name).expect("a short name");
    match UnixListener::bind_addr(&address) {
        Ok(claim) => Some(claim),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => None,
        Err(error) => panic!("cannot claim port {port}: {error}"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Test processes with neighbouring ids were given the same port, and one's test used the other's registry: its images
    /// seemed to change between two builds, or the registry to end.
    #[test]
    fn a_claimed_port_is_not_given_again() {
        let port = free_port();
        // Nobody listens on it, and whose claim it is, nobody can tell.
        assert_eq!(claim_first_free([port].into_iter()), None);
    }
}
