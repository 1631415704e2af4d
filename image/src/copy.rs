//! Copies images between places: as they are, to the byte, or in another form.

mod converted;
mod parallel;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::convert::ConvertError;
use crate::{
    BlobOpener, BlobSink, BlobSource, Descriptor, ImageStore, LayerFormats, Manifest, ManifestChoice,
    ManifestContent, ManifestFormat, MediaType, Platform, Reference, StoreError, select,
};
pub(crate) use parallel::for_each;

/// How deep indexes may stand in indexes.
const DEPTH: usize = 4;

/// What is copied, where to, and in which form.
#[derive(Clone, Copy)]
pub struct CopyRequest<'a> {
    /// Where the image is.
    pub source: &'a Arc<dyn ImageStore>,
    /// Its name there.
    pub from: &'a Reference,
    /// Where it goes.
    pub target: &'a dyn ImageStore,
    /// Its name there.
    pub to: &'a Reference,
    /// The image of an index that is copied; all of the index when `None`.
    pub platform: Option<&'a Platform>,
    /// How layers are to be compressed; as they are when `None`.
    pub layers: Option<LayerFormats>,
    /// Whose media types are to be used; those that are there when `None`.
    pub manifest: Option<ManifestChoice>,
    /// Where blobs lie that are made anew, until they are in the target.
    pub sink: &'a BlobSink,
    /// Whether source and target are one registry, which can hand blobs from one repository to another.
    pub same_place: bool,
}

/// Why an image was not copied. The name in the target still points to what it pointed to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// There is no such image.
    #[error("there is no image `{reference}`")]
    NotFound {
        /// Its name.
        reference: String,
    },
    /// The index has nothing for the platform.
    #[error(
        "`{reference}` has no image for {platform}; it has {available}. Copy all of it, or name another platform"
    )]
    NoPlatform {
        /// The index.
        reference: String,
        /// The platform.
        platform: Box<Platform>,
        /// Those that there are.
        available: String,
    },
    /// The source cannot be read.
    #[error("cannot read `{reference}`")]
    Read {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// The target cannot be written.
    #[error("cannot write `{reference}`")]
    Write {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// The image cannot have the form that was asked for.
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

/// What is written: blobs first, then manifests without a name, then the one that gets the name.
struct Work {
    blobs: Vec<(Descriptor, BlobSource)>,
    children: Vec<Manifest>,
    root: Manifest,
}

/// Copies an image; what the name in the target points to then.
///
/// Without a form, bytes are kept, also of manifests, and whatever types they have. Otherwise every image gets the form,
/// and what is no image (attestations, which describe the old bytes) is left out.
///
/// # Errors
/// When there is no such image, a place cannot be read or written, or the image cannot have the form.
pub fn copy(request: &CopyRequest<'_>) -> Result<Manifest, CopyError> {
    let found = request.source.manifest(request.from).map_err(request.unreadable())?;
    let root = found.ok_or_else(|| CopyError::NotFound { reference: request.from.familiar() })?;
    let root = request.narrowed(root)?;
    let is_oci = matches!(
        root.media_type(),
        MediaType::Manifest(ManifestFormat::Oci) | MediaType::Index(ManifestFormat::Oci)
    );
    let keeps_types =
        request.manifest.is_none() || (request.manifest == Some(ManifestChoice::Auto) && is_oci);
    let keeps_bytes = request.layers.is_none() && keeps_types;
    let work = if keeps_bytes {
        request.as_it_is(root.clone())?
    } else {
        let family = request.manifest.map(ManifestChoice::family);
        converted::work(request, &root, request.layers, family)?
    };
    match request.write(work) {
        Err(CopyError::Write { reference, source })
            if request.manifest == Some(ManifestChoice::Auto) && source.is_rejected_manifest() =>
        {
            tracing::warn!(
                "`{reference}` cannot be written with these media types; using Docker's ({source})"
            );
            request.write(converted::in_docker(request, &root)?)
        }
        other => other,
    }
}

impl CopyRequest<'_> {
    fn unreadable(&self) -> impl FnOnce(StoreError) -> CopyError + use<> {
        let reference = self.from.familiar();
        move |source| CopyError::Read { reference, source: Box::new(source) }
    }

    fn unwritable(&self) -> impl FnOnce(StoreError) -> CopyError + use<> {
        let reference = self.to.familiar();
        move |source| CopyError::Write { reference, source: Box::new(source) }
    }

    /// The image for the platform, where only one is wanted.
    fn narrowed(&self, mut root: Manifest) -> Result<Manifest, CopyError> {
        let Some(platform) = self.platform else { return Ok(root) };
        for _ in 0..=DEPTH {
            let ManifestContent::Index(index) = root.content() else { break };
            let child = select::choose(index, platform).ok_or_else(|| CopyError::NoPlatform {
                reference: self.from.familiar(),
                platform: Box::new(platform.clone()),
                available: select::platforms(index),
            })?;
            root = self.source.child(self.from, child).map_err(self.unreadable())?;
        }
        Ok(root)
    }

    /// Everything that a manifest leads to, with its bytes.
    fn as_it_is(&self, root: Manifest) -> Result<Work, CopyError> {
        let mut work = Work { blobs: Vec::new(), children: Vec::new(), root };
        let root = work.root.clone();
        self.collect(&root, &mut work, 0)?;
        Ok(work)
    }

    fn collect(&self, manifest: &Manifest, work: &mut Work, depth: usize) -> Result<(), CopyError> {
        match manifest.content() {
            ManifestContent::Image(image) => {
                for blob in image.layers.iter().chain([&image.config]) {
                    // A layer that is somewhere else, as its `urls` say, need not be here. They are never followed.
                    let may_be_missing = blob.other.contains("urls");
                    let has = |blob: &Descriptor| self.source.has_blob(self.from, blob.digest);
                    if !may_be_missing || has(blob).map_err(self.unreadable())? {
                        work.blobs.push((blob.clone(), self.lazy(blob)));
                    }
                }
                Ok(())
            }
            ManifestContent::Index(_) if depth > DEPTH => {
                let reference = self.from.familiar();
                let reason = "indexes stand in indexes too deep".to_owned();
                Err(self.unreadable()(StoreError::Contradiction { reference, reason }))
            }
            ManifestContent::Index(index) => index.manifests.iter().try_for_each(|child| {
                let child = self.source.child(self.from, child).map_err(self.unreadable())?;
                self.collect(&child, work, depth + 1)?;
                work.children.push(child);
                Ok(())
            }),
        }
    }

    fn lazy(&self, blob: &Descriptor) -> BlobSource {
        BlobSource::Lazy(BlobOpener::of(Arc::clone(self.source), self.from.clone(), blob.clone()))
    }

    fn write(&self, mut work: Work) -> Result<Manifest, CopyError> {
        work.blobs.sort_by_key(|(blob, _)| blob.digest);
        work.blobs.dedup_by_key(|(blob, _)| blob.digest);
        let mount_from = self.same_place.then_some(self.from);
        for_each(&work.blobs, |(blob, source)| {
            let outcome = self.target.write_blob(self.to, blob, source, mount_from);
            tracing::debug!("blob {}: {outcome:?}", blob.digest);
            outcome.map(drop).map_err(self.unwritable())
        })?;
        for child in &work.children {
            self.target.put_child(self.to, child).map_err(self.unwritable())?;
        }
        self.target.put_manifest(self.to, &work.root).map_err(self.unwritable())?;
        Ok(work.root)
    }
}
