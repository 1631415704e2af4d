//! Detection: finding the group of buildpacks and image extensions that builds an app.
//!
//! Spec: buildpack.md "Phase #1: Detection", platform.md "`detector`".

mod candidates;
mod detection;
mod error;
mod known_modules;
mod member;
mod report;
mod resolve;
mod run;
mod stage;
mod trials;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use longshore_cnb::PlatformApi;
use longshore_cnb::analyzed::Analyzed;
use longshore_cnb::group::Group;
use longshore_cnb::order::OrderToml;
use longshore_cnb::plan::Plan;
use longshore_cnb::system::SystemToml;
use longshore_cnb::toml_file::{self, TomlFileError};

use self::candidates::Orders;
use self::detection::Detection;
pub use self::error::DetectError;
use self::known_modules::KnownModules;
pub use self::report::{DetectResult, GroupResult, ModuleResult, Report};
use self::run::DetectContext;
use self::stage::Progress;
pub use self::stage::Stage;
pub use self::trials::{Participant, Resolved, Unresolved, resolve};
use crate::build_target::build_target;
use crate::module_environment::ModuleEnvironment;
use crate::module_store::ModuleStore;

/// What the detector is given. Spec: platform.md "`detector`" "Inputs".
#[derive(Debug, Clone)]
pub struct DetectInput {
    /// The Platform API that the platform speaks.
    pub platform_api: PlatformApi,
    /// `<app>`: the app's source, and the working directory of `bin/detect`.
    pub app: PathBuf,
    /// `<platform>`: its `env/` holds the user's variables.
    pub platform: PathBuf,
    /// `<build-config>`: its `env/` holds the operator's variables.
    pub build_config: PathBuf,
    /// `<buildpacks>` and `<extensions>`.
    pub modules: ModuleStore,
    /// `<order>`.
    pub order: PathBuf,
    /// `<system>`: need not exist.
    pub system: PathBuf,
    /// `<analyzed>`: need not exist.
    pub analyzed: PathBuf,
    /// `<exec-env>`: the target execution environment; empty when the platform does not know any.
    pub exec_env: String,
    /// `/etc/os-release` of the build environment: completes the target; need not exist.
    pub os_release: PathBuf,
    /// The environment of the lifecycle, from which modules inherit a few variables.
    pub environment: Vec<(OsString, OsString)>,
    /// How far this detection goes, when others are to go on with it.
    pub stage: Option<Stage>,
}

/// What detection found.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectOutput {
    /// The selected buildpacks and image extensions.
    pub group: Group,
    /// Who provides what to whom.
    pub plan: Plan,
}

impl DetectOutput {
    /// Writes `group.toml` and `plan.toml`.
    ///
    /// # Errors
    ///
    /// When one of them cannot be written.
    pub fn write(&self, group: &Path, plan: &Path) -> Result<(), TomlFileError> {
        toml_file::write(group, &self.group.to_document())?;
        toml_file::write(plan, &self.plan.to_document())
    }
}

/// Finds the first group of the order that fits the app. Nothing is written, but for what a [`Stage`] leaves to the next.
///
/// # Errors
///
/// When an input cannot be used, or no group fits the app: then a table of everything that was tried is logged, and is
/// in the error. In a stage also when it ends before the order does, or a module is not there; neither is logged.
pub fn detect(input: &DetectInput) -> Result<DetectOutput, DetectError> {
    search(input).map_err(|error| match &input.stage {
        Some(_) if error.is_missing() => DetectError::NotThere { source: Box::new(error) },
        _ => error,
    })
}

fn search(input: &DetectInput) -> Result<DetectOutput, DetectError> {
    // Spec: buildpack.md "Execution Environments".
    if input.exec_env.contains('/') {
        return Err(DetectError::ExecEnv(input.exec_env.clone()));
    }
    let order = read_order(input)?;
    let mut modules = KnownModules::new(&input.modules, &order);
    let groups = order.order.len();
    let end = input.stage.as_ref().map_or(groups, |stage| stage.groups.min(groups));
    modules.check_order(end)?;
    if !input.app.is_dir() {
        return Err(DetectError::NoApp { path: input.app.clone() });
    }
    let analyzed: Analyzed = toml_file::read_optional(&input.analyzed)?.unwrap_or_default();
    let target = build_target(&analyzed, &input.os_release);
    let environment =
        ModuleEnvironment::new(input.environment.iter().cloned(), &input.platform, &input.build_config)?;
    let progress = input.stage.as_ref().map(Stage::read).transpose()?.unwrap_or_default();
    let mut detection = Detection {
        context: DetectContext {
            app: &input.app,
            platform: &input.platform,
            environment: &environment,
            target: &target,
            exec_env: &input.exec_env,
        },
        modules,
        checks_target: input.platform_api.has_targets(),
        runs: progress.runs.into_iter().collect(),
        report: progress.report,
    };
    let orders = Orders {
        buildpacks: order.order.get(progress.groups..end).unwrap_or_default(),
        extensions: &order.extensions,
        exec_env: input.platform_api.has_exec_env().then_some(input.exec_env.as_str()),
    };
    if let Some(found) = orders.search(&mut detection)? {
        return Ok(found);
    }
    let Detection { runs, report, .. } = detection;
    if let Some(stage) = input.stage.as_ref().filter(|_| end < groups) {
        stage.write(&Progress { groups: end, runs: runs.into_iter().collect(), report })?;
        return Err(DetectError::Undecided { groups: end });
    }
    tracing::error!(
        "No buildpack groups passed detection.\n\
         Please check that you are running against the correct path: {}\n\n{report}",
        input.app.display()
    );
    Err(DetectError::NoneDetected { app: input.app.clone(), report })
}

/// Reads the order, and adds the system buildpacks to it.
fn read_order(input: &DetectInput) -> Result<OrderToml, DetectError> {
    let mut order: OrderToml = toml_file::read(&input.order)?;
    if order.order.is_empty() {
        return Err(DetectError::EmptyOrder { path: input.order.clone() });
    }
    if input.platform_api.has_system_toml() {
        let system: SystemToml = toml_file::read_optional(&input.system)?.unwrap_or_default();
        order.order = system.merge_into(&order.order);
    }
    Ok(order)
}
