//! A registry in memory that misbehaves as told: what real ones do, each on its own or together.
//!
//! It follows the OCI distribution-spec 1.1 where no fault says otherwise, refuses manifests whose blobs are missing, and
//! writes down every request.

mod answers;
mod authentication;
mod fault;
mod manifests;
mod server;
mod state;
mod tls;
mod uploads;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

pub use fault::{Fault, RetryAfter};
use state::State;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Certificates;

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Logged {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query, empty when there is none.
    pub query: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `If-Range` header.
    pub if_range: Option<String>,
    /// The bytes of the body that were read.
    pub received: u64,
    /// The status of the answer; 0 when the connection was cut instead.
    pub status: u16,
}

/// A registry on a port of its own, for as long as this value lives.
#[derive(Debug)]
pub struct FaultyRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl FaultyRegistry {
    /// Starts an empty registry with faults.
    ///
    /// # Panics
    /// When no port of the loopback can be had.
    #[must_use]
    pub fn start(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::start_with(faults, None)
    }

    /// Starts an empty registry that speaks TLS alone.
    ///
    /// # Panics
    /// When no port of the loopback can be had.
    #[must_use]
    pub fn start_with_tls(certificates: &Certificates, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::start_with(faults, Some(tls::acceptor(certificates)))
    }

    fn start_with(faults: impl IntoIterator<Item = Fault>, tls: Option<TlsAcceptor>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("the threads of the registry");
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port of the loopback");
        let address = listener.local_addr().expect("the port");
        let state = Arc::new(Mutex::new(State::new(address, tls.is_some(), faults.into_iter().collect())));
        match tls {
            Some(acceptor) => {
                runtime.spawn(server::serve(tls::Encrypted::new(listener, acceptor), Arc::clone(&state)))
            }
            None => runtime.spawn(server::serve(listener, Arc::clone(&state))),
        };
        Self { address, state, runtime: Some(runtime) }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Replaces all faults.
    pub fn set_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.with(|state| state.faults = faults.into_iter().collect());
    }

    /// Puts a blob into a repository under the digest of its bytes, which is returned.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = state::digest(bytes);
        self.put_blob_as(repository, &digest, bytes);
        digest
    }

    /// Puts a blob into a repository under a digest that need not be its own.
    pub fn put_blob_as(&self, repository: &str, digest: &str, bytes: &[u8]) {
        self.with(|state| {
            state.tampered = true;
            state.blobs.insert((repository.to_owned(), digest.to_owned()), bytes.to_vec().into())
        });
    }

    /// Puts a manifest under a tag or digest that need not be its own; nothing is checked.
    pub fn put_manifest(&self, repository: &str, name: &str, media_type: &str, bytes: &[u8]) {
        let manifest =
            state::StoredManifest { media_type: media_type.to_owned(), bytes: bytes.to_vec().into() };
        let digest = state::digest(bytes);
        self.with(|state| {
            state.tampered = true;
            for name in [name, &digest] {
                state.manifests.insert((repository.to_owned(), name.to_owned()), manifest.clone());
            }
        });
    }

    /// Loses a blob of a repository.
    pub fn remove_blob(&self, repository: &str, digest: &str) {
        self.with(|state| state.blobs.remove(&(repository.to_owned(), digest.to_owned())));
    }

    /// The manifest under a tag or digest.
    #[must_use]
    pub fn manifest(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), name.to_owned());
        self.with(|state| state.manifests.get(&key).map(|manifest| manifest.bytes.to_vec()))
    }

    /// The bytes of a blob.
    #[must_use]
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), digest.to_owned());
        self.with(|state| state.blobs.get(&key).map(|bytes| bytes.to_vec()))
    }

    /// Every tag and the digest of its manifest.
    #[must_use]
    pub fn tags(&self, repository: &str) -> Vec<(String, String)> {
        self.with(|state| state.tags(repository))
    }

    /// Requires that whatever any tag points to is there, down to the last blob, with the right bytes.
    ///
    /// # Panics
    /// When a tag points at something incomplete.
    pub fn assert_tags_are_complete(&self) {
        self.with(|state| state.assert_complete());
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        self.with(|state| state.log.clone())
    }

    /// The requests so far of a method whose path and query contain `text`.
    #[must_use]
    pub fn requests_of(&self, method: &str, text: &str) -> Vec<Logged> {
        let matches = |logged: &Logged| {
            logged.method == method && format!("{}?{}", logged.path, logged.query).contains(text)
        };
        self.requests().into_iter().filter(matches).collect()
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for FaultyRegistry {
    /// Whatever went wrong, what clients tagged is whole.
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.with(|state| state.tampered) {
            self.assert_tags_are_complete();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
