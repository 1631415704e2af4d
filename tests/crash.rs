//! What is left when a build is killed, or its disk is full, at any moment: the next build is right, and the image that was
//! there is still there. Rows 37 to 43 of the table of faults.
//!
//! A build is run under the kernel's debugging interface, which counts its calls that change files. Every few of them are
//! tried; all of them with `LONGSHORE_TEST_ALL_POINTS=1`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::fault::{self, Call, Fault, Faulted};
use longshore_test_support::layout::{Layout, digest};
use longshore_test_support::tiny::{TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{Outcome, TestEnvironment};
use serde_json::Value;

use crate::LONGSHORE;
use crate::build::caching_buildpack;

pub(crate) const BUILD: [&str; 6] = ["build", "web", "--path", "app", "--builder", "tiny-builder"];

/// A buildpack whose cached layer is another one when the app's file `content` is.
fn changing_buildpack() -> ShellBuildpack {
    ShellBuildpack::new(
        "test/changing",
        r#"layer=$CNB_LAYERS_DIR/compiled
mkdir -p "$layer/deep"
cat content > "$layer/deep/$(cat content)"
[ ! -e "$layer/deep/0" ] || [ ! -e "$layer/deep/1" ] || rm "$layer/deep/$((1 - $(cat content)))"
printf '[types]\nlaunch = true\ncache = true\n' > "$layer.toml""#,
    )
}

/// A machine on which an app is built, in two versions in turn.
pub(crate) struct Machine {
    pub(crate) environment: TestEnvironment,
    /// The images of the versions.
    pub(crate) digests: [String; 2],
    version: usize,
}

impl Machine {
    /// A machine that has built both versions, the first one last.
    pub(crate) fn warm() -> Self {
        let mut machine = Self::cold();
        for version in [0, 1, 0] {
            machine.version = version;
            machine.write();
            machine.environment.longshore(&BUILD).success();
            machine.digests[version] = machine.environment.digest("web");
        }
        assert_ne!(machine.digests[0], machine.digests[1]);
        machine
    }

    /// A machine that has built nothing.
    pub(crate) fn cold() -> Self {
        let environment = TestEnvironment::new(LONGSHORE);
        let buildpacks = vec![caching_buildpack(), changing_buildpack(), web_buildpack()];
        TinyBuilder::new(buildpacks).install(&environment);
        web_app(&environment.path("app"), "hello\n");
        let _ = environment.write("app/key", "1");
        let machine = Self { environment, digests: Default::default(), version: 0 };
        machine.write();
        machine
    }

    fn write(&self) {
        let _ = self.environment.write("app/content", &self.version.to_string());
    }

    /// Changes the app, and gives the images that were before and that are to be after the next build.
    pub(crate) fn change(&mut self) -> (String, String) {
        let old = self.version;
        self.version = 1 - old;
        self.write();
        (self.digests[old].clone(), self.digests[self.version].clone())
    }

    fn build_with(&self, fault: Fault) -> Faulted {
        let mut command = self.environment.command();
        command.args(BUILD);
        let folder = fs::canonicalize(self.environment.path(".")).unwrap();
        fault::run(&command, &folder, fault)
    }

    /// A build with nothing in its way.
    pub(crate) fn build(&self) -> Outcome {
        self.environment.longshore(&BUILD).success()
    }

    /// Every blob is what its name says, and every image is whole.
    pub(crate) fn verify(&self, when: &str) {
        let store = self.environment.store();
        for blob in fs::read_dir(store.join("blobs/sha256")).unwrap() {
            let path = blob.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.len() == 64 {
                assert_eq!(digest(&fs::read(&path).unwrap()), format!("sha256:{name}"), "{when}");
            }
        }
        let blob = |descriptor: &Value| {
            let name = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let path = store.join("blobs/sha256").join(name);
            fs::read(&path).unwrap_or_else(|error| panic!("{when}: {}: {error}", path.display()))
        };
        for image in Layout::open(&store).index()["manifests"].as_array().unwrap() {
            let manifest: Value = serde_json::from_slice(&blob(image)).unwrap();
            let _ = blob(&manifest["config"]);
            manifest["layers"].as_array().unwrap().iter().for_each(|layer| drop(blob(layer)));
        }
    }

    /// Nothing half-written is left after a clean-up.
    pub(crate) fn verify_tidy(&self, when: &str) {
        self.environment.longshore(&["image", "prune"]).success();
        for folder in ["data", "cache", "tmp"] {
            let mut left = Vec::new();
            walk(&self.environment.path(folder), &mut left);
            left.retain(|path| is_temporary(path));
            assert!(left.is_empty(), "{when}: {left:?}");
        }
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for child in fs::read_dir(folder).unwrap() {
        let path = child.unwrap().path();
        found.push(path.clone());
        // What a cached layer or a builder has in it is its own affair.
        let is_content = path.components().any(|part| part.as_os_str() == "unpacked");
        if path.is_dir() && !path.is_symlink() && !is_content {
            walk(&path, found);
        }
    }
}

fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    [".longshore-", ".new-", ".restoring-", ".tmp", "build-"].iter().any(|start| name.starts_with(start))
        || name.ends_with(".partial")
}

/// The numbers of the calls that are tried, out of `count`: all, or at most `few`, evenly.
pub(crate) fn points(count: usize, few: usize) -> Vec<usize> {
    if std::env::var_os("LONGSHORE_TEST_ALL_POINTS").is_some() || count <= few {
        return (0..count).collect();
    }
    (0..few).map(|index| index * count / few).collect()
}

pub(crate) fn describe(faulted: &Faulted, point: usize) -> String {
    let before = |call: &Call| format!("{} {} {:?}", call.name, call.path.display(), call.new_path);
    format!("before call {point}, {}", faulted.calls.get(point).map_or_else(String::new, before))
}

#[test]
fn row_37_a_build_that_is_killed_at_any_call_leaves_the_old_image_or_the_new_one() {
    let mut machine = Machine::warm();
    let (_, new) = machine.change();
    let whole = machine.build_with(Fault::None);
    assert_eq!((whole.code, machine.environment.digest("web")), (Some(0), new), "{}", whole.stderr);
    for point in points(whole.calls.len(), 40) {
        let (old, new) = machine.change();
        let killed = machine.build_with(Fault::KillBefore(point));
        let when = describe(&killed, point);
        let found = machine.environment.digest("web");
        assert!(found == old || found == new, "{when}: {found}");
        machine.verify(&when);
        // What was cached and not touched is not lost by it.
        let next = machine.build();
        assert_eq!(machine.environment.digest("web"), new, "{when}");
        assert!(next.stdout.contains("keeping dependencies"), "{when}\n{}\n{}", next.stdout, next.stderr);
        machine.verify(&when);
        machine.verify_tidy(&when);
    }
}

#[test]
fn row_37_a_first_build_that_is_killed_at_any_call_is_made_good_by_the_next_one() {
    let expected = Machine::warm().digests[0].clone();
    let whole = Machine::cold().build_with(Fault::None);
    for point in points(whole.calls.len(), 15) {
        let machine = Machine::cold();
        let killed = machine.build_with(Fault::KillBefore(point));
        let when = describe(&killed, point);
        machine.verify(&when);
        machine.build();
        assert_eq!(machine.environment.digest("web"), expected, "{when}");
        machine.verify(&when);
        machine.verify_tidy(&when);
    }
}

#[test]
fn row_43_a_disk_that_is_full_from_any_call_on_leaves_the_old_image() {
    let mut machine = Machine::warm();
    machine.change();
    let whole = machine.build_with(Fault::None);
    for point in points(whole.calls.len(), 40) {
        let (old, new) = machine.change();
        let full = machine.build_with(Fault::FullFrom(point));
        let when = describe(&full, point);
        let found = machine.environment.digest("web");
        if full.code == Some(0) {
            // Only what makes the next build faster could not be written.
            assert_eq!(found, new, "{when}");
        } else {
            assert!(found == old, "{when}: {found}\n{}", full.stderr);
            assert!(full.code.is_some(), "{when}: it crashed\n{}", full.stderr);
            assert!(full.stderr.contains("No space left on device"), "{when}\n{}", full.stderr);
            let root = machine.environment.path("");
            assert!(full.stderr.contains(root.to_str().unwrap()), "{when}: no file named\n{}", full.stderr);
        }
        assert!(!full.stderr.contains("panicked"), "{when}\n{}", full.stderr);
        machine.verify(&when);
        machine.build();
        assert_eq!(machine.environment.digest("web"), new, "{when}");
        machine.verify(&when);
        machine.verify_tidy(&when);
    }
}

/// What a power loss leaves is what was synced. So whatever an index or a list names is synced before, with the folders
/// that hold it, and so are the index and the list themselves before they get their names.
#[test]
fn row_38_nothing_is_named_before_it_is_on_the_disk() {
    for mut machine in [Machine::cold(), Machine::warm()] {
        machine.change();
        let built = machine.build_with(Fault::None);
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        verify_synced(&built.calls, &["index.json", "cache.json"]);
    }
}

/// Requires that files of these names were put in their places, and that all of the store and of the caches was on the disk
/// before.
pub(crate) fn verify_synced(calls: &[Call], names: &[&str]) {
    let is_of_state = |call: &&Call| is_state(&call.path) || call.new_path.as_deref().is_some_and(is_state);
    let calls: Vec<&Call> = calls.iter().filter(is_of_state).collect();
    for name in names {
        let puts = |call: &&Call| call.new_path.as_deref().is_some_and(|path| path.ends_with(name));
        assert!(calls.iter().any(puts), "{name}");
    }
    verify_order(&calls, names);
}

/// The store and the caches of apps; not work directories, and not what is only in the way of being unpacked.
fn is_state(path: &Path) -> bool {
    let text = path.to_string_lossy();
    // What a lock says is of interest while it is held.
    !path.ends_with("lock")
        && (text.contains("/data/longshore/store") || text.contains("/cache/longshore/apps"))
}

fn verify_order(calls: &[&Call], names: &[&str]) {
    // Files with bytes, and folders with names, that may be in memory only.
    let mut unsynced: BTreeMap<PathBuf, String> = BTreeMap::new();
    let text = |call: &Call| format!("{} {} {:?}", call.name, call.path.display(), call.new_path);
    let parent = |path: &Path| path.parent().unwrap().to_owned();
    for call in calls {
        match (call.name, &call.new_path) {
            ("write" | "truncate", _) => drop(unsynced.insert(call.path.clone(), text(call))),
            ("sync" | "remove", _) => drop(unsynced.remove(&call.path)),
            // A cache whose folder is lost is no cache; a store is not to be lost.
            ("create", _) if call.path.is_dir() && call.path.iter().any(|part| part == "store") => {
                unsynced.insert(parent(&call.path), text(call));
            }
            ("rename", Some(new)) => {
                assert!(!unsynced.contains_key(&call.path), "renamed before it is synced: {}", text(call));
                let names_others = names.iter().any(|name| new.ends_with(name));
                let folder = parent(new);
                if names_others {
                    let in_root = |path: &&PathBuf| path.starts_with(&folder) && **path != folder;
                    let missing: Vec<_> = unsynced.keys().filter(in_root).collect();
                    let missing: Vec<_> = missing.iter().map(|path| &unsynced[*path]).collect();
                    assert!(missing.is_empty(), "{} before the sync after {missing:?}", text(call));
                }
                if is_state(&folder) {
                    unsynced.insert(folder, text(call));
                }
            }
            _ => {}
        }
    }
    assert!(unsynced.is_empty(), "never synced: {unsynced:?}");
}

/// Two builds of one app at once: the second waits, says so, and both are right.
#[test]
fn row_40_two_builds_of_one_app_take_turns() {
    let mut machine = Machine::warm();
    let (_, new) = machine.change();
    let volume = format!("{}:/workspace/signal:ro", machine.environment.path("signal").display());
    fs::create_dir(machine.environment.path("signal")).unwrap();
    let wait = ShellBuildpack::new("test/wait", "echo started; while [ ! -e signal/go ]; do :; done");
    wait.write(&machine.environment.path("wait"));
    let all = [&BUILD[..], &["--volume", &volume, "--pre-buildpack", "wait"]].concat();
    let mut first = machine.environment.command();
    let log = machine.environment.path("first.log");
    let output = fs::File::create(&log).unwrap();
    let mut first = first.args(&all).stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
    wait_until(|| fs::read_to_string(&log).unwrap().contains("started"));
    let second_log = machine.environment.path("second.log");
    let output = fs::File::create(&second_log).unwrap();
    let mut second = machine.environment.command();
    let mut second = second.args(BUILD).stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
    wait_until(|| fs::read_to_string(&second_log).unwrap().contains("Waiting for"));
    let said = fs::read_to_string(&second_log).unwrap();
    assert!(said.contains(&format!("process {}", first.id())) && said.contains("`web`"), "{said}");
    fs::write(machine.environment.path("signal/go"), "").unwrap();
    assert!(first.wait().unwrap().success(), "{}", fs::read_to_string(&log).unwrap());
    assert!(second.wait().unwrap().success(), "{}", fs::read_to_string(&second_log).unwrap());
    assert_eq!(machine.environment.digest("web"), new);
    machine.verify("after both");
    machine.verify_tidy("after both");
}

/// Looks again and again, as there is nothing to wait for; a test that never ends names itself.
fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

/// Rows 39 and 44: a byte of a cached layer is changed, with size and time put back.
#[test]
fn row_39_a_damaged_layer_in_the_cache_is_made_anew() {
    let machine = Machine::warm();
    let installed = cached(&machine, "installed");
    let time = fs::metadata(&installed).unwrap().modified().unwrap();
    fs::write(&installed, "2\n").unwrap();
    fs::File::options().write(true).open(&installed).unwrap().set_modified(time).unwrap();
    machine
        .build()
        .says("Skipping restore for layer test/caching:dependencies")
        .says("installing dependencies");
    assert_eq!(machine.environment.digest("web"), machine.digests[0]);
    machine.build().says("keeping dependencies");
    assert_eq!(fs::read_to_string(cached(&machine, "installed")).unwrap(), "1\n");
}

/// The only file of this name in the caches.
fn cached(machine: &Machine, name: &str) -> PathBuf {
    let mut found = Vec::new();
    walk(&machine.environment.path("cache/longshore/apps"), &mut found);
    found.retain(|path| path.ends_with(name));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn row_42_caches_of_newer_versions_are_left_alone() {
    let machine = Machine::warm();
    let newer = machine.environment.path("cache/longshore/apps/v2/app");
    fs::create_dir_all(&newer).unwrap();
    fs::write(newer.join("cache.json"), "of the future").unwrap();
    machine.environment.longshore(&[&BUILD[..], &["--clear-cache"]].concat()).success();
    machine.environment.longshore(&["image", "prune", "--cache-age", "0", "--cache-size", "0"]).success();
    assert_eq!(fs::read_to_string(newer.join("cache.json")).unwrap(), "of the future");
    machine.build().says("installing dependencies");
}

#[test]
fn row_46_the_cache_of_another_app_is_not_used() {
    let machine = Machine::warm();
    let other = ["build", "other", "--path", "app", "--builder", "tiny-builder"];
    machine.environment.longshore(&other).success().says("installing dependencies");
    // Also when somebody puts it there.
    let apps = machine.environment.path("cache/longshore/apps/v1");
    let mut names: Vec<_> = fs::read_dir(&apps).unwrap().map(|child| child.unwrap().path()).collect();
    names.sort();
    let [of_other, of_web] = <[PathBuf; 2]>::try_from(names).unwrap();
    fs::remove_dir_all(&of_other).unwrap();
    Outcome::of(Command::new("cp").arg("-a").arg(&of_web).arg(&of_other)).success();
    machine
        .environment
        .longshore(&other)
        .success()
        .says("it is that of `web`")
        .says("installing dependencies");
    machine.build().says("keeping dependencies");
}

#[test]
fn row_47_builder_and_run_image_are_not_overwritten() {
    let machine = Machine::warm();
    for (name, said) in [
        ("tiny-builder", "that is the name of its builder"),
        ("tiny-builder:2", "that is the name of its builder"),
        ("tiny-run", "that is the name of its run image"),
    ] {
        let before = machine.environment.find(name);
        for arguments in [vec![name], vec!["web", "--tag", name]] {
            let build = [&["build"], &arguments[..], &BUILD[2..]].concat();
            let refused = machine.environment.longshore(&build).says(said);
            assert_ne!(refused.code, Some(0), "{name}");
        }
        assert_eq!(machine.environment.find(name), before);
    }
    assert_eq!(machine.environment.digest("web"), machine.digests[0]);
}

/// Row 43 without pretending: a file system with little room.
#[test]
fn row_43_a_small_file_system_that_is_full() {
    let machine = Machine::warm();
    let folder = machine.environment.path("small");
    fs::create_dir(&folder).unwrap();
    Outcome::of(Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]).arg(&folder))
        .success();
    let unmount = Unmount(folder.clone());
    Outcome::of(Command::new("cp").arg("-a").arg(machine.environment.path("data")).arg(&folder)).success();
    fs::write(machine.environment.path("app/large"), random(16 << 20)).unwrap();
    let build = |folder: &Path| {
        let mut command = machine.environment.command();
        Outcome::of(command.env("XDG_DATA_HOME", folder.join("data")).args(BUILD))
    };
    let failed = build(&folder);
    assert_ne!(failed.code, Some(0));
    assert!(failed.stderr.contains("No space left on device"), "{}", failed.stderr);
    assert!(failed.stderr.contains("blobs/sha256"), "{}", failed.stderr);
    let store = folder.join("data/longshore/store");
    let left: Vec<_> = fs::read_dir(store.join("blobs/sha256"))
        .unwrap()
        .map(|blob| blob.unwrap().path())
        .filter(|path| is_temporary(path))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let index = fs::read_to_string(store.join("index.json")).unwrap();
    assert!(index.contains(&machine.digests[0]), "the old image is still there");
    fs::remove_file(machine.environment.path("app/large")).unwrap();
    build(&folder).success();
    drop(unmount);
}

pub(crate) struct Unmount(pub(crate) PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Bytes that cannot be compressed, the same every time.
pub(crate) fn random(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}
