//! An image that is being put together: a configuration, and layers that are partly somewhere else.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, ensure};
use longshore_image::convert::{self, Compression, ConvertError, ImageLayer, image_index};
use longshore_image::{
    BlobOpener, BlobSink, BlobSource, Bytes, Config, Descriptor, DiffId, Digest, History, ImageManifest,
    ImageStore, Layer, LayerFormat, LayerFormats, Manifest, ManifestChoice, ManifestFormat, MediaType,
    Reference, StoreError, Timestamp,
};

use super::FoundImage;

/// A layer: its blob, its DiffID, and where its bytes are.
type NewLayer = (Descriptor, DiffId, BlobSource);

/// One manifest of the image, and what it needs.
struct Variant {
    manifest: Manifest,
    blobs: Vec<(Descriptor, BlobSource)>,
}

/// An image that is being put together.
pub(crate) struct NewImage {
    /// Its configuration, without layers and history, which are added with the layers.
    pub(crate) config: Config,
    layers: Vec<NewLayer>,
    history: Vec<History>,
    base: Option<Reference>,
    /// How many of the layers are the base's.
    base_layers: usize,
    created: Timestamp,
}

impl NewImage {
    /// An image without layers.
    pub(crate) fn new(config: Config, created: Timestamp) -> Self {
        Self { config, layers: Vec::new(), history: Vec::new(), base: None, base_layers: 0, created }
    }

    /// An image that begins with the layers and configuration of another.
    ///
    /// # Errors
    /// When the other image contradicts itself.
    pub(crate) fn on(base: &FoundImage, created: Timestamp) -> anyhow::Result<Self> {
        let FoundImage { image, store, .. } = base;
        let name = image.reference.familiar();
        let manifest =
            image.manifest.as_image().with_context(|| format!("`{name}` is an index, not an image"))?;
        let diff_ids = image.config.diff_ids();
        ensure!(
            diff_ids.len() == manifest.layers.len(),
            "`{name}` has {} layers, but its configuration names {}",
            manifest.layers.len(),
            diff_ids.len()
        );
        let layers = manifest.layers.iter().zip(diff_ids).map(|(descriptor, diff_id)| {
            let opener = BlobOpener::of(Arc::clone(store), image.reference.clone(), descriptor.clone());
            (oci_layer(descriptor), diff_id, BlobSource::Lazy(opener))
        });
        Ok(Self {
            config: image.config.clone(),
            layers: layers.collect(),
            history: image.config.history(),
            base: Some(image.reference.clone()),
            base_layers: manifest.layers.len(),
            created,
        })
    }

    /// Adds a layer on top.
    pub(crate) fn add(&mut self, layer: &Layer, created_by: &str) {
        let source = BlobSource::File(layer.path.clone());
        self.layers.push((layer.descriptor.clone(), layer.diff_id, source));
        self.history.push(History::new(self.created, created_by));
    }

    /// Writes the layers, the configuration and the manifest, which then has the name; the digest of the manifest.
    ///
    /// # Errors
    /// When a layer cannot be read, or the place cannot be written. The name is then what it was.
    pub(crate) fn put(&mut self, store: &dyn ImageStore, reference: &Reference) -> anyhow::Result<Digest> {
        let config = self.finished_config();
        let image = self.variant(&config, ManifestFormat::Oci, self.layers.clone());
        self.write(store, reference, &[image], None)
    }

    /// Writes the image in a form: the base's layers stay what they are where every client reads them. What the name
    /// points to then.
    ///
    /// # Errors
    /// As [`NewImage::put`], and when a layer cannot be converted or a manifest cannot have the form.
    pub(crate) fn put_as(
        &mut self,
        store: &dyn ImageStore,
        reference: &Reference,
        (layers, manifest): (LayerFormats, ManifestChoice),
        sink: &BlobSink,
    ) -> anyhow::Result<Manifest> {
        match self.put_family(store, reference, layers, manifest.family(), sink) {
            Err(error) if manifest == ManifestChoice::Auto && is_rejected(&error) => {
                tracing::warn!(
                    "'{}' cannot be written with OCI media types; using Docker's",
                    reference.familiar()
                );
                let layers = layers.in_docker().into();
                self.put_family(store, reference, layers, ManifestFormat::Docker, sink)
            }
            other => other,
        }
    }

    fn put_family(
        &mut self,
        store: &dyn ImageStore,
        reference: &Reference,
        layers: LayerFormats,
        family: ManifestFormat,
        sink: &BlobSink,
    ) -> anyhow::Result<Manifest> {
        if !layers.fits(family) {
            return Err(ConvertError::ZstdInDocker { formats: layers }.into());
        }
        let config = self.finished_config();
        let formats = match layers {
            LayerFormats::One(format) => vec![format],
            LayerFormats::Dual => vec![LayerFormat::TarGzip, LayerFormat::TarZstd],
        };
        let mut images = Vec::new();
        for format in formats {
            let layers = self.converted(format, family, sink)?;
            images.push(self.variant(&config, family, layers));
        }
        let index = (images.len() > 1).then(|| {
            let platform = self.config.platform();
            let parts: Vec<_> = images.iter().map(|image| (platform.clone(), &image.manifest)).collect();
            Manifest::index(image_index(&parts, family))
        });
        self.write(store, reference, &images, index.as_ref())?;
        Ok(index.unwrap_or_else(|| images.swap_remove(0).manifest))
    }

    fn finished_config(&mut self) -> Bytes {
        let diff_ids: Vec<_> = self.layers.iter().map(|(_, diff_id, _)| *diff_id).collect();
        self.config.set_diff_ids(&diff_ids);
        self.config.set_history(&self.history);
        self.config.set_created(self.created);
        self.config.to_bytes()
    }

    /// All layers as they are needed where the new ones have a format.
    fn converted(
        &self,
        format: LayerFormat,
        family: ManifestFormat,
        sink: &BlobSink,
    ) -> anyhow::Result<Vec<NewLayer>> {
        let of_base = match format {
            LayerFormat::TarZstd => Compression::Kept,
            other => Compression::WithoutZstd(other),
        };
        let convert = |(position, (descriptor, diff_id, source)): (usize, &NewLayer)| {
            let compression = if position < self.base_layers { of_base } else { Compression::All(format) };
            let layer =
                ImageLayer { diff_id: *diff_id, descriptor: descriptor.clone(), source: source.clone() };
            let layer = convert::layer(layer, compression, family, sink)?;
            Ok((layer.descriptor, layer.diff_id, layer.source))
        };
        self.layers.iter().enumerate().map(convert).collect()
    }

    fn variant(&self, config: &Bytes, family: ManifestFormat, layers: Vec<NewLayer>) -> Variant {
        let media_type = MediaType::Config(family);
        let descriptor = Descriptor::new(media_type, Digest::of(config), config.len() as u64);
        let descriptors = layers.iter().map(|(descriptor, ..)| descriptor.clone()).collect();
        let manifest = Manifest::image(ImageManifest::new(family, descriptor.clone(), descriptors));
        let blobs = layers.into_iter().map(|(descriptor, _, source)| (descriptor, source));
        let config = (descriptor, BlobSource::Bytes(config.clone()));
        Variant { manifest, blobs: blobs.chain([config]).collect() }
    }

    /// Blobs first, then the manifests of an index, then the name.
    fn write(
        &self,
        store: &dyn ImageStore,
        reference: &Reference,
        images: &[Variant],
        index: Option<&Manifest>,
    ) -> anyhow::Result<Digest> {
        let mount_from = self.base.as_ref().filter(|base| base.registry() == reference.registry());
        let mut written = BTreeSet::new();
        for (position, (descriptor, source)) in images.iter().flat_map(|image| image.blobs.iter().enumerate())
        {
            if written.insert(descriptor.digest) {
                let mount_from = mount_from.filter(|_| position < self.base_layers);
                store
                    .write_blob(reference, descriptor, source, mount_from)
                    .with_context(|| format!("cannot write a blob of `{}`", reference.familiar()))?;
            }
        }
        let failed = || format!("cannot write the image `{}`", reference.familiar());
        let root = match (index, images) {
            (None, [only]) => &only.manifest,
            (index, images) => {
                for image in images {
                    store.put_child(reference, &image.manifest).with_context(failed)?;
                }
                index.with_context(|| format!("`{}` has no index", reference.familiar()))?
            }
        };
        store.put_manifest(reference, root).with_context(failed)?;
        Ok(root.digest())
    }
}

fn is_rejected(error: &anyhow::Error) -> bool {
    error.downcast_ref::<StoreError>().is_some_and(StoreError::is_rejected_manifest)
}

/// The same blob under OCI's media type: a manifest never mixes families.
fn oci_layer(descriptor: &Descriptor) -> Descriptor {
    let media_type = match &descriptor.media_type {
        MediaType::Layer(_, format) => MediaType::Layer(ManifestFormat::Oci, *format),
        other if other.as_str().ends_with("gzip") => {
            MediaType::Layer(ManifestFormat::Oci, LayerFormat::TarGzip)
        }
        other => other.clone(),
    };
    Descriptor { media_type, ..descriptor.clone() }
}
