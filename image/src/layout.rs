//! OCI image layouts (image-spec `image-layout.md`): a directory with `oci-layout`, `index.json` and `blobs/`.
//!
//! Files are complete or not there, so many processes may use one layout at once: readers take no lock, because
//! `index.json` is replaced at once; what changes it takes the lock first.

mod blobs;
mod index;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::blob_file;
use crate::{
    BlobOutcome, BlobSink, BlobSource, Descriptor, Digest, Image, ImageStore, Manifest, ManifestContent,
    Platform, Reference, StoreError, select,
};
pub(crate) use index::{REF_NAME, full_reference, name_descriptor, select as select_name};

const VERSION_FILE: &str = "oci-layout";
const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX_FILE: &str = "index.json";
const LOCK_FILE: &str = ".lock";

/// An OCI image layout on disk.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    name: LayoutName,
}

/// Which image of a layout is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutName {
    /// The one whose name is the full reference, with its tag: how the local store keeps them.
    Reference,
    /// The only one, whatever reference is asked for: `oci:DIRECTORY`.
    Only,
    /// The one of this name, whatever reference is asked for: `oci:DIRECTORY:NAME`.
    Named(String),
}

impl Layout {
    /// Opens an existing layout.
    ///
    /// # Errors
    /// When the directory is no layout, or of an unknown version.
    pub fn open(root: &Path, name: LayoutName) -> Result<Self, StoreError> {
        let layout = Self { root: root.to_owned(), name };
        layout.check_version()?;
        Ok(layout)
    }

    /// Opens a layout, and makes it first when the directory is not there or empty.
    ///
    /// # Errors
    /// As [`Layout::open`]; when the directory cannot be made.
    pub fn create(root: &Path, name: LayoutName) -> Result<Self, StoreError> {
        let layout = Self { root: root.to_owned(), name };
        if !root.is_dir() {
            fs::create_dir_all(root).map_err(StoreError::file(root))?;
        }
        if !root.join(VERSION_FILE).exists() {
            if fs::read_dir(root).map_err(StoreError::file(root))?.any(|child| {
                child.is_ok_and(|child| {
                    let known = [INDEX_FILE, LOCK_FILE, "blobs"].map(std::ffi::OsStr::new);
                    let name = child.file_name();
                    !known.contains(&&*name) && !name.to_string_lossy().starts_with(blob_file::TEMPORARY)
                })
            }) {
                return Err(not_a_layout(root, "the directory has other files and no `oci-layout`"));
            }
            layout.make_blobs()?;
            let _lock = layout.lock()?;
            if !root.join(INDEX_FILE).exists() {
                layout.write_index(&index::empty())?;
            }
            blob_file::replace(root, VERSION_FILE, VERSION)?;
        }
        layout.make_blobs()?;
        layout.check_version()?;
        Ok(layout)
    }

    /// Makes the directory of the blobs, and brings it and those above it to the disk before anything is in it.
    fn make_blobs(&self) -> Result<(), StoreError> {
        let blobs = self.blobs();
        if blobs.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&blobs).map_err(StoreError::file(&blobs))?;
        for directory in [blobs.parent(), Some(&self.root), self.root.parent()].into_iter().flatten() {
            blob_file::sync_directory(directory)?;
        }
        Ok(())
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where new layers are best written: their blobs are then in the layout already.
    #[must_use]
    pub fn sink(&self) -> BlobSink {
        BlobSink::new(self.blobs()).locked_by(self.root.join(LOCK_FILE))
    }

    /// The file of a blob, whether it exists or not.
    #[must_use]
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Puts the manifest and the configuration of an image under a name, and none of its layers: a sparse image, which only
    /// says what there is.
    ///
    /// # Errors
    /// When the layout cannot be written.
    pub fn put_sparse(&self, reference: &Reference, image: &Image) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let config = image.config.to_bytes();
        let parts = image.manifest.as_image().map(|manifest| (manifest.config.clone(), config));
        for (descriptor, bytes) in
            parts.into_iter().chain([(image.manifest.descriptor(), image.manifest.raw().clone())])
        {
            if !self.touch_blob(&descriptor)? {
                self.store_blob(&descriptor, &BlobSource::Bytes(bytes))?;
            }
        }
        let mut index = self.index()?;
        index::put(&mut index, &self.name_of(reference), image.manifest.descriptor());
        self.write_index(&index)
    }

    /// Puts a manifest under a name, as [`ImageStore::put_manifest`], though layers of it may be missing.
    pub(crate) fn put_without_layers(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        if let Some(image) = manifest.as_image()
            && !self.touch_blob(&image.config)?
        {
            let (reference, digest) = (reference.familiar(), image.config.digest);
            return Err(StoreError::NotFoundBlob { reference, digest });
        }
        let descriptor = manifest.descriptor();
        if !self.touch_blob(&descriptor)? {
            self.store_blob(&descriptor, &BlobSource::Bytes(manifest.raw().clone()))?;
        }
        let mut index = self.index()?;
        index::put(&mut index, &self.name_of(reference), descriptor);
        self.write_index(&index)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn check_version(&self) -> Result<(), StoreError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            image_layout_version: String,
        }
        let path = self.root.join(VERSION_FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(not_a_layout(&self.root, "it has no file `oci-layout`"));
            }
            other => other.map_err(StoreError::file(&path))?,
        };
        match serde_json::from_slice::<Version>(&bytes) {
            Ok(version) if version.image_layout_version == "1.0.0" => Ok(()),
            Ok(version) => {
                Err(not_a_layout(&self.root, &format!("its version is {}", version.image_layout_version)))
            }
            Err(error) => Err(not_a_layout(&self.root, &format!("its `oci-layout` is damaged: {error}"))),
        }
    }

    /// Locks the index until the file is dropped. Waits for whoever has it.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.root.join(LOCK_FILE);
        let open = File::options().create(true).append(true).open(&path);
        let file = open.map_err(StoreError::file(&path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                tracing::debug!("waiting for another process that changes `{}`", self.root.display());
            }
            Err(fs::TryLockError::Error(source)) => return Err(StoreError::File { path, source }),
        }
        file.lock().map_err(StoreError::file(&path))?;
        Ok(file)
    }

    /// What a reference points to; `None` when there is no such name.
    pub(crate) fn find(&self, reference: &Reference) -> Result<Option<Manifest>, StoreError> {
        if self.name == LayoutName::Reference
            && let Some(digest) = reference.digest()
        {
            return self.manifest_by_digest(&reference.familiar(), digest);
        }
        let index = self.index()?;
        match index::select(&index, &self.name, reference) {
            Some(descriptor) => self.read_manifest(&reference.familiar(), descriptor).map(Some),
            None => Ok(None),
        }
    }

    /// Whether all that a manifest points to is there; else the first blob that is not.
    fn check_complete(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        let present = |blob: &Descriptor| {
            if self.touch_blob(blob)? {
                return Ok(());
            }
            Err(StoreError::NotFoundBlob { reference: reference.familiar(), digest: blob.digest })
        };
        match manifest.content() {
            ManifestContent::Image(image) => {
                std::iter::once(&image.config).chain(&image.layers).try_for_each(present)
            }
            ManifestContent::Index(index) => index.manifests.iter().try_for_each(|child| {
                present(child)?;
                self.check_complete(reference, &self.read_manifest(&reference.familiar(), child)?)
            }),
        }
    }
}

impl ImageStore for Layout {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        let Some(first) = self.find(reference)? else { return Ok(None) };
        let manifest_of = |child: &Descriptor| self.read_manifest(&reference.familiar(), child);
        let config_of = |config: &Descriptor| self.read_blob(&reference.familiar(), config);
        select::image(reference, first, platform, manifest_of, config_of).map(Some)
    }

    fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, StoreError> {
        self.find(reference)
    }

    fn child(&self, reference: &Reference, child: &Descriptor) -> Result<Manifest, StoreError> {
        self.read_manifest(&reference.familiar(), child)
    }

    fn put_child(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.check_complete(reference, manifest)?;
        let descriptor = manifest.descriptor();
        if self.touch_blob(&descriptor)? {
            return Ok(());
        }
        self.store_blob(&descriptor, &BlobSource::Bytes(manifest.raw().clone()))
    }

    fn has_blob(&self, _: &Reference, digest: Digest) -> Result<bool, StoreError> {
        let path = self.blob_path(digest);
        path.try_exists().map_err(StoreError::file(&path))
    }

    fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        Ok(Box::new(self.reader(&reference.familiar(), blob)?))
    }

    fn blob_file(&self, reference: &Reference, blob: &Descriptor) -> Result<Option<File>, StoreError> {
        self.open_file(&reference.familiar(), blob).map(Some)
    }

    fn write_blob(
        &self,
        _: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        _: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        if self.touch_blob(blob)? {
            return Ok(BlobOutcome::Present);
        }
        self.store_blob(blob, source)?;
        Ok(BlobOutcome::Written)
    }

    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        self.put_child(reference, manifest)?;
        let mut index = self.index()?;
        index::put(&mut index, &self.name_of(reference), manifest.descriptor());
        self.write_index(&index)
    }

    fn check_write(&self, _: &Reference) -> Result<(), StoreError> {
        self.lock().map(drop)
    }
}

fn not_a_layout(root: &Path, reason: &str) -> StoreError {
    StoreError::NotAStore { path: root.to_owned(), reason: reason.to_owned() }
}
