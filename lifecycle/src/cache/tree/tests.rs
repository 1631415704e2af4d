//! Layers that are moved into a cache and out of it, by builds that end well and others.

use std::fs::{File, FileTimes};
use std::os::unix::fs::{MetadataExt, symlink};

use longshore_image::layer::ParentOwnership;

use super::super::{LayerDirectory, Put};
use super::*;

const OWNERSHIP: Ownership =
    Ownership { uid: 1, gid: 1, parents: ParentOwnership::Fixed { uid: 0, gid: 0, mode: 0o755 } };
const PATH: &str = "acme_web/dependencies";

/// A machine with one cache.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn cache_directory(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    fn lock(&self) -> LockedCache {
        LockedCache::wait(self.cache_directory(), "app").unwrap()
    }

    /// A build, in a layers directory of its own.
    fn begin(&self, name: &str) -> Build {
        self.begin_with(name, Trust::Attributes)
    }

    fn begin_with(&self, name: &str, trust: Trust) -> Build {
        let host = self.0.path().join(name);
        fs::create_dir_all(host.join("acme_web")).unwrap();
        let layers = MappedDirectory { host, name: "/layers".into() };
        let cache = TreeCache::new(self.lock(), layers.clone(), OWNERSHIP, trust).unwrap();
        Build { layers, cache }
    }

    /// A first build that caches a layer with one file; its DiffID.
    fn fill(&self, content: &str) -> DiffId {
        let build = self.begin("first");
        build.write(content);
        settle(&build.directory().host);
        build.commit(None).diff_id
    }

    fn trees(&self) -> usize {
        fs::read_dir(self.cache_directory().join("layers")).unwrap().count()
    }
}

struct Build {
    layers: MappedDirectory,
    cache: TreeCache,
}

impl Build {
    fn directory(&self) -> MappedDirectory {
        self.layers.join(PATH)
    }

    fn file(&self) -> PathBuf {
        self.directory().host.join("deep/file")
    }

    fn write(&self, content: &str) {
        fs::create_dir_all(self.file().parent().unwrap()).unwrap();
        fs::write(self.file(), content).unwrap();
    }

    fn restore(&self, diff_id: DiffId) -> Result<(), CacheError> {
        self.cache.restore_layer(diff_id, &self.directory(), None)
    }

    fn put(&self, update: &mut dyn CacheUpdate, previous: Option<DiffId>) -> Put {
        let directory = self.directory();
        let layer = LayerDirectory {
            directory: &directory,
            ownership: OWNERSHIP,
            known: None,
            previous,
            index: None,
        };
        update.put(&layer).unwrap()
    }

    fn commit(&self, previous: Option<DiffId>) -> Put {
        let mut update = self.cache.begin().unwrap();
        let put = self.put(update.as_mut(), previous);
        update.commit(&CacheMetadata::default()).unwrap();
        put
    }
}

/// Waits until a change of the files would show in their times.
fn settle(directory: &Path) {
    while DirectoryFingerprint::of_directory(directory).is_ok_and(|fingerprint| !fingerprint.settled) {}
}

#[test]
fn a_layer_is_moved_out_and_in_and_not_read() {
    let machine = Machine::new();
    let diff_id = machine.fill("content");
    let build = machine.begin("second");
    assert_eq!(build.cache.metadata().unwrap(), Some(CacheMetadata::default()));
    build.restore(diff_id).unwrap();
    assert_eq!(fs::read_to_string(build.file()).unwrap(), "content");
    assert_eq!(build.cache.restored(), BTreeSet::from([build.directory().host]));
    assert_eq!(machine.trees(), 0, "it is moved");
    let accessed = |path: &Path| path.metadata().map(|file| (file.atime(), file.atime_nsec())).unwrap();
    let before = accessed(&build.file());
    assert_eq!(build.commit(Some(diff_id)), Put { diff_id, is_new: false });
    drop(build);
    let build = machine.begin("third");
    build.restore(diff_id).unwrap();
    assert_eq!(accessed(&build.file()), before, "nobody read the file");
}

#[test]
fn a_changed_layer_replaces_the_old_one() {
    let machine = Machine::new();
    let old = machine.fill("old");
    let build = machine.begin("second");
    build.restore(old).unwrap();
    build.write("new");
    let put = build.commit(Some(old));
    assert!(put.is_new && put.diff_id != old);
    drop(build);
    assert_eq!(machine.trees(), 1);
    let build = machine.begin("third");
    assert!(matches!(build.restore(old), Err(CacheError::Missing { .. })));
    build.restore(put.diff_id).unwrap();
    assert_eq!(fs::read_to_string(build.file()).unwrap(), "new");
}

/// A buildpack failed, or the build was interrupted: what it did not touch is there for the next one.
#[test]
fn a_build_that_fails_gives_back_what_it_did_not_change() {
    let machine = Machine::new();
    let diff_id = machine.fill("content");
    let build = machine.begin("second");
    build.restore(diff_id).unwrap();
    drop(build);
    let build = machine.begin("third");
    build.restore(diff_id).unwrap();
    build.write("half-written");
    drop(build);
    let build = machine.begin("fourth");
    assert!(matches!(build.restore(diff_id), Err(CacheError::Missing { .. })));
}

/// The process was killed: nothing was dropped, only the kernel's lock is gone.
#[test]
fn row_41_what_a_killed_build_took_comes_back() {
    let machine = Machine::new();
    let diff_id = machine.fill("content");
    let build = machine.begin("second");
    build.restore(diff_id).unwrap();
    let layers = build.layers.clone();
    // As after SIGKILL: no destructor runs, and the lock ends.
    std::mem::ManuallyDrop::new(build.cache).cache._lock.end();
    let locked = machine.lock();
    locked.take_back(&layers.host);
    drop(locked);
    let build = machine.begin("third");
    build.restore(diff_id).unwrap();
    assert_eq!(fs::read_to_string(build.file()).unwrap(), "content");
}

/// Rows 39 and 44: whatever is done to a directory in the cache, also with size and times put back.
#[test]
fn row_39_and_44_a_damaged_tree_is_a_miss_and_healed() {
    type Damage = fn(&Path);
    let cases: &[(&str, Damage)] = &[
        ("a changed byte, times put back", |tree| {
            let file = tree.join("deep/file");
            let modified = file.metadata().unwrap().modified().unwrap();
            fs::write(&file, "Content").unwrap();
            let opened = File::options().write(true).open(&file).unwrap();
            opened.set_times(FileTimes::new().set_modified(modified)).unwrap();
        }),
        ("a cut file", |tree| File::create(tree.join("deep/file")).unwrap().set_len(3).unwrap()),
        ("a missing file", |tree| fs::remove_file(tree.join("deep/file")).unwrap()),
        ("a new file", |tree| fs::write(tree.join("new"), "").unwrap()),
        ("other permissions", |tree| {
            fs::set_permissions(tree.join("deep/file"), Permissions::from_mode(0o600)).unwrap();
        }),
        ("a link to elsewhere", |tree| {
            fs::remove_dir_all(tree.join("deep")).unwrap();
            symlink("/etc", tree.join("deep")).unwrap();
        }),
        ("no directory", |tree| fs::remove_dir_all(tree).unwrap()),
        ("a file instead", |tree| {
            fs::remove_dir_all(tree).unwrap();
            fs::write(tree, "").unwrap();
        }),
    ];
    for (name, damage) in cases {
        let machine = Machine::new();
        let diff_id = machine.fill("content");
        let tree = fs::read_dir(machine.cache_directory().join("layers")).unwrap().next().unwrap().unwrap();
        damage(&tree.path());
        let build = machine.begin("second");
        let error = build.restore(diff_id).unwrap_err();
        assert!(error.is_corrupt() || matches!(error, CacheError::Missing { .. }), "{name}: {error:?}");
        assert!(!build.directory().host.exists(), "{name}");
        build.cache.discard_layer(diff_id).unwrap();
        build.write("content");
        assert_eq!(build.commit(Some(diff_id)).diff_id, diff_id, "{name}");
        drop(build);
        machine.begin("third").restore(diff_id).unwrap();
    }
}

/// The cache was copied, so that inodes and times are others: the content decides.
#[test]
fn a_copied_cache_is_read_and_used() {
    let machine = Machine::new();
    let diff_id = machine.fill("content");
    let tree =
        fs::read_dir(machine.cache_directory().join("layers")).unwrap().next().unwrap().unwrap().path();
    fs::rename(tree.join("deep"), tree.join("original")).unwrap();
    fs::create_dir(tree.join("deep")).unwrap();
    fs::copy(tree.join("original/file"), tree.join("deep/file")).unwrap();
    fs::remove_dir_all(tree.join("original")).unwrap();
    let build = machine.begin("second");
    build.restore(diff_id).unwrap();
    assert_eq!(build.commit(Some(diff_id)), Put { diff_id, is_new: false });
}

/// Row 38: what was cached in another start of the machine may never have reached the disk, whatever its attributes say.
#[test]
fn row_38_after_a_start_of_the_machine_content_is_read() {
    let machine = Machine::new();
    let diff_id = machine.fill("content");
    let path = machine.cache_directory().join("cache.json");
    let edit = |change: &dyn Fn(&mut Document)| {
        let mut document = Document::read(&machine.cache_directory()).unwrap();
        change(&mut document);
        fs::write(&path, serde_json::to_vec(&document).unwrap()).unwrap();
    };
    edit(&|document| document.trees[0].boot = Some("another start".to_owned()));
    let build = machine.begin("second");
    build.restore(diff_id).unwrap();
    build.commit(Some(diff_id));
    drop(build);
    let document = Document::read(&machine.cache_directory()).unwrap();
    assert_eq!(document.trees[0].boot, None, "it was read from the disk");
    // The attributes are right, and the content is not what it was.
    edit(&|document| {
        document.trees[0].boot = Some("another start".to_owned());
        document.trees[0].diff_id = DiffId::of(b"what was not written");
    });
    let wrong = DiffId::of(b"what was not written");
    let document = Document::read(&machine.cache_directory()).unwrap();
    let old = fs::read_dir(machine.cache_directory().join("layers")).unwrap().next().unwrap().unwrap().path();
    fs::rename(old, machine.cache_directory().join("layers").join(document.trees[0].name())).unwrap();
    let build = machine.begin("third");
    assert!(build.restore(wrong).unwrap_err().is_corrupt());
}

#[test]
fn on_request_content_is_read_always() {
    let machine = Machine::new();
    let diff_id = machine.fill("content");
    machine.begin_with("second", Trust::Content).restore(diff_id).unwrap();
    let path = machine.cache_directory();
    let mut document = Document::read(&path).unwrap();
    let old = path.join("layers").join(document.trees[0].name());
    document.trees[0].diff_id = DiffId::of(b"other");
    fs::rename(old, path.join("layers").join(document.trees[0].name())).unwrap();
    document.write(&path).unwrap();
    let build = machine.begin_with("third", Trust::Content);
    assert!(build.restore(document.trees[0].diff_id).unwrap_err().is_corrupt());
}

#[test]
fn row_42_and_46_other_caches_are_neither_used_nor_touched() {
    let machine = Machine::new();
    let diff_id = machine.fill("content");
    let build = TreeCache::new(
        LockedCache::wait(machine.cache_directory(), "other-app").unwrap(),
        MappedDirectory::in_place(machine.0.path().join("other")),
        OWNERSHIP,
        Trust::Attributes,
    )
    .unwrap();
    assert_eq!(build.metadata().unwrap(), None);
    let directory = MappedDirectory::in_place(machine.0.path().join("other/x"));
    assert!(matches!(build.restore_layer(diff_id, &directory, None), Err(CacheError::Missing { .. })));
}

/// Row 40: the second build gets the cache when the first has ended.
#[test]
fn row_40_builds_take_turns() {
    let machine = Machine::new();
    let diff_id = machine.fill("content");
    let first = machine.begin("first-again");
    first.restore(diff_id).unwrap();
    assert!(LockedCache::open_unused(machine.cache_directory()).unwrap().is_none());
    std::thread::scope(|scope| {
        let second = scope.spawn(|| machine.begin("second").restore(diff_id));
        first.commit(Some(diff_id));
        drop(first);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn rubbish_of_interrupted_builds_is_removed() {
    let machine = Machine::new();
    let diff_id = machine.fill("content");
    let directory = machine.cache_directory();
    fs::create_dir_all(directory.join("layers/unknown/deep")).unwrap();
    fs::set_permissions(directory.join("layers/unknown/deep"), Permissions::from_mode(0o500)).unwrap();
    fs::write(directory.join(".new-abc"), "").unwrap();
    let build = machine.begin("second");
    assert_eq!(machine.trees(), 1);
    assert!(!directory.join(".new-abc").exists());
    build.restore(diff_id).unwrap();
}

#[test]
fn a_link_in_the_layers_directory_is_not_followed() {
    let machine = Machine::new();
    let outside = machine.0.path().join("outside");
    fs::create_dir_all(outside.join("dependencies")).unwrap();
    let build = machine.begin("first");
    let parent = build.layers.host.join("acme_web");
    fs::remove_dir(&parent).unwrap();
    symlink(&outside, &parent).unwrap();
    let mut update = build.cache.begin().unwrap();
    build.put(update.as_mut(), None);
    assert!(update.commit(&CacheMetadata::default()).is_err());
    assert!(outside.join("dependencies").is_dir());
    fs::remove_file(&parent).unwrap();
    fs::create_dir(&parent).unwrap();
    symlink(outside.join("dependencies"), parent.join("dependencies")).unwrap();
    let directory = build.directory();
    let layer = LayerDirectory {
        directory: &directory,
        ownership: OWNERSHIP,
        known: None,
        previous: None,
        index: None,
    };
    assert!(matches!(build.cache.begin().unwrap().put(&layer), Err(CacheError::Layer(_))));
}

#[test]
fn a_cleared_cache_gives_up_its_blobs_in_the_store() {
    let machine = Machine::new();
    let digest = longshore_image::Digest::of(b"blob");
    let blobs = PublishedBlobs { used: BTreeMap::from([(digest, 7)]), left: BTreeSet::new() };
    machine.begin("first").cache.set_published(&blobs).unwrap();
    let build = machine.begin("second");
    assert_eq!(build.cache.published().unwrap(), blobs);
    build.cache.cache.clear().unwrap();
    let given_up = PublishedBlobs { used: BTreeMap::new(), left: BTreeSet::from([digest]) };
    assert_eq!(build.cache.published().unwrap(), given_up);
}

#[test]
fn caches_are_collected_by_age_and_size() {
    let machine = Machine::new();
    let bucket = machine.0.path().join("bucket");
    for (index, name) in ["oldest", "older", "newest"].iter().enumerate() {
        let directory = bucket.join(name);
        let host = machine.0.path().join(name);
        fs::create_dir_all(host.join("acme_web")).unwrap();
        let layers = MappedDirectory { host, name: "/layers".into() };
        let locked = LockedCache::wait(&directory, name).unwrap();
        let cache = TreeCache::new(locked, layers.clone(), OWNERSHIP, Trust::Attributes).unwrap();
        let build = Build { layers, cache };
        build.write("0123456789");
        build.commit(None);
        drop(build);
        let used = std::time::SystemTime::now() - std::time::Duration::from_secs(1000 * (3 - index as u64));
        let lock = File::options().write(true).open(directory.join("lock")).unwrap();
        lock.set_times(FileTimes::new().set_modified(used)).unwrap();
    }
    let seconds = std::time::Duration::from_secs;
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&bucket).unwrap().map(|child| child.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let in_use = LockedCache::wait(bucket.join("in-use"), "in-use").unwrap();
    assert_eq!(collect(&bucket, seconds(9000), 1000).unwrap(), CollectedCaches::default());
    assert_eq!(collect(&bucket, seconds(2500), 1000).unwrap(), CollectedCaches { caches: 1, bytes: 10 });
    assert_eq!(names(), ["in-use", "newest", "older"]);
    assert_eq!(collect(&bucket, seconds(9000), 15).unwrap().caches, 1);
    assert_eq!(names(), ["in-use", "newest"]);
    // What the local store keeps for a cache counts, and is freed by the store.
    let used = BTreeMap::from([(longshore_image::Digest::of(b"blob"), 6)]);
    PublishedBlobs { used, left: BTreeSet::new() }.write(&bucket.join("newest")).unwrap();
    assert_eq!(collect(&bucket, seconds(9000), 16).unwrap(), CollectedCaches::default());
    assert_eq!(collect(&bucket, seconds(9000), 15).unwrap(), CollectedCaches { caches: 1, bytes: 10 });
    drop(in_use);
    assert_eq!(collect(&machine.0.path().join("missing"), seconds(0), 0).unwrap().caches, 0);
}
