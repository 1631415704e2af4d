//! The run image's layers, which are asked for and mounted while the app's own layers are being made: neither waits for
//! the other.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use longshore_image::convert::{self, ImageLayer};
use longshore_image::{BlobOpener, BlobSource, Digest, Image, Reference};

use super::ExportInput;
use super::base::Base;
use super::form::Form;
use crate::publish::{self, Upload};

/// Blobs that the repository of a name has got already.
pub(super) struct Ahead<'a> {
    name: &'a Reference,
    blobs: HashSet<Digest>,
}

impl Ahead<'_> {
    /// Says of a blob where it is, if it is one of these.
    pub(super) fn mark(&self, upload: Upload) -> Upload {
        if self.blobs.contains(&upload.digest()) { upload.held_by(self.name) } else { upload }
    }
}

/// Makes layers, and meanwhile puts those of the run image into the repository of `name`. When the layers cannot be made,
/// no more blobs are begun.
pub(super) fn while_making<'a, T, E>(
    input: &ExportInput<'_>,
    (base, previous): (&Base, Option<&Image>),
    form: Form,
    name: &'a Reference,
    make: impl FnOnce() -> Result<T, E>,
) -> Result<(T, Ahead<'a>), E> {
    // Elsewhere a blob that nothing points to would stay.
    let uploads =
        if input.target.checks_manifests() { uploads(input, base, previous, form) } else { Vec::new() };
    if uploads.is_empty() {
        return Ok((make()?, Ahead { name, blobs: HashSet::new() }));
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| publish::ahead(&input.target, name, &uploads, &is_over));
        let made = make().inspect_err(|_| is_over.store(true, Ordering::Relaxed))?;
        Ok((made, Ahead { name, blobs: sending.join().unwrap_or_default() }))
    })
}

/// The layers that the app image takes as they are, without those that its previous image has.
fn uploads(input: &ExportInput<'_>, base: &Base, previous: Option<&Image>, form: Form) -> Vec<Upload> {
    let layers = base.layers().into_iter().filter(|(_, descriptor)| {
        let format = convert::wanted_format(descriptor, form.existing, form.family);
        format.is_none_or(|format| convert::format_of(&descriptor.media_type) == Some(format))
    });
    let uploads = layers.map(|(diff_id, descriptor)| {
        let (store, reference) = (input.run_images.clone(), base.reference.clone());
        let opener = BlobOpener::of(store, reference.clone(), descriptor.clone());
        let descriptor = convert::in_family(descriptor, form.family);
        let layer = ImageLayer { diff_id, descriptor, source: BlobSource::Lazy(opener) };
        Upload::layer(layer, Some(reference))
    });
    uploads.filter(|upload| previous.is_none_or(|image| upload.is_new_to(&image.manifest))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Sender};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use longshore_image::{BlobOutcome, Descriptor, ImageStore, LocalStore, Manifest, Platform, StoreError};

    use super::*;
    use crate::export::ExportError;
    use crate::export::tests::Fixture;

    /// A place like a registry, which says when a blob comes.
    #[derive(Debug)]
    struct Place {
        store: Arc<LocalStore>,
        comes: Mutex<Sender<Digest>>,
        is_full: bool,
    }

    impl ImageStore for Place {
        fn resolve(&self, name: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
            self.store.resolve(name, platform)
        }
        fn manifest(&self, name: &Reference) -> Result<Option<Manifest>, StoreError> {
            ImageStore::manifest(&*self.store, name)
        }
        fn checks_manifests(&self) -> bool {
            true
        }
        fn has_blob(&self, name: &Reference, digest: Digest) -> Result<bool, StoreError> {
            self.store.has_blob(name, digest)
        }
        fn open_blob(
            &self,
            name: &Reference,
            blob: &Descriptor,
        ) -> Result<Box<dyn std::io::Read + Send>, StoreError> {
            self.store.open_blob(name, blob)
        }
        fn write_blob(
            &self,
            name: &Reference,
            blob: &Descriptor,
            source: &BlobSource,
            from: Option<&Reference>,
        ) -> Result<BlobOutcome, StoreError> {
            self.comes.lock().unwrap().send(blob.digest).unwrap();
            if self.is_full {
                return Err(StoreError::ReadOnly { place: name.familiar() });
            }
            self.store.write_blob(name, blob, source, from)
        }
        fn put_manifest(&self, name: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
            self.store.put_manifest(name, manifest)
        }
    }

    /// Those of the run image were asked for when the last of the app's own had been compressed.
    #[test]
    fn layers_of_the_run_image_are_put_while_others_are_made() {
        let fixture = Fixture::new();
        let images = ["app:1".to_owned()];
        for is_full in [false, true] {
            let (comes, came) = mpsc::channel();
            let place = Place { store: fixture.store.clone(), comes: Mutex::new(comes), is_full };
            let input = ExportInput { target: Arc::new(place), ..fixture.input(&images) };
            let base = Base::resolve(&input).unwrap();
            let form = Form::of(None, None, &base).unwrap();
            let name: Reference = images[0].parse().unwrap();
            let layer = base.layers()[0].1.digest;
            let make = || {
                assert_eq!(came.recv_timeout(Duration::from_secs(30)), Ok(layer));
                Ok::<_, ExportError>(())
            };
            let ((), ahead) = while_making(&input, (&base, None), form, &name, make).unwrap();
            // What failed is for whoever publishes the image.
            assert_eq!(ahead.blobs.contains(&layer), !is_full);
            // An image that has them has them still.
            let make = || Ok::<_, ExportError>(());
            let ((), ahead) = while_making(&input, (&base, Some(&base.image)), form, &name, make).unwrap();
            assert!(ahead.blobs.is_empty() && came.try_recv().is_err());
        }
    }
}
