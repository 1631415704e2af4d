//! The entries of a directory on disk, in the order of Go's `filepath.Walk`: parents before children, the names of each
//! directory sorted by bytes.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, StatxFlags};

use super::entry::{Content, Device, Entry, EntryKind, Ownership, ParentOwnership};
use super::error::LayerError;
use super::folder::{self, Folder, Name};
use super::scout::Scouts;
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
    let scouts = Scouts::default();
    thread::scope(|scope| {
        let _ends = scouts.ends();
        let mut buffer = Vec::with_capacity(folder::NAMES);
        let mut open: Vec<Directory> = Vec::new();
        let mut next = Some(Found { folder: None, host: host.to_owned(), name: name.to_owned() });
        while let Some(found) = next {
            let stat = found.stat()?;
            if FileType::from_raw_mode(stat.mode).is_dir() {
                let (folder, names) = if let Some(names) = scouts.names(&found.host, &stat) {
                    (folder::open(found.folder.as_ref(), &found.host)?, names)
                } else {
                    let began = Instant::now();
                    let read = folder::read(found.folder.as_ref(), &found.host, &mut buffer)?;
                    scouts.note(scope, began, &found.host, &read.1);
                    read
                };
                let (host, name, names) = (found.host.clone(), found.name.clone(), names.into_iter());
                open.push(Directory { folder, host, name, names });
            }
            if let Some(entry) = entry(found, stat, ownership)? {
                emit(entry)?;
            }
            next = following(&mut open);
        }
        Ok(())
    })
}

/// A directory, and those of its children that were not visited yet.
struct Directory {
    folder: Option<Folder>,
    host: PathBuf,
    name: PathBuf,
    names: std::vec::IntoIter<Name>,
}

/// A file of any kind: where it is, and its name in the image.
struct Found {
    folder: Option<Folder>,
    host: PathBuf,
    name: PathBuf,
}

impl Found {
    fn stat(&self) -> Result<Stat, LayerError> {
        let (at, name) = folder::place(self.folder.as_ref(), &self.host);
        let stat = rustix::fs::statx(at, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        stat.map(|stat| Stat::of_statx(&stat)).map_err(|errno| LayerError::read(&self.host)(errno.into()))
    }

    fn target(&self) -> Result<PathBuf, LayerError> {
        let (at, name) = folder::place(self.folder.as_ref(), &self.host);
        let target = rustix::fs::readlinkat(at, name, Vec::new());
        let target = target.map_err(|errno| LayerError::read(&self.host)(errno.into()))?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }
}

/// The next child of the innermost directory that has one.
fn following(open: &mut Vec<Directory>) -> Option<Found> {
    while let Some(directory) = open.last_mut() {
        if let Some(child) = directory.names.next() {
            let host = folder::within(&directory.host, &child.name);
            let name = folder::within(&directory.name, &child.name);
            return Some(Found { folder: directory.folder.clone(), host, name });
        }
        open.pop();
    }
    None
}

/// The entry of a file; `None` for a socket, which a layer cannot hold.
fn entry(found: Found, stat: Stat, ownership: &Ownership) -> Result<Option<Entry>, LayerError> {
    let device = || Device { major: rustix::fs::major(stat.special), minor: rustix::fs::minor(stat.special) };
    let kind = match FileType::from_raw_mode(stat.mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::RegularFile => EntryKind::File(Content::Host { path: found.host, size: stat.size }),
        FileType::Symlink => EntryKind::Symlink(found.target()?),
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => EntryKind::CharacterDevice(device()),
        FileType::BlockDevice => EntryKind::BlockDevice(device()),
        FileType::Socket | FileType::Unknown => {
            tracing::debug!("`{}` is a socket: left out of the layer", found.host.display());
            return Ok(None);
        }
    };
    let entry = Entry::new(found.name, stat.mode & 0o7777, kind).owned_by(ownership.uid, ownership.gid);
    Ok(Some(Entry { stat: Some(stat), folder: found.folder, ..entry }))
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
