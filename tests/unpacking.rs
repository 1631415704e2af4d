//! Layers of images on their way from a registry into sandboxes: each once, only those that are needed, and nothing that
//! is not whole, whatever happens meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::fault::{self, Call, Fault as Interruption, Faulted};
use longshore_test_support::layout::{Files, Layout, digest, gzip};
use longshore_test_support::registry::{Fault, FaultyRegistry};
use longshore_test_support::tiny::{TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{Outcome, TestEnvironment, skopeo};
use serde_json::{Value, json};

use crate::LONGSHORE;
use crate::crash::{Unmount, describe, points, random};
use crate::power_loss::start_again;

/// A registry with a builder, and a machine that has nothing of it.
pub(crate) struct Machine {
    pub(crate) registry: FaultyRegistry,
    pub(crate) environment: TestEnvironment,
}

impl Machine {
    pub(crate) fn new(builder: &TinyBuilder) -> Self {
        let machine =
            Self { registry: FaultyRegistry::start([]), environment: TestEnvironment::new(LONGSHORE) };
        let folder = tempfile::tempdir().unwrap();
        builder.write_builder(&Layout::open(folder.path()), "builder");
        let source = format!("oci:{}:builder", folder.path().display());
        skopeo::copy(&source, &format!("docker://{}", machine.builder()));
        builder.write_run_image(&Layout::open(&machine.environment.store()), &builder.run_image);
        machine.environment.hand_over();
        web_app(&machine.environment.path("app"), "hello\n");
        machine
    }

    fn tiny() -> Self {
        Self::new(&TinyBuilder::new(vec![web_buildpack()]))
    }

    pub(crate) fn builder(&self) -> String {
        format!("{}/builder:1", self.registry.host())
    }

    /// The configuration is read before anything goes wrong: it has retries of its own.
    fn read_configuration(&self) {
        let name = format!("docker://{}", self.builder());
        self.environment.longshore(&["image", "inspect", &name]).success();
    }

    fn command(&self) -> Command {
        let mut command = self.environment.command();
        command.args(["run", &self.builder(), "--", "cat", "/etc/os-release"]);
        command
    }

    fn run(&self) -> Outcome {
        Outcome::of(&mut self.command())
    }

    pub(crate) fn build(&self, more: &[&str]) -> Outcome {
        let build = ["build", "web", "--path", "app", "--builder", &self.builder()];
        self.environment.longshore(&[&build[..], more].concat())
    }

    fn run_with(&self, interruption: Interruption) -> Faulted {
        let folder = fs::canonicalize(self.environment.path(".")).unwrap();
        fault::run(&self.command(), &folder, interruption)
    }

    pub(crate) fn manifest(&self) -> Value {
        serde_json::from_slice(&self.registry.manifest("builder", "1").unwrap()).unwrap()
    }

    pub(crate) fn configuration(&self) -> Value {
        let name = self.manifest()["config"]["digest"].as_str().unwrap().to_owned();
        serde_json::from_slice(&self.registry.blob("builder", &name).unwrap()).unwrap()
    }

    /// Puts another configuration in the builder's place.
    pub(crate) fn configure(&self, configuration: &Value) {
        let mut manifest = self.manifest();
        let bytes = configuration.to_string();
        manifest["config"]["digest"] = json!(self.registry.put_blob("builder", bytes.as_bytes()));
        manifest["config"]["size"] = json!(bytes.len());
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        self.registry.put_manifest("builder", "1", media_type, manifest.to_string().as_bytes());
    }

    /// Puts a layer on top of the builder, with another `order.toml` than its label says.
    pub(crate) fn put_order(&self, order: &str) {
        let mut files = Files::default();
        files.folder("cnb", 0o755, (0, 0)).file("cnb/order.toml", 0o644, order);
        let layer = files.archive();
        let (blob, mut configuration) = (gzip(&layer), self.configuration());
        configuration["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(digest(&layer)));
        let mut manifest = self.manifest();
        manifest["layers"].as_array_mut().unwrap().push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": self.registry.put_blob("builder", &blob),
            "size": blob.len(),
        }));
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        self.registry.put_manifest("builder", "1", media_type, manifest.to_string().as_bytes());
        self.configure(&configuration);
    }

    /// Digests and DiffIDs of the builder's layers.
    pub(crate) fn layers(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (manifest, configuration) = (self.manifest(), self.configuration());
        let blobs = manifest["layers"].as_array().unwrap().iter().map(|layer| text(&layer["digest"]));
        blobs.zip(configuration["rootfs"]["diff_ids"].as_array().unwrap().iter().map(text)).collect()
    }

    pub(crate) fn downloads(&self, digest: &str) -> usize {
        self.registry.requests_of("GET", &format!("/blobs/{digest}")).len()
    }

    fn cache(&self) -> PathBuf {
        self.environment.path("cache/longshore/unpacked")
    }

    /// The only folder of unpacked layers.
    fn unpacked(&self) -> PathBuf {
        fs::read_dir(self.cache()).unwrap().next().unwrap().unwrap().path()
    }

    /// What is in it, beside locks and marks.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.unpacked()).unwrap();
        let names = names.map(|child| child.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".lock") && !name.ends_with(".synced")).collect()
    }

    /// All layers are there, with the content of those in `expected`, and nothing else.
    fn verify(&self, expected: &Path, when: &str) {
        let layers = self.layers();
        let diff_ids: BTreeSet<_> =
            layers.iter().map(|(_, diff_id)| diff_id.trim_start_matches("sha256:").to_owned()).collect();
        assert_eq!(self.names(), diff_ids, "{when}");
        let mut diff = Command::new("diff");
        diff.args(["-r", "--no-dereference", "-x", "*.lock", "-x", "*.synced"])
            .arg(expected)
            .arg(self.unpacked());
        let diff = Outcome::of(&mut diff);
        assert_eq!(diff.code, Some(0), "{when}\n{}", diff.stdout);
    }
}

#[test]
fn row_31_layers_are_unpacked_while_their_downloads_break_and_go_on() {
    let whole = Machine::tiny();
    whole.run().success().says("ID=tiny");
    let machine = Machine::tiny();
    machine.read_configuration();
    machine.registry.set_faults([Fault::CutDownload { after: 300_000, times: 8 }]);
    machine.run().success().says("ID=tiny");
    let resumed = machine.registry.requests_of("GET", "/blobs/");
    assert!(resumed.iter().filter(|request| request.range.is_some()).count() > 1, "{resumed:#?}");
    machine.verify(&whole.unpacked(), "after some cuts");
    // Unpacked layers are all that is kept, and nobody asks for their blobs again.
    assert_eq!(fs::read_dir(machine.environment.store().join("blobs/sha256")).unwrap().count(), 3);
    let before = machine.registry.requests_of("GET", "/blobs/").len();
    machine.run().success().does_not_say("Unpacking");
    assert_eq!(machine.registry.requests_of("GET", "/blobs/").len(), before);
}

#[test]
fn row_14_damaged_layers_are_downloaded_and_unpacked_once_more_and_not_kept() {
    let whole = Machine::tiny();
    whole.run().success();
    for (times, is_good) in [(1, true), (100, false)] {
        let machine = Machine::tiny();
        machine.read_configuration();
        machine.registry.set_faults([Fault::FlipsBits { times }]);
        if is_good {
            machine.run().success();
        } else {
            machine.run().fails_with(1).says("cannot unpack the layer sha256:").says("its digest is");
            assert_eq!(machine.names(), BTreeSet::new());
            machine.registry.set_faults([]);
            machine.run().success();
        }
        machine.verify(&whole.unpacked(), "after damage");
    }
}

#[test]
fn row_14_a_layer_of_another_diff_id_is_not_kept() {
    let machine = Machine::tiny();
    let good = machine.configuration();
    let mut configuration = good.clone();
    let other = digest(b"another");
    configuration["rootfs"]["diff_ids"][1] = json!(other);
    machine.configure(&configuration);
    machine.run().fails_with(1).says(&other);
    assert!(!machine.names().iter().any(|name| name.contains("partial")), "{:?}", machine.names());
    assert!(!machine.names().contains(other.trim_start_matches("sha256:")));
    machine.configure(&good);
    machine.run().success();
}

/// A local store that has the blob, from another image, spares the download; when it is damaged, it does not.
#[test]
fn row_14_blobs_of_the_local_store_are_used_unless_they_are_damaged() {
    for is_damaged in [false, true] {
        let machine = Machine::tiny();
        TinyBuilder::new(vec![web_buildpack()])
            .write_builder(&Layout::open(&machine.environment.store()), "docker.io/library/other:latest");
        machine.environment.hand_over();
        let base = &machine.layers()[0].0;
        let blob = machine.environment.store().join("blobs").join(base.replace(':', "/"));
        // Skopeo has copied it as it is.
        let mut bytes = fs::read(&blob).unwrap();
        if is_damaged {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&blob, bytes).unwrap();
        }
        machine.run().success().says("ID=tiny");
        assert_eq!(machine.downloads(base), usize::from(is_damaged));
        assert_eq!(machine.names().len(), machine.layers().len());
    }
}

#[test]
fn row_37_a_run_that_is_killed_while_it_pulls_is_made_good_by_the_next_one() {
    let whole = Machine::tiny();
    let calls = whole.run_with(Interruption::None);
    assert_eq!(calls.code, Some(0), "{}", calls.stderr);
    let mut resumed = 0;
    for point in points(calls.calls.len(), 25) {
        let machine = Machine::tiny();
        let when = describe(&machine.run_with(Interruption::KillBefore(point)), point);
        machine.environment.longshore(&["image", "prune"]).success();
        machine.run().success().says("ID=tiny");
        machine.verify(&whole.unpacked(), &when);
        resumed +=
            machine.registry.requests_of("GET", "/blobs/").iter().filter(|it| it.range.is_some()).count();
    }
    assert!(resumed > 0, "what had arrived is not downloaded again");
}

#[test]
fn row_43_a_disk_that_is_full_while_layers_are_pulled_leaves_nothing() {
    let whole = Machine::tiny();
    let calls = whole.run_with(Interruption::None).calls;
    for point in points(calls.len(), 20) {
        let machine = Machine::tiny();
        let full = machine.run_with(Interruption::FullFrom(point));
        let when = describe(&full, point);
        assert!(full.code.is_some() && !full.stderr.contains("panicked"), "{when}\n{}", full.stderr);
        if full.code != Some(0) {
            assert!(full.stderr.contains("No space left on device"), "{when}\n{}", full.stderr);
            let has_names =
                machine.cache().exists() && fs::read_dir(machine.cache()).unwrap().next().is_some();
            let names = if has_names { machine.names() } else { BTreeSet::new() };
            assert!(names.iter().all(|name| name.len() == 64), "{when}: {names:?}");
        }
        machine.run().success();
        machine.verify(&whole.unpacked(), &when);
    }
}

/// The same without pretending: the layers do not fit, as blobs or as files.
#[test]
fn row_43_a_small_file_system_that_is_full_of_layers() {
    for (size, noise) in [("size=1m", 0), ("size=8m", 6 << 20)] {
        let mut buildpack = web_buildpack();
        buildpack.build.push_str(&format!("\n# {}", hex(&random(noise))));
        let machine = Machine::new(&TinyBuilder::new(vec![buildpack]));
        fs::create_dir_all(machine.cache()).unwrap();
        let mount = ["-t", "tmpfs", "-o", size, "tmpfs"];
        Outcome::of(Command::new("mount").args(mount).arg(machine.cache())).success();
        let unmount = Unmount(machine.cache());
        machine.run().fails_with(1).says("No space left on device");
        let names = machine.names();
        assert!(names.iter().all(|name| name.len() == 64), "{names:?}");
        drop(unmount);
        machine.run().success();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which layers are on the disk is noted when they are. Nobody waits for that who needs them for a moment only.
#[test]
fn row_38_unpacked_layers_are_marked_when_they_are_on_the_disk() {
    let machine = Machine::tiny();
    let build = |machine: &Machine| {
        let mut command = machine.environment.command();
        command.args(["build", "web", "--path", "app", "--builder", &machine.builder()]);
        let folder = fs::canonicalize(machine.environment.path(".")).unwrap();
        fault::run(&command, &folder, Interruption::None)
    };
    let run = |machine: &Machine| machine.run_with(Interruption::None);
    let is_mark = |call: &Call| call.path.extension().is_some_and(|extension| extension == "synced");
    let marked = |machine: &Machine, done: Faulted| {
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let unpacked = fs::canonicalize(machine.unpacked()).unwrap();
        let synced = done.calls.iter().position(|call| call.name == "sync-all" && call.path == unpacked);
        let first = done.calls.iter().position(is_mark);
        assert!(synced.is_some() == first.is_some() && synced <= first, "{synced:?} {first:?}");
        let names = |call: &Call| call.new_path.as_ref().is_some_and(|name| name.starts_with(&unpacked));
        let named = done.calls.iter().rposition(names);
        assert!(synced.is_none() || named < synced, "{named:?} {synced:?}");
        done.calls.iter().filter(|call| is_mark(call)).count()
    };
    let layers = machine.layers().len();
    assert_eq!([0, layers, 0], [(); 3].map(|()| marked(&machine, run(&machine))));
    let machine = Machine::tiny();
    assert_eq!([layers, 0], [(); 2].map(|()| marked(&machine, build(&machine))));
}

/// As a power loss leaves it: names, and not what they name.
#[test]
fn row_38_after_a_start_of_the_machine_only_layers_on_the_disk_are_believed() {
    let whole = Machine::tiny();
    whole.run().success();
    let machine = Machine::tiny();
    machine.run().success();
    let base = machine.unpacked().join(machine.layers()[0].1.trim_start_matches("sha256:"));
    start_again(&machine.environment);
    fs::write(base.join("etc/os-release"), "").unwrap();
    machine.run().success().says("Unpacking 3 of 3").says("ID=tiny");
    machine.verify(&whole.unpacked(), "after a loss of power");
    // This one brings them to the disk.
    machine.run().success().does_not_say("Unpacking");
    start_again(&machine.environment);
    machine.run().success().does_not_say("Unpacking").says("ID=tiny");
}

#[test]
fn row_40_builds_at_once_pull_each_layer_once() {
    let machine = Machine::tiny();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| machine.run())).collect();
        runs.into_iter().for_each(|run| drop(run.join().unwrap().success().says("ID=tiny")));
    });
    for (digest, _) in machine.layers() {
        assert_eq!(machine.downloads(&digest), 1, "{digest}");
    }
}

/// A builder with a buildpack that no group of its order has.
fn with_another() -> TinyBuilder {
    let another = ShellBuildpack::new("test/another", "echo another");
    let order = TinyBuilder::new(vec![web_buildpack()]).order;
    TinyBuilder { order, ..TinyBuilder::new(vec![another, web_buildpack()]) }
}

#[test]
fn layers_of_buildpacks_that_the_order_does_not_reach_are_not_pulled() {
    let plain = Machine::tiny();
    plain.build(&[]).success();
    let machine = Machine::new(&with_another());
    let [_, _, another, web] = &machine.layers()[..] else { panic!("four layers") };
    machine.build(&[]).success().does_not_say("another");
    assert_eq!((machine.downloads(&another.0), machine.downloads(&web.0)), (0, 1));
    assert_eq!(machine.names().len(), 3);
    assert_eq!(machine.environment.digest("web"), plain.environment.digest("web"));
    // Another order, other layers.
    machine.build(&["--pre-buildpack", "test/another@1.0.0"]).success().says("another");
    assert_eq!((machine.downloads(&another.0), machine.names().len()), (1, 4));
    // It is there now, and still not part of the sandbox.
    let look = ShellBuildpack::new("test/look", "ls /cnb/buildpacks");
    look.write(&machine.environment.path("look"));
    let listed = machine.build(&["--pre-buildpack", "look"]).success();
    listed.says("test_web").does_not_say("test_another");
}

#[test]
fn a_builder_whose_files_say_more_than_its_labels_is_whole() {
    let machine = Machine::new(&with_another());
    let [_, _, another, _] = &machine.layers()[..] else { panic!("four layers") };
    let entry = |id: &str| format!("[[order.group]]\nid = \"{id}\"\nversion = \"1.0.0\"\n");
    machine.put_order(&format!("[[order]]\n{}{}", entry("test/another"), entry("test/web")));
    machine.build(&[]).success().says("another");
    assert_eq!(machine.downloads(&another.0), 1);
    // An order of the user's is not that of the file.
    machine.build(&["--buildpack", "test/web@1.0.0"]).success().does_not_say("another");
}
