//! What a directory tree was at one moment, and what changed in it since: as a layer on the image that it came from.
//!
//! A snapshot holds the metadata and the content's digest of every file. What changed is found by metadata first: a file
//! is read only when its size, times and inode do not show that it is the same.

mod changes;
mod encoding;
mod error;
mod layer;
mod node;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use changes::{Change, ChangeKind};
pub(crate) use encoding::{decode as decode_name, encode as encode_name};
pub use error::SnapshotError;
pub use layer::{LayerOwner, layer_of};
pub(crate) use node::Node;
pub use tree::Scope;

/// The version of the file.
const VERSION: u32 = 1;
/// The compression of the file: it is written once, and mostly names.
const LEVEL: i32 = 6;

/// A tree at one moment: by names relative to its root, which has the empty name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    nodes: BTreeMap<Vec<u8>, Node>,
    /// When it was begun, in nanoseconds since 1970: what changed later may have gone unnoticed.
    begun: i128,
}

/// The file, before it is compressed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    longshore_snapshot: u32,
    begun: i128,
    nodes: BTreeMap<String, Node>,
}

impl Snapshot {
    /// Takes a snapshot of a tree: all files are read once.
    ///
    /// # Errors
    /// When something of the tree cannot be read.
    pub fn take(scope: &Scope) -> Result<Self, SnapshotError> {
        let begun = tree::now();
        let mut nodes = tree::walk(scope)?;
        tree::hash(scope.root(), &mut nodes, |_, _| true)?;
        Ok(Self { nodes, begun })
    }

    /// A tree with nothing in it: everything was added since.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// How many files and directories it has, the root among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has nothing, not even the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What changed in the tree since, in the order of names.
    ///
    /// # Errors
    /// When something of the tree cannot be read.
    pub fn changes(&self, scope: &Scope) -> Result<Vec<Change>, SnapshotError> {
        changes::since(self, scope)
    }

    /// What changed since, as [`Snapshot::changes`]; this is the snapshot of now then. Only what may have changed is read.
    ///
    /// # Errors
    /// When something of the tree cannot be read.
    pub fn advance(&mut self, scope: &Scope) -> Result<Vec<Change>, SnapshotError> {
        let begun = tree::now();
        let mut nodes = tree::walk(scope)?;
        let is_known = |name: &[u8], node: &Node| {
            let old = self.nodes.get(name);
            old.is_some_and(|old| node.same_metadata(old) && node.surely_same_content(old, self.begun))
        };
        tree::hash(scope.root(), &mut nodes, |name, node| !is_known(name, node))?;
        for (name, node) in &mut nodes {
            if node.content.is_none() {
                node.content = self.nodes.get(name).and_then(|old| old.content);
            }
        }
        let changes = changes::compare(self, &nodes);
        *self = Self { nodes, begun };
        Ok(changes)
    }

    /// Reads a file that [`Snapshot::write`] wrote.
    ///
    /// # Errors
    /// When it cannot be read or is no snapshot.
    pub fn read(path: &Path) -> Result<Self, SnapshotError> {
        let file = fs::File::open(path).map_err(SnapshotError::at(path))?;
        let invalid = |reason: String| SnapshotError::Invalid { path: path.to_owned(), reason };
        let reader = zstd::Decoder::new(file).map_err(SnapshotError::at(path))?;
        let file: File = serde_json::from_reader(std::io::BufReader::new(reader))
            .map_err(|error| invalid(error.to_string()))?;
        if file.longshore_snapshot != VERSION {
            return Err(invalid(format!("it has version {}", file.longshore_snapshot)));
        }
        let nodes = file.nodes.into_iter().map(|(name, node)| Some((encoding::decode(&name)?, node)));
        let nodes =
            nodes.collect::<Option<_>>().ok_or_else(|| invalid("a name in it is damaged".to_owned()))?;
        Ok(Self { nodes, begun: file.begun })
    }

    /// Writes a file, which appears when it is complete.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), SnapshotError> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory: PathBuf = directory.unwrap_or(Path::new(".")).to_owned();
        let file = tempfile::NamedTempFile::new_in(&directory).map_err(SnapshotError::at(&directory))?;
        let nodes = self.nodes.iter().map(|(name, node)| (encoding::encode(name), node.clone())).collect();
        let document = File { longshore_snapshot: VERSION, begun: self.begun, nodes };
        let write = || -> std::io::Result<()> {
            let mut encoder = zstd::Encoder::new(BufWriter::new(file.as_file()), LEVEL)?;
            serde_json::to_writer(&mut encoder, &document)?;
            encoder.finish()?.flush()
        };
        write().map_err(SnapshotError::at(path))?;
        let persisted = file.persist(path).map_err(|error| error.error);
        persisted.map(drop).map_err(SnapshotError::at(path))
    }
}
