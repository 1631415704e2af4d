//! An image that is being put together: a configuration, and layers that are partly somewhere else.

use std::sync::Arc;

use anyhow::{Context, ensure};
use longshore_image::{
    BlobOpener, BlobSource, Config, Descriptor, DiffId, Digest, History, ImageManifest, ImageStore, Layer,
    LayerFormat, Manifest, ManifestFormat, MediaType, Reference, Timestamp,
};

use super::FoundImage;

/// An image that is being put together.
pub(crate) struct NewImage {
    /// Its configuration, without layers and history, which are added with the layers.
    pub(crate) config: Config,
    layers: Vec<(Descriptor, DiffId, BlobSource)>,
    history: Vec<History>,
    base: Option<Reference>,
    created: Timestamp,
}

impl NewImage {
    /// An image without layers.
    pub(crate) fn new(config: Config, created: Timestamp) -> Self {
        Self { config, layers: Vec::new(), history: Vec::new(), base: None, created }
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
        let diff_ids: Vec<_> = self.layers.iter().map(|(_, diff_id, _)| *diff_id).collect();
        self.config.set_diff_ids(&diff_ids);
        self.config.set_history(&self.history);
        self.config.set_created(self.created);
        let bytes = self.config.to_bytes();
        let media_type = MediaType::Config(ManifestFormat::Oci);
        let config = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        let mount_from = self.base.as_ref().filter(|base| base.registry() == reference.registry());
        for (descriptor, _, source) in &self.layers {
            store
                .write_blob(reference, descriptor, source, mount_from)
                .with_context(|| format!("cannot write a layer of `{}`", reference.familiar()))?;
        }
        store.write_blob(reference, &config, &BlobSource::Bytes(bytes), None)?;
        let layers = self.layers.iter().map(|(descriptor, ..)| descriptor.clone()).collect();
        let manifest = Manifest::image(ImageManifest::new(ManifestFormat::Oci, config, layers));
        store
            .put_manifest(reference, &manifest)
            .with_context(|| format!("cannot write the image `{}`", reference.familiar()))?;
        Ok(manifest.digest())
    }
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
