//! The sample apps, built with the Debian builder and the bundled buildpacks, run by everybody.

use std::path::Path;
use std::time::Duration;

use longshore_test_support::{DockerRegistry, Dockerd, Podman, TestEnvironment, debian, http, skopeo};

use crate::LONGSHORE;

const LIMIT: Duration = Duration::from_secs(60);

/// Builds and publishes a sample app twice, with the formats that Docker 20.10 and all others read; then dockerd,
/// podman and longshore run it.
fn everybody_runs(app: &str, answer: &str, registry: &DockerRegistry, credentials: Option<(&str, &str)>) {
    let environment = TestEnvironment::new(LONGSHORE);
    debian::install(&environment, Path::new(LONGSHORE));
    if let Some((user, password)) = credentials {
        environment.log_in(&registry.host(), user, password);
    }
    let folder = environment.app(app);
    let folder = folder.display().to_string();
    let zstd = registry.reference(&format!("{app}:zstd"));
    let gzip = registry.reference(&format!("{app}:gzip"));
    let build = ["--path", &folder, "--builder", debian::BUILDER, "--publish"];
    environment.longshore(&[&["build", &zstd][..], &build].concat()).success();
    let gzip_build = [&["build", &gzip, "--layer-format", "tar+gzip"][..], &build].concat();
    environment.longshore(&gzip_build).success();

    let podman = Podman::new();
    podman.pull(&zstd, credentials);
    let port = http::free_port();
    let container = podman.run(&zstd, port);
    assert_eq!(http::get(port, "/", LIMIT), answer);
    drop(container);

    let dockerd = Dockerd::start();
    if let Some((user, password)) = credentials {
        let host = registry.host();
        dockerd.docker(&["login", "--username", user, "--password", password, &host]).success();
    }
    dockerd.docker(&["pull", "--quiet", &gzip]).success();
    let port = http::free_port();
    let container = dockerd.run(&gzip, port);
    assert_eq!(http::get(port, "/", LIMIT), answer);
    drop(container);

    let port = http::free_port();
    let _server = environment.serve(&zstd, port);
    assert_eq!(http::get(port, "/", LIMIT), answer);
}

/// The apps, and what they answer.
const APPS: [(&str, &str); 2] =
    [("python-web", "Hello from Longshore, Python!\n"), ("node-web", "Hello from Longshore, Node.js!\n")];

#[test]
fn everybody_runs_the_apps_from_an_open_registry() {
    let registry = DockerRegistry::start();
    for (app, answer) in APPS {
        everybody_runs(app, answer, &registry, None);
    }
}

#[test]
fn everybody_runs_the_apps_from_a_registry_with_a_password() {
    let registry = DockerRegistry::start_with_password("user", "secret");
    for (app, answer) in APPS {
        everybody_runs(app, answer, &registry, Some(("user", "secret")));
    }
}

#[test]
fn a_second_build_installs_and_uploads_nothing() {
    let registry = DockerRegistry::start();
    for (app, kept) in
        [("python-web", "Requirements are unchanged"), ("node-web", "package-lock.json is unchanged")]
    {
        let environment = TestEnvironment::new(LONGSHORE);
        debian::install(&environment, Path::new(LONGSHORE));
        let folder = environment.app(app).display().to_string();
        let image = registry.reference(&format!("{app}:1"));
        let build = ["build", &image, "--path", &folder, "--builder", debian::BUILDER, "--publish"];
        environment.longshore(&build).success().says("Installing");
        let source = format!("docker://{image}");
        let digest = skopeo::inspect(&source)["Digest"].clone();
        let uploads = registry.requests("\"PUT /v2/").len();
        environment.longshore(&build).success().says(kept).does_not_say("Installing");
        assert_eq!(skopeo::inspect(&source)["Digest"], digest, "{app}");
        let manifests = registry.requests("\"PUT /v2/").len() - uploads;
        assert!(manifests <= 1, "{app}: the second build wrote {manifests} blobs and manifests");
    }
}

#[test]
fn root_and_an_ordinary_user_build_the_same_apps() {
    let build = |environment: &TestEnvironment| {
        debian::install(environment, Path::new(LONGSHORE));
        APPS.map(|(app, _)| {
            let folder = environment.app(app).display().to_string();
            environment.longshore(&["build", app, "--path", &folder, "--builder", debian::BUILDER]).success();
            environment.digest(app)
        })
    };
    let root = build(&TestEnvironment::new(LONGSHORE));
    let user = build(&TestEnvironment::for_ordinary_user(LONGSHORE));
    assert_eq!(root, user);
}
