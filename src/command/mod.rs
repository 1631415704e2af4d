//! The commands: one file each, with its arguments.

mod base;
mod build;
mod builder;
mod completion;
mod config;
mod doctor;
mod image;
mod inspect;
mod rebase;
mod run;
mod shared;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::build::lifecycle_code;
use crate::output::{self, OutputArguments};

/// Turn an application's source into an OCI image with Cloud Native Buildpacks, without a container daemon
#[derive(Debug, Parser)]
#[command(name = "longshore", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an app's source into an image
    Build(Box<build::BuildArguments>),
    /// Make build and run images out of Debian packages
    #[command(subcommand)]
    Base(base::BaseCommand),
    /// Make and inspect builders
    #[command(subcommand, visible_alias = "builders")]
    Builder(builder::BuilderCommand),
    /// Show what an app image is made of
    #[command(visible_alias = "inspect-image")]
    Inspect(inspect::InspectArguments),
    /// Put app images on newer run images, without building
    Rebase(Box<rebase::RebaseArguments>),
    /// List, name, copy and remove images
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Show and change the settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Start an app image in a sandbox
    Run(run::RunArguments),
    /// Check what this machine allows, and say what to do about the rest
    Doctor,
    /// Print the completion script of a shell
    Completion(completion::Arguments),
}

/// A mistake in how the command was called: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// Runs the command the arguments ask for. The exit code is 0, 2 for wrong usage, the lifecycle's own where a phase
/// failed, and 1 for everything else.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let mut printed = arguments.output;
    // What machines read is not mixed with what people do.
    printed.quiet |= matches!(&arguments.command, Command::Rebase(rebase) if rebase.prints_json());
    output::start(printed);
    let outcome = match arguments.command {
        Command::Build(build) => build::run(*build, arguments.output).map(|()| ExitCode::SUCCESS),
        Command::Base(command) => base::run(command).map(|()| ExitCode::SUCCESS),
        Command::Builder(command) => builder::run(command).map(|()| ExitCode::SUCCESS),
        Command::Inspect(arguments) => inspect::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Rebase(arguments) => rebase::run(&arguments),
        Command::Image(command) => image::run(command).map(|()| ExitCode::SUCCESS),
        Command::Config(command) => config::run(command).map(|()| ExitCode::SUCCESS),
        Command::Run(arguments) => run::run(arguments),
        Command::Doctor => doctor::run(),
        Command::Completion(arguments) => completion::run(&arguments).map(|()| ExitCode::SUCCESS),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let code = |cause: &(dyn std::error::Error + 'static)| {
        if cause.is::<UsageError>() { Some(2) } else { lifecycle_code(cause) }
    };
    error.chain().find_map(code).unwrap_or(1)
}
