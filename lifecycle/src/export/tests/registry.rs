//! The same against a real registry: what is sent, and what is not.

use longshore_image::keychain::Keychain;
use longshore_image::registry::{Registry, RegistryConfig};
use longshore_test_support::docker_registry::DockerRegistry;

use super::*;
use crate::analyze::{AnalyzeInput, analyze};
use crate::cache::{Cache, DirectoryCache, ImageCache};
use crate::rebase::{RebaseInput, rebase};
use crate::restore::{RestoreInput, restore};
use crate::run_image::RunImages;

struct Remote {
    server: DockerRegistry,
    store: Arc<dyn ImageStore>,
}

impl Remote {
    fn start() -> Self {
        let server = DockerRegistry::start();
        let store = Registry::new(RegistryConfig::new(Keychain::empty())).unwrap();
        Self { server, store: Arc::new(store) }
    }

    /// Copies an image of the local store.
    fn push(&self, image: &Image, from: &LocalStore, name: &str) -> String {
        let name = self.server.reference(name);
        let reference: Reference = name.parse().unwrap();
        let manifest = image.manifest.as_image().unwrap();
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut from.open_blob(&image.reference, blob).unwrap(), &mut bytes)
                .unwrap();
            self.store.write_blob(&reference, blob, &BlobSource::Bytes(bytes.into()), None).unwrap();
        }
        self.store.put_manifest(&reference, &image.manifest).unwrap();
        name
    }

    fn resolve(&self, name: &str) -> Image {
        self.store.resolve(&name.parse().unwrap(), &Platform::linux("amd64")).unwrap().unwrap()
    }

    /// How many requests there were whose log line has all of these texts.
    fn count(&self, texts: &[&str]) -> usize {
        let lines = self.server.requests(texts[0]);
        lines.iter().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }
}

#[test]
fn run_image_layers_are_mounted_and_a_rebuild_sends_nothing() {
    let mut fixture = Fixture::new();
    let remote = Remote::start();
    let run = remote.push(&fixture.image("run:1"), &fixture.store, "base/run:1");
    let names = RunImageNames { image: run.clone(), mirrors: Vec::new() };
    let offered = RunImages::Run(longshore_cnb::run::Run { images: vec![names] });
    let images = [remote.server.reference("team/app:1"), remote.server.reference("team/app:2")];
    let layers = fixture.path("new");
    let base_blob = fixture.image("run:1").manifest.as_image().unwrap().layers[0].digest.to_string();
    let mut digests = Vec::new();
    for build in 0..2 {
        let output = analyze(&AnalyzeInput {
            platform_api: PlatformApi::latest(),
            image: &images[0],
            tags: &images[1..],
            previous_image: None,
            run_image: None,
            run_images: &offered,
            cache_image: None,
            layers: MappedDirectory { host: layers.clone(), name: "/layers".into() },
            skip_layers: false,
            owner: None,
            platform: Platform::linux("amd64"),
            target: remote.store.clone(),
            run_image_store: remote.store.clone(),
            identify: Identify::ByDigest,
        })
        .unwrap();
        assert_eq!(output.previous_image.is_some(), build == 1);
        fixture.analyzed = output.analyzed;
        let uploads = remote.count(&["\"PUT /v2/team/app/"]) + remote.count(&["\"PATCH /v2/team/app/"]);
        let exported = export(&ExportInput {
            target: remote.store.clone(),
            run_images: remote.store.clone(),
            ..fixture.input(&images)
        })
        .unwrap();
        let after = remote.count(&["\"PUT /v2/team/app/"]) + remote.count(&["\"PATCH /v2/team/app/"]);
        assert_eq!(after == uploads, build == 1, "only the first build sends anything");
        digests.push(exported.manifest.digest());
    }
    assert_eq!(digests[0], digests[1]);
    for name in &images {
        assert_eq!(remote.resolve(name).manifest.digest(), digests[0]);
    }
    assert_eq!(remote.count(&["\"GET /v2/", &base_blob]), 0, "layers of the run image are not pulled");
    assert_eq!(remote.count(&["\"POST /v2/team/app/blobs/uploads/", "mount="]), 1, "but mounted");
    assert!(layers.join("sbom/launch/acme_web/sbom.cdx.json").exists());

    let new_run = base_image(&fixture.store, "run:1", "two", |_| {});
    remote.push(&new_run, &fixture.store, "base/run:1");
    let rebased = rebase(&RebaseInput {
        platform_api: PlatformApi::latest(),
        images: &images[..1],
        previous_image: None,
        run_image: Some(&run),
        force: true,
        platform: Platform::linux("amd64"),
        target: remote.store.clone(),
        run_image_store: remote.store.clone(),
        identify: Identify::ByDigest,
        any_tag: false,
        keep_current: true,
        layer_format: None,
        readable: None,
        manifest_format: None,
        sink: fixture.store.sink(),
    })
    .unwrap();
    assert_eq!(remote.resolve(&images[0]).manifest.digest(), rebased.manifest.digest());
    assert_eq!(remote.resolve(&images[1]).manifest.digest(), digests[0], "the other name stays");
    for layer in &rebased.manifest.as_image().unwrap().layers[..1] {
        assert_eq!(remote.count(&["\"GET /v2/", &layer.digest.to_string()]), 0);
    }
}

#[test]
fn a_cache_image_holds_what_a_cache_directory_holds() {
    let fixture = Fixture::new();
    let output = fixture.export();
    let remote = Remote::start();
    let reference: Reference = remote.server.reference("team/cache:1").parse().unwrap();
    fs::create_dir_all(fixture.path("scratch")).unwrap();
    let open = || {
        let scratch = fixture.path("scratch");
        ImageCache::open(remote.store.clone(), reference.clone(), LayerFormat::TarZstd, scratch).unwrap()
    };
    let write = |cache: &dyn Cache| {
        export_cache(&CacheInput {
            platform_api: PlatformApi::latest(),
            layers: fixture.mapped("layers", "/layers"),
            group: &fixture.group,
            cache,
            ownership: OWNERSHIP,
            layer_digests: &output.layer_digests,
            index: None,
        })
        .unwrap();
    };
    assert_eq!(open().metadata().unwrap(), None);
    write(&open());
    fs::create_dir(fixture.path("cache")).unwrap();
    let directory = DirectoryCache::open(fixture.path("cache")).unwrap();
    write(&directory);
    let cache = open();
    assert_eq!(cache.metadata().unwrap(), directory.metadata().unwrap());
    let image = remote.resolve(&reference.to_string());
    let manifest = image.manifest.as_image().unwrap();
    assert_eq!(manifest.config.media_type.as_str(), "application/vnd.longshore.cache.config.v1+json");
    for (layer, diff_id) in manifest.layers.iter().zip(image.config.diff_ids()) {
        assert_eq!(layer.annotations["containerd.io/uncompressed"], diff_id.to_string());
    }
    let first = image.manifest.digest();
    write(&cache);
    assert_eq!(
        remote.resolve(&reference.to_string()).manifest.digest(),
        first,
        "unchanged layers are reused"
    );

    let metadata = LifecycleMetadata::default();
    let restored = restore(&RestoreInput {
        platform_api: PlatformApi::latest(),
        layers: fixture.mapped("new", "/layers"),
        group: &fixture.group,
        metadata: &metadata,
        cache: Some(&open()),
        skip_layers: false,
        owner: None,
    })
    .unwrap();
    assert_eq!(restored.restored, ["acme/web:cached"]);
    assert_eq!(fs::read_to_string(fixture.path("new/acme_web/cached/x")).unwrap(), "x");
}

#[test]
fn a_registry_that_is_gone_moves_no_name() {
    let fixture = Fixture::new();
    let mut remote = Remote::start();
    let images = [remote.server.reference("team/app:1")];
    remote.server.stop();
    let mut config = RegistryConfig::new(Keychain::empty());
    config.retry.attempts = 1;
    let target: Arc<dyn ImageStore> = Arc::new(Registry::new(config).unwrap());
    let error = export(&ExportInput { target, ..fixture.input(&images) }).unwrap_err();
    assert!(matches!(error, ExportError::Store { .. }), "{error}");
}

/// Spec: platform.md "`analyzer`": the previous image may be any image reference.
#[test]
fn layers_are_reused_from_a_previous_image_on_another_registry() {
    let mut fixture = Fixture::new();
    let (old, new) = (Remote::start(), Remote::start());
    let run = old.push(&fixture.image("run:1"), &fixture.store, "base/run:1");
    let names = RunImageNames { image: run, mirrors: Vec::new() };
    let offered = RunImages::Run(longshore_cnb::run::Run { images: vec![names] });
    let first = [old.server.reference("team/app:1")];
    let second = [new.server.reference("team/app:2")];
    let layers = fixture.path("new");
    let mut build = |images: &[String]| {
        fixture.analyzed = analyze(&AnalyzeInput {
            platform_api: PlatformApi::latest(),
            image: &images[0],
            tags: &[],
            previous_image: Some(&first[0]),
            run_image: None,
            run_images: &offered,
            cache_image: None,
            layers: MappedDirectory { host: layers.clone(), name: "/layers".into() },
            skip_layers: false,
            owner: None,
            platform: Platform::linux("amd64"),
            target: old.store.clone(),
            run_image_store: old.store.clone(),
            identify: Identify::ByDigest,
        })
        .unwrap()
        .analyzed;
        // The launch layer is only in the previous image.
        let directory = fixture.path("layers/acme_web/deps");
        let exported = export(&ExportInput {
            target: old.store.clone(),
            run_images: old.store.clone(),
            ..fixture.input(images)
        })
        .unwrap();
        if directory.exists() {
            fs::remove_dir_all(directory).unwrap();
        }
        exported
    };
    let (before, after) = (build(&first), build(&second));
    assert!(after.reused_layers > 0 && after.added_layers == 0, "{}", after.added_layers);
    assert_eq!(after.manifest.digest(), before.manifest.digest());
    let image = new.resolve(&second[0]);
    for blob in &image.manifest.as_image().unwrap().layers {
        assert!(new.store.has_blob(&image.reference, blob.digest).unwrap(), "{}", blob.digest);
    }
}
