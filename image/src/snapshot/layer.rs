//! Changes of a tree as a layer (image-spec `layer.md`, "Representing Changes").

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::changes::{Change, ChangeKind};
use super::error::SnapshotError;
use super::node::{Kind, Node};
use super::{encoding, tree};
use crate::LayerSource;
use crate::layer::{Content, Device, Entry, EntryKind};
use crate::unpack::name::split;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// To whom the files of a layer belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerOwner {
    /// To whom they belong on this machine.
    Keep,
    /// To one user and group.
    Fixed {
        /// The user id.
        uid: u32,
        /// The group id.
        gid: u32,
    },
}

/// The layer of changes of the tree at `root`, which is `destination` in the image. Directories that hold a change are in
/// it too; a tree that was removed takes one whiteout. Times are the same in every layer, so that the same changes give
/// the same layer.
///
/// # Errors
/// When a file has the name of a whiteout, or a directory cannot be read.
pub fn layer_of(
    changes: &[Change],
    root: &Path,
    destination: &Path,
    owner: LayerOwner,
) -> Result<LayerSource, SnapshotError> {
    let mut maker = Maker { root, destination, owner, entries: BTreeMap::new(), links: HashMap::new() };
    if !changes.is_empty() {
        maker.destination_parents();
    }
    let mut parents = BTreeSet::new();
    for change in changes {
        maker.add(change)?;
        let mut name = change.name.as_slice();
        while !name.is_empty() {
            name = split(name).0;
            parents.insert(name.to_vec());
        }
    }
    for parent in parents {
        maker.parent(&parent)?;
    }
    Ok(LayerSource::entries(maker.entries.into_values().collect()))
}

struct Maker<'a> {
    root: &'a Path,
    destination: &'a Path,
    owner: LayerOwner,
    /// By name in the image: a directory before what is in it, and its opaque marker first.
    entries: BTreeMap<Vec<u8>, Entry>,
    /// The first name of files that have several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Maker<'_> {
    fn add(&mut self, change: &Change) -> Result<(), SnapshotError> {
        let (parent, base) = split(&change.name);
        if base.starts_with(WHITEOUT) {
            return Err(SnapshotError::Whiteout { path: tree::path_of(self.root, &change.name) });
        }
        match (change.kind, &change.node) {
            (ChangeKind::Removed, _) | (_, None) => {
                let whiteout = [WHITEOUT, base].concat();
                let name = self.name(parent).join(OsStr::from_bytes(&whiteout));
                self.insert(Entry::file(name, 0o644, ""));
            }
            (ChangeKind::Emptied, Some(_)) => {
                let directory = self.name(&change.name);
                let key = [directory.as_os_str().as_bytes(), b"/"].concat();
                self.entries.insert(key, Entry::file(directory.join(OPAQUE), 0o644, ""));
            }
            (ChangeKind::Added | ChangeKind::Modified, Some(node)) => self.file(&change.name, node),
        }
        Ok(())
    }

    fn file(&mut self, name: &[u8], node: &Node) {
        let path = self.name(name);
        if path == Path::new("/") {
            return;
        }
        let host = tree::path_of(self.root, name);
        let device = || {
            let (major, minor) = node.device.unwrap_or_default();
            Device { major, minor }
        };
        let kind = match node.kind {
            Kind::Directory => EntryKind::Directory,
            Kind::Fifo => EntryKind::Fifo,
            Kind::CharacterDevice => EntryKind::CharacterDevice(device()),
            Kind::BlockDevice => EntryKind::BlockDevice(device()),
            Kind::Symlink => {
                let target = node.target.as_deref().and_then(encoding::decode).unwrap_or_default();
                EntryKind::Symlink(OsStr::from_bytes(&target).into())
            }
            Kind::File => {
                let content = EntryKind::File(Content::Host { path: host, size: node.size });
                if node.stamp.links > 1 {
                    // Names come in order, so the first one stands before the others in the layer.
                    match self.links.get(&(node.stamp.device, node.stamp.inode)) {
                        Some(first) => EntryKind::HardLink(first.clone()),
                        None => {
                            self.links.insert((node.stamp.device, node.stamp.inode), path.clone());
                            content
                        }
                    }
                } else {
                    content
                }
            }
        };
        let (uid, gid) = match self.owner {
            LayerOwner::Keep => (node.uid, node.gid),
            LayerOwner::Fixed { uid, gid } => (uid, gid),
        };
        let bytes = |text: &String| encoding::decode(text).unwrap_or_default();
        let attribute = |(name, value)| Some((String::from_utf8(bytes(name)).ok()?, bytes(value)));
        let xattrs = node.xattrs.iter().filter_map(attribute).collect();
        self.insert(Entry { xattrs, ..Entry::new(path, node.mode, kind) }.owned_by(uid, gid));
    }

    /// A directory that holds a change, as it is.
    fn parent(&mut self, name: &[u8]) -> Result<(), SnapshotError> {
        let path = self.name(name);
        if path == Path::new("/") || self.entries.contains_key(path.as_os_str().as_bytes()) {
            return Ok(());
        }
        let host = tree::path_of(self.root, name);
        let metadata = std::fs::symlink_metadata(&host).map_err(SnapshotError::at(&host))?;
        if let Some(node) = Node::read(&host, &metadata).map_err(SnapshotError::at(&host))? {
            self.file(name, &node);
        }
        Ok(())
    }

    /// The directories above the destination, which the tree does not have.
    fn destination_parents(&mut self) {
        let above = self.destination.ancestors().skip(1).filter(|path| *path != Path::new("/"));
        for path in above.map(Path::to_owned).collect::<Vec<_>>() {
            self.insert(Entry::directory(path, 0o755));
        }
    }

    fn insert(&mut self, entry: Entry) {
        self.entries.insert(entry.path.as_os_str().as_bytes().to_vec(), entry);
    }

    fn name(&self, name: &[u8]) -> PathBuf {
        if name.is_empty() {
            self.destination.to_owned()
        } else {
            self.destination.join(OsStr::from_bytes(name))
        }
    }
}
