//! Restore: brings back what earlier builds left for the buildpacks (platform.md "`restorer`", buildpack.md "Layer Types").
//!
//! For each buildpack of the group: `store.toml`, the content metadata of launch and cached layers, the directories of
//! cached layers, and the SBOM files of what was restored. A cache that is corrupt or incomplete costs time, never the
//! build: the layer is left out, with its metadata, and taken out of the cache.

mod extract;
mod plan;
mod refresh;
mod sbom;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use longshore_cnb::PlatformApi;
use longshore_cnb::go_toml;
use longshore_cnb::group::{Group, GroupElement, directory_name};
use longshore_cnb::lifecycle_metadata::{BuildpackLayers, CacheMetadata, LayerMetadata, LifecycleMetadata};
use longshore_image::DiffId;
use rayon::prelude::*;

use crate::ExitCode;
use crate::cache::{Cache, CacheError};
use crate::directory::{MappedDirectory, Owner};
pub use extract::ExtractError;
pub(crate) use extract::extract;
use plan::{Decision, Origin};
pub use refresh::{RefreshError, RefreshInput, refresh};

/// What restore works on.
pub struct RestoreInput<'a> {
    /// The Platform API that the platform asked for.
    pub platform_api: PlatformApi,
    /// The layers directory (`-layers`).
    pub layers: MappedDirectory,
    /// The detected group (`-group`).
    pub group: &'a Group,
    /// What the previous image says about its layers (`[metadata]` of `-analyzed`).
    pub metadata: &'a LifecycleMetadata,
    /// The cache (`-cache-dir`, `-cache-image`).
    pub cache: Option<&'a dyn Cache>,
    /// Restore no layers, only `store.toml` (`-skip-layers`).
    pub skip_layers: bool,
    /// To whom restored files shall belong; the user who restores them when `None`.
    pub owner: Option<Owner>,
}

/// What was restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreOutput {
    /// The layers whose directories were restored, as `<buildpack id>:<layer>`.
    pub restored: Vec<String>,
}

/// Why nothing could be restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The cache could not be read at all.
    #[error("cannot read the cache `{cache}`")]
    Cache {
        /// The cache.
        cache: String,
        /// Why.
        #[source]
        source: CacheError,
    },
    /// A file of the layers directory could not be written or removed.
    #[error("cannot write `{path}` in the layers directory")]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A layer could not be extracted, and it is not the cache's fault.
    #[error("cannot restore the layer `{layer}`")]
    Layer {
        /// The layer.
        layer: String,
        /// Why.
        #[source]
        source: ExtractError,
    },
}

impl RestoreError {
    /// The exit code of the restorer.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::Restore
    }

    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}

/// Restores layers, metadata and SBOM files.
///
/// # Errors
/// When the layers directory cannot be written or the cache cannot be asked. Corrupt content is no error.
pub fn restore(input: &RestoreInput<'_>) -> Result<RestoreOutput, RestoreError> {
    let restorer = Restorer { input, cached: cache_metadata(input)? };
    let mut work = Vec::new();
    for buildpack in &input.group.buildpacks {
        restorer.store(buildpack)?;
        if !input.skip_layers {
            work.extend(restorer.metadata(buildpack)?);
        }
    }
    if input.skip_layers {
        tracing::info!("Skipping buildpack layer analysis");
        return Ok(RestoreOutput::default());
    }
    let outcomes: Vec<(Restored, bool)> = work
        .into_par_iter()
        .map(|layer| restorer.data(&layer).map(|whole| (layer, whole)))
        .collect::<Result<_, _>>()?;
    let kept: Vec<Restored> =
        outcomes.into_iter().filter_map(|(layer, whole)| whole.then_some(layer)).collect();
    if input.platform_api.has_sbom_layers() {
        sbom::restore(input, &restorer.cached, &kept)?;
    }
    let with_data = kept.iter().filter(|layer| layer.data.is_some());
    Ok(RestoreOutput { restored: with_data.map(|layer| layer.identifier.clone()).collect() })
}

fn cache_metadata(input: &RestoreInput<'_>) -> Result<CacheMetadata, RestoreError> {
    let Some(cache) = input.cache else {
        tracing::debug!("no cache was given: no layer is restored from one");
        return Ok(CacheMetadata::default());
    };
    let metadata = cache.metadata().map_err(|source| RestoreError::Cache { cache: cache.name(), source })?;
    if metadata.is_none() {
        tracing::info!("Layer cache not found");
    }
    Ok(metadata.unwrap_or_default())
}

/// A layer whose metadata was restored.
struct Restored {
    buildpack: GroupElement,
    name: String,
    identifier: String,
    directory: MappedDirectory,
    /// The DiffID of its content, when that is restored too.
    data: Option<DiffId>,
}

impl Restored {
    /// `<layer>.toml` and the like, beside the directory.
    fn file(&self, suffix: &str) -> PathBuf {
        let mut path = self.directory.host.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    fn remove(&self) -> Result<(), RestoreError> {
        remove_all(&self.directory.host)?;
        remove_all(&self.file(".toml"))
    }
}

struct Restorer<'a> {
    input: &'a RestoreInput<'a>,
    cached: CacheMetadata,
}

impl Restorer<'_> {
    fn store(&self, buildpack: &GroupElement) -> Result<(), RestoreError> {
        let known = self.input.metadata.buildpack(&buildpack.id);
        let Some(store) = known.and_then(|known| known.store.as_ref()) else { return Ok(()) };
        let directory = self.input.layers.host.join(directory_name(&buildpack.id));
        self.write(&directory.join("store.toml"), &store.to_document())
    }

    /// Writes `<layer>.toml` of every layer of the buildpack that is restored, and returns those layers.
    fn metadata(&self, buildpack: &GroupElement) -> Result<Vec<Restored>, RestoreError> {
        let none = BuildpackLayers::default();
        let app = self.input.metadata.buildpack(&buildpack.id).unwrap_or(&none);
        let cached = self.cached.buildpack(&buildpack.id).unwrap_or(&none);
        let mut restored = Vec::new();
        for (name, decision) in plan::plan(&app.layers, &cached.layers, self.input.platform_api) {
            let identifier = format!("{}:{name}", buildpack.id);
            if !is_plain(name) {
                tracing::warn!(
                    "not restoring the layer \"{identifier}\": its name is not the name of a file"
                );
                continue;
            }
            let directory = self.input.layers.join(directory_name(&buildpack.id)).join(name);
            let (metadata, origin, data) = match decision {
                Decision::Skip(reason) => {
                    tracing::info!("Not restoring \"{identifier}\": {reason}");
                    continue;
                }
                Decision::Mismatch { app, cached } => {
                    tracing::info!(
                        "Removing \"{identifier}\", wrong sha: the app image has {app}, the cache {cached}"
                    );
                    remove_all(&directory.host)?;
                    continue;
                }
                Decision::Metadata(metadata) => (metadata, Origin::AppImage, None),
                Decision::Data { metadata, origin, diff_id } => (metadata, origin, Some(diff_id)),
            };
            tracing::info!("Restoring metadata for \"{identifier}\" from {origin}");
            let layer =
                Restored { buildpack: buildpack.clone(), name: name.to_owned(), identifier, directory, data };
            self.write(&layer.file(".toml"), &document(metadata))?;
            restored.push(layer);
        }
        Ok(restored)
    }

    /// Restores a layer's directory, if that is due; tells whether the layer can be used.
    fn data(&self, layer: &Restored) -> Result<bool, RestoreError> {
        let (Some(diff_id), Some(cache)) = (layer.data, self.input.cache) else { return Ok(true) };
        tracing::info!("Restoring data for \"{}\" from cache", layer.identifier);
        tracing::debug!("the DiffID of \"{}\" is {diff_id}", layer.identifier);
        match cache.restore_layer(diff_id, &layer.directory, self.input.owner) {
            Ok(()) => Ok(true),
            Err(CacheError::Restore(source)) if !source.is_corrupt() => {
                Err(RestoreError::Layer { layer: layer.identifier.clone(), source })
            }
            Err(error) => {
                if error.is_corrupt() {
                    discard(cache, diff_id);
                }
                self.give_up(layer, &error)
            }
        }
    }

    /// A cached layer is restored with its metadata or not at all (buildpack.md "Cached Layers").
    fn give_up(&self, layer: &Restored, error: &dyn std::error::Error) -> Result<bool, RestoreError> {
        tracing::warn!("Skipping restore for layer {}: {}", layer.identifier, chain(error));
        layer.remove()?;
        Ok(false)
    }

    fn write(&self, path: &Path, content: &str) -> Result<(), RestoreError> {
        write_file(path, content.as_bytes(), self.input.owner)
    }
}

/// Takes a corrupt layer out of the cache.
fn discard(cache: &dyn Cache, diff_id: DiffId) {
    if let Err(error) = cache.discard_layer(diff_id) {
        tracing::warn!("the corrupt layer stays in the cache: {}", chain(&error));
    }
}

/// Writes a file of the layers directory and creates the buildpack's directory where it is missing.
fn write_file(path: &Path, content: &[u8], owner: Option<Owner>) -> Result<(), RestoreError> {
    let write = || {
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            fs::create_dir_all(parent)?;
            give(parent, owner)?;
        }
        fs::write(path, content)?;
        give(path, owner)
    };
    write().map_err(RestoreError::write(path))
}

/// Creates a directory below the layers directory, with those above it.
pub(crate) fn create_directory(layers: &Path, relative: &str, owner: Option<Owner>) -> io::Result<()> {
    let mut path = layers.to_owned();
    if !path.exists() {
        fs::create_dir_all(&path)?;
        give(&path, owner)?;
    }
    for component in Path::new(relative) {
        path.push(component);
        match fs::create_dir(&path) {
            Ok(()) => give(&path, owner)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(crate) fn give(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    owner.map_or(Ok(()), |owner| std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)))
}

fn remove_all(path: &Path) -> Result<(), RestoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(RestoreError::write(path))
}

/// The `<layer>.toml` that a buildpack finds: without `[types]`, so that it says anew what the layer is for.
fn document(metadata: &LayerMetadata) -> String {
    let data = (!metadata.data.is_null()).then(|| go_toml::Value::from(&metadata.data));
    go_toml::Table::new().with_some("metadata", data).to_document()
}

/// Whether a layer's name, which comes from a label, is the name of one file.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let first = components.next();
    matches!(first, Some(std::path::Component::Normal(_)))
        && components.next().is_none()
        && !name.contains('/')
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
