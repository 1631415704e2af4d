//! What a rebase asks of a registry: manifests, configurations, and one mount for each new layer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use longshore_image::keychain::Keychain;
use longshore_image::registry::{Registry, RegistryConfig};
use longshore_image::{
    BlobSource, Config, Descriptor, DiffId, Image, ImageManifest, LayerFormat, ManifestFormat, MediaType,
};
use longshore_test_support::registry::{Fault, FaultyRegistry};
use serde_json::json;

use super::*;

const LAYERS: usize = 100;

struct Place {
    server: FaultyRegistry,
    store: Arc<dyn ImageStore>,
    _scratch: tempfile::TempDir,
    sink: BlobSink,
}

impl Place {
    fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let store = Arc::new(Registry::new(RegistryConfig::new(Keychain::empty())).unwrap());
        let sink = BlobSink::scratch(scratch.path());
        Self { server: FaultyRegistry::start(faults), store, _scratch: scratch, sink }
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.server.host())
    }

    /// Pushes an image of these layers, whose bytes are no tars: nobody looks inside.
    fn push(&self, name: &str, layers: &[Bytes], change: impl FnOnce(&mut Config)) -> Image {
        let reference: Reference = self.name(name).parse().unwrap();
        let diff_ids: Vec<DiffId> = layers.iter().map(|bytes| DiffId::of(bytes)).collect();
        let mut config = Config::new(&Platform::linux("amd64"));
        config.set_diff_ids(&diff_ids);
        change(&mut config);
        let descriptor =
            |media_type, bytes: &Bytes| Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
        let mut blobs = Vec::new();
        for bytes in layers {
            let blob = descriptor(MediaType::Layer(ManifestFormat::Oci, LayerFormat::Tar), bytes);
            self.store.write_blob(&reference, &blob, &BlobSource::Bytes(bytes.clone()), None).unwrap();
            blobs.push(blob);
        }
        let bytes = config.to_bytes();
        let blob = descriptor(MediaType::Config(ManifestFormat::Oci), &bytes);
        self.store.write_blob(&reference, &blob, &BlobSource::Bytes(bytes), None).unwrap();
        let manifest = Manifest::image(ImageManifest::new(ManifestFormat::Oci, blob, blobs));
        self.store.put_manifest(&reference, &manifest).unwrap();
        self.store.resolve(&reference, &Platform::linux("amd64")).unwrap().unwrap()
    }

    /// Pushes a run image and an app image of many layers on it.
    fn push_app(&self, run: &str, app: &str) {
        let base = self.push_run(run, "old");
        let blobs = base_layers("old").into_iter().chain((2..LAYERS).map(|number| layer("app", number)));
        let top = base.config.diff_ids().last().unwrap().to_string();
        let reference = format!("{}@{}", self.name(run), base.manifest.digest());
        let metadata = json!({
            "runImage": {"topLayer": top, "reference": reference, "image": self.name(run)},
        });
        self.push(app, &blobs.collect::<Vec<_>>(), |config| {
            config.set_env("CNB_PLATFORM_API", "0.12");
            config.set_label(LIFECYCLE_METADATA_LABEL, &metadata.to_string());
        });
    }

    fn push_run(&self, name: &str, kind: &str) -> Image {
        self.push(name, &base_layers(kind), |_| {})
    }

    /// Rebases with a client that knows nothing yet; the requests that it made.
    fn rebase(&self, images: &[&str]) -> (RebaseOutput, Vec<String>) {
        self.rebase_as(images, None)
    }

    fn rebase_as(&self, images: &[&str], manifest: Option<ManifestChoice>) -> (RebaseOutput, Vec<String>) {
        let images: Vec<String> = images.iter().map(|name| self.name(name)).collect();
        let store: Arc<dyn ImageStore> =
            Arc::new(Registry::new(RegistryConfig::new(Keychain::empty())).unwrap());
        let before = self.server.requests().len();
        let output = rebase(&RebaseInput {
            platform_api: PlatformApi::latest(),
            images: &images,
            previous_image: None,
            run_image: None,
            force: false,
            platform: Platform::linux("amd64"),
            target: store.clone(),
            run_image_store: store,
            identify: Identify::ByDigest,
            any_tag: true,
            keep_current: true,
            layer_format: None,
            readable: None,
            manifest_format: manifest,
            sink: self.sink.clone(),
        });
        let output = output.unwrap_or_else(|error| panic!("{error:?}"));
        let requests = self.server.requests().split_off(before);
        let seen = requests.iter().map(|request| {
            let digest = request.path.rsplit_once("sha256:").map_or("", |_| "DIGEST");
            let path = request.path.split("sha256:").next().unwrap_or_default();
            let query = request.query.split('=').next().unwrap_or_default();
            format!("{} {path}{digest} {query}", request.method).trim_end().to_owned()
        });
        (output, seen.collect())
    }
}

fn layer(kind: &str, number: usize) -> Bytes {
    format!("{kind} {number}").into()
}

/// The lower one is the same in all.
fn base_layers(kind: &str) -> Vec<Bytes> {
    vec![layer("base", 0), layer(kind, 1)]
}

#[test]
fn a_rebase_of_100_layers_takes_six_requests_and_a_mount() {
    let place = Place::new([Fault::SinglePost]);
    place.push_app("run:1", "app:1");
    place.push_run("run:1", "new");
    let (output, mut requests) = place.rebase(&["app:1"]);
    // Both blobs are sent at once.
    requests[4..6].sort();
    assert_eq!(
        requests,
        [
            "GET /v2/app/manifests/1",
            "GET /v2/app/blobs/DIGEST",
            "GET /v2/run/manifests/1",
            "GET /v2/run/blobs/DIGEST",
            "POST /v2/app/blobs/uploads/ digest",
            "POST /v2/app/blobs/uploads/ mount",
            "PUT /v2/app/manifests/1",
        ]
    );
    assert_eq!(output.manifest.as_image().unwrap().layers.len(), LAYERS);
    place.server.assert_tags_are_complete();

    let (again, requests) = place.rebase(&["app:1"]);
    assert!(again.change.is_current);
    assert_eq!(requests.len(), 4, "{requests:?}");
    assert!(requests.iter().all(|request| request.starts_with("GET ")), "{requests:?}");
}

/// The image specification lets a manifest carry its configuration, which then need not be asked for.
#[test]
fn a_run_image_that_carries_its_configuration_takes_one_request_less() {
    let place = Place::new([Fault::SinglePost]);
    place.push_app("run:1", "app:1");
    let run = place.push_run("run:1", "new");
    let mut manifest = run.manifest.as_image().unwrap().clone();
    manifest.config.other.insert("data", &STANDARD.encode(run.config.to_bytes()));
    place.store.put_manifest(&run.reference, &Manifest::image(manifest)).unwrap();
    let (_, requests) = place.rebase(&["app:1"]);
    assert_eq!(requests.len(), 6, "{requests:?}");
    assert!(!requests.contains(&"GET /v2/run/blobs/DIGEST".to_owned()), "{requests:?}");
    place.server.assert_tags_are_complete();
}

#[test]
fn in_one_repository_nothing_is_mounted() {
    let place = Place::new([Fault::SinglePost]);
    place.push_app("app:run", "app:1");
    place.push_run("app:run", "new");
    let (_, requests) = place.rebase(&["app:1"]);
    // The layer that is new to the app is asked for: its run image may have been found elsewhere.
    assert_eq!(requests.len(), 7, "{requests:?}");
    assert!(requests.iter().all(|request| !request.contains("mount")), "{requests:?}");
}

/// Other names get all blobs in their own repositories, before the first name moves.
#[test]
fn other_names_cost_what_they_need() {
    let place = Place::new([]);
    place.push_app("run:1", "app:1");
    place.push_run("run:1", "new");
    let (output, _) = place.rebase(&["app:1", "app:2", "other:1"]);
    place.server.assert_tags_are_complete();
    let digest = output.manifest.digest().to_string();
    for (repository, tag) in [("app", "1"), ("app", "2"), ("other", "1")] {
        assert!(
            place.server.tags(repository).contains(&(tag.to_owned(), digest.clone())),
            "{repository}:{tag}"
        );
    }
    // One that stands on the run image gives its other names the same.
    let (again, requests) = place.rebase(&["app:1", "app:3"]);
    assert_eq!(again.manifest.digest(), output.manifest.digest());
    // Four to read, one for the other name, one to ask whether it is hidden, one to write it.
    assert_eq!(requests.len(), 7, "{requests:?}");
    assert!(place.server.tags("app").contains(&("3".to_owned(), digest)));
}

/// A registry may have lost a blob of an image that it still has: what can be had elsewhere is sent again.
#[test]
fn what_the_registry_lacks_after_all_is_sent() {
    let place = Place::new([]);
    place.push_app("run:1", "app:1");
    place.push_run("run:1", "new");
    place.server.remove_blob("app", &Digest::of(&layer("base", 0)).to_string());
    let (_, requests) = place.rebase(&["app:1"]);
    assert_eq!(requests.iter().filter(|request| request.starts_with("PUT /v2/app/manifests/")).count(), 2);
    place.server.assert_tags_are_complete();
}

#[test]
fn the_images_of_an_index_are_read_once() {
    let place = Place::new([Fault::SinglePost]);
    place.push_app("run:1", "app:1");
    let image = place.store.resolve(&place.name("app:1").parse().unwrap(), &Platform::linux("amd64"));
    let mut descriptor = image.unwrap().unwrap().manifest.descriptor();
    descriptor.platform = Some(Platform::linux("amd64"));
    let index = Manifest::index(IndexManifest {
        schema_version: 2,
        media_type: MediaType::Index(ManifestFormat::Oci),
        manifests: vec![descriptor],
        annotations: Default::default(),
        other: Default::default(),
    });
    place.store.put_manifest(&place.name("app:all").parse().unwrap(), &index).unwrap();
    place.push_run("run:1", "new");
    let (output, requests) = place.rebase(&["app:all"]);
    assert_eq!(requests.len(), 9, "the index, and a manifest of its image twice: {requests:?}");
    assert!(matches!(output.manifest.media_type(), MediaType::Index(_)));
    place.server.assert_tags_are_complete();
}

/// Nothing is pushed that only leads to the image that is wanted.
#[test]
fn a_registry_that_takes_only_dockers_types_gets_them_in_one_step() {
    let place = Place::new([Fault::SinglePost]);
    place.push_app("run:1", "app:1");
    place.push_run("run:1", "new");
    place.server.set_faults([Fault::SinglePost, Fault::DockerOnly]);
    let (output, requests) = place.rebase_as(&["app:1"], Some(ManifestChoice::Auto));
    assert_eq!(*output.manifest.media_type(), MediaType::Manifest(ManifestFormat::Docker));
    let written = place.server.requests_of("PUT", "/v2/app/manifests/").into_iter().map(|put| put.status);
    assert_eq!(written.collect::<Vec<_>>()[1..], [400, 201], "{requests:?}");
    place.server.assert_tags_are_complete();
}
