//! The entries of a directory on disk, in the order of Go's `filepath.Walk`: parents before children, the names of each
//! directory sorted by bytes.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use super::entry::{Content, Device, Entry, EntryKind, Ownership, ParentOwnership};
use super::error::LayerError;
use super::stat::Stat;

/// Gives every entry of a layer for directory `host`, named `name` in the image, to `emit`.
pub(super) fn walk(
    host: &Path,
    name: &Path,
    ownership: &Ownership,
    emit: &mut dyn FnMut(Entry) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    parents(host, name, ownership)?.into_iter().try_for_each(&mut *emit)?;
    tree(host, name, ownership, emit)
}

/// The directory itself and all in it, without its parents.
pub(super) fn tree(
    host: &Path,
    name: &Path,
    ownership: &Ownership,
    emit: &mut dyn FnMut(Entry) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    let mut stack = vec![(host.to_owned(), name.to_owned())];
    while let Some((host, name)) = stack.pop() {
        let metadata = fs::symlink_metadata(&host).map_err(LayerError::read(&host))?;
        if let Some(entry) = entry(&host, &name, &metadata, ownership)? {
            emit(entry)?;
        }
        if metadata.is_dir() {
            // The stack is last in, first out.
            let children = sorted_names(&host)?.into_iter().rev();
            stack.extend(children.map(|child| (host.join(&child), name.join(&child))));
        }
    }
    Ok(())
}

fn sorted_names(directory: &Path) -> Result<Vec<OsString>, LayerError> {
    let read = |child: std::io::Result<fs::DirEntry>| child.map(|child| child.file_name());
    let names = fs::read_dir(directory).and_then(|children| children.map(read).collect());
    let mut names: Vec<OsString> = names.map_err(LayerError::read(directory))?;
    names.sort_unstable();
    Ok(names)
}

/// The entry of a file; `None` for a socket, which a layer cannot hold.
fn entry(
    host: &Path,
    name: &Path,
    metadata: &Metadata,
    ownership: &Ownership,
) -> Result<Option<Entry>, LayerError> {
    let file_type = metadata.file_type();
    let device =
        || Device { major: rustix::fs::major(metadata.rdev()), minor: rustix::fs::minor(metadata.rdev()) };
    let kind = if file_type.is_dir() {
        EntryKind::Directory
    } else if file_type.is_file() {
        EntryKind::File(Content::Host { path: host.to_owned(), size: metadata.size() })
    } else if file_type.is_symlink() {
        EntryKind::Symlink(fs::read_link(host).map_err(LayerError::read(host))?)
    } else if file_type.is_fifo() {
        EntryKind::Fifo
    } else if file_type.is_char_device() {
        EntryKind::CharacterDevice(device())
    } else if file_type.is_block_device() {
        EntryKind::BlockDevice(device())
    } else {
        tracing::debug!("`{}` is a socket: left out of the layer", host.display());
        return Ok(None);
    };
    let mode = metadata.mode() & 0o7777;
    let entry = Entry::new(name, mode, kind).owned_by(ownership.uid, ownership.gid);
    Ok(Some(Entry { stat: Some(Stat::of(metadata)), ..entry }))
}

/// The entries of the parents of a directory in the image, `/` excluded, outermost first.
pub(super) fn parents(host: &Path, name: &Path, ownership: &Ownership) -> Result<Vec<Entry>, LayerError> {
    let mut hosts = host.ancestors().skip(1);
    let mut entries = Vec::new();
    for parent in name.ancestors().skip(1).filter(|parent| *parent != Path::new("/")) {
        let (uid, gid, mode) = match (ownership.parents, hosts.next()) {
            (ParentOwnership::Fixed { uid, gid, mode }, _) => (uid, gid, mode),
            (ParentOwnership::OnDisk, Some(host)) => {
                let metadata = fs::metadata(host).map_err(LayerError::read(host))?;
                (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
            }
            (ParentOwnership::OnDisk, None) => return Err(LayerError::Name { name: name.to_owned() }),
        };
        entries.push(Entry::directory(parent, mode).owned_by(uid, gid));
    }
    entries.reverse();
    Ok(entries)
}

/// The name of a directory in the image, without a trailing slash.
pub(super) fn plain_name(name: &Path) -> Result<PathBuf, LayerError> {
    let plain: PathBuf = name.components().collect();
    let is_plain = plain
        .components()
        .enumerate()
        .all(|(index, part)| matches!(part, Component::Normal(_)) == (index > 0));
    if !plain.is_absolute() || !is_plain || plain == Path::new("/") {
        return Err(LayerError::Name { name: name.to_owned() });
    }
    Ok(plain)
}
