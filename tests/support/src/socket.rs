//! A Unix socket before another one, which tells what was asked for.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

/// Passes everything on to a daemon's socket, and notes the first lines of HTTP requests.
#[derive(Debug)]
pub struct SocketLog {
    directory: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl SocketLog {
    /// Listens for as long as the process lives.
    ///
    /// # Panics
    /// When no socket can be made.
    #[must_use]
    pub fn before(target: &Path) -> Self {
        let directory = TempDir::new().expect("a temporary folder");
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("its mode");
        let requests = Arc::default();
        let log = Self { directory, requests };
        let listener = UnixListener::bind(log.socket()).expect("a socket");
        let (target, requests) = (target.to_owned(), Arc::clone(&log.requests));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&target) else { return };
                pass(&client, &server, Some(Arc::clone(&requests)));
                pass(&server, &client, None);
            }
        });
        log
    }

    /// The socket to use instead.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("logged.sock")
    }

    /// The requests so far whose first lines have this in them, which then are forgotten with all others.
    ///
    /// # Panics
    /// When a thread that notes requests has panicked.
    #[must_use]
    pub fn take(&self, part: &str) -> Vec<String> {
        let mut requests = std::mem::take(&mut *self.requests.lock().expect("no thread fails here"));
        assert!(!requests.is_empty(), "nothing was asked for");
        requests.retain(|line| line.contains(part));
        requests
    }
}

fn pass(from: &UnixStream, to: &UnixStream, requests: Option<Arc<Mutex<Vec<String>>>>) {
    let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 || to.write_all(&buffer[..count]).is_err() {
                break;
            }
            // A client writes the head of a request at once.
            let first = buffer[..count].split(|byte| *byte == b'\r').next().unwrap_or_default();
            if let (Some(requests), Ok(line)) = (&requests, std::str::from_utf8(first))
                && line.contains(" HTTP/1.")
            {
                requests.lock().expect("no thread fails here").push(line.to_owned());
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}
