//! The root filesystem that Dockerfiles change, and the layers that come of it.

use std::path::{Path, PathBuf};

use longshore_image::layer;
use longshore_image::snapshot::{LayerOwner, Scope, Snapshot, layer_of};
use longshore_image::unpack::{Owner, Policy, SpecialFiles, extract_into};
use longshore_image::{LayerFormat, ManifestFormat};

use super::DockerfileProblem;
use super::layer_cache::{CachedLayer, Key, LayerCache};

/// A root filesystem.
pub(super) struct Filesystem {
    root: PathBuf,
    /// What is no part of the image.
    excluded: Vec<PathBuf>,
    family: ManifestFormat,
    cache: LayerCache,
    /// What it is now; nothing was changed yet when it is not known.
    snapshot: Option<Snapshot>,
    /// Layers from the cache that were not needed there yet.
    waiting: Vec<CachedLayer>,
}

impl Filesystem {
    pub(super) fn new(
        root: &Path,
        excluded: Vec<PathBuf>,
        family: ManifestFormat,
        cache: LayerCache,
    ) -> Self {
        Self { root: root.to_owned(), excluded, family, cache, snapshot: None, waiting: Vec::new() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The layer of an instruction, from the cache or by doing it; none when it changes nothing.
    pub(super) fn change(
        &mut self,
        key: Key,
        action: impl FnOnce(&Path) -> Result<(), DockerfileProblem>,
    ) -> Result<Option<CachedLayer>, DockerfileProblem> {
        if let Some(layer) = self.cache.find(key) {
            tracing::info!("Using the cached layer");
            self.waiting.extend(layer.clone());
            return Ok(layer);
        }
        self.catch_up()?;
        let scope = Scope::new(&self.root, &self.excluded)?;
        let mut snapshot = match self.snapshot.take() {
            Some(snapshot) => snapshot,
            None => Snapshot::take(&scope)?,
        };
        action(&self.root)?;
        // What was mounted meanwhile is no part of the image either.
        let scope = Scope::new(&self.root, &self.excluded)?;
        let changes = snapshot.advance(&scope)?;
        self.snapshot = Some(snapshot);
        let layer = if changes.is_empty() {
            None
        } else {
            let source = layer_of(&changes, scope.root(), Path::new("/"), LayerOwner::Keep)?;
            Some(layer::build(&source, LayerFormat::TarGzip, self.family, &self.cache.sink())?)
        };
        if let Err(error) = self.cache.note(key, layer.as_ref()) {
            tracing::warn!("the layer cannot be noted in the cache: {error}");
        }
        Ok(layer.map(|layer| CachedLayer {
            diff_id: layer.diff_id,
            descriptor: layer.descriptor,
            path: layer.path,
        }))
    }

    /// Unpacks the layers from the cache that are not there yet.
    pub(super) fn catch_up(&mut self) -> Result<(), DockerfileProblem> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut policy = Policy::rootfs(Owner::Keep);
        policy.special_files = SpecialFiles::Create;
        for layer in self.waiting.drain(..) {
            let file = std::fs::File::open(&layer.path)
                .map_err(|source| DockerfileProblem::File { path: layer.path.clone(), source })?;
            extract_into(file, &self.root, &policy.clone().expecting(layer.diff_id))?;
        }
        self.snapshot = None;
        Ok(())
    }

    /// Removes what is too old from the cache.
    pub(super) fn collect(&self) {
        if let Err(error) = self.cache.collect() {
            tracing::warn!("the cache of layers cannot be cleaned up: {error}");
        }
    }
}
