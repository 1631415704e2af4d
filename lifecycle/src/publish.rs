//! Puts an image where it goes: blobs and configuration, then the manifest, and only then its names.

use std::sync::Arc;

use bytes::Bytes;
use longshore_image::convert::ImageLayer;
use longshore_image::{
    BlobOpener, BlobSource, Descriptor, Digest, ImageStore, Manifest, ManifestFormat, MediaType, Reference,
    StoreError,
};
use rayon::prelude::*;

/// How many blobs are sent at once.
const CONNECTIONS: usize = 6;

/// A blob that an image needs.
pub(crate) struct Upload {
    descriptor: Descriptor,
    source: BlobSource,
    mount_from: Option<Reference>,
}

impl Upload {
    /// A blob at hand.
    pub(crate) fn new(descriptor: Descriptor, source: BlobSource) -> Self {
        Self { descriptor, source, mount_from: None }
    }

    /// A layer, whose blob may be in another repository of the same place.
    pub(crate) fn layer(layer: ImageLayer, mount_from: Option<Reference>) -> Self {
        Self { descriptor: layer.descriptor, source: layer.source, mount_from }
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
        Self { descriptor, source: BlobSource::Lazy(opener), mount_from: Some(image.clone()) }
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
        if points_to(target, name, root)? {
            tracing::debug!("{name} is {} already", root.digest());
        } else {
            moving.push(name);
        }
    }
    let mut done: Vec<&Reference> = Vec::new();
    for &name in &moving {
        // Names may be of several repositories of the registry; blobs are needed once in each.
        if !done.iter().any(|known| target.shares_blobs(known, name)) {
            upload(target, name, done.first().copied(), publication.uploads)?;
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
    put_names(target, moving, root)
}

/// Lets names point to an image that is there. One that cannot be written does not keep the others from it.
pub(crate) fn put_names<'a>(
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
pub(crate) fn upload(
    target: &Arc<dyn ImageStore>,
    name: &Reference,
    first: Option<&Reference>,
    uploads: &[Upload],
) -> Result<(), PublishError> {
    // Uploads wait for the network more than for a processor.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(CONNECTIONS).build();
    let all = || uploads.par_iter().try_for_each(|upload| write(target, name, first, upload));
    pool.map_or_else(|_| all(), |pool| pool.install(all))
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
    match target.manifest(name) {
        Ok(found) => Ok(found.is_some_and(|found| found.digest() == manifest.digest())),
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
