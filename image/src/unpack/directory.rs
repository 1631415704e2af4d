//! An open directory, and what new files in it are like before anybody changes them.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fchmod, fstat, mkdirat, openat};

/// An open directory.
pub(super) struct Directory {
    descriptor: OwnedFd,
    fresh: Cell<Option<Fresh>>,
}

/// What a new file is like. The process's ids and its umask decide it, and the directory's set-group-id bit, its default
/// access control list and the options of its mount; so it is looked up, on the first file that is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The permissions that files were made with, and those of them that they got.
    asked: u32,
    got: u32,
}

impl Directory {
    pub(super) const fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, fresh: Cell::new(None) }
    }

    /// Makes a directory in it, with these permissions exactly, whatever the umask is, and opens it.
    pub(super) fn make(&self, name: &[u8], permissions: u32) -> rustix::io::Result<Self> {
        let mode = Mode::from_raw_mode(permissions);
        mkdirat(self, name, mode)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = openat(self, name, flags, Mode::empty())?;
        if self.fresh.get().is_some_and(|fresh| fresh.gives(permissions)) {
            // Whatever decides in this directory decides in the new one as well.
            return Ok(Self { descriptor, fresh: self.fresh.clone() });
        }
        // This may take its set-group-id bit, and with it the group of new files.
        fchmod(&descriptor, mode)?;
        Ok(Self::new(descriptor))
    }

    /// What is known of new files in it, without `file`, which was just made with `permissions`, if that can be.
    pub(super) fn fresh(&self, file: impl AsFd, permissions: u32) -> rustix::io::Result<Fresh> {
        let known = self.fresh.get();
        if let Some(fresh) = known.filter(|fresh| permissions & !fresh.asked == 0) {
            return Ok(fresh);
        }
        let stat = fstat(file)?;
        let (asked, got) = known.map_or((0, 0), |fresh| (fresh.asked, fresh.got));
        let fresh = Fresh {
            uid: stat.st_uid,
            gid: stat.st_gid,
            asked: asked | permissions,
            got: got | permissions & stat.st_mode,
        };
        self.fresh.set(Some(fresh));
        Ok(fresh)
    }

    /// The owner of new files in it, when it is known.
    pub(super) fn fresh_owner(&self) -> Option<(u32, u32)> {
        self.fresh.get().map(|fresh| (fresh.uid, fresh.gid))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Fresh {
    /// Whether a file that is made with this mode has it.
    pub(super) const fn gives(&self, mode: u32) -> bool {
        mode & !self.got == 0
    }
}
