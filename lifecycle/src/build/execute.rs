//! Running `bin/build` of a buildpack.
//!
//! Spec: buildpack.md "Build".

use std::fs::File;
use std::path::Path;

use longshore_cnb::environment::Environment;
use longshore_cnb::group::{GroupElement, directory_name};
use longshore_cnb::plan::BuildpackPlan;
use longshore_cnb::target::Target;
use longshore_cnb::toml_file;

use super::error::BuildError;
use crate::module_process::{self, describe};
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
        toml_file::write(&plan_path, &plan.to_document())?;
        self.set_variables(&mut environment, module, layers, &plan_path);
        let executable = module.root.join("bin").join("build");
        let start =
            |source| BuildError::Start { buildpack: element.to_string(), path: executable.clone(), source };
        let arguments = [layers, self.platform, &plan_path];
        let status = module_process::run(&executable, arguments, self.app, &environment, self.output)
            .map_err(start)?;
        if status.success() {
            Ok(())
        } else {
            Err(BuildError::Failed { buildpack: element.to_string(), status: describe(status) })
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
