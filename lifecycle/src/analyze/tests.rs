//! Analyze against a local store.

use std::fs;

use longshore_cnb::lifecycle_metadata::RunImageNames;
use longshore_cnb::run::Run;
use longshore_image::LocalStore;

use super::*;
use crate::export::tests::{Fixture, base_image};

fn offered(image: &str, mirrors: &[&str]) -> RunImages {
    let mirrors = mirrors.iter().map(|&mirror| mirror.to_owned()).collect();
    RunImages::Run(Run { images: vec![RunImageNames { image: image.to_owned(), mirrors }] })
}

fn input<'a>(fixture: &'a Fixture, run_images: &'a RunImages) -> AnalyzeInput<'a> {
    let store: Arc<dyn ImageStore> = fixture.store.clone();
    AnalyzeInput {
        platform_api: PlatformApi::latest(),
        image: "app:1",
        tags: &[],
        previous_image: None,
        run_image: None,
        run_images,
        cache_image: None,
        layers: MappedDirectory { host: fixture.root.path().join("new"), name: "/layers".into() },
        skip_layers: false,
        owner: None,
        platform: Platform::linux("amd64"),
        target: store.clone(),
        run_image_store: store,
        identify: Identify::ByDigest,
    }
}

#[test]
fn a_first_build_has_a_run_image_and_no_previous_image() {
    let fixture = Fixture::new();
    let run = offered("docker.io/library/run:1", &[]);
    let output = analyze(&input(&fixture, &run)).unwrap();
    assert!(output.previous_image.is_none());
    assert_eq!(output.analyzed.previous_reference(), None);
    let digest = fixture.image("run:1").manifest.digest();
    let run_image = output.analyzed.run_image.unwrap();
    assert_eq!(run_image.reference, format!("index.docker.io/library/run@{digest}"));
    assert_eq!(run_image.image, "docker.io/library/run:1");
    assert_eq!(run_image.target, Some(Target::new("linux", "amd64", "").with_distribution("debian", "")));
}

#[test]
fn a_rebuild_knows_the_layers_and_restores_sbom_files() {
    let fixture = Fixture::new();
    let exported = fixture.export();
    let run = offered("run:1", &[]);
    let output = analyze(&input(&fixture, &run)).unwrap();
    let reference = format!("index.docker.io/library/app@{}", exported.manifest.digest());
    assert_eq!(output.analyzed.previous_reference(), Some(reference.as_str()));
    assert!(output.analyzed.metadata.buildpack("acme/web").unwrap().layers["deps"].launch);
    let sbom = fixture.root.path().join("new/sbom/launch/acme_web/sbom.cdx.json");
    assert_eq!(fs::read_to_string(&sbom).unwrap(), "{}");
    let document = output.analyzed.to_document();
    assert_eq!(Analyzed::parse(&document).unwrap().to_document(), document);

    fs::remove_dir_all(fixture.root.path().join("new")).unwrap();
    analyze(&AnalyzeInput { skip_layers: true, ..input(&fixture, &run) }).unwrap();
    assert!(!sbom.exists());
}

/// Spec: platform.md "`analyzer`": "`image` MUST describe the `<previous-image>`, if accessible". One without the label was
/// left out.
#[test]
fn an_image_that_no_lifecycle_built_is_described_and_a_broken_one_is_as_good_as_none() {
    let fixture = Fixture::new();
    for (name, label, is_described) in
        [("plain:1", None, true), ("empty:1", Some(""), true), ("broken:1", Some("{\"app\":1"), false)]
    {
        let image = base_image(&fixture.store, name, "x", |config| {
            if let Some(label) = label {
                config.set_label(LIFECYCLE_METADATA_LABEL, label);
            }
        });
        let run = offered("run:1", &[]);
        let output = analyze(&AnalyzeInput { previous_image: Some(name), ..input(&fixture, &run) }).unwrap();
        let digest = image.manifest.digest().to_string();
        let reference = output.analyzed.previous_reference();
        assert_eq!(reference.is_some_and(|text| text.ends_with(&digest)), is_described, "{name}");
        assert_eq!(output.analyzed.metadata, LifecycleMetadata::default());
    }
}

#[test]
fn the_mirror_on_the_app_images_registry_is_chosen() {
    let fixture = Fixture::new();
    base_image(&fixture.store, "localhost:5000/run:1", "one", |_| {});
    let run = offered("run:1", &["localhost:9999/run:1", "localhost:5000/run:1"]);
    let image = |app| {
        let output = analyze(&AnalyzeInput { image: app, ..input(&fixture, &run) }).unwrap();
        output.analyzed.run_image.unwrap().image
    };
    assert_eq!(image("localhost:5000/app"), "localhost:5000/run:1");
    assert_eq!(image("localhost:9999/app"), "run:1", "the mirror does not exist");
}

#[test]
fn what_cannot_be_built_on_is_refused() {
    let fixture = Fixture::new();
    let (good, none) = (offered("run:1", &[]), offered("", &[]));
    let missing = offered("gone:1", &["also/gone"]);
    invalid(&input(&fixture, &none), "provide it in run.toml");
    invalid(&input(&fixture, &missing), "`gone:1` does not exist; `also/gone` does not exist");
    refused(&AnalyzeInput { run_image: Some("gone:2"), ..input(&fixture, &good) }, "`gone:2` does not exist");
    let arm = Platform::linux("arm64");
    refused(
        &AnalyzeInput { platform: arm, run_image: Some("run:1"), ..input(&fixture, &good) },
        "linux/arm64",
    );
    invalid(&AnalyzeInput { image: "A B", ..input(&fixture, &good) }, "not an image reference");
    let tags = ["localhost/app".to_owned()];
    invalid(&AnalyzeInput { tags: &tags, ..input(&fixture, &good) }, "different registries");
    let store = LocalStore::open(&fixture.root.path().join("store")).unwrap();
    assert!(store.resolve(&"app:1".parse().unwrap(), &Platform::linux("amd64")).unwrap().is_none());
}

fn fails(input: &AnalyzeInput<'_>, expected: &str, code: ExitCode) {
    let error = analyze(input).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(error.exit_code(), code);
}

fn invalid(input: &AnalyzeInput<'_>, expected: &str) {
    fails(input, expected, ExitCode::InvalidArguments);
}

fn refused(input: &AnalyzeInput<'_>, expected: &str) {
    fails(input, expected, ExitCode::Analyze);
}
