//! `longshore config`: the settings file.

use clap::Subcommand;

use crate::directories::Directories;
use crate::output;
use crate::settings::{PullPolicy, Settings};

/// What to show or change.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show or set the builder that `build` uses when none is named
    DefaultBuilder {
        /// The builder's name; left out, the current one is shown
        builder: Option<String>,
        /// Forget the default builder
        #[arg(long, conflicts_with = "builder")]
        unset: bool,
    },
    /// Show or set when registries are asked for images that the local store has
    PullPolicy {
        /// The policy; left out, the current one is shown
        policy: Option<PullPolicy>,
        /// Go back to the default
        #[arg(long, short, conflicts_with = "policy")]
        unset: bool,
    },
}

/// Shows or changes a setting.
pub(crate) fn run(command: ConfigCommand) -> anyhow::Result<()> {
    let directories = Directories::of_user()?;
    match command {
        ConfigCommand::DefaultBuilder { builder: None, unset: false } => {
            match Settings::read(&directories)?.default_builder {
                Some(builder) => output::result(builder),
                None => tracing::info!(
                    "There is no default builder. Set one with `longshore config default-builder NAME`."
                ),
            }
        }
        ConfigCommand::DefaultBuilder { builder, .. } => {
            let path = Settings::change(&directories, |settings| settings.default_builder = builder)?;
            tracing::info!("Wrote {}", output::symbol(path.display()));
        }
        ConfigCommand::PullPolicy { policy: None, unset: false } => {
            let policy = Settings::read(&directories)?.pull_policy.unwrap_or_default();
            output::result(
                clap::ValueEnum::to_possible_value(&policy)
                    .map_or_else(String::new, |value| value.get_name().to_owned()),
            );
        }
        ConfigCommand::PullPolicy { policy, .. } => {
            let path = Settings::change(&directories, |settings| settings.pull_policy = policy)?;
            tracing::info!("Wrote {}", output::symbol(path.display()));
        }
    }
    Ok(())
}
