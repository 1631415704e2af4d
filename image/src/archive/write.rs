//! Writes archives that are an OCI image layout and a `docker save` at once.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use super::docker::{SavedImage, empty_index};
use crate::layer::{Entry, header};
use crate::layout::name_descriptor;
use crate::verify::unwrap_error;
use crate::{Descriptor, ImageStore, Manifest, Reference, StoreError, json};

/// An image that goes into an archive, with where its blobs are read from.
#[derive(Clone, Copy)]
pub struct ArchivedImage<'a> {
    /// Where the image is.
    pub store: &'a dyn ImageStore,
    /// Its name there, by which its blobs are read.
    pub reference: &'a Reference,
    /// Its manifest, which is no index.
    pub manifest: &'a Manifest,
    /// Its names in the archive.
    pub names: &'a [Reference],
}

/// Writes an archive: entries sorted by name, with fixed times and ids, so that the same image gives the same bytes.
/// `path` is where `out` goes, for errors.
///
/// # Errors
/// When a blob cannot be read or the archive cannot be written.
pub fn write(out: impl Write, path: &Path, image: &ArchivedImage<'_>) -> Result<(), StoreError> {
    let mut tar = Tar { out, path };
    let Some(content) = image.manifest.as_image() else {
        return Err(StoreError::Contradiction {
            reference: image.reference.familiar(),
            reason: "an index was to be written into an archive".to_owned(),
        });
    };
    tar.append(&Entry::directory("blobs", 0o755), 0, std::io::empty())?;
    tar.append(&Entry::directory("blobs/sha256", 0o755), 0, std::io::empty())?;
    let own = image.manifest.descriptor();
    let blobs = content.layers.iter().chain([&content.config, &own]);
    let blobs: BTreeMap<_, &Descriptor> = blobs.map(|blob| (blob.digest, blob)).collect();
    for blob in blobs.values() {
        let reader: Box<dyn Read + Send> = if blob.digest == own.digest {
            Box::new(std::io::Cursor::new(image.manifest.raw().clone()))
        } else {
            image.store.open_blob(image.reference, blob)?
        };
        tar.append(&Entry::file(blob_name(blob), 0o644, ""), blob.size, reader)?;
    }
    let mut index = empty_index();
    index.manifests.extend(image.names.iter().map(|name| name_descriptor(own.clone(), Some(name))));
    if index.manifests.is_empty() {
        index.manifests.push(own.clone());
    }
    let saved = SavedImage {
        config: blob_name(&content.config),
        repo_tags: Some(
            image.names.iter().map(|name| name.with_tag(name.tag_or_latest()).familiar()).collect(),
        ),
        layers: content.layers.iter().map(blob_name).collect(),
    };
    let saved = json::to_go_bytes(&[saved])
        .map_err(|source| StoreError::File { path: path.to_owned(), source: source.into() })?;
    tar.file("index.json", Manifest::index(index).raw())?;
    tar.file("manifest.json", &saved)?;
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.raw(&[0; 2 * header::BLOCK])?;
    tar.out.flush().map_err(StoreError::file(path))
}

fn blob_name(blob: &Descriptor) -> String {
    format!("blobs/sha256/{}", blob.digest.hex())
}

struct Tar<'a, W> {
    out: W,
    path: &'a Path,
}

impl<W: Write> Tar<'_, W> {
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.append(&Entry::file(name, 0o644, ""), bytes.len() as u64, bytes)
    }

    /// An entry whose content is `size` bytes of `reader`, which ends there.
    fn append(&mut self, entry: &Entry, size: u64, mut reader: impl Read) -> Result<(), StoreError> {
        let mut head = Vec::new();
        header::write(entry, size, &mut head).map_err(|error| StoreError::File {
            path: self.path.to_owned(),
            source: std::io::Error::other(error),
        })?;
        self.raw(&head)?;
        let mut buffer = vec![0; 256 << 10];
        let mut written = 0;
        loop {
            let count = reader.read(&mut buffer).map_err(|error| unwrap_error(error, self.path))?;
            if count == 0 {
                break;
            }
            self.raw(&buffer[..count])?;
            written += count as u64;
        }
        if written != size {
            let cut =
                std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "a blob changed while it was read");
            return Err(StoreError::File { path: self.path.to_owned(), source: cut });
        }
        self.raw(&[0; header::BLOCK][..header::padding(size)])
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.out.write_all(bytes).map_err(StoreError::file(self.path))
    }
}
