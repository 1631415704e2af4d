//! Builds after the first: nothing changed, or one file did.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::app::{App, Caching, Format};
use crate::bench::Bench;
use crate::contest::{Contender, in_turn};
use crate::measure::quietly;
use crate::registry::Registry;
use crate::report::{Check, Findings, count};
use crate::series::{bytes, seconds};

/// An app of 20 layers that was exported and cached once.
struct Built<'a> {
    app: App<'a>,
    registry: Registry,
    /// What the first export sent.
    cold_bytes: u64,
    cold_seconds: f64,
}

impl<'a> Built<'a> {
    fn new(bench: &'a Bench) -> anyhow::Result<Self> {
        let mut app = App::new(bench, "app", &bench.twenty()?, Caching::Yes)?;
        let registry = Registry::start();
        app.use_registry(&registry, registry.line.host())?;
        let before = registry.line.passed();
        let cold = crate::measure::measure(
            &app.exporter(&bench.phase("exporter"), "app", Format::Zstd),
            &bench.place,
        )?;
        let cold_bytes = (registry.line.passed() - before).sent;
        app.analyze("app")?;
        Ok(Self { app, registry, cold_bytes, cold_seconds: cold.sample.wall })
    }

    fn export(&self, bench: &Bench) -> Command {
        self.app.exporter(&bench.phase("exporter"), "app", Format::Zstd)
    }
}

pub(super) fn unchanged(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let built = Built::new(bench)?;
    let before = (built.registry.line.passed(), built.registry.requests());
    let contender = Contender::new("Longshore's `exporter`, nothing changed", || {
        built.app.analyze("app")?;
        Ok(built.export(bench))
    });
    let [ours] = in_turn(bench, [contender])?;
    let requests = built.registry.requests() - before.1;
    let sent = (built.registry.line.passed() - before.0).sent;
    let analysis = Contender::new("Longshore's `analyzer` before it", || built.app.analyzer("app"));
    let [analysis] = in_turn(bench, [analysis])?;
    findings.series(&ours).series(&analysis);
    findings.check(Check::seconds("wall", &ours, 0.3));
    findings.check(Check::at_most(
        "requests that carry bytes of blobs, in all runs",
        requests.blobs_written,
        0,
        count,
    ));
    let read = opened(bench, &built.export(bench), &built.app.layers)?;
    findings.check(Check::at_most("bytes read from files of layers", read.bytes, 0, bytes));
    findings.check(Check::at_most("files of layers opened", read.files, 0, count));
    findings.note(format!(
        "The first export of the 20 layers took {} and sent {}; all the rebuilds with their analysis sent {} in {} requests.",
        seconds(built.cold_seconds),
        bytes(built.cold_bytes),
        bytes(sent),
        requests.all
    ));
    Ok(())
}

/// What a program read of the files below a folder.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    files: u64,
    bytes: u64,
}

/// Watches the system calls of a run that is not timed. With `-y`, strace says which file a descriptor is.
fn opened(bench: &Bench, command: &Command, folder: &Path) -> anyhow::Result<Read> {
    let log = bench.place.join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-e", "trace=open,openat,openat2,read,pread64,readv,copy_file_range", "-o"]);
    strace.arg(&log).arg(command.get_program()).args(command.get_args());
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    quietly(&mut strace).context("strace shows which files are read")?;
    // Of the layers alone: the files beside them are the lifecycle's.
    let root = fs_err::canonicalize(folder.join(crate::data::BUILDPACK))?;
    Ok(read_of(&String::from_utf8_lossy(&fs_err::read(&log)?), &root))
}

fn read_of(log: &str, root: &Path) -> Read {
    let inside = |text: &str| {
        let path = text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path);
        // Beside each layer is its file of types, which is read each time.
        path.and_then(|path| Path::new(path).strip_prefix(root).ok().map(PathBuf::from))
            .is_some_and(|path| path.components().count() > 1)
    };
    let mut read = Read::default();
    for line in whole(log) {
        let Some((call, result)) = line.rsplit_once(" = ") else { continue };
        if call.contains("open") {
            read.files +=
                u64::from(inside(result) && !call.contains("O_DIRECTORY") && !call.contains("O_PATH"));
        } else if inside(call) {
            read.bytes +=
                result.split(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
        }
    }
    read
}

/// The calls, each on one line: one that another thread's came between stands on two.
fn whole(log: &str) -> Vec<Cow<'_, str>> {
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut lines = Vec::new();
    for line in log.lines() {
        let thread = line.split(' ').next().unwrap_or_default();
        if let Some(start) = line.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, start);
        } else if let Some((_, end)) = line.split_once(" resumed>") {
            lines.push(format!("{}{end}", begun.remove(thread).unwrap_or_default()).into());
        } else {
            lines.push(line.into());
        }
    }
    lines
}

pub(super) fn one_file(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let built = Built::new(bench)?;
    let changed = built.app.layer("07").join("node_modules");
    let file = first_file(&changed)?;
    let original = fs_err::read(&file)?;
    let outcome = change_and_export(bench, &built, &file, &original, findings);
    // The data is as it was for the rows after this one.
    fs_err::write(&file, original)?;
    outcome
}

fn change_and_export(
    bench: &Bench,
    built: &Built<'_>,
    file: &Path,
    original: &[u8],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let (mut round, mut sent) = (0_u64, built.registry.line.passed().sent);
    let mut most = 0;
    let contender = Contender::new("Longshore's `exporter`, one file changed", || {
        let now = built.registry.line.passed().sent;
        if round > 0 {
            most = most.max(now - sent);
        }
        round += 1;
        let mut text = original.to_vec();
        text.extend_from_slice(format!("// change {round}\n").as_bytes());
        fs_err::write(file, text)?;
        built.app.analyze("app")?;
        sent = built.registry.line.passed().sent;
        Ok(built.export(bench))
    });
    let [ours] = in_turn(bench, [contender])?;
    let sent = most.max(built.registry.line.passed().sent - sent);
    findings.series(&ours);
    let layer = changed_layer(built)?;
    findings.check(Check::part(
        "bytes sent, against the first export",
        (sent, built.cold_bytes),
        0.15,
        bytes,
    ));
    // The configuration, the manifest and the heads of the requests come on top.
    findings.check(Check::at_most(
        "bytes sent, against the changed layer and 64 kB",
        sent,
        layer + 64_000,
        bytes,
    ));
    findings.note(format!(
        "The first export took {} and sent {}. The changed layer has {}.",
        seconds(built.cold_seconds),
        bytes(built.cold_bytes),
        bytes(layer)
    ));
    Ok(())
}

/// The size of the layer `07`, which is the one of that place above the run image.
fn changed_layer(built: &Built<'_>) -> anyhow::Result<u64> {
    let manifest = built.registry.get("/v2/app/manifests/latest")?;
    let digest = manifest["config"]["digest"].as_str().context("an image without configuration")?;
    let config = built.registry.get(&format!("/v2/app/blobs/{digest}"))?;
    let label =
        config["config"]["Labels"]["io.buildpacks.lifecycle.metadata"].as_str().context("no label")?;
    let label: serde_json::Value = serde_json::from_str(label)?;
    let diff_id = &label["buildpacks"][0]["layers"]["07"]["sha"];
    let place =
        config["rootfs"]["diff_ids"].as_array().and_then(|all| all.iter().position(|one| one == diff_id));
    place.and_then(|place| manifest["layers"][place]["size"].as_u64()).context("the image has no layer `07`")
}

/// The first file of a folder or of those in it, by name.
fn first_file(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut paths: Vec<_> =
        fs_err::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in &paths {
        if path.is_file() {
            return Ok(path.clone());
        }
        if path.is_dir()
            && !path.is_symlink()
            && let Ok(file) = first_file(path)
        {
            return Ok(file);
        }
    }
    anyhow::bail!("{} has no file", folder.display())
}

pub(super) fn delta(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    const LIMIT: &str = "≤ 3 %";
    if !bench.has_option(&["build"], "--app-layer")? {
        findings.check(Check::missing(
            "bytes sent, against the first build",
            "`build` has no `--app-layer`",
            LIMIT,
        ));
        return Ok(());
    }
    let build = super::build::TinyBuild::new(bench, Vec::new())?;
    let app = build.environment.path("app");
    let tree = bench.npm()?.join(crate::data::BUILDPACK).join("tree");
    quietly(Command::new("cp").arg("-a").arg(&tree).arg(&app))?;
    let registry = Registry::start();
    let image = registry.name("app");
    let file = first_file(&app)?;
    let sent = || registry.line.passed().sent;
    // A build that makes deltas notes what is in the app for the next one.
    quietly(&mut build.command(&app, &image, &["--publish", "--app-layer", "delta"]))?;
    let cold = sent();
    let mut round = 0;
    let mut start = cold;
    let mut most = 0;
    let contender = Contender::new("Longshore's `build --app-layer delta`, one file changed", || {
        if round > 0 {
            most = most.max(sent() - start);
        }
        round += 1;
        fs_err::write(&file, format!("// change {round}\n"))?;
        start = sent();
        Ok(build.command(&app, &image, &["--publish", "--app-layer", "delta"]))
    });
    let [ours] = in_turn(bench, [contender])?;
    let most = most.max(sent() - start);
    findings.series(&ours);
    findings.check(Check::part("bytes sent, against the first build", (most, cold), 0.03, bytes));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_of_layers_are_found_in_the_log_of_strace() {
        let log = "\
1 openat(3</l/a>, \"x\", O_RDONLY|O_DIRECTORY) = 4</l/a/x>
1 openat(4</l/a/x>, \"f\", O_RDONLY|O_NOFOLLOW) = 5</l/a/x/f>
2 read(5</l/a/x/f>, \"abc\"..., 4096) = 3
2 read(5</l/a/x/f>, \"\", 4096) = 0
1 openat(AT_FDCWD</>, \"/l/a.toml\", O_RDONLY) = 5</l/a.toml>
1 read(5</l/a.toml>, \"abc\", 4096) = 3
1 openat(AT_FDCWD</>, \"/l/b/x\", O_RDONLY) = -1 ENOENT (No such file or directory)
1 read(9</other/f>, \"abc\", 4096) = 3
1 openat(3</l/a>, \"y\", O_RDONLY|O_DIRECTORY <unfinished ...>
2 openat(3</l/a>, \"z\", O_RDONLY|O_DIRECTORY <unfinished ...>
1 <... openat resumed>) = 4</l/a/y>
2 <... openat resumed>) = 6</l/a/z>
";
        assert_eq!(read_of(log, Path::new("/l")), Read { files: 1, bytes: 3 });
    }
}
