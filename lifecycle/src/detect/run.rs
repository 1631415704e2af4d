//! Running `bin/detect` of buildpacks and image extensions.
//!
//! Spec: buildpack.md "Detection", image_extension.md "Detection".

use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use longshore_cnb::environment::EnvironmentError;
use longshore_cnb::group::ModuleKind;
use longshore_cnb::plan::{BuildPlan, PlanSections};
use longshore_cnb::target::Target;
use longshore_cnb::toml_file::{self, TomlFileError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::member::{Member, ModuleKey};
use crate::module_environment::ModuleEnvironment;
use crate::module_process::{describe, missing_interpreter};

/// The exit status with which `bin/detect` says that the module does not fit the app.
const FAIL: i32 = 100;

/// `bin/detect` mostly waits for programs it starts, so more of them run at once than there are processors.
const RUNS_AT_ONCE: usize = 16;

/// What `bin/detect` of one module said.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DetectRun {
    pub(super) outcome: Outcome,
    /// What it wrote to its standard output and error, in the order it was written.
    pub(super) output: String,
}

/// How `bin/detect` of one module ended.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// The module fits the app, with these potential build plans.
    Pass(Vec<PlanSections>),
    /// The module does not fit the app.
    Fail,
    /// The module failed to say, for this reason.
    Error(String),
}

/// Why `bin/detect` of a module counts as an error.
#[derive(Debug, Error)]
enum DetectRunError {
    #[error("{0}")]
    Status(String),
    #[error("cannot start {}{}: {source}", path.display(), missing_interpreter(path, source))]
    Start { path: PathBuf, source: std::io::Error },
    #[error("cannot prepare {what}: {source}")]
    Prepare { what: &'static str, source: std::io::Error },
    #[error("cannot prepare its environment: {0}")]
    Environment(#[from] EnvironmentError),
    #[error("its build plan is not valid: {0}")]
    Plan(String),
    #[error("it sets 'version' of the requirement '{0}', which must be 'metadata.version'")]
    TopLevelVersion(String),
    #[error("it requires '{0}', but image extensions may only provide")]
    ExtensionRequires(String),
}

/// What all `bin/detect` have in common.
pub(super) struct DetectContext<'a> {
    pub(super) app: &'a Path,
    pub(super) platform: &'a Path,
    pub(super) environment: &'a ModuleEnvironment,
    pub(super) target: &'a Target,
    pub(super) exec_env: &'a str,
}

impl DetectContext<'_> {
    /// Runs `bin/detect` of modules, several at a time.
    pub(super) fn run_all(&self, members: &[Member]) -> Vec<(ModuleKey, DetectRun)> {
        let next = AtomicUsize::new(0);
        let finished = Mutex::new(Vec::with_capacity(members.len()));
        std::thread::scope(|scope| {
            for _ in 0..members.len().min(RUNS_AT_ONCE) {
                scope.spawn(|| {
                    while let Some(member) = members.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let run = self.run(member);
                        finished.lock().unwrap_or_else(PoisonError::into_inner).push((member.key(), run));
                    }
                });
            }
        });
        finished.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, member: &Member) -> DetectRun {
        let mut output = String::new();
        let outcome =
            self.outcome(member, &mut output).unwrap_or_else(|error| Outcome::Error(error.to_string()));
        DetectRun { outcome, output }
    }

    fn outcome(&self, member: &Member, output: &mut String) -> Result<Outcome, DetectRunError> {
        let executable = member.module.root.join("bin").join("detect");
        if member.kind == ModuleKind::Extension && !executable.exists() {
            return static_plan(&member.module.root).map(Outcome::Pass);
        }
        let directory = tempfile::Builder::new()
            .prefix("plan.")
            .tempdir()
            .map_err(|source| DetectRunError::Prepare { what: "a directory for its build plan", source })?;
        let plan = directory.path().join("plan.toml");
        fs_err::write(&plan, "")
            .map_err(|source| DetectRunError::Prepare { what: "its build plan", source })?;
        let status = self.execute(member, &executable, &plan, output)?;
        match status.code() {
            Some(0) => alternatives(member.kind, toml_file::read(&plan)).map(Outcome::Pass),
            Some(FAIL) => Ok(Outcome::Fail),
            _ => Err(DetectRunError::Status(describe(status))),
        }
    }

    fn execute(
        &self,
        member: &Member,
        executable: &Path,
        plan: &Path,
        output: &mut String,
    ) -> Result<ExitStatus, DetectRunError> {
        // A file rather than a pipe: a background process that outlives `bin/detect` cannot hold detection up.
        let prepare = |source| DetectRunError::Prepare { what: "a file for its output", source };
        let mut log = tempfile::tempfile().map_err(prepare)?;
        let mut command = Command::new(executable);
        command
            .arg(self.platform)
            .arg(plan)
            .current_dir(self.app)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(prepare)?)
            .stderr(log.try_clone().map_err(prepare)?);
        self.set_variables(&mut command, member, plan)?;
        let status = command
            .status()
            .map_err(|source| DetectRunError::Start { path: executable.to_owned(), source })?;
        let mut bytes = Vec::new();
        log.rewind().and_then(|()| log.read_to_end(&mut bytes)).map_err(prepare)?;
        *output = String::from_utf8_lossy(&bytes).into_owned();
        Ok(status)
    }

    fn set_variables(
        &self,
        command: &mut Command,
        member: &Member,
        plan: &Path,
    ) -> Result<(), DetectRunError> {
        let descriptor = &member.module.descriptor;
        command.envs(self.environment.for_module(descriptor.info.clear_env)?.iter());
        let root = match member.kind {
            ModuleKind::Buildpack => "CNB_BUILDPACK_DIR",
            ModuleKind::Extension => "CNB_EXTENSION_DIR",
        };
        command.env(root, &member.module.root);
        if descriptor.api.has_path_variables() {
            command.env("CNB_PLATFORM_DIR", self.platform).env("CNB_BUILD_PLAN_PATH", plan);
        }
        if descriptor.api.has_target_variables() {
            command.envs(self.target.variables());
        }
        if descriptor.api.has_exec_env() && !self.exec_env.is_empty() {
            command.env("CNB_EXEC_ENV", self.exec_env);
        }
        Ok(())
    }
}

/// The plan of an image extension that has no `bin/detect`.
fn static_plan(root: &Path) -> Result<Vec<PlanSections>, DetectRunError> {
    let plan = toml_file::read_optional(&root.join("detect").join("plan.toml"));
    alternatives(ModuleKind::Extension, plan.map(Option::unwrap_or_default))
}

fn alternatives(
    kind: ModuleKind,
    plan: Result<BuildPlan, TomlFileError>,
) -> Result<Vec<PlanSections>, DetectRunError> {
    let plan = plan.map_err(|error| DetectRunError::Plan(chain(&error)))?;
    let alternatives = plan.into_alternatives();
    for require in alternatives.iter().flat_map(|sections| &sections.requires) {
        if !require.version.is_empty() {
            return Err(DetectRunError::TopLevelVersion(require.name.clone()));
        }
        if kind == ModuleKind::Extension {
            return Err(DetectRunError::ExtensionRequires(require.name.clone()));
        }
    }
    Ok(alternatives)
}

/// An error with its causes on one line: the table of results has one line per module.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(cause.to_string().trim_end());
        source = cause.source();
    }
    text
}
