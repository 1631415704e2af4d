//! Blobs and manifests on their way in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_image::{BlobOpener, BlobOutcome, BlobSource, ImageStore as _};
use longshore_test_support::registry::{Fault, FaultyRegistry, RetryAfter};

use super::{MIB, anonymous, pull_through, push_refused, push_through, status};
use crate::samples::{Sample, pull, reference};

#[test]
fn row_30_locations_may_be_relative_and_have_queries() {
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
fn row_29_a_limit_of_requests_is_met_with_chunks() {
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
fn row_28_a_broken_upload_starts_again_where_chunks_are_dropped_or_refused() {
    for fault in [Fault::DropsChunks, Fault::NoChunks] {
        let server = push_through([Fault::CutUpload { after: 5 * MIB, times: 1 }, fault], 9 * MIB);
        let puts = server.requests_of("PUT", "/blobs/uploads/");
        assert!(puts.iter().any(|request| request.received == 9 << 20), "{puts:#?}");
    }
}

#[test]
fn row_27_a_lost_upload_starts_again() {
    push_through([status("PUT", "/blobs/uploads/", 404, 1)], MIB);
    push_through([Fault::Reset { method: "PUT", path: "/blobs/uploads/", times: 2 }], MIB);
}

#[test]
fn row_26_failures_that_pass_are_waited_for() {
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
fn row_35_failures_that_stay_end_before_the_tag() {
    for (code, words) in [(507, "507"), (403, "docker login"), (500, "500"), (405, "405")] {
        let (_server, error) = push_refused([status("POST", "/blobs/uploads/", code, 100)]);
        assert!(error.contains(words) && error.contains("as told"), "{error}");
        let (_server, error) = push_refused([status("PUT", "/blobs/uploads/", code, 100)]);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn row_25_retry_after_is_obeyed_in_both_forms() {
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
fn blobs_of_other_stores_are_sent_in_chunks_too() {
    // A part was once taken for a blob with too many bytes.
    let (here, there) = (FaultyRegistry::start([]), FaultyRegistry::start([Fault::ChunkLimit(4 << 20)]));
    let registry = Arc::new(anonymous());
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
fn row_33_what_cannot_be_mounted_is_sent() {
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
fn row_34_two_pushers_of_a_tag_leave_one_whole_image() {
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
