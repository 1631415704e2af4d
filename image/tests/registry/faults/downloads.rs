//! Blobs on their way out.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_image::{Descriptor, ImageStore as _, Keychain, LocalStore, Platform};
use longshore_test_support::registry::{Fault, FaultyRegistry};

use super::{MIB, anonymous, download, pull_through};
use crate::samples::{Sample, read, reference, registry_with, text};

#[test]
fn row_31_a_broken_download_goes_on_where_it_broke() {
    let server = pull_through([Fault::CutDownload { after: MIB, times: 2 }]);
    let ranges: Vec<_> = server.requests_of("GET", "/blobs/").into_iter().map(|get| get.range).collect();
    assert_eq!(ranges.len(), 3);
    assert!(ranges[0].is_none() && ranges[1].as_deref().is_some_and(|range| range.starts_with("bytes=")));
    pull_through([Fault::IgnoresRange, Fault::CutDownload { after: MIB, times: 2 }]);
}

/// The rest is only asked for when it is the rest of the same bytes.
#[test]
fn row_31_the_rest_is_of_the_same_bytes() {
    let server = pull_through([Fault::CutDownload { after: MIB, times: 1 }]);
    let gets = server.requests_of("GET", "/blobs/");
    let digest = gets[0].path.rsplit('/').next().unwrap();
    let tags: Vec<_> = gets.iter().map(|get| get.if_range.clone()).collect();
    assert_eq!(tags, [None, Some(format!("\"{digest}\""))]);
    // A tag that does not promise the same bytes must not stand there; the digest is verified anyway.
    let server = pull_through([Fault::WeakTags, Fault::CutDownload { after: MIB, times: 1 }]);
    let gets = server.requests_of("GET", "/blobs/");
    assert!(gets.len() == 2 && gets.iter().all(|get| get.if_range.is_none()), "{gets:#?}");
}

#[test]
fn row_14_a_damaged_download_is_tried_once_more_and_not_kept() {
    let server = FaultyRegistry::start([]);
    let registry = Arc::new(anonymous());
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
    let impatient = || Arc::new(registry_with(Keychain::empty(), |config| config.retry.attempts = 1));
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
fn row_14_damaged_bytes_are_refused() {
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
fn row_32_a_trickle_is_given_up() {
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
