//! Writes cached layers and their SBOM files into the cache (platform.md "`exporter`": "If a cache is provided").

use longshore_cnb::PlatformApi;
use longshore_cnb::go_json;
use longshore_cnb::group::Group;
use longshore_cnb::lifecycle_metadata::{BuildpackLayers, CacheMetadata, LayerMetadata, LayerSha};
use longshore_image::DiffId;
use longshore_image::layer::{self, LayerSource, Ownership};

use super::LayerDigests;
use crate::cache::{Cache, CacheError, CacheUpdate};
use crate::directory::{BuildpackDirectory, MappedDirectory};

/// What is written into the cache.
pub struct CacheInput<'a> {
    /// The Platform API that the platform asked for.
    pub platform_api: PlatformApi,
    /// The layers directory.
    pub layers: MappedDirectory,
    /// The detected group.
    pub group: &'a Group,
    /// The cache.
    pub cache: &'a dyn Cache,
    /// To whom the files in layers belong.
    pub ownership: Ownership,
    /// What export knows of the layers already.
    pub layer_digests: &'a LayerDigests,
}

/// Replaces the cache with the cached layers of this build. A layer that cannot be cached is left out with a warning.
///
/// # Errors
/// When the cache cannot be written; it is then what it was. A platform should not let the build fail for it.
pub fn export_cache(input: &CacheInput<'_>) -> Result<(), CacheError> {
    let old = input.cache.metadata()?.unwrap_or_default();
    let mut update = input.cache.begin()?;
    let mut metadata = CacheMetadata::default();
    for buildpack in &input.group.buildpacks {
        let mut layers = BuildpackLayers {
            key: buildpack.id.clone(),
            version: buildpack.version.clone(),
            ..BuildpackLayers::default()
        };
        let known = old.buildpack(&buildpack.id);
        match BuildpackDirectory::read(&input.layers, buildpack) {
            Ok(directory) => {
                for found in &directory.layers {
                    let Ok(content) = &found.content else { continue };
                    if !content.types.cache {
                        continue;
                    }
                    let Some(directory) = &found.directory else {
                        tracing::warn!(
                            "Failed to cache layer '{}' because it has no contents",
                            found.identifier
                        );
                        continue;
                    };
                    let previous = known.and_then(|known| known.layers.get(&found.name));
                    let previous = previous.map_or("", |layer| layer.sha.as_str());
                    let diff_id = add(input, update.as_mut(), &found.identifier, directory, previous)?;
                    let layer = LayerMetadata {
                        sha: diff_id.to_string(),
                        data: content.metadata.as_ref().map(go_json::from_toml).unwrap_or_default(),
                        build: content.types.build,
                        launch: content.types.launch,
                        cache: true,
                    };
                    layers.layers.insert(found.name.clone(), layer);
                }
            }
            Err(error) => tracing::warn!("Failed to cache the layers of {buildpack}: {error}"),
        }
        metadata.buildpacks.push(layers);
    }
    let sbom = input.layers.join("sbom/cache");
    if input.platform_api.has_sbom_layers() && sbom.host.is_dir() {
        let identifier = "buildpacksio/lifecycle:cache.sbom";
        let diff_id = add(input, update.as_mut(), identifier, &sbom, &old.sbom.sha)?;
        metadata.sbom = LayerSha { sha: diff_id.to_string() };
    }
    update.commit(&metadata)
}

fn add(
    input: &CacheInput<'_>,
    update: &mut dyn CacheUpdate,
    identifier: &str,
    directory: &MappedDirectory,
    previous: &str,
) -> Result<DiffId, CacheError> {
    let source = LayerSource::directory(&directory.host, &directory.name, input.ownership)?;
    let known = input.layer_digests.get(&directory.host);
    if known.is_some() || !previous.is_empty() {
        let digest = known.map_or_else(|| layer::digest(&source), Ok)?;
        if update.reuse_layer(digest.diff_id, digest.uncompressed_size)? {
            tracing::info!("Reusing cache layer '{identifier}'");
            return Ok(digest.diff_id);
        }
    }
    tracing::info!("Adding cache layer '{identifier}'");
    update.add_layer(&source)
}
