//! Changes a directory tree by file descriptors. No path is ever resolved by the rules of the whole system: parents are
//! opened with `openat2` within the root, and the last part of a name is never followed. Whoever swaps directories for
//! links meanwhile gets files elsewhere within the root, and never out of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, statat, unlinkat,
};
use rustix::io::Errno;

use super::name;

/// The longest path that the kernel takes, with its NUL.
const PATH_MAX: usize = 4096;
/// How often a path is tried again that was renamed while it was resolved.
const ATTEMPTS: usize = 1000;

/// A directory that is unpacked into.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// The parent of the last entry, which is most often the parent of the next one.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
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
    pub(super) fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, last: None }
    }

    /// Opens the directory at `path`, following links within the root; the missing parts are made when `make`.
    pub(super) fn directory(&mut self, path: &[u8], make: bool) -> io::Result<Rc<OwnedFd>> {
        if let Some((known, directory)) = &self.last
            && known == path
        {
            return Ok(Rc::clone(directory));
        }
        let opened = match self.open(path, OFlags::PATH) {
            Err(error) if make && error.kind() == io::ErrorKind::NotFound => self.make(path)?,
            other => other?,
        };
        let opened = Rc::new(opened);
        self.last = Some((path.to_vec(), Rc::clone(&opened)));
        Ok(opened)
    }

    /// Opens the directory at `path`, whose last part is no link, to change its attributes.
    pub(super) fn open_real(&self, path: &[u8]) -> io::Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::NOFOLLOW)
    }

    fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
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

    /// Makes the missing directories of a path, as parents that no layer names are: 0755, of whoever unpacks.
    fn make(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let mut directory = self.open(b"", OFlags::PATH)?;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
        for end in ends.chain([path.len()]) {
            directory = match self.open(&path[..end], OFlags::PATH) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let (_, part) = name::split(&path[..end]);
                    make_directory(&directory, part, 0o755)?;
                    self.open(&path[..end], OFlags::PATH)?
                }
                other => other?,
            };
        }
        Ok(directory)
    }

    /// Removes whatever is at a name, with all below it.
    pub(super) fn remove(&mut self, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
        // A directory may be open by this name, or by a link of this name.
        self.last = None;
        remove_all(parent.as_fd(), name)
    }
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

/// Makes a directory with exactly these permissions, whatever the umask is, and opens it.
pub(super) fn make_directory(parent: &OwnedFd, name: &[u8], mode: u32) -> io::Result<OwnedFd> {
    mkdirat(parent, name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    fchmod(&directory, Mode::from_raw_mode(mode))?;
    Ok(directory)
}

/// What is at a name, which is not followed.
pub(super) fn found(parent: &OwnedFd, name: &[u8]) -> io::Result<Found> {
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
pub(super) fn children(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for child in Dir::read_from(directory)? {
        let name = child?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}
