//! Changes a directory tree by file descriptors. No path is ever resolved by the rules of the whole system: parents are
//! opened with `openat2` within the root, or without following any link, and the last part of a name is never followed. Whoever swaps directories for
//! links meanwhile gets files elsewhere within the root, and never out of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat, unlinkat};
use rustix::io::Errno;

use super::directory::Directory;
use super::name;
use super::policy::Links;

/// The longest path that the kernel takes, with its NUL.
const PATH_MAX: usize = 4096;
/// How often a path is tried again that was renamed while it was resolved.
const ATTEMPTS: usize = 1000;

/// The most directories that are kept open.
const OPEN: usize = 64;

/// A directory that is unpacked into.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    links: Links,
    /// The directory that was used last, and those above it: the next one is most often among them or just below, and is
    /// opened from there. Each has the length of its own path, which `path` starts with.
    open: Vec<(usize, Rc<Directory>)>,
    path: Vec<u8>,
}

/// What stands at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Directory,
    /// Overlayfs's whiteout: a character device 0:0.
    Whiteout,
    Other,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, links: Links) -> Self {
        Self { root, links, open: Vec::new(), path: Vec::new() }
    }

    /// Opens the directory at `path`, following links within the root if at all; the missing parts are made when `make`.
    pub(super) fn directory(&mut self, path: &[u8], make: bool) -> io::Result<Rc<Directory>> {
        while let Some((length, directory)) = self.open.last() {
            if path == &self.path[..*length] {
                return Ok(Rc::clone(directory));
            }
            if is_below(path, &self.path[..*length]) {
                break;
            }
            self.open.pop();
        }
        if self.open.is_empty() {
            let root = Rc::new(Directory::new(self.open(b"", OFlags::PATH)?));
            self.keep(b"", root);
        }
        match self.descend(path, make) {
            Err(Errno::NOTDIR | Errno::LOOP) if self.links == Links::Follow => {}
            other => return Ok(other?),
        }
        // A link on the way, which the kernel has to follow from the root on.
        let opened = match self.open(path, OFlags::PATH) {
            Err(error) if make && error.kind() == io::ErrorKind::NotFound => self.make(path)?,
            other => other?,
        };
        let opened = Rc::new(Directory::new(opened));
        self.keep(path, Rc::clone(&opened));
        Ok(opened)
    }

    /// Opens the parts of `path` below the last open directory, one by one, while they are no links.
    fn descend(&mut self, path: &[u8], make: bool) -> rustix::io::Result<Rc<Directory>> {
        let (mut length, mut directory) = self.open.last().cloned().ok_or(Errno::INVAL)?;
        while length < path.len() {
            let start = if length == 0 { 0 } else { length + 1 };
            length =
                path[start..].iter().position(|byte| *byte == b'/').map_or(path.len(), |end| start + end);
            let part = &path[start..length];
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let child = match openat(&*directory, part, flags, Mode::empty()) {
                // As parents that no layer names are: 0755, of whoever unpacks.
                Err(Errno::NOENT) if make => directory.make(part, 0o755)?,
                other => Directory::new(other?),
            };
            directory = Rc::new(child);
            self.keep(&path[..length], Rc::clone(&directory));
        }
        Ok(directory)
    }

    /// Keeps a directory open that is below the last one that was opened.
    pub(super) fn keep(&mut self, path: &[u8], directory: Rc<Directory>) {
        if self.open.len() == OPEN {
            self.open.remove(1);
        }
        self.path.clear();
        self.path.extend_from_slice(path);
        self.open.push((path.len(), directory));
    }

    /// Opens the directory at `path`, whose last part is no link, to change its attributes.
    pub(super) fn open_real(&self, path: &[u8]) -> io::Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::NOFOLLOW)
    }

    fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if self.links == Links::Refuse {
            return Ok(self.open_plain(path, flags)?);
        }
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if path.is_empty() {
            return resolve(self.root, b".", flags, within);
        }
        if path.len() < PATH_MAX {
            return resolve(self.root, path, flags, within);
        }
        // Too long for one call. In parts, an absolute link would mean another root, so links are refused.
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mut directory =
            resolve(self.root, b".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, within)?;
        for part in path.split(|byte| *byte == b'/') {
            directory = resolve(directory.as_fd(), part, flags, within)?;
        }
        Ok(directory)
    }

    /// Opens the directory at `path` part by part, none of which is a link.
    fn open_plain(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let (parent, name) = name::split(path);
        if name.is_empty() {
            return openat(self.root, c".", flags, Mode::empty());
        }
        let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = openat(self.root, c".", through, Mode::empty())?;
        for part in parent.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            directory = openat(&directory, part, through, Mode::empty())?;
        }
        openat(&directory, name, flags | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Makes the missing directories of a path that has links.
    fn make(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let mut directory = self.open(b"", OFlags::PATH)?;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
        for end in ends.chain([path.len()]) {
            directory = match self.open(&path[..end], OFlags::PATH) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let (_, part) = name::split(&path[..end]);
                    Directory::new(directory).make(part, 0o755)?;
                    self.open(&path[..end], OFlags::PATH)?
                }
                other => other?,
            };
        }
        Ok(directory)
    }

    /// Removes whatever is at a name, with all below it.
    pub(super) fn remove(&mut self, parent: impl AsFd, name: &[u8]) -> io::Result<()> {
        // A directory may be open by this name, or by a link of this name.
        self.open.clear();
        remove_all(parent.as_fd(), name)
    }
}

/// Whether `path` is somewhere below `directory`.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

fn resolve(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    within: ResolveFlags,
) -> io::Result<OwnedFd> {
    let mut attempts = 0;
    loop {
        match openat2(directory, path, flags, Mode::empty(), within) {
            // Something was renamed meanwhile, and the kernel cannot tell whether the path stayed within.
            Err(Errno::AGAIN) if attempts < ATTEMPTS => attempts += 1,
            other => return Ok(other?),
        }
    }
}

/// What is at a name, which is not followed.
pub(super) fn found(parent: impl AsFd, name: &[u8]) -> io::Result<Found> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(Found::Nothing),
        Err(error) => Err(error.into()),
        Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Found::Directory,
            FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout,
            _ => Found::Other,
        }),
    }
}

fn remove_all(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    for child in children(&directory)? {
        remove_all(directory.as_fd(), &child)?;
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The names in a directory, without `.` and `..`.
pub(super) fn children(directory: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for child in Dir::read_from(directory)? {
        let name = child?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}
