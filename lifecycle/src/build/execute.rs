//! Running `bin/build` of a buildpack.
//!
//! Spec: buildpack.md "Build".

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use longshore_cnb::environment::Environment;
use longshore_cnb::group::{GroupElement, directory_name};
use longshore_cnb::plan::BuildpackPlan;
use longshore_cnb::target::Target;
use longshore_cnb::toml_file;

use super::error::BuildError;
use crate::module_process::describe;
use crate::module_store::Module;

/// What all `bin/build` have in common.
pub(super) struct BuildContext<'a> {
    pub(super) app: &'a Path,
    pub(super) platform: &'a Path,
    pub(super) target: &'a Target,
    pub(super) exec_env: &'a str,
    pub(super) output: Option<&'a File>,
}

impl BuildContext<'_> {
    /// Runs `bin/build` with its layers directory, its plan and its environment, and waits until it has ended well.
    pub(super) fn execute(
        &self,
        element: &GroupElement,
        module: &Module,
        layers: &Path,
        plan: &BuildpackPlan,
        mut environment: Environment,
    ) -> Result<(), BuildError> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("{}-", directory_name(&element.id)))
            .tempdir()
            .map_err(|source| BuildError::io("create a directory in", &std::env::temp_dir(), source))?;
        let plan_path = directory.path().join("plan.toml");
        toml_file::write(&plan_path, plan)?;
        self.set_variables(&mut environment, module, layers, &plan_path);
        let executable = module.root.join("bin").join("build");
        let start =
            |source| BuildError::Start { buildpack: element.to_string(), path: executable.clone(), source };
        // One stream for both, as in the reference: a log in which warnings stand where they belong.
        let status = Command::new(&executable)
            .arg(layers)
            .arg(self.platform)
            .arg(&plan_path)
            .current_dir(self.app)
            .env_clear()
            .envs(environment.iter())
            .stdin(Stdio::null())
            .stdout(self.output().map_err(start)?)
            .stderr(self.output().map_err(start)?)
            .status()
            .map_err(start)?;
        if status.success() {
            Ok(())
        } else {
            Err(BuildError::Failed { buildpack: element.to_string(), status: describe(status) })
        }
    }

    fn output(&self) -> std::io::Result<Stdio> {
        match self.output {
            Some(file) => file.try_clone().map(Stdio::from),
            None => std::io::stdout().as_fd().try_clone_to_owned().map(Stdio::from),
        }
    }

    fn set_variables(&self, environment: &mut Environment, module: &Module, layers: &Path, plan: &Path) {
        let api = module.descriptor.api;
        environment.set("CNB_BUILDPACK_DIR", &module.root);
        if api.has_path_variables() {
            environment.set("CNB_PLATFORM_DIR", self.platform);
            environment.set("CNB_BP_PLAN_PATH", plan);
            environment.set("CNB_LAYERS_DIR", layers);
        }
        if api.has_target_variables() {
            for (name, value) in self.target.variables() {
                environment.set(name, value);
            }
        }
        if api.has_exec_env() && !self.exec_env.is_empty() {
            environment.set("CNB_EXEC_ENV", self.exec_env);
        }
    }
}
