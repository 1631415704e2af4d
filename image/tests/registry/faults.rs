//! What registries do wrong, or in their own way, one test for each.

use std::io::Read as _;
use std::time::{Duration, Instant};

use longshore_image::{
    BlobOpener, BlobOutcome, BlobSource, Descriptor, Digest, ImageStore as _, Keychain, LocalStore,
    ManifestFormat, Platform, Reference, Registry, StoreError,
};
use longshore_test_support::registry::{Fault, FaultyRegistry, RetryAfter};

use crate::samples::{Sample, bytes, keychain, pull, read, reference, registry, registry_with, text};

const MIB: usize = 1 << 20;
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn anonymous() -> Registry {
    registry(Keychain::empty())
}

fn status(method: &'static str, path: &'static str, status: u16, times: u32) -> Fault {
    Fault::Status { method, path, status, retry_after: None, times }
}

/// Pushes an image through the faults, and pulls it without them.
fn push_through(faults: impl IntoIterator<Item = Fault>, length: usize) -> FaultyRegistry {
    let server = FaultyRegistry::start(faults);
    let registry = anonymous();
    let app = reference(&server.host(), "team/app:v1");
    let sample = Sample::new(length as u64, length);
    sample.push(&registry, &app).unwrap_or_else(|error| panic!("{}\n{:#?}", text(&error), server.requests()));
    server.assert_tags_are_complete();
    server.set_faults([]);
    assert_eq!(pull(&registry, &app).1, sample.layer);
    server
}

/// Pushes an image that the faults forbid; the error.
fn push_refused(faults: impl IntoIterator<Item = Fault>) -> (FaultyRegistry, String) {
    let server = FaultyRegistry::start(faults);
    let error = Sample::new(1, MIB).push(&anonymous(), &reference(&server.host(), "app:v1")).unwrap_err();
    assert!(server.tags("app").is_empty());
    (server, text(&error))
}

/// Downloads a layer into a local store.
fn download(
    registry: &std::sync::Arc<Registry>,
    app: &Reference,
    sample: &Sample,
    store: &LocalStore,
) -> Result<(), StoreError> {
    let layer = sample.layer_descriptor();
    let source = BlobSource::Lazy(BlobOpener::of(registry.clone(), app.clone(), layer.clone()));
    store.write_blob(app, &layer, &source, None).map(drop)
}

/// Pulls an image through the faults.
fn pull_through(faults: impl IntoIterator<Item = Fault>) -> FaultyRegistry {
    let server = FaultyRegistry::start([]);
    let registry = anonymous();
    let app = reference(&server.host(), "team/app:v1");
    let sample = Sample::new(7, 3 * MIB);
    sample.push(&registry, &app).unwrap();
    server.set_faults(faults);
    assert_eq!(read(&registry, &app, &sample.layer_descriptor()).unwrap(), sample.layer);
    server
}

#[test]
fn locations_may_be_relative_and_have_queries() {
    push_through([Fault::RelativeLocation], MIB);
    push_through([Fault::QueryLocation], MIB);
    push_through([Fault::RelativeLocation, Fault::QueryLocation, Fault::ChunkLimit(4 << 20)], 9 * MIB);
}

#[test]
fn a_blob_is_sent_in_one_piece() {
    let server = push_through([Fault::NoChunks], 9 * MIB);
    assert_eq!(server.requests_of("PUT", "/blobs/uploads/").len(), 2, "a layer and a configuration");
    assert!(server.requests_of("PATCH", "").is_empty());
}

#[test]
fn a_limit_of_requests_is_met_with_chunks() {
    for fault in [Fault::ChunkLimit(4 << 20), Fault::WholeLimit(5 << 20)] {
        let server = push_through([fault], 9 * MIB);
        let chunks: Vec<u64> =
            server.requests_of("PATCH", "").iter().map(|request| request.received).collect();
        assert_eq!(chunks, [4 << 20, 4 << 20, 1 << 20]);
    }
}

#[test]
fn a_broken_upload_goes_on_where_it_broke() {
    let server = push_through([Fault::CutUpload { after: 5 * MIB, times: 1 }], 9 * MIB);
    let chunks: Vec<u64> = server.requests_of("PATCH", "").iter().map(|request| request.received).collect();
    assert_eq!(chunks, [4 << 20], "what had not arrived");
}

#[test]
fn a_broken_upload_starts_again_where_chunks_are_dropped_or_refused() {
    for fault in [Fault::DropsChunks, Fault::NoChunks] {
        let server = push_through([Fault::CutUpload { after: 5 * MIB, times: 1 }, fault], 9 * MIB);
        let puts = server.requests_of("PUT", "/blobs/uploads/");
        assert!(puts.iter().any(|request| request.received == 9 << 20), "{puts:#?}");
    }
}

#[test]
fn a_lost_upload_starts_again() {
    push_through([status("PUT", "/blobs/uploads/", 404, 1)], MIB);
    push_through([Fault::Reset { method: "PUT", path: "/blobs/uploads/", times: 2 }], MIB);
}

#[test]
fn failures_that_pass_are_waited_for() {
    push_through(
        [
            status("POST", "/blobs/uploads/", 500, 1),
            status("PUT", "/blobs/uploads/", 502, 2),
            status("PUT", "/manifests/", 503, 1),
            Fault::Reset { method: "HEAD", path: "/blobs/", times: 3 },
        ],
        MIB,
    );
    let server = pull_through([
        status("GET", "/blobs/", 500, 1),
        status("GET", "/blobs/", 504, 1),
        Fault::Reset { method: "GET", path: "/blobs/", times: 1 },
    ]);
    assert_eq!(server.requests_of("GET", "/blobs/sha256").len(), 4);
}

#[test]
fn failures_that_stay_end_before_the_tag() {
    for (code, words) in [(507, "507"), (403, "docker login"), (500, "500"), (405, "405")] {
        let (_server, error) = push_refused([status("POST", "/blobs/uploads/", code, 100)]);
        assert!(error.contains(words) && error.contains("as told"), "{error}");
        let (_server, error) = push_refused([status("PUT", "/blobs/uploads/", code, 100)]);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn retry_after_is_obeyed_in_both_forms() {
    for (when, least) in [(RetryAfter::Seconds(1), 900), (RetryAfter::Date(2), 900)] {
        let limit =
            Fault::Status { method: "GET", path: "/blobs/", status: 429, retry_after: Some(when), times: 1 };
        let start = Instant::now();
        pull_through([limit]);
        assert!(start.elapsed() >= Duration::from_millis(least), "{when:?} {:?}", start.elapsed());
    }
    for when in [RetryAfter::Seconds(3600), RetryAfter::Date(3600)] {
        let limit =
            Fault::Status { method: "POST", path: "", status: 429, retry_after: Some(when), times: 100 };
        let (server, error) = push_refused([limit]);
        assert!(error.contains("wait 36") || error.contains("wait 35"), "{error}");
        assert_eq!(server.requests_of("POST", "").len(), 1);
    }
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let server = pull_through([Fault::CutDownload { after: MIB, times: 2 }]);
    let ranges: Vec<_> = server.requests_of("GET", "/blobs/").into_iter().map(|get| get.range).collect();
    assert_eq!(ranges.len(), 3);
    assert!(ranges[0].is_none() && ranges[1].as_deref().is_some_and(|range| range.starts_with("bytes=")));
    pull_through([Fault::IgnoresRange, Fault::CutDownload { after: MIB, times: 2 }]);
}

#[test]
fn row_14_a_damaged_download_is_tried_once_more_and_not_kept() {
    let server = FaultyRegistry::start([]);
    let registry = std::sync::Arc::new(anonymous());
    let app = reference(&server.host(), "app:v1");
    let sample = Sample::new(60, 2 * MIB);
    sample.push(&registry, &app).unwrap();
    for (times, expected) in [(1, true), (2, false)] {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(directory.path()).unwrap();
        server.set_faults([Fault::FlipsBits { times }]);
        let result = download(&registry, &app, &sample, &store);
        assert_eq!(result.is_ok(), expected, "{times}: {result:?}");
        assert_eq!(store.has_blob(&app, sample.layer_descriptor().digest).unwrap(), expected);
        if let Err(error) = result {
            assert!(text(&error).contains(&sample.layer_descriptor().digest.to_string()), "{}", text(&error));
        }
        server.assert_tags_are_complete();
    }
}

#[test]
fn row_31_a_download_goes_on_where_another_process_was_cut_off() {
    let server = FaultyRegistry::start([]);
    let app = reference(&server.host(), "app:v1");
    let sample = Sample::new(61, 4 * MIB);
    sample.push(&anonymous(), &app).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    let impatient =
        || std::sync::Arc::new(registry_with(Keychain::empty(), |config| config.retry.attempts = 1));
    server.set_faults([Fault::CutDownload { after: 2 * MIB, times: 2 }]);
    download(&impatient(), &app, &sample, &store).unwrap_err();
    assert!(!store.has_blob(&app, sample.layer_descriptor().digest).unwrap());
    server.set_faults([]);
    let before = server.requests_of("GET", "/blobs/").len();
    download(&impatient(), &app, &sample, &store).unwrap();
    let asked = server.requests_of("GET", "/blobs/").split_off(before);
    assert_eq!(asked.len(), 1);
    assert!(asked[0].range.as_deref().is_some_and(|range| range != "bytes=0-"), "{asked:#?}");
    let mut stored = Vec::new();
    store.open_blob(&app, &sample.layer_descriptor()).unwrap().read_to_end(&mut stored).unwrap();
    assert_eq!(stored, sample.layer);
}

#[test]
fn blobs_of_other_stores_are_sent_in_chunks_too() {
    // A part was once taken for a blob with too many bytes.
    let (here, there) = (FaultyRegistry::start([]), FaultyRegistry::start([Fault::ChunkLimit(4 << 20)]));
    let registry = std::sync::Arc::new(anonymous());
    let sample = Sample::new(62, 9 * MIB);
    let (from, to) = (reference(&here.host(), "app:v1"), reference(&there.host(), "app:v1"));
    sample.push(&registry, &from).unwrap();
    let layer = sample.layer_descriptor();
    let source = BlobSource::Lazy(BlobOpener::of(registry.clone(), from, layer.clone()));
    registry.write_blob(&to, &layer, &source, None).unwrap();
    assert_eq!(there.requests_of("PATCH", "").len(), 3);
    there.assert_tags_are_complete();
}

#[test]
fn row_28_chunks_that_do_not_arrive_end_in_one_request() {
    let whole_refused_once = status("PUT", "/blobs/uploads/", 413, 1);
    let server = push_through([whole_refused_once, Fault::DropsChunks], 9 * MIB);
    assert!(server.requests_of("PATCH", "").len() >= 2);
    let puts = server.requests_of("PUT", "/blobs/uploads/");
    assert!(puts.iter().any(|request| request.status == 201 && request.received == 9 << 20), "{puts:#?}");
}

#[test]
fn damaged_bytes_are_refused() {
    let server = FaultyRegistry::start([]);
    let registry = anonymous();
    let app = reference(&server.host(), "app:v1");
    let sample = Sample::new(8, MIB);
    sample.push(&registry, &app).unwrap();
    let layer = sample.layer_descriptor();

    server.set_faults([Fault::FlipsBits { times: 1 }]);
    let error = read(&registry, &app, &layer).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains(&layer.digest.to_string()), "{error}");

    // A configuration is small, and asked for once more.
    server.set_faults([Fault::FlipsBits { times: 1 }]);
    assert!(registry.resolve(&app, &Platform::host()).unwrap().is_some());
    server.set_faults([Fault::FlipsBits { times: 2 }]);
    assert!(registry.resolve(&app, &Platform::host()).is_err());

    for (size, words) in [(layer.size - 1, "has"), (layer.size + 1, "has")] {
        let error = read(&registry, &app, &Descriptor { size, ..layer.clone() }).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    server.set_faults([Fault::WrongDigestHeader]);
    let error = text(&registry.manifest(&app).unwrap_err());
    assert!(error.contains("has the digest"), "{error}");
}

#[test]
fn a_manifest_of_another_digest_is_refused() {
    let server = FaultyRegistry::start([]);
    let asked = Digest::of(b"asked");
    server.put_manifest("app", &asked.to_string(), OCI, Sample::new(9, 1).manifest.raw());
    let error = anonymous().manifest(&reference(&server.host(), &format!("app@{asked}"))).unwrap_err();
    assert!(text(&error).contains(&asked.to_string()));
}

#[test]
fn hostile_manifests_are_refused_before_anything_is_fetched() {
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
fn nested_indexes_end() {
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
fn urls_of_layers_are_never_fetched() {
    let (server, elsewhere) = (FaultyRegistry::start([]), FaultyRegistry::start([]));
    let app = reference(&server.host(), "app:v1");
    let mut layer = Sample::new(11, MIB).layer_descriptor();
    let urls = format!("http://{}/v2/app/blobs/{}", elsewhere.host(), layer.digest);
    layer.other.insert("urls".to_owned(), serde_json::json!([urls, "http://169.254.169.254/"]));
    assert!(read(&anonymous(), &app, &layer).is_err());
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn credentials_stay_with_their_registry() {
    let storage = FaultyRegistry::start([]);
    let server = FaultyRegistry::start([Fault::Bearer("user", "secret")]);
    // user:secret
    let registry = registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
    let app = reference(&server.host(), "app:v1");
    let sample = Sample::new(12, MIB);
    sample.push(&registry, &app).unwrap();
    storage.put_blob("storage", &sample.layer);
    server.set_faults([
        Fault::Bearer("user", "secret"),
        Fault::RedirectBlobs(format!("http://{}/v2/storage/blobs", storage.host())),
    ]);
    assert_eq!(read(&registry, &app, &sample.layer_descriptor()).unwrap(), sample.layer);
    let theirs = storage.requests();
    assert!(
        !theirs.is_empty() && theirs.iter().all(|request| request.authorization.is_none()),
        "{theirs:#?}"
    );
    let ours = server.requests_of("GET", "/blobs/");
    assert!(ours.iter().any(|request| request.authorization.is_some()));

    // A storage that asks for credentials does not get any either.
    storage.set_faults([Fault::Basic("user", "secret")]);
    assert!(read(&registry, &app, &sample.layer_descriptor()).is_err());
    assert!(storage.requests().iter().all(|request| request.authorization.is_none()));
}

#[test]
fn realms_that_are_not_safe_get_nothing() {
    let elsewhere = FaultyRegistry::start([]);
    for realm in ["file:///etc/passwd", "http://auth.example.com/token", "ftp://127.0.0.1/", "/token"] {
        let server = FaultyRegistry::start([Fault::Bearer("user", "secret"), Fault::Realm(realm.to_owned())]);
        let registry = registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
        let error = text(&registry.manifest(&reference(&server.host(), "app:v1")).unwrap_err());
        assert!(error.contains(realm) && error.contains("refused"), "{error}");
        assert!(server.requests().iter().all(|request| request.authorization.is_none()));
    }
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn a_token_endpoint_may_be_on_another_host() {
    let tokens = FaultyRegistry::start([]);
    let realm = Fault::Realm(format!("http://{}/token", tokens.host()));
    let server = FaultyRegistry::start([Fault::Bearer("user", "secret"), realm]);
    let registry = registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
    // The registry does not know the other's tokens: what counts is that they were asked for, and how.
    assert!(registry.manifest(&reference(&server.host(), "team/app:v1")).is_err());
    let asked = tokens.requests_of("GET", "/token");
    assert!(!asked.is_empty());
    for request in asked {
        assert!(request.authorization.is_some_and(|header| header.starts_with("Basic ")));
        assert!(request.query.contains("service=faulty"));
        assert!(request.query.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{}", request.query);
    }
}

#[test]
fn tokens_are_shared_and_renewed() {
    let server = FaultyRegistry::start([Fault::Bearer("user", "secret")]);
    let registry = registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
    let app = reference(&server.host(), "app:v1");
    let samples: Vec<Sample> = (0..8).map(|seed| Sample::new(100 + seed, MIB / 8)).collect();
    std::thread::scope(|scope| {
        for sample in &samples {
            let layer = sample.layer_descriptor();
            let (registry, app) = (&registry, &app);
            let source = BlobSource::Bytes(sample.layer.clone());
            scope.spawn(move || registry.write_blob(app, &layer, &source, None).unwrap());
        }
    });
    assert_eq!(server.requests_of("GET", "/token").len(), 1, "one token for one scope");

    // Each token is good for one request: the PUT that closes an upload is refused, too.
    server.set_faults([Fault::Bearer("user", "secret"), Fault::TokenUses(1)]);
    let registry = crate::samples::registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
    let sample = Sample::new(13, 5 * MIB);
    sample.push(&registry, &app.with_tag("v2")).unwrap();
    server.assert_tags_are_complete();
    let refused = server.requests_of("PUT", "/blobs/uploads/");
    assert!(refused.iter().any(|request| request.status == 401), "{refused:#?}");
}

#[test]
fn refresh_tokens_are_exchanged() {
    let server = FaultyRegistry::start([Fault::Bearer("user", "refresh")]);
    let registry = registry(keychain(&server.host(), "X-Identity refresh"));
    Sample::new(14, 1024).push(&registry, &reference(&server.host(), "app:v1")).unwrap();
    assert_eq!(server.requests_of("GET", "/token").len(), 0);
    assert!(!server.requests_of("POST", "/token").is_empty());
}

#[test]
fn a_token_endpoint_that_is_down_is_waited_for_and_named() {
    let token_fault = |times| status("GET", "/token", 503, times);
    let server = FaultyRegistry::start([Fault::Bearer("user", "secret"), token_fault(2)]);
    let registry = registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
    let app = reference(&server.host(), "app:v1");
    Sample::new(15, 1024).push(&registry, &app).unwrap();
    server.set_faults([Fault::Bearer("user", "secret"), Fault::TokenUses(0), token_fault(100)]);
    let another = reference(&server.host(), "another:v1");
    let error = text(&registry.manifest(&another).unwrap_err());
    assert!(error.contains("/token") && error.contains("503"), "{error}");
}

#[test]
fn wrong_credentials_are_named_with_the_registry_and_what_to_do() {
    let server = FaultyRegistry::start([Fault::Bearer("user", "secret")]);
    let app = reference(&server.host(), "app:v1");
    for keychain in [keychain(&server.host(), "Basic dXNlcjp3cm9uZw=="), Keychain::empty()] {
        let error = text(&registry(keychain).manifest(&app).unwrap_err());
        assert!(
            error.contains("incorrect username or password") && error.contains("docker login"),
            "{error}"
        );
        assert!(!error.contains("wrong"), "{error}");
    }
}

#[test]
fn a_trickle_is_given_up() {
    let server = FaultyRegistry::start([]);
    let registry = registry_with(Keychain::empty(), |config| {
        config.timeouts.stall = Duration::from_millis(300);
        config.retry.attempts = 2;
    });
    let app = reference(&server.host(), "app:v1");
    let sample = Sample::new(16, MIB);
    sample.push(&registry, &app).unwrap();
    server.set_faults([Fault::Trickle(100)]);
    let start = Instant::now();
    let error = read(&registry, &app, &sample.layer_descriptor()).unwrap_err();
    assert!(error.to_string().contains("stalled"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_cannot_be_mounted_is_sent() {
    for fault in [
        Fault::NoMount,
        status("POST", "/blobs/uploads/", 403, 1),
        status("POST", "/blobs/uploads/", 401, 1),
        status("POST", "/blobs/uploads/", 405, 1),
    ] {
        let server = FaultyRegistry::start([]);
        let registry = anonymous();
        let (base, app) = (reference(&server.host(), "base:v1"), reference(&server.host(), "app:v1"));
        let sample = Sample::new(17, MIB);
        sample.push(&registry, &base).unwrap();
        let (layer, source) = (sample.layer_descriptor(), BlobSource::Bytes(sample.layer.clone()));
        server.set_faults([fault.clone()]);
        let outcome = registry.write_blob(&app, &layer, &source, Some(&base)).unwrap();
        assert_eq!(outcome, BlobOutcome::Written, "{fault:?}");
        server.set_faults([]);
        let other = reference(&server.host(), "other:v1");
        assert_eq!(registry.write_blob(&other, &layer, &source, Some(&base)).unwrap(), BlobOutcome::Mounted);
    }
}

#[test]
fn two_pushers_of_a_tag_leave_one_whole_image() {
    let server = FaultyRegistry::start([]);
    let registry = anonymous();
    let app = reference(&server.host(), "app:v1");
    let samples = [Sample::new(18, MIB), Sample::new(19, MIB)];
    std::thread::scope(|scope| {
        for sample in &samples {
            let (registry, app) = (&registry, &app);
            scope.spawn(move || sample.push(registry, app).unwrap());
        }
    });
    server.assert_tags_are_complete();
    let (image, layer) = pull(&registry, &app);
    assert!(samples.iter().any(|sample| sample.manifest == image.manifest && sample.layer == layer));
}

#[test]
fn a_manifest_is_refused_in_the_registrys_own_words() {
    let (_server, error) = push_refused([Fault::DockerOnly]);
    assert!(error.contains("MANIFEST_INVALID") && error.contains("400"), "{error}");
    let server = FaultyRegistry::start([Fault::DockerOnly]);
    let docker = Sample::of(bytes(20, 1024), ManifestFormat::Docker);
    docker.push(&anonymous(), &reference(&server.host(), "app:v1")).unwrap();
}

#[test]
fn deleting_and_listing() {
    let server = FaultyRegistry::start([]);
    let registry = anonymous();
    let app = reference(&server.host(), "team/app:v1");
    assert!(registry.tags(&app).unwrap().is_empty());
    let sample = Sample::new(21, 1024);
    for tag in ["a", "b", "c", "d", "e"] {
        sample.push(&registry, &app.with_tag(tag)).unwrap();
    }
    assert_eq!(registry.tags(&app).unwrap(), ["a", "b", "c", "d", "e"]);
    assert!(registry.delete(&app.with_tag("a")).unwrap());
    assert!(!registry.delete(&app.with_tag("a")).unwrap());
    server.set_faults([Fault::NoDelete]);
    let error = text(&registry.delete(&app.with_tag("b")).unwrap_err());
    assert!(error.contains("405") && error.contains("no deletion here"), "{error}");
}

#[test]
fn referrers_are_listed_with_and_without_the_api() {
    for faults in [vec![], vec![Fault::NoReferrers]] {
        let server = FaultyRegistry::start(faults);
        let registry = anonymous();
        let app = reference(&server.host(), "app:v1");
        let subject = Sample::new(22, 1024);
        subject.push(&registry, &app).unwrap();
        assert!(registry.referrers(&app, subject.manifest.digest(), None).unwrap().is_empty());
        for artifact_type in ["application/spdx+json", "application/x-signature"] {
            let sample = Sample::new(23, 1024);
            sample.push(&registry, &app.with_tag("parts")).unwrap();
            let mut artifact = sample.manifest.as_image().unwrap().clone();
            artifact.other.insert("artifactType".to_owned(), artifact_type.into());
            let about = serde_json::to_value(subject.manifest.descriptor()).unwrap();
            artifact.other.insert("subject".to_owned(), about);
            artifact.annotations.insert("key".to_owned(), "value".to_owned());
            let artifact = longshore_image::Manifest::image(artifact);
            let by_digest = app.with_digest(artifact.digest());
            // Twice: it is listed once.
            registry.put_manifest(&by_digest, &artifact).unwrap();
            registry.put_manifest(&by_digest, &artifact).unwrap();
            let found = registry.referrers(&app, subject.manifest.digest(), Some(artifact_type)).unwrap();
            assert_eq!(found.len(), 1, "{found:#?}");
            assert_eq!(found[0].digest, artifact.digest());
            assert_eq!(found[0].annotations["key"], "value");
        }
        assert_eq!(registry.referrers(&app, subject.manifest.digest(), None).unwrap().len(), 2);
        server.assert_tags_are_complete();
    }
}
