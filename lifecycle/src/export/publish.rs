//! Puts the app image where it goes: blobs, configuration, manifest, and only then its names.

use std::sync::Arc;

use bytes::Bytes;
use longshore_image::{
    BlobOpener, BlobSource, Descriptor, Digest, Image, ImageManifest, Manifest, ManifestFormat, MediaType,
    Reference,
};
use rayon::prelude::*;

use super::made::{Blob, Made};
use super::{Base, ExportError, ExportInput};
use crate::image_layers;

/// A blob that the image needs.
struct Upload {
    descriptor: Descriptor,
    source: BlobSource,
    mount_from: Option<Reference>,
}

/// Makes the manifest and publishes everything under all names.
pub(super) fn publish(
    input: &ExportInput<'_>,
    names: &[Reference],
    base: &Base,
    previous: Option<&(Reference, Image)>,
    family: ManifestFormat,
    made: &[Made],
    config: Bytes,
) -> Result<Manifest, ExportError> {
    let config_descriptor =
        Descriptor::new(MediaType::Config(family), Digest::of(&config), config.len() as u64);
    let base_layers = base.layers().into_iter().map(|(_, blob)| image_layers::in_family(blob, family));
    let layers = base_layers.clone().chain(made.iter().map(|layer| layer.descriptor.clone()));
    let manifest = Manifest::image(ImageManifest::new(family, config_descriptor.clone(), layers.collect()));

    // No name, no image: `names` is never empty.
    let Some(first) = names.first() else { return Err(ExportError::NoImage) };
    let mut uploads: Vec<Upload> = base_layers.map(|blob| base_upload(input, first, base, blob)).collect();
    uploads.extend(made.iter().map(|layer| made_upload(input, layer, previous)));
    uploads.push(Upload {
        descriptor: config_descriptor,
        source: BlobSource::Bytes(config),
        mount_from: None,
    });
    let mut done: Vec<&Reference> = Vec::new();
    for name in names {
        if points_to(input, name, &manifest)? {
            tracing::debug!("{name} is {} already", manifest.digest());
            continue;
        }
        // Names may be of several repositories of the registry; blobs are needed once in each.
        if !done.iter().any(|known| known.same_repository(name)) {
            upload(input, name, first, &uploads)?;
            done.push(name);
        }
    }
    for name in names {
        if !points_to(input, name, &manifest)? {
            input.target.put_manifest(name, &manifest).map_err(ExportError::store("write", name))?;
        }
    }
    Ok(manifest)
}

/// Whether a name is the image already: then nothing is to be done for it.
fn points_to(input: &ExportInput<'_>, name: &Reference, manifest: &Manifest) -> Result<bool, ExportError> {
    let found = input.target.resolve(name, &input.platform);
    let found = found.map_err(ExportError::store("read", name))?;
    Ok(found.is_some_and(|image| image.index.is_none() && image.manifest.digest() == manifest.digest()))
}

fn upload(
    input: &ExportInput<'_>,
    name: &Reference,
    first: &Reference,
    uploads: &[Upload],
) -> Result<(), ExportError> {
    uploads.par_iter().try_for_each(|upload| {
        let mount_from = if name.same_repository(first) { upload.mount_from.as_ref() } else { Some(first) };
        let outcome = input.target.write_blob(name, &upload.descriptor, &upload.source, mount_from);
        let outcome = outcome.map_err(ExportError::store("write a blob of", name))?;
        tracing::debug!("blob {}: {outcome:?}", upload.descriptor.digest);
        Ok(())
    })
}

fn base_upload(input: &ExportInput<'_>, name: &Reference, base: &Base, blob: Descriptor) -> Upload {
    let same_place = Arc::ptr_eq(&input.target, &input.run_images);
    let mount = same_place && base.reference.registry() == name.registry();
    Upload {
        source: BlobSource::Lazy(BlobOpener::of(
            Arc::clone(&input.run_images),
            base.reference.clone(),
            blob.clone(),
        )),
        descriptor: blob,
        mount_from: mount.then(|| base.reference.clone()),
    }
}

fn made_upload(input: &ExportInput<'_>, layer: &Made, previous: Option<&(Reference, Image)>) -> Upload {
    let descriptor = layer.descriptor.clone();
    match (&layer.blob, previous) {
        (Blob::Previous, Some((reference, _))) => Upload {
            source: BlobSource::Lazy(BlobOpener::of(
                Arc::clone(&input.target),
                reference.clone(),
                descriptor.clone(),
            )),
            descriptor,
            mount_from: Some(reference.clone()),
        },
        (Blob::Previous, None) => {
            Upload { source: BlobSource::Bytes(Bytes::new()), descriptor, mount_from: None }
        }
        (Blob::File(path), _) => {
            Upload { source: BlobSource::File(path.clone()), descriptor, mount_from: None }
        }
    }
}
