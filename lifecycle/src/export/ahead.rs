//! Blobs that are put where the app image goes while layers are still being made: the run image's, which are asked for and
//! mounted, and small ones as they are done. Large ones are sent while they are made
//! ([`BlobSink::followed_by`](longshore_image::BlobSink::followed_by)).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use longshore_image::convert::{self, ImageLayer};
use longshore_image::{BlobOpener, BlobSource, Descriptor, Digest, Image, Reference};

use super::ExportInput;
use super::base::Base;
use super::form::Form;
use super::made::{Blob, Made};
use crate::publish::{self, Upload};

/// The largest layer that is put ahead, in bytes: whoever publishes the image waits for it, on any line for a moment only.
const SMALL: u64 = 1 << 20;

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

/// Takes layers that were made, from any thread.
pub(super) type Take<'a> = dyn Fn(&Made) + Sync + 'a;

/// Makes layers, and meanwhile puts those of the run image, and the small ones that `make` tells of, into the repository of
/// `name`. When the layers cannot be made, no more blobs are begun.
pub(super) fn while_making<'a, T, E>(
    input: &ExportInput<'_>,
    (base, previous): (&Base, Option<&Image>),
    form: Form,
    name: &'a Reference,
    make: impl FnOnce(&Take<'_>) -> Result<T, E>,
) -> Result<(T, Ahead<'a>), E> {
    // Elsewhere a blob that nothing points to would stay.
    if !input.target.checks_manifests() {
        return Ok((make(&|_| ())?, Ahead { name, blobs: HashSet::new() }));
    }
    let is_new = |upload: &Upload| previous.is_none_or(|image| upload.is_new_to(&image.manifest));
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let (sender, uploads) = mpsc::channel();
        let send = |upload: Option<Upload>| {
            if let Some(upload) = upload.filter(is_new) {
                // Nobody takes it any more when another has failed: it is left to whoever publishes the image.
                let _ = sender.send(upload);
            }
        };
        let sending = scope.spawn(|| publish::ahead(&input.target, name, uploads, is_over));
        of_run_image(input, base, form).for_each(|upload| send(Some(upload)));
        let made = make(&|layer| send(small(layer, form)))
            .inspect_err(|_| is_over.store(true, Ordering::Relaxed))?;
        drop(sender);
        Ok((made, Ahead { name, blobs: sending.join().unwrap_or_default() }))
    })
}

/// Whether the blob goes into the image as it is.
fn stays(descriptor: &Descriptor, form: Form) -> bool {
    let format = convert::wanted_format(descriptor, form.existing, form.family);
    format.is_none_or(|format| convert::format_of(&descriptor.media_type) == Some(format))
}

/// The layers of the run image that the app image takes as they are.
fn of_run_image(input: &ExportInput<'_>, base: &Base, form: Form) -> impl Iterator<Item = Upload> {
    let layers = base.layers().into_iter().filter(move |(_, descriptor)| stays(descriptor, form));
    layers.map(move |(diff_id, descriptor)| {
        let (store, reference) = (input.run_images.clone(), base.reference.clone());
        let opener = BlobOpener::of(store, reference.clone(), descriptor.clone());
        let descriptor = convert::in_family(descriptor, form.family);
        let layer = ImageLayer { diff_id, descriptor, source: BlobSource::Lazy(opener) };
        Upload::layer(layer, Some(reference))
    })
}

/// A layer that was made, if it is small.
fn small(made: &Made, form: Form) -> Option<Upload> {
    let Blob::File(path) = &made.blob else { return None };
    (made.descriptor.size <= SMALL && stays(&made.descriptor, form)).then(|| {
        let descriptor = convert::in_family(made.descriptor.clone(), form.family);
        let source = BlobSource::File(path.clone());
        Upload::layer(ImageLayer { diff_id: made.diff_id, descriptor, source }, None)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use longshore_image::{
        BlobOutcome, BlobSink, DiffId, ImageStore, LayerFormat, LocalStore, Manifest, ManifestFormat,
        MediaType, Platform, StoreError,
    };

    use super::*;
    use crate::export::ExportError;
    use crate::export::plan::Role;
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

    /// A fixture whose images go to such a place, and what comes there.
    struct Tried {
        fixture: Fixture,
        comes: Sender<Digest>,
        came: Receiver<Digest>,
    }

    impl Tried {
        fn new() -> Self {
            let (comes, came) = mpsc::channel();
            Self { fixture: Fixture::new(), comes, came }
        }

        fn input<'a>(&'a self, images: &'a [String], is_full: bool) -> ExportInput<'a> {
            let (store, comes) = (self.fixture.store.clone(), Mutex::new(self.comes.clone()));
            ExportInput { target: Arc::new(Place { store, comes, is_full }), ..self.fixture.input(images) }
        }

        fn next(&self) -> Digest {
            self.came.recv_timeout(Duration::from_secs(30)).unwrap()
        }
    }

    /// A layer of these bytes, which was made.
    fn made(sink: &BlobSink, bytes: &[u8]) -> Made {
        let digest = Digest::of(bytes);
        std::fs::write(sink.path(digest), bytes).unwrap();
        let media_type = MediaType::Layer(ManifestFormat::Oci, LayerFormat::TarZstd);
        Made {
            identifier: "acme/web:deps".to_owned(),
            created_by: String::new(),
            role: Role::Config,
            diff_id: DiffId::of(bytes),
            descriptor: Descriptor::new(media_type, digest, bytes.len() as u64),
            blob: Blob::File(sink.path(digest)),
            is_unread: false,
            tar: None,
            origin: None,
        }
    }

    /// Those of the run image were asked for when the last of the app's own had been compressed.
    #[test]
    fn layers_of_the_run_image_are_put_while_others_are_made() {
        let tried = Tried::new();
        let images = ["app:1".to_owned()];
        for is_full in [false, true] {
            let input = tried.input(&images, is_full);
            let base = Base::resolve(&input).unwrap();
            let form = Form::of(None, None, &base).unwrap();
            let name: Reference = images[0].parse().unwrap();
            let layer = base.layers()[0].1.digest;
            let make = |_: &Take<'_>| {
                assert_eq!(tried.next(), layer);
                Ok::<_, ExportError>(())
            };
            let ((), ahead) = while_making(&input, (&base, None), form, &name, make).unwrap();
            // What failed is for whoever publishes the image.
            assert_eq!(ahead.blobs.contains(&layer), !is_full);
            // An image that has them has them still.
            let make = |_: &Take<'_>| Ok::<_, ExportError>(());
            let ((), ahead) = while_making(&input, (&base, Some(&base.image)), form, &name, make).unwrap();
            assert!(ahead.blobs.is_empty() && tried.came.try_recv().is_err());
        }
    }

    /// They were all sent after the largest, to a registry that was busy with its disk.
    #[test]
    fn small_layers_are_put_while_others_are_made() {
        let tried = Tried::new();
        let images = ["app:1".to_owned()];
        let input = tried.input(&images, false);
        let base = Base::resolve(&input).unwrap();
        let form = Form::of(Some(LayerFormat::TarZstd.into()), None, &base).unwrap();
        let name: Reference = images[0].parse().unwrap();
        let (small, large) = (made(&input.sink, b"small"), made(&input.sink, &vec![0; SMALL as usize + 1]));
        let reused = Made { blob: Blob::Previous, ..made(&input.sink, b"reused") };
        let make = |take: &Take<'_>| {
            for layer in [&large, &reused, &small] {
                take(layer);
            }
            // That of the run image has been there since before.
            assert_eq!(tried.next(), small.descriptor.digest);
            Ok::<_, ExportError>(())
        };
        let ((), ahead) = while_making(&input, (&base, Some(&base.image)), form, &name, make).unwrap();
        assert_eq!(ahead.blobs, HashSet::from([small.descriptor.digest]));
        assert!(tried.came.try_recv().is_err());
    }

    /// A thread that waits for more layers would keep the failed build from its end.
    #[test]
    fn a_build_that_fails_leaves_nobody_waiting() {
        let tried = Tried::new();
        let images = ["app:1".to_owned()];
        let input = tried.input(&images, false);
        let base = Base::resolve(&input).unwrap();
        let form = Form::of(None, None, &base).unwrap();
        let name: Reference = images[0].parse().unwrap();
        let make = |_: &Take<'_>| Err::<(), _>(ExportError::NoImage);
        let failed = while_making(&input, (&base, Some(&base.image)), form, &name, make);
        assert!(matches!(failed, Err(ExportError::NoImage)) && tried.came.try_recv().is_err());
    }
}
