//! Mirrors: asked first, never written to, and done without when they fail.

use longshore_image::registry::Mirrors;
use longshore_image::{ImageStore as _, Keychain, Platform, Registry};
use longshore_test_support::registry::{Fault, FaultyRegistry};

use crate::samples::{Sample, pull, read, reference, registry_with};

/// A client that knows a mirror of a registry.
fn mirrored(origin: &str, mirror: &str) -> Registry {
    let mirrors = Mirrors::of_registries([(origin, mirror)]).unwrap();
    registry_with(Keychain::empty(), |config| config.mirrors = mirrors)
}

#[test]
fn images_come_from_the_mirror_and_go_to_the_registry() {
    let (origin, mirror) = (FaultyRegistry::start([]), FaultyRegistry::start([]));
    let registry = mirrored(&origin.host(), &format!("{}/copies", mirror.host()));
    let app = reference(&origin.host(), "team/app:v1");
    let sample = Sample::new(50, 2 << 20);
    sample.push(&registry, &app).unwrap();
    assert!(mirror.requests().is_empty(), "nothing is written to a mirror");
    let plain = crate::samples::registry(Keychain::empty());
    sample.push(&plain, &reference(&mirror.host(), "copies/team/app:v1")).unwrap();

    let before = origin.requests().len();
    let (image, layer) = pull(&registry, &app);
    assert_eq!((image.manifest, layer), (sample.manifest.clone(), sample.layer.to_vec()));
    assert_eq!(image.reference, app, "the image has the name it was asked for by");
    assert_eq!(origin.requests().len(), before, "the registry was not asked");
    assert!(registry.manifest_descriptor(&app).unwrap().is_some());
    assert_eq!(origin.requests().len(), before);
    // Whether a name has to be written is for the place to say that it would be written to.
    let asked = mirror.requests().len();
    assert_eq!(registry.digest_of(&app).unwrap(), Some(sample.manifest.digest()));
    assert_eq!(mirror.requests().len(), asked);
    assert!(origin.requests().len() > before);
    mirror.assert_tags_are_complete();
    origin.assert_tags_are_complete();
}

#[test]
fn what_a_mirror_does_not_have_or_cannot_give_comes_from_the_registry() {
    let origin = FaultyRegistry::start([]);
    let app = reference(&origin.host(), "app:v1");
    let sample = Sample::new(51, 2 << 20);
    sample.push(&crate::samples::registry(Keychain::empty()), &app).unwrap();
    let table = [
        vec![],
        vec![Fault::Status { method: "", path: "", status: 500, retry_after: None, times: 100 }],
        vec![Fault::Basic("user", "secret")],
        vec![Fault::Reset { method: "", path: "", times: 100 }],
    ];
    for faults in table {
        let mirror = FaultyRegistry::start(faults.clone());
        let registry = mirrored("*", &mirror.host());
        assert_eq!(pull(&registry, &app).1, sample.layer, "{faults:?}");
        assert!(!mirror.requests().is_empty(), "{faults:?}");
    }
    // Nobody is there.
    assert_eq!(pull(&mirrored("*", "127.0.0.1:9"), &app).1, sample.layer);
    let registry = mirrored("*", "127.0.0.1:9");
    assert!(registry.resolve(&app.with_tag("missing"), &Platform::host()).unwrap().is_none());
}

#[test]
fn a_download_that_a_mirror_breaks_off_goes_on_at_the_registry() {
    let (origin, mirror) = (FaultyRegistry::start([]), FaultyRegistry::start([]));
    let app = reference(&origin.host(), "app:v1");
    let sample = Sample::new(52, 4 << 20);
    let plain = crate::samples::registry(Keychain::empty());
    sample.push(&plain, &app).unwrap();
    sample.push(&plain, &reference(&mirror.host(), "app:v1")).unwrap();
    let registry = mirrored(&origin.host(), &mirror.host());
    mirror.set_faults([Fault::CutDownload { after: 1 << 20, times: 100 }, Fault::IgnoresRange]);
    assert_eq!(read(&registry, &app, &sample.layer_descriptor()).unwrap(), sample.layer);
    let asked = origin.requests_of("GET", "/blobs/");
    assert_eq!(asked.len(), 1);
    assert!(asked[0].range.as_deref().is_some_and(|range| range.starts_with("bytes=")), "{asked:#?}");
    // The mirror is not asked again.
    let before = mirror.requests().len();
    read(&registry, &app, &sample.layer_descriptor()).unwrap();
    assert_eq!(mirror.requests().len(), before);
}

#[test]
fn a_mirror_that_sends_other_bytes_is_not_asked_again() {
    let (origin, mirror) = (FaultyRegistry::start([]), FaultyRegistry::start([]));
    let app = reference(&origin.host(), "app:v1");
    let sample = Sample::new(53, 1 << 20);
    let plain = crate::samples::registry(Keychain::empty());
    sample.push(&plain, &app).unwrap();
    sample.push(&plain, &reference(&mirror.host(), "app:v1")).unwrap();
    let registry = mirrored(&origin.host(), &mirror.host());
    mirror.set_faults([Fault::FlipsBits { times: 100 }]);
    assert!(read(&registry, &app, &sample.layer_descriptor()).is_err());
    assert_eq!(read(&registry, &app, &sample.layer_descriptor()).unwrap(), sample.layer);
}
