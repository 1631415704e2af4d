//! A builder image becomes a root filesystem.

use std::path::{Path, PathBuf};

use longshore_test_support::layout::Layout;

use super::rebase::isolated;
use super::sandbox::{blob, blob_file, start_true};
use crate::app::{App, Caching, Format};
use crate::bench::{Bench, remove, shell};
use crate::contest::{Contender, in_turn};
use crate::measure::quietly;
use crate::report::{Check, Findings};

/// `$0` is the folder, the arguments are the layers from the lowest on.
const TAR: &str = "mkdir -p \"$0\"; for layer in \"$@\"; do zstd -dcq \"$layer\" | tar -C \"$0\" -x; done";

pub(super) fn run(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    super::needs_root(bench, "unpacking files of several owners with tar")?;
    let images = [
        ("a builder of one 480 MB layer", bench.npm()?),
        ("a builder of 20 layers, 480 MB", bench.twenty()?),
    ];
    // Removing trees slows down what is written after it: they are moved away, and removed when all is over.
    let trash = bench.folder("trash")?;
    for (what, layers) in images {
        compare(bench, what, &layers, &trash, findings)?;
    }
    remove(&trash)?;
    findings.note(
        "Longshore's time is that of `longshore run` of busybox's `true` in an image of which nothing is unpacked yet: \
         it verifies all digests and starts a sandbox as well.",
    );
    Ok(())
}

fn compare(
    bench: &Bench,
    what: &str,
    layers: &Path,
    trash: &Path,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut app = App::new(bench, "app", layers, Caching::No)?;
    app.use_layouts()?;
    quietly(&mut app.exporter(&bench.phase("exporter"), "app", Format::Zstd))?;
    let image = app.layout("app");
    start_true(&image)?;
    let manifest = blob(&image, &Layout::open(&image).index()["manifests"][0])?;
    let mut blobs = Vec::new();
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        // The busybox below the app is of gzip, which zstd reads as well.
        blobs.push(blob_file(&image, layer).into_os_string());
    }
    let (unpacked, target) =
        (bench.place.join("home/cache/longshore/unpacked"), bench.place.join("untarred"));
    let throw_away = |folder: &PathBuf| -> anyhow::Result<()> {
        if folder.exists() {
            let thrown = fs_err::read_dir(trash)?.count();
            fs_err::rename(folder, trash.join(thrown.to_string()))?;
        }
        Ok(())
    };
    throw_away(&unpacked)?;
    throw_away(&target)?;
    let ours = Contender::new(format!("`longshore run` of {what}"), || {
        throw_away(&unpacked)?;
        let mut command = isolated(bench)?;
        command.arg("run").arg(format!("oci:{}", image.display()));
        Ok(command)
    });
    let peer = Contender::new(format!("`zstd -d \\| tar x` of {what}"), || {
        throw_away(&target)?;
        let arguments = std::iter::once(target.clone().into_os_string()).chain(blobs.iter().cloned());
        Ok(shell(TAR, arguments))
    });
    let [ours, peer] = in_turn(bench, [ours, peer])?;
    throw_away(&unpacked)?;
    throw_away(&target)?;
    findings.series(&ours).series(&peer);
    findings.check(Check::ratio("wall", &ours, &peer, 0.9));
    Ok(())
}
