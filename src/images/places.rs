//! Where run images are looked for: the local store and the registry, in the order of the pull policy.

use std::io::Read;
use std::sync::Arc;

use longshore_image::{
    BlobOutcome, BlobSource, Descriptor, Digest, Image, ImageStore, Manifest, Platform, Reference, StoreError,
};

use super::Images;
use crate::settings::PullPolicy;

/// Several places as one. What is read comes from the first that has it.
pub(crate) struct Places(Vec<Arc<dyn ImageStore>>);

impl Places {
    /// The places that a policy allows, in its order.
    ///
    /// # Errors
    /// When a credential file is not valid.
    pub(crate) fn new(images: &Images, policy: PullPolicy) -> anyhow::Result<Self> {
        let local = || Arc::clone(images.local()) as Arc<dyn ImageStore>;
        Ok(Self(match policy {
            PullPolicy::Never => vec![local()],
            PullPolicy::IfNotPresent => vec![local(), images.registry()?],
            PullPolicy::Always => vec![images.registry()?, local()],
        }))
    }

    /// The first answer of a place; where none has one, the first error.
    fn first<T>(
        &self,
        ask: impl Fn(&dyn ImageStore) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut failure = None;
        for place in &self.0 {
            match ask(place.as_ref()) {
                Ok(Some(answer)) => return Ok(Some(answer)),
                Ok(None) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    fn read_only(reference: &Reference) -> StoreError {
        StoreError::ReadOnly { place: reference.familiar() }
    }
}

impl ImageStore for Places {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        self.first(|place| place.resolve(reference, platform))
    }

    fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, StoreError> {
        self.first(|place| place.manifest(reference))
    }

    fn child(&self, reference: &Reference, child: &Descriptor) -> Result<Manifest, StoreError> {
        let find = |place: &dyn ImageStore| match place.child(reference, child) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        };
        let missing = || StoreError::NotFoundBlob { reference: reference.familiar(), digest: child.digest };
        self.first(find)?.ok_or_else(missing)
    }

    fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, StoreError> {
        let has = |place: &dyn ImageStore| Ok(place.has_blob(reference, digest)?.then_some(()));
        Ok(self.first(has)?.is_some())
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
        let open = |place: &dyn ImageStore| match place.open_blob_from(reference, blob, offset) {
            Ok(reader) => Ok(Some(reader)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        };
        let missing = || StoreError::NotFoundBlob { reference: reference.familiar(), digest: blob.digest };
        self.first(open)?.ok_or_else(missing)
    }

    fn write_blob(
        &self,
        reference: &Reference,
        _: &Descriptor,
        _: &BlobSource,
        _: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        Err(Self::read_only(reference))
    }

    fn put_manifest(&self, reference: &Reference, _: &Manifest) -> Result<(), StoreError> {
        Err(Self::read_only(reference))
    }
}
