//! Opening the places that a [`Location`] names.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use longshore_image::archive::ArchiveWriter;
use longshore_image::{
    Archive, BlobOutcome, BlobSource, DaemonStore, Descriptor, Digest, Image, ImageStore, Layout, LayoutName,
    Manifest, Platform, Reference, StoreError,
};

use super::{Images, Location};
use crate::settings::PullPolicy;

/// A place, and the name by which an image is known there.
pub(crate) struct Opened {
    /// The place.
    pub(crate) store: Arc<dyn ImageStore>,
    /// The name.
    pub(crate) reference: Reference,
}

impl Images {
    /// The place that an image is to be read from. A plain name is looked for where the policy allows.
    ///
    /// # Errors
    /// When the place cannot be opened.
    pub(crate) fn open_source(&self, location: &Location, policy: PullPolicy) -> anyhow::Result<Opened> {
        let only = |name: &Option<String>| name.clone().map_or(LayoutName::Only, LayoutName::Named);
        let (store, reference): (Arc<dyn ImageStore>, _) = match location {
            Location::Reference(name) => return self.open_plain(name, policy),
            Location::Registry(name) => (self.registry()?, name.clone()),
            Location::Layout { directory, name } => {
                (Arc::new(Layout::open(directory, only(name))?), anything()?)
            }
            Location::OciArchive { file, name } => (Arc::new(Archive::open(file, only(name))?), anything()?),
            Location::DockerArchive { file, name: None } => {
                (Arc::new(Archive::open(file, LayoutName::Only)?), anything()?)
            }
            Location::DockerArchive { file, name: Some(name) } => {
                (Arc::new(Archive::open(file, LayoutName::Reference)?), name.clone())
            }
            Location::Daemon(name) => (Arc::new(DaemonStore::connect()?), name.clone()),
            Location::ContainersStorage(name) => {
                let file = tempfile::NamedTempFile::new()?;
                save(name, file.path())?;
                // The archive keeps the file open; its name is not needed any more.
                (Arc::new(Archive::open(file.path(), LayoutName::Only)?), name.clone())
            }
        };
        Ok(Opened { store, reference })
    }

    fn open_plain(&self, name: &Reference, policy: PullPolicy) -> anyhow::Result<Opened> {
        let local = || Arc::clone(self.local()) as Arc<dyn ImageStore>;
        let store: Arc<dyn ImageStore> = match policy {
            PullPolicy::Never => local(),
            PullPolicy::IfNotPresent => match self.local().manifest(name)? {
                Some(_) => local(),
                None => self.registry()?,
            },
            PullPolicy::Always => match self.registry()?.manifest(name) {
                Ok(None) => local(),
                Ok(Some(_)) => self.registry()?,
                // An image that was never published must not need its registry.
                Err(error) => {
                    if self.local().manifest(name)?.is_none() {
                        return Err(error.into());
                    }
                    local()
                }
            },
        };
        Ok(Opened { store, reference: name.clone() })
    }

    /// The place that an image is to be written to. `source` names the image where the place wants a name and was not
    /// given one.
    ///
    /// # Errors
    /// When the place cannot be opened or made.
    pub(crate) fn open_destination(
        &self,
        location: &Location,
        source: Option<&Reference>,
    ) -> anyhow::Result<Opened> {
        let host = Platform::host();
        let (store, reference): (Arc<dyn ImageStore>, _) = match location {
            Location::Reference(name) => (Arc::clone(self.local()) as _, name.clone()),
            Location::Registry(name) => (self.registry()?, name.clone()),
            Location::Layout { directory, name: Some(name) } => {
                let layout = Layout::create(directory, LayoutName::Named(name.clone()))?;
                (Arc::new(layout), anything()?)
            }
            Location::Layout { directory, name: None } => match source {
                Some(name) => (Arc::new(Layout::create(directory, LayoutName::Reference)?), name.clone()),
                None => (Arc::new(Layout::create(directory, LayoutName::Only)?), anything()?),
            },
            Location::OciArchive { file, name } => {
                let parsed = match name {
                    Some(name) => name.parse().ok(),
                    None => source.cloned(),
                };
                let names = parsed.into_iter().collect();
                (Arc::new(ArchiveWriter::new(file, names, name.clone(), host)), anything()?)
            }
            Location::DockerArchive { file, name } => {
                let names = name.as_ref().or(source).cloned().into_iter().collect();
                (Arc::new(ArchiveWriter::new(file, names, None, host)), anything()?)
            }
            Location::Daemon(name) => (Arc::new(DaemonStore::connect()?), name.clone()),
            Location::ContainersStorage(name) => (Arc::new(Podman::new(name)?), name.clone()),
        };
        Ok(Opened { store, reference })
    }
}

/// What is opened for one image resolves whatever is asked for.
pub(super) fn anything() -> anyhow::Result<Reference> {
    Ok(NAMELESS.parse()?)
}

const NAMELESS: &str = "layout.invalid/image";

impl Opened {
    /// The name, where it is one that people gave.
    pub(crate) fn name(&self) -> Option<&Reference> {
        Some(&self.reference).filter(|reference| reference.registry() != "layout.invalid")
    }
}

/// What podman calls an image: its full name.
fn podman_name(name: &Reference) -> String {
    match name.digest() {
        Some(_) => name.to_string(),
        None => name.with_tag(name.tag_or_latest()).to_string(),
    }
}

fn save(name: &Reference, file: &Path) -> anyhow::Result<()> {
    podman(&["save", "--quiet", "--format", "oci-archive", "--output"], file, &[&podman_name(name)])
        .with_context(|| format!("cannot read `{}` out of podman", name.familiar()))
}

fn podman(arguments: &[&str], file: &Path, more: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("podman").args(arguments).arg(file).args(more).stdin(Stdio::null()).output();
    let output = output.context("cannot start `podman`, which containers-storage needs; install it")?;
    ensure!(output.status.success(), "podman said: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Podman's storage as a place to copy to: an archive that podman loads.
struct Podman {
    archive: ArchiveWriter,
    file: tempfile::TempPath,
}

impl Podman {
    fn new(name: &Reference) -> anyhow::Result<Self> {
        if name.digest().is_some() {
            bail!("`{}` names an image by its digest; give it a tag", name.familiar());
        }
        let file = tempfile::NamedTempFile::new()?.into_temp_path();
        let named = name.with_tag(name.tag_or_latest());
        let archive = ArchiveWriter::new(file.to_path_buf(), vec![named], None, Platform::host());
        Ok(Self { archive, file })
    }
}

impl ImageStore for Podman {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        self.archive.resolve(reference, platform)
    }

    fn child(&self, reference: &Reference, child: &Descriptor) -> Result<Manifest, StoreError> {
        self.archive.child(reference, child)
    }

    fn put_child(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.archive.put_child(reference, manifest)
    }

    fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, StoreError> {
        self.archive.has_blob(reference, digest)
    }

    fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<Box<dyn std::io::Read + Send>, StoreError> {
        self.archive.open_blob(reference, blob)
    }

    fn write_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        self.archive.write_blob(reference, blob, source, mount_from)
    }

    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.archive.put_manifest(reference, manifest)?;
        podman(&["load", "--quiet", "--input"], &self.file, &[]).map_err(|error| StoreError::File {
            path: "podman load".into(),
            source: std::io::Error::other(format!("{error:#}")),
        })
    }
}
