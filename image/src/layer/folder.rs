//! Directories of the host that are being read. What is in one is found by its name alone: walking the whole path again
//! for each file of a deep tree costs more than opening the file.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags};

use super::error::LayerError;
use super::stat::Stat;

/// How many directories stay open at once in this process; what is in others is found by its path.
const MOST_OPEN: usize = 256;
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// An open directory.
#[derive(Debug, Clone)]
pub(crate) struct Folder(Arc<Open>);

#[derive(Debug)]
struct Open(OwnedFd);

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A handle is no part of what an entry is.
impl PartialEq for Folder {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Folder {
    /// Keeps the descriptor, unless there are too many already.
    fn keep(descriptor: OwnedFd) -> Option<Self> {
        let kept = OPEN
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < MOST_OPEN).then_some(open + 1));
        kept.ok().map(|_| Self(Arc::new(Open(descriptor))))
    }
}

/// How the kernel is told of `path`: by its name in the directory that it is in when that is open.
pub(crate) fn place<'a>(folder: Option<&'a Folder>, path: &'a Path) -> (BorrowedFd<'a>, &'a OsStr) {
    match (folder, last_name(path)) {
        (Some(folder), Some(name)) => (folder.0.0.as_fd(), name),
        _ => (CWD, path.as_os_str()),
    }
}

/// What is after the last slash, if it is a name. [`Path::file_name`] knows more paths, and takes several times as long.
fn last_name(path: &Path) -> Option<&OsStr> {
    let name = path.as_os_str().as_bytes().rsplit(|byte| *byte == b'/').next()?;
    (!matches!(name, b"" | b"." | b"..")).then(|| OsStr::from_bytes(name))
}

/// The path of `name` in `directory`, in memory of its size: [`Path::join`] takes it twice.
pub(crate) fn within(directory: &Path, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::with_capacity(directory.as_os_str().len() + 1 + name.len());
    path.push(directory);
    path.push(name);
    path
}

/// The bytes of names that are read at once.
pub(crate) const NAMES: usize = 32 << 10;

/// A name in a directory, and what the directory says of its type: some file systems do not tell there.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) name: OsString,
    pub(crate) is_directory: bool,
}

/// Opens the directory `path`, which is in `parent`, and reads the names in it, sorted by bytes. `buffer` is for the
/// kernel to write to.
pub(crate) fn read(
    parent: Option<&Folder>,
    path: &Path,
    buffer: &mut Vec<u8>,
) -> Result<(Option<Folder>, Vec<Name>), LayerError> {
    let directory = descriptor(parent, path)?;
    let names = names(&directory, path, buffer)?;
    Ok((Folder::keep(directory), names))
}

/// The names in a directory, sorted by bytes, and what the file system said about it before they were read.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) stat: Stat,
    pub(crate) names: Vec<Name>,
}

/// Lists the directory `path`.
pub(crate) fn list(path: &Path, buffer: &mut Vec<u8>) -> Result<Listing, LayerError> {
    let failed = |errno: rustix::io::Errno| LayerError::read(path)(errno.into());
    let directory = descriptor(None, path)?;
    let stat = rustix::fs::statx(&directory, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
    let stat = Stat::of_statx(&stat.map_err(failed)?);
    Ok(Listing { stat, names: names(&directory, path, buffer)? })
}

/// Opens the directory `path`, which is in `parent`, unless there are too many open already.
pub(crate) fn open(parent: Option<&Folder>, path: &Path) -> Result<Option<Folder>, LayerError> {
    Ok(Folder::keep(descriptor(parent, path)?))
}

fn descriptor(parent: Option<&Folder>, path: &Path) -> Result<OwnedFd, LayerError> {
    let (at, name) = place(parent, path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(at, name, flags, Mode::empty());
    directory.map_err(|errno| LayerError::read(path)(errno.into()))
}

/// The names in a directory, sorted by bytes.
fn names(directory: &OwnedFd, path: &Path, buffer: &mut Vec<u8>) -> Result<Vec<Name>, LayerError> {
    let mut names = Vec::new();
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|errno| LayerError::read(path)(errno.into()))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let is_directory = entry.file_type() == FileType::Directory;
            names.push(Name { name: OsString::from_vec(name.to_vec()), is_directory });
        }
    }
    names.sort_unstable();
    Ok(names)
}
