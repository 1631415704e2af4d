//! Rebases in a local store.

mod formats;
mod requests;

use longshore_cnb::lifecycle_metadata::LifecycleMetadata;
use longshore_image::{Digest, Fields, IndexManifest, ManifestContent, ManifestFormat, MediaType};

use super::*;
use crate::export::tests::{Fixture, base_image};

fn input<'a>(fixture: &'a Fixture, images: &'a [String]) -> RebaseInput<'a> {
    let store: Arc<dyn ImageStore> = fixture.store.clone();
    RebaseInput {
        platform_api: PlatformApi::latest(),
        images,
        previous_image: None,
        run_image: None,
        force: false,
        platform: Platform::linux("amd64"),
        target: store.clone(),
        run_image_store: store,
        identify: Identify::ByDigest,
        any_tag: true,
        keep_current: true,
        layer_format: None,
        readable: None,
        manifest_format: None,
        sink: fixture.store.sink(),
    }
}

#[test]
fn an_app_image_moves_to_a_new_run_image_and_back() {
    let fixture = Fixture::new();
    let built = fixture.export();
    let old_base = fixture.image("run:1");
    let images = ["app:1".to_owned()];
    let same = rebase(&input(&fixture, &images)).unwrap();
    assert_eq!(same.manifest.digest(), built.manifest.digest(), "nothing to do on the same run image");
    assert!(same.change.is_current);

    let new_base = base_image(&fixture.store, "run:1", "two", |config| {
        config.set_label("io.buildpacks.base.distro.name", "debian");
        config.set_label("io.buildpacks.base.id", "new");
    });
    let before = preview(&input(&fixture, &images)).unwrap();
    assert_eq!(fixture.image("app:1").manifest.digest(), built.manifest.digest(), "nothing is written");
    let output = rebase(&input(&fixture, &images)).unwrap();
    assert_eq!((&before.change, &before.run_image), (&output.change, &output.run_image));
    assert!(!output.change.is_current);
    let recorded = output.change.from.as_deref().and_then(plan::digest_of);
    assert_eq!(recorded, Some(old_base.manifest.digest().to_string().as_str()));
    let image = fixture.image("app:1");
    assert_eq!(image.manifest.digest(), output.manifest.digest());
    assert_eq!(output.run_image, "run:1");
    let (old, new) = (built.manifest.as_image().unwrap(), image.manifest.as_image().unwrap());
    assert_eq!(new.layers[1..], old.layers[1..], "the app's layers are the same blobs");
    assert_eq!(new.layers[0].digest, new_base.manifest.as_image().unwrap().layers[0].digest);
    assert_eq!(image.config.diff_ids()[0], new_base.config.diff_ids()[0]);
    assert_eq!(image.config.label("io.buildpacks.base.id"), Some("new"));
    assert_eq!(image.config.history().len(), 8);
    assert_eq!(
        image.config.history()[1].created_by.as_deref(),
        Some("Layer: 'deps', Created by buildpack: acme/web@1.0")
    );
    let metadata: LifecycleMetadata =
        serde_json::from_str(image.config.label(LIFECYCLE_METADATA_LABEL).unwrap()).unwrap();
    assert_eq!(
        metadata.run_image.reference,
        format!("index.docker.io/library/run@{}", new_base.manifest.digest())
    );

    fixture.store.put_manifest(&"run:1".parse().unwrap(), &old_base.manifest).unwrap();
    let back = rebase(&input(&fixture, &images)).unwrap();
    assert_eq!(back.manifest.digest(), built.manifest.digest(), "and back again it is what was built");
}

#[test]
fn a_previous_image_is_left_alone() {
    let fixture = Fixture::new();
    let built = fixture.export();
    base_image(&fixture.store, "run:1", "two", |_| {});
    let images = ["app:2".to_owned(), "app:3".to_owned()];
    let output = rebase(&RebaseInput { previous_image: Some("app:1"), ..input(&fixture, &images) }).unwrap();
    assert_eq!(fixture.image("app:1").manifest.digest(), built.manifest.digest());
    for name in &images {
        assert_eq!(fixture.image(name).manifest.digest(), output.manifest.digest());
    }
    assert_eq!(output.report.image.tags, images);
}

#[test]
fn what_cannot_be_rebased_is_refused_and_stays() {
    let fixture = Fixture::new();
    let built = fixture.export();
    base_image(&fixture.store, "plain:1", "x", |_| {});
    base_image(&fixture.store, "other:1", "x", |_| {});
    let refused = |images: &[&str], run_image, expected: &str, code| {
        let images: Vec<String> = images.iter().map(|&name| name.to_owned()).collect();
        let error = rebase(&RebaseInput { run_image, ..input(&fixture, &images) }).unwrap_err();
        let text = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
        assert!(format!("{error}: {text}").contains(expected), "{error}: {text}");
        assert_eq!(error.exit_code(), code);
    };
    refused(&[], None, "no image was given", ExitCode::InvalidArguments);
    refused(&["gone:1"], None, "the app image `gone:1` does not exist", ExitCode::Rebase);
    refused(&["plain:1"], None, "no buildpack built it", ExitCode::Rebase);
    refused(&["app:1"], Some("gone:1"), "the run image `gone:1` does not exist", ExitCode::Rebase);
    refused(&["app:1"], Some("other:1"), "not found in existing run image metadata", ExitCode::Rebase);
    refused(&["app:1", "localhost/app"], None, "different registries", ExitCode::InvalidArguments);
    assert_eq!(fixture.image("app:1").manifest.digest(), built.manifest.digest());
}

/// What nobody here knows stays, also numbers that no machine has; only what is about old bytes goes.
#[test]
fn every_image_of_an_index_is_rebased() {
    let fixture = Fixture::new();
    let built = fixture.export();
    let name: Reference = "app:multi".parse().unwrap();
    let unknown: Fields = serde_json::from_str(r#"{"_x":{ "n":1e999}}"#).unwrap();
    let about_old_bytes: Fields = serde_json::from_str(r#"{"urls":[],"_x":{ "n":1e999},"data":""}"#).unwrap();
    let mut manifest = built.manifest.as_image().unwrap().clone();
    manifest.other = unknown.clone();
    manifest.config.other = about_old_bytes.clone();
    let manifest = Manifest::image(manifest);
    fixture.store.put_child(&name, &manifest).unwrap();
    let mut descriptor = manifest.descriptor();
    descriptor.platform = Some(Platform::linux("amd64"));
    descriptor.other = about_old_bytes;
    let index = Manifest::index(IndexManifest {
        schema_version: 2,
        media_type: MediaType::Index(ManifestFormat::Oci),
        manifests: vec![descriptor],
        annotations: Default::default(),
        other: unknown.clone(),
    });
    fixture.store.put_manifest(&name, &index).unwrap();
    base_image(&fixture.store, "run:1", "two", |_| {});
    let images = ["app:multi".to_owned()];
    let output = rebase(&input(&fixture, &images)).unwrap();
    let image = fixture.image("app:multi");
    assert_eq!(image.index.unwrap().digest(), output.manifest.digest());
    assert_ne!(image.manifest.digest(), manifest.digest());
    let manifest = image.manifest.as_image().unwrap();
    assert_eq!((&manifest.other, &manifest.config.other), (&unknown, &unknown));
    let ManifestContent::Index(index) = output.manifest.content() else { panic!("it is an index") };
    assert_eq!((&index.other, &index.manifests[0].other), (&unknown, &unknown));
}

/// The layers of the new run image may be in another store: then they are copied.
#[test]
fn run_images_may_be_elsewhere() {
    let fixture = Fixture::new();
    fixture.export();
    let elsewhere = Fixture::new();
    base_image(&elsewhere.store, "run:1", "three", |_| {});
    let store: Arc<dyn ImageStore> = elsewhere.store;
    let images = ["app:1".to_owned()];
    rebase(&RebaseInput { run_image_store: store, ..input(&fixture, &images) }).unwrap();
    let image = fixture.image("app:1");
    let base = &image.manifest.as_image().unwrap().layers[0];
    let mut bytes = Vec::new();
    let mut blob = fixture.store.open_blob(&image.reference, base).unwrap();
    std::io::Read::read_to_end(&mut blob, &mut bytes).unwrap();
    assert_eq!(Digest::of(&bytes), base.digest);
}
