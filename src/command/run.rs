//! `longshore run`: an app image, started in a sandbox.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use anyhow::Context;
use longshore_image::Platform;
use longshore_sandbox::{IdMapping, OnSignal, SandboxError, SignalForwarder, Stdio};

use crate::container::{Assignment, ContainerOptions, find_user, read_environment_file, sandbox_of};
use crate::directories::Directories;
use crate::images::{Images, Location};
use crate::rootfs::RootFilesystems;
use crate::settings::{PullPolicy, Settings};

/// The arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArguments {
    /// The image, of the local store or a registry, or `oci:DIRECTORY`
    image: Location,
    /// Start this process type instead of the default one
    #[arg(long, value_name = "TYPE")]
    process: Option<String>,
    /// Set a variable; without a value it is taken from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<Assignment>,
    /// Set the variables of a file, one in each line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// What the app can reach
    #[arg(long, value_enum, default_value = "host")]
    network: NetworkArgument,
    /// When the registry is asked for the image
    #[arg(long, value_enum, value_name = "POLICY")]
    pull_policy: Option<PullPolicy>,
    /// Arguments in place of those of the image
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NetworkArgument {
    /// What this machine can reach
    Host,
    /// Nothing
    None,
}

/// Runs the image to its end; the exit code is its own, or 128 and the signal that ended it.
pub(crate) fn run(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let forwarder = SignalForwarder::start().context("cannot take over the signals of this process")?;
    let directories = Directories::of_user()?;
    let settings = Settings::read(&directories)?;
    let images = Images::open(&directories, &settings)?;
    let policy = arguments.pull_policy.or(settings.pull_policy).unwrap_or_default();
    let found = images.get(&arguments.image, &Platform::host(), policy, "image")?;

    let cache = RootFilesystems::new(&directories.unpacked(), IdMapping::detect(0, 0));
    let layers = cache.layers(&found, images.local(), &arguments.image, &BTreeSet::new())?;
    let _syncing = layers.sync_old();
    let user = find_user(found.image.config.user(), &layers.paths)?;
    let process = arguments.process.clone();
    let options = options(arguments)?;
    let spec =
        sandbox_of(&found.image.config, &user, layers.paths, &directories.cache.join("sandboxes"), options)?;

    let mapping = IdMapping::detect(user.uid, user.gid);
    let running = match longshore_sandbox::start(&spec, &mapping, Stdio::Inherit) {
        Err(SandboxError::Command { command, source }) => {
            tracing::error!("cannot start {} of the image: {source}", command.display());
            if let Some(process) = process {
                tracing::error!("the image may have no process of type `{process}`");
            }
            // As a shell tells it.
            let code = if source.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
            return Ok(ExitCode::from(code));
        }
        running => running?,
    };
    forwarder.attach(&running, OnSignal::PassOn)?;
    Ok(exit_code(running.wait()?))
}

fn options(arguments: RunArguments) -> anyhow::Result<ContainerOptions> {
    let mut environment = Vec::new();
    for file in &arguments.env_file {
        environment.extend(read_environment_file(file)?);
    }
    environment.extend(arguments.env);
    Ok(ContainerOptions {
        process: arguments.process,
        environment: environment.into_iter().filter_map(Assignment::resolve).collect(),
        arguments: arguments.arguments,
        isolated: arguments.network == NetworkArgument::None,
    })
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
