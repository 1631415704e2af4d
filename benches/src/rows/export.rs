//! Cold exports: everything is read, hashed, compressed and written.

use std::cell::RefCell;
use std::path::Path;

use crate::app::{App, Caching, Format};
use crate::bench::{Bench, remove, shell};
use crate::contest::{Contender, in_turn};
use crate::registry::Registry;
use crate::report::{Check, Findings};
use crate::series::{Series, bytes};

const TAR_ZSTD: &str = "tar -C \"$0\" -cf - . | zstd -3 -T0 -q -o \"$1\"";
const TAR_PIGZ: &str = "tar -C \"$0\" -cf - . | pigz -1 > \"$1\"";

pub(super) fn zstd(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let [ours, peer] = against_tar(bench, &bench.npm()?, Format::Zstd, false, findings)?;
    findings.check(Check::ratio("wall", &ours, &peer, 1.05)).check(Check::memory(&ours, 150));
    Ok(())
}

pub(super) fn gzip(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let [ours, peer] = against_tar(bench, &bench.npm()?, Format::Gzip, false, findings)?;
    findings.check(Check::ratio("wall", &ours, &peer, 0.55)).check(Check::memory(&ours, 150));
    Ok(())
}

pub(super) fn cold_page_cache(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    super::needs_root(bench, "emptying the page cache")?;
    let [ours, peer] = against_tar(bench, &bench.npm()?, Format::Zstd, true, findings)?;
    findings.check(Check::ratio("wall", &ours, &peer, 0.6));
    Ok(())
}

pub(super) fn small_files(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let [ours, peer] = against_tar(bench, &bench.small_files()?, Format::Zstd, false, findings)?;
    findings.check(Check::ratio("wall", &ours, &peer, 0.4)).check(Check::memory(&ours, 200));
    Ok(())
}

pub(super) fn large_file(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let [ours, peer] = against_tar(bench, &bench.large_file()?, Format::Zstd, false, findings)?;
    findings.check(Check::ratio("wall", &ours, &peer, 1.0)).check(Check::memory(&ours, 150));
    Ok(())
}

/// The exporter into an OCI layout, against tar and a compressor into a file. Both write to the same file system.
fn against_tar(
    bench: &Bench,
    layers: &Path,
    format: Format,
    cold: bool,
    findings: &mut Findings,
) -> anyhow::Result<[Series; 2]> {
    let mut app = App::new(bench, "app", layers, Caching::No)?;
    app.use_layouts()?;
    let output = bench.folder("tar")?.join("layer");
    let (script, name) = match format {
        Format::Zstd => (TAR_ZSTD, "`tar \\| zstd -3 -T0`"),
        Format::Gzip => (TAR_PIGZ, "`tar \\| pigz -1`"),
    };
    let ours = Contender::new("Longshore's `exporter` into a layout", || {
        remove(&app.layout("app"))?;
        clear(bench, cold)?;
        Ok(app.exporter(&bench.phase("exporter"), "app", format))
    });
    let peer = Contender::new(name, || {
        remove(&output)?;
        clear(bench, cold)?;
        Ok(shell(script, [app.layer("tree"), output.clone()]))
    });
    let series = in_turn(bench, [ours, peer])?;
    findings.all(&series);
    let blob = largest(&app.layout("app").join("blobs/sha256"))?;
    findings.note(format!(
        "The layer has {}, the file of {name} {}.",
        bytes(blob),
        bytes(fs_err::metadata(&output)?.len())
    ));
    Ok(series)
}

fn clear(bench: &Bench, cold: bool) -> anyhow::Result<()> {
    if cold { bench.drop_caches() } else { Ok(()) }
}

/// The size of the largest file of a folder.
fn largest(folder: &Path) -> anyhow::Result<u64> {
    let mut largest = 0;
    for entry in fs_err::read_dir(folder)? {
        largest = largest.max(entry?.metadata()?.len());
    }
    Ok(largest)
}

/// The export alone, and the same into a registry that has nothing yet.
pub(super) fn push(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let layers = bench.npm()?;
    let mut alone = App::new(bench, "alone", &layers, Caching::No)?;
    alone.use_layouts()?;
    let pushed = RefCell::new((App::new(bench, "app", &layers, Caching::No)?, None::<Registry>));
    let export = Contender::new("Longshore's `exporter` into a layout", || {
        remove(&alone.layout("app"))?;
        Ok(alone.exporter(&bench.phase("exporter"), "app", Format::Zstd))
    });
    let push = Contender::new("Longshore's `exporter` into docker-registry", || {
        let (app, registry) = &mut *pushed.borrow_mut();
        // An empty registry each time, whose predecessor is gone.
        registry.take();
        let new = registry.insert(Registry::start());
        let host = new.server.host();
        app.use_registry(new, host)?;
        Ok(app.exporter(&bench.phase("exporter"), "app", Format::Zstd))
    });
    let [alone, pushed] = in_turn(bench, [export, push])?;
    findings.series(&alone).series(&pushed);
    findings.check(Check::ratio("wall", &pushed, &alone, 1.15)).check(Check::memory(&pushed, 150));
    findings.note("The registry computes digests on the same cores.");
    Ok(())
}
