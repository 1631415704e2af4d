//! The clients, each a column of the tables.

use std::fmt;
use std::path::Path;
use std::process::Command;

use longshore_test_support::{Containerd, Dockerd, Outcome, Podman, TestEnvironment, skopeo, variants};

use crate::LONGSHORE;

/// What a client refuses an image with, and how the table says so. What is not here is no answer but a surprise.
const REFUSALS: [(&str, &str); 16] = [
    // What programs say that take zstd for a tar.
    ("archive/tar: invalid tar header", ZSTD),
    ("ApplyLayer exit status 1 stdout:  stderr: unexpected EOF", ZSTD),
    ("no processor for media-type: unknown", "unknown type of layer"),
    ("unsupported docker v2s2 media type", "unknown type of layer"),
    ("Unknown media type during manifest conversion", "unknown type of layer"),
    ("zstd compression is not supported for docker images", "Docker has no type for zstd"),
    ("unsupported image-specific operation on artifact", "taken for an artifact"),
    ("unsupported media type application/vnd.", "not an image"),
    ("no matching manifest for", "not an image"),
    ("mismatched image rootfs and manifest layers", "not an image"),
    ("unexpected media type application/vnd.oci.image.layer", "not an image"),
    ("determining manifest MIME type for", "not an image"),
    ("is an artifact of type", "not an image"),
    ("is the build cache of BuildKit", "not an image"),
    // It was pulled and unpacked, and a container was made.
    ("stat /bin/busybox: no such file or directory", EMPTY),
    ("has no layers, so there is nothing in it to run", EMPTY),
];
const ZSTD: &str = "zstd not read";
const EMPTY: &str = "nothing to run";

/// What a client made of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    Runs,
    Refuses(&'static str),
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => formatter.write_str("runs"),
            Self::Refuses(reason) => write!(formatter, "no: {reason}"),
        }
    }
}

type Act = Box<dyn Fn(&str) -> Outcome + Send + Sync>;

/// A client with a storage of its own.
pub(super) struct Column {
    pub(super) title: String,
    /// What the container is told to be run by.
    client: &'static str,
    /// Gets an image by its name and runs it, with the variable CLIENT; the outcome of what failed, or of the container.
    act: Act,
}

impl Column {
    fn new(
        title: String,
        client: &'static str,
        act: impl Fn(&str) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        Self { title, client, act: Box::new(act) }
    }

    /// What the client makes of an image, or what is surprising about it.
    pub(super) fn cell(&self, title: &str, name: &str, word: &str) -> Result<Cell, String> {
        let outcome = (self.act)(name);
        let said = variants::said(word, self.client);
        if outcome.code == Some(0) && outcome.stdout.lines().any(|line| line == said) {
            return Ok(Cell::Runs);
        }
        let known = REFUSALS.iter().find(|(words, _)| outcome.stderr.contains(words));
        match known {
            Some((_, reason)) if outcome.code != Some(0) => Ok(Cell::Refuses(reason)),
            _ => Err(format!(
                "{} makes this of `{title}`, which should say `{said}`: {outcome:#?}",
                self.title
            )),
        }
    }
}

/// The clients that pull; names are references.
pub(super) fn pulling() -> Vec<Column> {
    vec![docker(), containerd(), podman(), skopeo_to_storage(), skopeo_to_archive(), longshore("")]
}

/// The clients that load; names are archives with one image, which is named as the file.
pub(super) fn loading() -> Vec<Column> {
    vec![
        docker_load(),
        containerd_import(),
        podman_load(),
        skopeo_from("docker-archive", "skopeo-docker"),
        skopeo_from("oci-archive", "skopeo-oci"),
        longshore("oci-archive:"),
    ]
}

/// The name of the image in an archive: that of the file.
pub(super) fn name_in(archive: &str) -> String {
    let stem = Path::new(archive).file_stem().expect("the name of an archive");
    format!("docker.io/library/{}:v1", stem.display())
}

/// `PROGRAM MAJOR.MINOR`, from what the program says.
fn version(title: &str, program: &str, arguments: &[&str]) -> String {
    let said = Outcome::of(Command::new(program).args(arguments)).success().stdout;
    let mut words = said.split([' ', ',', '\n', '+', '~']);
    let version =
        words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'));
    let version: Vec<_> = version.unwrap_or_default().split('.').take(2).collect();
    format!("{title} {}", version.join("."))
}

fn docker_version(title: &str) -> String {
    version(title, "/usr/sbin/dockerd", &["--version"])
}

fn containerd_version(title: &str) -> String {
    version(title, "/usr/bin/containerd", &["--version"])
}

fn podman_version(title: &str) -> String {
    version(title, "/usr/bin/podman", &["--version"])
}

fn skopeo_version(title: &str) -> String {
    version(title, "/usr/bin/skopeo", &["--version"])
}

/// The second outcome, if the first one is good.
fn then(first: Outcome, second: impl FnOnce() -> Outcome) -> Outcome {
    if first.code == Some(0) { second() } else { first }
}

fn docker_run(dockerd: &Dockerd, image: &str, client: &str) -> Outcome {
    let variable = format!("CLIENT={client}");
    let outcome = dockerd.docker(&["run", "--rm", "--network=host", "--env", &variable, image]);
    let _ = dockerd.docker(&["rmi", "--force", image]);
    outcome
}

fn podman_run(podman: &Podman, image: &str, client: &str) -> Outcome {
    let variable = format!("CLIENT={client}");
    podman.podman(&["run", "--rm", "--pull=never", "--network=host", "--env", &variable, image])
}

fn docker() -> Column {
    let dockerd = Dockerd::start();
    Column::new(docker_version("Docker"), "docker", move |image| {
        then(dockerd.docker(&["pull", "--quiet", image]), || docker_run(&dockerd, image, "docker"))
    })
}

fn docker_load() -> Column {
    let dockerd = Dockerd::start();
    Column::new(docker_version("`docker load`"), "docker", move |archive| {
        let loaded = dockerd.docker(&["load", "--quiet", "--input", archive]);
        then(loaded, || docker_run(&dockerd, &name_in(archive), "docker"))
    })
}

fn containerd() -> Column {
    let containerd = Containerd::start();
    Column::new(containerd_version("containerd"), "containerd", move |image| {
        then(containerd.pull(image), || containerd.run(image, "CLIENT=containerd"))
    })
}

fn containerd_import() -> Column {
    let containerd = Containerd::start();
    Column::new(containerd_version("`ctr images import`"), "containerd", move |archive| {
        then(containerd.import(archive), || containerd.run(&name_in(archive), "CLIENT=containerd"))
    })
}

fn podman() -> Column {
    let podman = Podman::new();
    Column::new(podman_version("podman"), "podman", move |image| {
        let pulled = podman.podman(&["pull", "--quiet", "--tls-verify=false", image]);
        then(pulled, || podman_run(&podman, image, "podman"))
    })
}

fn podman_load() -> Column {
    let podman = Podman::new();
    Column::new(podman_version("`podman load`"), "podman", move |archive| {
        let loaded = podman.podman(&["load", "--quiet", "--input", archive]);
        then(loaded, || podman_run(&podman, &name_in(archive), "podman"))
    })
}

/// Skopeo pulls and unpacks; podman only runs what it finds.
fn skopeo_to_storage() -> Column {
    let podman = Podman::new();
    Column::new(skopeo_version("skopeo"), "skopeo", move |image| {
        let source = format!("docker://{image}");
        let target = podman.stored(image);
        let copied = skopeo::skopeo(&["copy", "--quiet", "--src-tls-verify=false", &source, &target]);
        then(copied, || podman_run(&podman, image, "skopeo"))
    })
}

/// Skopeo pulls and converts; podman loads and runs that.
fn skopeo_to_archive() -> Column {
    let podman = Podman::new();
    let directory = tempfile::tempdir().expect("a temporary folder");
    Column::new(skopeo_version("to `docker-archive:` by skopeo"), "converted", move |image| {
        let file = directory.path().join("archive.tar");
        let _ = std::fs::remove_file(&file);
        let source = format!("docker://{image}");
        let target = format!("docker-archive:{}:{image}", file.display());
        let copied = skopeo::skopeo(&["copy", "--quiet", "--src-tls-verify=false", &source, &target]);
        let file = file.display().to_string();
        let loaded = then(copied, || podman.podman(&["load", "--quiet", "--input", &file]));
        then(loaded, || podman_run(&podman, image, "converted"))
    })
}

/// Skopeo reads the archive and unpacks; podman only runs what it finds.
fn skopeo_from(transport: &'static str, client: &'static str) -> Column {
    let podman = Podman::new();
    Column::new(skopeo_version(&format!("`{transport}:` by skopeo")), client, move |archive| {
        let image = name_in(archive);
        let source = format!("{transport}:{archive}");
        let copied = skopeo::skopeo(&["copy", "--quiet", &source, &podman.stored(&image)]);
        then(copied, || podman_run(&podman, &image, client))
    })
}

fn longshore(transport: &'static str) -> Column {
    let environment = TestEnvironment::new(LONGSHORE);
    Column::new("Longshore".to_owned(), "longshore", move |name| {
        environment.longshore(&["run", "--env", "CLIENT=longshore", &format!("{transport}{name}")])
    })
}
