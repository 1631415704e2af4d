//! The process launcher: the entry point of app images.
//!
//! It selects a process, gives it the environment that the buildpacks prepared, and becomes it, so that signals and
//! the exit code are the process's own. Spec: platform.md "`launcher`", buildpack.md "Launch".

mod direct;
mod error;
mod exec_d;
mod inputs;
mod layers;
mod select;
mod shell;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use longshore_cnb::metadata_toml::LaunchMetadata;

use crate::error::LaunchError;
use crate::inputs::Inputs;
use crate::layers::LaunchLayers;

fn main() -> ExitCode {
    let Err(error) = launch();
    report("ERROR: ", "\u{1b}[31;1m", &error.to_text());
    ExitCode::from(error.exit_code())
}

/// Becomes the process, or says why it cannot.
fn launch() -> Result<std::convert::Infallible, LaunchError> {
    let inputs = Inputs::from_environment()?;
    if inputs.has_process_type {
        report(
            "Warning: ",
            "\u{1b}[33;1m",
            "CNB_PROCESS_TYPE has no effect: start '/cnb/process/<type>' to select a process type",
        );
    }
    let metadata = LaunchMetadata::read(&inputs.layers)?;
    let layers = LaunchLayers::find(&inputs.layers, &metadata.buildpacks)?;
    let start = select::select(&inputs, &metadata)?;

    std::env::set_current_dir(&inputs.app)
        .map_err(|source| LaunchError::AppDirectory { path: inputs.app.clone(), source })?;
    let mut environment = inputs::launch_environment(std::env::vars_os());
    layers.apply_environment(&mut environment, start.process_type.as_deref())?;
    for executable in layers.files("exec.d", start.process_type.as_deref())? {
        exec_d::run(&executable, &mut environment)?;
    }
    if start.direct {
        return direct::exec(&start, &environment);
    }
    let profiles = shell::profiles(&layers, &inputs.app, start.process_type.as_deref())?;
    shell::exec(&inputs.program, &profiles, &start, &environment)
}

/// Writes a line to the standard error, where a process's own complaints go too. Nothing can be done if that fails.
fn report(prefix: &str, style: &str, text: &str) {
    let mut stderr = std::io::stderr().lock();
    let plain = inputs::is_true("CNB_NO_COLOR") || !stderr.is_terminal();
    let (style, reset) = if plain { ("", "") } else { (style, "\u{1b}[0m") };
    let _ = writeln!(stderr, "{style}{prefix}{reset}{text}");
}
