//! Puts an image where it goes: blobs and configuration, then the manifest, and only then its names.

use std::collections::HashSet;
use std::iter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use longshore_image::convert::ImageLayer;
use longshore_image::{
    BlobOpener, BlobSource, Descriptor, Digest, ImageStore, Manifest, ManifestFormat, MediaType, Reference,
    StoreError,
};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// How many blobs are sent at once.
const CONNECTIONS: usize = 6;

/// A blob that an image needs.
pub(crate) struct Upload {
    descriptor: Descriptor,
    source: BlobSource,
    mount_from: Option<Reference>,
    /// An image in the target that has the blob.
    held_by: Option<Reference>,
}

impl Upload {
    /// A blob at hand.
    pub(crate) fn new(descriptor: Descriptor, source: BlobSource) -> Self {
        Self { descriptor, source, mount_from: None, held_by: None }
    }

    /// A layer, whose blob may be in another repository of the same place.
    pub(crate) fn layer(layer: ImageLayer, mount_from: Option<Reference>) -> Self {
        Self { mount_from, ..Self::new(layer.descriptor, layer.source) }
    }

    pub(crate) const fn digest(&self) -> Digest {
        self.descriptor.digest
    }

    /// Whether it is no blob of that image.
    pub(crate) fn is_new_to(&self, manifest: &Manifest) -> bool {
        manifest.as_image().is_none_or(|image| {
            let mut blobs = image.layers.iter().chain([&image.config]);
            blobs.all(|blob| blob.digest != self.descriptor.digest)
        })
    }

    /// A configuration, with its descriptor.
    pub(crate) fn config(config: Bytes, family: ManifestFormat) -> (Descriptor, Self) {
        let descriptor = Descriptor::new(MediaType::Config(family), Digest::of(&config), config.len() as u64);
        (descriptor.clone(), Self::new(descriptor, BlobSource::Bytes(config)))
    }

    /// A blob of another image. Where both are in one place it is mounted; it is read only where that is impossible.
    ///
    /// The names decide whether that is one place, not the stores: the store of a run image may stand for several, a
    /// registry among them. An attempt to mount what the registry has not got costs one request.
    pub(crate) fn of_image(descriptor: Descriptor, store: &Arc<dyn ImageStore>, image: &Reference) -> Self {
        let opener = BlobOpener::of(Arc::clone(store), image.clone(), descriptor.clone());
        Self { mount_from: Some(image.clone()), ..Self::new(descriptor, BlobSource::Lazy(opener)) }
    }

    /// The same blob, which an image in the target has too.
    pub(crate) fn held_by(self, image: &Reference) -> Self {
        Self { mount_from: Some(image.clone()), held_by: Some(image.clone()), ..self }
    }

    fn is_held(&self, target: &dyn ImageStore, name: &Reference) -> bool {
        let held_by = self.held_by.as_ref();
        target.checks_manifests() && held_by.is_some_and(|image| target.shares_blobs(image, name))
    }
}

/// What could not be done with which image.
#[derive(Debug)]
pub(crate) struct PublishError {
    pub(crate) action: &'static str,
    pub(crate) reference: String,
    /// The names that point to the new image already: the image is there although this one failed.
    pub(crate) written: Vec<String>,
    pub(crate) source: Box<StoreError>,
}

impl PublishError {
    fn of(action: &'static str, reference: &Reference) -> impl FnOnce(StoreError) -> Self + use<> {
        let reference = reference.familiar();
        move |source| Self { action, reference, written: Vec::new(), source: Box::new(source) }
    }
}

/// What gets names, with all that it needs.
pub(crate) struct Publication<'a> {
    /// What the names point to.
    pub(crate) root: &'a Manifest,
    /// The manifests that it points to, when it is an index.
    pub(crate) children: &'a [Manifest],
    /// The blobs that all of them point to.
    pub(crate) uploads: &'a [Upload],
    /// What a name was just now.
    pub(crate) known: Option<(&'a Reference, Digest)>,
    /// Whether the image before this one is another: then the names are moved without asking what they are.
    pub(crate) is_new: bool,
}

/// Publishes an image under all names. A name that is the image already costs one question and nothing else.
pub(crate) fn publish(
    target: &Arc<dyn ImageStore>,
    names: &[Reference],
    publication: &Publication<'_>,
) -> Result<(), PublishError> {
    let root = publication.root;
    let mut moving = Vec::new();
    for name in names {
        let known = publication.known.filter(|(known, _)| *known == name);
        let is_root = match known {
            Some((_, digest)) => digest == root.digest(),
            None if publication.is_new => false,
            None => points_to(target, name, root)?,
        };
        if is_root {
            tracing::debug!("{name} is {} already", root.digest());
        } else {
            moving.push(name);
        }
    }
    match move_names(target, &moving, publication, &Upload::is_held) {
        Err(error) if error.written.is_empty() && error.source.is_missing_blob() => {
            tracing::debug!("{}: what its images have is asked for: {}", error.reference, error.source);
            move_names(target, &moving, publication, &|_, _, _| false)
        }
        other => other,
    }
}

/// Puts blobs into the repository of `name` as they come, before it is known what else its image needs; the digests of
/// those that are there then. What fails here is left to [`publish`], which says why. Once `is_over`, no more are begun.
pub(crate) fn ahead(
    target: &Arc<dyn ImageStore>,
    name: &Reference,
    uploads: Receiver<Upload>,
    is_over: &AtomicBool,
) -> HashSet<Digest> {
    let there = Mutex::new(HashSet::new());
    let put = |upload: &Upload| {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        match write(target, name, None, upload) {
            Ok(()) => {
                there.lock().unwrap_or_else(PoisonError::into_inner).insert(upload.digest());
            }
            Err(error) => {
                tracing::debug!("{} of '{}' is tried again: {}", error.action, error.reference, error.source);
                is_over.store(true, Ordering::Relaxed);
            }
        }
    };
    // Where nothing comes, no threads are needed. They must be others than those that layers are made on, which one waits for.
    if let Ok(first) = uploads.recv()
        && let Ok(connections) = connections()
    {
        let uploads = iter::once(first).chain(uploads);
        let put = &put;
        connections.scope(|scope| uploads.for_each(|upload| scope.spawn(move |_| put(&upload))));
    }
    there.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a blob is where a name needs it.
type IsThere = dyn Fn(&Upload, &dyn ImageStore, &Reference) -> bool + Sync;

fn move_names(
    target: &Arc<dyn ImageStore>,
    moving: &[&Reference],
    publication: &Publication<'_>,
    is_there: &IsThere,
) -> Result<(), PublishError> {
    let root = publication.root;
    let mut done: Vec<&Reference> = Vec::new();
    for &name in moving {
        // Names may be of several repositories of the registry; blobs are needed once in each.
        if !done.iter().any(|known| target.shares_blobs(known, name)) {
            let needed = publication.uploads.iter();
            let needed: Vec<_> = needed.filter(|upload| !is_there(upload, target.as_ref(), name)).collect();
            upload(target, name, done.first().copied(), &needed)?;
            for child in publication.children {
                target.put_child(name, child).map_err(PublishError::of("write", name))?;
            }
            done.push(name);
        }
    }
    if moving.len() > 1 {
        // What a repository refuses, it refuses here, before the first name moves.
        for name in done {
            target.put_child(name, root).map_err(PublishError::of("write", name))?;
        }
    }
    put_names(target, moving.iter().copied(), root)
}

/// Lets names point to an image that is there. One that cannot be written does not keep the others from it.
fn put_names<'a>(
    target: &Arc<dyn ImageStore>,
    names: impl IntoIterator<Item = &'a Reference>,
    root: &Manifest,
) -> Result<(), PublishError> {
    let (mut written, mut failed) = (Vec::new(), None);
    for name in names {
        match target.put_manifest(name, root) {
            Ok(()) => written.push(name.familiar()),
            Err(source) if failed.is_none() => failed = Some(PublishError::of("write", name)(source)),
            Err(source) => tracing::warn!("'{}' cannot be written either: {source}", name.familiar()),
        }
    }
    failed.map_or(Ok(()), |error| Err(PublishError { written, ..error }))
}

/// Puts the blobs into the repository of `name`. `first` is a repository that has got them just before.
fn upload(
    target: &Arc<dyn ImageStore>,
    name: &Reference,
    first: Option<&Reference>,
    uploads: &[&Upload],
) -> Result<(), PublishError> {
    if let [only] = uploads {
        return write(target, name, first, only);
    }
    with_connections(|| uploads.par_iter().try_for_each(|upload| write(target, name, first, upload)))
}

/// Does something on threads of its own: uploads wait for the network more than for a processor.
fn with_connections<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    match connections() {
        Ok(connections) => connections.install(act),
        Err(_) => act(),
    }
}

fn connections() -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new().num_threads(CONNECTIONS).build()
}

fn write(
    target: &Arc<dyn ImageStore>,
    name: &Reference,
    first: Option<&Reference>,
    upload: &Upload,
) -> Result<(), PublishError> {
    let mount_from = first.or(upload.mount_from.as_ref());
    let mount_from =
        mount_from.filter(|from| from.registry() == name.registry() && !from.same_repository(name));
    let outcome = target.write_blob(name, &upload.descriptor, &upload.source, mount_from);
    let outcome = outcome.map_err(PublishError::of("write a blob of", name))?;
    tracing::debug!("blob {}: {outcome:?}", upload.descriptor.digest);
    Ok(())
}

fn points_to(
    target: &Arc<dyn ImageStore>,
    name: &Reference,
    manifest: &Manifest,
) -> Result<bool, PublishError> {
    match target.digest_of(name) {
        Ok(found) => Ok(found == Some(manifest.digest())),
        // What stands there will be replaced, whatever is wrong with it.
        Err(
            StoreError::NoPlatform { .. }
            | StoreError::NotFoundBlob { .. }
            | StoreError::InvalidManifest { .. }
            | StoreError::InvalidConfig { .. }
            | StoreError::Contradiction { .. }
            | StoreError::DigestMismatch { .. }
            | StoreError::SizeMismatch { .. },
        ) => Ok(false),
        Err(source) => Err(PublishError::of("read", name)(source)),
    }
}

#[cfg(test)]
mod tests;
