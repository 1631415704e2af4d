//! What a layer is made of: entries, in the order of the tar.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::folder::Folder;
use super::stat::Stat;

/// One entry of a layer's tar.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The name in the image, absolute, without a trailing slash.
    pub path: PathBuf,
    /// The permissions with set-id and sticky bits, without the type (`0o755`).
    pub mode: u32,
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// What it is.
    pub kind: EntryKind,
    /// Its extended attributes, by name.
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// What the file system said about it, when it was found there.
    pub(crate) stat: Option<Stat>,
    /// The directory of the host that it is in, while that is open.
    pub(crate) folder: Option<Folder>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file. Hard links in directories become full copies, as the reference lifecycle writes them.
    File(Content),
    /// Another name of a file that stands before it in the layer, by its name in the image.
    HardLink(PathBuf),
    /// A symbolic link to a target, which is kept as it is.
    Symlink(PathBuf),
    /// A named pipe.
    Fifo,
    /// A character device.
    CharacterDevice(Device),
    /// A block device.
    BlockDevice(Device),
}

/// The numbers of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// Where the bytes of a regular file are.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// In memory.
    Bytes(Bytes),
    /// In a file of the host; its size is taken when it is opened.
    Host {
        /// Which file.
        path: PathBuf,
        /// The size in bytes when the tree was walked, to plan the reading.
        size: u64,
    },
}

impl Entry {
    /// A directory that belongs to root.
    #[must_use]
    pub fn directory(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self::new(path, mode, EntryKind::Directory)
    }

    /// A regular file in memory that belongs to root.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>, mode: u32, bytes: impl Into<Bytes>) -> Self {
        Self::new(path, mode, EntryKind::File(Content::Bytes(bytes.into())))
    }

    /// A regular file that belongs to root, with the bytes of a file of the host.
    #[must_use]
    pub fn host_file(path: impl Into<PathBuf>, mode: u32, host: &Path) -> Self {
        Self::new(path, mode, EntryKind::File(Content::Host { path: host.to_owned(), size: 0 }))
    }

    /// A symbolic link that belongs to root.
    #[must_use]
    pub fn symlink(path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::new(path, 0o777, EntryKind::Symlink(target.into()))
    }

    /// The same entry with other ids.
    #[must_use]
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub(crate) fn new(path: impl Into<PathBuf>, mode: u32, kind: EntryKind) -> Self {
        Self { path: path.into(), mode, uid: 0, gid: 0, kind, xattrs: Vec::new(), stat: None, folder: None }
    }
}

/// To whom the entries of a layer belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// The user id of the directory and all in it.
    pub uid: u32,
    /// The group id of the directory and all in it.
    pub gid: u32,
    /// To whom its parent directories belong.
    pub parents: ParentOwnership,
}

/// What the entries of parent directories say. A layer names the parents of its directory, so that they are not made
/// up when it is unpacked alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentOwnership {
    /// What is on disk, as in the reference lifecycle: the n-th parent in the image is the n-th parent on the host.
    OnDisk,
    /// Always the same, so that the layer depends neither on the user who builds nor on their umask.
    Fixed {
        /// The user id.
        uid: u32,
        /// The group id.
        gid: u32,
        /// The permissions (`0o755`).
        mode: u32,
    },
}
