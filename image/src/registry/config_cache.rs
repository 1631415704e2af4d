//! Configurations that were read or written before: they are found by their digest, so what is kept cannot be outdated.
//!
//! Whoever names one has its manifest, which the registry gave just now; so nothing is shown to those who may not see it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;

use crate::{Descriptor, Digest};

/// How many are kept; those that were used longest ago go.
const MOST: usize = 1000;
/// The largest that is kept, in bytes.
const LARGEST: u64 = 1 << 20;

/// A directory with a file for each configuration.
#[derive(Debug)]
pub(super) struct ConfigCache(Option<PathBuf>);

impl ConfigCache {
    pub(super) const fn new(directory: Option<PathBuf>) -> Self {
        Self(directory)
    }

    /// A configuration, if it is there and whole.
    pub(super) fn get(&self, blob: &Descriptor) -> Option<Bytes> {
        let path = self.path(blob)?;
        let bytes = fs::read(&path).ok()?;
        if Digest::of(&bytes) != blob.digest {
            remove(&path);
            return None;
        }
        if let Ok(file) = fs::File::open(&path) {
            // Only the order in which they go depends on it.
            let _older_than_it_is = file.set_modified(SystemTime::now());
        }
        Some(bytes.into())
    }

    /// Keeps a configuration. That it cannot be kept is no reason to fail.
    pub(super) fn put(&self, blob: &Descriptor, bytes: &[u8]) {
        let Some(path) = self.path(blob).filter(|path| !path.exists()) else { return };
        if let Err(error) = write(&path, bytes) {
            tracing::debug!("cannot keep `{}`: {error}", path.display());
        }
    }

    fn path(&self, blob: &Descriptor) -> Option<PathBuf> {
        let directory = self.0.as_deref().filter(|_| blob.size <= LARGEST)?;
        Some(directory.join(blob.digest.to_string().replace(':', "-")))
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    fs::create_dir_all(directory)?;
    // Read by others only as a whole; what a crash leaves is told by its digest.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files.push((entry.path(), entry));
    }
    if files.len() > MOST {
        let age = |entry: &fs::DirEntry| entry.metadata().and_then(|metadata| metadata.modified()).ok();
        files.sort_by_cached_key(|(_, entry)| age(entry));
        // Some at once, so that not every new one sorts all.
        files.iter().take(files.len() - MOST * 9 / 10).for_each(|(path, _)| remove(path));
    }
    Ok(())
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!("cannot remove `{}`: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManifestFormat, MediaType};

    fn blob(bytes: &[u8]) -> Descriptor {
        Descriptor::new(MediaType::Config(ManifestFormat::Oci), Digest::of(bytes), bytes.len() as u64)
    }

    #[test]
    fn what_is_kept_is_whole_or_gone() {
        let root = tempfile::tempdir().unwrap();
        let cache = ConfigCache::new(Some(root.path().join("configs")));
        let (one, other) = (blob(b"one"), blob(b"other"));
        assert_eq!(cache.get(&one), None);
        cache.put(&one, b"one");
        cache.put(&other, b"damaged");
        assert_eq!(cache.get(&one).as_deref(), Some(&b"one"[..]));
        assert_eq!(cache.get(&other), None);
        assert_eq!(fs::read_dir(root.path().join("configs")).unwrap().count(), 1);
        let none = ConfigCache::new(None);
        none.put(&one, b"one");
        assert_eq!(none.get(&one), None);
    }

    #[test]
    fn the_oldest_go() {
        let root = tempfile::tempdir().unwrap();
        let cache = ConfigCache::new(Some(root.path().to_owned()));
        for number in 0..=MOST {
            fs::write(root.path().join(number.to_string()), b"").unwrap();
        }
        cache.put(&blob(b"new"), b"new");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), MOST * 9 / 10);
    }
}
