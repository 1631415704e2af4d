//! What is different between two moments of a tree.

use std::collections::BTreeMap;

use super::Snapshot;
use super::error::SnapshotError;
use super::node::{Kind, Node};
use super::tree::{self, Scope};
use crate::unpack::name;

/// Something that changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    pub(super) name: Vec<u8>,
    /// What is there now.
    pub(super) node: Option<Node>,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// Its content, mode, owner, target or extended attributes are others.
    Modified,
    /// It is not there any more; what was in it is not told.
    Removed,
    /// A directory of which nothing is left but itself: everything that was directly in it is not there any more.
    Emptied,
}

impl Change {
    /// The name of the file, relative to the tree, for people.
    #[must_use]
    pub fn path(&self) -> String {
        tree::display(&self.name)
    }
}

type Nodes = BTreeMap<Vec<u8>, Node>;

pub(super) fn since(old: &Snapshot, scope: &Scope) -> Result<Vec<Change>, SnapshotError> {
    let mut new = tree::walk(scope)?;
    tree::hash(scope.root(), &mut new, |name, node| {
        // Only where nothing else tells whether it is the same.
        old.nodes.get(name).is_some_and(|old_node| {
            node.same_metadata(old_node) && !node.surely_same_content(old_node, old.begun)
        })
    })?;
    Ok(compare(old, &new))
}

/// Pure: the changes in the order of names.
pub(super) fn compare(old: &Snapshot, new: &Nodes) -> Vec<Change> {
    let mut changes = BTreeMap::new();
    for (name, node) in new {
        let kind = match old.nodes.get(name) {
            None => ChangeKind::Added,
            Some(before) if differs(before, node, old.begun) => ChangeKind::Modified,
            Some(_) => continue,
        };
        changes.insert(name.clone(), vec![change(kind, name, Some(node))]);
    }
    let survivors = survivors(&old.nodes, new);
    for name in old.nodes.keys().filter(|name| !new.contains_key(*name)) {
        let parent = name::split(name).0;
        // Whatever replaced or removed a directory took along what was in it.
        let Some(directory) = new.get(parent).filter(|node| node.kind == Kind::Directory) else { continue };
        let counts = survivors.get(parent).copied().unwrap_or_default();
        if counts.left == 0 && counts.gone > 1 && !parent.is_empty() {
            let list = changes.entry(parent.to_vec()).or_insert_with(Vec::new);
            if !list.iter().any(|change: &Change| change.kind == ChangeKind::Emptied) {
                list.push(change(ChangeKind::Emptied, parent, Some(directory)));
            }
        } else {
            changes.insert(name.clone(), vec![change(ChangeKind::Removed, name, None)]);
        }
    }
    changes.into_values().flatten().collect()
}

fn change(kind: ChangeKind, name: &[u8], node: Option<&Node>) -> Change {
    Change { kind, name: name.to_vec(), node: node.cloned() }
}

fn differs(before: &Node, after: &Node, begun: i128) -> bool {
    if !after.same_metadata(before) {
        return true;
    }
    let same_content = after.surely_same_content(before, begun) || after.content == before.content;
    after.kind == Kind::File && !same_content
}

/// Of what was directly in a directory.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    left: usize,
    gone: usize,
}

fn survivors<'a>(old: &'a Nodes, new: &Nodes) -> BTreeMap<&'a [u8], Counts> {
    let mut counts: BTreeMap<&[u8], Counts> = BTreeMap::new();
    for name in old.keys().filter(|name| !name.is_empty()) {
        let counts = counts.entry(name::split(name).0).or_default();
        if new.contains_key(name) {
            counts.left += 1;
        } else {
            counts.gone += 1;
        }
    }
    counts
}
