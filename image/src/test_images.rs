//! Small images for the tests of stores.

use crate::layer::{self, Entry};
use crate::{
    BlobOutcome, BlobSource, Config, Descriptor, Digest, ImageManifest, ImageStore, LayerFormat, LayerSource,
    LocalStore, Manifest, ManifestFormat, MediaType, Platform, Reference,
};

pub(crate) fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Puts an image with one layer into a store, and gives its manifest.
pub(crate) fn put(store: &LocalStore, name: &str, text: &str) -> Manifest {
    put_as(store, name, text, LayerFormat::TarZstd)
}

pub(crate) fn put_as(store: &LocalStore, name: &str, text: &str, format: LayerFormat) -> Manifest {
    let name = reference(name);
    let source = LayerSource::entries(vec![Entry::file("/text", 0o644, text.to_owned())]);
    let layer = layer::build(&source, format, ManifestFormat::Oci, &store.sink()).unwrap();
    let mut config = Config::new(&Platform::host());
    config.set_diff_ids(&[layer.diff_id]);
    config.set_label("text", text);
    let bytes = config.to_bytes();
    let blob =
        Descriptor::new(MediaType::Config(ManifestFormat::Oci), Digest::of(&bytes), bytes.len() as u64);
    let from_file = BlobSource::File(layer.path.clone());
    let present = store.write_blob(&name, &layer.descriptor, &from_file, None).unwrap();
    assert_eq!(present, BlobOutcome::Present);
    store.write_blob(&name, &blob, &BlobSource::Bytes(bytes), None).unwrap();
    let manifest = Manifest::image(ImageManifest::new(ManifestFormat::Oci, blob, vec![layer.descriptor]));
    store.put_manifest(&name, &manifest).unwrap();
    manifest
}

pub(crate) fn text_of(store: &dyn ImageStore, name: &str) -> Option<String> {
    let image = store.resolve(&reference(name), &Platform::host()).unwrap()?;
    image.config.label("text").map(str::to_owned)
}
