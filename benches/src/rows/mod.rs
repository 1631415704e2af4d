//! The rows of the table, and what each must reach.

mod build;
mod export;
mod lifecycle;
mod peers;
mod rebase;
mod rebuild;
mod restore;
mod round_trips;
mod sandbox;
mod unpack;

use anyhow::{Context, bail};

use crate::bench::Bench;
use crate::machine;
use crate::report::{Findings, Report};

/// A row of the table.
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) scenario: &'static str,
    run: fn(&Bench, &mut Findings) -> anyhow::Result<()>,
}

const fn row(
    id: &'static str,
    scenario: &'static str,
    run: fn(&Bench, &mut Findings) -> anyhow::Result<()>,
) -> Row {
    Row { id, scenario, run }
}

/// All rows in their order.
pub(crate) const ALL: &[Row] = &[
    row("cold-zstd", "cold export, npm tree, zstd", export::zstd),
    row("cold-gzip", "cold export, npm tree, gzip", export::gzip),
    row("push", "cold export, pushed to docker-registry", export::push),
    row("cold-cache", "cold export, cold page cache", export::cold_page_cache),
    row("small-files", "200,000 small files", export::small_files),
    row("large-file", "one 2 GiB file", export::large_file),
    row("unchanged", "no-change rebuild, 20 layers", rebuild::unchanged),
    row("one-file", "one changed file, 20 layers", rebuild::one_file),
    row("delta", "one changed file of an app, as a delta", rebuild::delta),
    row("restore", "restore of a 480 MB cached layer, same machine", restore::run),
    row("rebase", "rebase, 100 layers, one registry", rebase::hundred_layers),
    row("rebase-200", "rebase of 200 images", rebase::many_images),
    row("unpack", "unpack of a builder image", unpack::run),
    row("pull", "pull and unpack of a builder image", unpack::pull),
    row("round-trips", "50 ms round trips, rebuild and rebase", round_trips::run),
    row("build", "whole `build` of the Node fixture, warm", build::run),
    row("sandbox", "start of a sandbox", sandbox::run),
    // Before the row that removes a daemon's copies of the tree: see `Creation::new_container`.
    row("lifecycle", "the reference lifecycle on the npm tree", lifecycle::run),
    row("peers", "other programs on the npm tree", peers::run),
];

/// The rows of these names, or all.
pub(crate) fn wanted(names: &[String]) -> anyhow::Result<Vec<&'static Row>> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let find = |name: &String| {
        let row = ALL.iter().find(|row| row.id == name);
        row.with_context(|| format!("there is no row `{name}`; --list lists them"))
    };
    names.iter().map(find).collect()
}

/// Runs a row; one that fails says why and ends no other.
pub(crate) fn run(row: &Row, bench: &Bench) -> Report {
    let load = machine::load(bench.options.quick);
    let mut findings = Findings::default();
    // Servers and clients of the tests stop at what they do not expect.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (row.run)(bench, &mut findings)));
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(panic) => {
            Some(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned()))
        }
    };
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M").to_string();
    Report {
        id: row.id.to_owned(),
        scenario: row.scenario.to_owned(),
        date,
        load: load.text,
        was_busy: load.is_busy,
        failure,
        findings,
    }
}

/// What a row needs to be root for.
fn needs_root(bench: &Bench, what: &str) -> anyhow::Result<()> {
    if bench.is_root() { Ok(()) } else { bail!("{what} needs root") }
}
