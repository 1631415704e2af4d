//! Copying images between places.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use longshore_image::archive::{self, ArchivedImage};
use longshore_image::{
    Archive, BlobOpener, BlobSource, DaemonStore, Digest, ImageStore, Layout, LayoutName, Platform, Reference,
};

use super::{FoundImage, Images, Location, layout_reference};
use crate::settings::PullPolicy;

/// A place and the image in it, as `image copy` names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// The local store (as a source also a registry), or a layout.
    Location(Location),
    /// A registry: `docker://NAME`.
    Registry(Reference),
    /// A container daemon: `docker-daemon:NAME`.
    Daemon(Reference),
    /// An archive that every tool loads: `docker-archive:FILE` or `oci-archive:FILE`.
    Archive(PathBuf),
}

impl std::str::FromStr for Endpoint {
    type Err = longshore_image::InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(name.parse()?));
        }
        if let Some(name) = text.strip_prefix("docker-daemon:") {
            return Ok(Self::Daemon(name.parse()?));
        }
        let file = text.strip_prefix("docker-archive:").or_else(|| text.strip_prefix("oci-archive:"));
        match file {
            Some(file) => Ok(Self::Archive(file.into())),
            None => Ok(Self::Location(text.parse()?)),
        }
    }
}

impl Images {
    /// Copies an image; the digest that it has.
    ///
    /// # Errors
    /// When there is no such image, or a place cannot be read or written.
    pub(crate) fn copy(
        &self,
        from: &Endpoint,
        to: &Endpoint,
        platform: &Platform,
        policy: PullPolicy,
    ) -> anyhow::Result<Digest> {
        let source = self.source(from, platform, policy)?;
        let digest = source.image.manifest.digest();
        let (store, name): (Arc<dyn ImageStore>, Reference) = match to {
            Endpoint::Archive(path) => {
                write_archive(&source, path)?;
                return Ok(digest);
            }
            Endpoint::Location(Location::Reference(name)) => (Arc::clone(self.local()) as _, name.clone()),
            Endpoint::Location(Location::Layout { directory, name: None }) => {
                let layout = Layout::create(directory, LayoutName::Reference)?;
                (Arc::new(layout), source.image.reference.clone())
            }
            Endpoint::Location(Location::Layout { directory, name: Some(name) }) => {
                let layout = Layout::create(directory, LayoutName::Named(name.clone()))?;
                (Arc::new(layout), layout_reference()?)
            }
            Endpoint::Registry(name) => (self.registry()?, name.clone()),
            Endpoint::Daemon(name) => (Arc::new(DaemonStore::connect()?), name.clone()),
        };
        put(&source, store.as_ref(), &name)?;
        Ok(digest)
    }

    fn source(&self, from: &Endpoint, platform: &Platform, policy: PullPolicy) -> anyhow::Result<FoundImage> {
        let (store, name): (Arc<dyn ImageStore>, Reference) = match from {
            Endpoint::Location(location) => return self.get(location, platform, policy, "image"),
            Endpoint::Registry(name) => (self.registry()?, name.clone()),
            Endpoint::Daemon(name) => (Arc::new(DaemonStore::connect()?), name.clone()),
            Endpoint::Archive(path) => {
                (Arc::new(Archive::open(path, LayoutName::Only)?), layout_reference()?)
            }
        };
        match store.resolve(&name, platform)? {
            Some(image) => Ok(FoundImage { image, store }),
            None => bail!("there is no image `{}`", name.familiar()),
        }
    }
}

fn put(source: &FoundImage, store: &dyn ImageStore, name: &Reference) -> anyhow::Result<()> {
    let FoundImage { image, store: from } = source;
    let content = image.manifest.as_image().context("an index cannot be copied yet")?;
    let near = (image.reference.registry() == name.registry()).then_some(&image.reference);
    for blob in content.layers.iter().chain([&content.config]) {
        let opener = BlobOpener::of(Arc::clone(from), image.reference.clone(), blob.clone());
        store.write_blob(name, blob, &BlobSource::Lazy(opener), near)?;
    }
    store.put_manifest(name, &image.manifest)?;
    Ok(())
}

fn write_archive(source: &FoundImage, path: &Path) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(directory)?;
    let image = ArchivedImage {
        store: source.store.as_ref(),
        reference: &source.image.reference,
        manifest: &source.image.manifest,
        names: std::slice::from_ref(&source.image.reference),
    };
    archive::write(std::io::BufWriter::new(file.as_file()), path, &image)?;
    fs_err::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_their_prefix() {
        let name: Reference = "a/b:1".parse().unwrap();
        for (text, expected) in [
            ("docker://a/b:1", Endpoint::Registry(name.clone())),
            ("docker-daemon:a/b:1", Endpoint::Daemon(name.clone())),
            ("docker-archive:/x.tar", Endpoint::Archive("/x.tar".into())),
            ("oci-archive:x.tar", Endpoint::Archive("x.tar".into())),
            ("a/b:1", Endpoint::Location(Location::Reference(name))),
            ("oci:dir", Endpoint::Location(Location::Layout { directory: "dir".into(), name: None })),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap(), expected);
        }
    }
}
