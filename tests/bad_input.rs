//! Bad input: a clear error, the exit code of the specification, and no tag moved.

use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::tiny::{TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{DockerRegistry, Outcome, TestEnvironment};

use crate::LONGSHORE;

/// An environment with this builder, an app, and an image `web` of an earlier build.
fn built_with(builder: &TinyBuilder) -> (TestEnvironment, String) {
    let environment = TestEnvironment::new(LONGSHORE);
    builder.install(&environment);
    web_app(&environment.path("app"), "hello\n");
    environment.longshore(&["build", "web", "--path", "app", "--builder", "tiny-builder"]).success();
    let digest = environment.digest("web");
    // What the next build would make differs.
    web_app(&environment.path("app"), "changed\n");
    (environment, digest)
}

fn built() -> (TestEnvironment, String) {
    built_with(&TinyBuilder::new(vec![web_buildpack()]))
}

fn build(environment: &TestEnvironment, more: &[&str]) -> Outcome {
    environment
        .longshore(&[&["build", "web", "--path", "app", "--builder", "tiny-builder"][..], more].concat())
}

#[test]
fn no_group_detects() {
    let picky = web_buildpack().detect("if [ -f refuse ]; then echo \"I do not like it\"; exit 100; fi");
    let (environment, digest) = built_with(&TinyBuilder::new(vec![picky]));
    let _ = environment.write("app/refuse", "");
    build(&environment, &[]).fails_with(20).says("test/web").says("I do not like it");
    assert_eq!(environment.digest("web"), digest);
}

#[test]
fn detection_fails_with_an_error() {
    let broken = web_buildpack().detect("if [ -f refuse ]; then echo \"it broke\" >&2; exit 3; fi");
    let (environment, digest) = built_with(&TinyBuilder::new(vec![broken]));
    let _ = environment.write("app/refuse", "");
    build(&environment, &[]).fails_with(21).says("test/web").says("it broke");
    assert_eq!(environment.digest("web"), digest);
}

#[test]
fn a_buildpack_fails() {
    let (environment, digest) = built();
    let failing = ShellBuildpack::new("test/failing", "echo \"no such package\" >&2; exit 9");
    failing.write(&environment.path("failing"));
    build(&environment, &["-b", "failing"]).fails_with(51).says("no such package").says("test/failing");
    assert_eq!(environment.digest("web"), digest);
}

#[test]
fn buildpack_toml_is_not_valid() {
    let (environment, digest) = built();
    web_buildpack().write(&environment.path("invalid"));
    let _ = environment.write("invalid/buildpack.toml", "api = \"0.10\"\n[buildpack\n");
    let outcome = build(&environment, &["-b", "invalid"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let _ = outcome.says("buildpack.toml").says("line 2");
    assert_eq!(environment.digest("web"), digest);
}

#[test]
fn launch_toml_is_not_valid() {
    let (environment, digest) = built();
    let invalid = ShellBuildpack::new("test/invalid", "echo '[[processes' > \"$CNB_LAYERS_DIR/launch.toml\"");
    invalid.write(&environment.path("invalid"));
    let outcome = build(&environment, &["-b", "invalid"]);
    assert_eq!(outcome.code, Some(52), "{outcome:?}");
    let _ = outcome.says("launch.toml");
    assert_eq!(environment.digest("web"), digest);
}

#[test]
fn project_toml_is_not_valid() {
    let (environment, digest) = built();
    let _ = environment.write("app/project.toml", "[_]\nschema-version = 0.2\n[io.buildpacks\n");
    let outcome = build(&environment, &[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let _ = outcome.says("project.toml").says("line 3");
    assert_eq!(environment.digest("web"), digest);
}

#[test]
fn the_builder_is_not_known() {
    let registry = DockerRegistry::start();
    let environment = TestEnvironment::new(LONGSHORE);
    web_app(&environment.path("app"), "hello\n");
    let builder = registry.reference("nobody:1");
    let outcome = environment.longshore(&["build", "web", "--path", "app", "--builder", &builder]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let _ = outcome.says(&builder);
    assert_eq!(environment.find("web"), None);
}

#[test]
fn no_builder_is_named() {
    let environment = TestEnvironment::new(LONGSHORE);
    web_app(&environment.path("app"), "hello\n");
    let outcome = environment.longshore(&["build", "web", "--path", "app"]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    let _ = outcome.says("--builder").says("builder create");
}

#[test]
fn the_registry_is_down() {
    let mut registry = DockerRegistry::start();
    let (environment, digest) = built();
    let image = registry.reference("web:1");
    registry.stop();
    let publish = ["build", &image, "--path", "app", "--builder", "tiny-builder", "--publish"];
    let outcome = environment.longshore(&publish);
    assert_eq!(outcome.code, Some(32), "{outcome:?}");
    let _ = outcome.says(&registry.host());
    assert_eq!(environment.digest("web"), digest);
}

#[test]
fn the_password_is_wrong() {
    let registry = DockerRegistry::start_with_password("user", "secret");
    let (environment, _) = built();
    environment.log_in(&registry.host(), "user", "hunter2");
    let image = registry.reference("web:1");
    let publish = ["build", &image, "--path", "app", "--builder", "tiny-builder", "--publish"];
    let outcome = environment.longshore(&publish);
    assert_eq!(outcome.code, Some(32), "{outcome:?}");
    let _ = outcome.says(&registry.host()).does_not_say("hunter2");
    assert!(registry.requests("\"PUT /v2/web/manifests/").is_empty());
}

#[test]
fn the_run_image_is_for_another_architecture() {
    let mut builder = TinyBuilder::new(vec![web_buildpack()]);
    builder.run_architecture = if builder.run_architecture == "amd64" { "arm64" } else { "amd64" }.to_owned();
    let architecture = builder.run_architecture.clone();
    let environment = TestEnvironment::new(LONGSHORE);
    builder.install(&environment);
    web_app(&environment.path("app"), "hello\n");
    let outcome = build(&environment, &[]);
    assert_eq!(outcome.code, Some(32), "{outcome:?}");
    let _ = outcome.says(&architecture).says("tiny-run");
    assert_eq!(environment.find("web"), None);
}

#[test]
fn the_path_of_the_app_does_not_exist() {
    let (environment, digest) = built();
    let outcome = environment.longshore(&["build", "web", "--path", "nowhere", "--builder", "tiny-builder"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let _ = outcome.says("nowhere");
    assert_eq!(environment.digest("web"), digest);
}
