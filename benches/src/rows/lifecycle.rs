//! The reference lifecycle on the npm tree, where it is given.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use longshore_test_support::buildpack::ShellBuildpack;

use crate::app::{self, App, Caching, Format, LAYOUT_HOST};
use crate::bench::{Bench, remove};
use crate::contest::{Contender, in_turn};
use crate::data::BUILDPACK;
use crate::report::{Check, Findings};

pub(super) fn run(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let Some(lifecycle) = &bench.options.lifecycle else {
        findings.note("The reference lifecycle was not given (`--lifecycle DIRECTORY`).");
        return Ok(());
    };
    let lifecycle = std::path::absolute(lifecycle)?;
    for program in ["exporter", "creator"] {
        let path = lifecycle.join(program);
        ensure!(path.exists(), "there is no {}, which --lifecycle has to hold", path.display());
    }
    exporter(bench, &lifecycle.join("exporter"), findings)?;
    creator(bench, &lifecycle.join("creator"), findings)
}

/// The first export of the tree.
fn exporter(bench: &Bench, reference: &Path, findings: &mut Findings) -> anyhow::Result<()> {
    let mut app = App::new(bench, "app", &bench.npm()?, Caching::No)?;
    app.use_layouts()?;
    let export = |name: &str, program: PathBuf| {
        let app = &app;
        Contender::new(name, move || {
            remove(&app.layout("app"))?;
            Ok(app.exporter(&program, "app", Format::Gzip))
        })
    };
    let [ours, reference] = in_turn(
        bench,
        [
            export("Longshore's `exporter`, gzip", bench.phase("exporter")),
            export("the reference's `exporter`, gzip", reference.to_owned()),
        ],
    )?;
    findings.series(&ours).series(&reference);
    findings.check(Check::ratio("wall", &ours, &reference, 0.2));
    Ok(())
}

/// A build of an app that has not changed, in a new container with the cache of the last: the layer of the tree is
/// restored, kept by its buildpack, and found in the previous image. What is not counted is the first build.
fn creator(bench: &Bench, reference: &Path, findings: &mut Findings) -> anyhow::Result<()> {
    let [ours, theirs] =
        [Creation::new(bench, "creator")?, Creation::new(bench, "creator-of-the-reference")?];
    let rebuild = |name: &str, creation: Creation, program: PathBuf| {
        let mut containers = 0..;
        Contender::new(name, move || {
            creation.new_container(containers.next().unwrap_or_default())?;
            Ok(creation.creator(bench, &program))
        })
    };
    let [ours, reference] = in_turn(
        bench,
        [
            rebuild("Longshore's `creator`, nothing changed", ours, bench.phase("creator")),
            rebuild("the reference's `creator`, nothing changed", theirs, reference.to_owned()),
        ],
    )?;
    findings.series(&ours).series(&reference);
    findings.check(Check::ratio("wall", &ours, &reference, 0.2));
    Ok(())
}

/// What a platform gives to a creator, in one folder.
struct Creation {
    folder: PathBuf,
}

impl Creation {
    fn new(bench: &Bench, name: &str) -> anyhow::Result<Self> {
        let creation = Self { folder: bench.folder(name)? };
        for folder in ["workspace", "platform", "cache", "layouts", "layers", "old"] {
            fs_err::create_dir(creation.path(folder))?;
        }
        fs_err::write(creation.path("workspace/server.js"), "require('http')\n")?;
        let tree = bench.npm()?.join(BUILDPACK).join("tree");
        let script = format!(
            "layer=$CNB_LAYERS_DIR/tree\n\
             [ -d \"$layer\" ] || cp -R \"{}\" \"$layer\"\n\
             printf '[types]\\nlaunch = true\\ncache = true\\n' > \"$layer.toml\"",
            tree.display()
        );
        let buildpack = ShellBuildpack::new("bench/tree", &script);
        buildpack.write(&creation.path("buildpacks").join("bench_tree").join(&buildpack.version));
        let order = format!(
            "[[order]]\n[[order.group]]\nid = \"{}\"\nversion = \"{}\"\n",
            buildpack.id, buildpack.version
        );
        fs_err::write(creation.path("order.toml"), order)?;
        app::write_run_image(&creation.path("layouts"));
        app::write_run_toml(&creation.folder, &creation.image("run"))?;
        Ok(creation)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn image(&self, name: &str) -> String {
        format!("{LAYOUT_HOST}/{name}")
    }

    /// Clears the layers directory, as a new container does. The old one is kept until all is over: a file system without
    /// a journal takes seconds to create files after it removed as many.
    fn new_container(&self, number: u32) -> anyhow::Result<()> {
        fs_err::rename(self.path("layers"), self.path("old").join(number.to_string()))?;
        Ok(fs_err::create_dir(self.path("layers"))?)
    }

    fn creator(&self, bench: &Bench, program: &Path) -> Command {
        let mut command = app::lifecycle(program, &self.folder, &self.path("layers"));
        let folders = [
            ("-app", "workspace"),
            ("-buildpacks", "buildpacks"),
            ("-order", "order.toml"),
            ("-platform", "platform"),
            ("-cache-dir", "cache"),
            ("-layout-dir", "layouts"),
            ("-launcher-sbom", "layouts"),
            ("-report", "report.toml"),
        ];
        for (flag, name) in folders {
            command.arg(flag).arg(self.path(name));
        }
        command.arg("-launcher").arg(&bench.launcher).arg("-run-image").arg(self.image("run"));
        command.arg("-layout").arg(self.image("app"));
        command.env("CNB_LAYER_FORMAT", Format::Gzip.layer_format());
        command
    }
}
