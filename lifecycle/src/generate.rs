//! Generation: running the image extensions of the group, which write Dockerfiles for the build and the run image.
//!
//! It is part of the detector. Spec: image_extension.md "Phase: Generation", platform.md "`detector`".

mod dockerfile;
mod error;
mod files;
mod outputs;
mod run_image;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use longshore_cnb::analyzed::{Analyzed, RunImage};
use longshore_cnb::environment::Environment;
use longshore_cnb::group::{GroupElement, ModuleKind, directory_name};
use longshore_cnb::plan::{BuildpackPlan, Plan};
use longshore_cnb::run::Run;
use longshore_cnb::target::Target;
use longshore_cnb::{PlatformApi, toml_file};
use longshore_image::Reference;

pub use self::dockerfile::DockerfileError;
use self::dockerfile::DockerfileKind;
pub use self::error::GenerateError;
use self::outputs::Generated;
use self::run_image::RunDockerfile;
use crate::build_target::build_target;
use crate::detect::DetectOutput;
use crate::module_environment::ModuleEnvironment;
use crate::module_process::{self, describe};
use crate::module_store::{Module, ModuleStore};

/// What generation is given. Spec: platform.md "`detector`" "Inputs".
#[derive(Debug)]
pub struct GenerateInput {
    /// The Platform API that the platform speaks.
    pub platform_api: PlatformApi,
    /// `<app>`: the working directory of `bin/generate`.
    pub app: PathBuf,
    /// `<platform>`: its `env/` holds the user's variables.
    pub platform: PathBuf,
    /// `<build-config>`: its `env/` holds the operator's variables.
    pub build_config: PathBuf,
    /// `<extensions>`; buildpacks are not needed.
    pub modules: ModuleStore,
    /// `<generated>`: where Dockerfiles are written.
    pub generated: PathBuf,
    /// `<analyzed>`: need not exist.
    pub analyzed: PathBuf,
    /// `<run>`: the run images that the platform knows; need not exist.
    pub run: PathBuf,
    /// `<exec-env>`: the target execution environment; empty when the platform does not know any.
    pub exec_env: String,
    /// `/etc/os-release` of the build environment: completes the target; need not exist.
    pub os_release: PathBuf,
    /// The environment of the lifecycle, from which extensions inherit a few variables.
    pub environment: Vec<(OsString, OsString)>,
    /// Where extensions write their standard output and error; this process's standard output when absent.
    pub output: Option<File>,
    /// What detection found.
    pub detected: DetectOutput,
}

/// What generation changes.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOutput {
    /// With the run image that the extensions chose, and whether it is to be extended.
    pub analyzed: Analyzed,
    /// Without the entries that the extensions met.
    pub plan: Plan,
}

impl GenerateOutput {
    /// Writes `analyzed.toml` and `plan.toml`.
    ///
    /// # Errors
    ///
    /// When one of them cannot be written.
    pub fn write(&self, analyzed: &Path, plan: &Path) -> Result<(), GenerateError> {
        fs_err::write(analyzed, self.analyzed.to_document())
            .map_err(|source| GenerateError::io("write", analyzed, source))?;
        Ok(toml_file::write(plan, &self.plan.to_document())?)
    }
}

/// Runs `bin/generate` of every image extension of the group, in order, and puts the Dockerfiles into `<generated>`.
///
/// # Errors
///
/// When an input cannot be used, an extension fails, or an extension leaves files behind that break a rule.
pub fn generate(input: &GenerateInput) -> Result<GenerateOutput, GenerateError> {
    let analyzed: Analyzed = toml_file::read_optional(&input.analyzed)?.unwrap_or_default();
    let run: Run = toml_file::read_optional(&input.run)?.unwrap_or_default();
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|source| GenerateError::io("find", path, source));
    let temporary = tempfile::Builder::new()
        .prefix("cnb-extensions-generated.")
        .tempdir()
        .map_err(|source| GenerateError::io("create a directory in", &std::env::temp_dir(), source))?;
    let keeps_layout = input.platform_api.has_extension_contexts();
    let generation = Generation {
        input,
        target: build_target(&analyzed, &input.os_release),
        environment: ModuleEnvironment::new(
            input.environment.iter().cloned(),
            &input.platform,
            &input.build_config,
        )?,
        outputs: if keeps_layout { absolute(&input.generated)? } else { temporary.path().to_owned() },
    };
    let mut plan = input.detected.plan.clone();
    let mut generated = Vec::new();
    for element in &input.detected.group.extensions {
        let own = plan.for_module(ModuleKind::Extension, &element.id);
        generated.extend(generation.run(element, &own)?);
        // Image extensions meet all of their entries.
        let met: Vec<_> = own.entries.into_iter().map(|entry| entry.name).collect();
        plan = plan.without(&met);
    }
    let analyzed = place(input, &generated, analyzed, &run, keeps_layout)?;
    Ok(GenerateOutput { analyzed, plan })
}

struct Generation<'a> {
    input: &'a GenerateInput,
    target: Target,
    environment: ModuleEnvironment,
    /// The parent of the output directories.
    outputs: PathBuf,
}

impl Generation<'_> {
    fn run(&self, element: &GroupElement, plan: &BuildpackPlan) -> Result<Vec<Generated>, GenerateError> {
        let module = self.input.modules.module(ModuleKind::Extension, &element.id, &element.version)?;
        let output = self.outputs.join(directory_name(&element.id));
        fs_err::create_dir_all(&output).map_err(|source| GenerateError::io("create", &output, source))?;
        let executable = module.root.join("bin").join("generate");
        if executable.exists() {
            self.execute(element, &module, &executable, &output, plan)?;
        } else {
            files::copy_directory(&module.root.join("generate"), &output)?;
        }
        outputs::read(element, &output)
    }

    fn execute(
        &self,
        element: &GroupElement,
        module: &Module,
        executable: &Path,
        output: &Path,
        plan: &BuildpackPlan,
    ) -> Result<(), GenerateError> {
        let directory = tempfile::Builder::new()
            .prefix("plan.")
            .tempdir()
            .map_err(|source| GenerateError::io("create a directory in", &std::env::temp_dir(), source))?;
        let plan_path = directory.path().join("plan.toml");
        toml_file::write(&plan_path, &plan.to_document())?;
        let environment = self.variables(module, output, &plan_path)?;
        let arguments = [output, &self.input.platform, &plan_path];
        let log = self.input.output.as_ref();
        let status = module_process::run(executable, arguments, &self.input.app, &environment, log).map_err(
            |source| GenerateError::Start {
                extension: element.to_string(),
                path: executable.to_owned(),
                source,
            },
        )?;
        if status.success() {
            Ok(())
        } else {
            Err(GenerateError::Failed { extension: element.to_string(), status: describe(status) })
        }
    }

    fn variables(&self, module: &Module, output: &Path, plan: &Path) -> Result<Environment, GenerateError> {
        let mut environment = self.environment.for_module(module.descriptor.info.clear_env)?;
        environment.set("CNB_BP_PLAN_PATH", plan);
        environment.set("CNB_EXTENSION_DIR", &module.root);
        environment.set("CNB_OUTPUT_DIR", output);
        environment.set("CNB_PLATFORM_DIR", &self.input.platform);
        if module.descriptor.api.has_target_variables() {
            for (name, value) in self.target.variables() {
                environment.set(name, value);
            }
        }
        if module.descriptor.api.has_exec_env() && !self.input.exec_env.is_empty() {
            environment.set("CNB_EXEC_ENV", &self.input.exec_env);
        }
        Ok(environment)
    }
}

/// Selects the run image, and puts the Dockerfiles where they are looked for.
fn place(
    input: &GenerateInput,
    generated: &[Generated],
    mut analyzed: Analyzed,
    run: &Run,
    keeps_layout: bool,
) -> Result<Analyzed, GenerateError> {
    let (run_files, build_files): (Vec<_>, Vec<_>) =
        generated.iter().partition(|generated| generated.kind == DockerfileKind::Run);
    let dockerfiles: Vec<_> = run_files
        .iter()
        .map(|generated| RunDockerfile {
            new_base: generated.dockerfile.new_base.clone(),
            extends: generated.dockerfile.extends,
        })
        .collect();
    let selection = run_image::select(&dockerfiles);
    if let Some(image) = &selection.new_base {
        switch_run_image(input.platform_api, &mut analyzed, image, run);
    }
    if selection.extend
        && let Some(run_image) = &mut analyzed.run_image
    {
        run_image.extend = true;
    }
    for (index, generated) in run_files.iter().enumerate() {
        let ignored = index < selection.ignored;
        match (keeps_layout, ignored) {
            (true, true) => files::ignore(&generated.path)?,
            (true, false) => {}
            (false, _) => files::copy(generated, &input.generated, ignored)?,
        }
    }
    for generated in build_files.iter().filter(|_| !keeps_layout) {
        files::copy(generated, &input.generated, false)?;
    }
    Ok(analyzed)
}

/// Records another run image. Its target is not known any more.
fn switch_run_image(platform_api: PlatformApi, analyzed: &mut Analyzed, image: &str, run: &Run) {
    let current = analyzed.run_image.as_ref().map_or("", |run_image| run_image.image.as_str());
    if platform_api.has_targets() && image == current {
        return;
    }
    if !run.images.iter().flat_map(|known| known.all()).any(|known| same_image(known, image)) {
        tracing::warn!("new runtime base image '{image}' not found in run metadata");
    }
    analyzed.run_image =
        Some(RunImage { reference: image.to_owned(), image: image.to_owned(), extend: false, target: None });
}

/// Whether two references name the same image, when both are spelled out.
fn same_image(one: &str, other: &str) -> bool {
    let name = |text: &str| text.parse::<Reference>().map(|reference| reference.name());
    match (name(one), name(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}
