use std::collections::BTreeMap;

use super::*;
use crate::test_images::{put_as, reference, text_of};
use crate::{
    Archive, Digest, ImageManifest, IndexManifest, LayerFormat, LayoutName, LocalStore, ManifestFormat,
    MediaType, archive::ArchiveWriter,
};

/// What nobody here knows, with a number that no machine has.
const UNKNOWN: &str = r#"{"_x":{ "n":1e999}}"#;

struct Stores {
    root: tempfile::TempDir,
    source: Arc<LocalStore>,
    place: Arc<dyn ImageStore>,
    target: LocalStore,
    sink: BlobSink,
    from: Reference,
    to: Reference,
}

impl Stores {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let source = Arc::new(LocalStore::open(&root.path().join("source")).unwrap());
        let target = LocalStore::open(&root.path().join("target")).unwrap();
        let (place, sink) = (source.clone(), target.sink());
        Self { root, source, place, target, sink, from: reference("app"), to: reference("copy") }
    }

    fn copy<'a>(&'a self, change: impl FnOnce(&mut CopyRequest<'a>)) -> Result<Manifest, CopyError> {
        let mut request = CopyRequest {
            source: &self.place,
            from: &self.from,
            target: &self.target,
            to: &self.to,
            platform: None,
            layers: None,
            manifest: None,
            sink: &self.sink,
            same_place: false,
        };
        change(&mut request);
        copy(&request)
    }

    /// `app` as an index of an image, an attestation and an image for another machine.
    fn put_index(&self) -> Manifest {
        let image = put_as(&self.source, "one", "one", LayerFormat::TarGzip);
        let other = put_as(&self.source, "two", "two", LayerFormat::TarZstd);
        let app = reference("app");
        let blob = |media_type: &str, bytes: &'static [u8]| {
            let blob = Descriptor::new(media_type.into(), Digest::of(bytes), bytes.len() as u64);
            self.source.write_blob(&app, &blob, &BlobSource::Bytes(bytes.into()), None).unwrap();
            blob
        };
        let (config, layer) = (blob("application/x-config", b"{}"), blob("application/in-toto", b"{ }"));
        let mut attestation = ImageManifest::new(ManifestFormat::Oci, config, vec![layer]);
        attestation.other.insert("unknown", &serde_json::json!({"b": 1, "a": [2]}));
        let attestation = Manifest::image(attestation);
        self.source.put_child(&app, &attestation).unwrap();
        let entry = |manifest: &Manifest, os: &str, architecture: &str| {
            let mut descriptor = manifest.descriptor();
            descriptor.platform = Some(Platform { os: os.to_owned(), ..Platform::linux(architecture) });
            descriptor
        };
        let index = Manifest::index(IndexManifest {
            schema_version: 2,
            media_type: MediaType::Index(ManifestFormat::Oci),
            manifests: vec![
                entry(&image, "linux", &Platform::host().architecture),
                entry(&attestation, "unknown", "unknown"),
                entry(&other, "linux", "s390x"),
            ],
            annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            other: serde_json::from_str(UNKNOWN).unwrap(),
        });
        self.source.put_manifest(&app, &index).unwrap();
        index
    }
}

fn layer_types(manifest: &Manifest) -> Vec<String> {
    manifest.as_image().unwrap().layers.iter().map(|layer| layer.media_type.to_string()).collect()
}

fn children(manifest: &Manifest) -> Vec<Descriptor> {
    let ManifestContent::Index(index) = manifest.content() else { panic!("no index") };
    index.manifests.clone()
}

#[test]
fn a_plain_copy_keeps_every_byte() {
    let stores = Stores::new();
    let index = stores.put_index();
    let copied = stores.copy(|_| {}).unwrap();
    assert_eq!(copied.raw(), index.raw());
    let found = stores.target.manifest(&reference("copy")).unwrap().unwrap();
    assert_eq!(found.raw(), index.raw());
    for child in children(&index) {
        let child = stores.target.child(&reference("copy"), &child).unwrap();
        let image = child.as_image().unwrap().clone();
        for blob in image.layers.iter().chain([&image.config]) {
            assert!(stores.target.has_blob(&reference("copy"), blob.digest).unwrap());
        }
    }
    assert_eq!(stores.target.list().unwrap().len(), 1, "children get no names");
}

#[test]
fn one_platform_of_an_index() {
    let stores = Stores::new();
    stores.put_index();
    let host = Platform::host();
    let copied = stores.copy(|request| request.platform = Some(&host)).unwrap();
    assert!(copied.as_image().is_some());
    assert_eq!(text_of(&stores.target, "copy").as_deref(), Some("one"));
    let arm = Platform::linux("riscv64");
    let error = stores.copy(|request| request.platform = Some(&arm)).unwrap_err();
    assert!(error.to_string().contains("s390x"), "{error}");
    let gone = reference("gone");
    let error = stores.copy(|request| request.from = &gone).unwrap_err();
    assert!(matches!(error, CopyError::NotFound { .. }), "{error}");
}

#[test]
fn dual_has_every_platform_twice_and_gzip_first() {
    let stores = Stores::new();
    stores.put_index();
    let copied = stores.copy(|request| request.layers = Some(LayerFormats::Dual)).unwrap();
    let found = children(&copied);
    let platform = |child: &Descriptor| child.platform.as_ref().unwrap().architecture.clone();
    let annotated: Vec<_> = found.iter().map(|child| child.annotations.len()).collect();
    assert_eq!(annotated, [0, 0, 1, 1]);
    let ManifestContent::Index(index) = copied.content() else { panic!("it is an index") };
    assert_eq!(index.other, serde_json::from_str(UNKNOWN).unwrap());
    assert_eq!(platform(&found[0]), platform(&found[2]));
    assert_eq!(platform(&found[1]), platform(&found[3]));
    let images: Vec<_> = found
        .iter()
        .map(|child| stores.target.child(&reference("copy"), child).unwrap().as_image().unwrap().clone())
        .collect();
    assert_eq!(images[0].config, images[2].config);
    // And back: each image once.
    let app = reference("copy");
    let source: Arc<dyn ImageStore> = Arc::new(stores.target.clone());
    let gzip = stores
        .copy(|request| {
            (request.source, request.from) = (&source, &app);
            request.layers = Some(LayerFormat::TarGzip.into());
        })
        .unwrap();
    let back = children(&gzip);
    assert_eq!(back.len(), 2);
    assert_eq!(back[0].digest, found[0].digest, "conversion gives the same bytes every time");
}

#[test]
fn a_family_is_converted_without_touching_blobs() {
    let stores = Stores::new();
    let old = put_as(&stores.source, "app", "one", LayerFormat::TarGzip);
    let docker = stores.copy(|request| request.manifest = Some(ManifestChoice::Docker)).unwrap();
    assert_eq!(layer_types(&docker), ["application/vnd.docker.image.rootfs.diff.tar.gzip"]);
    let (old, new) = (old.as_image().unwrap().clone(), docker.as_image().unwrap().clone());
    assert_eq!(new.config.media_type, MediaType::Config(ManifestFormat::Docker));
    assert_eq!((new.config.digest, new.layers[0].digest), (old.config.digest, old.layers[0].digest));

    let zstd = put_as(&stores.source, "app", "two", LayerFormat::TarZstd);
    let docker = stores.copy(|request| request.manifest = Some(ManifestChoice::Docker)).unwrap();
    assert_eq!(layer_types(&docker), ["application/vnd.docker.image.rootfs.diff.tar.gzip"]);
    assert_ne!(docker.as_image().unwrap().layers[0].digest, zstd.as_image().unwrap().layers[0].digest);
    let error = stores
        .copy(|request| {
            request.manifest = Some(ManifestChoice::Docker);
            request.layers = Some(LayerFormat::TarZstd.into());
        })
        .unwrap_err();
    assert!(matches!(error, CopyError::Convert(ConvertError::ZstdInDocker { .. })), "{error}");
}

#[test]
fn indexes_go_into_archives() {
    let stores = Stores::new();
    let index = stores.put_index();
    let path = stores.root.path().join("app.tar");
    let writer = ArchiveWriter::new(&path, vec![reference("app:v1")], None, Platform::host());
    stores.copy(|request| request.target = &writer).unwrap();
    let archive = Archive::open(&path, LayoutName::Reference).unwrap();
    assert_eq!(archive.manifest(&reference("app:v1")).unwrap().unwrap().raw(), index.raw());
    assert_eq!(text_of(&archive, "app:v1").as_deref(), Some("one"));
    let named = Archive::open(&path, LayoutName::Named("app:v1".to_owned())).unwrap();
    assert_eq!(text_of(&named, "whatever").as_deref(), Some("one"));
    let source: Arc<dyn ImageStore> = Arc::new(archive);
    let from = reference("app:v1");
    let copied = stores.copy(|request| (request.source, request.from) = (&source, &from)).unwrap();
    assert_eq!(copied.raw(), index.raw());
}
