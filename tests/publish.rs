//! `longshore build --publish`: real registries, and other projects' clients that pull from them and run.

use std::time::Duration;

use longshore_test_support::tiny::{TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{DockerRegistry, Dockerd, Podman, TestEnvironment, http, skopeo};

use crate::LONGSHORE;

const LIMIT: Duration = Duration::from_secs(30);

fn publish(environment: &TestEnvironment, image: &str, builder: &str, more: &[&str]) {
    let build = ["build", image, "--path", "app", "--builder", builder, "--publish"];
    environment.longshore(&[&build[..], more].concat()).success();
}

#[test]
fn everybody_runs_what_was_published() {
    let registry = DockerRegistry::start();
    let environment = TestEnvironment::new(LONGSHORE);
    let builder = TinyBuilder::new(vec![web_buildpack()]).publish(&registry);
    web_app(&environment.path("app"), "hello\n");
    let zstd = registry.reference("web:zstd");
    let gzip = registry.reference("web:gzip");
    publish(&environment, &zstd, &builder, &[]);
    publish(&environment, &gzip, &builder, &["--layer-format", "tar+gzip"]);

    let podman = Podman::new();
    podman.pull(&zstd, None);
    let port = http::free_port();
    let container = podman.run(&zstd, port);
    assert_eq!(http::get(port, "/", LIMIT), "hello\n");
    drop(container);

    // Docker 20.10 cannot read zstd.
    let dockerd = Dockerd::start();
    dockerd.docker(&["pull", "--quiet", &gzip]).success();
    let port = http::free_port();
    let container = dockerd.run(&gzip, port);
    assert_eq!(http::get(port, "/", LIMIT), "hello\n");
    drop(container);

    let port = http::free_port();
    let _server = environment.serve(&zstd, port);
    assert_eq!(http::get(port, "/", LIMIT), "hello\n");
}

#[test]
fn a_registry_with_a_password_is_written_with_dockers_credentials() {
    let registry = DockerRegistry::start_with_password("user", "secret");
    let environment = TestEnvironment::new(LONGSHORE);
    environment.log_in(&registry.host(), "user", "secret");
    TinyBuilder::new(vec![web_buildpack()]).install(&environment);
    web_app(&environment.path("app"), "hello\n");
    let image = registry.reference("web:1");
    publish(&environment, &image, "tiny-builder", &[]);

    let podman = Podman::new();
    podman.pull(&image, Some(("user", "secret")));
    let port = http::free_port();
    let _container = podman.run(&image, port);
    assert_eq!(http::get(port, "/", LIMIT), "hello\n");
}

#[test]
fn layers_of_the_run_image_are_not_pulled() {
    let registry = DockerRegistry::start();
    let environment = TestEnvironment::new(LONGSHORE);
    let builder = TinyBuilder::new(vec![web_buildpack()]).publish(&registry);
    web_app(&environment.path("app"), "hello\n");
    publish(&environment, &registry.reference("web:1"), &builder, &[]);
    let manifest = skopeo::manifest(&format!("docker://{}", registry.reference("tiny-run:latest")));
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let pulls = registry.requests(&format!("\"GET /v2/tiny-run/blobs/{layer}"));
    assert!(pulls.is_empty(), "{pulls:?}");
}

#[test]
fn a_second_build_uploads_no_blob_and_gives_the_same_digest() {
    let registry = DockerRegistry::start();
    let environment = TestEnvironment::new(LONGSHORE);
    let builder = TinyBuilder::new(vec![web_buildpack()]).publish(&registry);
    web_app(&environment.path("app"), "hello\n");
    let image = registry.reference("web:1");
    publish(&environment, &image, &builder, &[]);
    let first = skopeo::inspect(&format!("docker://{image}"))["Digest"].clone();
    let uploads = registry.requests("\"PUT /v2/web/blobs/uploads/").len();
    assert!(uploads > 0, "the first build uploads blobs");

    publish(&environment, &image, &builder, &[]);
    assert_eq!(registry.requests("\"PUT /v2/web/blobs/uploads/").len(), uploads);
    assert_eq!(skopeo::inspect(&format!("docker://{image}"))["Digest"], first);
}
