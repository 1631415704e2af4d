//! Registries that mean harm.

use longshore_image::{Digest, ImageStore, Manifest, Platform};
use longshore_test_support::registry::FaultyRegistry;

use super::{INDEX, MIB, OCI, anonymous};
use crate::samples::{Sample, read, reference, text};

#[test]
fn row_14_a_manifest_of_another_digest_is_refused() {
    let server = FaultyRegistry::start([]);
    let asked = Digest::of(b"asked");
    server.put_manifest("app", &asked.to_string(), OCI, Sample::new(9, 1).manifest.raw());
    let error = anonymous().manifest(&reference(&server.host(), &format!("app@{asked}"))).unwrap_err();
    assert!(text(&error).contains(&asked.to_string()));
}

#[test]
fn row_15_hostile_manifests_are_refused_before_anything_is_fetched() {
    let digest = Digest::of(b"");
    let blob = format!(r#"{{"mediaType":"x","digest":"{digest}","size":0}}"#);
    let layer = r#"{"mediaType":"x","digest":"sha256:../../x","size":0}"#;
    let table = [
        (OCI, format!(r#"{{"schemaVersion":2,"mediaType":"{OCI}","config":{blob},"layers":[{layer}]}}"#)),
        (OCI, format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[],"manifests":[]}}"#)),
        (INDEX, format!(r#"{{"schemaVersion":2,"mediaType":"{OCI}","config":{blob},"layers":[]}}"#)),
        (INDEX, format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[]}}"#)),
        (OCI, r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned()),
        (
            OCI,
            format!(
                r#"{{"schemaVersion":2,"config":{blob},"layers":[{}]}}"#,
                vec![blob.as_str(); 60_000].join(",")
            ),
        ),
        (OCI, "<html>".to_owned()),
    ];
    for (media_type, manifest) in table {
        let server = FaultyRegistry::start([]);
        server.put_manifest("app", "v1", media_type, manifest.as_bytes());
        let error = anonymous().resolve(&reference(&server.host(), "app:v1"), &Platform::host()).unwrap_err();
        assert!(server.requests_of("GET", "/blobs/").is_empty());
        let start: String = manifest.chars().take(100).collect();
        assert!(text(&error).contains("app:v1") || text(&error).contains("manifests/v1"), "{start}: {error}");
    }
}

/// A manifest of 100 MB, and one with 100,000 layers, which has 11.
#[test]
fn row_17_large_manifests_are_refused_before_they_are_read() {
    let blob = format!(r#"{{"mediaType":"x","digest":"{}","size":1}}"#, Digest::of(b"x"));
    let manifest = |layers: &str| format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[{layers}]}}"#);
    let many = vec![blob.as_str(); 100_000].join(",");
    let padded = format!("{}{}", manifest(&blob), " ".repeat(100 << 20));
    for manifest in [padded, manifest(&many)] {
        let server = FaultyRegistry::start([]);
        server.put_manifest("app", "v1", OCI, manifest.as_bytes());
        let error = anonymous().resolve(&reference(&server.host(), "app:v1"), &Platform::host()).unwrap_err();
        assert!(text(&error).contains("4194304 bytes"), "{}", text(&error));
        assert!(server.requests_of("GET", "/blobs/").is_empty());
    }
}

/// An index cannot hold its own digest, so a registry that makes a circle has to lie about one.
#[test]
fn row_18_a_circle_of_indexes_is_refused() {
    let server = FaultyRegistry::start([]);
    let own = Digest::of(b"whatever");
    let entry = format!(r#"{{"mediaType":"{INDEX}","digest":"{own}","size":7}}"#);
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entry}]}}"#);
    for name in ["v1", &own.to_string()] {
        server.put_manifest("app", name, INDEX, index.as_bytes());
    }
    let error = anonymous().resolve(&reference(&server.host(), "app:v1"), &Platform::host()).unwrap_err();
    assert!(text(&error).contains(&own.to_string()), "{}", text(&error));
}

#[test]
fn row_18_indexes_in_indexes_end() {
    let server = FaultyRegistry::start([]);
    let app = reference(&server.host(), "app:v1");
    let sample = Sample::new(10, 1);
    sample.push(&anonymous(), &app).unwrap();
    let (mut child, mut media_type) = (sample.manifest.raw().to_vec(), OCI);
    for depth in 0..=5 {
        server.put_manifest("app", "v1", media_type, &child);
        match anonymous().resolve(&app, &Platform::host()) {
            Ok(found) => assert!(depth <= 4 && found.is_some(), "{depth}"),
            Err(error) => assert!(depth > 4 && text(&error).contains("deep"), "{depth}: {}", text(&error)),
        }
        let (digest, size) = (Digest::of(&child), child.len());
        let entry = format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#);
        child = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entry}]}}"#).into_bytes();
        media_type = INDEX;
    }
}

/// Windows images have such layers: the manifest keeps them, and they stay where they are.
#[test]
fn row_19_layers_of_other_places_are_copied_without_their_bytes() {
    let (server, elsewhere) = (FaultyRegistry::start([]), FaultyRegistry::start([]));
    let sample = Sample::new(12, MIB);
    let registry = std::sync::Arc::new(anonymous());
    sample.push(&registry, &reference(&server.host(), "app:parts")).unwrap();
    let mut image = sample.manifest.as_image().unwrap().clone();
    let url = format!("http://{}/v2/app/blobs/x", elsewhere.host());
    let mut foreign = image.layers[0].clone();
    foreign.digest = Digest::of(b"elsewhere");
    foreign.other.insert("urls", &serde_json::json!([url]));
    image.layers.push(foreign);
    let manifest = Manifest::image(image);
    server.put_manifest("app", "v1", OCI, manifest.raw());
    let source: std::sync::Arc<dyn ImageStore> = registry.clone();
    let (from, to) = (reference(&server.host(), "app:v1"), reference(&server.host(), "copy:v1"));
    // The registry of the test takes no manifest whose blobs it does not have.
    server.put_blob_as("copy", &Digest::of(b"elsewhere").to_string(), b"");
    let scratch = tempfile::tempdir().unwrap();
    let sink = longshore_image::BlobSink::scratch(scratch.path());
    let request = longshore_image::CopyRequest {
        sink: &sink,
        source: &source,
        from: &from,
        target: registry.as_ref(),
        to: &to,
        same_place: false,
        platform: None,
        layers: None,
        manifest: None,
    };
    let copied = longshore_image::copy(&request).unwrap();
    assert_eq!(copied.raw(), manifest.raw());
    assert_eq!(server.manifest("copy", "v1").unwrap(), manifest.raw().to_vec());
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn row_19_urls_of_layers_are_never_fetched() {
    let (server, elsewhere) = (FaultyRegistry::start([]), FaultyRegistry::start([]));
    let app = reference(&server.host(), "app:v1");
    let mut layer = Sample::new(11, MIB).layer_descriptor();
    let urls = format!("http://{}/v2/app/blobs/{}", elsewhere.host(), layer.digest);
    layer.other.insert("urls", &serde_json::json!([urls, "http://169.254.169.254/"]));
    assert!(read(&anonymous(), &app, &layer).is_err());
    assert!(elsewhere.requests().is_empty());
}
