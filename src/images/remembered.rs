//! A place whose images are read once, however many ask for them at once.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use longshore_image::{
    BlobOutcome, BlobSource, Descriptor, Digest, Image, ImageStore, Manifest, Platform, Reference, StoreError,
};

type Slot = Arc<Mutex<Option<Option<Image>>>>;

/// A place whose images are read once.
pub(crate) struct Remembered {
    place: Arc<dyn ImageStore>,
    images: Mutex<HashMap<String, Slot>>,
}

impl Remembered {
    /// The place, of which nothing is known yet.
    pub(crate) fn new(place: Arc<dyn ImageStore>) -> Self {
        Self { place, images: Mutex::default() }
    }
}

impl ImageStore for Remembered {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        let slot = {
            let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(images.entry(format!("{reference} {platform}")).or_default())
        };
        // Held while the place is asked: the others wait for the answer. A failure is not remembered.
        let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(image) => Ok(image.clone()),
            None => Ok(known.insert(self.place.resolve(reference, platform)?).clone()),
        }
    }

    fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, StoreError> {
        self.place.manifest(reference)
    }

    fn digest_of(&self, reference: &Reference) -> Result<Option<Digest>, StoreError> {
        self.place.digest_of(reference)
    }

    fn child(&self, reference: &Reference, child: &Descriptor) -> Result<Manifest, StoreError> {
        self.place.child(reference, child)
    }

    fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, StoreError> {
        self.place.has_blob(reference, digest)
    }

    fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        self.place.open_blob(reference, blob)
    }

    fn open_blob_from(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        self.place.open_blob_from(reference, blob, offset)
    }

    fn write_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        self.place.write_blob(reference, blob, source, mount_from)
    }

    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.place.put_manifest(reference, manifest)
    }
}
