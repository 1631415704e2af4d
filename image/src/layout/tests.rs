use std::io::Read as _;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::LocalStore;
use crate::test_images::{put, reference, text_of};

#[test]
fn names_are_put_moved_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    assert_eq!(text_of(&store, "app"), None);
    put(&store, "app", "one");
    let two = put(&store, "app:latest", "two");
    put(&store, "team/app:v1", "three");
    assert_eq!(text_of(&store, "app").as_deref(), Some("two"));
    assert_eq!(text_of(&store, &format!("app@{}", two.digest())).as_deref(), Some("two"));
    store.tag(&reference("app"), &reference("other")).unwrap();
    assert!(store.remove(&reference("app")).unwrap());
    assert!(!store.remove(&reference("app")).unwrap());
    let names: Vec<String> = store.list().unwrap().iter().map(|image| image.reference.familiar()).collect();
    assert_eq!(names, ["team/app:v1", "other:latest"]);
    let reopened = LocalStore::open(directory.path()).unwrap();
    assert_eq!(text_of(&reopened, "other").as_deref(), Some("two"));
}

#[test]
fn a_collection_keeps_what_is_named_or_recent() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    put(&store, "app", "one");
    put(&store, "app", "two");
    assert_eq!(store.collect(Duration::from_secs(3600)).unwrap().blobs, 0);
    let collected = store.collect(Duration::ZERO).unwrap();
    assert_eq!(collected.blobs, 3);
    assert!(collected.bytes > 0);
    assert_eq!(text_of(&store, "app").as_deref(), Some("two"));
}

#[test]
fn a_name_never_points_to_an_incomplete_image() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    let manifest = put(&store, "app", "one");
    let mut image = manifest.as_image().unwrap().clone();
    image.layers.push(Descriptor::new(image.layers[0].media_type.clone(), Digest::of(b"missing"), 7));
    let result = store.put_manifest(&reference("app"), &Manifest::image(image));
    assert!(matches!(result, Err(StoreError::NotFoundBlob { .. })), "{result:?}");
    assert_eq!(text_of(&store, "app").as_deref(), Some("one"));
}

#[test]
fn row_14_damage_of_the_store_is_found_and_healed() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    let manifest = put(&store, "app", "one");
    let blob = manifest.as_image().unwrap().config.clone();
    let path = store.layout().blob_path(blob.digest);
    let good = fs::read(&path).unwrap();
    fs::write(&path, vec![b'x'; good.len()]).unwrap();
    let flipped = store.resolve(&reference("app"), &Platform::host());
    assert!(matches!(flipped, Err(StoreError::DigestMismatch { .. })), "{flipped:?}");
    assert!(!path.exists(), "by its size it would count as there");
    fs::write(&path, "short").unwrap();
    let cut = store.resolve(&reference("app"), &Platform::host());
    assert!(matches!(cut, Err(StoreError::SizeMismatch { .. })), "{cut:?}");
    let source = BlobSource::Bytes(good.into());
    let outcome = store.write_blob(&reference("app"), &blob, &source, None).unwrap();
    assert_eq!(outcome, BlobOutcome::Written);
    assert_eq!(text_of(&store, "app").as_deref(), Some("one"));
    let wrong = Descriptor::new(blob.media_type.clone(), Digest::of(b"other"), blob.size);
    assert!(store.write_blob(&reference("app"), &wrong, &source, None).is_err());
}

/// A layer of the store with a bit flipped is not passed on, and can be pulled anew.
#[test]
fn row_14_a_flipped_layer_of_the_store_is_refused_and_healed() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    let bytes = bytes::Bytes::from(vec![7; 300_000]);
    let layer =
        Descriptor::new(crate::MediaType::Other("x".to_owned()), Digest::of(&bytes), bytes.len() as u64);
    let source = BlobSource::Bytes(bytes.clone());
    store.write_blob(&reference("app"), &layer, &source, None).unwrap();
    let path = store.layout().blob_path(layer.digest);
    let mut damaged = bytes.to_vec();
    damaged[200_000] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let read = || {
        let mut read = Vec::new();
        store.open_blob(&reference("app"), &layer).unwrap().read_to_end(&mut read).map(|_| read)
    };
    let error = read().unwrap_err();
    assert!(error.to_string().contains(&layer.digest.to_string()), "{error}");
    assert_eq!(store.write_blob(&reference("app"), &layer, &source, None).unwrap(), BlobOutcome::Written);
    assert_eq!(read().unwrap(), bytes);
}

#[test]
fn many_writers_lose_no_name() {
    let directory = tempfile::tempdir().unwrap();
    LocalStore::open(directory.path()).unwrap();
    std::thread::scope(|scope| {
        for index in 0..8 {
            let path = directory.path();
            scope.spawn(move || {
                // Each has opened the store itself, as processes do: the lock is of the open file.
                let store = LocalStore::open(path).unwrap();
                put(&store, &format!("app:{index}"), &format!("{index}"));
            });
        }
    });
    let store = LocalStore::open(directory.path()).unwrap();
    for index in 0..8 {
        assert_eq!(text_of(&store, &format!("app:{index}")), Some(index.to_string()));
    }
}

#[test]
fn a_layout_is_found_by_name_or_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    let manifest = put(&store, "app", "one");
    let only = Layout::open(directory.path(), LayoutName::Only).unwrap();
    assert_eq!(text_of(&only, "whatever").as_deref(), Some("one"));
    let named = Layout::open(directory.path(), LayoutName::Named("v1".to_owned())).unwrap();
    assert_eq!(text_of(&named, "whatever"), None);
    named.put_manifest(&reference("whatever"), &manifest).unwrap();
    assert_eq!(text_of(&named, "whatever").as_deref(), Some("one"));
    assert_eq!(text_of(&only, "whatever"), None);
}

#[test]
fn other_directories_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Layout::open(directory.path(), LayoutName::Only);
    assert!(matches!(open(), Err(StoreError::NotAStore { .. })));
    fs::write(directory.path().join("photo.jpg"), "").unwrap();
    assert!(matches!(LocalStore::open(directory.path()), Err(StoreError::NotAStore { .. })));
    fs::write(directory.path().join(VERSION_FILE), r#"{"imageLayoutVersion":"9.0.0"}"#).unwrap();
    assert!(matches!(open(), Err(StoreError::NotAStore { .. })));
}

/// The names and the files must be those that other tools look for.
#[test]
fn skopeo_reads_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    put(&store, "app", "one");
    let source = format!("oci:{}:docker.io/library/app:latest", directory.path().display());
    let Ok(inspected) = Command::new("skopeo").args(["inspect", &source]).output() else {
        eprintln!("skipped: skopeo is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&inspected.stdout);
    assert!(inspected.status.success() && text.contains(r#""text": "one""#), "{inspected:?}");
    let copy = tempfile::tempdir().unwrap();
    let target = format!("oci:{}:v1", copy.path().display());
    let copied =
        Command::new("skopeo").args(["copy", "-q", "--insecure-policy", &source, &target]).output().unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let layout = Layout::open(copy.path(), LayoutName::Named("v1".to_owned())).unwrap();
    assert_eq!(text_of(&layout, "whatever").as_deref(), Some("one"));
}
