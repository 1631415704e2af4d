use std::process::Command;

use super::*;
use crate::LocalStore;
use crate::test_images::{put_as, reference, text_of};
use crate::{LayerFormat, layer};

struct Place {
    directory: tempfile::TempDir,
    store: LocalStore,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("image.tar")
    }

    fn write(&self, names: &[&str]) -> Manifest {
        let manifest = put_as(&self.store, "app", "one", LayerFormat::TarGzip);
        let names: Vec<Reference> = names.iter().map(|name| reference(name)).collect();
        let app = reference("app");
        let platform = crate::Platform::host();
        let image = ArchivedImage {
            store: &self.store,
            reference: &app,
            manifest: &manifest,
            names: &names,
            layout_name: None,
            platform: &platform,
            omitted: &std::collections::BTreeSet::new(),
        };
        write(File::create(self.path()).unwrap(), &self.path(), &image).unwrap();
        manifest
    }

    fn open(&self, name: LayoutName) -> Result<Archive, StoreError> {
        Archive::open(&self.path(), name)
    }
}

fn read_all(store: &dyn ImageStore, name: &str) -> usize {
    let image = store.resolve(&reference(name), &Platform::host()).unwrap().unwrap();
    let mut bytes = Vec::new();
    for layer in &image.manifest.as_image().unwrap().layers {
        store.open_blob(&reference(name), layer).unwrap().read_to_end(&mut bytes).unwrap();
    }
    bytes.len()
}

#[test]
fn what_is_written_reads_back() {
    let place = Place::new();
    let manifest = place.write(&["app:v1", "localhost:5000/team/app"]);
    let archive = place.open(LayoutName::Reference).unwrap();
    assert_eq!(archive.names(), [reference("app:v1"), reference("localhost:5000/team/app:latest")]);
    for name in ["app:v1", "localhost:5000/team/app"] {
        assert_eq!(text_of(&archive, name).as_deref(), Some("one"));
        let image = archive.resolve(&reference(name), &Platform::host()).unwrap().unwrap();
        assert_eq!(image.manifest, manifest);
        assert!(read_all(&archive, name) > 0);
    }
    assert_eq!(text_of(&archive, "other"), None);
    let first = std::fs::read(place.path()).unwrap();
    place.write(&["app:v1", "localhost:5000/team/app"]);
    assert!(first == std::fs::read(place.path()).unwrap(), "two archives of one image differ");
    assert!(matches!(archive.put_manifest(&reference("app"), &manifest), Err(StoreError::ReadOnly { .. })));
}

#[test]
fn other_tools_read_what_is_written() {
    let place = Place::new();
    place.write(&["app:v1"]);
    for transport in ["docker-archive", "oci-archive"] {
        let source = format!("{transport}:{}", place.path().display());
        let Ok(inspected) = Command::new("skopeo").args(["inspect", &source]).output() else {
            eprintln!("skipped: skopeo is not installed");
            return;
        };
        let text = String::from_utf8_lossy(&inspected.stdout);
        assert!(inspected.status.success() && text.contains(r#""text": "one""#), "{inspected:?}");
    }
}

/// The entries of a layer's tar are those of any tar, so the layer writer serves to make an archive by hand.
fn archive_of(place: &Place, files: Vec<(&str, Vec<u8>)>) {
    let entries = files.into_iter().map(|(name, bytes)| layer::Entry::file(name, 0o644, bytes)).collect();
    let sink = layer::BlobSink::scratch(place.directory.path());
    let source = layer::LayerSource::entries(entries);
    let layer = layer::build(&source, LayerFormat::Tar, ManifestFormat::Oci, &sink).unwrap();
    std::fs::rename(layer.path, place.path()).unwrap();
}

#[test]
fn archives_of_old_dockers_are_read() {
    let place = Place::new();
    let layer = b"any tar".to_vec();
    let diff_id = Digest::of(&layer);
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Labels":{{"text":"old"}}}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#,
        Platform::host().architecture
    );
    let manifest = r#"[{"Config":"c.json","RepoTags":["app:v1"],"Layers":["l/layer.tar"]}]"#;
    let files = |layer: Vec<u8>| {
        vec![
            ("c.json", config.clone().into_bytes()),
            ("l/layer.tar", layer),
            ("manifest.json", manifest.into()),
        ]
    };
    archive_of(&place, files(layer));
    let archive = place.open(LayoutName::Reference).unwrap();
    assert_eq!(text_of(&archive, "app:v1").as_deref(), Some("old"));
    assert_eq!(read_all(&archive, "app:v1"), 7);
    assert_eq!(text_of(&place.open(LayoutName::Only).unwrap(), "x").as_deref(), Some("old"));
    archive_of(&place, files(b"another".to_vec()));
    let damaged = place.open(LayoutName::Reference).unwrap();
    let image = damaged.resolve(&reference("app:v1"), &Platform::host()).unwrap().unwrap();
    let blob = &image.manifest.as_image().unwrap().layers[0];
    let read = damaged.open_blob(&reference("app:v1"), blob).unwrap().read_to_end(&mut Vec::new());
    assert!(read.is_err());
}

#[test]
fn other_files_are_refused() {
    let place = Place::new();
    let open = || place.open(LayoutName::Only);
    assert!(matches!(open(), Err(StoreError::File { .. })));
    for bytes in [vec![], b"hello".to_vec(), vec![7; 4096]] {
        std::fs::write(place.path(), bytes).unwrap();
        assert!(matches!(open(), Err(StoreError::NotAStore { .. })));
    }
    for files in [
        vec![("x", vec![])],
        vec![("manifest.json", b"{}".to_vec())],
        vec![("manifest.json", br#"[{"Config":"c","Layers":[]}]"#.to_vec())],
    ] {
        archive_of(&place, files);
        assert!(matches!(open(), Err(StoreError::NotAStore { .. })));
    }
    archive_of(&place, vec![("index.json", b"[]".to_vec())]);
    assert!(matches!(open(), Err(StoreError::InvalidManifest { .. })));
}
