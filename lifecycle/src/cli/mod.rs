//! The programs of the lifecycle, as platforms call them: flags and variables in, files and exit codes out.
//!
//! Spec: platform.md "Lifecycle Interface". The phases themselves are in the modules of this crate; this one reads
//! their inputs, gives up privileges, and puts their outputs where platforms expect them.

mod analyze;
mod connected;
mod create;
mod export;
mod extend;
mod failure;
mod flags;
mod inputs;
mod local;
mod log;
mod phase;
mod privileges;
mod rebase;
mod restore;

use std::ffi::OsString;

use longshore_cnb::PlatformApi;
use tracing_subscriber::filter::LevelFilter;

use self::failure::Failure;
use self::flags::FlagError;
use self::inputs::Inputs;
use self::phase::Phase;
use crate::ExitCode;

/// Whether a program of that name is the lifecycle: `lifecycle` itself, or one of its phases.
#[must_use]
pub fn is_program(program: &str) -> bool {
    Phase::of_program(program).is_some() || is_multiplexer(program)
}

fn is_multiplexer(program: &str) -> bool {
    std::path::Path::new(program).file_stem().is_some_and(|name| name == "lifecycle")
}

/// Runs the phase that the name of the program says, or its first argument.
///
/// `version` is what `-version` prints; `arguments` do not include the name of the program.
pub fn main(
    program: &str,
    arguments: impl IntoIterator<Item = OsString>,
    version: &'static str,
) -> std::process::ExitCode {
    match run(program, arguments, version) {
        Ok(()) => ExitCode::Success,
        Err(failure) => {
            if !failure.text.is_empty() {
                tracing::error!("{}", failure.text);
            }
            failure.code
        }
    }
    .into()
}

fn run(
    program: &str,
    arguments: impl IntoIterator<Item = OsString>,
    version: &'static str,
) -> Result<(), Failure> {
    let arguments = arguments
        .into_iter()
        .map(|argument| argument.into_string().map_err(|argument| not_text(&argument)))
        .collect::<Result<Vec<_>, _>>();
    let api = platform_api();
    let is_version = |argument: &String| argument == "-version" || argument == "--version";
    if api.is_err() && arguments.as_ref().is_ok_and(|arguments| arguments.first().is_some_and(is_version)) {
        return print_version(version);
    }
    let mut arguments = arguments.inspect_err(|_| begin_default_log())?;
    let phase = match Phase::of_program(program) {
        Some(phase) => phase,
        None => match arguments.first().cloned() {
            Some(argument) if is_version(&argument) => return print_version(version),
            first => {
                let phase = subcommand(first).inspect_err(|_| begin_default_log())?;
                arguments.remove(0);
                phase
            }
        },
    };
    let api = api.inspect_err(|_| begin_default_log())?;
    run_phase(phase, api, arguments, version)
}

fn run_phase(
    phase: Phase,
    api: PlatformApi,
    arguments: Vec<String>,
    version: &'static str,
) -> Result<(), Failure> {
    let parsed = flags::parse(phase, api, arguments).map_err(|error| flag_failure(&error, phase, api))?;
    if parsed.flags.iter().any(|(name, value)| *name == "version" && flags::boolean(value) == Some(true)) {
        return print_version(version);
    }
    let mut inputs = Inputs::new(api, &parsed, &|name| std::env::var_os(name));
    inputs.version = version;
    let level = log::level(&inputs.log_level);
    log::begin(level.unwrap_or(LevelFilter::INFO), inputs.no_color);
    if level.is_none() {
        let text = format!("failed to parse log level: '{}' is none", inputs.log_level);
        return Err(Failure::text(ExitCode::Failed, text));
    }
    for argument in parsed.positional.iter().filter(|argument| argument.starts_with('-')) {
        tracing::warn!(
            "'{argument}' stands behind the first argument that is no flag, so it is no flag either; did you mean to \
             put it before?"
        );
    }
    if !phase.takes(inputs.images.len()) {
        let text = format!(
            "failed to parse arguments: {} does not take {} arguments",
            phase.program(),
            inputs.images.len()
        );
        return Err(Failure::text(ExitCode::InvalidArguments, text));
    }
    tracing::debug!("Starting {}...", phase.program());
    match phase {
        Phase::Detect => local::detect(&inputs),
        Phase::Build => local::build(&inputs),
        Phase::Analyze => analyze::run(&inputs),
        Phase::Restore => restore::run(&inputs),
        Phase::Export => export::run(&mut inputs),
        Phase::Create => create::run(&mut inputs),
        Phase::Rebase => rebase::run(&mut inputs),
        Phase::Extend => extend::run(&inputs),
    }
}

/// Spec: platform.md "Platform API Compatibility": evaluated before any other input.
fn platform_api() -> Result<PlatformApi, Failure> {
    let text = std::env::var("CNB_PLATFORM_API").unwrap_or_default();
    PlatformApi::parse(&text).map_err(|error| {
        Failure::new(ExitCode::IncompatiblePlatformApi, "use the platform API in CNB_PLATFORM_API", &error)
    })
}

fn subcommand(argument: Option<String>) -> Result<Phase, Failure> {
    let known = argument.as_deref().and_then(Phase::of_subcommand);
    known.ok_or_else(|| {
        let text = match argument {
            Some(argument) => format!("failed to recognize phase '{argument}'"),
            None => "failed to parse arguments: no phase was given".to_owned(),
        };
        Failure::text(ExitCode::InvalidArguments, format!("{text}; phases are {}", Phase::subcommands()))
    })
}

fn flag_failure(error: &FlagError, phase: Phase, api: PlatformApi) -> Failure {
    begin_default_log();
    let code = match error {
        FlagError::Help => ExitCode::Success,
        _ => ExitCode::InvalidFlags,
    };
    let usage = flags::usage(phase, api);
    match error {
        FlagError::Help => {
            tracing::info!("{usage}");
            Failure::text(code, "")
        }
        error => Failure::text(code, format!("{error}\n{usage}")),
    }
}

fn not_text(argument: &std::ffi::OsStr) -> Failure {
    let text = format!("failed to parse arguments: '{}' is not UTF-8", argument.display());
    Failure::text(ExitCode::InvalidArguments, text)
}

/// For what is reported before the flags are known.
fn begin_default_log() {
    let is_set = |name: &str| std::env::var(name).ok().and_then(|value| flags::boolean(&value)) == Some(true);
    log::begin(LevelFilter::INFO, is_set("CNB_NO_COLOR"));
}

fn print_version(version: &'static str) -> Result<(), Failure> {
    begin_default_log();
    tracing::info!("{version}");
    Ok(())
}
