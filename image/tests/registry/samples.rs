//! Images and clients for these tests.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use longshore_image::registry::{RetryPolicy, Timeouts};
use longshore_image::{
    BlobOutcome, BlobSource, Config, Descriptor, DiffId, Digest, Image, ImageManifest, ImageStore, Keychain,
    LayerFormat, Manifest, ManifestFormat, MediaType, Platform, Reference, Registry, RegistryConfig,
};

/// A client that does not wait long.
pub(crate) fn registry(keychain: Keychain) -> Registry {
    registry_with(keychain, |_| {})
}

pub(crate) fn registry_with(keychain: Keychain, change: impl FnOnce(&mut RegistryConfig)) -> Registry {
    let mut config = RegistryConfig::new(keychain);
    config.retry = RetryPolicy {
        first_wait: Duration::from_millis(2),
        longest_wait: Duration::from_millis(20),
        ..RetryPolicy::default()
    };
    config.timeouts = Timeouts { stall: Duration::from_secs(5), ..Timeouts::default() };
    change(&mut config);
    Registry::new(config).unwrap()
}

/// A keychain as `CNB_REGISTRY_AUTH` gives it.
pub(crate) fn keychain(host: &str, header: &str) -> Keychain {
    let json = format!(r#"{{"{host}": "{header}"}}"#);
    Keychain::from_variables(|name| (name == "CNB_REGISTRY_AUTH").then(|| json.clone().into())).unwrap()
}

/// Bytes that no compression makes small, the same for the same seed.
pub(crate) fn bytes(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&next());
    }
    bytes.truncate(length);
    bytes.into()
}

/// An image of one layer whose bytes are not a tar: registries do not look inside.
pub(crate) struct Sample {
    pub(crate) layer: Bytes,
    pub(crate) config: Bytes,
    pub(crate) manifest: Manifest,
}

impl Sample {
    pub(crate) fn new(seed: u64, length: usize) -> Self {
        Self::of(bytes(seed, length), ManifestFormat::Oci)
    }

    pub(crate) fn of(layer: Bytes, format: ManifestFormat) -> Self {
        let mut config = Config::new(&Platform::host());
        config.set_diff_ids(&[DiffId::of(&layer)]);
        let config = config.to_bytes();
        let descriptor =
            |media_type, bytes: &Bytes| Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
        let layers = vec![descriptor(MediaType::Layer(format, LayerFormat::Tar), &layer)];
        let manifest = ImageManifest::new(format, descriptor(MediaType::Config(format), &config), layers);
        Self { layer, config, manifest: Manifest::image(manifest) }
    }

    pub(crate) fn layer_descriptor(&self) -> Descriptor {
        self.manifest.as_image().unwrap().layers[0].clone()
    }

    /// Pushes layer, configuration and manifest; what it took to push the layer.
    pub(crate) fn push(
        &self,
        registry: &Registry,
        reference: &Reference,
    ) -> Result<BlobOutcome, longshore_image::StoreError> {
        let image = self.manifest.as_image().unwrap();
        let source = BlobSource::Bytes(self.layer.clone());
        let outcome = registry.write_blob(reference, &image.layers[0], &source, None)?;
        registry.write_blob(reference, &image.config, &BlobSource::Bytes(self.config.clone()), None)?;
        registry.put_manifest(reference, &self.manifest)?;
        Ok(outcome)
    }
}

/// The image of that name and the bytes of its only layer.
pub(crate) fn pull(registry: &Registry, reference: &Reference) -> (Image, Vec<u8>) {
    let image = registry.resolve(reference, &Platform::host()).unwrap().expect("the image is there");
    let layer = image.manifest.as_image().unwrap().layers[0].clone();
    let bytes = read(registry, reference, &layer).unwrap();
    (image, bytes)
}

pub(crate) fn read(
    registry: &Registry,
    reference: &Reference,
    blob: &Descriptor,
) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    registry.open_blob(reference, blob).unwrap().read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn reference(host: &str, name: &str) -> Reference {
    format!("{host}/{name}").parse().unwrap()
}

/// An error with all its causes, as the program prints it.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
