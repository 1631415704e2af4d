//! A cache in an image: the cached layers are its layers, the metadata a label.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use longshore_cnb::go_json;
use longshore_cnb::lifecycle_metadata::{CACHE_METADATA_LABEL, CacheMetadata};
use longshore_image::convert;
use longshore_image::layer::{self, BlobSink, Layer, LayerDigest, LayerSource};
use longshore_image::{
    BlobSource, Config, Descriptor, DiffId, Digest, Image, ImageManifest, ImageStore, LayerFormat, Manifest,
    ManifestFormat, MediaType, Platform, Reference, StoreError,
};

use super::tar::{self, TarUpdate};
use super::{Cache, CacheError, CacheUpdate, KnownLayer, LayerDirectory, Put};
use crate::directory::{MappedDirectory, Owner};
use crate::image_layers;

/// The type of the configuration: a cache is no image to run, and clients that are asked to say so.
const CACHE_CONFIG: &str = "application/vnd.longshore.cache.config.v1+json";
/// The annotation by which containerd and BuildKit tell the DiffID of a layer.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// A cache in an image of a registry, or of any other store.
pub struct ImageCache {
    store: Arc<dyn ImageStore>,
    reference: Reference,
    format: LayerFormat,
    scratch: PathBuf,
    old: Option<Image>,
}

impl ImageCache {
    /// The cache in the image of that name, which need not exist. New layers are written in `format`; their blobs lie in
    /// the directory `scratch` until they are in the store.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub fn open(
        store: Arc<dyn ImageStore>,
        reference: Reference,
        format: LayerFormat,
        scratch: PathBuf,
    ) -> Result<Self, CacheError> {
        let old = store.resolve(&reference, &Platform::host());
        let old = old.map_err(failed(&reference))?;
        Ok(Self { store, reference, format, scratch, old })
    }

    fn failed(&self) -> impl FnOnce(StoreError) -> CacheError + use<> {
        failed(&self.reference)
    }

    fn old_layer(&self, diff_id: DiffId) -> Option<Descriptor> {
        image_layers::find(self.old.as_ref()?, diff_id)
    }

    /// The uncompressed tar of a layer.
    fn open_layer(&self, diff_id: DiffId) -> Result<Box<dyn Read + Send>, CacheError> {
        let missing = || CacheError::Missing { cache: self.name(), diff_id };
        let descriptor = self.old_layer(diff_id).ok_or_else(missing)?;
        let present = self.store.has_blob(&self.reference, descriptor.digest).map_err(self.failed())?;
        if !present {
            return Err(missing());
        }
        let blob = self.store.open_blob(&self.reference, &descriptor).map_err(self.failed())?;
        longshore_image::decompress(blob)
            .map_err(|source| CacheError::File { path: PathBuf::from(self.reference.familiar()), source })
    }
}

fn failed(reference: &Reference) -> impl FnOnce(StoreError) -> CacheError + use<> {
    let reference = reference.familiar();
    move |source| CacheError::Store { reference, source: Box::new(source) }
}

impl Cache for ImageCache {
    fn name(&self) -> String {
        self.reference.familiar()
    }

    fn metadata(&self) -> Result<Option<CacheMetadata>, CacheError> {
        let Some(label) = self.old.as_ref().and_then(|image| image.config.label(CACHE_METADATA_LABEL)) else {
            return Ok(None);
        };
        match serde_json::from_str(label) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) => {
                tracing::warn!(
                    "ignoring the cache: the metadata of `{}` are corrupt: {error}",
                    self.reference.familiar()
                );
                Ok(None)
            }
        }
    }

    fn restore_layer(
        &self,
        diff_id: DiffId,
        directory: &MappedDirectory,
        owner: Option<Owner>,
    ) -> Result<(), CacheError> {
        tar::restore(self.open_layer(diff_id)?, diff_id, directory, owner)
    }

    /// A blob is named by its digest, so what a registry holds under it cannot be replaced; what is missing is noticed
    /// when the layer is to be reused.
    fn discard_layer(&self, _: DiffId) -> Result<(), CacheError> {
        Ok(())
    }

    fn begin(&self) -> Result<Box<dyn CacheUpdate + '_>, CacheError> {
        Ok(Box::new(ImageUpdate { cache: self, layers: Vec::new() }))
    }
}

struct ImageUpdate<'a> {
    cache: &'a ImageCache,
    layers: Vec<(DiffId, Descriptor)>,
}

impl ImageUpdate<'_> {
    fn has(&self, diff_id: DiffId) -> bool {
        self.layers.iter().any(|(known, _)| *known == diff_id)
    }

    fn write(&self, blob: &Descriptor, source: &BlobSource) -> Result<(), CacheError> {
        let cache = self.cache;
        cache.store.write_blob(&cache.reference, blob, source, None).map(drop).map_err(cache.failed())
    }

    /// Takes the blob of the app image as it is: mounted where that is on the same registry, else from its file. Whether it
    /// did: uncompressed ones, as daemons have them, are compressed for a cache.
    fn share(&mut self, known: &KnownLayer) -> bool {
        let cache = self.cache;
        let Some(blob) = &known.blob else { return false };
        let format = convert::format_of(&blob.descriptor.media_type);
        if format.is_none_or(|format| format == LayerFormat::Tar && cache.format != format) {
            return false;
        }
        let descriptor = convert::in_family(blob.descriptor.clone(), ManifestFormat::Oci);
        let mount_from = blob.mount_from.as_ref();
        if let Err(error) = cache.store.write_blob(&cache.reference, &descriptor, &blob.source, mount_from) {
            tracing::debug!("the layer {} is made again: {error}", known.digest.diff_id);
            return false;
        }
        self.layers.push((known.digest.diff_id, descriptor));
        true
    }

    /// Registries and clients dislike images without layers; the reference lifecycle adds the tar without entries.
    fn add_empty_layer(&mut self) -> Result<(), CacheError> {
        let tar = vec![0; 1024];
        let media_type = MediaType::Layer(ManifestFormat::Oci, LayerFormat::Tar);
        let descriptor = Descriptor::new(media_type, Digest::of(&tar), tar.len() as u64);
        let diff_id = DiffId::of(&tar);
        self.write(&descriptor, &BlobSource::Bytes(tar.into()))?;
        self.layers.push((diff_id, descriptor));
        Ok(())
    }
}

impl TarUpdate for ImageUpdate<'_> {
    fn reuse_layer(&mut self, diff_id: DiffId, _: u64) -> Result<bool, CacheError> {
        if self.has(diff_id) {
            return Ok(true);
        }
        let Some(descriptor) = self.cache.old_layer(diff_id) else { return Ok(false) };
        let cache = self.cache;
        if !cache.store.has_blob(&cache.reference, descriptor.digest).map_err(cache.failed())? {
            return Ok(false);
        }
        self.layers.push((diff_id, descriptor));
        Ok(true)
    }

    fn add_layer(&mut self, source: &LayerSource) -> Result<Layer, CacheError> {
        let cache = self.cache;
        let sink = BlobSink::scratch(&cache.scratch).followed_by(cache.store.follower(&cache.reference));
        let layer = layer::build(source, self.cache.format, ManifestFormat::Oci, &sink)?;
        if !self.has(layer.diff_id) {
            self.write(&layer.descriptor, &BlobSource::File(layer.path.clone()))?;
            self.layers.push((layer.diff_id, layer.descriptor.clone()));
        }
        Ok(layer)
    }
}

impl CacheUpdate for ImageUpdate<'_> {
    fn put(&mut self, layer: &LayerDirectory<'_>) -> Result<Put, CacheError> {
        if let Some(known) = layer.known {
            let LayerDigest { diff_id, uncompressed_size } = known.digest;
            if self.reuse_layer(diff_id, uncompressed_size)? {
                return Ok(Put { diff_id, is_new: false });
            }
            if self.share(known) {
                return Ok(Put { diff_id, is_new: true });
            }
        }
        tar::put(self, layer)
    }

    fn commit(mut self: Box<Self>, metadata: &CacheMetadata) -> Result<(), CacheError> {
        if self.layers.is_empty() {
            self.add_empty_layer()?;
        }
        let mut config = Config::new(&Platform::host());
        config.set_label(CACHE_METADATA_LABEL, &go_json::to_string(metadata).map_err(CacheError::Metadata)?);
        config.set_created(crate::default_created());
        config.set_diff_ids(&self.layers.iter().map(|(diff_id, _)| *diff_id).collect::<Vec<_>>());
        let bytes = config.to_bytes();
        let media_type = MediaType::Other(CACHE_CONFIG.to_owned());
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        self.write(&descriptor, &BlobSource::Bytes(bytes))?;
        let layers = self.layers.iter().map(|(diff_id, descriptor)| {
            let mut descriptor = descriptor.clone();
            descriptor.annotations.insert(UNCOMPRESSED.to_owned(), diff_id.to_string());
            descriptor
        });
        let layers = layers.collect();
        let manifest = Manifest::image(ImageManifest::new(ManifestFormat::Oci, descriptor, layers));
        let cache = self.cache;
        cache.store.put_manifest(&cache.reference, &manifest).map_err(cache.failed())
    }
}
