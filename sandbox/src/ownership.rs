//! Trees that belong to users of the sandbox.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use crate::mapping::IdMapping;

/// Makes a tree of the host belong to `uid` and `gid` inside the sandbox. With a single id there is nothing to do:
/// what belongs to the caller belongs to the user inside.
///
/// The tree must not be in anybody else's hands meanwhile.
pub fn give_tree(path: &Path, mapping: &IdMapping, uid: u32, gid: u32) -> io::Result<()> {
    give_tree_except(path, mapping, uid, gid, &BTreeSet::new())
}

/// The same, except for some trees in it, which are not looked into: their owners are known.
pub fn give_tree_except(
    path: &Path,
    mapping: &IdMapping,
    uid: u32,
    gid: u32,
    except: &BTreeSet<PathBuf>,
) -> io::Result<()> {
    if mapping.is_single() {
        return Ok(());
    }
    give(path, mapping.host_uid(uid), mapping.host_gid(gid), except)
}

fn give(path: &Path, uid: Option<u32>, gid: Option<u32>, except: &BTreeSet<PathBuf>) -> io::Result<()> {
    if except.contains(path) {
        return Ok(());
    }
    let metadata = fs::symlink_metadata(path)?;
    if Some(metadata.uid()) != uid || Some(metadata.gid()) != gid {
        lchown(path, uid, gid)?;
        // Changing the owner clears these, also when root does it.
        if metadata.is_file() && metadata.mode() & 0o6000 != 0 {
            fs::set_permissions(path, metadata.permissions())?;
        }
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), uid, gid, except)?;
        }
    }
    Ok(())
}

/// Removes a tree, also where its directories forbid it to their owner (as the overlay's `work` does, and as caches of
/// package managers often do). A tree that does not exist is no error.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn open_up(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(());
    }
    if metadata.mode() & 0o700 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(metadata.mode() | 0o700))?;
    }
    for entry in fs::read_dir(path)? {
        open_up(&entry?.path())?;
    }
    Ok(())
}
