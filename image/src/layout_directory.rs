//! A directory of layouts, one for each image: what platforms give with `-layout-dir` (platform.md "Map an image
//! reference to a path in the layout directory").

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::layout::LayoutName;
use crate::reference::DOCKER_HUB;
use crate::{
    BlobOutcome, BlobSink, BlobSource, Descriptor, Digest, Image, ImageStore, Layout, Manifest, MediaType,
    Platform, Reference, StoreError,
};

/// How the directory of Docker Hub is called: platforms make it with go-containerregistry, which says so.
const DOCKER_HUB_DIRECTORY: &str = "index.docker.io";

/// OCI image layouts in a directory: `<registry>/<repository>/<tag>`, or `<registry>/<repository>/sha256/<digest>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutDirectory {
    root: PathBuf,
}

impl LayoutDirectory {
    /// The layouts in a directory, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory of an image's layout, whether it exists or not.
    #[must_use]
    pub fn path_of(&self, reference: &Reference) -> PathBuf {
        let registry = match reference.registry() {
            DOCKER_HUB => DOCKER_HUB_DIRECTORY,
            other => other,
        };
        let repository = self.root.join(registry).join(reference.repository());
        match (reference.tag(), reference.digest()) {
            (None, Some(digest)) => repository.join("sha256").join(digest.hex()),
            _ => repository.join(reference.tag_or_latest()),
        }
    }

    /// The image whose layout is in a directory; `None` when the path is not one of this directory's.
    #[must_use]
    pub fn reference_of(&self, path: &Path) -> Option<Reference> {
        let inner = path.strip_prefix(&self.root).ok()?.to_str()?;
        let (repository, tag) = inner.rsplit_once('/')?;
        match repository.strip_suffix("/sha256") {
            Some(repository) if tag.len() == 64 => format!("{repository}@sha256:{tag}").parse().ok(),
            _ => format!("{repository}:{tag}").parse().ok(),
        }
    }

    fn layout(&self, reference: &Reference) -> Result<Option<Layout>, StoreError> {
        let path = self.path_of(reference);
        if !path.join("oci-layout").exists() {
            return Ok(None);
        }
        Layout::open(&path, LayoutName::Only).map(Some)
    }

    fn make(&self, reference: &Reference) -> Result<Layout, StoreError> {
        Layout::create(&self.path_of(reference), LayoutName::Only)
    }
}

impl ImageStore for LayoutDirectory {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        match self.layout(reference)? {
            Some(layout) => layout.resolve(reference, platform),
            None => Ok(None),
        }
    }

    fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, StoreError> {
        match self.layout(reference)? {
            Some(layout) => layout.has_blob(reference, digest),
            None => Ok(false),
        }
    }

    fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        match self.layout(reference)? {
            Some(layout) => layout.open_blob(reference, blob),
            None => Err(StoreError::not_found(reference)),
        }
    }

    fn write_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        match self.make(reference)?.write_blob(reference, blob, source, mount_from) {
            // Platforms leave layers of run images out of their layouts, and want them nowhere else.
            Err(StoreError::NotFoundBlob { .. })
                if matches!((source, &blob.media_type), (BlobSource::Lazy(_), MediaType::Layer(..))) =>
            {
                tracing::debug!("the layer {} is missing, and stays so", blob.digest);
                Ok(BlobOutcome::Present)
            }
            other => other,
        }
    }

    /// Into the layout of the name, where the image is that needs it.
    fn put_child(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.make(reference)?.put_child(reference, manifest)
    }

    /// Each name has a layout of its own.
    fn shares_blobs(&self, one: &Reference, other: &Reference) -> bool {
        self.path_of(one) == self.path_of(other)
    }

    /// Makes the image the only one of its layout. Layers may be missing where they were missing before.
    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        let layout = self.make(reference)?;
        layout.update(|index| {
            let others = !index.manifests.is_empty();
            index.manifests.clear();
            Ok(others)
        })?;
        match manifest.as_image() {
            Some(_) => layout.put_without_layers(reference, manifest),
            None => layout.put_manifest(reference, manifest),
        }
    }

    /// In the layout of the name. Where that cannot be made, writing blobs will say why.
    fn sink(&self, reference: &Reference) -> Option<BlobSink> {
        self.make(reference).ok().map(|layout| layout.sink())
    }

    fn check_write(&self, reference: &Reference) -> Result<(), StoreError> {
        self.make(reference)?.check_write(reference)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::layer::{self, Entry};
    use crate::{BlobOpener, Config, ImageManifest, LayerFormat, LayerSource, ManifestFormat};

    /// A run image without its layer, and an image on it that has one of its own.
    #[test]
    fn layers_that_are_missing_stay_missing() {
        let root = tempfile::tempdir().unwrap();
        let directory = LayoutDirectory::new(root.path());
        let (run, app): (Reference, Reference) = ("run:1".parse().unwrap(), "app:1".parse().unwrap());
        let layer = |text: &str| {
            let kind = MediaType::Layer(ManifestFormat::Oci, LayerFormat::Tar);
            Descriptor::new(kind, Digest::of(text.as_bytes()), text.len() as u64)
        };
        let config = Config::new(&Platform::linux("amd64"));
        let bytes = config.to_bytes();
        let kind = MediaType::Config(ManifestFormat::Oci);
        let descriptor = Descriptor::new(kind, Digest::of(&bytes), bytes.len() as u64);
        let image =
            |layers| Manifest::image(ImageManifest::new(ManifestFormat::Oci, descriptor.clone(), layers));
        let base = image(vec![layer("base")]);
        let image_of_run = Image { reference: run.clone(), manifest: base, config, index: None };
        directory.make(&run).unwrap().put_sparse(&run, &image_of_run).unwrap();

        let manifest = image(vec![layer("base"), layer("own")]);
        let store: Arc<dyn ImageStore> = Arc::new(directory.clone());
        let lazy = BlobSource::Lazy(BlobOpener::of(store, run, layer("base")));
        assert!(directory.put_manifest(&app, &manifest).is_err(), "the configuration must be there");
        for (blob, source) in [
            (layer("base"), lazy),
            (layer("own"), BlobSource::Bytes("own".into())),
            (descriptor.clone(), BlobSource::Bytes(bytes)),
        ] {
            directory.write_blob(&app, &blob, &source, None).unwrap();
        }
        directory.put_manifest(&app, &manifest).unwrap();
        let found = directory.resolve(&app, &Platform::linux("amd64")).unwrap().unwrap();
        assert_eq!(found.manifest, manifest);
        assert!(!directory.has_blob(&app, layer("base").digest).unwrap());
        assert!(directory.has_blob(&app, layer("own").digest).unwrap());
    }

    /// Layers were made in a temporary directory, and written and hashed once more from there.
    #[test]
    fn layers_are_made_where_they_are_needed() {
        let root = tempfile::tempdir().unwrap();
        let directory = LayoutDirectory::new(root.path());
        let app: Reference = "app:1".parse().unwrap();
        let source = LayerSource::entries(vec![Entry::file("/own", 0o644, "own")]);
        let sink = directory.sink(&app).unwrap();
        let layer = layer::build(&source, LayerFormat::TarZstd, ManifestFormat::Oci, &sink).unwrap();
        let written = BlobSource::File(layer.path.clone());
        let outcome = directory.write_blob(&app, &layer.descriptor, &written, None).unwrap();
        assert_eq!(outcome, BlobOutcome::Present);
        assert!(layer.path.starts_with(directory.path_of(&app)));
    }

    #[test]
    fn paths_are_those_of_the_platform_specification() {
        let digest = Digest::of(b"");
        let directory = LayoutDirectory::new("/layouts");
        for (name, path) in [
            ("app".to_owned(), "/layouts/index.docker.io/library/app/latest".to_owned()),
            ("team/app:1".to_owned(), "/layouts/index.docker.io/team/app/1".to_owned()),
            ("localhost:5000/a/b:1".to_owned(), "/layouts/localhost:5000/a/b/1".to_owned()),
            (format!("r.io/app@{digest}"), format!("/layouts/r.io/app/sha256/{}", digest.hex())),
        ] {
            let reference: Reference = name.parse().unwrap();
            let found = directory.path_of(&reference);
            assert_eq!(found, Path::new(&path));
            let back = directory.reference_of(&found).unwrap();
            assert_eq!(directory.path_of(&back), found, "{back}");
        }
        for path in ["/other/r.io/app/1", "/layouts", "/layouts/app"] {
            assert_eq!(directory.reference_of(Path::new(path)), None, "{path}");
        }
    }
}
