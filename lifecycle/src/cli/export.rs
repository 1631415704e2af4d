//! `exporter`. Spec: platform.md "`exporter`".

use std::path::Path;
use std::sync::Arc;

use longshore_cnb::analyzed::Analyzed;
use longshore_cnb::build_metadata::LauncherMetadata;
use longshore_cnb::group::Group;
use longshore_cnb::project_metadata::ProjectMetadata;
use longshore_image::{BlobSink, LayerFormat, LayerFormats, StatIndex, Timestamp};

use super::connected::{self, Connection};
use super::failure::Failure;
use super::inputs::Inputs;
use crate::cache::Cache;
use crate::export::{AppLayer, CacheInput, ExportInput, InvalidAppLayer, LayerDigests, export, export_cache};
use crate::run_image;
use crate::{ExitCode, MappedDirectory, default_created};

pub(super) fn run(inputs: &mut Inputs) -> Result<(), Failure> {
    refuse_run_image(inputs)?;
    let analyzed = connected::analyzed(inputs)?.ok_or_else(|| {
        Failure::text(
            ExitCode::InvalidArguments,
            format!(
                "failed to resolve inputs: '{}' does not exist; analyze first",
                inputs.analyzed.display()
            ),
        )
    })?;
    let connection = Connection::open(inputs)?;
    let volumes = [inputs.cache_directory.as_deref(), inputs.launch_cache.as_deref()];
    connected::give_up_privileges(inputs, &volumes)?;
    let group = connected::group(inputs)?;
    let is_extended = analyzed.run_image.as_ref().is_some_and(|run_image| run_image.extend)
        && inputs.platform_api.has_run_image_extension()
        && inputs.extended.join("run").is_dir();
    if is_extended && !inputs.platform_api.has_stable_extensions() {
        let guarded = inputs.experimental.guard("Extending images with Dockerfiles of image extensions");
        guarded.map_err(|error| Failure::new(ExitCode::Failed, "export the extended run image", &error))?;
    }
    let scratch = connected::scratch(inputs)?;
    let cache = connected::cache(inputs, &connection, scratch.path())?;
    let names = inputs.images.clone();
    run_export(inputs, &names, &connection, &group, &analyzed, cache.as_deref(), scratch.path())
}

/// The run image was chosen by the analyzer; the reference takes these flags only to say so.
fn refuse_run_image(inputs: &Inputs) -> Result<(), Failure> {
    let refused = match (inputs.has_run_image_flag, &inputs.deprecated_run_image) {
        (true, _) => "-run-image is unsupported",
        (_, Some(_)) => "-image is unsupported",
        _ => return Ok(()),
    };
    Err(Failure::text(ExitCode::InvalidArguments, format!("failed to resolve inputs: {refused}")))
}

/// Exports the app image and the cache. A cache that cannot be written is no failure.
pub(super) fn run_export(
    inputs: &Inputs,
    names: &[String],
    connection: &Connection,
    group: &Group,
    analyzed: &Analyzed,
    cache: Option<&dyn Cache>,
    scratch: &Path,
) -> Result<(), Failure> {
    let index = connected::stat_index(inputs);
    let index = index.as_ref();
    let write_cache = |layer_digests: &LayerDigests| {
        if let Some(cache) = cache {
            write_cache(inputs, group, cache, layer_digests, index);
        }
    };
    // A cache image takes the blobs of the app image, which is sooner done than to make them again at the same time.
    let is_parallel = inputs.parallel && cache.is_some() && inputs.cache_image.is_none();
    let tars = cache.filter(|_| !is_parallel).and_then(Cache::tars);
    let app = || export_app(inputs, names, connection, group, analyzed, scratch, (index, tars));
    if is_parallel {
        side_by_side(|| app().map(drop), || write_cache(&LayerDigests::default()))?;
    } else {
        write_cache(&app()?);
    }
    if let Some(Err(error)) = index.map(StatIndex::save) {
        tracing::debug!("the next build reads all layers: {error}: {}", error.source);
    }
    Ok(())
}

/// Does the second on a thread of its own while the first runs, and waits for both (`-parallel`).
fn side_by_side<T>(first: impl FnOnce() -> T, second: impl FnOnce() + Send) -> T {
    std::thread::scope(|scope| {
        scope.spawn(second);
        first()
    })
}

/// Exports the app image, and says which layers were made for it.
fn export_app(
    inputs: &Inputs,
    names: &[String],
    connection: &Connection,
    group: &Group,
    analyzed: &Analyzed,
    scratch: &Path,
    (index, tars): (Option<&StatIndex>, Option<&Path>),
) -> Result<LayerDigests, Failure> {
    let run_image = analyzed.run_image.as_ref();
    let image = run_image.map(|run_image| run_image.image.as_str()).unwrap_or_default();
    let extended = run_image.is_some_and(|run_image| run_image.extend);
    let output = export(&ExportInput {
        platform_api: inputs.platform_api,
        images: names,
        layers: MappedDirectory::in_place(&inputs.layers),
        app: MappedDirectory::in_place(&inputs.app),
        group,
        analyzed,
        run_image_names: run_image::for_export(
            &connected::run_images(inputs)?,
            image,
            extended || !group.extensions.is_empty(),
            inputs.platform_api,
        ),
        extended: inputs.extended.clone(),
        launcher: inputs.launcher.clone(),
        launcher_sbom: inputs.platform_api.has_launcher_sbom().then(|| inputs.launcher_sbom.clone()),
        launcher_metadata: launcher_metadata(inputs),
        process_type: inputs.process_type.clone(),
        project: project(inputs)?,
        exec_env: Some(inputs.exec_env.clone()),
        ownership: connected::ownership(inputs),
        created: created(inputs),
        app_layer: app_layer(inputs)?,
        layer_format: layer_format(inputs)?,
        manifest_format: connected::format("CNB_MANIFEST_FORMAT", inputs.manifest_format.as_deref())?,
        platform: connection.platform.clone(),
        target: Arc::clone(&connection.store),
        run_images: Arc::clone(&connection.store),
        identify: connection.identify.clone(),
        sink: sink(names, connection, scratch),
        tars,
        index,
    })
    .map_err(|error| Failure::new(error.exit_code(), "export", &error))?;
    connected::write(&inputs.report, &output.report.to_document())
        .map_err(|failure| Failure { code: ExitCode::Export, ..failure })?;
    Ok(output.layer_digests)
}

/// Where layers are made: where the image needs them, if that is a directory.
fn sink(names: &[String], connection: &Connection, scratch: &Path) -> BlobSink {
    let first = names.first().and_then(|name| name.parse().ok());
    let sink = first.and_then(|first| connection.store.sink(&first));
    sink.unwrap_or_else(|| BlobSink::scratch(scratch))
}

/// Writes the cache, or says why not: the app image is there all the same.
fn write_cache(
    inputs: &Inputs,
    group: &Group,
    cache: &dyn Cache,
    layer_digests: &LayerDigests,
    index: Option<&StatIndex>,
) {
    let exported = export_cache(&CacheInput {
        platform_api: inputs.platform_api,
        layers: MappedDirectory::in_place(&inputs.layers),
        group,
        cache,
        ownership: connected::ownership(inputs),
        layer_digests,
        index,
    });
    if let Err(error) = exported {
        tracing::warn!("{}", Failure::new(ExitCode::Success, "export cache", &error).text);
    }
}

fn app_layer(inputs: &Inputs) -> Result<AppLayer, Failure> {
    let parsed = inputs.app_layer.as_deref().map(str::parse).transpose();
    let invalid = |error| Failure::new(ExitCode::InvalidArguments, "read CNB_APP_LAYER", &error);
    parsed.map(Option::unwrap_or_default).map_err(|error: InvalidAppLayer| invalid(error))
}

/// Daemons keep layers uncompressed and give them back so: only then can layers be reused.
fn layer_format(inputs: &Inputs) -> Result<Option<LayerFormats>, Failure> {
    let format = connected::format("CNB_LAYER_FORMAT", inputs.layer_format.as_deref())?;
    Ok(format.or_else(|| inputs.daemon.then(|| LayerFormat::Tar.into())))
}

fn launcher_metadata(inputs: &Inputs) -> LauncherMetadata {
    LauncherMetadata { version: inputs.version.to_owned(), repository: String::new(), commit: String::new() }
}

/// `project-metadata.toml` need not exist.
fn project(inputs: &Inputs) -> Result<ProjectMetadata, Failure> {
    let failed =
        |error: &dyn std::error::Error| Failure::new(ExitCode::Failed, "read project metadata", error);
    match fs_err::read_to_string(&inputs.project_metadata) {
        Ok(text) => ProjectMetadata::parse(&text).map_err(|error| failed(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::debug!("No project metadata found at '{}'", inputs.project_metadata.display());
            Ok(ProjectMetadata::default())
        }
        Err(error) => Err(failed(&error)),
    }
}

/// Spec: platform.md "Build Reproducibility": `SOURCE_DATE_EPOCH` sets the creation time.
fn created(inputs: &Inputs) -> Timestamp {
    let epoch = inputs.source_date_epoch.as_deref().filter(|_| inputs.platform_api.has_source_date_epoch());
    let Some(epoch) = epoch else { return default_created() };
    match epoch.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        Some(created) => created,
        None => {
            tracing::warn!("Ignoring invalid SOURCE_DATE_EPOCH");
            default_created()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// `-parallel` was accepted, and the cache was written after the app image all the same.
    #[test]
    fn the_cache_is_written_while_the_app_image_is() {
        let (begun, has_begun) = mpsc::channel();
        let app = || has_begun.recv_timeout(Duration::from_secs(30));
        assert_eq!(side_by_side(app, move || begun.send(()).unwrap()), Ok(()));
    }
}
