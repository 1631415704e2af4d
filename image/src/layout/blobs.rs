//! The blobs of a layout: read with their digests checked, written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Layout, LayoutName};
use crate::blob_file::BlobFile;
use crate::layer::touch;
use crate::partial::Partial;
use crate::verify::{VerifiedReader, unwrap_error};
use crate::{BlobSource, Descriptor, Digest, MANIFEST_LIMIT, Manifest, MediaType, StoreError};

impl Layout {
    /// The file of a blob, which is as long as the blob.
    pub(super) fn open_file(&self, image: &str, blob: &Descriptor) -> Result<File, StoreError> {
        let path = self.blob_path(blob.digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFoundBlob { reference: image.to_owned(), digest: blob.digest });
            }
            other => other.map_err(StoreError::file(&path))?,
        };
        let actual = file.metadata().map_err(StoreError::file(&path))?.len();
        if actual == blob.size {
            return Ok(file);
        }
        let (place, digest, expected) = (path.display().to_string(), blob.digest, blob.size);
        Err(StoreError::SizeMismatch { place, digest, expected, actual })
    }

    pub(crate) fn reader(&self, image: &str, blob: &Descriptor) -> Result<VerifiedReader<File>, StoreError> {
        let path = self.blob_path(blob.digest);
        let file = self.open_file(image, blob)?;
        let inode = file.metadata().map_err(StoreError::file(&path))?.ino();
        let reader = VerifiedReader::new(file, blob, path.display().to_string());
        Ok(match self.name {
            LayoutName::Reference => reader.when_damaged(move || remove_damaged(&path, inode)),
            // The layout of somebody else, who may want to look at it.
            LayoutName::Only | LayoutName::Named(_) => reader,
        })
    }

    pub(super) fn read_blob(&self, image: &str, blob: &Descriptor) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let read = self.reader(image, blob)?.read_to_end(&mut bytes);
        read.map_err(|error| unwrap_error(error, &self.blob_path(blob.digest)))?;
        Ok(bytes)
    }

    pub(crate) fn read_manifest(&self, image: &str, blob: &Descriptor) -> Result<Manifest, StoreError> {
        self.parse(image, blob, Some(&blob.media_type))
    }

    pub(super) fn manifest_by_digest(
        &self,
        image: &str,
        digest: Digest,
    ) -> Result<Option<Manifest>, StoreError> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::File { path, source }),
            Ok(metadata) => {
                let blob = Descriptor::new(MediaType::Other(String::new()), digest, metadata.len());
                self.parse(image, &blob, None).map(Some)
            }
        }
    }

    fn parse(
        &self,
        image: &str,
        blob: &Descriptor,
        declared: Option<&MediaType>,
    ) -> Result<Manifest, StoreError> {
        let invalid = |source| StoreError::InvalidManifest { reference: image.to_owned(), source };
        if blob.size > MANIFEST_LIMIT as u64 {
            return Err(invalid(crate::InvalidManifest::TooLarge(blob.size as usize)));
        }
        Manifest::parse(self.read_blob(image, blob)?.into(), declared).map_err(invalid)
    }

    /// Whether a blob is there with the right size; it then counts as used just now.
    pub(super) fn touch_blob(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        let path = self.blob_path(blob.digest);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == blob.size => {
                touch(&path);
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::File { path, source }),
        }
    }

    pub(super) fn store_blob(&self, blob: &Descriptor, source: &BlobSource) -> Result<(), StoreError> {
        // What comes from afar may break off, and is gone on with. While another process downloads the same blob, both
        // do: neither waits for a network of the other.
        if let BlobSource::Lazy(opener) = source
            && let Some(partial) = Partial::open(&self.blobs(), blob)?
        {
            return partial.complete(blob, opener, &self.blob_path(blob.digest));
        }
        let (reader, place): (Box<dyn Read>, PathBuf) = match source {
            BlobSource::Bytes(bytes) => {
                (Box::new(io::Cursor::new(bytes.clone())), self.blob_path(blob.digest))
            }
            BlobSource::File(path) => {
                (Box::new(File::open(path).map_err(StoreError::file(path))?), path.clone())
            }
            BlobSource::Lazy(opener) => (Box::new(opener.open()?), self.blob_path(blob.digest)),
        };
        let mut reader = VerifiedReader::new(reader, blob, place.display().to_string());
        let mut file = BlobFile::begin_durable(&self.blobs())?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match reader.read(&mut buffer).map_err(|error| unwrap_error(error, &place))? {
                0 => break,
                count => file.write(&buffer[..count])?,
            }
        }
        file.finish(&blob.digest.hex(), true)?;
        Ok(())
    }
}

/// Removes a blob of the local store whose bytes are not those of its name. By its size it would count as there, and would
/// never be pulled again. Another process may have done the same, and have put the right one there.
fn remove_damaged(path: &Path, inode: u64) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.ino() == inode) {
        match fs::remove_file(path) {
            Ok(()) => {
                tracing::warn!("removed {}, which is damaged: pull or build its image again", path.display());
            }
            Err(error) => tracing::warn!("{} is damaged, and cannot be removed: {error}", path.display()),
        }
    }
}
