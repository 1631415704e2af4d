//! The stat index: which layers an app had when it was built last, and what their files were then. A directory that the
//! file system says is the same is not read again.
//!
//! An entry holds the fingerprint of a layer (every path with type, mode, owner, size, times, inode and link target, and
//! whatever else decides the tar), its DiffID, and the blobs that were made of it. The rules are git's: a time that is as
//! young as the entry proves nothing, because the same tick of the clock may have seen another change. Such a layer is
//! read once more; `--paranoid` reads all of them.
//!
//! The index is a file in a directory named by the version of its format, so that other versions live beside it. It is
//! replaced as a whole; one that is damaged is as good as none.

mod encoding;
mod fingerprint;
mod records;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use crate::moment::Moment;
pub use fingerprint::Fingerprint;
pub(crate) use fingerprint::{Fingerprinter, may_be_newer};
use records::{KnownBlob, Record, Records};

use crate::blob_file::{self, TEMPORARY};
use crate::layer::{self, AppRecord, AppTree, Layer, LayerDigest, LayerError, LayerSource, Stat};
use crate::moment::moment;
use crate::{DiffId, Digest, LayerFormat};

/// The directory of this version of the format.
const VERSION: &str = "v2";
const FILE: &str = "index";
const APP: &str = "app";
const LOCK: &str = "lock";

/// What the layers of one app were, at the last build and at this one. Safe to use from many threads.
#[derive(Debug)]
pub struct StatIndex {
    directory: PathBuf,
    is_paranoid: bool,
    /// When this build began to look at files: a time that is not before it proves nothing.
    begun: Moment,
    last: Records,
    /// What this build has found out.
    found: Mutex<BTreeMap<String, Record>>,
    /// What the app is that this build has made layers of.
    app: Mutex<Option<AppRecord>>,
}

/// What the index knows of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It is what it was: nothing of it need be read.
    Unchanged(LayerDigest),
    /// It may be what it was, as far as names, sizes and modes tell: a copy is so, and what was written anew as a whole.
    Similar,
    /// It is not what it was.
    Changed,
    /// The layer was not there at the last build.
    Unknown,
}

/// The index could not be written. The next build reads what this one has read.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the stat index `{path}`")]
pub struct StatIndexError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl StatIndex {
    /// Opens the index in a directory, which is made when it is written first. To be opened when what made the layers
    /// has ended. With `is_paranoid`, nothing is believed without being read.
    #[must_use]
    pub fn open(directory: &Path, is_paranoid: bool) -> Self {
        let directory = directory.join(VERSION);
        let last = load(&directory);
        let begun = now(&directory);
        Self { directory, is_paranoid, begun, last, found: Mutex::default(), app: Mutex::default() }
    }

    /// What is known of a layer. `layer` is its name in the app.
    ///
    /// # Errors
    /// When its directories cannot be read.
    pub fn find(&self, layer: &str, source: &LayerSource) -> Result<Finding, LayerError> {
        let Some(record) = self.record(layer) else { return Ok(Finding::Unknown) };
        let Some(fingerprint) = source.fingerprint()? else { return Ok(Finding::Unknown) };
        if fingerprint.exact == record.exact && record.is_settled && !self.is_paranoid {
            let found = LayerDigest { diff_id: record.diff_id, uncompressed_size: record.uncompressed_size };
            self.found().entry(layer.to_owned()).or_insert(record);
            return Ok(Finding::Unchanged(found));
        }
        Ok(if record.is_similar(&fingerprint) { Finding::Similar } else { Finding::Changed })
    }

    /// The DiffID of a layer, read only if it is not known.
    ///
    /// # Errors
    /// As [`layer::digest`].
    pub fn digest(&self, layer: &str, source: &LayerSource) -> Result<LayerDigest, LayerError> {
        match self.find(layer, source)? {
            Finding::Unchanged(digest) => Ok(digest),
            _ => self.read(layer, source),
        }
    }

    /// Reads a layer for its DiffID, whatever is known of it.
    ///
    /// # Errors
    /// As [`layer::digest`].
    pub fn read(&self, layer: &str, source: &LayerSource) -> Result<LayerDigest, LayerError> {
        let (digest, fingerprint) = layer::read(source)?;
        self.note(layer, fingerprint, digest, None);
        Ok(digest)
    }

    /// The blob of a layer with this content, as this version of the compressor makes it in this format.
    #[must_use]
    pub fn blob(&self, layer: &str, diff_id: DiffId, format: LayerFormat) -> Option<(Digest, u64)> {
        let record = self.record(layer).filter(|record| record.diff_id == diff_id)?;
        let codec = layer::codec(format);
        record.blobs.iter().find(|blob| blob.codec == codec).map(|blob| (blob.digest, blob.size))
    }

    /// The blob of a layer with this content in this format, whatever its name is.
    #[must_use]
    pub fn blob_of(&self, diff_id: DiffId, format: LayerFormat) -> Option<(Digest, u64)> {
        let codec = layer::codec(format);
        let found = self.found();
        let records = found.values().chain(self.last.layers.values());
        let mut blobs = records.filter(|record| record.diff_id == diff_id).flat_map(|record| &record.blobs);
        blobs.find(|blob| blob.codec == codec).map(|blob| (blob.digest, blob.size))
    }

    /// All blobs that are known of the layers that this build has found.
    #[must_use]
    pub fn blobs(&self) -> BTreeSet<Digest> {
        self.found().values().flat_map(|record| &record.blobs).map(|blob| blob.digest).collect()
    }

    /// Notes that a layer that was found with this content has been stored in another format too.
    pub fn note_converted(&self, diff_id: DiffId, format: LayerFormat, (digest, size): (Digest, u64)) {
        let codec = layer::codec(format);
        for record in self.found().values_mut().filter(|record| record.diff_id == diff_id) {
            record.put_blob(KnownBlob { codec: codec.clone(), digest, size });
        }
    }

    /// Notes a layer that was made.
    pub fn note_made(&self, name: &str, made: &Layer, format: LayerFormat) {
        let digest = LayerDigest { diff_id: made.diff_id, uncompressed_size: made.uncompressed_size };
        let blob = KnownBlob {
            codec: layer::codec(format),
            digest: made.descriptor.digest,
            size: made.descriptor.size,
        };
        self.note(name, made.fingerprint, digest, Some(blob));
    }

    /// Notes a layer that was read to be written elsewhere than where its blob is looked for.
    pub fn note_read(&self, name: &str, made: &Layer) {
        let digest = LayerDigest { diff_id: made.diff_id, uncompressed_size: made.uncompressed_size };
        self.note(name, made.fingerprint, digest, None);
    }

    fn note(
        &self,
        layer: &str,
        fingerprint: Option<Fingerprint>,
        digest: LayerDigest,
        blob: Option<KnownBlob>,
    ) {
        let Some(fingerprint) = fingerprint else { return };
        let record = Record::new(&fingerprint, self.begun, digest.diff_id, digest.uncompressed_size);
        let known = self.record(layer).map(|known| (layer.to_owned(), known));
        let mut one = Records { layers: known.into_iter().collect(), ..Records::default() };
        one.put(layer, record, blob);
        self.found().extend(one.layers);
    }

    /// What the app was when the last build with delta layers made them; `None` where that is not known.
    #[must_use]
    pub fn app(&self) -> Option<AppRecord> {
        let path = self.directory.join(APP);
        let read = fs::read(&path);
        if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return None;
        }
        let decoded = read.map_err(|error| error.to_string()).and_then(|bytes| AppRecord::decode(&bytes));
        decoded
            .inspect_err(|why| tracing::debug!("the app's record `{}` is not used: {why}", path.display()))
            .ok()
    }

    /// Notes what the app is, with its layers, lowest first, and the sizes of their tars in bytes. An app that was written
    /// to meanwhile is not noted: its layers may hold something else.
    ///
    /// # Errors
    /// When its directories cannot be read.
    pub fn note_app(&self, tree: &AppTree, layers: Vec<(DiffId, u64)>) -> Result<(), LayerError> {
        let record = tree.is_still_there(self.begun)?.then(|| AppRecord::new(tree, layers));
        if record.is_none() {
            tracing::debug!("the app was written to during the export: the next build makes a full layer");
        }
        *self.app.lock().unwrap_or_else(PoisonError::into_inner) = record;
        Ok(())
    }

    /// What this build found out, or else the last one.
    fn record(&self, layer: &str) -> Option<Record> {
        let found = self.found().get(layer).cloned();
        found.or_else(|| self.last.layers.get(layer).cloned())
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what this build has found out, for the next one. Waits for another build that does the same.
    ///
    /// # Errors
    /// When it cannot be written; the index is then what it was.
    pub fn save(&self) -> Result<(), StatIndexError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StatIndexError { path, source }
        };
        fs::create_dir_all(&self.directory).map_err(failed(&self.directory))?;
        let lock = self.directory.join(LOCK);
        let file = File::options().create(true).append(true).open(&lock).map_err(failed(&lock))?;
        file.lock().map_err(failed(&lock))?;
        self.clear();
        let records = load(&self.directory).after(self.found().clone());
        let replace = |name, bytes: &[u8]| {
            blob_file::replace(&self.directory, name, bytes)
                .map_err(|error| StatIndexError { path: error.path, source: error.source })
        };
        replace(FILE, &encoding::encode(&records))?;
        let app = self.app.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(app) = app.as_ref() else { return Ok(()) };
        replace(APP, &app.encode().map_err(failed(&self.directory.join(APP)))?)
    }

    /// Removes what a process left that was killed while it wrote. Whoever has the lock is the only one who writes.
    fn clear(&self) {
        let Ok(children) = fs::read_dir(&self.directory) else { return };
        for child in children.flatten() {
            if child.file_name().to_string_lossy().starts_with(TEMPORARY) {
                // The next build tries again.
                let _ = fs::remove_file(child.path());
            }
        }
    }
}

/// The index as it is on disk; an empty one where there is none that can be used.
fn load(directory: &Path) -> Records {
    let path = directory.join(FILE);
    let read = fs::read(&path).map_err(|error| (error.kind() != io::ErrorKind::NotFound, error.to_string()));
    let decoded = read.and_then(|bytes| encoding::decode(&bytes).map_err(|why| (true, why.to_owned())));
    decoded.unwrap_or_else(|(is_there, why)| {
        if is_there {
            tracing::debug!("the stat index `{}` is not used: {why}", path.display());
        }
        Records::default()
    })
}

/// The time by the clock of this machine or of the file system, whichever is behind.
fn now(directory: &Path) -> Moment {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let clock = Moment::try_from(clock.as_nanos()).unwrap_or(Moment::MAX);
    // Where nothing can be written there will be no index either.
    let touched = fs::create_dir_all(directory)
        .and_then(|()| tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory))
        .and_then(|file| file.as_file().metadata());
    touched.map_or(clock, |metadata| clock.min(moment(Stat::of(&metadata).modified)))
}
