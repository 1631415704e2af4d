use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::*;
use crate::local_store::Collected;
use crate::test_images::{put, reference, text_of};
use crate::{LocalStore, Spared};

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
    let one = put(&store, "app", "one");
    put(&store, "app", "two");
    let lately = Spared { used: BTreeSet::new(), since: SystemTime::now() - Duration::from_secs(3600) };
    assert_eq!(store.collect(&lately).unwrap(), Collected::default());
    let layer = one.as_image().unwrap().layers[0].clone();
    let used = Spared { used: BTreeSet::from([layer.digest]), since: SystemTime::now() };
    let collected = store.collect(&used).unwrap();
    assert_eq!((collected.blobs, collected.used_blobs, collected.used_bytes), (2, 1, layer.size));
    assert!(collected.bytes > 0);
    let collected = store.collect(&Spared { used: BTreeSet::new(), ..used }).unwrap();
    assert_eq!((collected.blobs, collected.bytes, collected.used_blobs), (1, layer.size, 0));
    assert_eq!(text_of(&store, "app").as_deref(), Some("two"));
}

#[test]
fn of_the_blobs_that_a_build_gives_up_those_go_that_nobody_needs() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    let named = put(&store, "app", "named").as_image().unwrap().layers[0].digest;
    let sink = store.sink();
    let write = |text: &str| {
        let digest = Digest::of(text.as_bytes());
        fs::write(sink.path(digest), text).unwrap();
        digest
    };
    let [used, old, other] = ["used", "old", "not asked for"].map(write);
    let since = SystemTime::now() - Duration::from_secs(60);
    for digest in [named, used, old, other] {
        File::options()
            .write(true)
            .open(sink.path(digest))
            .unwrap()
            .set_modified(since - Duration::from_secs(1))
            .unwrap();
    }
    let young = write("young");
    let gone = Digest::of(b"gone");
    // Of a process that was killed, and of one that lives.
    fs::write(sink.directory().join(".longshore-killed"), "half").unwrap();
    let living = blob_file::temporary(sink.directory()).unwrap();
    let spared = Spared { used: BTreeSet::from([used]), since };
    let given_up = BTreeSet::from([named, used, old, young, gone]);
    assert_eq!(store.remove_blobs(&given_up, &spared).unwrap(), BTreeSet::from([young]));
    let is_there = [named, used, old, other, young].map(|digest| sink.path(digest).exists());
    assert_eq!(is_there, [true, true, false, true, true]);
    assert!(!sink.directory().join(".longshore-killed").exists() && living.path().exists());
    // One that is asked for is used, so that it stays from then on.
    assert!(sink.kept(other, "not asked for".len() as u64).is_some());
    assert_eq!(store.remove_blobs(&BTreeSet::from([other]), &spared).unwrap(), BTreeSet::from([other]));
}

/// A collection looked at a blob, which a build then took for one that it need not make, and removed it.
#[test]
fn nobody_is_given_a_blob_while_blobs_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    let digest = Digest::of(b"blob");
    fs::write(store.sink().path(digest), "blob").unwrap();
    let (asks, asked) = std::sync::mpsc::channel();
    let given = std::thread::scope(|scope| {
        let mut asking = None;
        let update = store.layout().update(|_| {
            let sink = store.sink();
            asking = Some(scope.spawn(move || {
                asks.send(()).unwrap();
                sink.kept(digest, 4)
            }));
            asked.recv().unwrap();
            fs::remove_file(store.sink().path(digest)).unwrap();
            Ok(false)
        });
        update.unwrap();
        asking.unwrap().join().unwrap()
    });
    assert_eq!(given, None);
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
