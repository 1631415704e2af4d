//! Walking a tree and reading its files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::encoding;
use super::error::SnapshotError;
use super::node::{Kind, Node};
use crate::copy::for_each;
use crate::verify::digest_of;

/// Which part of a tree is looked at.
#[derive(Debug, Clone)]
pub struct Scope {
    root: PathBuf,
    excluded: BTreeSet<PathBuf>,
    mounted: BTreeSet<PathBuf>,
}

impl Scope {
    /// The tree below a directory, without `excluded` (paths on this machine). What is mounted below it is left out, as it
    /// is no part of a layer: directories are looked at and not into, files are not looked at.
    ///
    /// # Errors
    /// When the directory does not exist.
    pub fn new(root: &Path, excluded: &[PathBuf]) -> Result<Self, SnapshotError> {
        let root = fs::canonicalize(root).map_err(SnapshotError::at(root))?;
        let absolute = |path: &PathBuf| fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok();
        let excluded = excluded.iter().filter_map(absolute).collect();
        // Without /proc nothing is known of mounts, and nothing needs to be.
        let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mounted = mount_points(&mounts).filter(|path| *path != root).collect();
        Ok(Self { root, excluded, mounted })
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// The fifth field of each line, with spaces and backslashes as octal numbers.
fn mount_points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        let mut path = Vec::with_capacity(field.len());
        let mut rest = field;
        while let Some((first, tail)) = rest.split_first() {
            let number = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
            match number.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
                Some(byte) => {
                    path.push(byte);
                    rest = &tail[3..];
                }
                None => {
                    path.push(*first);
                    rest = tail;
                }
            }
        }
        Some(PathBuf::from(OsStr::from_bytes(&path)))
    })
}

pub(super) fn now() -> i128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}

/// The file of a name.
pub(super) fn path_of(root: &Path, name: &[u8]) -> PathBuf {
    if name.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(name)) }
}

/// Everything in a tree by name, without the content of files.
pub(super) fn walk(scope: &Scope) -> Result<BTreeMap<Vec<u8>, Node>, SnapshotError> {
    let mut nodes = BTreeMap::new();
    let mut names = vec![Vec::new()];
    while let Some(name) = names.pop() {
        let path = path_of(&scope.root, &name);
        if scope.excluded.contains(&path) {
            continue;
        }
        let metadata = match fs::symlink_metadata(&path) {
            // Gone since its directory was read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !name.is_empty() => continue,
            other => other.map_err(SnapshotError::at(&path))?,
        };
        let is_mounted = scope.mounted.contains(&path);
        if is_mounted && !metadata.is_dir() {
            continue;
        }
        let Some(node) = Node::read(&path, &metadata).map_err(SnapshotError::at(&path))? else {
            tracing::debug!("`{}` is a socket: left out", path.display());
            continue;
        };
        if node.kind == Kind::Directory && !is_mounted {
            for child in fs::read_dir(&path).map_err(SnapshotError::at(&path))? {
                let child = child.map_err(SnapshotError::at(&path))?.file_name();
                let slash: &[u8] = if name.is_empty() { b"" } else { b"/" };
                names.push([&name, slash, child.as_bytes()].concat());
            }
        }
        nodes.insert(name, node);
    }
    Ok(nodes)
}

/// Reads the content of the files that `wanted` names, some at once.
pub(super) fn hash(
    root: &Path,
    nodes: &mut BTreeMap<Vec<u8>, Node>,
    wanted: impl Fn(&[u8], &Node) -> bool,
) -> Result<(), SnapshotError> {
    let names: Vec<Vec<u8>> = nodes
        .iter()
        .filter(|(name, node)| node.kind == Kind::File && wanted(name, node))
        .map(|(name, _)| name.clone())
        .collect();
    let digests = Mutex::new(Vec::with_capacity(names.len()));
    for_each(&names, |name| {
        let path = path_of(root, name);
        let digest = fs::File::open(&path).and_then(|mut file| digest_of(&mut file));
        let digest = digest.map_err(SnapshotError::at(&path))?;
        digests.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), digest));
        Ok(())
    })?;
    for (name, digest) in digests.into_inner().unwrap_or_else(PoisonError::into_inner) {
        if let Some(node) = nodes.get_mut(&name) {
            node.content = Some(digest);
        }
    }
    Ok(())
}

/// A name for people.
pub(super) fn display(name: &[u8]) -> String {
    encoding::encode(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read() {
        let table = b"22 1 0:21 / / rw - ext4 /dev/a rw\n23 22 0:5 / /a\\040b rw - tmpfs t rw\n\n";
        let found: Vec<_> = mount_points(table).collect();
        assert_eq!(found, [PathBuf::from("/"), PathBuf::from("/a b")]);
    }
}
