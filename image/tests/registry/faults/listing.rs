//! Manifests, tags and referrers.

use longshore_image::{ImageStore as _, ManifestFormat};
use longshore_test_support::registry::{Fault, FaultyRegistry};

use super::{anonymous, push_refused};
use crate::samples::{Sample, bytes, reference, text};

#[test]
fn a_manifest_is_refused_in_the_registrys_own_words() {
    let (_server, error) = push_refused([Fault::DockerOnly]);
    assert!(error.contains("MANIFEST_INVALID") && error.contains("400"), "{error}");
    let server = FaultyRegistry::start([Fault::DockerOnly]);
    let docker = Sample::of(bytes(20, 1024), ManifestFormat::Docker);
    docker.push(&anonymous(), &reference(&server.host(), "app:v1")).unwrap();
}

/// Registries hide manifests of types that are not asked for, or convert them (distribution 2.x): schema 1 for Docker's, and
/// the image for amd64 of a list.
#[test]
fn every_request_for_a_manifest_accepts_all_four_types() {
    let server = FaultyRegistry::start([]);
    let app = reference(&server.host(), "app:v1");
    let sample = Sample::new(24, 1024);
    sample.push(&anonymous(), &app).unwrap();
    let image = String::from_utf8(sample.manifest.raw().to_vec()).unwrap();
    let oci = "application/vnd.oci.image.";
    let docker = "application/vnd.docker.distribution.manifest.";
    let index = r#"{"schemaVersion":2,"manifests":[]}"#.to_owned();
    let types = [
        (format!("{oci}manifest.v1+json"), image.clone()),
        (format!("{oci}index.v1+json"), index.clone()),
        (
            format!("{docker}v2+json"),
            image.replace(&format!("{oci}manifest.v1+json"), &format!("{docker}v2+json")),
        ),
        (format!("{docker}list.v2+json"), index),
    ];
    for (media_type, manifest) in types {
        server.put_manifest("app", "v1", &media_type, manifest.as_bytes());
        let found = anonymous().manifest(&app).unwrap().unwrap();
        assert_eq!(found.raw(), manifest.as_bytes(), "{media_type}");
        let found = anonymous().manifest_descriptor(&app).unwrap().unwrap();
        assert_eq!((found.media_type.as_str(), found.size), (media_type.as_str(), manifest.len() as u64));
    }
}

/// Old registries send no digest, some allow no `HEAD`, and a mirror may be behind.
#[test]
fn the_digest_of_a_name_costs_one_question_of_the_registry_itself() {
    let head = |status| super::status("HEAD", "/manifests/", status, 10);
    let table: [(Vec<Fault>, &[&str]); 5] = [
        (vec![], &["HEAD"]),
        (vec![head(405)], &["HEAD", "GET"]),
        (vec![head(400)], &["HEAD", "GET"]),
        (vec![head(403)], &["HEAD", "GET"]),
        (vec![Fault::NoDigestHeader], &["HEAD", "GET"]),
    ];
    for (faults, expected) in table {
        let server = FaultyRegistry::start([]);
        let app = reference(&server.host(), "app:v1");
        let sample = Sample::new(26, 1024);
        sample.push(&anonymous(), &app).unwrap();
        server.set_faults(faults.clone());
        let before = server.requests().len();
        assert_eq!(anonymous().digest_of(&app).unwrap(), Some(sample.manifest.digest()), "{faults:?}");
        let asked: Vec<_> = server.requests()[before..]
            .iter()
            .filter(|request| request.path.ends_with("/manifests/v1"))
            .map(|request| request.method.clone())
            .collect();
        assert_eq!(asked, expected, "{faults:?}");
        assert_eq!(anonymous().digest_of(&app.with_tag("missing")).unwrap(), None, "{faults:?}");
    }
}

/// ECR, for artifacts about images of another repository.
#[test]
fn a_405_is_told_in_the_registrys_words() {
    let (_server, error) = push_refused([super::status("PUT", "/manifests/", 405, 10)]);
    assert!(error.contains("405") && error.contains("as told"), "{error}");
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
            artifact.other.insert("artifactType", artifact_type);
            artifact.other.insert("subject", &subject.manifest.descriptor());
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

#[test]
fn referrers_that_are_attached_at_the_same_time_are_all_listed() {
    let server = FaultyRegistry::start([Fault::NoReferrers]);
    let registry = anonymous();
    let app = reference(&server.host(), "app:v1");
    let subject = Sample::new(24, 1024);
    subject.push(&registry, &app).unwrap();
    let artifacts: Vec<_> = (0..4)
        .map(|seed| {
            let sample = Sample::new(200 + seed, 1024);
            sample.push(&registry, &app.with_tag("parts")).unwrap();
            let mut artifact = sample.manifest.as_image().unwrap().clone();
            artifact.other.insert("subject", &subject.manifest.descriptor());
            longshore_image::Manifest::image(artifact)
        })
        .collect();
    std::thread::scope(|scope| {
        for artifact in &artifacts {
            let (registry, app) = (&registry, &app);
            scope
                .spawn(move || registry.put_manifest(&app.with_digest(artifact.digest()), artifact).unwrap());
        }
    });
    let listed = registry.referrers(&app, subject.manifest.digest(), None).unwrap();
    assert_eq!(listed.len(), artifacts.len(), "{:#?}", server.requests_of("PUT", "/manifests/sha256-"));
}
