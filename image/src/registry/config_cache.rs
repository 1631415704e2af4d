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
/// How much is kept, in bytes.
const MOST_BYTES: u64 = 64 << 20;
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

    /// Whether it would be kept.
    pub(super) fn takes(&self, blob: &Descriptor) -> bool {
        self.path(blob).is_some()
    }

    fn path(&self, blob: &Descriptor) -> Option<PathBuf> {
        let directory = self.0.as_deref().filter(|_| blob.size <= LARGEST)?;
        Some(directory.join(blob.digest.to_string().replace(':', "-")))
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    fs::create_dir_all(directory)?;
    // Read by others only as a whole, and by this user alone; what a crash leaves is told by its digest.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Another process may have removed it meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        files.push((metadata.modified()?, metadata.len(), entry.path()));
    }
    files.sort_unstable();
    surplus(&files).iter().for_each(|(_, _, path)| remove(path));
    Ok(())
}

/// When a file was used last, its size in bytes, and where it is.
type Kept = (SystemTime, u64, PathBuf);

/// Those that go, of all files in the order of their use. Some go at once, so that not every new one takes one away.
fn surplus(files: &[Kept]) -> &[Kept] {
    let total: u64 = files.iter().map(|(_, size, _)| size).sum();
    if files.len() <= MOST && total <= MOST_BYTES {
        return &[];
    }
    let (mut count, mut left) = (files.len(), total);
    let goes = |(_, size, _): &&Kept| {
        let is_surplus = count > MOST * 9 / 10 || left > MOST_BYTES / 10 * 9;
        count -= 1;
        left -= size;
        is_surplus
    };
    &files[..files.iter().take_while(goes).count()]
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
    fn others_cannot_read_what_is_kept() {
        use std::os::unix::fs::PermissionsExt as _;

        let root = tempfile::tempdir().unwrap();
        let cache = ConfigCache::new(Some(root.path().to_owned()));
        cache.put(&blob(b"one"), b"one");
        let file = fs::read_dir(root.path()).unwrap().next().unwrap().unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        // One that is damaged later is as good as none, and another takes its place.
        fs::write(file.path(), b"two").unwrap();
        assert_eq!(cache.get(&blob(b"one")), None);
        cache.put(&blob(b"one"), b"one");
        assert!(cache.get(&blob(b"one")).is_some());
    }

    #[test]
    fn what_is_too_much_goes() {
        let files = |sizes: &[u64]| -> Vec<Kept> {
            sizes.iter().map(|size| (SystemTime::UNIX_EPOCH, *size, PathBuf::new())).collect()
        };
        let tenth = MOST_BYTES / 10;
        for (sizes, gone) in [
            (vec![], 0),
            (vec![MOST_BYTES], 0),
            (vec![MOST_BYTES + 1], 1),
            (vec![1, MOST_BYTES], 2),
            (vec![tenth, 5 * tenth, 4 * tenth], 0),
            (vec![2 * tenth, 5 * tenth, 4 * tenth], 1),
            (vec![0; MOST], 0),
            (vec![0; MOST + 1], MOST / 10 + 1),
        ] {
            assert_eq!(surplus(&files(&sizes)).len(), gone, "{sizes:?}");
        }
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
