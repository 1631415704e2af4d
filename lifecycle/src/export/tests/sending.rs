//! What goes over the network for app and cache images, and how often.

use longshore_image::keychain::Keychain;
use longshore_image::registry::{Registry, RegistryConfig};
use longshore_image::{LayerFormats, ManifestContent};
use longshore_test_support::registry::FaultyRegistry;

use super::*;
use crate::cache::{Cache, ImageCache};
use crate::export::{CacheInput, export_cache};

const LARGE: usize = 9 << 20;

/// Bytes that no compression makes small.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).take(length / 8).flatten().collect()
}

/// A fixture with a large layer that is in the app image and in the cache, and one that is only in the cache.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fs::write(fixture.path("layers/acme_web/deps/large"), noise(1, LARGE)).unwrap();
    fs::write(fixture.path("layers/acme_web/cached/large"), noise(2, LARGE)).unwrap();
    fs::write(fixture.path("layers/acme_web/deps.toml"), "[types]\nlaunch = true\ncache = true\n").unwrap();
    fixture
}

fn client() -> Arc<dyn ImageStore> {
    Arc::new(Registry::new(RegistryConfig::new(Keychain::empty())).unwrap())
}

/// The bytes that were sent in uploads to a repository.
fn sent(server: &FaultyRegistry, repository: &str) -> u64 {
    let requests = server.requests().into_iter();
    let path = format!("/v2/{repository}/blobs/uploads/");
    requests.filter(|request| request.path.starts_with(&path)).map(|request| request.received).sum()
}

fn exported(fixture: &Fixture, images: &[String], scratch: &Path, format: LayerFormats) -> ExportOutput {
    let target = client();
    export(&ExportInput {
        target,
        layer_format: Some(format),
        sink: BlobSink::scratch(scratch),
        ..fixture.input(images)
    })
    .unwrap()
}

#[test]
fn each_blob_is_sent_once_and_only_what_changed_the_next_time() {
    let mut fixture = fixture();
    let server = FaultyRegistry::start([]);
    let images = ["app:1", "app:2", "app:3"].map(|name| format!("{}/{name}", server.host()));
    let scratch = tempfile::tempdir().unwrap();
    let output = exported(&fixture, &images, scratch.path(), LayerFormat::TarZstd.into());
    let size = |manifest: &Manifest| -> u64 {
        let image = manifest.as_image().unwrap();
        image.layers.iter().chain([&image.config]).map(|blob| blob.size).sum()
    };
    let bytes = sent(&server, "app");
    // A small blob may be sent along with the request that would open its upload, which this registry does not take.
    assert!((size(&output.manifest)..size(&output.manifest) + 10_000).contains(&bytes), "{bytes}");
    server.assert_tags_are_complete();
    let blobs = output.manifest.as_image().unwrap().layers.len() + 1;
    let of_blobs = server.requests().iter().filter(|request| request.path.contains("/blobs/")).count();
    assert!(of_blobs <= 3 * blobs, "{of_blobs} requests for {blobs} blobs, whatever the number of names");

    // One layer changes: it alone is sent, and what is made new by every build.
    let image = client().resolve(&images[0].parse().unwrap(), &Platform::linux("amd64")).unwrap().unwrap();
    fixture.analyzed.metadata =
        serde_json::from_str(image.config.label(LIFECYCLE_METADATA_LABEL).unwrap()).unwrap();
    let reference = image.reference.with_digest(image.manifest.digest()).to_string();
    fixture.analyzed.previous_image = Some(ImageIdentifier { reference });
    fs::write(fixture.path("app/main.py"), noise(3, 2 << 20)).unwrap();
    let output = exported(&fixture, &images, scratch.path(), LayerFormat::TarZstd.into());
    assert_eq!(output.added_layers, 1);
    let more = sent(&server, "app") - bytes;
    assert!((2 << 20..(2 << 20) + 20_000).contains(&more), "{more}");

    // Nothing changes: nothing is opened.
    let image = client().resolve(&images[0].parse().unwrap(), &Platform::linux("amd64")).unwrap().unwrap();
    let reference = image.reference.with_digest(image.manifest.digest()).to_string();
    fixture.analyzed.metadata =
        serde_json::from_str(image.config.label(LIFECYCLE_METADATA_LABEL).unwrap()).unwrap();
    fixture.analyzed.previous_image = Some(ImageIdentifier { reference });
    let uploads = server.requests_of("POST", "").len();
    exported(&fixture, &images, scratch.path(), LayerFormat::TarZstd.into());
    assert_eq!(server.requests_of("POST", "").len(), uploads);
}

/// The registry was asked for the layers of the run image when the app's own were compressed and sent.
#[test]
fn the_run_image_is_asked_for_before_the_layers_are_sent() {
    let fixture = Fixture::new();
    fs::write(fixture.path("layers/acme_web/deps/large"), noise(1, 4 * LARGE)).unwrap();
    let server = FaultyRegistry::start([]);
    let images = [format!("{}/app:1", server.host())];
    let scratch = tempfile::tempdir().unwrap();
    exported(&fixture, &images, scratch.path(), LayerFormat::TarZstd.into());
    let base = fixture.image("run:1").manifest.as_image().unwrap().layers[0].digest.to_string();
    let requests = server.requests();
    let asked = requests.iter().position(|request| request.method == "HEAD" && request.path.ends_with(&base));
    // A request is written down when all of it has arrived.
    let sent = requests.iter().position(|request| request.received > LARGE as u64);
    assert!(asked.is_some() && asked < sent, "{requests:#?}");
    let of_base =
        requests.iter().filter(|request| format!("{}{}", request.path, request.query).contains(&base));
    assert!(of_base.count() <= 3, "it is not asked for again: {requests:#?}");
}

#[test]
fn dual_sends_both_forms_once() {
    let fixture = fixture();
    let server = FaultyRegistry::start([]);
    let images = [format!("{}/app:1", server.host())];
    let scratch = tempfile::tempdir().unwrap();
    let output = exported(&fixture, &images, scratch.path(), LayerFormats::Dual);
    assert!(matches!(output.manifest.content(), ManifestContent::Index(_)));
    let bytes = sent(&server, "app");
    assert!((2 * LARGE as u64..2 * LARGE as u64 + 100_000).contains(&bytes), "{bytes}");
    server.assert_tags_are_complete();
}

/// A layer that is launch and cache was compressed for each of them, and sent to both repositories.
#[test]
fn a_cache_image_takes_the_blobs_of_the_app_image() {
    let fixture = fixture();
    let (server, elsewhere) = (FaultyRegistry::start([]), FaultyRegistry::start([]));
    let images = [format!("{}/app:1", server.host())];
    let scratch = tempfile::tempdir().unwrap();
    let output = exported(&fixture, &images, scratch.path(), LayerFormat::TarGzip.into());
    let deps = output.manifest.as_image().unwrap().layers[1].clone();
    for (registry, expected) in [(&server, LARGE), (&elsewhere, 2 * LARGE)] {
        let reference: Reference = format!("{}/cache:1", registry.host()).parse().unwrap();
        let made = tempfile::tempdir().unwrap();
        let cache =
            ImageCache::open(client(), reference.clone(), LayerFormat::TarGzip, made.path().to_owned());
        let cache = cache.unwrap();
        export_cache(&CacheInput {
            platform_api: PlatformApi::parse("0.12").unwrap(),
            layers: fixture.mapped("layers", "/layers"),
            group: &fixture.group,
            cache: &cache,
            ownership: OWNERSHIP,
            layer_digests: &output.layer_digests,
            index: None,
        })
        .unwrap();
        let bytes = sent(registry, "cache");
        assert!((expected as u64..expected as u64 + 100_000).contains(&bytes), "{bytes} {expected}");
        let files: Vec<_> = fs::read_dir(made.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "only the layer that is not in the app image was made: {files:?}");
        registry.assert_tags_are_complete();
        let manifest = client().manifest(&reference).unwrap().unwrap();
        let layers = &manifest.as_image().unwrap().layers;
        assert!(layers.iter().any(|layer| layer.digest == deps.digest));
        assert!(layers.iter().all(|layer| layer.annotations.contains_key("containerd.io/uncompressed")));
        let known = ImageCache::open(client(), reference, LayerFormat::TarGzip, made.path().to_owned());
        assert_eq!(known.unwrap().metadata().unwrap().unwrap().buildpacks[0].layers.len(), 2);
    }
}
