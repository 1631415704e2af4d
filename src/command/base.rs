//! `longshore base`: build and run images out of Debian packages.

use std::path::PathBuf;

use clap::Subcommand;

use crate::base::{BaseConfiguration, BootstrapRequest, Role, bootstrap};

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
    name: String,
    /// The distribution, packages, users and labels
    #[arg(short, long, value_name = "FILE", default_value = "base.toml")]
    config: PathBuf,
    /// Push the images to their registry instead of keeping them in the local store
    #[arg(long)]
    publish: bool,
}

/// Runs the command.
pub(crate) fn run(command: BaseCommand) -> anyhow::Result<()> {
    match command {
        BaseCommand::Create(arguments) => create(&arguments),
    }
}

fn create(arguments: &CreateArguments) -> anyhow::Result<()> {
    let configuration = BaseConfiguration::read(&arguments.config)?;
    let scratch = tempfile::tempdir()?;
    for role in [Role::Build, Role::Run] {
        let request = BootstrapRequest {
            role,
            distribution: &configuration.distribution,
            image: configuration.image(role),
            architecture: configuration.architecture.as_deref().unwrap_or("amd64"),
            epoch: 315_532_801,
        };
        bootstrap(&request, &scratch.path().join(role.name()))?;
    }
    Ok(())
}
