//! Rebases that change formats at once: no name ever points at something in between.

use longshore_image::layer::{self, Entry, LayerSource};
use longshore_image::{BlobSource, ImageManifest, LayerFormat, ManifestContent, ZSTD_ANNOTATION};

use super::*;
use crate::export::ExportInput;
use crate::export::export;

fn formats(manifest: &Manifest) -> Vec<LayerFormat> {
    let layers = &manifest.as_image().unwrap().layers;
    layers.iter().map(|layer| longshore_image::convert::format_of(&layer.media_type).unwrap()).collect()
}

/// Exports `app:1` in a format, and puts another run image below its name.
fn exported(layers: LayerFormats) -> Fixture {
    let fixture = Fixture::new();
    let images = ["app:1".to_owned()];
    export(&ExportInput { layer_format: Some(layers), ..fixture.input(&images) }).unwrap();
    base_image(&fixture.store, "run:1", "two", |_| {});
    fixture
}

fn children(fixture: &Fixture, index: &Manifest) -> Vec<Manifest> {
    let ManifestContent::Index(index) = index.content() else { panic!("no index") };
    let child = |child| fixture.store.child(&"app:1".parse().unwrap(), child).unwrap();
    index.manifests.iter().map(child).collect()
}

#[test]
fn one_format_becomes_another_in_one_step() {
    let fixture = exported(LayerFormat::TarZstd.into());
    let images = ["app:1".to_owned()];
    let to = |format: LayerFormats, manifest| {
        let input =
            RebaseInput { layer_format: Some(format), manifest_format: manifest, ..input(&fixture, &images) };
        rebase(&input)
    };
    let docker = to(LayerFormat::TarGzip.into(), Some(ManifestChoice::Docker)).unwrap().manifest;
    assert_eq!(*docker.media_type(), MediaType::Manifest(ManifestFormat::Docker));
    assert!(formats(&docker).iter().all(|format| *format == LayerFormat::TarGzip), "{:?}", formats(&docker));
    assert_eq!(fixture.image("app:1").manifest.digest(), docker.digest());
    // What is asked for holds also where the run image stays.
    let zstd = to(LayerFormat::TarZstd.into(), None).unwrap();
    assert!(zstd.change.is_current);
    assert_eq!(*zstd.manifest.media_type(), MediaType::Manifest(ManifestFormat::Oci));
    assert_eq!(formats(&zstd.manifest)[1..], vec![LayerFormat::TarZstd; 7]);
    let error = to(LayerFormat::TarZstd.into(), Some(ManifestChoice::Docker)).unwrap_err();
    assert!(error.to_string().contains("zstd"), "{error}");
}

#[test]
fn an_image_in_two_formats_stays_in_two() {
    let fixture = exported(LayerFormats::Dual);
    let images = ["app:1".to_owned()];
    let output = rebase(&input(&fixture, &images)).unwrap();
    let [gzip, zstd] = children(&fixture, &output.manifest).try_into().unwrap();
    assert!(formats(&gzip).iter().all(|format| *format == LayerFormat::TarGzip));
    assert_eq!(formats(&zstd)[1..], vec![LayerFormat::TarZstd; 7]);
    assert_eq!(gzip.as_image().unwrap().config.digest, zstd.as_image().unwrap().config.digest);
    let ManifestContent::Index(index) = output.manifest.content() else { panic!("no index") };
    assert_eq!(index.manifests[1].annotations[ZSTD_ANNOTATION], "true");
    assert_eq!(rebase(&input(&fixture, &images)).unwrap().manifest, output.manifest);
}

#[test]
fn two_formats_are_made_of_one() {
    let fixture = exported(LayerFormat::TarGzip.into());
    let images = ["app:1".to_owned()];
    let dual = RebaseInput { layer_format: Some(LayerFormats::Dual), ..input(&fixture, &images) };
    let output = rebase(&dual).unwrap();
    let [gzip, zstd] = children(&fixture, &output.manifest).try_into().unwrap();
    assert!(formats(&gzip).iter().all(|format| *format == LayerFormat::TarGzip));
    assert_eq!(formats(&zstd)[1..], vec![LayerFormat::TarZstd; 7]);
    let one = RebaseInput { layer_format: Some(LayerFormat::TarGzip.into()), ..input(&fixture, &images) };
    let [only] = children(&fixture, &rebase(&one).unwrap().manifest).try_into().unwrap();
    assert_eq!(only.digest(), gzip.digest());
}

/// What the settings say of new images must not compress an app's layers again.
#[test]
fn clients_without_zstd_get_none_from_a_run_image_and_keep_what_they_have() {
    let fixture = exported(LayerFormat::TarZstd.into());
    let images = ["app:1".to_owned()];
    let app = formats(&fixture.image("app:1").manifest)[1..].to_vec();
    zstd_run_image(&fixture, "three");
    let kept = rebase(&input(&fixture, &images)).unwrap().manifest;
    assert_eq!(formats(&kept)[0], LayerFormat::TarZstd);
    zstd_run_image(&fixture, "four");
    let readable = Some(LayerFormat::TarGzip.into());
    let output = rebase(&RebaseInput { readable, ..input(&fixture, &images) }).unwrap();
    assert_eq!(formats(&output.manifest)[0], LayerFormat::TarGzip);
    assert_eq!(formats(&output.manifest)[1..], app);
    let readable = Some(LayerFormat::TarZstd.into());
    let again = rebase(&RebaseInput { readable, ..input(&fixture, &images) }).unwrap();
    assert!(again.is_unchanged, "one that stands on the run image stays");
}

/// Puts a run image with a layer in zstd below `run:1`.
fn zstd_run_image(fixture: &Fixture, content: &str) {
    let image = base_image(&fixture.store, "run:1", content, |_| {});
    let reference: Reference = "run:1".parse().unwrap();
    let source = LayerSource::entries(vec![Entry::file("/base", 0o644, content.to_owned())]);
    let sink = fixture.store.sink();
    let layer = layer::build(&source, LayerFormat::TarZstd, ManifestFormat::Oci, &sink).unwrap();
    assert_eq!(image.config.diff_ids(), [layer.diff_id]);
    fixture.store.write_blob(&reference, &layer.descriptor, &BlobSource::File(layer.path), None).unwrap();
    let config = image.manifest.as_image().unwrap().config.clone();
    let manifest = Manifest::image(ImageManifest::new(ManifestFormat::Oci, config, vec![layer.descriptor]));
    fixture.store.put_manifest(&reference, &manifest).unwrap();
}
