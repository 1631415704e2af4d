//! An archive as a place to copy images to.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::write::{self, ArchivedImage};
use crate::verify::VerifiedReader;
use crate::{
    BlobOutcome, BlobSource, Descriptor, Digest, Image, ImageStore, Manifest, Platform, Reference, StoreError,
};

/// An archive that is written when its manifest is put: blobs wait where they are until then, and are read once. The file
/// appears when it is complete.
#[derive(Debug)]
pub struct ArchiveWriter {
    path: PathBuf,
    names: Vec<Reference>,
    layout_name: Option<String>,
    platform: Platform,
    blobs: Mutex<HashMap<Digest, BlobSource>>,
    children: Mutex<HashMap<Digest, Manifest>>,
}

impl ArchiveWriter {
    /// An archive at `path` of an image with these names. `layout_name` is the name by which tools find it in the layout,
    /// when it is not the tag; tools that know no indexes get the image for `platform`.
    #[must_use]
    pub fn new(
        path: impl Into<PathBuf>,
        names: Vec<Reference>,
        layout_name: Option<String>,
        platform: Platform,
    ) -> Self {
        let (blobs, children) = (Mutex::default(), Mutex::default());
        Self { path: path.into(), names, layout_name, platform, blobs, children }
    }

    fn directory(&self) -> &Path {
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ImageStore for ArchiveWriter {
    fn resolve(&self, _: &Reference, _: &Platform) -> Result<Option<Image>, StoreError> {
        Ok(None)
    }

    fn manifest(&self, _: &Reference) -> Result<Option<Manifest>, StoreError> {
        Ok(None)
    }

    fn child(&self, reference: &Reference, child: &Descriptor) -> Result<Manifest, StoreError> {
        let missing = || StoreError::NotFoundBlob { reference: reference.familiar(), digest: child.digest };
        lock(&self.children).get(&child.digest).cloned().ok_or_else(missing)
    }

    fn put_child(&self, _: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        lock(&self.children).insert(manifest.digest(), manifest.clone());
        Ok(())
    }

    fn has_blob(&self, _: &Reference, digest: Digest) -> Result<bool, StoreError> {
        Ok(lock(&self.blobs).contains_key(&digest))
    }

    fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        let source = lock(&self.blobs).get(&blob.digest).cloned();
        let reader: Box<dyn Read + Send> = match source {
            Some(BlobSource::Bytes(bytes)) => Box::new(Cursor::new(bytes)),
            Some(BlobSource::File(path)) => Box::new(File::open(&path).map_err(StoreError::file(&path))?),
            Some(BlobSource::Lazy(opener)) => opener.open()?,
            None => {
                return Err(StoreError::NotFoundBlob {
                    reference: reference.familiar(),
                    digest: blob.digest,
                });
            }
        };
        Ok(Box::new(VerifiedReader::new(reader, blob, reference.familiar())))
    }

    fn write_blob(
        &self,
        _: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        _: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        lock(&self.blobs).insert(blob.digest, source.clone());
        Ok(BlobOutcome::Written)
    }

    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        let directory = self.directory();
        let file = tempfile::NamedTempFile::new_in(directory).map_err(StoreError::file(directory))?;
        let image = ArchivedImage {
            store: self,
            reference,
            manifest,
            names: &self.names,
            layout_name: self.layout_name.as_deref(),
            platform: &self.platform,
            omitted: &BTreeSet::new(),
        };
        write::write(BufWriter::with_capacity(1 << 20, file.as_file()), &self.path, &image)?;
        let readable = fs::Permissions::from_mode(0o644);
        fs::set_permissions(file.path(), readable).map_err(StoreError::file(&self.path))?;
        let persisted = file.persist(&self.path);
        persisted.map(drop).map_err(|error| StoreError::File { path: self.path.clone(), source: error.error })
    }

    fn check_write(&self, _: &Reference) -> Result<(), StoreError> {
        let directory = self.directory();
        tempfile::tempfile_in(directory).map(drop).map_err(StoreError::file(directory))
    }
}
