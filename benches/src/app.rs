//! An app after its buildpacks ran, and the lifecycle's programs called on it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use longshore_test_support::layout::{Files, Layout};
use longshore_test_support::{skopeo, tiny};
use serde_json::json;

use crate::bench::Bench;
use crate::data::BUILDPACK;
use crate::measure::quietly;
use crate::registry::Registry;

/// Old enough for every lifecycle that is a peer.
const PLATFORM_API: &str = "0.13";
const BUILDPACK_API: &str = "0.10";
/// The host of images in layouts.
pub(crate) const LAYOUT_HOST: &str = "bench.example";

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Zstd,
    Gzip,
}

impl Format {
    pub(crate) const fn layer_format(self) -> &'static str {
        match self {
            Self::Zstd => "tar+zstd",
            Self::Gzip => "tar+gzip",
        }
    }
}

/// Whether the lifecycle caches the app's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    No,
    /// All layers are cached, too.
    Yes,
}

/// An app after its buildpacks ran.
pub(crate) struct App<'a> {
    bench: &'a Bench,
    /// The folder for all that is not data.
    pub(crate) folder: PathBuf,
    /// The layers directory.
    pub(crate) layers: PathBuf,
    caching: Caching,
    /// The registry of app and run image; without one they are in layouts.
    host: Option<String>,
}

impl<'a> App<'a> {
    /// An app whose layers are those of `layers`; what else it needs goes into a folder of this name.
    pub(crate) fn new(bench: &'a Bench, name: &str, layers: &Path, caching: Caching) -> anyhow::Result<Self> {
        let folder = bench.folder(name)?;
        let app = Self { bench, folder, layers: layers.to_owned(), caching, host: None };
        for folder in ["workspace", "cache", "layouts"] {
            fs_err::create_dir(app.folder.join(folder))?;
        }
        fs_err::write(app.folder.join("workspace/server.js"), "require('http')\n")?;
        let cached = caching == Caching::Yes;
        for name in app.names()? {
            let text = format!("[types]\nlaunch = true\ncache = {cached}\n");
            fs_err::write(app.layers.join(BUILDPACK).join(format!("{name}.toml")), text)?;
        }
        let entry = |table: &str| {
            format!(
                "[[{table}]]\nid = \"{}\"\nversion = \"1.0.0\"\napi = \"{BUILDPACK_API}\"\n",
                BUILDPACK.replace('_', "/")
            )
        };
        fs_err::write(app.folder.join("group.toml"), entry("group"))?;
        fs_err::create_dir_all(app.layers.join("config"))?;
        let mut metadata = entry("buildpacks");
        let _ = write!(
            metadata,
            "[[processes]]\ntype = \"web\"\ncommand = [\"node\"]\nargs = [\"server.js\"]\ndirect = true\n"
        );
        fs_err::write(app.layers.join("config/metadata.toml"), metadata)?;
        Ok(app)
    }

    /// The names of the layers.
    pub(crate) fn names(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs_err::read_dir(self.layers.join(BUILDPACK))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The directory of a layer.
    pub(crate) fn layer(&self, name: &str) -> PathBuf {
        self.layers.join(BUILDPACK).join(name)
    }

    /// Puts images into layouts, where the run image is written now, and analyzes.
    pub(crate) fn use_layouts(&mut self) -> anyhow::Result<()> {
        self.host = None;
        write_run_image(&self.layouts());
        self.analyze("app")
    }

    /// Puts images into a registry, where the run image is pushed now, and analyzes. `host` is the registry's or that of
    /// a line to it.
    pub(crate) fn use_registry(&mut self, registry: &Registry, host: String) -> anyhow::Result<()> {
        push_run_image(self.bench, registry, "run:latest", &[])?;
        self.host = Some(host);
        self.analyze("app")
    }

    fn layouts(&self) -> PathBuf {
        self.folder.join("layouts")
    }

    /// The full name of an image.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host.as_deref().unwrap_or(LAYOUT_HOST))
    }

    /// The folder of the blobs of an image that is in a layout.
    pub(crate) fn layout(&self, name: &str) -> PathBuf {
        self.layouts().join(LAYOUT_HOST).join(name).join("latest")
    }

    /// Looks for the image that the next export can take layers from.
    pub(crate) fn analyze(&self, image: &str) -> anyhow::Result<()> {
        quietly(&mut self.analyzer(image)?).map(drop)
    }

    /// The analyzer.
    pub(crate) fn analyzer(&self, image: &str) -> anyhow::Result<Command> {
        write_run_toml(&self.folder, &self.image("run"))?;
        let mut command = self.program(&self.bench.phase("analyzer"));
        command.arg(self.image(image));
        Ok(command)
    }

    /// The exporter, ours or another.
    pub(crate) fn exporter(&self, program: &Path, image: &str, format: Format) -> Command {
        let mut command = self.program(program);
        let path = |name: &str| self.folder.join(name);
        command.arg("-app").arg(path("workspace")).arg("-group").arg(path("group.toml"));
        command.arg("-launcher").arg(&self.bench.launcher).arg("-launcher-sbom").arg(path("layouts"));
        command.arg("-report").arg(path("report.toml"));
        if self.caching == Caching::Yes {
            command.arg("-cache-dir").arg(path("cache"));
        }
        command.arg(self.image(image)).env("CNB_LAYER_FORMAT", format.layer_format());
        command
    }

    fn program(&self, program: &Path) -> Command {
        let mut command = lifecycle(program, &self.folder, &self.layers);
        command.arg("-analyzed").arg(self.folder.join("analyzed.toml"));
        if self.host.is_none() {
            command.arg("-layout").arg("-layout-dir").arg(self.layouts());
        }
        command
    }
}

/// A program of a lifecycle that has its `run.toml` in `folder`.
pub(crate) fn lifecycle(program: &Path, folder: &Path, layers: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-layers").arg(layers).arg("-run").arg(folder.join("run.toml"));
    // Whoever runs this, so that nothing has to be given away.
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    command.args(["-uid", &user.to_string(), "-gid", &group.to_string()]);
    command.env("CNB_PLATFORM_API", PLATFORM_API).env("CNB_EXPERIMENTAL_MODE", "warn");
    command.env("CNB_REGISTRY_AUTH", "{}").env("CNB_NO_COLOR", "true");
    command
}

/// Writes the `run.toml` of this run image.
pub(crate) fn write_run_toml(folder: &Path, image: &str) -> anyhow::Result<()> {
    Ok(fs_err::write(folder.join("run.toml"), format!("[[images]]\nimage = \"{image}\"\n"))?)
}

/// Writes the run image `LAYOUT_HOST/run` into a directory of layouts.
pub(crate) fn write_run_image(layouts: &Path) {
    let layout = Layout::open(&layouts.join(LAYOUT_HOST).join("run/latest"));
    tiny::TinyBuilder::new(Vec::new()).write_run_image(&layout, "run");
}

/// Pushes a run image of busybox with these layers on top.
pub(crate) fn push_run_image(
    bench: &Bench,
    registry: &Registry,
    name: &str,
    layers: &[Vec<u8>],
) -> anyhow::Result<()> {
    let folder = bench.folder("run-image")?;
    let layout = Layout::open(&folder);
    if layers.is_empty() {
        tiny::TinyBuilder::new(Vec::new()).write_run_image(&layout, "run");
    } else {
        let config = json!({
            "created": "1980-01-01T00:00:01Z",
            "architecture": tiny::architecture(),
            "os": "linux",
            "config": {"User": "1002:1000", "Labels": {"io.buildpacks.rebasable": "true"}},
        });
        let _ = layout.image("run", config, layers);
    }
    skopeo::copy(
        &format!("oci:{}:run", folder.display()),
        &format!("docker://{}", registry.server.reference(name)),
    );
    Ok(())
}

/// A layer with one file of this text.
pub(crate) fn small_layer(name: &str, text: &str) -> Vec<u8> {
    let mut files = Files::default();
    files.folder("opt", 0o755, (0, 0)).file(&format!("opt/{name}"), 0o644, text);
    files.archive()
}
