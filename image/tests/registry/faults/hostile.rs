//! Registries that mean harm.

use longshore_image::{Digest, ImageStore as _, Platform};
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
fn rows_15_to_17_hostile_manifests_are_refused_before_anything_is_fetched() {
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

#[test]
fn row_18_nested_indexes_end() {
    let server = FaultyRegistry::start([]);
    let mut child = Sample::new(10, 1).manifest.raw().to_vec();
    let mut media_type = OCI;
    for _ in 0..7 {
        let (digest, size) = (Digest::of(&child), child.len());
        server.put_manifest("app", "v1", media_type, &child);
        let entry = format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#);
        child = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entry}]}}"#).into_bytes();
        media_type = INDEX;
    }
    server.put_manifest("app", "v1", INDEX, &child);
    let error = anonymous().resolve(&reference(&server.host(), "app:v1"), &Platform::host()).unwrap_err();
    assert!(text(&error).contains("deep"), "{}", text(&error));
}

#[test]
fn row_19_urls_of_layers_are_never_fetched() {
    let (server, elsewhere) = (FaultyRegistry::start([]), FaultyRegistry::start([]));
    let app = reference(&server.host(), "app:v1");
    let mut layer = Sample::new(11, MIB).layer_descriptor();
    let urls = format!("http://{}/v2/app/blobs/{}", elsewhere.host(), layer.digest);
    layer.other.insert("urls".to_owned(), serde_json::json!([urls, "http://169.254.169.254/"]));
    assert!(read(&anonymous(), &app, &layer).is_err());
    assert!(elsewhere.requests().is_empty());
}
