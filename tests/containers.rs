//! A builder whose lifecycle is Longshore's, used by a platform that knows nothing of Longshore: containers of Docker and
//! Podman in the order and with the flags of pack, with one container for a builder that is trusted and five otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::layout::Layout;
use longshore_test_support::process::require_tool;
use longshore_test_support::tiny::{TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{
    DockerRegistry, Dockerd, Outcome, Podman, SocketLog, TestEnvironment, http, skopeo,
};

use crate::LONGSHORE;
use crate::build::caching_buildpack;

const LIMIT: Duration = Duration::from_secs(30);

/// The registry with the builder and its run image.
pub(crate) struct Surroundings {
    pub(crate) registry: DockerRegistry,
    pub(crate) environment: TestEnvironment,
    program: tempfile::TempDir,
    pub(crate) builder: String,
    pub(crate) run_image: String,
}

impl Surroundings {
    pub(crate) fn new() -> Self {
        let registry = DockerRegistry::start();
        let program = small_program();
        let environment = TestEnvironment::new(program.path().join("longshore"));
        let surroundings = Self {
            builder: registry.reference("builder:1"),
            run_image: registry.reference("run:1"),
            registry,
            environment,
            program,
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

    /// Pushes a newer run image: the old one with a layer more, in which a file has this text.
    pub(crate) fn update_run_image(&self, name: &str, text: &str) {
        let layout = Layout::open(&self.environment.path("bases"));
        TinyBuilder::new(Vec::new()).write_patched_run_image(&layout, "patched", text);
        self.push(&layout, "patched", name);
    }

    pub(crate) fn digest(&self, image: &str) -> String {
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

    /// The program, as containers can have it.
    pub(crate) fn program(&self) -> PathBuf {
        self.program.path().join("longshore")
    }

    pub(crate) fn uploads(&self) -> usize {
        self.registry.requests("\"PUT /v2/app/blobs/uploads/").len()
    }
}

/// The program under test without what a debugger needs: Docker's simplest storage keeps a copy for each layer.
fn small_program() -> tempfile::TempDir {
    require_tool("/usr/bin/strip", "binutils");
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
pub(crate) trait Engine {
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

/// Where app and run images are.
#[derive(Clone, Copy)]
pub(crate) enum Access<'a> {
    /// In registries.
    Registry,
    /// In the daemon of this socket.
    Daemon(&'a str),
    /// In this directory of layouts.
    Layouts(&'a str),
}

impl Access<'_> {
    fn flags(self) -> Vec<&'static str> {
        match self {
            Self::Registry => vec![],
            Self::Daemon(_) => vec!["-daemon"],
            Self::Layouts(_) => vec!["-layout", "-layout-dir", "/layouts"],
        }
    }

    fn launch_cache(self) -> Vec<&'static str> {
        match self {
            Self::Daemon(_) => vec!["-launch-cache", "/launch-cache"],
            Self::Registry | Self::Layouts(_) => vec![],
        }
    }

    /// What is mounted into containers of phases with access to images.
    fn volumes(self) -> Vec<String> {
        match self {
            Self::Registry => vec![],
            Self::Daemon(socket) => {
                vec![format!("{socket}:/var/run/docker.sock"), "launch-cache:/launch-cache".to_owned()]
            }
            Self::Layouts(directory) => vec![format!("{directory}:/layouts")],
        }
    }
}

/// One build as pack does it: with volumes for layers and app of its own, and a cache that stays.
pub(crate) struct Build<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) surroundings: &'a Surroundings,
    pub(crate) name: &'a str,
    pub(crate) platform_api: &'a str,
    pub(crate) access: Access<'a>,
    pub(crate) run_image: &'a str,
    /// Variables of the phases, besides those of every build.
    pub(crate) variables: &'a [&'a str],
}

impl<'a> Build<'a> {
    pub(crate) fn new(engine: &'a dyn Engine, surroundings: &'a Surroundings, name: &'a str) -> Self {
        let (platform_api, access) = ("0.15", Access::Registry);
        let run_image = &surroundings.run_image;
        Self { engine, surroundings, name, platform_api, access, run_image, variables: &[] }
    }

    fn container(&self, user: User, volumes: &[&str], command: &[&str]) -> Outcome {
        let layers = format!("--volume={}-layers:/layers", self.name);
        let app = format!("--volume={}-app:/workspace", self.name);
        let api = format!("--env=CNB_PLATFORM_API={}", self.platform_api);
        let mut arguments = vec!["run", "--rm", "--network=host", &layers, &app, &api];
        arguments.extend(["--env=CNB_REGISTRY_AUTH={}", "--env=CNB_EXPERIMENTAL_MODE=warn"]);
        volumes.iter().for_each(|volume| arguments.extend(["--volume", volume]));
        self.variables.iter().for_each(|variable| arguments.extend(["--env", variable]));
        if matches!(user, User::Root) {
            arguments.push("--user=root");
        }
        arguments.push(&self.surroundings.builder);
        arguments.extend(command);
        self.engine.engine(&arguments).success()
    }

    /// A phase that has access to images and the cache.
    fn phase(&self, name: &str, flags: &[&str]) -> Outcome {
        let program = format!("/cnb/lifecycle/{name}");
        let access = self.access.volumes();
        let volumes: Vec<_> = access.iter().map(String::as_str).chain(["cache:/cache"]).collect();
        let command = [&[program.as_str()], self.access.flags().as_slice(), flags].concat();
        self.container(User::Root, &volumes, &command)
    }

    /// Copies the app into its volume, as the build image's user's.
    fn copy_app(&self) {
        let source = format!("{}:/host:ro", self.surroundings.environment.path("app").display());
        let copy = "cp -R /host/. /workspace && chown -R 1001:1000 /workspace";
        self.container(User::Root, &[&source], &["sh", "-c", copy]);
    }

    /// One container with all phases and all privileges.
    pub(crate) fn trusted(&self, image: &str) -> Outcome {
        self.copy_app();
        let flags = ["-app", "/workspace", "-cache-dir", "/cache", "-run-image", self.run_image];
        let launch_cache = self.access.launch_cache();
        self.phase("creator", &[&flags[..], &launch_cache, &["-log-level", "debug", image]].concat())
    }

    /// Five containers, of which those that run buildpacks have no credentials.
    pub(crate) fn untrusted(&self, image: &str) -> Outcome {
        self.copy_app();
        let debug = ["-log-level", "debug"];
        let launch_cache = self.access.launch_cache();
        let run = match self.platform_api {
            "0.11" => ["-stack", "/cnb/stack.toml"],
            _ => ["-run", "/cnb/run.toml"],
        };
        let of_run_image = ["-run-image", self.run_image, image];
        self.phase("analyzer", &[&launch_cache[..], &debug, &run, &of_run_image].concat());
        let of_user = |program: &str| {
            let command = [program, "-app", "/workspace", "-log-level", "debug"];
            self.container(User::Builder, &[], &command)
        };
        of_user("/cnb/lifecycle/detector");
        let restore = ["-cache-dir", "/cache", "-log-level", "debug"];
        self.phase("restorer", &restore);
        let built = of_user("/cnb/lifecycle/builder");
        let export = ["-app", "/workspace", "-cache-dir", "/cache"];
        let exported = self.phase("exporter", &[&export[..], &launch_cache, &run, &debug, &[image]].concat());
        Outcome { stdout: built.stdout + &exported.stdout, ..exported }
    }

    /// Puts the image on another run image.
    pub(crate) fn rebase(&self, run_image: &str, image: &str) -> Outcome {
        let flags = match self.access {
            Access::Daemon(_) => vec!["-daemon"],
            Access::Registry | Access::Layouts(_) => vec![],
        };
        let program = ["/cnb/lifecycle/rebaser"];
        let rebase = ["-run-image", run_image, "-force", image];
        let volumes = self.access.volumes();
        let volumes: Vec<_> = volumes.iter().map(String::as_str).collect();
        self.container(User::Root, &volumes, &[&program[..], &flags, &rebase].concat())
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
    let named = |name| Build::new(engine, surroundings, name);

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
    let new = surroundings.registry.reference("run:2");
    surroundings.update_run_image(&new, "1\n");
    named("third").rebase(&new, &image);
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
    assert_serves(engine, image, page);
}

fn assert_serves(engine: &dyn Engine, image: &str, page: &str) {
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

/// Builds with the images of a daemon on both sides. Only root may open its socket: the phases do so before they become
/// another user.
fn life_in_a_daemon(engine: &dyn Engine, socket: &Path, build: &dyn Fn(&Build<'_>, &str) -> Outcome) {
    const IMAGE: &str = "docker.io/library/app:1";
    let surroundings = Surroundings::new();
    let socket = socket.display().to_string();
    let named = |name| Build { access: Access::Daemon(&socket), ..Build::new(engine, &surroundings, name) };
    let id = || engine.engine(&["image", "inspect", "--format={{.Id}}", IMAGE]).success().stdout;
    for image in [&surroundings.builder, &surroundings.run_image] {
        engine.fetch(image);
    }
    build(&named("first"), "app:1").says("installing dependencies");
    let first = id();
    assert_serves(engine, IMAGE, "hello\n");

    build(&named("second"), "app:1")
        .says("keeping dependencies")
        .says("Reusing layer 'test/caching:dependencies'")
        .says("Reused 1/1 app layer(s)");
    assert_eq!(id(), first, "nothing has changed");

    web_app(&surroundings.environment.path("app"), "good bye\n");
    build(&named("third"), "app:1").says("Reusing layer 'test/caching:dependencies'");
    assert_serves(engine, IMAGE, "good bye\n");

    let new = surroundings.registry.reference("run:2");
    surroundings.update_run_image(&new, "1\n");
    engine.fetch(&new);
    let third = id();
    named("third").rebase(&new, "app:1");
    assert_ne!(id(), third);
    assert_serves(engine, IMAGE, "good bye\n");
}

#[test]
fn a_trusted_builder_writes_to_docker() {
    let dockerd = Dockerd::start();
    life_in_a_daemon(&dockerd, &dockerd.socket(), &|build, image| build.trusted(image));
}

#[test]
fn a_builder_that_is_not_trusted_writes_to_docker() {
    let dockerd = Dockerd::start();
    life_in_a_daemon(&dockerd, &dockerd.socket(), &|build, image| build.untrusted(image));
}

#[test]
fn a_builder_that_is_not_trusted_writes_to_podman() {
    let podman = Podman::new();
    let (socket, _server) = podman.serve();
    life_in_a_daemon(&podman, &socket, &|build, image| build.untrusted(image));
}

/// With a launch cache, a daemon is asked for whole images (`docker save`) once, also when layers change: they took longer
/// than the build.
fn a_launch_cache_saves_exports(engine: &dyn Engine, socket: &Path) {
    const IMAGE: &str = "docker.io/library/app:1";
    let surroundings = Surroundings::new();
    let log = SocketLog::before(socket);
    let socket = log.socket().display().to_string();
    let named = |name| Build { access: Access::Daemon(&socket), ..Build::new(engine, &surroundings, name) };
    for image in [&surroundings.builder, &surroundings.run_image] {
        engine.fetch(image);
    }
    named("first").trusted("app:1").says("installing dependencies");
    assert!(!log.take("/get").is_empty(), "the run image is not known yet");
    named("second").trusted("app:1").says("Reused 1/1 app layer(s)");
    assert_eq!(log.take("/get"), [""; 0], "nothing has changed");
    web_app(&surroundings.environment.path("app"), "good bye\n");
    named("third").trusted("app:1").says("Reusing layer 'test/caching:dependencies'");
    assert_eq!(log.take("/get"), [""; 0], "a layer has changed");
    assert_serves(engine, IMAGE, "good bye\n");
}

#[test]
fn a_launch_cache_saves_exports_of_docker() {
    let dockerd = Dockerd::start();
    a_launch_cache_saves_exports(&dockerd, &dockerd.socket());
}

#[test]
fn a_launch_cache_saves_exports_of_podman() {
    let podman = Podman::new();
    let (socket, _server) = podman.serve();
    a_launch_cache_saves_exports(&podman, &socket);
}

/// What changed in the app is a layer of its own, which the daemon puts on top of those that it has.
fn a_daemon_gets_deltas(engine: &dyn Engine, socket: &Path) {
    const IMAGE: &str = "docker.io/library/app:1";
    let surroundings = Surroundings::new();
    let _ = surroundings.environment.write("app/large", &"more than what changes\n".repeat(1000));
    let socket = socket.display().to_string();
    let named = |name| Build {
        access: Access::Daemon(&socket),
        variables: &["CNB_APP_LAYER=delta"],
        ..Build::new(engine, &surroundings, name)
    };
    let id = || engine.engine(&["image", "inspect", "--format={{.Id}}", IMAGE]).success().stdout;
    for image in [&surroundings.builder, &surroundings.run_image] {
        engine.fetch(image);
    }
    named("first").trusted("app:1").says("Added 1/1 app layer(s)");
    for (name, page, kept) in [("second", "good bye\n", 1), ("third", "once more\n", 2)] {
        web_app(&surroundings.environment.path("app"), page);
        let all = kept + 1;
        let outcome = named(name).trusted("app:1").says(&format!("Reused {kept}/{all} app layer(s)"));
        drop(outcome.says(&format!("Added 1/{all} app layer(s)")));
        assert_serves(engine, IMAGE, page);
    }
    let third = id();
    named("fourth").trusted("app:1").says("Reused 3/3 app layer(s)");
    assert_eq!(id(), third, "nothing has changed");
}

#[test]
fn deltas_go_into_docker() {
    let dockerd = Dockerd::start();
    a_daemon_gets_deltas(&dockerd, &dockerd.socket());
}

#[test]
fn deltas_go_into_podman() {
    let podman = Podman::new();
    let (socket, _server) = podman.serve();
    a_daemon_gets_deltas(&podman, &socket);
}

/// Whoever makes an image of a lifecycle puts its SBOMs beside its programs.
#[test]
fn sboms_of_the_lifecycle_are_kept() {
    let surroundings = Surroundings::new();
    let podman = Podman::new();
    let image = surroundings.registry.reference("app:1");
    podman.fetch(&surroundings.builder);
    let build = Build::new(&podman, &surroundings, "first");
    build.copy_app();
    let file = |name: &str| {
        let text = format!("{{\"of\": \"{name}\"}}");
        let file = surroundings.environment.write(&format!("sboms/{name}"), &text);
        format!("{}:/cnb/lifecycle/{name}:ro", file.display())
    };
    let [lifecycle, launcher] = ["lifecycle.sbom.cdx.json", "launcher.sbom.spdx.json"].map(file);
    build.container(User::Root, &[&lifecycle, &launcher], &["/cnb/lifecycle/creator", &image]);
    let kept = ["cat", "/layers/sbom/build/buildpacksio_lifecycle/sbom.cdx.json"];
    assert_eq!(build.container(User::Root, &[], &kept).stdout, "{\"of\": \"lifecycle.sbom.cdx.json\"}");
    podman.fetch(&image);
    let exported = "/layers/sbom/launch/buildpacksio_lifecycle/launcher/sbom.spdx.json";
    let show = ["run", "--rm", "--entrypoint=cat", &image, exported];
    assert_eq!(podman.podman(&show).success().stdout, "{\"of\": \"launcher.sbom.spdx.json\"}");
}

/// Builds with images that are layouts on both sides; their layers are those of an image in a registry.
fn life_in_layouts(build: &dyn Fn(&Build<'_>, &str) -> Outcome) {
    let surroundings = Surroundings::new();
    let podman = Podman::new();
    let layouts = surroundings.environment.path("layouts");
    let run_image = layouts.join("index.docker.io/tiny/run/1");
    std::fs::create_dir_all(&run_image).unwrap();
    skopeo::copy(&format!("docker://{}", surroundings.run_image), &format!("oci:{}", run_image.display()));
    Outcome::of(Command::new("chown").args(["-R", "1001:1000"]).arg(&layouts)).success();
    let directory = layouts.display().to_string();
    podman.fetch(&surroundings.builder);
    let named = |name| Build {
        access: Access::Layouts(&directory),
        run_image: "tiny/run:1",
        ..Build::new(&podman, &surroundings, name)
    };
    build(&named("first"), "team/app:1").says("installing dependencies");
    let app = format!("oci:{}", layouts.join("index.docker.io/team/app/1").display());
    let first = skopeo::configuration(&app);
    surroundings.own_build("own:1");
    let own = skopeo::configuration(&format!("docker://{}", surroundings.registry.reference("own:1")));
    assert_eq!(first["rootfs"], own["rootfs"]);
    let label = first["config"]["Labels"]["io.buildpacks.lifecycle.metadata"].as_str().unwrap();
    assert!(label.contains("\"reference\":\"/layouts/index.docker.io/tiny/run/1@sha256:"), "{label}");

    build(&named("second"), "team/app:1")
        .says("keeping dependencies")
        .says("Reusing layer 'test/caching:dependencies'")
        .says("Reused 1/1 app layer(s)");
    assert_eq!(skopeo::configuration(&app), first, "nothing has changed");
}

#[test]
fn a_trusted_builder_writes_layouts() {
    life_in_layouts(&|build, image| build.trusted(image));
}

#[test]
fn a_builder_that_is_not_trusted_writes_layouts() {
    life_in_layouts(&|build, image| build.untrusted(image));
}
