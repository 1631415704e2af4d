//! Images of Debian's dockerd.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::io::Read as _;
use std::sync::Arc;

use longshore_image::daemon::DaemonStore;
use longshore_image::{
    BlobOpener, BlobSource, Config, Descriptor, DiffId, Digest, ImageManifest, ImageStore, LayerFormat,
    Manifest, ManifestFormat, MediaType, Platform, Reference,
};
use longshore_test_support::Dockerd;

fn layer(content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "only-in-this-test", content).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn an_image_goes_into_dockerd_and_comes_back() {
    let dockerd = Dockerd::start();
    let daemon = DaemonStore::connect_at(&format!("unix://{}", dockerd.socket().display())).unwrap();
    let app: Reference = "team/app:v1".parse().unwrap();
    assert!(daemon.resolve(&app, &Platform::host()).unwrap().is_none());

    let layer = layer(b"an image goes into dockerd");
    let mut config = Config::new(&Platform::host());
    config.set_diff_ids(&[DiffId::of(&layer)]);
    config.set_label("key", "value");
    let config = config.to_bytes();
    let format = ManifestFormat::Oci;
    let descriptor =
        |media_type, bytes: &[u8]| Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
    let blobs = [
        (descriptor(MediaType::Config(format), &config), config),
        (descriptor(MediaType::Layer(format, LayerFormat::Tar), &layer), layer.clone().into()),
    ];
    for (blob, bytes) in &blobs {
        daemon.write_blob(&app, blob, &BlobSource::Bytes(bytes.clone()), None).unwrap();
    }
    let manifest = ImageManifest::new(format, blobs[0].0.clone(), vec![blobs[1].0.clone()]);
    daemon.put_manifest(&app, &Manifest::image(manifest)).unwrap();
    dockerd.docker(&["image", "inspect", "team/app:v1"]).success().says("\"key\": \"value\"");

    // Another client of the daemon knows none of our blobs.
    let reader = DaemonStore::connect_at(&format!("unix://{}", dockerd.socket().display())).unwrap();
    let image = reader.resolve(&app, &Platform::host()).unwrap().unwrap();
    assert_eq!(image.config.label("key"), Some("value"));
    let found = &image.manifest.as_image().unwrap().layers[0];
    let mut bytes = Vec::new();
    reader.open_blob(&app, found).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, layer);
}

/// A layer that waits for its manifest may have to be read from the daemon that it goes into: looking for it among those
/// that wait never ended.
#[test]
fn a_layer_of_one_image_goes_into_another_and_images_are_found_by_id() {
    let dockerd = Dockerd::start();
    let host = format!("unix://{}", dockerd.socket().display());
    let daemon = Arc::new(DaemonStore::connect_at(&host).unwrap());
    let store: Arc<dyn ImageStore> = daemon;
    let layer = layer(b"a layer of one image");
    let blob = Descriptor::new(
        MediaType::Layer(ManifestFormat::Docker, LayerFormat::Tar),
        Digest::of(&layer),
        layer.len() as u64,
    );
    let put = |name: &str, label: &str, source: BlobSource| {
        let reference: Reference = name.parse().unwrap();
        let mut config = Config::new(&Platform::host());
        config.set_diff_ids(&[DiffId::of(&layer)]);
        config.set_label("label", label);
        let bytes = config.to_bytes();
        let media_type = MediaType::Config(ManifestFormat::Docker);
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        store.write_blob(&reference, &descriptor, &BlobSource::Bytes(bytes), None).unwrap();
        store.write_blob(&reference, &blob, &source, None).unwrap();
        let manifest = ImageManifest::new(ManifestFormat::Docker, descriptor, vec![blob.clone()]);
        store.put_manifest(&reference, &Manifest::image(manifest)).unwrap();
        config.image_id()
    };
    put("first:1", "first", BlobSource::Bytes(layer.clone().into()));
    let of_first = BlobOpener::of(Arc::clone(&store), "first:1".parse().unwrap(), blob.clone());
    let id = put("second:1", "second", BlobSource::Lazy(of_first.clone()));
    let by_id = store.resolve(&id.to_string().parse().unwrap(), &Platform::host()).unwrap().unwrap();
    assert_eq!(by_id.config.label("label"), Some("second"));

    // What the daemon has is not sent again, so it need not even be readable.
    let unreadable = BlobOpener::new(|| panic!("the layer is in the daemon"));
    let fourth = put("fourth:1", "fourth", BlobSource::Lazy(unreadable));
    dockerd.docker(&["image", "inspect", &fourth.to_string()]).success();

    // An image that is there already only gets its name.
    put("third:1", "second", BlobSource::Lazy(of_first));
    let inspect = ["image", "inspect", "--format={{.Id}}", "third:1"];
    assert_eq!(dockerd.docker(&inspect).success().stdout.trim(), id.to_string());
}

#[test]
fn a_refused_load_says_why() {
    let dockerd = Dockerd::start();
    let daemon = DaemonStore::connect_at(&format!("unix://{}", dockerd.socket().display())).unwrap();
    let app: Reference = "team/broken:v1".parse().unwrap();
    let blob = |media_type, bytes: &'static [u8]| {
        let blob = Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
        daemon.write_blob(&app, &blob, &BlobSource::Bytes(bytes.into()), None).unwrap();
        blob
    };
    let format = ManifestFormat::Oci;
    let config = blob(MediaType::Config(format), b"no configuration");
    let layer = blob(MediaType::Layer(format, LayerFormat::Tar), b"no tar");
    let manifest = Manifest::image(ImageManifest::new(format, config, vec![layer]));
    let error = daemon.put_manifest(&app, &manifest).unwrap_err();
    assert!(error.to_string().contains("load `team/broken:v1`"), "{error}");
    let missing = DaemonStore::connect_at("unix:///nowhere/docker.sock").unwrap_err();
    assert!(missing.to_string().contains("/nowhere/docker.sock"), "{missing}");
}
