//! Files and directories of caches: replaced at once, moved without being followed, and removed also where their modes
//! forbid it.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, renameat};
use rustix::io::Errno;

use super::CacheError;
use crate::directory::Owner;

/// The start of the names of files that are being written; what a killed process left is found by it.
pub(super) const TEMPORARY: &str = ".new-";

const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes a directory's entries lasting: after a power loss they are those of now.
pub(super) fn sync_directory(path: &Path) -> Result<(), CacheError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(CacheError::file(path))
}

/// Replaces a file at once and lastingly: who reads it, now or after a power loss, gets the old bytes or the new ones.
pub(super) fn replace_file(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), CacheError> {
    let path = directory.join(name);
    let write = || {
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)
    };
    write().map_err(CacheError::file(&path))?;
    sync_directory(directory)
}

/// Removes a tree or a file, also where its directories forbid it to their owner, as caches of package managers often do.
pub(super) fn remove_tree(path: &Path) -> Result<(), CacheError> {
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path).and_then(|()| fs::remove_dir_all(path))
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    removed.map_err(CacheError::file(path))
}

fn open_up(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(());
    }
    if metadata.mode() & 0o700 != 0o700 {
        fs::set_permissions(path, Permissions::from_mode(metadata.mode() | 0o700))?;
    }
    fs::read_dir(path)?.try_for_each(|child| open_up(&child?.path()))
}

/// Gives a tree to somebody else. Set-id bits, which that clears, are put back.
pub(super) fn give_tree(path: &Path, owner: Owner) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if (metadata.uid(), metadata.gid()) != (owner.uid, owner.gid) {
        lchown(path, Some(owner.uid), Some(owner.gid))?;
        if metadata.is_file() && metadata.mode() & 0o6000 != 0 {
            fs::set_permissions(path, metadata.permissions())?;
        }
    }
    if metadata.is_dir() {
        fs::read_dir(path)?.try_for_each(|child| give_tree(&child?.path(), owner))?;
    }
    Ok(())
}

/// Opens the directory that a path of the layers directory is in. Buildpacks may put links there, so none is followed
/// below `root`.
pub(super) fn open_parent(root: &Path, relative: &Path) -> io::Result<OwnedFd> {
    let root = openat(CWD, root, OPEN_DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty())?;
    let parent = relative.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(&root, parent, OPEN_DIRECTORY, Mode::empty(), within)?)
}

/// Renames the directory `from` of an open directory to a path. The kernel writes the new parent into the directory, so
/// it must be writable; it gets its mode back afterwards.
pub(super) fn move_directory(parent: &OwnedFd, from: &Path, to: &Path) -> io::Result<()> {
    rename(parent.as_fd(), from, CWD, to)
}

/// Renames a directory to `to` of an open directory.
pub(super) fn move_directory_into(from: &Path, parent: &OwnedFd, to: &Path) -> io::Result<()> {
    rename(CWD, from, parent.as_fd(), to)
}

fn rename(from_parent: impl AsFd, from: &Path, to_parent: impl AsFd, to: &Path) -> io::Result<()> {
    let rename = || renameat(&from_parent, from, &to_parent, to);
    match rename() {
        Err(Errno::ACCESS) => {
            // Also where its mode forbids its owner to open it.
            let directory = openat(&from_parent, from, OPEN_DIRECTORY, Mode::empty())?;
            let mode = rustix::fs::fstat(&directory)?.st_mode;
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode) | Mode::WUSR)?;
            let renamed = rename();
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
            Ok(renamed?)
        }
        other => Ok(other?),
    }
}
