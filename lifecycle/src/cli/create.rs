//! `creator`: analyze, detect, restore, build and export in one process. Spec: platform.md "`creator`".

use std::ffi::OsString;

use super::connected::{self, Connection};
use super::failure::Failure;
use super::inputs::Inputs;
use super::{analyze, export, local, privileges, restore};
use crate::ExitCode;

pub(super) fn run(inputs: &mut Inputs) -> Result<(), Failure> {
    let connection = Connection::open(inputs)?;
    let volumes =
        [inputs.cache_directory.as_deref(), inputs.launch_cache.as_deref(), Some(inputs.layers.as_path())];
    connected::give_up_privileges(inputs, &volumes)?;
    let environment = user_environment(inputs);
    let scratch = connected::scratch(inputs)?;
    let cache = connected::cache(inputs, &connection, scratch.path())?;

    tracing::info!("===> ANALYZING");
    let analyzed = analyze::run_analysis(inputs, &connection)?;
    tracing::info!("===> DETECTING");
    let detected = local::run_detector(inputs, environment.clone())?;
    if !detected.group.extensions.is_empty() {
        return Err(Failure::text(
            ExitCode::Detect,
            "failed to detect: detected order contains extensions which is not supported by the creator",
        ));
    }
    if !inputs.skip_layers || inputs.platform_api.restores_store_when_skipping() {
        tracing::info!("===> RESTORING");
        restore::run_restoration(inputs, &detected.group, &analyzed.metadata, cache.as_deref())?;
    }
    tracing::info!("===> BUILDING");
    local::run_builder(inputs, environment)?;
    tracing::info!("===> EXPORTING");
    let names: Vec<String> = inputs.images.iter().chain(&inputs.tags).cloned().collect();
    export::run_export(
        inputs,
        &names,
        &connection,
        &detected.group,
        &analyzed,
        cache.as_deref(),
        scratch.path(),
    )
}

/// The environment of the user that the process has become: root's home is not theirs.
fn user_environment(inputs: &Inputs) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<_> = std::env::vars_os().collect();
    let Some(home) = privileges::home(inputs.uid).filter(|_| inputs.uid != 0) else { return environment };
    environment.retain(|(name, _)| name != "HOME");
    environment.push(("HOME".into(), home.into_os_string()));
    environment
}
