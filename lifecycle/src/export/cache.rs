//! Writes cached layers and their SBOM files into the cache (platform.md "`exporter`": "If a cache is provided").

use longshore_cnb::PlatformApi;
use longshore_cnb::go_json;
use longshore_cnb::group::Group;
use longshore_cnb::lifecycle_metadata::{BuildpackLayers, CacheMetadata, LayerMetadata, LayerSha};
use longshore_image::layer::Ownership;
use longshore_image::{DiffId, StatIndex};

use super::LayerDigests;
use crate::cache::{Cache, CacheError, CacheUpdate, LayerDirectory};
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
    /// What the layers were at the last build.
    pub index: Option<&'a StatIndex>,
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
                    let diff_id = match add(input, update.as_mut(), &found.identifier, directory, previous) {
                        Ok(diff_id) => diff_id,
                        Err(CacheError::Layer(error)) => {
                            tracing::warn!("Failed to cache layer '{}': {error}", found.identifier);
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
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
    let put = update.put(&LayerDirectory {
        directory,
        ownership: input.ownership,
        known: input.layer_digests.get(&directory.host),
        previous: previous.parse().ok(),
        index: input.index.map(|index| (index, identifier)),
    })?;
    let action = if put.is_new { "Adding" } else { "Reusing" };
    tracing::info!("{action} cache layer '{identifier}'");
    Ok(put.diff_id)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use longshore_image::layer::{self, LayerError, LayerSource};

    use super::*;
    use crate::cache::Put;
    use crate::directory::Owner;
    use crate::export::tests::{Fixture, OWNERSHIP};

    /// A cache that finds one of the layers changed while it reads it.
    #[derive(Default)]
    struct Unlucky(Mutex<Option<CacheMetadata>>);

    impl Cache for Unlucky {
        fn name(&self) -> String {
            "unlucky".to_owned()
        }
        fn metadata(&self) -> Result<Option<CacheMetadata>, CacheError> {
            Ok(None)
        }
        fn restore_layer(
            &self,
            diff_id: DiffId,
            _: &MappedDirectory,
            _: Option<Owner>,
        ) -> Result<(), CacheError> {
            Err(CacheError::Missing { cache: self.name(), diff_id })
        }
        fn discard_layer(&self, _: DiffId) -> Result<(), CacheError> {
            Ok(())
        }
        fn begin(&self) -> Result<Box<dyn CacheUpdate + '_>, CacheError> {
            Ok(Box::new(UnluckyUpdate { cache: self, layers: 0 }))
        }
    }

    struct UnluckyUpdate<'a> {
        cache: &'a Unlucky,
        layers: usize,
    }

    impl CacheUpdate for UnluckyUpdate<'_> {
        fn put(&mut self, layer: &LayerDirectory<'_>) -> Result<Put, CacheError> {
            self.layers += 1;
            if self.layers == 1 {
                return Err(LayerError::Changed { path: "x".into() }.into());
            }
            let source =
                LayerSource::directory(&layer.directory.host, &layer.directory.name, layer.ownership)?;
            Ok(Put { diff_id: layer::digest(&source)?.diff_id, is_new: true })
        }
        fn commit(self: Box<Self>, metadata: &CacheMetadata) -> Result<(), CacheError> {
            *self.cache.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(metadata.clone());
            Ok(())
        }
    }

    /// One layer that could not be read cost the whole cache.
    #[test]
    fn a_layer_that_cannot_be_cached_does_not_keep_the_others_out() {
        let fixture = Fixture::new();
        let layers = fixture.root.path().join("layers");
        std::fs::create_dir(layers.join("acme_web/other")).unwrap();
        std::fs::write(layers.join("acme_web/other.toml"), "[types]\ncache = true\n").unwrap();
        let cache = Unlucky::default();
        export_cache(&CacheInput {
            platform_api: PlatformApi::latest(),
            layers: MappedDirectory { host: layers, name: "/layers".into() },
            group: &fixture.group,
            cache: &cache,
            ownership: OWNERSHIP,
            layer_digests: &LayerDigests::default(),
            index: None,
        })
        .unwrap();
        let written = cache.0.into_inner().unwrap().unwrap();
        let names: Vec<_> = written.buildpacks[0].layers.keys().collect();
        assert_eq!(names, ["other"]);
    }
}
