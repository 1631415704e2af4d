//! Rebases: nothing but manifests and configurations is needed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use longshore_test_support::layout;
use serde_json::Value;

use crate::app::{App, Caching, Format, push_run_image, small_layer};
use crate::bench::{Bench, remove, shell};
use crate::contest::{Contender, in_turn};
use crate::data::BUILDPACK;
use crate::measure::quietly;
use crate::registry::Registry;
use crate::report::{Check, Findings, count};

/// Layers of the image that is rebased, of which some are the app's own.
const LAYERS: usize = 100;
const APP_LAYERS: usize = 20;
/// Layers of each of the many images: as many as apps have.
const FEW_LAYERS: usize = 30;

/// An app image of many layers in a registry, and its run image.
pub(super) struct Hundred {
    pub(super) registry: Registry,
}

impl Hundred {
    pub(super) fn new(bench: &Bench) -> anyhow::Result<Self> {
        Self::of(bench, LAYERS)
    }

    fn of(bench: &Bench, count: usize) -> anyhow::Result<Self> {
        let registry = Registry::start();
        let layers = bench.folder("small-layers")?;
        for index in 0..APP_LAYERS {
            let layer = layers.join(BUILDPACK).join(format!("{index:02}"));
            fs_err::create_dir_all(&layer)?;
            fs_err::write(layer.join("file"), format!("layer {index}\n"))?;
        }
        let mut app = App::new(bench, "app", &layers, Caching::No)?;
        app.use_registry(&registry, registry.line.host())?;
        let export = || quietly(&mut app.exporter(&bench.phase("exporter"), "app", Format::Zstd));
        export()?;
        // The exporter adds layers of its own; the run image fills up what is left.
        let own = registry.layers("app", "latest")?.len() - 1;
        let layers: Vec<_> = (0..count - own)
            .map(|index| small_layer(&format!("file-{index}"), &format!("layer {index}\n")))
            .collect();
        push_run_image(bench, &registry, "run:latest", &layers)?;
        let hundred = Self { registry };
        app.analyze("app")?;
        export()?;
        anyhow::ensure!(
            hundred.registry.layers("app", "latest")?.len() == count,
            "the image should have {count} layers"
        );
        Ok(hundred)
    }

    /// The rebase of the app image onto a new version of the run image, which is released now.
    pub(super) fn rebase(&self, bench: &Bench, version: u64) -> anyhow::Result<Command> {
        self.release(version)?;
        let mut command = isolated(bench)?;
        command.arg("rebase").arg(self.registry.name("app")).arg("--publish");
        Ok(command)
    }

    /// Releases a version of the run image as distributions do: the layer that has changed is a new one.
    fn release(&self, version: u64) -> anyhow::Result<()> {
        let mut manifest = self.registry.get("/v2/run/manifests/latest")?;
        let digest = manifest["config"]["digest"].as_str().context("a run image without configuration")?;
        let mut config = self.registry.get(&format!("/v2/run/blobs/{digest}"))?;
        let layer = small_layer("version", &format!("version {version}\n"));
        let last = manifest["layers"].as_array().map_or(0, Vec::len).saturating_sub(1);
        config["rootfs"]["diff_ids"][last] = layout::digest(&layer).into();
        let layer_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        manifest["layers"][last] = self.registry.push_blob("run", &layout::gzip(&layer), layer_type)?;
        let config = serde_json::to_vec(&config)?;
        manifest["config"] =
            self.registry.push_blob("run", &config, "application/vnd.oci.image.config.v1+json")?;
        self.registry.put_manifest("run", "latest", &manifest)
    }

    /// The same image under another name of its repository, by skopeo.
    pub(super) fn copy(&self) -> Command {
        let name = |name: &str| format!("docker://{}", self.registry.name(name));
        let mut command = Command::new("skopeo");
        command.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ]);
        command.arg(name("app:latest")).arg(name("app:copy"));
        command
    }
}

/// Where Longshore keeps the configurations that it read or wrote.
fn known_configurations(bench: &Bench) -> PathBuf {
    bench.place.join("home/cache/longshore/configs")
}

/// Longshore with data, caches and settings of its own.
pub(super) fn isolated(bench: &Bench) -> anyhow::Result<Command> {
    let mut command = Command::new(&bench.longshore);
    for (variable, name) in
        [("XDG_DATA_HOME", "data"), ("XDG_CACHE_HOME", "cache"), ("XDG_CONFIG_HOME", "config")]
    {
        let folder = bench.place.join("home").join(name);
        fs_err::create_dir_all(&folder)?;
        command.env(variable, folder);
    }
    command.env("CNB_REGISTRY_AUTH", "{}").env("NO_COLOR", "1");
    Ok(command)
}

pub(super) fn hundred_layers(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let hundred = Hundred::new(bench)?;
    let registry = &hundred.registry;
    let layers = registry.layers("app", "latest")?;
    let other = "team/other";
    spread(registry, other, 0)?;
    let mut version = 0;
    let ours = Contender::new("Longshore's `rebase`", || {
        version += 1;
        hundred.rebase(bench, version)
    });
    let peer = Contender::new("`skopeo copy` of the image", || Ok(hundred.copy()));
    let [ours, peer] = in_turn(bench, [ours, peer])?;
    // Requests are counted in runs of their own, in which nothing else is asked for.
    let (mut first, mut next, mut stranger) = (Counts::default(), Counts::default(), Counts::default());
    for _ in 0..2 {
        version += 1;
        first.count(registry, &layers, hundred.rebase(bench, version)?)?;
        version += 1;
        let rebase = hundred.rebase(bench, version)?;
        remove(&known_configurations(bench))?;
        stranger.count(registry, &layers, rebase)?;
        version += 1;
        let rebase = hundred.rebase(bench, version)?;
        let mut before = isolated(bench)?;
        quietly(before.arg("rebase").arg(registry.name(other)).arg("--publish"))?;
        next.count(registry, &layers, rebase)?;
    }
    let before = registry.requests();
    quietly(&mut hundred.copy())?;
    let copied = registry.requests() - before;
    findings.series(&ours).series(&peer);
    findings.check(Check::seconds("wall", &ours, 0.2));
    for (what, counts) in [("first onto a new run image", &first), ("onto one rebased onto before", &next)] {
        findings.check(Check::at_most(&format!("requests, {what}"), counts.all, 6, count));
        findings.check(Check::at_most(&format!("GETs of blobs, {what}"), counts.blobs_read, 0, count));
    }
    let layers_read = first.layers_read + next.layers_read + stranger.layers_read;
    findings.check(Check::at_most("GETs of layers, in all", layers_read, 0, count));
    findings.note(format!(
        "`skopeo copy` of the image to another tag made {} requests. The blob that the first rebase of a machine onto \
         a new run image reads is that one's configuration, which is kept from then on. On a machine that has not seen the \
         app image either, a rebase made {} requests, {} of them GETs of configurations. In each one request mounts the \
         layer that is new in the run image.",
        copied.all, stranger.all, stranger.blobs_read
    ));
    Ok(())
}

/// The most that runs asked for.
#[derive(Debug, Default)]
struct Counts {
    all: u64,
    blobs_read: u64,
    layers_read: u64,
}

impl Counts {
    fn count(&mut self, registry: &Registry, layers: &[String], mut command: Command) -> anyhow::Result<()> {
        let (before, reads) = (registry.requests(), registry.reads_of(layers));
        quietly(&mut command)?;
        self.layers_read += registry.reads_of(layers) - reads;
        let asked = registry.requests() - before;
        self.all = self.all.max(asked.all);
        self.blobs_read = self.blobs_read.max(asked.blobs_read);
        Ok(())
    }
}

pub(super) fn many_images(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let images = if bench.options.quick { 5 } else { 200 };
    let hundred = Hundred::of(bench, FEW_LAYERS)?;
    let registry = &hundred.registry;
    let names: Vec<String> = (0..images).map(|index| format!("team/app-{index}")).collect();
    for (index, name) in names.iter().enumerate() {
        spread(registry, name, index)?;
    }
    let list = bench.place.join("images");
    fs_err::write(&list, names.iter().map(|name| registry.name(name) + "\n").collect::<String>())?;
    let in_one_call = bench.has_option(&["rebase"], "--from-file")?;
    let mut version = 0;
    let what = if in_one_call {
        "Longshore's `rebase --from-file`"
    } else {
        "Longshore's `rebase`, one after the other"
    };
    let ours = Contender::new(what, || {
        version += 1;
        hundred.release(version)?;
        let mut command = isolated(bench)?;
        if in_one_call {
            command.args(["rebase", "--publish", "--from-file"]).arg(&list);
            return Ok(command);
        }
        let script = "while read -r image; do \"$0\" rebase \"$image\" --publish; done < \"$1\"";
        let mut loop_ = shell(script, [bench.longshore.as_os_str(), list.as_os_str()]);
        loop_.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ok(loop_)
    });
    let [ours] = in_turn(bench, [ours])?;
    all_are_rebased(registry, &names)?;
    findings.series(&ours);
    findings.check(Check::seconds("wall", &ours, 8.0));
    if !in_one_call {
        findings.check(Check::missing("all in one call", "`rebase` has no `--from-file`", "one call"));
    }
    findings.note(format!(
        "{images} repositories, each with an image of {FEW_LAYERS} layers and a configuration of its own."
    ));
    Ok(())
}

/// Puts the app image into another repository, with a configuration that no other has.
fn spread(registry: &Registry, repository: &str, index: usize) -> anyhow::Result<()> {
    let mut manifest = registry.get("/v2/app/manifests/latest")?;
    for layer in manifest["layers"].as_array().context("a manifest without layers")? {
        registry.mount("app", repository, layer["digest"].as_str().unwrap_or_default())?;
    }
    let digest =
        manifest["config"]["digest"].as_str().context("a manifest without configuration")?.to_owned();
    let mut config = registry.get(&format!("/v2/app/blobs/{digest}"))?;
    config["config"]["Labels"]["bench.index"] = Value::String(index.to_string());
    let media_type =
        manifest["config"]["mediaType"].as_str().context("a configuration without type")?.to_owned();
    manifest["config"] = registry.push_blob(repository, config.to_string().as_bytes(), &media_type)?;
    registry.put_manifest(repository, "latest", &manifest)
}

/// All images are on the newest run image in the end: none was left out.
fn all_are_rebased(registry: &Registry, names: &[String]) -> anyhow::Result<()> {
    let newest = registry.layers("run", "latest")?.pop().context("a run image without layers")?;
    for name in names {
        anyhow::ensure!(registry.layers(name, "latest")?.contains(&newest), "{name} was not rebased");
    }
    Ok(())
}
