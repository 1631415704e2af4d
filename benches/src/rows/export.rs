//! Cold exports: everything is read, hashed, compressed and written.

use std::cell::RefCell;
use std::path::Path;

use crate::app::{App, Caching, Format};
use crate::bench::{Bench, remove, shell};
use crate::contest::{Contender, in_turn_again};
use crate::profile;
use crate::registry::Registry;
use crate::report::{Check, Findings};
use crate::series::{Series, bytes};

const TAR_ZSTD: &str = "tar -C \"$0\" -cf - . | zstd -3 -T0 -q -o \"$1\"";
const TAR_PIGZ: &str = "tar -C \"$0\" -cf - . | pigz -1 > \"$1\"";

pub(super) fn zstd(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let ours = against_tar(bench, &bench.npm()?, (Format::Zstd, Cache::Warm), 1.05, findings)?;
    findings.check(Check::memory(&ours, 150));
    Ok(())
}

pub(super) fn gzip(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let ours = against_tar(bench, &bench.npm()?, (Format::Gzip, Cache::Warm), 0.55, findings)?;
    findings.check(Check::memory(&ours, 150));
    Ok(())
}

pub(super) fn cold_page_cache(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    super::needs_root(bench, "emptying the page cache")?;
    against_tar(bench, &bench.npm()?, (Format::Zstd, Cache::Cold), 0.6, findings).map(drop)
}

pub(super) fn small_files(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let ours = against_tar(bench, &bench.small_files()?, (Format::Zstd, Cache::Warm), 0.4, findings)?;
    findings.check(Check::memory(&ours, 200));
    Ok(())
}

pub(super) fn large_file(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let ours = against_tar(bench, &bench.large_file()?, (Format::Zstd, Cache::Warm), 1.0, findings)?;
    findings.check(Check::memory(&ours, 150));
    Ok(())
}

/// What the page cache has of the files before a run.
#[derive(Clone, Copy, PartialEq)]
enum Cache {
    Warm,
    Cold,
}

/// The exporter into an OCI layout, which may take `limit` times as long as tar and a compressor into a file. Both write to
/// the same file system.
fn against_tar(
    bench: &Bench,
    layers: &Path,
    (format, cache): (Format, Cache),
    limit: f64,
    findings: &mut Findings,
) -> anyhow::Result<Series> {
    let mut app = App::new(bench, "app", layers, Caching::No)?;
    app.use_layouts()?;
    let output = bench.folder("tar")?.join("layer");
    let (script, name) = match format {
        Format::Zstd => (TAR_ZSTD, "`tar \\| zstd -3 -T0`"),
        Format::Gzip => (TAR_PIGZ, "`tar \\| pigz -1`"),
    };
    let ours = Contender::new("Longshore's `exporter` into a layout", || {
        remove(&app.layout("app"))?;
        clear(bench, cache)?;
        Ok(app.exporter(&bench.phase("exporter"), "app", format))
    });
    let peer = Contender::new(name, || {
        remove(&output)?;
        clear(bench, cache)?;
        Ok(shell(script, [app.layer("tree"), output.clone()]))
    });
    let mut contenders = [ours, peer];
    let series = in_turn_again(bench, &mut contenders)?;
    findings.all(&series);
    let blob = largest(&app.layout("app").join("blobs/sha256"))?;
    findings.note(format!(
        "The layer has {}, the file of {name} {}.",
        bytes(blob),
        bytes(fs_err::metadata(&output)?.len())
    ));
    within(bench, (&mut contenders[0], &series[0]), (&series[1], limit), findings)?;
    let [ours, _] = series;
    Ok(ours)
}

/// Checks that a program takes at most `limit` times as long as its peer, and says where its time goes when it does not.
fn within(
    bench: &Bench,
    (contender, ours): (&mut Contender<'_>, &Series),
    (peer, limit): (&Series, f64),
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let check = Check::ratio("wall", ours, peer, limit);
    let met = check.met;
    findings.check(check);
    if met { Ok(()) } else { profile::explain(bench, contender, (peer, limit), findings) }
}

fn clear(bench: &Bench, cache: Cache) -> anyhow::Result<()> {
    if cache == Cache::Cold { bench.drop_caches() } else { Ok(()) }
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
    let place = RefCell::new((App::new(bench, "app", &layers, Caching::No)?, None::<Registry>));
    let export = Contender::new("Longshore's `exporter` into a layout", || {
        remove(&alone.layout("app"))?;
        Ok(alone.exporter(&bench.phase("exporter"), "app", Format::Zstd))
    });
    let push = |name: &str, start: fn() -> Registry| {
        let place = &place;
        Contender::new(name, move || {
            let (app, registry) = &mut *place.borrow_mut();
            // An empty registry each time, whose predecessor is gone.
            registry.take();
            let new = registry.insert(start());
            let host = new.server.host();
            app.use_registry(new, host)?;
            Ok(app.exporter(&bench.phase("exporter"), "app", Format::Zstd))
        })
    };
    let in_memory = "Longshore's `exporter` into docker-registry, whose files are in memory";
    let mut contenders = [
        export,
        push("Longshore's `exporter` into docker-registry", Registry::start),
        push(in_memory, Registry::start_in_memory),
    ];
    let series = in_turn_again(bench, &mut contenders)?;
    findings.all(&series);
    let [alone, pushed, in_memory] = series;
    within(bench, (&mut contenders[1], &pushed), (&alone, 1.15), findings)?;
    findings.check(Check::memory(&pushed, 150));
    let ratio = in_memory.wall() / alone.wall();
    findings.note(format!(
        "The registry computes digests on the same cores. Where its files are in memory, so that it does not wait for the disk \
         after the last byte, it is {ratio:.2} ×."
    ));
    Ok(())
}
