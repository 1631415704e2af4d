//! Image archives: a tar with an OCI image layout in it, or what `docker save` writes, or both.
//!
//! What is written is both ([`write()`]): containerd's exporter made that common, and every tool can load it. What is read
//! may be either. Nothing is unpacked; blobs are read in place.

mod docker;
mod scan;
#[cfg(test)]
mod tests;
mod write;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::layout::{LayoutName, select_name};
use crate::verify::{VerifiedReader, unwrap_error};
use crate::{
    BlobOutcome, BlobSource, Descriptor, Digest, Image, ImageStore, InvalidManifest, MANIFEST_LIMIT,
    Manifest, ManifestContent, ManifestFormat, MediaType, Platform, Reference, StoreError, select,
};
pub use write::{ArchivedImage, write};
pub use writer::ArchiveWriter;

/// An image archive on disk, which can only be read.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: Arc<File>,
    name: LayoutName,
    blobs: BTreeMap<Digest, Part>,
    index: Manifest,
    /// Manifests that `docker save` leaves out, made from what it has.
    made: BTreeMap<Digest, Manifest>,
}

/// Where a file stands in the archive.
#[derive(Debug, Clone, Copy)]
struct Part {
    offset: u64,
    size: u64,
}

impl Archive {
    /// Opens an archive. `name` says which image is meant; of the names in an archive, the full ones count.
    ///
    /// # Errors
    /// When the file cannot be read or is no image archive. Compressed archives are refused.
    pub fn open(path: &Path, name: LayoutName) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::file(path))?;
        let files = scan::scan(&file, path)?;
        let mut archive = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            name,
            blobs: blobs(&files),
            index: Manifest::index(docker::empty_index()),
            made: BTreeMap::new(),
        };
        match (files.get("index.json"), files.get("manifest.json")) {
            (Some(index), _) => archive.index = archive.read_index(*index)?,
            (None, Some(manifest)) => {
                let manifest = archive.small(*manifest)?;
                docker::read(&mut archive, &files, &manifest)?;
            }
            (None, None) => {
                return Err(archive.unusable("it has neither `index.json` nor `manifest.json`"));
            }
        }
        Ok(archive)
    }

    fn read_index(&self, part: Part) -> Result<Manifest, StoreError> {
        let declared = MediaType::Index(ManifestFormat::Oci);
        let index = Manifest::parse(self.small(part)?.into(), Some(&declared))
            .map_err(|source| StoreError::InvalidManifest { reference: self.place(), source })?;
        match index.content() {
            ManifestContent::Index(_) => Ok(index),
            ManifestContent::Image(_) => Err(self.unusable("its `index.json` is no index")),
        }
    }

    /// The bytes of a small file.
    fn small(&self, part: Part) -> Result<Vec<u8>, StoreError> {
        if part.size > MANIFEST_LIMIT as u64 {
            let source = InvalidManifest::TooLarge(part.size as usize);
            return Err(StoreError::InvalidManifest { reference: self.place(), source });
        }
        let mut bytes = vec![0; part.size as usize];
        self.file.read_exact_at(&mut bytes, part.offset).map_err(StoreError::file(&self.path))?;
        Ok(bytes)
    }

    fn unusable(&self, reason: impl Into<String>) -> StoreError {
        StoreError::NotAStore { path: self.path.clone(), reason: reason.into() }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn reader(&self, image: &str, blob: &Descriptor) -> Result<VerifiedReader<PartReader>, StoreError> {
        let missing = || StoreError::NotFoundBlob { reference: image.to_owned(), digest: blob.digest };
        let part = *self.blobs.get(&blob.digest).ok_or_else(missing)?;
        if part.size != blob.size {
            let (expected, actual, digest) = (blob.size, part.size, blob.digest);
            return Err(StoreError::SizeMismatch { place: self.place(), digest, expected, actual });
        }
        let reader = PartReader { file: Arc::clone(&self.file), part };
        Ok(VerifiedReader::new(reader, blob, self.place()))
    }

    fn bytes(&self, image: &str, blob: &Descriptor) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let read = self.reader(image, blob)?.read_to_end(&mut bytes);
        read.map_err(|error| unwrap_error(error, &self.path))?;
        Ok(bytes)
    }

    fn read_manifest(&self, image: &str, blob: &Descriptor) -> Result<Manifest, StoreError> {
        if let Some(made) = self.made.get(&blob.digest) {
            return Ok(made.clone());
        }
        let invalid = |source| StoreError::InvalidManifest { reference: image.to_owned(), source };
        if blob.size > MANIFEST_LIMIT as u64 {
            return Err(invalid(InvalidManifest::TooLarge(blob.size as usize)));
        }
        Manifest::parse(self.bytes(image, blob)?.into(), Some(&blob.media_type)).map_err(invalid)
    }

    /// The names in the archive.
    #[must_use]
    pub fn names(&self) -> Vec<Reference> {
        let ManifestContent::Index(index) = self.index.content() else { return Vec::new() };
        index.manifests.iter().filter_map(crate::layout::full_reference).collect()
    }
}

/// The files whose names say their digests.
fn blobs(files: &BTreeMap<String, Part>) -> BTreeMap<Digest, Part> {
    let digest = |name: &str| format!("sha256:{}", name.strip_prefix("blobs/sha256/")?).parse().ok();
    files.iter().filter_map(|(name, part)| Some((digest(name)?, *part))).collect()
}

/// Reads a part of a file without moving its offset, which all readers share.
struct PartReader {
    file: Arc<File>,
    part: Part,
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.part.size.min(buffer.len() as u64) as usize;
        let count = self.file.read_at(&mut buffer[..wanted], self.part.offset)?;
        self.part.offset += count as u64;
        self.part.size -= count as u64;
        Ok(count)
    }
}

impl ImageStore for Archive {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        let ManifestContent::Index(index) = self.index.content() else { return Ok(None) };
        let Some(descriptor) = select_name(index, &self.name, reference) else { return Ok(None) };
        let image = reference.familiar();
        let first = self.read_manifest(&image, descriptor)?;
        let manifest_of = |child: &Descriptor| self.read_manifest(&image, child);
        let config_of = |config: &Descriptor| self.bytes(&image, config);
        select::image(reference, first, platform, manifest_of, config_of).map(Some)
    }

    fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, StoreError> {
        let ManifestContent::Index(index) = self.index.content() else { return Ok(None) };
        let found = select_name(index, &self.name, reference);
        found.map(|descriptor| self.read_manifest(&reference.familiar(), descriptor)).transpose()
    }

    fn child(&self, reference: &Reference, child: &Descriptor) -> Result<Manifest, StoreError> {
        self.read_manifest(&reference.familiar(), child)
    }

    fn has_blob(&self, _: &Reference, digest: Digest) -> Result<bool, StoreError> {
        Ok(self.blobs.contains_key(&digest))
    }

    fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        Ok(Box::new(self.reader(&reference.familiar(), blob)?))
    }

    fn write_blob(
        &self,
        _: &Reference,
        _: &Descriptor,
        _: &BlobSource,
        _: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError> {
        Err(StoreError::ReadOnly { place: self.place() })
    }

    fn put_manifest(&self, _: &Reference, _: &Manifest) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly { place: self.place() })
    }

    fn check_write(&self, _: &Reference) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly { place: self.place() })
    }
}
