//! Build: running the buildpacks of the group, and gathering what they leave behind.
//!
//! Spec: buildpack.md "Phase #5: Build", platform.md "`builder`".

mod bill_of_materials;
mod error;
mod execute;
mod layers;
mod outputs;
mod sbom;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use longshore_cnb::PlatformApi;
use longshore_cnb::analyzed::Analyzed;
use longshore_cnb::group::{Group, GroupElement, ModuleKind, directory_name};
use longshore_cnb::launch_toml::{Label, Slice};
use longshore_cnb::metadata_toml::{self, BuildMetadata, BuildpackBomEntry};
use longshore_cnb::plan::Plan;
use longshore_cnb::process::ProcessList;
use longshore_cnb::toml_file;

pub use self::error::BuildError;
use self::execute::BuildContext;
use self::outputs::Outputs;
use self::sbom::SbomFile;
use crate::build_target::build_target;
use crate::module_environment::ModuleEnvironment;
use crate::module_store::{Module, ModuleStore};

/// What the builder is given. Spec: platform.md "`builder`" "Inputs".
#[derive(Debug)]
pub struct BuildInput {
    /// The Platform API that the platform speaks.
    pub platform_api: PlatformApi,
    /// `<app>`: the app's source, and the working directory of `bin/build`.
    pub app: PathBuf,
    /// `<platform>`: its `env/` holds the user's variables.
    pub platform: PathBuf,
    /// `<build-config>`: its `env/` holds the operator's variables.
    pub build_config: PathBuf,
    /// `<buildpacks>`; extensions are not needed any more.
    pub modules: ModuleStore,
    /// `<layers>`: where buildpacks write their layers, and where the metadata of the build are written.
    pub layers: PathBuf,
    /// `<group>`.
    pub group: PathBuf,
    /// `<plan>`.
    pub plan: PathBuf,
    /// `<analyzed>`: need not exist.
    pub analyzed: PathBuf,
    /// `<exec-env>`: the target execution environment; empty when the platform does not know any.
    pub exec_env: String,
    /// `/etc/os-release` of the build environment: completes the target; need not exist.
    pub os_release: PathBuf,
    /// The environment of the lifecycle, from which buildpacks inherit a few variables.
    pub environment: Vec<(OsString, OsString)>,
    /// Where buildpacks write their standard output and error; this process's standard output when absent.
    pub output: Option<File>,
}

/// What the build left behind, apart from the layers.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildOutput {
    /// The contents of `<layers>/config/metadata.toml`, which has been written.
    pub metadata: BuildMetadata,
}

/// Runs `bin/build` of every buildpack of the group, in order.
///
/// # Errors
///
/// When an input cannot be used, a buildpack fails, or a buildpack leaves files behind that break a rule.
pub fn build(input: &BuildInput) -> Result<BuildOutput, BuildError> {
    let group: Group = toml_file::read(&input.group)?;
    let plan: Plan = toml_file::read(&input.plan)?;
    let modules = find_modules(&group, &input.modules)?;
    if !input.app.is_dir() {
        return Err(BuildError::NoApp { path: input.app.clone() });
    }
    let analyzed: Analyzed = toml_file::read_optional(&input.analyzed)?.unwrap_or_default();
    let layers =
        std::path::absolute(&input.layers).map_err(|source| BuildError::io("find", &input.layers, source))?;
    remove_directory(&layers.join("sbom"))?;
    let context = BuildContext {
        app: &input.app,
        platform: &input.platform,
        target: &build_target(&analyzed, &input.os_release),
        exec_env: &input.exec_env,
        output: input.output.as_ref(),
    };
    let environment =
        ModuleEnvironment::new(input.environment.iter().cloned(), &input.platform, &input.build_config)?;
    let mut build = Build { context, layers: &layers, environment, plan, gathered: Gathered::default() };
    for (element, module) in group.buildpacks.iter().zip(&modules) {
        build.run(element, module)?;
    }
    let metadata = build.gathered.finish(&group, &layers, input.platform_api)?;
    Ok(BuildOutput { metadata })
}

/// Finds all buildpacks before the first one runs, so that a missing one is told without delay.
fn find_modules(group: &Group, store: &ModuleStore) -> Result<Vec<Module>, BuildError> {
    for element in &group.buildpacks {
        element
            .buildpack_api()
            .map_err(|source| BuildError::Api { buildpack: element.to_string(), source })?;
    }
    group
        .buildpacks
        .iter()
        .map(|element| Ok(store.module(ModuleKind::Buildpack, &element.id, &element.version)?))
        .collect()
}

fn remove_directory(path: &Path) -> Result<(), BuildError> {
    match fs_err::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(BuildError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

struct Build<'a> {
    context: BuildContext<'a>,
    layers: &'a Path,
    environment: ModuleEnvironment,
    plan: Plan,
    gathered: Gathered,
}

impl Build<'_> {
    fn run(&mut self, element: &GroupElement, module: &Module) -> Result<(), BuildError> {
        tracing::debug!("Running build for buildpack {element}");
        let directory = self.layers.join(directory_name(&element.id));
        fs_err::create_dir_all(&directory).map_err(|source| BuildError::io("create", &directory, source))?;
        let plan = self.plan.for_module(ModuleKind::Buildpack, &element.id);
        let variables = self.environment.for_module(module.descriptor.info.clear_env)?;
        self.context.execute(element, module, &directory, &plan, variables)?;
        let layers = layers::settle(&directory)?;
        for layer in layers.iter().filter(|layer| layer.types.build) {
            self.environment.add_build_layer(&directory.join(&layer.name))?;
        }
        let outputs = Outputs::read(element, module, &directory, &plan, &layers)?;
        let plan = std::mem::take(&mut self.plan);
        self.plan = plan.without(&outputs.met);
        self.gathered.add(outputs);
        tracing::debug!("Finished running build for buildpack {element}");
        Ok(())
    }
}

/// What all buildpacks together left behind.
#[derive(Default)]
struct Gathered {
    processes: ProcessList,
    labels: Vec<Label>,
    slices: Vec<Slice>,
    sbom_files: Vec<SbomFile>,
    launch_bom: Vec<BuildpackBomEntry>,
    build_bom: Vec<BuildpackBomEntry>,
}

impl Gathered {
    fn add(&mut self, outputs: Outputs) {
        if let Some(lost) = self.processes.add(outputs.launch.processes) {
            tracing::warn!(
                "Warning: redefining the following default process type with a process not marked as default: {lost}"
            );
        }
        self.labels.extend(outputs.launch.labels);
        self.slices.extend(outputs.launch.slices);
        self.sbom_files.extend(outputs.sbom_files);
        self.launch_bom.extend(outputs.launch_bom);
        self.build_bom.extend(outputs.build_bom);
    }

    /// Writes the SBOM files and `metadata.toml`.
    fn finish(
        self,
        group: &Group,
        layers: &Path,
        platform_api: PlatformApi,
    ) -> Result<BuildMetadata, BuildError> {
        if platform_api.has_sbom_layers() {
            sbom::copy(layers, &self.sbom_files)?;
        }
        let mut bom = self.launch_bom;
        if platform_api.has_legacy_sbom_file() {
            bill_of_materials::write(&layers.join("sbom").join("launch"), &bom)?;
            bill_of_materials::write(&layers.join("sbom").join("build"), &self.build_bom)?;
            bom.clear();
        }
        let metadata = BuildMetadata {
            bom,
            buildpacks: group.buildpacks.clone(),
            extensions: group.extensions.clone(),
            labels: self.labels,
            buildpack_default_process_type: self.processes.default_type().unwrap_or_default().to_owned(),
            processes: self.processes.into_processes(platform_api),
            slices: self.slices,
        };
        let path = metadata_toml::path_in(layers);
        error::write(&path, metadata.to_document(platform_api))?;
        Ok(metadata)
    }
}
