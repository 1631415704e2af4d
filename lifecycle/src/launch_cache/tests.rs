use std::sync::atomic::{AtomicUsize, Ordering};

use longshore_image::layer::{self, BlobSink, Entry, LayerSource};
use longshore_image::{ImageManifest, Layout, LayoutName, ManifestFormat};

use super::*;

/// A layout that counts what a daemon would export an image for.
struct Counting {
    layout: Layout,
    exports: AtomicUsize,
    known: AtomicUsize,
}

impl ImagesById for Counting {
    fn id(&self, reference: &Reference) -> Result<Option<String>, StoreError> {
        let image = self.layout.resolve(reference, &Platform::host())?;
        Ok(image.map(|image| image.config.image_id().to_string()))
    }

    fn know(&self, _: Vec<DiffId>) {
        self.known.fetch_add(1, Ordering::Relaxed);
    }
}

impl ImageStore for Counting {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        self.exports.fetch_add(1, Ordering::Relaxed);
        self.layout.resolve(reference, platform)
    }

    fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, StoreError> {
        self.layout.has_blob(reference, digest)
    }

    fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        self.exports.fetch_add(1, Ordering::Relaxed);
        self.layout.open_blob(reference, blob)
    }

    fn write_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        self.layout.write_blob(reference, blob, source, mount_from)
    }

    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.layout.put_manifest(reference, manifest)
    }
}

struct Fixture {
    root: tempfile::TempDir,
    daemon: Arc<Counting>,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["cache", "scratch"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        let layout = Layout::create(&root.path().join("daemon"), LayoutName::Reference).unwrap();
        let daemon = Counting { layout, exports: AtomicUsize::new(0), known: AtomicUsize::new(0) };
        Self { root, daemon: Arc::new(daemon) }
    }

    fn cache(&self) -> LaunchCache {
        let daemon: Arc<dyn ImagesById> = self.daemon.clone();
        LaunchCache::new(daemon, &self.root.path().join("cache"))
    }

    fn exports(&self) -> usize {
        self.daemon.exports.swap(0, Ordering::Relaxed)
    }

    /// Writes an image with one layer for each text; the descriptors of its layers.
    fn put(&self, store: &dyn ImageStore, name: &str, texts: &[&str]) -> Vec<Descriptor> {
        let reference: Reference = name.parse().unwrap();
        let sink = BlobSink::scratch(self.root.path().join("scratch"));
        let mut config = longshore_image::Config::new(&Platform::host());
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for text in texts {
            let source = LayerSource::entries(vec![Entry::file("/file", 0o644, (*text).to_owned())]);
            let made = layer::build(&source, LayerFormat::Tar, ManifestFormat::Docker, &sink).unwrap();
            store
                .write_blob(&reference, &made.descriptor, &BlobSource::File(made.path.clone()), None)
                .unwrap();
            layers.push(made.descriptor);
            diff_ids.push(made.diff_id);
        }
        config.set_diff_ids(&diff_ids);
        let bytes = config.to_bytes();
        let kind = MediaType::Config(ManifestFormat::Docker);
        let descriptor = Descriptor::new(kind, Digest::of(&bytes), bytes.len() as u64);
        store.write_blob(&reference, &descriptor, &BlobSource::Bytes(bytes), None).unwrap();
        let manifest = ImageManifest::new(ManifestFormat::Docker, descriptor, layers.clone());
        store.put_manifest(&reference, &Manifest::image(manifest)).unwrap();
        layers
    }

    fn text(&self, cache: &LaunchCache, blob: &Descriptor) -> Vec<u8> {
        let mut bytes = Vec::new();
        let reader = cache.open_blob(&"app:1".parse().unwrap(), blob).unwrap();
        { reader }.read_to_end(&mut bytes).unwrap();
        assert_eq!(Digest::of(&bytes), blob.digest);
        bytes
    }
}

#[test]
fn what_was_written_is_not_asked_for() {
    let fixture = Fixture::new();
    let layers = fixture.put(&fixture.cache(), "app:1", &["one", "two"]);
    let cache = fixture.cache();
    let image = cache.resolve(&"app:1".parse().unwrap(), &Platform::host()).unwrap().unwrap();
    assert_eq!(image.manifest.as_image().unwrap().layers, layers);
    assert_eq!(fixture.daemon.known.load(Ordering::Relaxed), 1, "its layers need not be sent again");
    for layer in &layers {
        fixture.text(&cache, layer);
    }
    assert_eq!(fixture.exports(), 0);
    assert!(cache.resolve(&"other:1".parse().unwrap(), &Platform::host()).unwrap().is_none());
}

#[test]
fn what_was_asked_for_once_is_not_asked_for_again() {
    let fixture = Fixture::new();
    let layers = fixture.put(&*fixture.daemon, "app:1", &["one"]);
    for expected in [2, 0] {
        let cache = fixture.cache();
        cache.resolve(&"app:1".parse().unwrap(), &Platform::host()).unwrap().unwrap();
        fixture.text(&cache, &layers[0]);
        assert_eq!(fixture.exports(), expected);
    }
}

#[test]
fn what_is_damaged_is_asked_for_again() {
    let fixture = Fixture::new();
    let layers = fixture.put(&fixture.cache(), "app:1", &["one", "two"]);
    let root = fixture.root.path().join("cache");
    std::fs::write(layers::path(&root, layers[0].digest), "x").unwrap();
    std::fs::remove_file(layers::path(&root, layers[1].digest)).unwrap();
    for image in std::fs::read_dir(root.join("images")).unwrap() {
        std::fs::write(image.unwrap().path(), "{}").unwrap();
    }
    for expected in [3, 0] {
        let cache = fixture.cache();
        cache.resolve(&"app:1".parse().unwrap(), &Platform::host()).unwrap().unwrap();
        layers.iter().for_each(|layer| drop(fixture.text(&cache, layer)));
        assert_eq!(fixture.exports(), expected);
    }
}

#[test]
fn what_the_app_image_has_no_more_is_removed() {
    let fixture = Fixture::new();
    let old = fixture.put(&fixture.cache(), "app:1", &["one", "two"]);
    let new = fixture.put(&fixture.cache(), "app:1", &["one", "three"]);
    let root = fixture.root.path().join("cache");
    assert_eq!(old[0], new[0]);
    assert!(layers::path(&root, new[0].digest).exists() && layers::path(&root, new[1].digest).exists());
    assert!(!layers::path(&root, old[1].digest).exists());
    assert_eq!(std::fs::read_dir(root.join("images")).unwrap().count(), 1);
}
