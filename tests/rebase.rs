//! `longshore rebase` of many images: patterns, files, the table, and what failed.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use longshore_test_support::layout::Layout;
use longshore_test_support::process::{Signal, send};
use longshore_test_support::registry::Fault;
use longshore_test_support::tiny::{RUN_IMAGE, TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{DockerRegistry, FaultyRegistry, Outcome, TestEnvironment, skopeo};
use serde_json::Value;

use crate::LONGSHORE;

/// A registry with app images on one run image.
struct Fleet {
    registry: DockerRegistry,
    environment: TestEnvironment,
    builder: TinyBuilder,
}

const APPS: [&str; 4] = ["team/web:1", "team/web:2", "team/deep/api:1", "other/web:1"];

impl Fleet {
    fn new() -> Self {
        let registry = DockerRegistry::start();
        let environment = TestEnvironment::new(LONGSHORE);
        let builder = TinyBuilder::new(vec![web_buildpack()]);
        let name = builder.publish(&registry);
        web_app(&environment.path("app"), "hello\n");
        environment.hand_over();
        let first = registry.reference(APPS[0]);
        environment.longshore(&["build", &first, "--path", "app", "--builder", &name, "--publish"]).success();
        for app in &APPS[1..] {
            skopeo::copy(&format!("docker://{first}"), &format!("docker://{}", registry.reference(app)));
        }
        Self { registry, environment, builder }
    }

    fn patch_run_image(&self, text: &str) {
        let folder = tempfile::tempdir().unwrap();
        self.builder.write_patched_run_image(&Layout::open(folder.path()), "run", text);
        let run = self.registry.reference("tiny-run:latest");
        skopeo::copy(&format!("oci:{}:run", folder.path().display()), &format!("docker://{run}"));
    }

    fn manifest(&self, name: &str) -> Value {
        skopeo::manifest(&format!("docker://{}", self.registry.reference(name)))
    }

    fn rebase(&self, arguments: &[&str]) -> Outcome {
        self.environment.longshore(&[&["rebase"], arguments].concat())
    }

    fn manifests_written(&self) -> usize {
        self.registry.requests("/manifests/").iter().filter(|line| line.contains("\"PUT ")).count()
    }

    /// The layers of the run image are the lowest of the app image.
    fn assert_rebased(&self, name: &str, expected: bool) {
        let (app, run) = (self.manifest(name), self.manifest("tiny-run:latest"));
        let run = run["layers"].as_array().unwrap();
        assert_eq!(app["layers"].as_array().unwrap().starts_with(run), expected, "{name}");
    }
}

fn json(outcome: &Outcome) -> Vec<Value> {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", outcome.stdout))
}

fn results(outcomes: &[Value]) -> Vec<(&str, &str)> {
    outcomes
        .iter()
        .map(|outcome| (outcome["image"].as_str().unwrap(), outcome["result"].as_str().unwrap()))
        .collect()
}

#[test]
fn all_images_of_a_registry_that_match_are_rebased() {
    let fleet = Fleet::new();
    fleet.patch_run_image("1\n");
    let host = fleet.registry.host();
    let pattern = format!("{host}/team/*");
    let before = fleet.manifests_written();
    fleet
        .rebase(&["--all", &pattern, "--dry-run"])
        .success()
        .says("would be rebased")
        .says("team/deep/api:1");
    assert_eq!(fleet.manifests_written(), before, "nothing is written");

    let runs = || fleet.registry.requests("/v2/tiny-run/").len();
    let before = runs();
    let outcome = fleet.rebase(&["--all", &pattern]).success();
    assert_eq!(runs() - before, 1, "the run image is read once for all, and its configuration is known");
    let digest = skopeo::inspect(&format!("docker://{host}/tiny-run:latest"))["Digest"].clone();
    let short = &digest.as_str().unwrap()["sha256:".len()..][..12];
    let row = outcome.stdout.lines().find(|line| line.starts_with(&format!("{host}/team/web:1"))).unwrap();
    assert!(row.contains(short) && row.ends_with("rebased"), "{row}");
    for (name, expected) in APPS.iter().zip([true, true, true, false]) {
        fleet.assert_rebased(name, expected);
    }

    // Everything in the registry: what is up to date, what is not, and what is no app image.
    let outcomes = json(&fleet.rebase(&["--all", &format!("{host}/*"), "--format", "json"]).success());
    let mut found = results(&outcomes);
    found.sort_unstable();
    let named = |name: &str| format!("{host}/{name}");
    let expected = [
        ("other/web:1", "rebased"),
        ("team/deep/api:1", "up-to-date"),
        ("team/web:1", "up-to-date"),
        ("team/web:2", "up-to-date"),
        ("tiny-builder:latest", "skipped"),
        ("tiny-run:latest", "skipped"),
    ];
    let expected = expected.map(|(name, result)| (named(name), result));
    assert_eq!(found, expected.each_ref().map(|(name, result)| (name.as_str(), *result)));
    for outcome in outcomes.iter().filter(|outcome| outcome["result"] == "up-to-date") {
        let recorded = outcome["to"].as_str().unwrap();
        assert!(recorded.ends_with(digest.as_str().unwrap()), "{recorded}");
    }
    let before = fleet.manifests_written();
    fleet.rebase(&["--all", &format!("{host}/*")]).success().says("up to date");
    assert_eq!(fleet.manifests_written(), before, "a second time writes nothing");
}

#[test]
fn one_image_that_fails_does_not_stop_the_others() {
    let fleet = Fleet::new();
    fleet.patch_run_image("1\n");
    let [first, second, third, _] = APPS.map(|app| fleet.registry.reference(app));
    let (gone, base) = (fleet.registry.reference("team/gone:1"), fleet.registry.reference("tiny-run:latest"));
    let file = fleet
        .environment
        .write("fleet.txt", &format!("# the fleet\n{gone}\n{first} # first\n\n{base}\n{second}\n"));
    let outcome = fleet.rebase(&["--from-file", "fleet.txt", "--publish", "--jobs", "1"]).fails_with(72);
    let outcome = outcome
        .says("2 of 4 images could not be rebased")
        .says("does not exist")
        .says("no buildpack built it");
    for (name, done) in [("team/web:1", true), ("team/web:2", true), ("team/deep/api:1", false)] {
        fleet.assert_rebased(name, done);
    }
    let places: Vec<_> =
        [&gone, &first, &base, &second].map(|name| outcome.stdout.rfind(name.as_str()).unwrap()).to_vec();
    assert!(places.is_sorted(), "the table has their order: {}", outcome.stdout);

    std::fs::write(&file, format!("{third}\n")).unwrap();
    let mut command = fleet.environment.command();
    command.args(["rebase", "--from-file", "-", "--publish"]).stdin(File::open(&file).unwrap());
    assert!(command.output().unwrap().status.success());
    fleet.assert_rebased("team/deep/api:1", true);

    fleet.rebase(&[]).fails_with(2);
    fleet.rebase(&[&first, &second, "--tag", "x"]).fails_with(2).says("for one image");
    std::fs::write(&file, "UPPER:!\n").unwrap();
    fleet.rebase(&["--from-file", "fleet.txt"]).fails_with(1).says("line 1");
}

#[test]
fn images_of_the_local_store_match_too() {
    let environment = TestEnvironment::new(LONGSHORE);
    let builder = TinyBuilder::new(vec![web_buildpack()]);
    builder.install(&environment);
    web_app(&environment.path("app"), "hello\n");
    environment.hand_over();
    for name in ["one", "two"] {
        environment.longshore(&["build", name, "--path", "app", "--builder", "tiny-builder"]).success();
    }
    let before = environment.digest("one");
    builder.write_patched_run_image(&Layout::open(&environment.store()), RUN_IMAGE, "1\n");
    environment.hand_over();
    let all = ["rebase", "--all", "*", "--pull-policy", "never"];
    let outcomes = json(&environment.longshore(&[&all[..], &["--format", "json"]].concat()).success());
    let mut found = results(&outcomes);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("one:latest", "rebased"),
            ("tiny-builder:latest", "skipped"),
            ("tiny-run:latest", "skipped"),
            ("two:latest", "rebased"),
        ]
    );
    assert_ne!(environment.digest("one"), before);
    assert_eq!(environment.digest("one"), environment.digest("two"));
    environment.longshore(&["rebase", "one", "--pull-policy", "never"]).success().says("up to date");
}

#[test]
fn a_registry_without_a_list_of_repositories_is_named() {
    let registry = FaultyRegistry::start([Fault::NoCatalog]);
    let environment = TestEnvironment::new(LONGSHORE);
    let pattern = format!("{}/team/*", registry.host());
    environment.longshore(&["rebase", "--all", &pattern]).fails_with(1).says("--from-file").says("404");
    // One repository needs no list.
    let pattern = format!("{}/team/app:*", registry.host());
    environment.longshore(&["rebase", "--all", &pattern]).success().says("no image matches");
}

/// pack#2567: a run image with another tag was refused without `--force`.
#[test]
fn patch_tags_and_digests_of_the_run_image_need_no_force() {
    let fleet = Fleet::new();
    fleet.patch_run_image("1\n");
    let run = |tag: &str| fleet.registry.reference(&format!("tiny-run:{tag}"));
    skopeo::copy(&format!("docker://{}", run("latest")), &format!("docker://{}", run("1.0.1")));
    let digest =
        skopeo::inspect(&format!("docker://{}", run("1.0.1")))["Digest"].as_str().unwrap().to_owned();
    let [first, second, ..] = APPS.map(|app| fleet.registry.reference(app));
    let label = |name: &str| -> Value {
        let config = skopeo::configuration(&format!("docker://{name}"));
        let label = config["config"]["Labels"]["io.buildpacks.lifecycle.metadata"].as_str().unwrap();
        serde_json::from_str(label).unwrap()
    };
    fleet.rebase(&[&first, "--publish", "--run-image", &run("1.0.1")]).success();
    assert_eq!(label(&first)["runImage"]["image"], run("1.0.1"), "the next rebase does not lead back");
    fleet.assert_rebased("team/web:1", true);
    let by_digest = format!("{}@{digest}", fleet.registry.reference("tiny-run"));
    fleet.rebase(&[&second, "--publish", "--run-image", &by_digest]).success();
    assert_eq!(label(&second)["runImage"]["image"], run("latest"), "a digest is no name to come back to");
    fleet.assert_rebased("team/web:2", true);
    let other = fleet.registry.reference("other-run:1");
    skopeo::copy(&format!("docker://{}", run("latest")), &format!("docker://{other}"));
    fleet.rebase(&[&first, "--publish", "--run-image", &other]).fails_with(72).says("provide -force");
    fleet.rebase(&[&first, "--publish", "--run-image", &other, "--force"]).success();
}

#[test]
fn a_rebase_into_another_format_moves_the_name_once() {
    let fleet = Fleet::new();
    fleet.patch_run_image("1\n");
    let first = fleet.registry.reference(APPS[0]);
    let moves = || fleet.registry.requests("\"PUT /v2/team/web/manifests/1").len();
    let before = moves();
    fleet.rebase(&[&first, "--publish", "--layer-format", "dual"]).success();
    assert_eq!(moves() - before, 1);
    assert_eq!(fleet.manifest("team/web:1")["manifests"].as_array().unwrap().len(), 2);
}

/// A `layer-format` in the settings made `rebase` compress every layer of other people's images again.
#[test]
fn the_settings_do_not_make_a_rebase_convert_an_app() {
    let fleet = Fleet::new();
    fleet.patch_run_image("1\n");
    let layers = |name: &str| {
        let manifest = fleet.manifest(name);
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers.map(|layer| (layer["digest"].to_string(), layer["mediaType"].to_string())).collect::<Vec<_>>()
    };
    let before = layers(APPS[1]);
    assert!(before.iter().any(|(_, media_type)| media_type.contains("zstd")), "{before:?}");
    let _ = fleet.environment.write("config/longshore/config.toml", "layer-format = \"tar+gzip\"\n");
    let second = fleet.registry.reference(APPS[1]);
    fleet.rebase(&[&second, "--publish"]).success();
    fleet.assert_rebased(APPS[1], true);
    let after = layers(APPS[1]);
    let own = before.len() - 1;
    assert_eq!(after[after.len() - own..], before[1..], "the app's own layers are what they were");

    let environment = &fleet.environment;
    environment
        .longshore(&["rebase", &second, "--publish", "--layer-format", "keep"])
        .success()
        .says("up to date");
    fleet.rebase(&[&second, "--publish", "--layer-format", "tar+gzip"]).success();
    let manifest = fleet.manifest(APPS[1]).to_string();
    assert!(!manifest.contains("zstd"), "{manifest}");
}

#[test]
fn an_interrupted_rebase_leaves_every_name_old_or_new() {
    let fleet = Fleet::new();
    let digest = |name: &str| {
        let found = skopeo::inspect(&format!("docker://{}", fleet.registry.reference(name)));
        found["Digest"].as_str().unwrap().to_owned()
    };
    let old = digest(APPS[0]);
    fleet.patch_run_image("1\n");
    let all = format!("{}/*", fleet.registry.host());
    let mut command = fleet.environment.command();
    command.args(["rebase", "--all", &all, "--jobs", "1"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert!(line.starts_with("[1/6]"), "{line}");
    send(&child, Signal::SIGINT).unwrap();
    // It may have been done before; that is right too.
    child.wait().unwrap();
    let between = APPS.map(digest);
    fleet.rebase(&["--all", &all]).success();
    let new = digest(APPS[0]);
    assert_ne!(new, old);
    assert!(between.iter().all(|found| *found == old || *found == new), "{between:?}");
    assert!(APPS.map(digest).iter().all(|found| *found == new));
}
