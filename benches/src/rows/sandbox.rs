//! The start of a sandbox, against bubblewrap.

use std::path::{Path, PathBuf};
use std::process::Command;

use longshore_test_support::layout::Layout;
use longshore_test_support::tiny::TinyBuilder;
use serde_json::{Value, json};

use super::rebase::isolated;
use crate::bench::Bench;
use crate::contest::{Contender, in_turn};
use crate::measure::quietly;
use crate::report::{Check, Findings};

pub(super) fn run(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let folder = bench.folder("image")?;
    TinyBuilder::new(Vec::new()).write_run_image(&Layout::open(&folder), "run");
    start_true(&folder)?;
    let ours = Contender::new("`longshore run` of busybox's `true`", || {
        let mut command = isolated(bench)?;
        command.arg("run").arg(format!("oci:{}", folder.display()));
        Ok(command)
    });
    let peer = Contender::new("`bwrap --unshare-all` of `true`", || {
        let mut command = Command::new("bwrap");
        command.args([
            "--unshare-all",
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
        ]);
        command.args(["--die-with-parent", "/bin/true"]);
        Ok(command)
    });
    // The layers are unpacked by the run that does not count.
    quietly(isolated(bench)?.arg("run").arg(format!("oci:{}", folder.display())))?;
    let [ours, peer] = in_turn(bench, [ours, peer])?;
    findings.series(&ours).series(&peer);
    findings.check(Check::seconds("wall of the whole command", &ours, 0.01));
    findings.note("Longshore reads an image, mounts its layers over each other, and filters system calls; bwrap does none of it.");
    Ok(())
}

/// Changes the only image of a layout so that it starts busybox's `true`.
pub(super) fn start_true(folder: &Path) -> anyhow::Result<()> {
    let layout = Layout::open(folder);
    let mut manifest = blob(folder, &layout.index()["manifests"][0])?;
    let mut config = blob(folder, &manifest["config"])?;
    config["config"]["Entrypoint"] = json!(["/bin/true"]);
    // The app's folder has the modes of this machine in the image: below /root its user may not enter it.
    config["config"]["WorkingDir"] = json!("/");
    manifest["config"] =
        layout.blob("application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config)?);
    let descriptor =
        layout.blob("application/vnd.oci.image.manifest.v1+json", &serde_json::to_vec(&manifest)?);
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    Ok(fs_err::write(folder.join("index.json"), index.to_string())?)
}

/// The file of a blob of a layout.
pub(super) fn blob_file(folder: &Path, descriptor: &Value) -> PathBuf {
    folder.join("blobs").join(descriptor["digest"].as_str().unwrap_or_default().replace(':', "/"))
}

/// A blob of a layout that is JSON.
pub(super) fn blob(folder: &Path, descriptor: &Value) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&fs_err::read(blob_file(folder, descriptor))?)?)
}
