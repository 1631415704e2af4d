//! Other programs that make an image layer of the npm tree, for information.

use std::path::Path;
use std::process::Command;

use longshore_test_support::{Dockerd, skopeo};

use crate::app::{App, Caching, Format};
use crate::bench::{Bench, remove, shell};
use crate::contest::{Contender, in_turn};
use crate::registry::Registry;
use crate::report::Findings;

pub(super) fn run(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let mut app = App::new(bench, "app", &bench.npm()?, Caching::No)?;
    app.use_layouts()?;
    let tree = app.layer("tree");
    let folder = bench.folder("peers")?;
    let ours = |format: Format, name: &'static str| {
        let app = &app;
        Contender::new(name, move || {
            remove(&app.layout("app"))?;
            Ok(app.exporter(&bench.phase("exporter"), "app", format))
        })
    };
    let series = in_turn(
        bench,
        [
            ours(Format::Zstd, "Longshore's `exporter`, zstd"),
            ours(Format::Gzip, "Longshore's `exporter`, gzip"),
            umoci(&folder.join("umoci"), &tree),
            buildah(&folder.join("buildah"), &tree),
        ],
    )?;
    findings.all(&series);
    if bench.is_root() {
        docker(bench, &app, findings)?;
    } else {
        findings.note("`docker push` was left out: a Docker daemon needs root.");
    }
    Ok(())
}

/// Unpacked images and layers are umoci's purpose; `insert` makes a layer of a folder.
fn umoci<'a>(folder: &'a Path, tree: &'a Path) -> Contender<'a> {
    Contender::new("`umoci insert`, gzip", move || {
        remove(folder)?;
        let script = "umoci init --layout \"$0\" && umoci new --image \"$0:app\"";
        crate::measure::quietly(&mut shell(script, [folder]))?;
        let mut command = Command::new("umoci");
        command
            .arg("insert")
            .arg("--image")
            .arg(format!("{}:app", folder.display()))
            .arg(tree)
            .arg("/layers/tree");
        Ok(command)
    })
}

/// `commit` of a container into which the tree was copied before, without being timed.
fn buildah<'a>(folder: &'a Path, tree: &'a Path) -> Contender<'a> {
    Contender::new("`buildah commit`, gzip", move || {
        let script = "b() { buildah --root \"$0/root\" --runroot \"$0/run\" --storage-driver vfs \"$@\"; }\n\
                      mkdir -p \"$0\"\n\
                      if ! [ -e \"$0/container\" ]; then b from --name bench scratch > \"$0/container\"; b copy bench \"$1\" /layers/tree; fi\n\
                      rm -rf \"$0/image\"";
        crate::measure::quietly(&mut shell(script, [folder, tree]))?;
        let mut command = Command::new("buildah");
        command.arg("--root").arg(folder.join("root")).arg("--runroot").arg(folder.join("run"));
        command.args(["--storage-driver", "vfs", "commit", "--quiet", "bench"]);
        command.arg(format!("oci:{}:app", folder.join("image").display()));
        Ok(command)
    })
}

/// The push of an image that the daemon has already.
fn docker(bench: &Bench, app: &App<'_>, findings: &mut Findings) -> anyhow::Result<()> {
    let dockerd = Dockerd::start();
    let (source, archive) = (app.layout("app"), bench.folder("archive")?.join("image.tar"));
    skopeo::copy(
        &format!("oci:{}", source.display()),
        &format!("docker-archive:{}:bench/app:1", archive.display()),
    );
    dockerd.docker(&["load", "--quiet", "--input", &archive.display().to_string()]).success();
    let mut registry = None::<Registry>;
    let push = Contender::new("`docker push` of what the daemon has", || {
        registry.take();
        // The daemon remembers which blobs a registry has.
        let name = registry.insert(Registry::start()).server.reference("app:1");
        dockerd.docker(&["tag", "bench/app:1", &name]).success();
        let mut command = Command::new("/usr/bin/docker");
        command
            .args(["push", "--quiet", &name])
            .env("DOCKER_HOST", format!("unix://{}", dockerd.socket().display()));
        Ok(command)
    });
    let [docker] = in_turn(bench, [push])?;
    findings.series(&docker);
    Ok(())
}
