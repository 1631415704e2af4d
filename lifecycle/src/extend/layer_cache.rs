//! Layers of instructions that were applied before: an instruction that is the same on the same base is not run again.
//!
//! `<kaniko-dir>/cache/layers/longshore/<key>.json` says which layer an instruction made, if any; the layers are in
//! `blobs` beside it. Files are complete or not there, and verified before they are used.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_image::Sha256;
use longshore_image::layer::Layer;
use longshore_image::{BlobSink, Descriptor, DiffId, Digest};
use serde::{Deserialize, Serialize};

/// What identifies an instruction with everything that it depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(Digest);

impl Key {
    /// The key of a base image.
    pub(super) fn of(base: Digest) -> Self {
        Self(base)
    }

    /// The key of an instruction on top; every part is told from the others.
    pub(super) fn then<'a>(self, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.0.as_bytes());
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(Digest::from_hasher(hasher))
    }
}

/// A layer in the cache.
#[derive(Debug, Clone)]
pub(super) struct CachedLayer {
    pub(super) diff_id: DiffId,
    pub(super) descriptor: Descriptor,
    pub(super) path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    /// Seconds since 1970.
    created: u64,
    /// None when the instruction changed nothing.
    #[serde(default)]
    layer: Option<EntryLayer>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryLayer {
    diff_id: DiffId,
    descriptor: Descriptor,
}

pub(super) struct LayerCache {
    directory: PathBuf,
    time_to_live: Duration,
}

impl LayerCache {
    pub(super) fn open(kaniko: &Path, time_to_live: Duration) -> io::Result<Self> {
        let directory = kaniko.join("cache/layers/longshore");
        fs::create_dir_all(directory.join("blobs"))?;
        Ok(Self { directory, time_to_live })
    }

    /// Where new layers are written.
    pub(super) fn sink(&self) -> BlobSink {
        BlobSink::new(self.directory.join("blobs"))
    }

    fn entry(&self, key: Key) -> PathBuf {
        self.directory.join(format!("{}.json", key.0.hex()))
    }

    /// What an instruction made before: no layer perhaps. `None` when that is not known, too old, or damaged.
    pub(super) fn find(&self, key: Key) -> Option<Option<CachedLayer>> {
        let entry = self.read(&self.entry(key))?;
        let Some(layer) = entry.layer else { return Some(None) };
        let path = self.sink().path(layer.descriptor.digest);
        if !is_whole(&path, layer.descriptor.digest) {
            tracing::warn!(
                "'{}' of the cache of layers is damaged or missing: it is made again",
                path.display()
            );
            return None;
        }
        Some(Some(CachedLayer { diff_id: layer.diff_id, descriptor: layer.descriptor, path }))
    }

    fn read(&self, path: &Path) -> Option<Entry> {
        let entry: Entry = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let age = now().saturating_sub(entry.created);
        (age < self.time_to_live.as_secs()).then_some(entry)
    }

    /// Notes what an instruction made.
    pub(super) fn note(&self, key: Key, layer: Option<&Layer>) -> io::Result<()> {
        let layer =
            layer.map(|layer| EntryLayer { diff_id: layer.diff_id, descriptor: layer.descriptor.clone() });
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(&serde_json::to_vec(&Entry { created: now(), layer })?)?;
        file.persist(self.entry(key)).map(drop).map_err(|error| error.error)
    }

    /// Removes what is too old, and layers that nothing leads to any more.
    pub(super) fn collect(&self) -> io::Result<()> {
        let mut wanted = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                match self.read(&path) {
                    Some(entry) => wanted.extend(entry.layer.map(|layer| layer.descriptor.digest.hex())),
                    None => remove(&path)?,
                }
            }
        }
        for blob in fs::read_dir(self.directory.join("blobs"))? {
            let blob = blob?;
            if !wanted.iter().any(|wanted| *wanted == *blob.file_name().to_string_lossy()) {
                remove(&blob.path())?;
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn is_whole(path: &Path, digest: Digest) -> bool {
    let mut hasher = Sha256::new();
    let read = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher));
    read.is_ok() && Digest::from_hasher(hasher) == digest
}

#[cfg(test)]
mod tests {
    use longshore_image::layer::{self, LayerSource};
    use longshore_image::{LayerFormat, ManifestFormat};

    use super::*;

    fn key(text: &str) -> Key {
        Key::of(Digest::of(b"base")).then([text.as_bytes()])
    }

    fn fill(cache: &LayerCache) -> Layer {
        let source = LayerSource::entries(Vec::new());
        let layer = layer::build(&source, LayerFormat::TarGzip, ManifestFormat::Oci, &cache.sink()).unwrap();
        cache.note(key("a"), Some(&layer)).unwrap();
        cache.note(key("nothing"), None).unwrap();
        layer
    }

    #[test]
    fn parts_of_keys_are_told_apart() {
        let base = Key::of(Digest::of(b""));
        assert_ne!(base.then([&b"ab"[..], b"c"]), base.then([&b"a"[..], b"bc"]));
        assert_ne!(base.then([&b"a"[..]]).then([&b"b"[..]]), base.then([&b"a"[..], b"b"]));
    }

    #[test]
    fn what_was_noted_is_found_until_it_is_damaged() {
        let root = tempfile::tempdir().unwrap();
        let cache = LayerCache::open(root.path(), Duration::from_secs(60)).unwrap();
        let layer = fill(&cache);
        cache.collect().unwrap();
        assert_eq!(cache.find(key("a")).unwrap().unwrap().diff_id, layer.diff_id);
        assert!(cache.find(key("nothing")).unwrap().is_none());
        assert!(cache.find(key("b")).is_none());
        fs::write(&layer.path, "x").unwrap();
        assert!(cache.find(key("a")).is_none());
    }

    #[test]
    fn what_is_too_old_is_removed_with_its_layer() {
        let root = tempfile::tempdir().unwrap();
        let cache = LayerCache::open(root.path(), Duration::ZERO).unwrap();
        let layer = fill(&cache);
        assert!(cache.find(key("a")).is_none());
        cache.collect().unwrap();
        assert!(!layer.path.exists() && !cache.entry(key("a")).exists());
    }
}
