//! What is left of the exporter's cache directory when the exporter is killed, the disk is full or the power goes away at
//! any moment: the old cache or the new one, and the next export is right. Rows 37, 38, 40 and 43 of the table of faults.
//!
//! Every few of the calls that change the directory are tried; all of them with `LONGSHORE_TEST_ALL_POINTS=1`.

use std::fs;

use longshore_test_support::Outcome;
use longshore_test_support::fault::{self, Fault};
use longshore_test_support::layout::digest;
use longshore_test_support::power_loss::Recording;
use serde_json::Value;

use crate::crash::points;
use crate::exporter::{Machine, Way};

const IMAGE: &str = "app:1";
const CACHE: &str = "volumes/cache";
const LABEL: &str = "io.buildpacks.lifecycle.cache.metadata";

/// A machine that exports two versions of a layer in turn, with one cache.
struct Cached {
    machine: Machine,
    /// The images of the versions, and their cached layers.
    versions: [(String, String); 2],
    version: usize,
}

impl Cached {
    /// A machine that has exported both versions, the first one last.
    fn new() -> Self {
        let machine = Machine::without_layer("tar+zstd");
        let mut cached = Self { machine, versions: Default::default(), version: 0 };
        for version in [1, 0] {
            cached.version = version;
            cached.write();
            let image = cached.machine.build(IMAGE, CACHE, Way::default());
            cached.versions[version] = (image, cached.cached_layer("at first"));
        }
        assert_ne!(cached.versions[0], cached.versions[1]);
        cached
    }

    fn write(&self) {
        let file = format!("layers/test_big/deps/file-{}", self.version);
        let other = format!("layers/test_big/deps/file-{}", 1 - self.version);
        let _ = self.machine.environment.write(&file, &format!("version {}\n", self.version).repeat(1000));
        if self.machine.path(&other).exists() {
            fs::remove_file(self.machine.path(&other)).unwrap();
        }
    }

    /// Changes the layer; gives the old version and the new one.
    fn change(&mut self) -> ((String, String), (String, String)) {
        let old = self.version;
        self.version = 1 - old;
        self.write();
        self.machine.analyze(IMAGE, Way::default());
        (self.versions[old].clone(), self.versions[self.version].clone())
    }

    fn export_with(&self, fault: Fault) -> fault::Faulted {
        let folder = fs::canonicalize(self.machine.path(CACHE)).unwrap();
        fault::run(&self.machine.exporter(IMAGE, CACHE, Way::default()), &folder, fault)
    }

    /// The layer that the cache holds, and holds whole.
    fn cached_layer(&self, when: &str) -> String {
        let committed = self.machine.path(CACHE).join("committed");
        let text = fs::read(committed.join(LABEL)).unwrap_or_else(|error| panic!("{when}: {error}"));
        let metadata: Value = serde_json::from_slice(&text).unwrap();
        let layer = metadata["buildpacks"][0]["layers"]["deps"]["sha"].as_str().unwrap().to_owned();
        let tar = fs::read(committed.join(format!("{layer}.tar")));
        assert_eq!(digest(&tar.unwrap_or_else(|error| panic!("{when}: {error}"))), layer, "{when}");
        layer
    }

    /// The next export is right, and leaves nothing but its cache.
    fn verify_next(&self, when: &str) {
        let (image, layer) = &self.versions[self.version];
        assert_eq!(self.machine.build(IMAGE, CACHE, Way::default()), *image, "{when}");
        assert_eq!(self.cached_layer(when), *layer, "{when}");
        let names = |folder: &str| {
            let children = fs::read_dir(self.machine.path(CACHE).join(folder)).unwrap();
            let mut names: Vec<_> =
                children.map(|child| child.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names("committed"), [LABEL.to_owned(), format!("{layer}.tar")], "{when}");
        let known = ["committed", "configs", "lock", "stat-index"];
        let left: Vec<_> = names(".").into_iter().filter(|name| !known.contains(&name.as_str())).collect();
        assert!(left.is_empty(), "{when}: {left:?}");
    }
}

#[test]
fn row_37_an_export_that_is_killed_leaves_the_old_cache_directory_or_the_new_one() {
    let mut cached = Cached::new();
    cached.change();
    let whole = cached.export_with(Fault::None);
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    for point in points(whole.calls.len(), 12) {
        let (old, new) = cached.change();
        let killed = cached.export_with(Fault::KillBefore(point));
        let when = format!("before call {point}, {:?}", killed.calls.get(point));
        let found = cached.cached_layer(&when);
        assert!(found == old.1 || found == new.1, "{when}: {found}");
        cached.verify_next(&when);
    }
}

#[test]
fn row_43_a_cache_directory_on_a_full_disk_is_the_old_one_and_no_failure() {
    let mut cached = Cached::new();
    cached.change();
    let whole = cached.export_with(Fault::None);
    for point in points(whole.calls.len(), 12) {
        let (old, new) = cached.change();
        let full = cached.export_with(Fault::FullFrom(point));
        let when = format!("full from call {point} on, {:?}", full.calls.get(point));
        assert_eq!((full.code, cached.machine.digest(IMAGE)), (Some(0), new.0), "{when}\n{}", full.stderr);
        let found = cached.cached_layer(&when);
        assert!(found == old.1 || found == new.1, "{when}: {found}");
        assert!(found == new.1 || full.stderr.contains("No space left on device"), "{when}\n{}", full.stderr);
        cached.verify_next(&when);
    }
}

#[test]
fn row_38_a_power_loss_leaves_the_old_cache_directory_or_the_new_one() {
    let mut cached = Cached::new();
    let (old, new) = cached.change();
    let folder = fs::canonicalize(cached.machine.path("volumes")).unwrap();
    let exporter = cached.machine.exporter(IMAGE, CACHE, Way::default());
    let (exported, recording) = Recording::of(&exporter, &folder, &["cache"]);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    let losses = recording.losses(points(recording.points(), 25));
    for number in points(losses.len(), 25) {
        let when = recording.describe(losses[number]);
        recording.disk(losses[number]).write();
        let found = cached.cached_layer(&when);
        assert!(found == old.1 || found == new.1, "{when}: {found}");
        cached.verify_next(&when);
    }
}

/// Two exports of one app at once, with one cache: whoever is last, the cache is whole.
#[test]
fn row_40_two_exports_with_one_cache_directory_are_both_right() {
    let cached = Cached::new();
    for _ in 0..5 {
        cached.machine.analyze(IMAGE, Way::default());
        let outcomes = std::thread::scope(|scope| {
            let exports = ["one:1", "other:1"].map(|image| {
                let mut exporter = cached.machine.exporter(image, CACHE, Way::default());
                scope.spawn(move || Outcome::of(&mut exporter))
            });
            exports.map(|export| export.join().unwrap())
        });
        for outcome in outcomes {
            drop(outcome.success().does_not_say("export cache"));
        }
        let digests = ["one:1", "other:1"].map(|image| cached.machine.digest(image));
        assert_eq!(digests[0], digests[1]);
        cached.verify_next("after both");
    }
}
