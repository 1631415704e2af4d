//! Registries: images over HTTP (OCI distribution-spec 1.1, and what registries made of it).
//!
//! The network is asynchronous and belongs to a runtime of its own; the methods block, from any number of threads.

mod acceptable;
mod auth;
mod catalog;
mod challenge;
mod chunks;
mod clients;
mod config_cache;
mod dns;
mod download;
mod endpoint;
mod error;
mod failure;
mod manifests;
mod mirrors;
mod pace;
mod payload;
mod profile;
mod referrers;
mod remote;
mod request;
mod retry;
mod scope;
mod small_blob;
mod sources;
mod stream;
mod transport;
mod upload;

use std::collections::HashMap;
use std::future::Future;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use auth::Authenticator;
use clients::Clients;
use config_cache::ConfigCache;
pub(crate) use dns::Names;
pub use error::RegistryError;
use manifests::KnownManifests;
pub use mirrors::{Mirrors, MirrorsError};
pub use profile::{Fact, Profile};
use remote::{Context, Remote};
use request::Request;
pub use request::Timeouts;
pub use retry::RetryPolicy;
use scope::Access;
use stream::{Sender, Streams};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use transport::Transport;

use crate::keychain::Keychain;
use crate::{
    BlobFollower, BlobOutcome, BlobSource, Descriptor, Digest, Image, ImageStore, Manifest, Platform,
    Reference, StoreError,
};

/// How registries are reached.
#[derive(Debug)]
pub struct RegistryConfig {
    /// Who we are to them.
    pub keychain: Keychain,
    /// Registries (`HOST[:PORT]`) whose certificates are not verified, and which may have none.
    pub insecure: Vec<String>,
    /// Where images are looked for before the registry itself is asked.
    pub mirrors: Mirrors,
    /// Directories with a directory of certificates for each `HOST[:PORT]`.
    pub certificate_directories: Vec<PathBuf>,
    /// A directory where configurations are kept, which are then read once for each machine; none are when `None`.
    pub config_cache: Option<PathBuf>,
    /// How long is waited for what.
    pub timeouts: Timeouts,
    /// How failures that may pass are met.
    pub retry: RetryPolicy,
}

impl RegistryConfig {
    /// The usual settings with a keychain.
    #[must_use]
    pub fn new(keychain: Keychain) -> Self {
        Self {
            keychain,
            insecure: Vec::new(),
            mirrors: Mirrors::default(),
            certificate_directories: vec!["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()],
            config_cache: None,
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
        }
    }
}

/// All registries, as one store: a reference names the registry.
///
/// The methods must not be called from asynchronous code, which they would block.
#[derive(Debug)]
pub struct Registry {
    core: Arc<Core>,
    runtime: Option<Runtime>,
    handle: tokio::runtime::Handle,
}

/// What the requests share.
#[derive(Debug)]
struct Core {
    transport: Transport,
    authenticator: Authenticator,
    mirrors: Mirrors,
    failed_mirrors: mirrors::Failed,
    configs: ConfigCache,
    manifests: KnownManifests,
    streams: Streams,
    remotes: Mutex<HashMap<String, Arc<OnceCell<Arc<Remote>>>>>,
}

impl Core {
    fn context(&self) -> Context<'_> {
        Context { transport: &self.transport, authenticator: &self.authenticator }
    }

    /// The registry of a reference, connected to once.
    async fn remote(&self, reference: &Reference) -> Result<Arc<Remote>, RegistryError> {
        self.remote_of(reference.registry()).await
    }

    async fn remote_of(&self, registry: &str) -> Result<Arc<Remote>, RegistryError> {
        let cell = {
            let mut remotes = self.remotes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(remotes.entry(registry.to_owned()).or_default())
        };
        let connect = || async {
            let credential_known = self.authenticator.may_know(registry);
            Remote::connect(registry, &self.transport, credential_known).await.map(Arc::new)
        };
        cell.get_or_try_init(connect).await.cloned()
    }
}

fn protocol(request: &Request, what: String) -> RegistryError {
    RegistryError::Protocol { request: request.name(), what }
}

impl Registry {
    /// A client for all registries. Nothing is sent yet.
    ///
    /// # Errors
    /// When the threads of the network cannot be started.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(|source| RegistryError::Setup {
                registry: "all registries".to_owned(),
                what: "its threads cannot be started",
                source: source.into(),
            })?;
        let transport = Transport {
            clients: Clients::new(config.certificate_directories, config.timeouts.connect),
            timeouts: config.timeouts,
            retry: config.retry,
            insecure: config.insecure.into_iter().chain(config.mirrors.insecure()).collect(),
        };
        let authenticator = Authenticator::new(config.keychain);
        let core = Core {
            transport,
            authenticator,
            mirrors: config.mirrors,
            failed_mirrors: mirrors::Failed::default(),
            configs: ConfigCache::new(config.config_cache),
            manifests: KnownManifests::default(),
            streams: Streams::default(),
            remotes: Mutex::default(),
        };
        let handle = runtime.handle().clone();
        Ok(Self { core: Arc::new(core), runtime: Some(runtime), handle })
    }

    fn wait<T>(&self, future: impl Future<Output = Result<T, RegistryError>>) -> Result<T, RegistryError> {
        self.handle.block_on(future)
    }

    /// The manifest or index of that name as it is; `None` when there is none.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or sends something invalid.
    pub fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, RegistryError> {
        self.wait(self.core.manifest(reference))
    }

    /// Media type, digest and size of the manifest or index of that name; `None` when there is none.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub fn manifest_descriptor(&self, reference: &Reference) -> Result<Option<Descriptor>, RegistryError> {
        self.wait(self.core.manifest_descriptor(reference))
    }

    /// All tags of the repository, in the registry's order; none when there is no such repository.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        self.wait(self.core.tags(reference))
    }

    /// All repositories of the registry at `HOST[:PORT]`, in its order. Many registries list none, or only those of one
    /// user.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has no list.
    pub fn repositories(&self, registry: &str) -> Result<Vec<String>, RegistryError> {
        self.wait(self.core.repositories(registry))
    }

    /// Deletes the manifest of a digest, or a tag; `false` when there was none.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses: many do not delete (status 405), or not tags (400).
    pub fn delete(&self, reference: &Reference) -> Result<bool, RegistryError> {
        self.wait(self.core.delete_manifest(reference))
    }

    /// The artifacts (signatures, bills of materials, ...) about the manifest of a digest in the repository of
    /// `reference`; those of one type when it is given. Descriptors have their `artifactType`.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or sends something invalid.
    pub fn referrers(
        &self,
        reference: &Reference,
        digest: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        self.wait(self.core.referrers(reference, digest, artifact_type))
    }

    /// Whether the image may be read: an image that is not there may be.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub fn check_read_access(&self, reference: &Reference) -> Result<(), RegistryError> {
        self.manifest_descriptor(reference).map(drop)
    }

    /// Whether blobs and manifests may be pushed: opens an upload, and cancels it.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub fn check_write_access(&self, reference: &Reference) -> Result<(), RegistryError> {
        self.wait(async {
            let remote = self.core.remote(reference).await?;
            self.core.open_upload(&remote, reference).await?.cancel().await;
            Ok(())
        })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Transfers whose readers are gone are not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl ImageStore for Registry {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        let Some(first) = self.wait(self.core.manifest(reference))? else { return Ok(None) };
        let manifest_of = |child: &Descriptor| {
            let manifest = self.wait(self.core.manifest(&reference.with_digest(child.digest)))?;
            let (reference, digest) = (reference.familiar(), child.digest);
            manifest.ok_or(StoreError::NotFoundBlob { reference, digest })
        };
        let config_of = |blob: &Descriptor| Ok(self.wait(self.core.small_blob(reference, blob))?.to_vec());
        crate::select::image(reference, first, platform, manifest_of, config_of).map(Some)
    }

    fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, StoreError> {
        Ok(self.wait(self.core.manifest(reference))?)
    }

    fn digest_of(&self, reference: &Reference) -> Result<Option<Digest>, StoreError> {
        Ok(self.wait(self.core.digest_at(reference))?)
    }

    fn checks_manifests(&self) -> bool {
        true
    }

    fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, StoreError> {
        Ok(self.wait(self.core.has_blob(reference, digest, Access::Pull))?)
    }

    fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        self.open_blob_from(reference, blob, 0)
    }

    fn open_blob_from(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        Ok(Box::new(self.core.blob_reader(&self.handle, reference, blob, offset)))
    }

    fn write_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        Ok(self.wait(self.core.write_blob(reference, blob, source, mount_from))?)
    }

    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.wait(async {
            let is_listed = self.core.put_manifest(reference, manifest).await?;
            match referrers::subject_of(manifest) {
                // A registry that does not list it has no referrers API.
                Some(subject) if !is_listed => self.core.tag_referrer(reference, subject, manifest).await,
                _ => Ok(()),
            }
        })?;
        Ok(())
    }

    fn follower(&self, reference: &Reference) -> Option<Arc<dyn BlobFollower>> {
        let (core, handle) = (Arc::clone(&self.core), self.handle.clone());
        Some(Arc::new(Sender { core, handle, place: reference.clone() }))
    }

    fn check_write(&self, reference: &Reference) -> Result<(), StoreError> {
        Ok(self.check_write_access(reference)?)
    }
}
