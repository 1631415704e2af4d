//! Layers: from a directory or entries to a tar, its DiffID and its blob, in one pass over the bytes.
//!
//! ```text
//! walk -> plan of the tar in fixed chunks -> read ahead into them -> DiffID
//!                                                               \-> compressors -> in order: digest, blob file
//! ```
//!
//! The tar is byte for byte what the reference lifecycle writes, so that layers of both have the same DiffIDs. Chunks are
//! compressed independently (zstd frames, gzip members), so that the blob depends neither on the number of threads nor on
//! their timing; memory is bounded by the chunks that there are, for all layers together.

mod app_tree;
mod chunks;
mod compress;
mod entry;
mod error;
mod folder;
pub(crate) mod header;
mod load;
mod memory;
mod open_file;
mod pattern;
mod pipeline;
mod plan;
mod scout;
mod sink;
mod slices;
mod stat;
mod synthetic;
mod tar_copy;
#[cfg(test)]
mod tests;
mod walk;

use std::io::Read;
use std::path::{Path, PathBuf};

pub use app_tree::{AppChange, AppRecord, AppTree};
pub(crate) use compress::codec;
pub use compress::gzip_bytes_are_common;
pub use entry::{Content, Device, Entry, EntryKind, Ownership, ParentOwnership};
pub use error::LayerError;
use pipeline::{Feed, Outcome};
pub use sink::BlobSink;
pub(crate) use sink::touch;
pub use slices::slices;
pub(crate) use stat::Stat;
pub use synthetic::{launcher, process_types};
pub use tar_copy::{TarCopy, remove_abandoned_tars};

use crate::stat_index::{Fingerprint, Fingerprinter};
use crate::{Descriptor, DiffId, LayerFormat, ManifestFormat, MediaType};

/// A layer that was written as a blob.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// The blob: media type, digest and size.
    pub descriptor: Descriptor,
    /// The file that holds the blob.
    pub path: PathBuf,
    /// The size of the uncompressed tar in bytes.
    pub uncompressed_size: u64,
    /// What its files were when they were found, before they were read; `None` where it is not made of files.
    pub fingerprint: Option<Fingerprint>,
}

/// What a layer is without its blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerDigest {
    /// The digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// The size of the uncompressed tar in bytes.
    pub uncompressed_size: u64,
}

/// Where the entries of a layer come from.
#[derive(Debug, Clone)]
pub struct LayerSource(Source);

#[derive(Debug, Clone)]
enum Source {
    Directory { host: PathBuf, name: PathBuf, ownership: Ownership },
    Entries(Vec<Entry>),
    Tar(PathBuf),
}

impl LayerSource {
    /// A directory of the host with all in it, named `name` in the image. Entries for its parents come first.
    ///
    /// # Errors
    /// When `name` is not absolute and plain.
    pub fn directory(host: &Path, name: &Path, ownership: Ownership) -> Result<Self, LayerError> {
        let name = walk::plain_name(name)?;
        Ok(Self(Source::Directory { host: host.to_owned(), name, ownership }))
    }

    /// Entries in the order given.
    #[must_use]
    pub fn entries(entries: Vec<Entry>) -> Self {
        Self(Source::Entries(entries))
    }

    /// A tar file that another tool made; its bytes become the layer as they are.
    #[must_use]
    pub fn tar(host: impl Into<PathBuf>) -> Self {
        Self(Source::Tar(host.into()))
    }

    /// Whether it is known without reading anything that the layer has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Source::Entries(entries) if entries.is_empty())
    }

    /// What the layer is as far as the file system tells, without any file being read. `None` for a tar.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub(crate) fn fingerprint(&self) -> Result<Option<Fingerprint>, LayerError> {
        let Some(mut fingerprinter) = self.fingerprinter() else { return Ok(None) };
        self.visit(&mut |entry| {
            fingerprinter.push(&entry);
            Ok(())
        })?;
        Ok(Some(fingerprinter.finish()))
    }

    fn fingerprinter(&self) -> Option<Fingerprinter<'_>> {
        match &self.0 {
            Source::Directory { name, .. } => Some(Fingerprinter::new(b"directory", Some(name))),
            Source::Entries(_) => Some(Fingerprinter::new(b"entries", None)),
            Source::Tar(_) => None,
        }
    }

    fn visit(&self, emit: &mut dyn FnMut(Entry) -> Result<(), LayerError>) -> Result<(), LayerError> {
        match &self.0 {
            Source::Directory { host, name, ownership } => walk::walk(host, name, ownership, emit),
            Source::Entries(entries) => entries.iter().map(with_stat).try_for_each(|entry| emit(entry?)),
            Source::Tar(_) => Ok(()),
        }
    }

    /// The file, when the tar is there already and no entries are visited.
    fn tar_file(&self) -> Option<&Path> {
        match &self.0 {
            Source::Tar(path) => Some(path),
            Source::Directory { .. } | Source::Entries(_) => None,
        }
    }
}

/// The entry with what the file system says about its file.
fn with_stat(entry: &Entry) -> Result<Entry, LayerError> {
    let mut entry = entry.clone();
    if let (None, EntryKind::File(Content::Host { path, .. })) = (entry.stat, &entry.kind) {
        let metadata = std::fs::symlink_metadata(path).map_err(LayerError::read(path))?;
        entry.stat = Some(Stat::of(&metadata));
    }
    Ok(entry)
}

/// The DiffID of a layer, without compressing or writing anything: to find out whether an image has it already.
///
/// # Errors
/// When the source cannot be read, changes while it is read, or cannot be expressed in tar.
pub fn digest(source: &LayerSource) -> Result<LayerDigest, LayerError> {
    read(source).map(|(digest, _)| digest)
}

/// As [`digest`], with what the layer's files were when they were found, before they were read.
///
/// # Errors
/// As [`digest`].
pub fn read(source: &LayerSource) -> Result<(LayerDigest, Option<Fingerprint>), LayerError> {
    let Outcome { digest, fingerprint, .. } = patiently(|| pipeline::run(Feed::Source(source), None, None))?;
    Ok((digest, fingerprint))
}

/// How often a layer is begun whose files change meanwhile.
const ATTEMPTS: usize = 3;

/// Makes a layer once more when its files have changed meanwhile.
fn patiently<T>(mut make: impl FnMut() -> Result<T, LayerError>) -> Result<T, LayerError> {
    for _ in 1..ATTEMPTS {
        match make() {
            Err(LayerError::Changed { path }) => {
                tracing::debug!(
                    "`{}` has changed while it was read: its layer is begun again",
                    path.display()
                );
            }
            other => return other,
        }
    }
    make()
}

/// Makes a layer and writes its blob into `sink`. The media type is of the family of the image's manifest.
///
/// # Errors
/// When the source cannot be read, changes while it is read, or cannot be expressed in tar; when the blob cannot be
/// written. Nothing is left in the sink then.
pub fn build(
    source: &LayerSource,
    format: LayerFormat,
    family: ManifestFormat,
    sink: &BlobSink,
) -> Result<Layer, LayerError> {
    build_with_tar(source, format, family, sink, None).map(|(layer, _)| layer)
}

/// As [`build`], and in the same pass writes the tar into a file in the directory `tars`, if there is one. When that fails, the layer is made all the
/// same, without it.
///
/// # Errors
/// As [`build`].
pub fn build_with_tar(
    source: &LayerSource,
    format: LayerFormat,
    family: ManifestFormat,
    sink: &BlobSink,
    tars: Option<&Path>,
) -> Result<(Layer, Option<TarCopy>), LayerError> {
    patiently(|| write(Feed::Source(source), format, family, sink, tars))
}

/// Makes the blob of a layer whose uncompressed tar is read from somewhere else; its bytes become the layer as they are.
/// `name` is what the stream is called in errors.
///
/// # Errors
/// When the stream cannot be read or the blob cannot be written. Nothing is left in the sink then.
pub fn build_from(
    tar: &mut (dyn Read + Send),
    name: &str,
    format: LayerFormat,
    family: ManifestFormat,
    sink: &BlobSink,
) -> Result<Layer, LayerError> {
    write(Feed::Stream(tar, name), format, family, sink, None).map(|(layer, _)| layer)
}

fn write(
    feed: Feed<'_>,
    format: LayerFormat,
    family: ManifestFormat,
    sink: &BlobSink,
    tars: Option<&Path>,
) -> Result<(Layer, Option<TarCopy>), LayerError> {
    let Outcome { digest, tar, fingerprint, blob } = pipeline::run(feed, Some((format, sink)), tars)?;
    let blob = blob.ok_or(LayerError::Stopped)?;
    let layer = Layer {
        diff_id: digest.diff_id,
        descriptor: Descriptor::new(MediaType::Layer(family, format), blob.digest, blob.size),
        path: blob.path,
        uncompressed_size: digest.uncompressed_size,
        fingerprint,
    };
    Ok((layer, tar))
}
