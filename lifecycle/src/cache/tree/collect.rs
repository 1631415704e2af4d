//! Removes caches that nobody used for long, and the least recently used ones when all are too large.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::CacheError;
use super::super::files::remove_tree;
use super::{LockedCache, PublishedBlobs};

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectedCaches {
    /// How many caches.
    pub caches: usize,
    /// The size of their files in bytes.
    pub bytes: u64,
}

/// Removes the caches in `bucket` that were not used for `age`, and then those that were not used for longest, until all
/// that are left have no more than `size` bytes, with what the local store keeps for them. Caches that are in use stay.
///
/// # Errors
/// When a cache cannot be read or removed.
pub fn collect(bucket: &Path, age: Duration, size: u64) -> Result<CollectedCaches, CacheError> {
    let mut caches = unused(bucket)?;
    caches.sort_by_key(|cache| std::cmp::Reverse(cache.used));
    let (mut kept, mut collected) = (0_u64, CollectedCaches::default());
    for cache in caches {
        let idle = SystemTime::now().duration_since(cache.used).unwrap_or_default();
        let all = kept.saturating_add(cache.bytes).saturating_add(cache.blobs);
        if idle < age && all <= size {
            kept = all;
            continue;
        }
        cache.cache.remove_layers()?;
        remove_tree(&cache.cache.directory)?;
        tracing::debug!("removed the cache of `{}`", cache.cache.image);
        collected.caches += 1;
        collected.bytes += cache.bytes;
    }
    Ok(collected)
}

struct Unused {
    cache: LockedCache,
    used: SystemTime,
    bytes: u64,
    /// The size of its blobs in the local store in bytes; a blob of several caches counts for each.
    blobs: u64,
}

fn unused(bucket: &Path) -> Result<Vec<Unused>, CacheError> {
    let children = match fs::read_dir(bucket) {
        Ok(children) => children,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(CacheError::File { path: bucket.to_owned(), source }),
    };
    let mut caches = Vec::new();
    for child in children {
        let path: PathBuf = child.map_err(CacheError::file(bucket))?.path();
        // Whoever takes the lock writes into its file.
        let lock = path.join("lock");
        let used = fs::metadata(&lock).and_then(|metadata| metadata.modified());
        let Ok(used) = used else { continue };
        let Some(cache) = LockedCache::open_unused(&path)? else { continue };
        let bytes = cache.document().trees.iter().map(|tree| tree.fingerprint.bytes).sum();
        let blobs = PublishedBlobs::read(&path)?.bytes();
        caches.push(Unused { cache, used, bytes, blobs });
    }
    Ok(caches)
}
