//! What is known of one file.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::encoding;
use crate::{Digest, attributes};

/// What is known of one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The size of a regular file in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) size: u64,
    pub(super) stamp: Stamp,
    /// Of a regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Digest>,
    /// Of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    /// Major and minor number of a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<(u32, u32)>,
    /// Extended attributes; bytes as in names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) xattrs: BTreeMap<String, String>,
}

fn is_zero(size: &u64) -> bool {
    *size == 0
}

/// What is not part of a layer, but tells whether a file may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    /// Device of the file system, for hard links.
    pub(super) device: u64,
    pub(super) links: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i128,
    /// Nanoseconds since 1970.
    pub(super) changed: i128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Directory,
    File,
    Symlink,
    Fifo,
    CharacterDevice,
    BlockDevice,
}

impl Node {
    /// The file at `path`; `None` for a socket, which no layer can hold.
    pub(super) fn read(path: &Path, metadata: &Metadata) -> io::Result<Option<Self>> {
        let file_type = metadata.file_type();
        let kind = if file_type.is_dir() {
            Kind::Directory
        } else if file_type.is_file() {
            Kind::File
        } else if file_type.is_symlink() {
            Kind::Symlink
        } else if file_type.is_fifo() {
            Kind::Fifo
        } else if file_type.is_char_device() {
            Kind::CharacterDevice
        } else if file_type.is_block_device() {
            Kind::BlockDevice
        } else {
            return Ok(None);
        };
        let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
        let target = match kind {
            Kind::Symlink => Some(encoding::encode(std::fs::read_link(path)?.as_os_str().as_bytes())),
            _ => None,
        };
        let time =
            |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Ok(Some(Self {
            kind,
            mode: if kind == Kind::Symlink { 0o777 } else { metadata.mode() & 0o7777 },
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: if kind == Kind::File { metadata.size() } else { 0 },
            stamp: Stamp {
                inode: metadata.ino(),
                device: metadata.dev(),
                links: metadata.nlink(),
                modified: time(metadata.mtime(), metadata.mtime_nsec()),
                changed: time(metadata.ctime(), metadata.ctime_nsec()),
            },
            content: None,
            target,
            device: is_device
                .then(|| (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()))),
            xattrs: xattrs(path)?,
        }))
    }

    /// Whether it would be the same in a layer, content aside.
    pub(super) fn same_metadata(&self, other: &Self) -> bool {
        self.kind == other.kind
            && (self.mode, self.uid, self.gid) == (other.mode, other.uid, other.gid)
            && self.size == other.size
            && self.target == other.target
            && self.device == other.device
            && self.xattrs == other.xattrs
    }

    /// Whether the content is surely the same: nothing touched the file, and it was not touched in the moment of the
    /// snapshot, when the clock of the file system may have stood still.
    pub(super) fn surely_same_content(&self, old: &Self, begun: i128) -> bool {
        const MARGIN: i128 = 1_000_000_000;
        let same = self.stamp.inode == old.stamp.inode
            && self.stamp.modified == old.stamp.modified
            && self.stamp.changed == old.stamp.changed
            && self.size == old.size;
        same && old.stamp.changed + MARGIN < begun && old.stamp.modified + MARGIN < begun
    }
}

/// The extended attributes that belong into a layer.
fn xattrs(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let names = match attributes::names(|buffer| rustix::fs::llistxattr(path, buffer)) {
        // File systems without such attributes, and files that only their owner may ask.
        Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
            return Ok(BTreeMap::new());
        }
        other => other?,
    };
    let mut found = BTreeMap::new();
    for name in names.iter().filter(|name| attributes::belongs(name)) {
        let mut value = vec![0; 64 << 10];
        match rustix::fs::lgetxattr(path, name.as_slice(), value.as_mut_slice()) {
            Ok(size) => {
                value.truncate(size);
                found.insert(encoding::encode(name.as_slice()), encoding::encode(&value));
            }
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
