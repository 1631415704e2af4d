//! A builder image becomes a root filesystem.

use std::path::{Path, PathBuf};

use longshore_test_support::layout::Layout;
use longshore_test_support::skopeo;

use super::rebase::isolated;
use super::sandbox::{blob, blob_file, start_true};
use crate::app::{App, Caching, Format};
use crate::bench::{Bench, remove, shell};
use crate::contest::{Contender, in_turn};
use crate::measure::quietly;
use crate::registry::Registry;
use crate::report::{Check, Findings};

/// `$0` is the folder, the arguments are the layers from the lowest on.
const TAR: &str = "mkdir -p \"$0\"; for layer in \"$@\"; do zstd -dcq \"$layer\" | tar -C \"$0\" -x; done";

/// `$0` is the folder, `$1` the image, the other arguments are the names of the blobs of its layers from the lowest on.
const SKOPEO: &str = "skopeo --insecure-policy copy --quiet --src-tls-verify=false \"docker://$1\" \"oci:$0/image\"\n\
                      shift; mkdir \"$0/root\"\n\
                      for blob in \"$@\"; do zstd -dcq \"$0/image/blobs/sha256/$blob\" | tar -C \"$0/root\" -x; done";

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

/// For information: the same image out of a registry.
pub(super) fn pull(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    super::needs_root(bench, "unpacking files of several owners with tar")?;
    let builder = Builder::new(bench, &bench.twenty()?)?;
    let trash = bench.folder("trash")?;
    let registry = Registry::start();
    let name = registry.server.reference("app:1");
    skopeo::copy(&format!("oci:{}", builder.image.display()), &format!("docker://{name}"));
    let (unpacked, target) = (unpacked_by_us(bench), bench.place.join("pulled"));
    let ours = Contender::new("`longshore run` of a builder of 20 layers in a registry", || {
        throw_away(&unpacked, &trash)?;
        let mut command = isolated(bench)?;
        command.arg("run").arg(&name);
        Ok(command)
    });
    let peer = Contender::new("`skopeo copy`, then `zstd -d \\| tar x` of it", || {
        throw_away(&target, &trash)?;
        fs_err::create_dir(&target)?;
        let blobs = builder.blobs.iter().filter_map(|blob| blob.file_name()).map(ToOwned::to_owned);
        Ok(shell(SKOPEO, [target.clone().into_os_string(), name.clone().into()].into_iter().chain(blobs)))
    });
    let [ours, peer] = in_turn(bench, [ours, peer])?;
    findings.series(&ours).series(&peer);
    findings.note(
        "Longshore unpacks layers while it downloads them, and keeps no blobs. ext4 without a journal steps over inodes \
         that were removed in the last minutes, here by the row before: whoever has to do so takes seconds longer.",
    );
    throw_away(&unpacked, &trash)?;
    throw_away(&target, &trash)?;
    remove(&trash)
}

/// An image that starts busybox's `true`, of which nothing is unpacked yet.
struct Builder {
    image: PathBuf,
    /// The files of its layers, the lowest first.
    blobs: Vec<PathBuf>,
}

impl Builder {
    fn new(bench: &Bench, layers: &Path) -> anyhow::Result<Self> {
        let mut app = App::new(bench, "app", layers, Caching::No)?;
        app.use_layouts()?;
        quietly(&mut app.exporter(&bench.phase("exporter"), "app", Format::Zstd))?;
        let image = app.layout("app");
        start_true(&image)?;
        let manifest = blob(&image, &Layout::open(&image).index()["manifests"][0])?;
        // The busybox below the app is of gzip, which zstd reads as well.
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let blobs = layers.map(|layer| blob_file(&image, layer)).collect();
        Ok(Self { image, blobs })
    }
}

fn unpacked_by_us(bench: &Bench) -> PathBuf {
    bench.place.join("home/cache/longshore/unpacked")
}

fn throw_away(folder: &Path, trash: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        let thrown = fs_err::read_dir(trash)?.count();
        fs_err::rename(folder, trash.join(thrown.to_string()))?;
    }
    Ok(())
}

fn compare(
    bench: &Bench,
    what: &str,
    layers: &Path,
    trash: &Path,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let Builder { image, blobs } = &Builder::new(bench, layers)?;
    let (unpacked, target) = (unpacked_by_us(bench), bench.place.join("untarred"));
    throw_away(&unpacked, trash)?;
    throw_away(&target, trash)?;
    let ours = Contender::new(format!("`longshore run` of {what}"), || {
        throw_away(&unpacked, trash)?;
        let mut command = isolated(bench)?;
        command.arg("run").arg(format!("oci:{}", image.display()));
        Ok(command)
    });
    let peer = Contender::new(format!("`zstd -d \\| tar x` of {what}"), || {
        throw_away(&target, trash)?;
        Ok(shell(TAR, std::iter::once(&target).chain(blobs)))
    });
    let [ours, peer] = in_turn(bench, [ours, peer])?;
    throw_away(&unpacked, trash)?;
    throw_away(&target, trash)?;
    findings.series(&ours).series(&peer);
    findings.check(Check::ratio("wall", &ours, &peer, 0.9));
    Ok(())
}
