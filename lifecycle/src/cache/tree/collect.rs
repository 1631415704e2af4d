//! Removes caches that nobody used for long, and the least recently used ones when all are too large.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::CacheError;
use super::super::files::remove_tree;
use super::LockedCache;

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectedCaches {
    /// How many caches.
    pub caches: usize,
    /// The size of their files in bytes.
    pub bytes: u64,
}

/// Removes the caches in `bucket` that were not used for `age`, and then those that were not used for longest, until all
/// that are left have no more than `size` bytes. Caches that are in use stay.
///
/// # Errors
/// When a cache cannot be read or removed.
pub fn collect(bucket: &Path, age: Duration, size: u64) -> Result<CollectedCaches, CacheError> {
    let mut caches = unused(bucket)?;
    caches.sort_by_key(|cache| std::cmp::Reverse(cache.used));
    let (mut kept, mut collected) = (0_u64, CollectedCaches::default());
    for cache in caches {
        let idle = SystemTime::now().duration_since(cache.used).unwrap_or_default();
        if idle < age && kept.saturating_add(cache.bytes) <= size {
            kept += cache.bytes;
            continue;
        }
        cache.cache.clear()?;
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
        caches.push(Unused { cache, used, bytes });
    }
    Ok(caches)
}
