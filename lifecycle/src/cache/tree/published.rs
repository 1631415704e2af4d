//! `published.json`: the blobs that builds which push their image have put into the local store. No image of the store
//! names them; the stat index finds them there when the registry has lost its copies, or an upload has failed.
//!
//! The list is replaced at once. One that is damaged, or of another version, is as good as none: what it named is compressed
//! once more when it is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use longshore_image::Digest;
use serde::{Deserialize, Serialize};

use super::super::CacheError;
use super::super::files::replace_file;

const NAME: &str = "published.json";
const VERSION: u32 = 1;

/// The blobs that an app's builds have put into the local store and that no image there names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PublishedBlobs {
    /// Those of the image that was pushed last, with their sizes in bytes. They are kept as long as the cache is.
    pub used: BTreeMap<Digest, u64>,
    /// Those of images before it, and of builds that failed. They are removed as soon as nobody can be about to use them.
    pub left: BTreeSet<Digest>,
}

#[derive(Serialize, Deserialize)]
struct Document<T> {
    version: u32,
    #[serde(flatten)]
    blobs: T,
}

impl PublishedBlobs {
    /// Reads the list of a cache; an empty one when there is none, or it cannot be used.
    pub(super) fn read(directory: &Path) -> Result<Self, CacheError> {
        let path = directory.join(NAME);
        let bytes = match fs::read(&path) {
            // Also a cache that was removed meanwhile, and a file among the caches that is none.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            other => other.map_err(CacheError::file(&path))?,
        };
        let why = match serde_json::from_slice::<Document<Self>>(&bytes) {
            Ok(document) if document.version == VERSION => return Ok(document.blobs),
            Ok(document) => format!("its version is {}", document.version),
            Err(error) => error.to_string(),
        };
        tracing::debug!("the list `{}` is not used: {why}", path.display());
        Ok(Self::default())
    }

    /// Writes the list in the place of the old one, lastingly.
    pub(super) fn write(&self, directory: &Path) -> Result<(), CacheError> {
        let document = Document { version: VERSION, blobs: self };
        replace_file(directory, NAME, &serde_json::to_vec(&document).map_err(CacheError::Metadata)?)
    }

    /// The list after a build that has `made` blobs, or found that they are known, and has `pushed` an image with these,
    /// or failed.
    #[must_use]
    pub fn after(self, pushed: Option<BTreeMap<Digest, u64>>, made: BTreeSet<Digest>) -> Self {
        let mut blobs = match pushed {
            Some(used) => Self { used, ..self.given_up() },
            None => self,
        };
        blobs.left.extend(made);
        blobs.left.retain(|digest| !blobs.used.contains_key(digest));
        blobs
    }

    /// The list when no image is known any more.
    pub(super) fn given_up(mut self) -> Self {
        self.left.extend(std::mem::take(&mut self.used).into_keys());
        self
    }

    /// How many bytes the store keeps for the cache.
    pub(super) fn bytes(&self) -> u64 {
        self.used.values().fold(0, |sum, size| sum.saturating_add(*size))
    }
}

/// All blobs that the caches in `bucket` keep in the local store, but for the cache in the directory `except`.
///
/// # Errors
/// When a list cannot be read.
pub fn published_blobs(bucket: &Path, except: Option<&Path>) -> Result<BTreeSet<Digest>, CacheError> {
    let children = match fs::read_dir(bucket) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other.map_err(CacheError::file(bucket))?,
    };
    let mut blobs = BTreeSet::new();
    for child in children {
        let path = child.map_err(CacheError::file(bucket))?.path();
        if except != Some(path.as_path()) {
            blobs.extend(PublishedBlobs::read(&path)?.used.into_keys());
        }
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn used(names: &[&str]) -> BTreeMap<Digest, u64> {
        names.iter().map(|name| (digest(name), 7)).collect()
    }

    fn left(names: &[&str]) -> BTreeSet<Digest> {
        names.iter().map(|name| digest(name)).collect()
    }

    #[test]
    fn what_the_last_pushed_image_has_is_used_and_the_rest_is_left() {
        let before = PublishedBlobs { used: used(&["a", "b"]), left: left(&["c", "d"]) };
        for (pushed, made, expected) in [
            (Some(&["b", "c"][..]), &["c", "e"][..], (&["b", "c"][..], &["a", "d", "e"][..])),
            (Some(&[]), &[], (&[], &["a", "b", "c", "d"])),
            (None, &["b", "e"], (&["a", "b"], &["c", "d", "e"])),
            (None, &[], (&["a", "b"], &["c", "d"])),
        ] {
            let after = before.clone().after(pushed.map(used), left(made));
            let expected = PublishedBlobs { used: used(expected.0), left: left(expected.1) };
            assert_eq!(after, expected, "{pushed:?} {made:?}");
        }
    }

    #[test]
    fn lists_are_found_again_and_damaged_ones_are_none() {
        let bucket = tempfile::tempdir().unwrap();
        let path = |name: &str| bucket.path().join(name);
        assert_eq!(published_blobs(&path("missing"), None).unwrap(), left(&[]));
        for (name, blob) in [("one", "a"), ("other", "b")] {
            fs::create_dir(path(name)).unwrap();
            let blobs = PublishedBlobs { used: used(&[blob, "both"]), left: left(&["c"]) };
            blobs.write(&path(name)).unwrap();
            assert_eq!(PublishedBlobs::read(&path(name)).unwrap(), blobs);
            assert_eq!(blobs.bytes(), 14);
        }
        fs::create_dir(path("without a list")).unwrap();
        fs::write(path("no directory"), "").unwrap();
        assert_eq!(published_blobs(bucket.path(), None).unwrap(), left(&["a", "b", "both"]));
        assert_eq!(published_blobs(bucket.path(), Some(&path("one"))).unwrap(), left(&["b", "both"]));
        let whole = fs::read_to_string(path("one").join(NAME)).unwrap();
        for damaged in ["", &whole[..whole.len() / 2], "[]", &whole.replace("\"version\":1", "\"version\":2")]
        {
            fs::write(path("one").join(NAME), damaged).unwrap();
            assert_eq!(PublishedBlobs::read(&path("one")).unwrap(), PublishedBlobs::default(), "{damaged}");
        }
    }
}
