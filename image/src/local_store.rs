//! The local store: an OCI image layout that many builds share, and that other tools can read.
//!
//! Images stand in it under their full names: `skopeo inspect oci:STORE:docker.io/library/app:latest`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::blob_file::{TEMPORARY, remove_abandoned};
use crate::layout::{Layout, LayoutName, REF_NAME};
use crate::{
    BlobOutcome, BlobSink, BlobSource, Descriptor, Digest, Image, ImageStore, Manifest, ManifestContent,
    Platform, Reference, StoreError,
};

/// The local store.
#[derive(Debug, Clone)]
pub struct LocalStore {
    layout: Layout,
}

/// A name in the store and what it points to.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredImage {
    /// The name.
    pub reference: Reference,
    /// The manifest or index.
    pub descriptor: Descriptor,
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many blobs.
    pub blobs: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

impl LocalStore {
    /// Opens the store in a directory, and makes it first when the directory is not there or empty.
    ///
    /// # Errors
    /// When the directory cannot be made or read, or holds something else.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Ok(Self { layout: Layout::create(directory, LayoutName::Reference)? })
    }

    /// The layout that the store is.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where new layers are best written: their blobs are then in the store already.
    #[must_use]
    pub fn sink(&self) -> BlobSink {
        self.layout.sink()
    }

    /// All names, in the order in which they were put.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(&self) -> Result<Vec<StoredImage>, StoreError> {
        let named = |descriptor: Descriptor| {
            let reference = descriptor.annotations.get(REF_NAME)?.parse().ok()?;
            Some(StoredImage { reference, descriptor })
        };
        Ok(self.layout.index()?.manifests.into_iter().filter_map(named).collect())
    }

    /// Gives an image a second name.
    ///
    /// # Errors
    /// When there is no image `from`, or the store cannot be written.
    pub fn tag(&self, from: &Reference, to: &Reference) -> Result<(), StoreError> {
        let Some(manifest) = self.layout.find(from)? else { return Err(StoreError::not_found(from)) };
        self.layout.put_manifest(to, &manifest)
    }

    /// Removes a name; whether it was there. Its blobs stay until [`LocalStore::collect`].
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove(&self, reference: &Reference) -> Result<bool, StoreError> {
        self.layout.update(|index| Ok(Layout::remove_name(index, reference)))
    }

    /// Removes blobs that no name leads to and that were not used for `grace`: a build writes its blobs before it
    /// names them.
    ///
    /// # Errors
    /// When an image cannot be read, because what it needs is then not known, or the store cannot be written.
    pub fn collect(&self, grace: Duration) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        self.layout.update(|index| {
            let mut used = BTreeSet::new();
            for descriptor in &index.manifests {
                let name = descriptor.annotations.get(REF_NAME).map_or("without a name", String::as_str);
                self.mark(name, descriptor, &mut used, 0)?;
            }
            collected = self.sweep(&used, grace)?;
            for directory in [self.layout.sink().directory(), self.layout.root()] {
                collected.bytes += remove_abandoned(directory)?;
            }
            Ok(false)
        })?;
        Ok(collected)
    }

    fn mark(
        &self,
        image: &str,
        descriptor: &Descriptor,
        used: &mut BTreeSet<Digest>,
        depth: usize,
    ) -> Result<(), StoreError> {
        let is_new = used.insert(descriptor.digest);
        let is_manifest = matches!(
            descriptor.media_type,
            crate::MediaType::Manifest(_) | crate::MediaType::Index(_) | crate::MediaType::Other(_)
        );
        if !is_new || !is_manifest || depth > 4 {
            return Ok(());
        }
        let manifest = self.layout.read_manifest(image, descriptor)?;
        match manifest.content() {
            ManifestContent::Image(content) => {
                used.extend(std::iter::once(&content.config).chain(&content.layers).map(|blob| blob.digest));
                Ok(())
            }
            ManifestContent::Index(index) => {
                index.manifests.iter().try_for_each(|child| self.mark(image, child, used, depth + 1))
            }
        }
    }

    fn sweep(&self, used: &BTreeSet<Digest>, grace: Duration) -> Result<Collected, StoreError> {
        let sink = self.layout.sink();
        let directory = sink.directory();
        let mut collected = Collected::default();
        for child in fs::read_dir(directory).map_err(StoreError::file(directory))? {
            let child = child.map_err(StoreError::file(directory))?;
            let name = child.file_name().to_string_lossy().into_owned();
            let digest = format!("sha256:{name}").parse::<Digest>();
            let is_known = digest.is_ok_and(|digest| used.contains(&digest));
            let is_ours = name.len() == 64 || name.starts_with(TEMPORARY);
            let metadata = child.metadata().map_err(StoreError::file(child.path()))?;
            let modified = metadata.modified().map_err(StoreError::file(child.path()))?;
            let age = SystemTime::now().duration_since(modified).unwrap_or_default();
            if is_known || !is_ours || age < grace {
                continue;
            }
            match fs::remove_file(child.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::File { path: child.path(), source: error });
                }
                _ => {}
            }
            collected.blobs += 1;
            collected.bytes += metadata.len();
        }
        Ok(collected)
    }
}

impl ImageStore for LocalStore {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        self.layout.resolve(reference, platform)
    }

    fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, StoreError> {
        self.layout.find(reference)
    }

    fn child(&self, reference: &Reference, child: &Descriptor) -> Result<Manifest, StoreError> {
        self.layout.child(reference, child)
    }

    fn put_child(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.layout.put_child(reference, manifest)
    }

    fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, StoreError> {
        self.layout.has_blob(reference, digest)
    }

    fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        self.layout.open_blob(reference, blob)
    }

    fn blob_file(&self, reference: &Reference, blob: &Descriptor) -> Result<Option<File>, StoreError> {
        self.layout.blob_file(reference, blob)
    }

    fn write_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        self.layout.write_blob(reference, blob, source, mount_from)
    }

    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.layout.put_manifest(reference, manifest)
    }

    fn check_write(&self, reference: &Reference) -> Result<(), StoreError> {
        self.layout.check_write(reference)
    }
}
