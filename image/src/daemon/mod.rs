//! Images of a container daemon, Docker's or Podman's, through the API that both have.
//!
//! A daemon takes and gives images as archives: blobs that are written wait for their manifest, and what is read was
//! exported once. It does not keep manifests, so an image comes back with another one than it went in with.

mod address;
mod error;
mod load;

use std::collections::HashMap;
use std::io::{self, Read, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use address::Address;
use bollard::{API_DEFAULT_VERSION, Docker};
pub use error::DaemonError;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Runtime;

use crate::archive::{Archive, ArchivedImage};
use crate::layout::LayoutName;
use crate::verify::VerifiedReader;
use crate::{
    BlobOutcome, BlobSource, Descriptor, Digest, Image, ImageStore, Manifest, Platform, Reference, StoreError,
};

/// Seconds that the daemon may take to go on with an answer: it unpacks layers before it does.
const PATIENCE: u64 = 600;

/// The images of a container daemon.
#[derive(Debug)]
pub struct DaemonStore {
    docker: Docker,
    address: Address,
    runtime: Option<Runtime>,
    handle: tokio::runtime::Handle,
    /// Blobs that wait for their manifest.
    pending: Mutex<HashMap<Digest, BlobSource>>,
    /// What was exported, by name, with the id that the image had then.
    exported: Mutex<HashMap<String, (String, Arc<Archive>)>>,
}

impl DaemonStore {
    /// The daemon of `DOCKER_HOST`, or else of the first socket of Docker or Podman that exists.
    ///
    /// # Errors
    /// When there is none, or it does not answer.
    pub fn connect() -> Result<Self, DaemonError> {
        Self::connect_to(Address::find(|name| std::env::var_os(name), |path| path.exists())?)
    }

    /// The daemon at an address as `DOCKER_HOST` has it: `unix://SOCKET` or `tcp://HOST:PORT`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn connect_at(host: &str) -> Result<Self, DaemonError> {
        Self::connect_to(Address::parse(host)?)
    }

    fn connect_to(address: Address) -> Result<Self, DaemonError> {
        let host = address.to_string();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("daemon")
            .enable_all()
            .build()
            .map_err(|source| DaemonError::Runtime { host: host.clone(), source })?;
        let connect = async {
            let docker = match &address {
                Address::Socket(_) => Docker::connect_with_unix(&host, PATIENCE, API_DEFAULT_VERSION),
                Address::Tcp(host) => Docker::connect_with_http(host, PATIENCE, API_DEFAULT_VERSION),
            }?;
            docker.negotiate_version().await
        };
        let docker = runtime.block_on(connect).map_err(|source| DaemonError::Failed {
            host,
            action: "answer".to_owned(),
            source,
        })?;
        let handle = runtime.handle().clone();
        let (pending, exported) = (Mutex::default(), Mutex::default());
        Ok(Self { docker, address, runtime: Some(runtime), handle, pending, exported })
    }

    fn failed(&self, action: String) -> impl FnOnce(bollard::errors::Error) -> DaemonError {
        let host = self.address.to_string();
        move |source| DaemonError::Failed { host, action, source }
    }

    /// The id of the image of that name; `None` when there is none.
    fn image_id(&self, reference: &Reference) -> Result<Option<String>, DaemonError> {
        match self.handle.block_on(self.docker.inspect_image(&daemon_name(reference))) {
            Ok(image) => Ok(image.id),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(self.failed(format!("inspect `{}`", reference.familiar()))(error)),
        }
    }

    /// The image of that name as an archive, exported again when the name has moved.
    fn archive(&self, reference: &Reference) -> Result<Option<Arc<Archive>>, StoreError> {
        let Some(id) = self.image_id(reference)? else { return Ok(None) };
        let name = daemon_name(reference);
        if let Some((known, archive)) = lock(&self.exported).get(&name)
            && *known == id
        {
            return Ok(Some(Arc::clone(archive)));
        }
        let file = tempfile::NamedTempFile::new().map_err(StoreError::file(std::env::temp_dir()))?;
        self.export(&name, &file)?;
        // The archive keeps the file open; its name is not needed any more.
        let archive = Arc::new(Archive::open(file.path(), LayoutName::Only)?);
        lock(&self.exported).insert(name, (id, Arc::clone(&archive)));
        Ok(Some(archive))
    }

    fn export(&self, name: &str, file: &tempfile::NamedTempFile) -> Result<(), StoreError> {
        let mut chunks = self.docker.export_images(&[name]).boxed();
        loop {
            let chunk = self.handle.block_on(chunks.try_next());
            let chunk = chunk.map_err(self.failed(format!("export `{name}`"))).map_err(StoreError::from)?;
            let Some(chunk) = chunk else { return Ok(()) };
            file.as_file().write_all(&chunk).map_err(StoreError::file(file.path()))?;
        }
    }
}

/// What daemons call an image: its full name, which has one meaning in each.
fn daemon_name(reference: &Reference) -> String {
    match reference.digest() {
        Some(_) => reference.to_string(),
        None => reference.with_tag(reference.tag_or_latest()).to_string(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for DaemonStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl From<DaemonError> for StoreError {
    fn from(error: DaemonError) -> Self {
        Self::Registry(Box::new(error))
    }
}

impl ImageStore for DaemonStore {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        let Some(archive) = self.archive(reference)? else { return Ok(None) };
        archive.resolve(reference, platform)
    }

    fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, StoreError> {
        if lock(&self.pending).contains_key(&digest) {
            return Ok(true);
        }
        match self.archive(reference)? {
            Some(archive) => archive.has_blob(reference, digest),
            None => Ok(false),
        }
    }

    fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        let pending = lock(&self.pending).get(&blob.digest).cloned();
        if let Some(source) = pending {
            let reader: Box<dyn Read + Send> = match source {
                BlobSource::Bytes(bytes) => Box::new(io::Cursor::new(bytes)),
                BlobSource::File(path) => {
                    Box::new(std::fs::File::open(&path).map_err(StoreError::file(&path))?)
                }
                BlobSource::Lazy(opener) => opener.open()?,
            };
            return Ok(Box::new(VerifiedReader::new(reader, blob, reference.familiar())));
        }
        match self.archive(reference)? {
            Some(archive) => archive.open_blob(reference, blob),
            None => Err(StoreError::NotFoundBlob { reference: reference.familiar(), digest: blob.digest }),
        }
    }

    /// Notes where the blob is; it is read when the manifest is put.
    fn write_blob(
        &self,
        _: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        _: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        lock(&self.pending).insert(blob.digest, source.clone());
        Ok(BlobOutcome::Written)
    }

    /// Loads the image. Docker before version 23 cannot read layers that are compressed with zstd.
    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        let names = [reference.with_tag(reference.tag_or_latest())];
        let image = ArchivedImage { store: self, reference, manifest, names: &names };
        load::load(self, &image)?;
        lock(&self.exported).remove(&daemon_name(reference));
        Ok(())
    }
}
