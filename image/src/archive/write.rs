//! Writes archives that are an OCI image layout and a `docker save` at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;

use super::docker::{SavedImage, empty_index};
use crate::layer::{Entry, header};
use crate::layout::{REF_NAME, name_descriptor};
use crate::verify::unwrap_error;
use crate::{
    Descriptor, Digest, ImageStore, IndexManifest, Manifest, ManifestContent, Platform, Reference,
    StoreError, json, select,
};

/// An image that goes into an archive, with where its blobs are read from.
#[derive(Clone, Copy)]
pub struct ArchivedImage<'a> {
    /// Where the image is.
    pub store: &'a dyn ImageStore,
    /// Its name there, by which its blobs are read.
    pub reference: &'a Reference,
    /// Its manifest or index.
    pub manifest: &'a Manifest,
    /// Its names in the archive.
    pub names: &'a [Reference],
    /// The name by which tools find it in the layout, when it is not the tag.
    pub layout_name: Option<&'a str>,
    /// Which image of an index tools get that know no indexes.
    pub platform: &'a Platform,
    /// Blobs whose files are left empty, because the reader of the archive has them.
    pub omitted: &'a BTreeSet<Digest>,
}

/// Writes an archive: entries sorted by name, with fixed times and ids, so that the same image gives the same bytes.
/// `path` is where `out` goes, for errors.
///
/// # Errors
/// When a blob cannot be read or the archive cannot be written.
pub fn write(out: impl Write, path: &Path, image: &ArchivedImage<'_>) -> Result<(), StoreError> {
    let mut tar = Tar { out, path };
    let mut parts = Parts { image, blobs: BTreeMap::new(), manifests: BTreeMap::new() };
    parts.collect(image.manifest, 0)?;
    tar.append(&Entry::directory("blobs", 0o755), 0, std::io::empty())?;
    tar.append(&Entry::directory("blobs/sha256", 0o755), 0, std::io::empty())?;
    for blob in parts.blobs.values() {
        if image.omitted.contains(&blob.digest) {
            tar.file(&blob_name(blob), b"")?;
            continue;
        }
        let reader: Box<dyn Read + Send> = match parts.manifests.get(&blob.digest) {
            Some(manifest) => Box::new(std::io::Cursor::new(manifest.raw().clone())),
            None => image.store.open_blob(image.reference, blob)?,
        };
        tar.append(&Entry::file(blob_name(blob), 0o644, ""), blob.size, reader)?;
    }
    let saved = json::to_go_bytes(&parts.saved())
        .map_err(|source| StoreError::File { path: path.to_owned(), source: source.into() })?;
    tar.file("index.json", Manifest::index(index(image)).raw())?;
    tar.file("manifest.json", &saved)?;
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.raw(&[0; 2 * header::BLOCK])?;
    tar.out.flush().map_err(StoreError::file(path))
}

/// `index.json`: a descriptor for each name.
fn index(image: &ArchivedImage<'_>) -> IndexManifest {
    let own = image.manifest.descriptor();
    let names = image.names.iter().map(|name| name_descriptor(own.clone(), Some(name)));
    let mut index = empty_index();
    index.manifests.extend(names);
    if index.manifests.is_empty() {
        index.manifests.push(own);
    }
    if let Some(name) = image.layout_name {
        index.manifests[0].annotations.insert(REF_NAME.to_owned(), name.to_owned());
    }
    index
}

/// Everything that goes into the archive.
struct Parts<'a> {
    image: &'a ArchivedImage<'a>,
    blobs: BTreeMap<Digest, Descriptor>,
    manifests: BTreeMap<Digest, Manifest>,
}

impl Parts<'_> {
    fn collect(&mut self, manifest: &Manifest, depth: usize) -> Result<(), StoreError> {
        self.blobs.insert(manifest.digest(), manifest.descriptor());
        self.manifests.insert(manifest.digest(), manifest.clone());
        match manifest.content() {
            ManifestContent::Image(content) => {
                let blobs = content.layers.iter().chain([&content.config]);
                self.blobs.extend(blobs.map(|blob| (blob.digest, blob.clone())));
                Ok(())
            }
            ManifestContent::Index(_) if depth > 4 => Err(self.unusable("indexes stand in indexes too deep")),
            ManifestContent::Index(index) => index.manifests.iter().try_for_each(|child| {
                let child = self.image.store.child(self.image.reference, child)?;
                self.collect(&child, depth + 1)
            }),
        }
    }

    fn unusable(&self, reason: &str) -> StoreError {
        StoreError::Contradiction { reference: self.image.reference.familiar(), reason: reason.to_owned() }
    }

    /// `manifest.json`, for tools that know no layouts: one image.
    fn saved(&self) -> Vec<SavedImage> {
        let mut manifest = self.image.manifest;
        while let ManifestContent::Index(index) = manifest.content() {
            // An index without an image for the platform is of use only to those who read layouts.
            let chosen = select::choose(index, self.image.platform)
                .and_then(|child| self.manifests.get(&child.digest));
            match chosen {
                Some(child) => manifest = child,
                None => return Vec::new(),
            }
        }
        let Some(content) = manifest.as_image() else { return Vec::new() };
        let names = self.image.names.iter();
        vec![SavedImage {
            config: blob_name(&content.config),
            repo_tags: Some(names.map(|name| name.with_tag(name.tag_or_latest()).familiar()).collect()),
            layers: content.layers.iter().map(blob_name).collect(),
        }]
    }
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
