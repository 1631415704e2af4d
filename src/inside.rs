//! This program as the detector and the builder, inside the sandbox of `longshore build`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use longshore_cnb::PlatformApi;
use longshore_lifecycle::build::{BuildInput, build};
use longshore_lifecycle::detect::DetectInput;
use longshore_lifecycle::detector::{self, DetectorInput};
use longshore_lifecycle::{ExitCode as Code, ExperimentalMode, ModuleStore};

use crate::output::{self, OutputArguments};

/// Runs the phase that the program was called as, if it is one.
pub(crate) fn run() -> Option<ExitCode> {
    let mut arguments = std::env::args();
    let name = arguments.next()?;
    let phase = Path::new(&name).file_name()?.to_str()?.to_owned();
    if !matches!(phase.as_str(), "detector" | "builder") {
        return None;
    }
    let app = arguments.nth(1).map_or_else(|| PathBuf::from("/workspace"), PathBuf::from);
    let level = std::env::var("CNB_LOG_LEVEL").unwrap_or_default();
    output::start(OutputArguments {
        quiet: level == "warn",
        verbose: level == "debug",
        ..OutputArguments::default()
    });
    let outcome = if phase == "detector" { detect(app) } else { run_buildpacks(app) };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, code)) => {
            output::error(&error);
            code.into()
        }
    })
}

type Outcome = Result<(), (anyhow::Error, Code)>;

fn platform_api() -> Result<PlatformApi, (anyhow::Error, Code)> {
    let text = std::env::var("CNB_PLATFORM_API").unwrap_or_default();
    PlatformApi::parse(&text).map_err(|error| (error.into(), Code::IncompatiblePlatformApi))
}

fn modules() -> ModuleStore {
    ModuleStore { buildpacks: "/cnb/buildpacks".into(), extensions: "/cnb/extensions".into() }
}

fn exec_env() -> String {
    std::env::var("CNB_EXEC_ENV").unwrap_or_default()
}

fn detect(app: PathBuf) -> Outcome {
    let layers = Path::new("/layers");
    let input = DetectorInput {
        detect: DetectInput {
            platform_api: platform_api()?,
            app,
            platform: "/platform".into(),
            build_config: "/cnb/build-config".into(),
            modules: modules(),
            order: "/cnb/order.toml".into(),
            system: "/cnb/system.toml".into(),
            analyzed: layers.join("analyzed.toml"),
            exec_env: exec_env(),
            os_release: "/etc/os-release".into(),
            environment: std::env::vars_os().collect(),
        },
        group: layers.join("group.toml"),
        plan: layers.join("plan.toml"),
        generated: layers.join("generated"),
        run: "/cnb/run.toml".into(),
        output: None,
        experimental: ExperimentalMode::default(),
    };
    detector::run(input).map(drop).map_err(|error| {
        let code = error.exit_code();
        (error.into(), code)
    })
}

fn run_buildpacks(app: PathBuf) -> Outcome {
    let layers = Path::new("/layers");
    let input = BuildInput {
        platform_api: platform_api()?,
        app,
        platform: "/platform".into(),
        build_config: "/cnb/build-config".into(),
        modules: modules(),
        layers: layers.to_owned(),
        group: layers.join("group.toml"),
        plan: layers.join("plan.toml"),
        analyzed: layers.join("analyzed.toml"),
        exec_env: exec_env(),
        os_release: "/etc/os-release".into(),
        environment: std::env::vars_os().collect(),
        output: None,
    };
    build(&input).map(drop).map_err(|error| {
        let code = error.exit_code();
        (error.into(), code)
    })
}
