//! What `longshore build --publish` leaves in the local store, and what becomes of it: blobs that are pushed again without
//! being made again, as long as a build may want them and no longer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use longshore_test_support::fault::{self, Call, Fault as FileFault, Faulted};
use longshore_test_support::layout::digest;
use longshore_test_support::registry::Fault;
use longshore_test_support::tiny::{TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{DockerRegistry, FaultyRegistry, Outcome, TestEnvironment, skopeo};
use serde_json::Value;

use crate::LONGSHORE;
use crate::build::caching_buildpack;
use crate::crash::{Machine, describe, points, random, verify_synced};

/// A machine with a builder in its local store and an app.
struct Place(TestEnvironment);

impl Place {
    fn new() -> Self {
        let environment = TestEnvironment::new(LONGSHORE);
        TinyBuilder::new(vec![caching_buildpack(), web_buildpack()]).install(&environment);
        web_app(&environment.path("app"), "hello\n");
        let _ = environment.write("app/key", "1");
        Self(environment)
    }

    fn change(&self, page: &str) {
        web_app(&self.0.path("app"), page);
    }

    /// Builds, and counts the blobs that were made for it.
    fn publish(&self, image: &str, more: &[&str]) -> usize {
        let mut command = self.0.command();
        command.args(["build", image, "--path", "app", "--builder", "tiny-builder", "--publish"]).args(more);
        let folder = fs::canonicalize(self.0.path(".")).unwrap();
        let built = fault::run(&command, &folder, FileFault::None);
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        let in_blobs = |path: &PathBuf| path.parent().is_some_and(|parent| parent.ends_with("blobs/sha256"));
        built.calls.iter().filter(|call| call.name == "create" && in_blobs(&call.path)).count()
    }

    fn fail(&self, image: &str) -> Outcome {
        let build = ["build", image, "--path", "app", "--builder", "tiny-builder", "--publish"];
        let failed = self.0.longshore(&build);
        assert_ne!(failed.code, Some(0));
        failed
    }

    fn prune(&self, more: &[&str]) -> Outcome {
        self.0.longshore(&[&["image", "prune"], more].concat()).success()
    }

    /// The blobs of the store.
    fn blobs(&self) -> BTreeSet<String> {
        let children = fs::read_dir(self.0.store().join("blobs/sha256")).unwrap();
        children.map(|child| child.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn blob(&self, digest: &str) -> Vec<u8> {
        fs::read(self.0.store().join("blobs").join(digest.replace(':', "/"))).unwrap()
    }

    /// Lets two hours go by for the blobs.
    fn age(&self) {
        for name in self.blobs() {
            let path = self.0.store().join("blobs/sha256").join(name);
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
        }
    }
}

/// The manifests of the images that a name stands for.
fn manifests(image: &str) -> Vec<Value> {
    let manifest = skopeo::manifest(&format!("docker://{image}"));
    let Some(children) = manifest["manifests"].as_array() else { return vec![manifest] };
    let repository = image.rsplit_once(':').unwrap().0;
    let name = |child: &Value| format!("docker://{repository}@{}", child["digest"].as_str().unwrap());
    children.iter().map(|child| skopeo::manifest(&name(child))).collect()
}

fn layers(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

/// The blobs were in the work directory, and went with it: a registry that had lost the image got them compressed anew.
#[test]
fn what_was_pushed_is_in_the_store_and_is_not_made_again_for_an_empty_registry() {
    for more in [&["--layer-format", "tar+gzip"][..], &["--layer-format", "dual"]] {
        let (registry, place) = (DockerRegistry::start(), Place::new());
        fs::write(place.0.path("app/large"), random(6 << 20)).unwrap();
        let image = registry.reference("web:1");
        assert!(place.publish(&image, more) > 3);
        assert_eq!(place.0.find(&image), None, "the image itself is in the registry only");
        let pushed = manifests(&image);
        assert_eq!(pushed.len(), if more.contains(&"dual") { 2 } else { 1 });
        for layer in pushed.iter().flat_map(layers) {
            assert_eq!(digest(&place.blob(&layer)), layer);
        }

        registry.empty();
        assert_eq!(place.publish(&image, more), 0, "{more:?}");
        assert_eq!(manifests(&image), pushed);
        let folder = tempfile::tempdir().unwrap();
        let copy = ["copy", "--all", "--src-tls-verify=false", &format!("docker://{image}")];
        let target = format!("oci:{}:copy", folder.path().display());
        skopeo::skopeo(&[&copy[..], &[&target]].concat()).success();
    }
}

#[test]
fn deltas_are_pushed_from_the_store_too() {
    let (registry, place) = (DockerRegistry::start(), Place::new());
    let image = registry.reference("web:1");
    let delta = ["--app-layer", "delta"];
    fs::write(place.0.path("app/large"), random(2 << 20)).unwrap();
    place.publish(&image, &delta);
    let first = layers(&manifests(&image)[0]);
    place.change("second\n");
    assert_eq!(place.publish(&image, &delta), 1);
    let second = layers(&manifests(&image)[0]);
    assert_eq!(second.len(), first.len() + 1);
    for layer in &second {
        assert_eq!(digest(&place.blob(layer)), *layer);
    }
    // Those below the delta are used as long as the image is.
    place.age();
    place.publish(&image, &delta);
    drop(place.prune(&[]).says("for the next builds of pushed images"));
    assert!(second.iter().all(|layer| place.blobs().contains(&layer[7..])));

    registry.empty();
    place.publish(&image, &delta);
    assert_eq!(layers(&manifests(&image)[0]).len(), first.len(), "one layer without a previous image");
}

#[test]
fn a_stream_that_breaks_is_made_good_with_the_file_of_the_store() {
    for fault in [Fault::CutUpload { after: 1 << 20, times: 1 }, Fault::DropsStreams { tells: false }] {
        let (registry, place) = (FaultyRegistry::start([fault.clone()]), Place::new());
        let image = format!("{}/web:1", registry.host());
        fs::write(place.0.path("app/large"), random(20 << 20)).unwrap();
        place.publish(&image, &[]);
        registry.assert_tags_are_complete();
        let manifest: Value = serde_json::from_slice(&registry.manifest("web", "1").unwrap()).unwrap();
        for layer in layers(&manifest) {
            assert!(registry.blob("web", &layer).unwrap() == place.blob(&layer), "{fault:?}: {layer}");
        }
    }
}

#[test]
fn a_build_after_a_failed_upload_makes_nothing_again() {
    let refuses =
        |path| Fault::Status { method: "PUT", path, status: 507, retry_after: None, times: u32::MAX };
    for path in ["/manifests/", "/blobs/uploads/"] {
        let (registry, place) = (FaultyRegistry::start([refuses(path)]), Place::new());
        let image = format!("{}/web:1", registry.host());
        drop(place.fail(&image));
        assert!(registry.tags("web").is_empty());
        registry.set_faults([]);
        assert_eq!(place.publish(&image, &[]), 0, "{path}");
        registry.assert_tags_are_complete();
        assert_eq!(registry.tags("web").len(), 1);
    }
}

/// The registry found it out, and would have done so with every build to come.
#[test]
fn row_14_a_damaged_blob_that_a_registry_refuses_is_made_again() {
    let (registry, place) = (DockerRegistry::start(), Place::new());
    let image = registry.reference("web:1");
    place.publish(&image, &[]);
    let pushed = manifests(&image);
    registry.empty();
    let damaged = layers(&pushed[0]).pop().unwrap();
    let mut bytes = place.blob(&damaged);
    let half = bytes.len() / 2;
    bytes[half] ^= 1;
    fs::write(place.0.store().join("blobs").join(damaged.replace(':', "/")), bytes).unwrap();
    let failed = place.fail(&image);
    drop(failed.says("which is damaged").says(&damaged[7..]));
    assert_eq!(place.publish(&image, &[]), 1);
    assert_eq!(manifests(&image), pushed);
}

/// Who publishes with every push must not fill his disk.
#[test]
fn blobs_of_earlier_images_go_when_nobody_can_need_them() {
    let (registry, place) = (FaultyRegistry::start([]), Place::new());
    let [image, other] = ["web:1", "other:1"].map(|name| format!("{}/{name}", registry.host()));
    let of_builder = place.blobs();
    let of_image = || -> BTreeSet<String> { place.blobs().difference(&of_builder).cloned().collect() };
    place.publish(&image, &[]);
    let first = of_image();
    place.age();
    let _ = place.prune(&[]).says("Kept").does_not_say("Freed");
    assert_eq!(of_image(), first);

    // Young ones may be in somebody's hands, and go later.
    place.publish(&image, &[]);
    place.change("second\n");
    place.publish(&image, &[]);
    let both = of_image();
    assert_eq!(both.difference(&first).count(), 1);
    assert!(both.is_superset(&first));
    place.age();
    place.change("third\n");
    place.publish(&image, &[]);
    let third = of_image();
    assert_eq!(third.len(), first.len(), "{third:?}");
    assert_eq!(third.intersection(&both).count(), first.len() - 1, "all but the app's layer");

    // What another app has stays.
    place.publish(&other, &[]);
    assert_eq!(of_image(), third);
    place.age();
    place.change("fourth\n");
    place.publish(&image, &[]);
    assert!(of_image().is_superset(&third) && of_image().len() == third.len() + 1);

    // So does what an image of the store has.
    place.0.longshore(&["image", "copy", &format!("docker://{image}"), "kept"]).success();
    let fourth = of_image();
    place.age();
    drop(place.prune(&["--cache-age", "0"]).says("build caches"));
    let left = of_image();
    assert!(left.is_subset(&fourth) && left.len() == fourth.len() - 1, "the third page is nobody's");
    place.0.longshore(&["image", "rm", "kept"]).success();
    assert_eq!(of_image().len(), 0);
}

/// A machine that pushes an app in two versions in turn.
struct Pusher {
    machine: Machine,
    registry: FaultyRegistry,
    /// The manifests of the versions.
    images: Vec<Vec<u8>>,
    version: usize,
}

impl Pusher {
    fn cold() -> Self {
        let (machine, registry) = (Machine::cold(), FaultyRegistry::start([]));
        Self { machine, registry, images: Vec::new(), version: 0 }
    }

    /// One that has pushed both versions, the first one last.
    fn warm() -> Self {
        let mut pusher = Self::cold();
        for _ in 0..2 {
            pusher.push_well("at first");
            pusher.images.push(pusher.tagged());
            pusher.change();
        }
        pusher.push_well("again");
        assert_ne!(pusher.images[0], pusher.images[1]);
        pusher
    }

    fn change(&mut self) {
        self.machine.change();
        self.version = 1 - self.version;
    }

    fn push(&self, fault: FileFault) -> Faulted {
        let image = format!("{}/web:1", self.registry.host());
        let mut command = self.machine.environment.command();
        command.args(["build", &image, "--path", "app", "--builder", "tiny-builder", "--publish"]);
        fault::run(&command, &fs::canonicalize(self.machine.environment.path(".")).unwrap(), fault)
    }

    /// Pushes with nothing in the way, and gives the calls that changed files.
    fn push_well(&self, when: &str) -> usize {
        let pushed = self.push(FileFault::None);
        assert_eq!(pushed.code, Some(0), "{when}\n{}", pushed.stderr);
        if let Some(image) = self.images.get(self.version) {
            assert!(self.tagged() == *image, "{when}");
        }
        pushed.calls.len()
    }

    fn tagged(&self) -> Vec<u8> {
        self.registry.manifest("web", "1").unwrap()
    }

    /// Every blob is what it is called, the registry has a whole image, and the next build is right.
    fn verify(&self, when: &str) {
        assert!(self.images.contains(&self.tagged()), "{when}");
        self.registry.assert_tags_are_complete();
        self.machine.verify(when);
        self.push_well(when);
        self.machine.verify(when);
        self.machine.verify_tidy(when);
    }

    /// The list of the blobs in the store.
    fn list(&self) -> PathBuf {
        let mut caches = fs::read_dir(self.machine.environment.path("cache/longshore/apps/v1")).unwrap();
        caches.next().unwrap().unwrap().path().join("published.json")
    }
}

#[test]
fn row_37_a_build_that_pushes_and_is_killed_leaves_only_whole_blobs() {
    let mut pusher = Pusher::warm();
    pusher.change();
    let calls = pusher.push_well("whole");
    for point in points(calls, 30) {
        pusher.change();
        let killed = pusher.push(FileFault::KillBefore(point));
        pusher.verify(&describe(&killed, point));
    }
}

/// The stat index and the list name blobs that they believe to be whole.
#[test]
fn row_38_a_build_that_pushes_names_nothing_before_it_is_on_the_disk() {
    for pusher in [Pusher::cold(), Pusher::warm()] {
        let _ = pusher.machine.environment.write("app/new", "new");
        let pushed = pusher.push(FileFault::None);
        assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);
        verify_synced(&pushed.calls, &["cache.json", "published.json"]);
        let place = |name: &str| {
            let puts = |call: &Call| call.new_path.as_deref().is_some_and(|path| path.ends_with(name));
            pushed.calls.iter().position(puts).unwrap()
        };
        let in_store = |path: &Path| path.parent().is_some_and(|parent| parent.ends_with("blobs/sha256"));
        let blob = |call: &Call| call.new_path.as_deref().is_some_and(in_store);
        let last = pushed.calls.iter().rposition(blob).unwrap();
        let synced = |call: &Call| call.name == "sync" && call.path.ends_with("blobs/sha256");
        let synced = last + pushed.calls[last..].iter().position(synced).unwrap();
        assert!(synced < place("stat-index/v2/index") && synced < place("published.json"));
    }
}

#[test]
fn row_43_a_disk_that_is_full_while_a_build_pushes_leaves_whole_blobs() {
    let mut pusher = Pusher::warm();
    pusher.change();
    let calls = pusher.push_well("whole");
    for point in points(calls, 20) {
        pusher.change();
        let full = pusher.push(FileFault::FullFrom(point));
        let when = describe(&full, point);
        assert!(full.code.is_some() && !full.stderr.contains("panicked"), "{when}\n{}", full.stderr);
        let is_new = pusher.tagged() == pusher.images[pusher.version];
        assert_eq!(full.code == Some(0), is_new, "{when}\n{}", full.stderr);
        assert!(is_new || full.stderr.contains("No space left on device"), "{when}\n{}", full.stderr);
        pusher.verify(&when);
    }
}

/// What it named is kept no longer than what no list names, and nothing else is lost.
#[test]
fn a_damaged_list_of_blobs_is_as_good_as_none() {
    let pusher = Pusher::warm();
    let whole = fs::read_to_string(pusher.list()).unwrap();
    let newer = whole.replace("\"version\":1", "\"version\":2");
    for damaged in ["{", &whole[..whole.len() / 2], &newer] {
        fs::write(pusher.list(), damaged).unwrap();
        pusher.verify(damaged);
        let made_anew: Value = serde_json::from_str(&fs::read_to_string(pusher.list()).unwrap()).unwrap();
        let before: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(made_anew["used"], before["used"], "{damaged}");
    }
}
