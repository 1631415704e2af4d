//! How many requests things take: each is a round trip.

use longshore_image::{BlobOpener, BlobOutcome, BlobSource, ImageStore as _, Keychain, Platform};
use longshore_test_support::registry::{Fault, FaultyRegistry};

use super::anonymous;
use crate::samples::{Sample, keychain, reference, registry, registry_with};

fn seen(server: &FaultyRegistry) -> Vec<String> {
    server
        .requests()
        .iter()
        .map(|request| format!("{} {} {}", request.method, request.path, request.status))
        .collect()
}

#[test]
fn a_small_blob_comes_with_the_request_that_opens_its_upload() {
    for (fault, requests) in
        [(vec![Fault::SinglePost], ["POST 201"].as_slice()), (vec![], &["POST 202", "PUT 201"])]
    {
        let server = FaultyRegistry::start(fault);
        let (registry, app) = (anonymous(), reference(&server.host(), "app:v1"));
        let sample = Sample::new(1, 100);
        for image in [&sample, &Sample::new(2, 100)] {
            let config = &image.manifest.as_image().unwrap().config;
            registry.write_blob(&app, config, &BlobSource::Bytes(image.config.clone()), None).unwrap();
        }
        let seen: Vec<String> = server
            .requests()
            .iter()
            .map(|request| format!("{} {}", request.method, request.status))
            .collect();
        assert_eq!(seen, [requests, requests].concat());
        // What is not taken is not sent again.
        let wasted = server.requests_of("POST", "").into_iter().skip(1).filter(|post| post.status == 202);
        assert!(wasted.into_iter().all(|post| post.received == 0));
    }
}

/// Every answer to a blob in a `POST` but 201 leads to an upload.
#[test]
fn a_registry_that_refuses_blobs_in_posts_gets_uploads() {
    let server = FaultyRegistry::start([super::status("POST", "/blobs/uploads/", 400, 1)]);
    let app = reference(&server.host(), "app:v1");
    Sample::new(1, 100).push(&anonymous(), &app).unwrap();
    server.assert_tags_are_complete();
}

#[test]
fn a_blob_of_another_repository_is_mounted_at_once() {
    let server = FaultyRegistry::start([]);
    let registry = anonymous();
    let (base, app) = (reference(&server.host(), "base:1"), reference(&server.host(), "app:1"));
    let sample = Sample::new(1, 100);
    sample.push(&registry, &base).unwrap();
    let before = server.requests().len();
    let layer = sample.layer_descriptor();
    let never = BlobSource::Lazy(BlobOpener::new(|| panic!("the blob can be mounted")));
    for _ in 0..2 {
        let outcome = registry.write_blob(&app, &layer, &never, Some(&base)).unwrap();
        assert_eq!(outcome, BlobOutcome::Mounted);
    }
    assert_eq!(
        seen(&server)[before..],
        ["POST /v2/app/blobs/uploads/ 201", "POST /v2/app/blobs/uploads/ 201"]
    );

    // Where nothing can be mounted, the registry is asked first from then on.
    let server = FaultyRegistry::start([Fault::NoMount]);
    let (base, app) = (reference(&server.host(), "base:1"), reference(&server.host(), "app:1"));
    let registry = anonymous();
    sample.push(&registry, &base).unwrap();
    sample.push(&registry, &app).unwrap();
    let before = server.requests().len();
    for _ in 0..2 {
        let outcome = registry.write_blob(&app, &layer, &never, Some(&base)).unwrap();
        assert_eq!(outcome, BlobOutcome::Present);
    }
    let methods: Vec<String> =
        server.requests()[before..].iter().map(|request| request.method.clone()).collect();
    assert_eq!(methods, ["POST", "HEAD", "DELETE", "HEAD"]);
}

#[test]
fn an_open_registry_is_not_asked_what_it_wants() {
    let server = FaultyRegistry::start([]);
    let app = reference(&server.host(), "app:1");
    let sample = Sample::new(1, 100);
    sample.push(&anonymous(), &app).unwrap();
    let before = server.requests().len();
    anonymous().resolve(&app, &Platform::host()).unwrap().unwrap();
    let config = sample.manifest.as_image().unwrap().config.digest;
    assert_eq!(
        seen(&server)[before..],
        ["GET /v2/app/manifests/1 200".to_owned(), format!("GET /v2/app/blobs/{config} 200")]
    );
}

#[test]
fn a_registry_with_a_password_is_asked_what_it_wants_first() {
    let server = FaultyRegistry::start([]);
    let app = reference(&server.host(), "app:1");
    Sample::new(1, 100).push(&anonymous(), &app).unwrap();
    server.set_faults([Fault::Bearer("u", "p")]);
    let before = server.requests().len();
    registry(keychain(&server.host(), "Basic dTpw")).manifest(&app).unwrap().unwrap();
    assert_eq!(seen(&server)[before..], ["GET /v2/ 401", "GET /token 200", "GET /v2/app/manifests/1 200"]);
    // A stranger is told by the first answer.
    let before = server.requests().len();
    assert!(anonymous().manifest(&app).is_err());
    assert_eq!(seen(&server)[before..], ["GET /v2/app/manifests/1 401", "GET /token 401"]);
}

/// Some registries hide what strangers may not see, and do not say that a token would help.
#[test]
fn what_is_not_there_is_asked_for_again_with_a_token() {
    let server =
        FaultyRegistry::start([Fault::Bearer("u", "p"), super::status("GET", "/manifests/", 404, 1)]);
    server.put_manifest("app", "1", super::OCI, Sample::new(1, 100).manifest.raw());
    // The token endpoint of this registry wants a password: that it was asked is what matters.
    assert!(anonymous().manifest(&reference(&server.host(), "app:1")).is_err());
    assert_eq!(seen(&server), ["GET /v2/app/manifests/1 404", "GET /v2/ 401", "GET /token 401"]);
}

#[test]
fn configurations_are_read_once_for_each_machine() {
    let server = FaultyRegistry::start([]);
    let app = reference(&server.host(), "app:1");
    let directory = tempfile::tempdir().unwrap();
    let client = || {
        registry_with(Keychain::empty(), |config| {
            config.config_cache = Some(directory.path().join("configs"));
        })
    };
    let sample = Sample::new(1, 100);
    sample.push(&client(), &app).unwrap();
    let before = server.requests().len();
    client().resolve(&app, &Platform::host()).unwrap().unwrap();
    assert_eq!(seen(&server)[before..], ["GET /v2/app/manifests/1 200"], "it was written from here");
    // What is copied from a layout is a file.
    std::fs::remove_dir_all(directory.path().join("configs")).unwrap();
    let file = directory.path().join("config");
    std::fs::write(&file, &sample.config).unwrap();
    let config = &sample.manifest.as_image().unwrap().config;
    let other = reference(&server.host(), "other:1");
    client().write_blob(&other, config, &BlobSource::File(file), None).unwrap();
    let before = server.requests().len();
    client().resolve(&app, &Platform::host()).unwrap().unwrap();
    assert_eq!(seen(&server)[before..], ["GET /v2/app/manifests/1 200"]);
    std::fs::remove_dir_all(directory.path().join("configs")).unwrap();
    for requests in [2, 1] {
        let before = server.requests().len();
        client().resolve(&app, &Platform::host()).unwrap().unwrap();
        assert_eq!(server.requests().len() - before, requests);
    }
}

#[test]
fn repositories_are_listed_in_pages() {
    let server = FaultyRegistry::start([]);
    for name in ["a", "team/b", "team/c", "team/d", "z"] {
        let app = reference(&server.host(), &format!("{name}:1"));
        Sample::new(1, 100).push(&anonymous(), &app).unwrap();
    }
    let listed = anonymous().repositories(&server.host()).unwrap();
    assert_eq!(listed, ["a", "team/b", "team/c", "team/d", "z"]);
    assert_eq!(server.requests_of("GET", "/v2/_catalog").len(), 3);
    server.set_faults([Fault::NoCatalog]);
    let error = anonymous().repositories(&server.host()).unwrap_err().to_string();
    assert!(error.contains("_catalog") && error.contains("404"), "{error}");
}
