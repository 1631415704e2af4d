//! `longshore base`: build and run images out of Debian packages.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Subcommand;
use longshore_image::{
    BlobSink, LayerFormat, LayerSource, ManifestFormat, Platform, Reference, Timestamp, layer,
};

use super::shared::LayerFormatArgument;
use crate::base::{self, BaseConfiguration, BootstrapRequest, Role};
use crate::creation_time::creation_time;
use crate::directories::Directories;
use crate::images::{Images, NewImage};
use crate::output;
use crate::settings::Settings;

/// What to do with base images.
#[derive(Debug, Subcommand)]
pub(crate) enum BaseCommand {
    /// Make the images NAME-build and NAME-run
    Create(CreateArguments),
}

/// The arguments of `base create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArguments {
    /// What the images are called, before `-build` and `-run`; a tag stays behind those
    name: Reference,
    /// The distribution, packages, users and labels
    #[arg(short, long, value_name = "FILE", default_value = "base.toml")]
    config: PathBuf,
    /// Push the images to their registry instead of keeping them in the local store
    #[arg(long)]
    publish: bool,
    #[command(flatten)]
    layer_format: LayerFormatArgument,
}

/// Runs the command.
pub(crate) fn run(command: BaseCommand) -> anyhow::Result<()> {
    match command {
        BaseCommand::Create(arguments) => create(&arguments),
    }
}

fn create(arguments: &CreateArguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let base = BaseConfiguration::read(&arguments.config)?;
    let directories = Directories::of_user()?;
    let images = Images::open(&directories, &Settings::read(&directories)?)?;
    let platform = base.architecture.as_deref().map_or_else(Platform::host, Platform::linux);
    let job = Job {
        base: &base,
        platform: &platform,
        created: creation_time(None)?,
        format: arguments.layer_format.format(),
        sink: images.local().sink(),
    };
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    tracing::info!("Installing {} packages of {}", platform, base.distribution.suite);
    let (build, run) = thread::scope(|scope| {
        let build = scope.spawn(|| job.image(Role::Build, scratch.path()));
        let run = job.image(Role::Run, scratch.path());
        (build.join().unwrap_or_else(|_| Err(anyhow!("the thread for the build image failed"))), run)
    });
    let (mut build, mut run) = (build?, run?);
    let store = images.destination(arguments.publish)?;
    for (role, image) in [(Role::Build, &mut build), (Role::Run, &mut run)] {
        let reference = name(&arguments.name, role)?;
        let digest = image.put(store.as_ref(), &reference)?;
        tracing::info!("{} image {} {digest}", title(role), output::symbol(reference.familiar()));
    }
    output::took("base create", started.elapsed());
    Ok(())
}

/// `NAME-build[:TAG]` or `NAME-run[:TAG]`.
fn name(name: &Reference, role: Role) -> anyhow::Result<Reference> {
    let tag = name.tag().map_or_else(String::new, |tag| format!(":{tag}"));
    Ok(format!("{}-{}{tag}", name.name(), role.name()).parse()?)
}

const fn title(role: Role) -> &'static str {
    match role {
        Role::Build => "Build",
        Role::Run => "Run",
    }
}

/// What both images have in common.
struct Job<'a> {
    base: &'a BaseConfiguration,
    platform: &'a Platform,
    created: Timestamp,
    format: LayerFormat,
    sink: BlobSink,
}

impl Job<'_> {
    fn image(&self, role: Role, scratch: &Path) -> anyhow::Result<NewImage> {
        let tar = scratch.join(format!("{}.tar", role.name()));
        let request = BootstrapRequest {
            role,
            distribution: &self.base.distribution,
            image: self.base.image(role),
            architecture: &self.platform.architecture,
            epoch: self.created.as_second(),
        };
        base::bootstrap(&request, &tar)?;
        let distribution = base::distribution(&tar)?;
        let config = base::config(self.base, role, self.platform, distribution.as_ref());
        let layer = layer::build(&LayerSource::tar(&tar), self.format, ManifestFormat::Oci, &self.sink)?;
        fs_err::remove_file(&tar)?;
        let mut image = NewImage::new(config, self.created);
        image.add(&layer, &format!("longshore base create ({} image)", role.name()));
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_stands_before_the_tag() {
        for (given, expected) in
            [("team/base", "team/base-build"), ("localhost:5000/base:v1", "localhost:5000/base-build:v1")]
        {
            assert_eq!(name(&given.parse().unwrap(), Role::Build).unwrap().familiar(), expected);
        }
    }
}
