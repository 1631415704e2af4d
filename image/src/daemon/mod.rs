//! Images of a container daemon, Docker's or Podman's, through the API that both have.
//!
//! A daemon takes and gives images as archives: blobs that are written wait for their manifest, and what is read was
//! exported once. It does not keep manifests, so an image comes back with another one than it went in with.

mod address;
mod connections;
mod error;
mod load;
mod omit;

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use address::Address;
use bollard::query_parameters::TagImageOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use connections::{CONNECTIONS, Connections};
pub use error::DaemonError;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Runtime;

use crate::archive::{Archive, ArchivedImage};
use crate::layout::LayoutName;
use crate::reference::DOCKER_HUB;
use crate::verify::VerifiedReader;
use crate::{
    BlobOutcome, BlobSource, Descriptor, DiffId, Digest, Image, ImageId, ImageStore, Manifest, Platform,
    Reference, StoreError,
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
    /// Manifests that wait for their index.
    children: Mutex<HashMap<Digest, Manifest>>,
    /// The layers of images that the daemon has.
    known: Mutex<Vec<Vec<DiffId>>>,
    /// Whether layers that it has need not be sent.
    looks_layers_up: OnceLock<bool>,
    /// What was exported, by image id.
    exported: Mutex<HashMap<String, Arc<Archive>>>,
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
            match &address {
                Address::Socket(path) => connect_to_socket(path).await,
                Address::Tcp(host) => {
                    let docker = Docker::connect_with_http(host, PATIENCE, API_DEFAULT_VERSION)?;
                    docker.negotiate_version().await
                }
            }
        };
        let docker = runtime.block_on(connect).map_err(|source| DaemonError::Failed {
            host,
            action: "answer".to_owned(),
            source,
        })?;
        let handle = runtime.handle().clone();
        let (pending, children, exported) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Self {
            docker,
            address,
            runtime: Some(runtime),
            handle,
            pending,
            children,
            known: Mutex::default(),
            looks_layers_up: OnceLock::new(),
            exported,
        })
    }

    /// The id of the image of that name, as the daemon says it; `None` when there is none. Nothing is exported.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn id_of(&self, reference: &Reference) -> Result<Option<String>, StoreError> {
        Ok(self.image_id(reference)?)
    }

    /// Tells of the layers of an image that the daemon has, which then need not be sent to it.
    pub fn knows_layers(&self, diff_ids: Vec<DiffId>) {
        lock(&self.known).push(diff_ids);
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

    /// Gives an image another name; whether there is such an image.
    fn tag(&self, id: &ImageId, name: &Reference) -> Result<bool, DaemonError> {
        let options = TagImageOptionsBuilder::new().repo(&name.name()).tag(name.tag_or_latest()).build();
        match self.handle.block_on(self.docker.tag_image(&id.to_string(), Some(options))) {
            Ok(()) => Ok(true),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(error) => Err(self.failed(format!("tag `{}`", name.familiar()))(error)),
        }
    }

    /// The image of that name as an archive.
    fn archive(&self, reference: &Reference) -> Result<Option<Arc<Archive>>, StoreError> {
        let Some(id) = self.image_id(reference)? else { return Ok(None) };
        if let Some(archive) = lock(&self.exported).get(&id) {
            return Ok(Some(Arc::clone(archive)));
        }
        let file = tempfile::NamedTempFile::new().map_err(StoreError::file(std::env::temp_dir()))?;
        self.export(&daemon_name(reference), &file)?;
        // The archive keeps the file open; its name is not needed any more.
        let archive = Arc::new(Archive::open(file.path(), LayoutName::Only)?);
        lock(&self.exported).insert(id, Arc::clone(&archive));
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

async fn connect_to_socket(path: &Path) -> Result<Docker, bollard::errors::Error> {
    let connections = Connections::open(path.to_owned()).await?;
    let transport = move |request: BollardRequest| {
        let connections = Arc::clone(&connections);
        async move { connections.request(request).await }
    };
    let address = Some("http://localhost");
    let docker = Docker::connect_with_custom_transport(transport, address, PATIENCE, API_DEFAULT_VERSION)?;
    let docker = docker.negotiate_version().await?;
    // Daemons close connections that never say anything, so each says something.
    for _ in 1..CONNECTIONS {
        docker.ping().await?;
    }
    Ok(docker)
}

/// What daemons call an image: its id when the reference is one, or else its full name, which has one meaning in each.
fn daemon_name(reference: &Reference) -> String {
    if reference.registry() == DOCKER_HUB
        && reference.repository() == "library/sha256"
        && let Some(id) = reference.tag().filter(|tag| is_image_id(tag))
    {
        return format!("sha256:{id}");
    }
    match reference.digest() {
        Some(_) => reference.to_string(),
        None => reference.with_tag(reference.tag_or_latest()).to_string(),
    }
}

fn open(source: &BlobSource) -> Result<Box<dyn Read + Send>, StoreError> {
    match source {
        BlobSource::Bytes(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
        BlobSource::File(path) => Ok(Box::new(std::fs::File::open(path).map_err(StoreError::file(path))?)),
        BlobSource::Lazy(opener) => opener.open(),
    }
}

/// 64 hexadecimal digits: daemons refuse such tags of a repository called `sha256`, because they would look like ids.
fn is_image_id(tag: &str) -> bool {
    tag.len() == 64 && tag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
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
        let image = archive.resolve(reference, platform)?;
        if let Some(image) = &image {
            lock(&self.known).push(image.config.diff_ids());
        }
        Ok(image)
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
        // The blob may be another image's of this daemon, which is then asked for while this one waits.
        let pending = lock(&self.pending).remove(&blob.digest);
        if let Some(source) = pending {
            let opened = open(&source);
            lock(&self.pending).insert(blob.digest, source);
            return Ok(Box::new(VerifiedReader::new(opened?, blob, reference.familiar())));
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

    fn child(&self, reference: &Reference, child: &Descriptor) -> Result<Manifest, StoreError> {
        let missing = || StoreError::NotFoundBlob { reference: reference.familiar(), digest: child.digest };
        lock(&self.children).get(&child.digest).cloned().ok_or_else(missing)
    }

    /// Notes the manifest, which goes into the archive of its index.
    fn put_child(&self, _: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        lock(&self.children).insert(manifest.digest(), manifest.clone());
        Ok(())
    }

    /// Loads the image, unless it is there and only needs the name. Docker before version 23 cannot read layers that are
    /// compressed with zstd.
    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        let name = reference.with_tag(reference.tag_or_latest());
        if let Some(image) = manifest.as_image()
            && self.tag(&ImageId::from(image.config.digest), &name)?
        {
            return Ok(());
        }
        let omitted = self.omittable(reference, manifest)?;
        let image = ArchivedImage {
            store: self,
            reference,
            manifest,
            names: &[name],
            layout_name: None,
            platform: &Platform::host(),
            omitted: &omitted,
        };
        match load::load(self, &image) {
            Err(error) if !omitted.is_empty() => {
                tracing::debug!("the daemon needs all layers of `{}`: {error}", reference.familiar());
                load::load(self, &ArchivedImage { omitted: &BTreeSet::new(), ..image })
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_ids_are_not_names() {
        let hex = "0123456789abcdef".repeat(4);
        for (reference, expected) in [
            (format!("sha256:{hex}"), format!("sha256:{hex}")),
            (format!("sha256:{}", &hex[1..]), format!("docker.io/library/sha256:{}", &hex[1..])),
            ("app".to_owned(), "docker.io/library/app:latest".to_owned()),
            (format!("registry.example/sha256:{hex}"), format!("registry.example/sha256:{hex}")),
        ] {
            assert_eq!(daemon_name(&reference.parse().unwrap()), expected);
        }
    }
}
