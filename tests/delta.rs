//! `longshore build --app-layer delta`: one changed file is a small layer, which every other command takes as it is.

use std::time::Duration;

use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::layout::Layout;
use longshore_test_support::tiny::{RUN_IMAGE, TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{DockerRegistry, Dockerd, Outcome, Podman, TestEnvironment, http, skopeo};
use serde_json::Value;

use crate::LONGSHORE;

const BUILD: [&str; 8] =
    ["build", "web", "--path", "app", "--builder", "tiny-builder", "--app-layer", "delta"];
/// Nothing in it is the same twice, so that compression does not make it small.
const LARGE: usize = 400_000;

fn text(length: usize) -> String {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (state >> 33) as u8 % 90)
    };
    (0..length).map(next).collect()
}

fn layers(environment: &TestEnvironment) -> Vec<Value> {
    let manifest = skopeo::manifest(&environment.stored("docker.io/library/web:latest"));
    manifest["layers"].as_array().unwrap().clone()
}

/// The app layers that the label names, each with the size of its blob.
fn app_layers(environment: &TestEnvironment) -> Vec<(String, u64)> {
    let config = skopeo::configuration(&environment.stored("docker.io/library/web:latest"));
    let label = config["config"]["Labels"]["io.buildpacks.lifecycle.metadata"].as_str().unwrap();
    let metadata: Value = serde_json::from_str(label).unwrap();
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    let layers = layers(environment);
    let find = |layer: &Value| {
        let place = diff_ids.iter().position(|known| *known == layer["sha"]).unwrap();
        (layer["sha"].as_str().unwrap().to_owned(), layers[place]["size"].as_u64().unwrap())
    };
    metadata["app"].as_array().unwrap().iter().map(find).collect()
}

fn look(environment: &TestEnvironment) -> Outcome {
    let script = "cd /workspace; cat page; ls -R; cat /etc/patched 2>/dev/null || echo unpatched";
    environment.longshore(&["run", "web", "--", "--", "sh", "-c", script]).success()
}

fn prepared(environment: &TestEnvironment) -> TinyBuilder {
    let builder = TinyBuilder::new(vec![ShellBuildpack::new("test/nothing", "true")]);
    builder.install(environment);
    for (name, text) in
        [("app/large", text(LARGE).as_str()), ("app/page", "first\n"), ("app/old/file", "old")]
    {
        let _ = environment.write(name, text);
    }
    builder
}

#[test]
fn a_changed_file_is_a_small_layer_that_runs_and_is_rebased() {
    for environment in [TestEnvironment::new(LONGSHORE), TestEnvironment::for_ordinary_user(LONGSHORE)] {
        let builder = prepared(&environment);
        environment.longshore(&BUILD).success();
        let first = app_layers(&environment);
        assert!(first.len() == 1 && first[0].1 > LARGE as u64 / 2, "{first:?}");
        look(&environment).says("first\n").says("old");
        let digest = environment.digest("web");
        environment.longshore(&BUILD).success();
        assert_eq!(environment.digest("web"), digest, "nothing changed");

        let _ = environment.write("app/page", "second\n");
        std::fs::remove_dir_all(environment.path("app/old")).unwrap();
        environment.longshore(&BUILD).success();
        let second = app_layers(&environment);
        assert_eq!(second[..1], first[..]);
        assert!(second.len() == 2 && second[1].1 < 1_000, "{second:?}");
        let seen = look(&environment).says("second\n").says("large").says("unpatched");
        let seen = seen.does_not_say("old").does_not_say("first");
        drop(seen);

        // The file that a delta brought is changed again on a newer run image.
        builder.write_patched_run_image(&Layout::open(&environment.store()), RUN_IMAGE, "patched\n");
        environment.hand_over();
        environment.longshore(&["rebase", "web"]).success();
        assert_eq!(app_layers(&environment), second);
        let seen = look(&environment).says("second\n").says("patched\n");
        drop(seen.does_not_say("old").does_not_say("unpatched"));
        let _ = environment.write("app/page", "third\n");
        environment.longshore(&BUILD).success();
        let third = app_layers(&environment);
        assert!(third.len() == 3 && third[..2] == second[..], "{third:?}");
        drop(look(&environment).says("third\n").says("patched\n").does_not_say("old"));

        // Without deltas the image is that of a build that knows nothing of what was before.
        environment.longshore(&[&BUILD[..6], &["--app-layer", "full"]].concat()).success();
        let full = environment.digest("web");
        environment.longshore(&["image", "rm", "web"]).success();
        environment.longshore(&BUILD[..6]).success();
        assert_eq!(environment.digest("web"), full);
    }
}

#[test]
fn the_environment_and_the_settings_choose_too() {
    let environment = TestEnvironment::new(LONGSHORE);
    prepared(&environment);
    let bad = environment.longshore(&[&BUILD[..7], &["half"]].concat());
    assert_eq!(bad.code, Some(2));
    drop(bad.says("there are full and delta"));
    let _ = environment.write("config/longshore/config.toml", "app-layer = \"delta\"\n");
    environment.longshore(&BUILD[..6]).success();
    let _ = environment.write("app/page", "second\n");
    let mut full = environment.command();
    Outcome::of(full.args(&BUILD[..6]).env("LONGSHORE_APP_LAYER", "full")).success();
    assert_eq!(app_layers(&environment).len(), 1);
    Outcome::of(environment.command().args(&BUILD[..6]).env("LONGSHORE_APP_LAYER", "delta")).success();
    let _ = environment.write("app/page", "third\n");
    environment.longshore(&BUILD[..6]).success();
    assert_eq!(app_layers(&environment).len(), 2);
}

/// Only the change is sent, and who pulls the image has all of the app.
#[test]
fn published_deltas_are_pulled_and_run() {
    let registry = DockerRegistry::start();
    let environment = TestEnvironment::new(LONGSHORE);
    let builder = TinyBuilder::new(vec![web_buildpack()]).publish(&registry);
    let _ = environment.write("app/large", &text(LARGE));
    let _ = environment.write("app/old", "old");
    let image = registry.reference("web:1");
    let source = format!("docker://{image}");
    let layers = || skopeo::manifest(&source)["layers"].as_array().unwrap().clone();
    let publish = |page: &str| {
        web_app(&environment.path("app"), page);
        environment.hand_over();
        let build = ["build", &image, "--path", "app", "--builder", &builder, "--publish"];
        // Docker 20.10 cannot read zstd.
        let delta = ["--app-layer", "delta", "--layer-format", "tar+gzip"];
        environment.longshore(&[&build[..], &delta].concat()).success();
    };
    publish("first\n");
    let first = layers();
    std::fs::remove_file(environment.path("app/old")).unwrap();
    let uploads = || registry.requests("\"PUT /v2/web/blobs/uploads/").len();
    let before = uploads();
    publish("second\n");
    let second = layers();
    let new: Vec<_> = second.iter().filter(|layer| !first.contains(layer)).collect();
    assert!(second.len() == first.len() + 1 && new.len() == 1, "{new:?}");
    assert!(new[0]["size"].as_u64().unwrap() < 1_000, "{new:?}");
    assert_eq!(uploads() - before, 2, "the layer and the configuration");

    let serves = |port, page: &str| assert_eq!(http::get(port, "/", Duration::from_secs(30)), page);
    let podman = Podman::new();
    podman.pull(&image, None);
    let port = http::free_port();
    let container = podman.run(&image, port);
    serves(port, "second\n");
    drop(container);
    let dockerd = Dockerd::start();
    dockerd.docker(&["pull", "--quiet", &image]).success();
    let port = http::free_port();
    let container = dockerd.run(&image, port);
    serves(port, "second\n");
    drop(container);
    let listed = podman.podman(&["run", "--rm", "--entrypoint=ls", &image, "/workspace"]).success();
    drop(listed.says("large").does_not_say("old"));
}
