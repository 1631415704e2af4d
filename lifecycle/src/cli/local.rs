//! The phases that need no network and no privileges: detector and builder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::inputs::Inputs;
use super::privileges;
use crate::ExitCode;
use crate::ModuleStore;
use crate::build::{BuildInput, build as run_build};
use crate::detect::{DetectInput, DetectOutput, Stage};
use crate::detector::{self, DetectorInput};

pub(super) fn detect(inputs: &Inputs) -> Result<(), Failure> {
    refuse_root("detect")?;
    run_detector(inputs, std::env::vars_os().collect()).map(drop)
}

pub(super) fn build(inputs: &Inputs) -> Result<(), Failure> {
    refuse_root("build")?;
    run_builder(inputs, std::env::vars_os().collect())
}

/// Builds as the user that the process has become, in another environment than it was started with.
pub(super) fn build_in(inputs: &Inputs, environment: Vec<(OsString, OsString)>) -> Result<(), Failure> {
    refuse_root("build")?;
    run_builder(inputs, environment)
}

/// Spec: platform.md "Security Considerations": buildpacks must not run as root.
fn refuse_root(action: &str) -> Result<(), Failure> {
    if privileges::is_root() {
        return Err(Failure::text(
            ExitCode::Failed,
            format!("failed to {action}: refusing to run as root; start it as the user of the build image"),
        ));
    }
    Ok(())
}

pub(super) fn run_detector(
    inputs: &Inputs,
    environment: Vec<(OsString, OsString)>,
) -> Result<DetectOutput, Failure> {
    detector::run(DetectorInput {
        detect: DetectInput {
            platform_api: inputs.platform_api,
            app: inputs.app.clone(),
            platform: inputs.platform.clone(),
            build_config: inputs.build_config.clone(),
            modules: modules(inputs),
            order: inputs.order.clone(),
            system: inputs.system.clone(),
            analyzed: inputs.analyzed.clone(),
            exec_env: inputs.exec_env.clone(),
            os_release: PathBuf::from("/etc/os-release"),
            environment,
            stage: stage(inputs.detect_groups.as_deref(), &inputs.layers)?,
        },
        group: inputs.group.clone(),
        plan: inputs.plan.clone(),
        generated: inputs.generated.clone(),
        run: inputs.run.clone(),
        experimental: inputs.experimental,
        output: None,
    })
    .map_err(|error| match error.exit_code() {
        // The platform knows what to do.
        code @ (ExitCode::Undecided | ExitCode::NotThere) => Failure::text(code, ""),
        code => Failure::new(code, "detect", &error),
    })
}

/// Which stage of a detection this is, when a platform has named one.
fn stage(groups: Option<&str>, layers: &Path) -> Result<Option<Stage>, Failure> {
    let Some(groups) = groups else { return Ok(None) };
    let groups = groups
        .parse()
        .map_err(|error| Failure::new(ExitCode::InvalidArguments, "read CNB_DETECT_GROUPS", &error))?;
    Ok(Some(Stage { groups, progress: layers.join("detection.toml") }))
}

pub(super) fn run_builder(inputs: &Inputs, environment: Vec<(OsString, OsString)>) -> Result<(), Failure> {
    run_build(&BuildInput {
        platform_api: inputs.platform_api,
        app: inputs.app.clone(),
        platform: inputs.platform.clone(),
        build_config: inputs.build_config.clone(),
        modules: modules(inputs),
        layers: inputs.layers.clone(),
        group: inputs.group.clone(),
        plan: inputs.plan.clone(),
        analyzed: inputs.analyzed.clone(),
        exec_env: inputs.exec_env.clone(),
        os_release: PathBuf::from("/etc/os-release"),
        environment,
        output: None,
    })
    .map(drop)
    .map_err(|error| Failure::new(error.exit_code(), "build", &error))
}

fn modules(inputs: &Inputs) -> ModuleStore {
    ModuleStore { buildpacks: inputs.buildpacks.clone(), extensions: inputs.extensions.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_a_number_of_groups() {
        for (groups, expected) in [
            (None, Ok(None)),
            (Some("3"), Ok(Some(3))),
            (Some("three"), Err(ExitCode::InvalidArguments)),
            (Some("-1"), Err(ExitCode::InvalidArguments)),
        ] {
            let stage = stage(groups, Path::new("/layers"));
            let found = stage.as_ref().map(|stage| stage.as_ref().map(|stage| stage.groups));
            assert_eq!(found.map_err(|failure| failure.code), expected, "{groups:?}");
            if let Ok(Some(stage)) = stage {
                assert_eq!(stage.progress, Path::new("/layers/detection.toml"));
            }
        }
    }
}
