//! The local store: an OCI image layout that many builds share, and that other tools can read.
//!
//! Images stand in it under their full names: `skopeo inspect oci:STORE:docker.io/library/app:latest`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use crate::blob_file::{TEMPORARY, remove_abandoned};
use crate::layout::{Layout, LayoutName, REF_NAME};
use crate::verify::unwrap_error;
use crate::{
    BlobOutcome, BlobSink, BlobSource, Descriptor, Digest, Image, ImageStore, IndexManifest, Manifest,
    ManifestContent, MediaType, Platform, Reference, StoreError,
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

/// What stays in the store although no name leads to it.
#[derive(Debug, Clone)]
pub struct Spared {
    /// Blobs that somebody needs who has no image here.
    pub used: BTreeSet<Digest>,
    /// Blobs that were written or used since then: a build writes its blobs before it names them.
    pub since: SystemTime,
}

/// What a collection removed, and what it left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many blobs were removed.
    pub blobs: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// How many blobs no name leads to and somebody needs all the same.
    pub used_blobs: usize,
    /// Their size in bytes.
    pub used_bytes: u64,
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

    /// Removes blobs that no name leads to and that are not spared.
    ///
    /// # Errors
    /// When an image cannot be read, because what it needs is then not known, or the store cannot be written.
    pub fn collect(&self, spared: &Spared) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        self.layout.update(|index| {
            collected = self.sweep(&self.named(index)?, spared)?;
            collected.bytes += self.remove_abandoned()?;
            Ok(false)
        })?;
        Ok(collected)
    }

    /// Removes those of `blobs` that no name leads to and that are not spared, and what killed processes left half
    /// written. Tells which ones are only too young, so that the caller tries again later.
    ///
    /// # Errors
    /// As [`LocalStore::collect`].
    pub fn remove_blobs(
        &self,
        blobs: &BTreeSet<Digest>,
        spared: &Spared,
    ) -> Result<BTreeSet<Digest>, StoreError> {
        let mut young = BTreeSet::new();
        self.layout.update(|index| {
            self.remove_abandoned()?;
            if blobs.is_empty() {
                return Ok(false);
            }
            let named = self.named(index)?;
            for digest in blobs.difference(&named).filter(|digest| !spared.used.contains(digest)) {
                if remove_old(&self.layout.blob_path(*digest), spared.since)? == Removal::Young {
                    young.insert(*digest);
                }
            }
            Ok(false)
        })?;
        Ok(young)
    }

    /// Reads those of `blobs` that are there, and removes those whose bytes are not what their names say.
    ///
    /// # Errors
    /// When a blob cannot be read.
    pub fn remove_damaged(&self, blobs: &BTreeSet<Digest>) -> Result<(), StoreError> {
        for digest in blobs {
            let path = self.layout.blob_path(*digest);
            let size = match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(StoreError::file(&path))?.len(),
            };
            let blob = Descriptor::new(MediaType::Other(String::new()), *digest, size);
            let mut reader = self.layout.reader(&digest.to_string(), &blob)?;
            match io::copy(&mut reader, &mut io::sink()).map_err(|error| unwrap_error(error, &path)) {
                // The reader has removed it.
                Ok(_) | Err(StoreError::DigestMismatch { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The blobs that names lead to.
    fn named(&self, index: &IndexManifest) -> Result<BTreeSet<Digest>, StoreError> {
        let mut named = BTreeSet::new();
        for descriptor in &index.manifests {
            let name = descriptor.annotations.get(REF_NAME).map_or("without a name", String::as_str);
            self.mark(name, descriptor, &mut named, 0)?;
        }
        Ok(named)
    }

    fn remove_abandoned(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for directory in [self.layout.sink().directory(), self.layout.root()] {
            bytes += remove_abandoned(directory)?;
        }
        Ok(bytes)
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
            MediaType::Manifest(_) | MediaType::Index(_) | MediaType::Other(_)
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

    fn sweep(&self, named: &BTreeSet<Digest>, spared: &Spared) -> Result<Collected, StoreError> {
        let sink = self.layout.sink();
        let directory = sink.directory();
        let mut collected = Collected::default();
        for child in fs::read_dir(directory).map_err(StoreError::file(directory))? {
            let child = child.map_err(StoreError::file(directory))?;
            let name = child.file_name().to_string_lossy().into_owned();
            let digest = format!("sha256:{name}").parse::<Digest>().ok();
            let is_in = |set: &BTreeSet<Digest>| digest.is_some_and(|digest| set.contains(&digest));
            let is_ours = name.len() == 64 || name.starts_with(TEMPORARY);
            if is_in(named) || !is_ours {
                continue;
            }
            if is_in(&spared.used) {
                collected.used_blobs += 1;
                // One that has gone meanwhile has no size.
                collected.used_bytes += child.metadata().map_or(0, |metadata| metadata.len());
            } else if let Removal::Removed(bytes) = remove_old(&child.path(), spared.since)? {
                collected.blobs += 1;
                collected.bytes += bytes;
            }
        }
        Ok(collected)
    }
}

/// What became of a blob that nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    /// It had so many bytes.
    Removed(u64),
    /// It was used lately, so somebody may be about to need it.
    Young,
    /// It was not there.
    Absent,
}

/// Removes a file that was not written or used since then. Who wants to use it asks under the lock of the store, which the
/// caller has ([`BlobSink::kept`]): nobody can do so between the look at its time and its end.
fn remove_old(path: &Path, since: SystemTime) -> Result<Removal, StoreError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removal::Absent),
        other => other.map_err(StoreError::file(path))?,
    };
    if metadata.modified().map_err(StoreError::file(path))? >= since {
        return Ok(Removal::Young);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removal::Absent),
        other => other.map(|()| Removal::Removed(metadata.len())).map_err(StoreError::file(path)),
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
