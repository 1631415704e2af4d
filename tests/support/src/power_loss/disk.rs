//! Files and directories in memory, and how they are read and written.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attributes {
    mode: u32,
    owner: (u32, u32),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Content {
    Folder,
    Link(PathBuf),
    File(Arc<Vec<u8>>),
}

impl Content {
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub(super) attributes: Attributes,
    pub(super) content: Content,
}

impl Found {
    /// What is at a path; nothing where there is nothing, or what is neither a file, a directory nor a link.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let content = match metadata.file_type() {
            kind if kind.is_dir() => Content::Folder,
            kind if kind.is_symlink() => Content::Link(fs::read_link(path).ok()?),
            kind if kind.is_file() => Content::File(Arc::new(fs::read(path).ok()?)),
            _ => return None,
        };
        let owner = (metadata.uid(), metadata.gid());
        Some(Self { attributes: Attributes { mode: metadata.mode() & 0o7777, owner }, content })
    }

    fn write(&self, path: &Path) {
        match &self.content {
            Content::Folder => fs::create_dir(path).unwrap(),
            Content::Link(target) => symlink(target, path).unwrap(),
            Content::File(bytes) => fs::write(path, &**bytes).unwrap(),
        }
        let Attributes { owner: (user, group), .. } = self.attributes;
        lchown(path, Some(user), Some(group)).unwrap();
    }

    fn set_mode(&self, path: &Path) {
        if !matches!(self.content, Content::Link(_)) {
            fs::set_permissions(path, Permissions::from_mode(self.attributes.mode)).unwrap();
        }
    }
}

/// What a disk has in some folders.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Disk {
    pub(super) folders: Vec<PathBuf>,
    pub(super) files: BTreeMap<PathBuf, Found>,
}

impl Disk {
    /// Puts it where it was recorded, in the place of what is there.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self) {
        for folder in &self.folders {
            fs::remove_dir_all(folder).unwrap();
        }
        self.files.iter().for_each(|(path, found)| found.write(path));
        // A directory may forbid its owner to write into it.
        self.files.iter().rev().for_each(|(path, found)| found.set_mode(path));
    }
}
