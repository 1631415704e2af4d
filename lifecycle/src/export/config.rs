//! The configuration and the labels of the app image (platform.md "`exporter`", "Outputs"; "Labels").

use longshore_cnb::build_metadata::{self, BUILD_METADATA_LABEL};
use longshore_cnb::go_json;
use longshore_cnb::lifecycle_metadata::{
    BuildpackLayers, LIFECYCLE_METADATA_LABEL, LayerSha, LifecycleMetadata, RunImageMetadata, StackMetadata,
    Store,
};
use longshore_cnb::metadata_toml::BuildMetadata;
use longshore_cnb::project_metadata::PROJECT_METADATA_LABEL;
use longshore_image::{Config, History, Timestamp};

use super::made::Made;
use super::plan::Role;
use super::{Base, ExportError, ExportInput};
use crate::image_identifier;

const LAUNCHER: &str = "/cnb/lifecycle/launcher";
const PROCESS_DIRECTORY: &str = "/cnb/process";
const LIFECYCLE_DIRECTORY: &str = "/cnb/lifecycle";
const EXEC_ENV_LABEL: &str = "io.buildpacks.exec-env";

/// What the image starts: the process type that the user wants, or the buildpacks' default, or the launcher.
pub(super) fn entrypoint(wanted: Option<&str>, build: &BuildMetadata) -> Result<String, ExportError> {
    let default = &build.buildpack_default_process_type;
    let process_type = match wanted.filter(|wanted| !wanted.is_empty()) {
        Some(wanted) if build.process(wanted).is_some() => wanted,
        Some(wanted) => {
            let known = build.processes.iter().map(|process| process.process_type.clone()).collect();
            return Err(ExportError::NoProcessType { wanted: wanted.to_owned(), known });
        }
        None if default.is_empty() => return Ok(LAUNCHER.to_owned()),
        None => default,
    };
    Ok(format!("{PROCESS_DIRECTORY}/{process_type}"))
}

/// The configuration: the run image's, as extensions have left it, with what the app image adds.
pub(super) fn make(
    input: &ExportInput<'_>,
    (base, mut config): (&Base, Config),
    build: &BuildMetadata,
    stores: Vec<Option<Store>>,
    made: &[Made],
    entrypoint: &str,
) -> Result<Config, ExportError> {
    let base_layers = base.layers();
    let diff_ids = base_layers.iter().map(|(diff_id, _)| *diff_id);
    config.set_diff_ids(&diff_ids.chain(made.iter().map(|layer| layer.diff_id)).collect::<Vec<_>>());
    config.set_history(&history(input, &base.image.config, base_layers.len(), made));
    config.set_created(input.created);
    config.remove_field("container");

    let metadata = metadata(input, base, stores, made);
    let label = |label, result: Result<String, serde_json::Error>| {
        result.map_err(|source| ExportError::Label { label, source })
    };
    let mut add = |label: &str, text: &str| {
        tracing::info!("Adding label '{label}'");
        config.set_label(label, text);
    };
    add(LIFECYCLE_METADATA_LABEL, &label(LIFECYCLE_METADATA_LABEL, go_json::to_string(&metadata))?);
    let text = build_metadata::label(build, &input.launcher_metadata, input.platform_api);
    add(BUILD_METADATA_LABEL, &label(BUILD_METADATA_LABEL, text)?);
    add(PROJECT_METADATA_LABEL, &label(PROJECT_METADATA_LABEL, go_json::to_string(&input.project))?);
    build.labels.iter().for_each(|label| add(&label.key, &label.value));
    if let Some(exec_env) = input.exec_env.as_deref().filter(|_| input.platform_api.has_exec_env()) {
        add(EXEC_ENV_LABEL, exec_env);
    }
    match entrypoint.strip_prefix(PROCESS_DIRECTORY) {
        Some(process_type) => {
            tracing::info!("Setting default process type '{}'", process_type.trim_start_matches('/'));
        }
        None => tracing::info!("no default process type"),
    }

    let app = input.app.name.to_string_lossy();
    config.set_env("CNB_LAYERS_DIR", &input.layers.name.to_string_lossy());
    config.set_env("CNB_APP_DIR", &app);
    config.set_env("CNB_PLATFORM_API", &input.platform_api.to_string());
    config.set_env("CNB_DEPRECATION_MODE", "quiet");
    let path = config.env_value("PATH").filter(|path| !path.is_empty());
    let directories = [Some(PROCESS_DIRECTORY), Some(LIFECYCLE_DIRECTORY), path.as_deref()];
    config.set_env("PATH", &directories.into_iter().flatten().collect::<Vec<_>>().join(":"));
    config.set_working_dir(&app);
    config.set_entrypoint(&[entrypoint.to_owned()]);
    config.set_cmd(&[]);
    Ok(config)
}

/// One entry per layer; what the run image says about changes that are no layers is left out, as the reference does.
fn history(input: &ExportInput<'_>, base: &Config, base_layers: usize, made: &[Made]) -> Vec<History> {
    let anonymous = |created: Timestamp| History::new(created, "");
    if !input.platform_api.has_history() {
        return vec![anonymous(input.created); base_layers + made.len()];
    }
    let mut history: Vec<History> = base.history().into_iter().filter(|entry| !entry.empty_layer).collect();
    if history.len() != base_layers {
        history = vec![History::default(); base_layers];
    }
    for entry in &mut history {
        entry.created = Some(input.created.to_string());
    }
    history.extend(made.iter().map(|layer| History::new(input.created, &layer.created_by)));
    history
}

fn metadata(
    input: &ExportInput<'_>,
    base: &Base,
    stores: Vec<Option<Store>>,
    made: &[Made],
) -> LifecycleMetadata {
    let buildpacks = input.group.buildpacks.iter().zip(stores).map(|(buildpack, store)| BuildpackLayers {
        key: buildpack.id.clone(),
        version: buildpack.version.clone(),
        store,
        ..BuildpackLayers::default()
    });
    let names = input.run_image_names.clone();
    let top_layer = base.layers().last().map(|(diff_id, _)| diff_id.to_string());
    let mut metadata = LifecycleMetadata {
        buildpacks: buildpacks.collect(),
        run_image: RunImageMetadata {
            top_layer: top_layer.unwrap_or_default(),
            reference: image_identifier::identifier(&base.image, &input.identify),
            names: if input.platform_api.has_run_toml() { names.clone() } else { Default::default() },
        },
        stack: Some(StackMetadata { run_image: names }),
        ..LifecycleMetadata::default()
    };
    for layer in made {
        let sha = LayerSha { sha: layer.diff_id.to_string() };
        match &layer.role {
            Role::Launch { buildpack, name, metadata: content } => {
                let mut content = content.clone();
                content.sha = sha.sha;
                if let Some(buildpack) = metadata.buildpacks.get_mut(*buildpack) {
                    buildpack.layers.insert(name.clone(), content);
                }
            }
            Role::Extension => {}
            Role::Sbom => metadata.sbom = Some(sha),
            Role::App => metadata.app.push(sha),
            Role::Launcher => metadata.launcher = sha,
            Role::Config => metadata.config = sha,
            Role::ProcessTypes => metadata.process_types = sha,
        }
    }
    metadata
}
