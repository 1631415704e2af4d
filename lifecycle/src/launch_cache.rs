//! What is kept of a daemon's images between builds (`-launch-cache`): daemons give only whole images (`docker save`), so
//! the configurations of images and the layers of the app image lie in a directory too.
//!
//! Layers lie in `committed/sha256:<hex>.tar`, where the reference keeps them; images in `images/<hex of the id>.json`.
//! Files are complete or not there, and everything is verified when it is read: what is damaged is removed and asked for
//! again. Nothing here is ever needed for a build.

mod images;
mod layers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use longshore_image::{
    BlobOutcome, BlobSource, DaemonStore, Descriptor, DiffId, Digest, Image, ImageStore, LayerFormat,
    Manifest, MediaType, Platform, Reference, StoreError,
};
use rustix::fs::FlockOperation;

/// The start of the names of folders for blobs on their way. A process that is killed leaves them.
pub(crate) const SCRATCH: &str = ".longshore-scratch-";

/// A place whose images have ids that never mean anything else: a daemon.
pub(crate) trait ImagesById: ImageStore {
    /// The id of the image of that name (`sha256:<hex>` or `<hex>`); `None` when there is none.
    fn id(&self, reference: &Reference) -> Result<Option<String>, StoreError>;

    /// Tells it of the layers of an image that it has.
    fn know(&self, diff_ids: Vec<DiffId>);
}

impl ImagesById for DaemonStore {
    fn id(&self, reference: &Reference) -> Result<Option<String>, StoreError> {
        self.id_of(reference)
    }

    fn know(&self, diff_ids: Vec<DiffId>) {
        self.knows_layers(diff_ids);
    }
}

/// A daemon's images, with a directory that saves asking for them.
pub(crate) struct LaunchCache {
    daemon: Arc<dyn ImagesById>,
    directory: PathBuf,
    /// The ids of images that this build has to do with: the files of others are removed at its end.
    used: Mutex<BTreeSet<String>>,
    /// Configurations that were written and may belong to the next manifest.
    configs: Mutex<BTreeMap<Digest, Bytes>>,
}

impl LaunchCache {
    /// The launch cache in a directory that exists.
    pub(crate) fn new(daemon: Arc<dyn ImagesById>, directory: &Path) -> Self {
        Self { daemon, directory: directory.to_owned(), used: Mutex::default(), configs: Mutex::default() }
    }

    fn note(&self, id: &str) {
        lock(&self.used).insert(id.to_owned());
    }

    /// Keeps what the next build wants to know, and removes what it does not.
    fn keep(&self, reference: &Reference, manifest: &Manifest) -> io::Result<()> {
        let Some(image) = manifest.as_image() else { return Ok(()) };
        let file = File::create(self.directory.join("lock"))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        let digest = image.config.digest;
        let config = lock(&self.configs).get(&digest).cloned();
        let id = self.daemon.id(reference).ok().flatten();
        // A daemon that changes what it is given is asked for what it made of it.
        if let Some(config) = config.filter(|_| id.is_some_and(|id| images::hex(&id) == digest.hex())) {
            images::write(&self.directory, manifest, &config)?;
            self.note(&digest.hex());
        }
        layers::remove_old_scratch(&self.directory)?;
        images::retain(&self.directory, &lock(&self.used))?;
        layers::retain(&self.directory, &image.layers)
    }

    fn layer(&self, blob: &Descriptor) -> Option<PathBuf> {
        // The digest of an uncompressed layer is its DiffID.
        matches!(blob.media_type, MediaType::Layer(_, LayerFormat::Tar))
            .then(|| layers::path(&self.directory, blob.digest))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ImageStore for LaunchCache {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        let Some(id) = self.daemon.id(reference)? else { return Ok(None) };
        let id = images::hex(&id).to_owned();
        if let Some((manifest, config)) = images::read(&self.directory, &id)
            && platform.accepts(&config.platform())
        {
            tracing::debug!("the launch cache knows the image '{}'", reference.familiar());
            self.daemon.know(config.diff_ids());
            self.note(&id);
            return Ok(Some(Image { reference: reference.clone(), manifest, config, index: None }));
        }
        let image = self.daemon.resolve(reference, platform)?;
        if let Some(image) = image.as_ref().filter(|image| image.config.image_id().hex() == id) {
            if let Err(error) = images::write(&self.directory, &image.manifest, &image.config.to_bytes()) {
                tracing::warn!("the launch cache '{}' cannot be written: {error}", self.directory.display());
            }
            self.note(&id);
        }
        Ok(image)
    }

    fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, StoreError> {
        Ok(layers::path(&self.directory, digest).exists() || self.daemon.has_blob(reference, digest)?)
    }

    fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        let Some(path) = self.layer(blob) else { return self.daemon.open_blob(reference, blob) };
        if let Some(file) = layers::open(&path, blob) {
            return Ok(file);
        }
        let reader = self.daemon.open_blob(reference, blob)?;
        // Opening it in the daemon may have led here and back.
        if let Some(file) = layers::open(&path, blob) {
            return Ok(file);
        }
        layers::fill(&path, blob, reader)
    }

    fn write_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        if let (Some(path), BlobSource::File(file)) = (self.layer(blob), source)
            && let Err(error) = layers::add(&path, file)
        {
            tracing::warn!("the launch cache '{}' cannot be written: {error}", path.display());
        }
        if let (MediaType::Config(_), BlobSource::Bytes(bytes)) = (&blob.media_type, source) {
            lock(&self.configs).insert(blob.digest, bytes.clone());
        }
        self.daemon.write_blob(reference, blob, source, mount_from)
    }

    fn child(&self, reference: &Reference, child: &Descriptor) -> Result<Manifest, StoreError> {
        self.daemon.child(reference, child)
    }

    fn put_child(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.daemon.put_child(reference, manifest)
    }

    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.daemon.put_manifest(reference, manifest)?;
        if let Err(error) = self.keep(reference, manifest) {
            tracing::warn!("the launch cache '{}' cannot be written: {error}", self.directory.display());
        }
        Ok(())
    }

    fn check_write(&self, reference: &Reference) -> Result<(), StoreError> {
        self.daemon.check_write(reference)
    }
}
