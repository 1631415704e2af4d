//! Blobs that are sent while they are being made, and all that may go wrong with that.

use std::io::Read;
use std::time::Duration;

use longshore_image::layer::{self, BlobSink};
use longshore_image::{
    BlobOutcome, BlobSource, Config, Descriptor, Digest, ImageManifest, ImageStore as _, Keychain, Layer,
    LayerFormat, Manifest, ManifestFormat, MediaType, Platform, Reference, Registry,
};
use longshore_test_support::registry::{Fault, FaultyRegistry};
use longshore_test_support::{CutLine, DockerRegistry};

use super::{MIB, anonymous, status};
use crate::samples::{bytes, keychain, pull, reference, registry, registry_with};

const PATCH: &str = "/blobs/uploads/upload";

/// Makes a layer whose blob is a little larger than `length` bytes, and is sent meanwhile. Its last MiB is only made when the
/// registry was asked to open an upload, so that it is not complete before.
fn make(
    registry: &Registry,
    app: &Reference,
    (seed, length): (u64, usize),
    server: Option<&FaultyRegistry>,
) -> (tempfile::TempDir, Layer) {
    let directory = tempfile::tempdir().unwrap();
    let sink = BlobSink::scratch(directory.path()).followed_by(registry.follower(app));
    let content = bytes(seed, length);
    let (start, end) = content.split_at(length.saturating_sub(MIB));
    let mut tar = start.chain(Opened(server)).chain(end);
    let family = ManifestFormat::Oci;
    let layer = layer::build_from(&mut tar, "a tar", LayerFormat::TarZstd, family, &sink).unwrap();
    (directory, layer)
}

/// Ends when the registry has been asked to open an upload since it was made.
struct Opened<'a>(Option<&'a FaultyRegistry>);

impl Read for Opened<'_> {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        while self.0.is_some_and(|server| server.requests_of("POST", "/blobs/uploads/").is_empty()) {
            std::thread::yield_now();
        }
        Ok(0)
    }
}

fn push(
    registry: &Registry,
    app: &Reference,
    content: (u64, usize),
    server: Option<&FaultyRegistry>,
) -> (Layer, BlobOutcome) {
    let (_directory, layer) = make(registry, app, content, server);
    let blob = BlobSource::File(layer.path.clone());
    let outcome = registry.write_blob(app, &layer.descriptor, &blob, None).unwrap();
    name(registry, app, &layer);
    (layer, outcome)
}

/// Configuration, manifest and tag.
fn name(registry: &Registry, app: &Reference, layer: &Layer) {
    let mut config = Config::new(&Platform::host());
    config.set_diff_ids(&[layer.diff_id]);
    let config = config.to_bytes();
    let media_type = MediaType::Config(ManifestFormat::Oci);
    let descriptor = Descriptor::new(media_type, Digest::of(&config), config.len() as u64);
    registry.write_blob(app, &descriptor, &BlobSource::Bytes(config), None).unwrap();
    let manifest = ImageManifest::new(ManifestFormat::Oci, descriptor, vec![layer.descriptor.clone()]);
    registry.put_manifest(app, &Manifest::image(manifest)).unwrap();
}

/// The bytes of uploads that arrived, of blobs that are no configurations.
fn sent(server: &FaultyRegistry) -> u64 {
    let bodies = server.requests_of("PATCH", "").into_iter().chain(server.requests_of("PUT", "/blobs/"));
    bodies.map(|request| request.received).filter(|received| *received > 10_000).sum()
}

/// Pushes through the faults: the image is whole, and no byte was sent more than twice.
fn push_through(faults: impl IntoIterator<Item = Fault>) -> FaultyRegistry {
    push_with(&anonymous(), faults)
}

fn push_with(registry: &Registry, faults: impl IntoIterator<Item = Fault>) -> FaultyRegistry {
    let faults: Vec<Fault> = faults.into_iter().collect();
    let server = FaultyRegistry::start(faults.clone());
    let app = reference(&server.host(), "team/app:v1");
    let (layer, _) = push(registry, &app, (1, 9 * MIB), Some(&server));
    server.assert_tags_are_complete();
    assert!(sent(&server) <= 2 * layer.descriptor.size, "{faults:?} {:#?}", server.requests());
    server.set_faults([]);
    assert_eq!(Digest::of(&pull(&anonymous(), &app).1), layer.descriptor.digest, "{faults:?}");
    server
}

fn seen(server: &FaultyRegistry) -> Vec<String> {
    let requests = server.requests().into_iter();
    requests.map(|request| format!("{} {}", request.method, request.status)).collect()
}

#[test]
fn a_blob_is_sent_once_while_it_is_made() {
    let server = FaultyRegistry::start([]);
    let (registry, app) = (anonymous(), reference(&server.host(), "app:v1"));
    let (layer, outcome) = push(&registry, &app, (1, 9 * MIB), Some(&server));
    assert_eq!(outcome, BlobOutcome::Written);
    assert_eq!(sent(&server), layer.descriptor.size);
    let uploads: Vec<String> =
        seen(&server).into_iter().filter(|request| !request.starts_with("GET")).collect();
    assert_eq!(uploads[..3], ["POST 202", "PATCH 202", "PUT 201"], "no more than a blob at hand takes");
    assert_eq!(server.requests_of("HEAD", "").len(), 0);
}

#[test]
fn a_small_blob_is_sent_when_it_is_complete() {
    let server = FaultyRegistry::start([]);
    let (registry, app) = (anonymous(), reference(&server.host(), "app:v1"));
    push(&registry, &app, (1, MIB / 2), None);
    assert!(server.requests_of("PATCH", "").is_empty());
}

#[test]
fn locations_may_be_relative_and_have_queries() {
    for faults in [vec![Fault::RelativeLocation], vec![Fault::QueryLocation, Fault::RelativeLocation]] {
        let server = push_through(faults);
        assert_eq!(server.requests_of("PATCH", "").len(), 1);
        assert!(server.requests_of("PUT", "/blobs/").iter().all(|request| request.received < 10_000));
    }
}

#[test]
fn a_registry_that_refuses_the_stream_gets_the_blob_from_its_file() {
    for code in [400, 404, 405, 411, 413, 416, 500, 501, 503] {
        push_through([status("PATCH", PATCH, code, 1)]);
        push_through([status("PATCH", PATCH, code, 1), Fault::AnswersEarly]);
        push_through([status("PUT", PATCH, code, 1)]);
    }
    for code in [403, 404, 405, 429, 500] {
        push_through([status("POST", "/blobs/uploads/", code, 1)]);
    }
    push_through([Fault::NoChunks]);
    push_through([Fault::WrongBlobDigest { times: 1 }]);
}

#[test]
fn limits_of_requests_are_met_with_chunks_afterwards() {
    for limit in [Fault::ChunkLimit(4 << 20), Fault::WholeLimit(5 << 20)] {
        let server = push_through([limit]);
        assert!(server.requests_of("PUT", "/blobs/").iter().all(|request| request.received < 10_000));
    }
}

#[test]
fn a_stream_that_breaks_is_no_harm() {
    for method in ["POST", "PATCH", "PUT"] {
        push_through([Fault::Reset { method, path: "/blobs/uploads/", times: 1 }]);
    }
    for after in [1, 4 * MIB, 9 * MIB] {
        push_through([Fault::CutUpload { after, times: 1 }]);
    }
}

#[test]
fn a_stream_that_is_dropped_is_noticed() {
    for tells in [true, false] {
        let server = push_through([Fault::DropsStreams { tells }]);
        assert_eq!(server.requests_of("PATCH", "").len(), 1);
    }
    push_through([Fault::DropsChunks]);
}

/// The client waits in its tests for 5 seconds, and in this one for less.
#[test]
fn a_stalled_stream_is_given_up() {
    let impatient = registry_with(Keychain::empty(), |config| {
        config.timeouts.stall = Duration::from_millis(300);
        config.timeouts.answer = Duration::from_millis(600);
    });
    push_with(&impatient, [Fault::StallsUpload { after: MIB, times: 1 }]);
    push_with(&impatient, [Fault::StallsUpload { after: 9 * MIB, times: 1 }]);
}

/// Whoever makes a blob does not wait for the network.
#[test]
fn a_stalled_stream_holds_nobody_up() {
    let server = FaultyRegistry::start([Fault::StallsUpload { after: 1, times: 100 }]);
    let registry = registry_with(Keychain::empty(), |config| {
        config.timeouts.stall = Duration::from_secs(1 << 20);
    });
    let app = reference(&server.host(), "app:v1");
    for seed in 0..8 {
        let (_directory, layer) = make(&registry, &app, (seed, 5 * MIB), None);
        assert!(layer.descriptor.size > 5 << 20);
    }
}

#[test]
fn tokens_that_end_between_the_requests_are_renewed() {
    let server = FaultyRegistry::start([Fault::Bearer("u", "p"), Fault::TokenUses(1)]);
    let registry = registry(keychain(&server.host(), "Basic dTpw"));
    let app = reference(&server.host(), "app:v1");
    let (layer, outcome) = push(&registry, &app, (1, 9 * MIB), Some(&server));
    assert_eq!(outcome, BlobOutcome::Written);
    let refused = server.requests_of("PATCH", "").iter().filter(|request| request.status == 401).count();
    assert_eq!(refused, 1);
    let closing: Vec<u16> =
        server.requests_of("PUT", "digest=").iter().map(|request| request.status).collect();
    assert_eq!(closing[..2], [401, 201], "{:#?}", server.requests());
    assert!(sent(&server) <= 2 * layer.descriptor.size);
}

#[test]
fn a_registry_that_refused_one_stream_is_not_given_another() {
    let server = FaultyRegistry::start([Fault::NoChunks]);
    let (registry, app) = (anonymous(), reference(&server.host(), "app:v1"));
    for seed in 0..3 {
        push(&registry, &app, (seed, 6 * MIB), Some(&server));
    }
    assert_eq!(server.requests_of("PATCH", "").len(), 1);
    // What it refused is not left open there.
    assert_eq!(server.requests_of("DELETE", PATCH).len(), 1);
}

#[test]
fn a_blob_that_is_not_finished_leaves_no_upload() {
    let server = FaultyRegistry::start([]);
    let (registry, app) = (anonymous(), reference(&server.host(), "app:v1"));
    let directory = tempfile::tempdir().unwrap();
    let sink = BlobSink::scratch(directory.path()).followed_by(registry.follower(&app));
    let content = bytes(1, 12 * MIB);
    let content = &content[..];
    let mut broken = content.chain(Broken(&server));
    layer::build_from(&mut broken, "broken", LayerFormat::TarZstd, ManifestFormat::Oci, &sink).unwrap_err();
    // The next blob goes out as if nothing had happened.
    push(&registry, &app, (2, 9 * MIB), None);
    assert_eq!(server.requests_of("PUT", "digest=").iter().filter(|put| put.status == 201).count(), 2);
}

/// A source that fails when the registry has opened an upload.
struct Broken<'a>(&'a FaultyRegistry);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Opened(Some(self.0)).read(buffer)?;
        Err(std::io::Error::other("as told"))
    }
}

/// Debian's registry, open, with a password, and behind a line that breaks in the blob.
#[test]
fn a_real_registry_takes_streams() {
    let open = DockerRegistry::start();
    let closed = DockerRegistry::start_with_password("u", "p");
    let line = CutLine::start(open.port(), 5 * MIB, 1);
    let clients = [
        (open.host(), anonymous()),
        (closed.host(), registry(keychain(&closed.host(), "Basic dTpw"))),
        (line.host(), anonymous()),
    ];
    for (seed, (host, registry)) in (100..).zip(clients) {
        let app = reference(&host, "team/app:v1");
        let (layer, outcome) = push(&registry, &app, (seed, 24 * MIB), None);
        assert_ne!(outcome, BlobOutcome::Mounted);
        let pulled = pull(&registry, &app).1;
        assert_eq!(Digest::of(&pulled), layer.descriptor.digest, "{host}");
    }
    assert_eq!(line.left(), 0, "the line broke");
}
