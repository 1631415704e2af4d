//! The detector: detection, and generation when the selected group has image extensions.
//!
//! Spec: platform.md "`detector`".

use std::fs::File;
use std::path::PathBuf;

use longshore_cnb::order::OrderToml;
use longshore_cnb::{TomlFileError, toml_file};
use thiserror::Error;

use crate::detect::{DetectError, DetectInput, DetectOutput, detect};
use crate::generate::{GenerateError, GenerateInput, generate};
use crate::{ExitCode, ExperimentalError, ExperimentalMode};

/// What the detector is given, beside what detection is given, and where it writes.
#[derive(Debug)]
pub struct DetectorInput {
    /// What detection is given.
    pub detect: DetectInput,
    /// `<group>`: written.
    pub group: PathBuf,
    /// `<plan>`: written.
    pub plan: PathBuf,
    /// `<generated>`: written when there are image extensions.
    pub generated: PathBuf,
    /// `<run>`: the run images that the platform knows; need not exist.
    pub run: PathBuf,
    /// Whether image extensions may be used before the Platform API in which they are stable.
    pub experimental: ExperimentalMode,
    /// Where image extensions write their standard output and error; this process's standard output when absent.
    pub output: Option<File>,
}

/// Why the detector failed.
#[derive(Debug, Error)]
pub enum DetectorError {
    /// Detection failed.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// Generation failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The order could not be read, or an output could not be written.
    #[error(transparent)]
    File(#[from] TomlFileError),
    /// Image extensions are experimental in this Platform API.
    #[error(transparent)]
    Experimental(#[from] ExperimentalError),
}

impl DetectorError {
    /// The exit code of the detector.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Detect(error) => error.exit_code(),
            Self::Generate(error) => error.exit_code(),
            Self::File(_) | Self::Experimental(_) => ExitCode::Failed,
        }
    }
}

/// Detects the group, generates with its image extensions, and writes `group.toml`, `plan.toml`, and with image
/// extensions `analyzed.toml` and the Dockerfiles.
///
/// # Errors
///
/// When detection or generation fails, or an output cannot be written.
pub fn run(input: DetectorInput) -> Result<DetectOutput, DetectorError> {
    check_experimental(&input)?;
    let detected = detect(&input.detect)?;
    detected.write(&input.group, &input.plan)?;
    if detected.group.extensions.is_empty() {
        return Ok(detected);
    }
    let DetectInput { platform_api, app, platform, build_config, modules, analyzed, .. } = input.detect;
    let generated = generate(&GenerateInput {
        platform_api,
        app,
        platform,
        build_config,
        modules,
        generated: input.generated,
        analyzed: analyzed.clone(),
        run: input.run,
        exec_env: input.detect.exec_env,
        os_release: input.detect.os_release,
        environment: input.detect.environment,
        output: input.output,
        detected: detected.clone(),
    })?;
    generated.write(&analyzed, &input.plan)?;
    Ok(DetectOutput { plan: generated.plan, ..detected })
}

/// Image extensions were experimental before Platform API 0.13.
fn check_experimental(input: &DetectorInput) -> Result<(), DetectorError> {
    if input.detect.platform_api.has_stable_extensions() {
        return Ok(());
    }
    let order: OrderToml = toml_file::read(&input.detect.order)?;
    if !order.extensions.is_empty() {
        input.experimental.guard("Extending images with Dockerfiles of image extensions")?;
    }
    Ok(())
}
