//! Against Debian's `docker-registry`, with skopeo on the other side.

use std::sync::Arc;

use longshore_image::{BlobOpener, BlobOutcome, BlobSource, ImageStore as _, Keychain, Platform};
use longshore_test_support::{DockerRegistry, skopeo};

use crate::samples::{Sample, bytes, keychain, pull, reference, registry, text};

#[test]
fn what_is_pushed_can_be_pulled_by_us_and_by_skopeo() {
    let server = DockerRegistry::start();
    let registry = registry(Keychain::empty());
    let app = reference(&server.host(), "team/app:v1");
    assert!(registry.resolve(&app, &Platform::host()).unwrap().is_none());
    registry.check_write(&app).unwrap();
    registry.check_read_access(&app).unwrap();

    let sample = Sample::new(1, 10 << 20);
    assert_eq!(sample.push(&registry, &app).unwrap(), BlobOutcome::Written);
    let (image, layer) = pull(&registry, &app);
    assert_eq!(image.manifest, sample.manifest);
    assert_eq!(layer, sample.layer);
    assert_eq!(registry.manifest_descriptor(&app).unwrap(), Some(sample.manifest.descriptor()));
    let by_digest = app.with_digest(sample.manifest.digest());
    assert_eq!(registry.manifest(&by_digest).unwrap(), Some(sample.manifest.clone()));

    let theirs = format!("docker://{app}");
    assert_eq!(skopeo::inspect(&theirs)["Digest"], sample.manifest.digest().to_string());
    let directory = tempfile::tempdir().unwrap();
    skopeo::copy(&theirs, &format!("oci:{}:app", directory.path().display()));

    assert_eq!(sample.push(&registry, &app).unwrap(), BlobOutcome::Present);
    // A configuration is not asked for: that would cost as much as to send it.
    let layers = server.requests("\"PUT /v2/team/app/blobs/uploads/").len();
    assert_eq!(layers, 3, "a layer, and a configuration twice");
}

#[test]
fn what_skopeo_pushed_is_read() {
    let server = DockerRegistry::start();
    let registry = registry(Keychain::empty());
    let sample = Sample::new(2, 1 << 20);
    let (one, two) = (reference(&server.host(), "one:v1"), reference(&server.host(), "two:v1"));
    sample.push(&registry, &one).unwrap();
    skopeo::skopeo(&[
        "copy",
        "--quiet",
        "--format=v2s2",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &format!("docker://{one}"),
        &format!("docker://{two}"),
    ])
    .success();
    let (image, layer) = pull(&registry, &two);
    assert_ne!(image.manifest.media_type(), sample.manifest.media_type());
    assert_eq!(layer.len(), image.manifest.as_image().unwrap().layers[0].size as usize);
    assert_eq!(registry.tags(&two).unwrap(), ["v1"]);
    assert!(registry.delete(&two.with_digest(image.manifest.digest())).unwrap());
    assert!(registry.manifest(&two).unwrap().is_none());
}

#[test]
fn blobs_come_from_other_repositories_files_and_stores() {
    let server = DockerRegistry::start();
    let registry = Arc::new(registry(Keychain::empty()));
    let sample = Sample::new(3, 3 << 20);
    let base = reference(&server.host(), "base:v1");
    sample.push(&registry, &base).unwrap();
    let blob = sample.layer_descriptor();
    let never = BlobSource::Lazy(BlobOpener::new(|| panic!("the blob can be mounted")));
    let app = reference(&server.host(), "app:v1");
    assert_eq!(registry.write_blob(&app, &blob, &never, Some(&base)).unwrap(), BlobOutcome::Mounted);
    let missing = reference(&server.host(), "missing:v1");
    let source = BlobSource::Lazy(BlobOpener::of(registry.clone(), base, blob.clone()));
    let lazy = reference(&server.host(), "lazy:v1");
    // The registry takes blobs from a repository that does not have them, for it knows them: the link must be new.
    registry.write_blob(&lazy, &blob, &source, Some(&missing)).unwrap();
    assert!(registry.has_blob(&lazy, blob.digest).unwrap());

    let file = tempfile::NamedTempFile::new().unwrap();
    let content = bytes(4, 2 << 20);
    std::fs::write(file.path(), &content).unwrap();
    let blob = longshore_image::Descriptor::new(
        blob.media_type,
        longshore_image::Digest::of(&content),
        content.len() as u64,
    );
    let source = BlobSource::File(file.path().to_owned());
    assert_eq!(registry.write_blob(&app, &blob, &source, None).unwrap(), BlobOutcome::Written);
    std::fs::write(file.path(), b"short").unwrap();
    let error = registry.write_blob(&lazy, &blob, &source, None).unwrap_err();
    assert!(text(&error).contains("has 5 bytes"), "{}", text(&error));
    assert_eq!(crate::samples::read(&registry, &app, &blob).unwrap(), content);
}

#[test]
fn a_password_is_needed_and_found() {
    let server = DockerRegistry::start_with_password("user", "secret");
    let app = reference(&server.host(), "app:v1");
    let sample = Sample::new(5, 1 << 10);
    // user:secret, user:wrong
    for (keychain, allowed) in [
        (keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="), true),
        (keychain(&server.host(), "Basic dXNlcjp3cm9uZw=="), false),
        (Keychain::empty(), false),
    ] {
        let registry = registry(keychain);
        let error = match (sample.push(&registry, &app), allowed) {
            (Ok(_), true) => continue,
            (Err(error), false) => text(&error),
            (result, _) => panic!("{result:?}"),
        };
        assert!(error.contains("docker login 127.0.0.1") && error.contains("CNB_REGISTRY_AUTH"), "{error}");
        assert!(!error.contains("wrong"), "{error}");
        assert!(registry.check_write(&app).is_err() && registry.resolve(&app, &Platform::host()).is_err());
    }
}

#[test]
fn a_registry_that_is_down_is_named() {
    let mut server = DockerRegistry::start();
    let registry = registry(Keychain::empty());
    let app = reference(&server.host(), "app:v1");
    server.stop();
    let error = text(&registry.resolve(&app, &Platform::host()).unwrap_err());
    assert!(error.contains(&server.host()) && error.contains("cannot be reached"), "{error}");
}

#[test]
fn an_index_is_resolved_by_platform() {
    let server = DockerRegistry::start();
    let registry = registry(Keychain::empty());
    let app = reference(&server.host(), "app:index");
    let sample = Sample::new(6, 1 << 10);
    sample.push(&registry, &app.with_tag("amd64")).unwrap();
    let mut entry = sample.manifest.descriptor();
    entry.platform = Some(Platform::host());
    let index = longshore_image::IndexManifest {
        schema_version: 2,
        media_type: longshore_image::MediaType::Index(longshore_image::ManifestFormat::Oci),
        manifests: vec![entry],
        annotations: std::collections::BTreeMap::default(),
        other: longshore_image::Fields::default(),
    };
    let index = longshore_image::Manifest::index(index);
    registry.put_manifest(&app, &index).unwrap();
    let image = registry.resolve(&app, &Platform::host()).unwrap().unwrap();
    assert_eq!((image.manifest, image.index), (sample.manifest, Some(index)));
    let error = text(&registry.resolve(&app, &Platform::linux("riscv64")).unwrap_err());
    assert!(error.contains("linux/riscv64") && error.contains(&Platform::host().to_string()), "{error}");
}
