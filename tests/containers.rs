//! A builder whose lifecycle is Longshore's, used by a platform that knows nothing of Longshore: containers of Docker and
//! Podman in the order and with the flags of pack, with one container for a builder that is trusted and five otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::layout::Layout;
use longshore_test_support::tiny::{TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{DockerRegistry, Dockerd, Outcome, Podman, TestEnvironment, http, skopeo};

use crate::LONGSHORE;
use crate::build::caching_buildpack;

const LIMIT: Duration = Duration::from_secs(30);

/// The registry with the builder and its run image.
struct Surroundings {
    registry: DockerRegistry,
    environment: TestEnvironment,
    _program: tempfile::TempDir,
    builder: String,
    run_image: String,
}

impl Surroundings {
    fn new() -> Self {
        let registry = DockerRegistry::start();
        let program = small_program();
        let environment = TestEnvironment::new(program.path().join("longshore"));
        let surroundings = Self {
            builder: registry.reference("builder:1"),
            run_image: registry.reference("run:1"),
            registry,
            environment,
            _program: program,
        };
        surroundings.make_builder(&[caching_buildpack(), web_buildpack()]);
        web_app(&surroundings.environment.path("app"), "hello\n");
        let _ = surroundings.environment.write("app/key", "1");
        surroundings
    }

    /// Pushes base images as another tool made them, and a builder on top that `longshore builder create` makes.
    fn make_builder(&self, buildpacks: &[ShellBuildpack]) {
        let layout = Layout::open(&self.environment.path("bases"));
        TinyBuilder::write_build_image(&layout, "build");
        TinyBuilder::new(Vec::new()).write_run_image(&layout, "run");
        let build_image = self.registry.reference("build:1");
        for (name, target) in [("build", &build_image), ("run", &self.run_image)] {
            self.push(&layout, name, target);
        }
        let mut configuration =
            format!("[build]\nimage = \"{build_image}\"\n[[run.images]]\nimage = \"{}\"\n", self.run_image);
        let mut group = String::from("[[order]]\n");
        for buildpack in buildpacks {
            let folder = buildpack.id.replace('/', "_");
            buildpack.write(&self.environment.path(&folder));
            configuration.push_str(&format!("[[buildpacks]]\nuri = \"{folder}\"\n"));
            group.push_str(&format!(
                "[[order.group]]\nid = \"{}\"\nversion = \"{}\"\n",
                buildpack.id, buildpack.version
            ));
        }
        let _ = self.environment.write("builder.toml", &(configuration + &group));
        // Docker 20.10 cannot read zstd.
        let create = ["builder", "create", &self.builder, "--publish", "--layer-format", "tar+gzip"];
        self.environment.longshore(&create).success();
    }

    fn push(&self, layout: &Layout, name: &str, target: &str) {
        skopeo::copy(&format!("oci:{}:{name}", layout.folder().display()), &format!("docker://{target}"));
    }

    /// A newer run image: the old one with a file more.
    fn new_run_image(&self) -> String {
        let layout = Layout::open(&self.environment.path("bases"));
        TinyBuilder::new(Vec::new()).write_patched_run_image(&layout, "run-2");
        let name = self.registry.reference("run:2");
        self.push(&layout, "run-2", &name);
        name
    }

    fn digest(&self, image: &str) -> String {
        let found = skopeo::inspect(&format!("docker://{image}"));
        found["Digest"].as_str().expect("a digest").to_owned()
    }

    /// What `longshore build` makes of the same app.
    fn own_build(&self, name: &str) -> String {
        let image = self.registry.reference(name);
        let build = ["build", &image, "--path", "app", "--builder", &self.builder, "--publish"];
        self.environment.longshore(&[&build[..], &["--layer-format", "tar+gzip"]].concat()).success();
        self.digest(&image)
    }

    fn uploads(&self) -> usize {
        self.registry.requests("\"PUT /v2/app/blobs/uploads/").len()
    }
}

/// The program under test without what a debugger needs: Docker's simplest storage keeps a copy for each layer.
fn small_program() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let beside = Path::new(LONGSHORE).parent().expect("the target folder");
    for name in ["longshore", "launcher"] {
        let target: PathBuf = directory.path().join(name);
        let strip = ["--strip-debug", "-o"];
        Outcome::of(Command::new("strip").args(strip).arg(&target).arg(beside.join(name))).success();
    }
    directory
}

/// What runs containers.
trait Engine {
    fn engine(&self, arguments: &[&str]) -> Outcome;
    fn fetch(&self, image: &str);
}

impl Engine for Dockerd {
    fn engine(&self, arguments: &[&str]) -> Outcome {
        self.docker(arguments)
    }

    fn fetch(&self, image: &str) {
        self.docker(&["pull", "--quiet", image]).success();
    }
}

impl Engine for Podman {
    fn engine(&self, arguments: &[&str]) -> Outcome {
        self.podman(arguments)
    }

    fn fetch(&self, image: &str) {
        self.pull(image, None);
    }
}

/// Who a container runs as.
#[derive(Clone, Copy)]
enum User {
    Root,
    Builder,
}

/// One build as pack does it: with volumes for layers and app of its own, and a cache that stays.
struct Build<'a> {
    engine: &'a dyn Engine,
    surroundings: &'a Surroundings,
    name: &'a str,
}

impl Build<'_> {
    fn container(&self, user: User, volumes: &[&str], command: &[&str]) -> Outcome {
        let layers = format!("{}-layers:/layers", self.name);
        let app = format!("{}-app:/workspace", self.name);
        let mut arguments = vec![
            "run",
            "--rm",
            "--network=host",
            "--volume",
            &layers,
            "--volume",
            &app,
            "--env=CNB_PLATFORM_API=0.15",
            "--env=CNB_REGISTRY_AUTH={}",
        ];
        volumes.iter().for_each(|volume| arguments.extend(["--volume", volume]));
        if matches!(user, User::Root) {
            arguments.push("--user=root");
        }
        arguments.push(&self.surroundings.builder);
        arguments.extend(command);
        self.engine.engine(&arguments).success()
    }

    /// Copies the app into its volume, as the build image's user's.
    fn copy_app(&self) {
        let source = format!("{}:/host:ro", self.surroundings.environment.path("app").display());
        let copy = "cp -R /host/. /workspace && chown -R 1001:1000 /workspace";
        self.container(User::Root, &[&source], &["sh", "-c", copy]);
    }

    /// One container with all phases and all privileges.
    fn trusted(&self, image: &str) -> Outcome {
        self.copy_app();
        let run_image = &self.surroundings.run_image;
        let flags = ["-app", "/workspace", "-cache-dir", "/cache", "-run-image", run_image];
        let command = [&["/cnb/lifecycle/creator"][..], &flags, &["-log-level", "debug", image]].concat();
        self.container(User::Root, &["cache:/cache"], &command)
    }

    /// Five containers, of which those that run buildpacks have no credentials.
    fn untrusted(&self, image: &str) -> Outcome {
        self.copy_app();
        let run_image = &self.surroundings.run_image;
        let debug = ["-log-level", "debug"];
        let phase = |name: &str, flags: &[&str], user, volumes: &[&str]| {
            let program = format!("/cnb/lifecycle/{name}");
            self.container(user, volumes, &[&[program.as_str()], flags].concat())
        };
        let run = ["-run", "/cnb/run.toml"];
        let analyze = [&debug[..], &run, &["-run-image", run_image, image]].concat();
        phase("analyzer", &analyze, User::Root, &[]);
        phase("detector", &["-app", "/workspace", "-log-level", "debug"], User::Builder, &[]);
        let restore = ["-cache-dir", "/cache", "-log-level", "debug"];
        phase("restorer", &restore, User::Root, &["cache:/cache"]);
        let built = phase("builder", &["-app", "/workspace", "-log-level", "debug"], User::Builder, &[]);
        let export = [&["-app", "/workspace", "-cache-dir", "/cache"][..], &run, &debug, &[image]].concat();
        let exported = phase("exporter", &export, User::Root, &["cache:/cache"]);
        Outcome { stdout: built.stdout + &exported.stdout, ..exported }
    }
}

/// Builds, runs, rebuilds and rebases an app; `build` is how one build goes.
fn life_of_an_app(
    surroundings: &Surroundings,
    engine: &dyn Engine,
    build: &dyn Fn(&Build<'_>, &str) -> Outcome,
) {
    let image = surroundings.registry.reference("app:1");
    engine.fetch(&surroundings.builder);
    let named = |name| Build { engine, surroundings, name };

    build(&named("first"), &image).says("installing dependencies");
    let first = surroundings.digest(&image);
    assert_eq!(first, surroundings.own_build("own:1"), "the image of `longshore build`");
    assert_answers(engine, &image, "hello\n");

    let uploads = surroundings.uploads();
    build(&named("second"), &image)
        .says("keeping dependencies")
        .says("Reusing layer 'test/caching:dependencies'")
        .says("Reusing layer 'buildpacksio/lifecycle:launcher'")
        .says("Reused 1/1 app layer(s)");
    assert_eq!(surroundings.digest(&image), first, "nothing has changed");
    assert_eq!(surroundings.uploads(), uploads, "nothing is uploaded");

    web_app(&surroundings.environment.path("app"), "good bye\n");
    build(&named("third"), &image)
        .says("keeping dependencies")
        .says("Reusing layer 'test/caching:dependencies'")
        .says("Added 1/1 app layer(s)");
    let third = surroundings.digest(&image);
    assert_ne!(third, first);
    assert_eq!(third, surroundings.own_build("own:1"), "rebuilt by `longshore build` too");

    let before = skopeo::manifest(&format!("docker://{image}"));
    let new = surroundings.new_run_image();
    let rebase = ["/cnb/lifecycle/rebaser", "-run-image", &new, "-force", &image];
    named("third").container(User::Root, &[], &rebase);
    let after = skopeo::manifest(&format!("docker://{image}"));
    let run = skopeo::manifest(&format!("docker://{new}"));
    let count = |manifest: &serde_json::Value| manifest["layers"].as_array().expect("layers").len();
    assert_eq!(after["layers"][0], run["layers"][0]);
    assert_eq!(count(&after), count(&before) - 1 + count(&run));
    assert_answers(engine, &image, "good bye\n");
}

/// Runs the image as it is in the registry now, and asks it for its page.
fn assert_answers(engine: &dyn Engine, image: &str, page: &str) {
    engine.fetch(image);
    let port = http::free_port();
    let variable = format!("--env=PORT={port}");
    let run = ["run", "--detach", "--network=host", &variable, image];
    let container = engine.engine(&run).success().stdout;
    assert_eq!(http::get(port, "/", LIMIT), page);
    engine.engine(&["rm", "--force", container.trim()]).success();
}

#[test]
fn docker_builds_with_a_trusted_builder() {
    life_of_an_app(&Surroundings::new(), &Dockerd::start(), &|build, image| build.trusted(image));
}

#[test]
fn docker_builds_with_a_builder_that_is_not_trusted() {
    life_of_an_app(&Surroundings::new(), &Dockerd::start(), &|build, image| build.untrusted(image));
}

#[test]
fn podman_builds_with_a_trusted_builder() {
    life_of_an_app(&Surroundings::new(), &Podman::new(), &|build, image| build.trusted(image));
}

#[test]
fn podman_builds_with_a_builder_that_is_not_trusted() {
    life_of_an_app(&Surroundings::new(), &Podman::new(), &|build, image| build.untrusted(image));
}
