//! The forms of an app image: formats of layers, families of media types, and both together.

use longshore_image::keychain::Keychain;
use longshore_image::registry::{Registry, RegistryConfig};
use longshore_image::{LayerFormats, ManifestChoice, ManifestContent, ZSTD_ANNOTATION};
use longshore_test_support::registry::{Fault, FaultyRegistry};

use super::*;

fn types(manifest: &Manifest) -> Vec<String> {
    let image = manifest.as_image().unwrap();
    let blobs = image.layers.iter().chain([&image.config]);
    std::iter::once(manifest.media_type().to_string())
        .chain(blobs.map(|blob| blob.media_type.to_string()))
        .collect()
}

fn children(index: &Manifest) -> Vec<Descriptor> {
    let ManifestContent::Index(index) = index.content() else { panic!("no index") };
    index.manifests.clone()
}

#[test]
fn dual_is_an_index_with_gzip_first_and_one_configuration() {
    let mut fixture = Fixture::new();
    let images = ["app:1".to_owned()];
    let dual = |fixture: &Fixture| {
        let input = ExportInput {
            layer_format: Some(LayerFormats::Dual),
            manifest_format: Some(ManifestChoice::Auto),
            ..fixture.input(&images)
        };
        export(&input).unwrap()
    };
    let output = dual(&fixture);
    let [gzip, zstd] = children(&output.manifest).try_into().unwrap();
    assert_eq!(gzip.annotations.get(ZSTD_ANNOTATION), None);
    assert_eq!(zstd.annotations[ZSTD_ANNOTATION], "true");
    assert_eq!(gzip.platform, zstd.platform);
    let reference = "app:1".parse().unwrap();
    let manifests = [gzip, zstd].map(|child| fixture.store.child(&reference, &child).unwrap());
    let [gzip, zstd] = manifests.each_ref().map(|manifest| manifest.as_image().unwrap());
    assert_eq!(gzip.config.digest, zstd.config.digest, "both are the same image");
    assert!(types(&manifests[0]).iter().all(|text| !text.contains("zstd")));
    assert_eq!(
        types(&manifests[1]).iter().filter(|text| text.contains("zstd")).count(),
        zstd.layers.len() - 1
    );
    assert_eq!(gzip.layers[0], zstd.layers[0], "the run image's layer is taken as it is");
    assert_eq!(fixture.image("app:1").manifest.digest(), manifests[0].digest(), "the first is for everybody");

    fixture.analyze("app:1");
    let again = dual(&fixture);
    assert_eq!((again.added_layers, again.manifest.digest()), (0, output.manifest.digest()));
}

#[test]
fn a_docker_manifest_has_only_dockers_types() {
    let mut fixture = Fixture::new();
    let zstd = ["zstd:1".to_owned()];
    export(&fixture.input(&zstd)).unwrap();
    fixture.analyzed.run_image.as_mut().unwrap().reference = "zstd:1".to_owned();
    let images = ["app:1".to_owned()];
    let docker = |layer_format| {
        let manifest_format = Some(ManifestChoice::Docker);
        export(&ExportInput { layer_format, manifest_format, ..fixture.input(&images) })
    };
    for format in [None, Some(LayerFormat::TarGzip.into()), Some(LayerFormat::Tar.into())] {
        let manifest = docker(format).unwrap().manifest;
        for text in types(&manifest) {
            assert!(text.contains("docker") && !text.contains("zstd"), "{format:?} {text}");
        }
    }
    for format in [LayerFormats::Dual, LayerFormat::TarZstd.into()] {
        let error = docker(Some(format)).unwrap_err();
        assert!(matches!(error, ExportError::Convert(_)), "{error}");
    }
}

#[test]
fn auto_falls_back_where_the_registry_takes_only_dockers_types() {
    let fixture = Fixture::new();
    for format in [LayerFormat::TarZstd.into(), LayerFormats::Dual, LayerFormat::TarGzip.into()] {
        let server = FaultyRegistry::start([Fault::DockerOnly]);
        let images = [format!("{}/app:1", server.host())];
        let target: Arc<dyn ImageStore> =
            Arc::new(Registry::new(RegistryConfig::new(Keychain::empty())).unwrap());
        let export_as = |manifest_format| {
            let layer_format = Some(format);
            export(&ExportInput {
                target: target.clone(),
                layer_format,
                manifest_format,
                ..fixture.input(&images)
            })
        };
        let refused = export_as(Some(ManifestChoice::Oci)).unwrap_err();
        assert!(matches!(refused, ExportError::Store { .. }), "{refused}");
        assert!(server.tags("app").is_empty());
        let manifest = export_as(Some(ManifestChoice::Auto)).unwrap().manifest;
        assert!(types(&manifest).iter().all(|text| text.contains("docker") && !text.contains("zstd")));
        server.assert_tags_are_complete();
        assert_eq!(server.tags("app").len(), 1);
    }
}

/// A registry that refuses a manifest because blobs are missing is not asked again with other types.
#[test]
fn only_refused_types_make_auto_fall_back() {
    let fixture = Fixture::new();
    let fault =
        Fault::Status { method: "PUT", path: "/manifests/", status: 403, retry_after: None, times: 9 };
    let server = FaultyRegistry::start([fault]);
    let images = [format!("{}/app:1", server.host())];
    let target: Arc<dyn ImageStore> =
        Arc::new(Registry::new(RegistryConfig::new(Keychain::empty())).unwrap());
    let manifest_format = Some(ManifestChoice::Auto);
    let error = export(&ExportInput { target, manifest_format, ..fixture.input(&images) }).unwrap_err();
    assert!(matches!(error, ExportError::Store { .. }), "{error}");
    assert_eq!(server.requests_of("PUT", "/manifests/").len(), 1);
}
