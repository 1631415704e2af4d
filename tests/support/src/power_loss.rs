//! What a disk may hold after the power was lost while a program ran.
//!
//! The calls of the program are recorded, and the disk is made up from them under this model of a file system with a
//! journal:
//!
//! - Names (made, linked, renamed, removed) reach the disk in their order, each at once or not at all. Those that came
//!   after the last sync of a directory may be missing from anywhere on ([`Names::All`], [`Names::Synced`]). Harder:
//!   the last rename is there without those before it ([`Names::LastRename`]), and each may be there without the others
//!   where its own directory was not synced ([`Names::Some`]).
//! - Bytes are on the disk when the file was synced after they were written. What was not may be there, missing, cut, or
//!   of the right length and zero ([`Bytes`]), whether the file has its name or not.
//! - Modes and owners are never lost.
//!
//! What other processes do is seen when the program renames it or syncs the file system; until then it counts as not there.

mod disk;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

pub use disk::Disk;
use disk::{Attributes, Content, Found};

use crate::fault::{self, Call, Faulted};

/// A file or directory, whatever its name is.
type Node = usize;

#[derive(Debug, Clone)]
enum Change {
    Name(PathBuf, Node),
    Rename(PathBuf, PathBuf),
    Exchange(PathBuf, PathBuf),
    Remove(PathBuf),
    Bytes(Node, Arc<Vec<u8>>),
    SyncFile(Node),
    SyncFolder(PathBuf),
    SyncAll,
}

#[derive(Debug, Clone)]
struct NodeState {
    attributes: Attributes,
    /// What it had before the program began; of a file or link that is new, nothing.
    before: Content,
    now: Content,
}

/// Which names are on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// All until the loss.
    All,
    /// Those until the last sync of a directory.
    Synced,
    /// Those until the last sync of a directory, and the last rename.
    LastRename,
    /// Any, if their own directory was not synced: which, this number decides.
    Some(u64),
}

/// What is there of bytes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bytes {
    /// All.
    All,
    /// Nothing: a new file is empty.
    None,
    /// The first half.
    Cut,
    /// Zeros.
    Zeros,
}

/// A moment, and what is lost in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// How many changes came before it.
    pub point: usize,
    /// Which names are on the disk.
    pub names: Names,
    /// What is there of bytes.
    pub bytes: Bytes,
}

/// The bytes of a file: those that were synced, and those that were written.
#[derive(Debug, Clone, Default)]
struct Version {
    synced: Arc<Vec<u8>>,
    written: Arc<Vec<u8>>,
}

impl Version {
    fn sync(&mut self) {
        self.synced = self.written.clone();
    }

    fn after(&self, loss: Bytes) -> Arc<Vec<u8>> {
        let Self { synced, written } = self;
        let kept = if written.starts_with(synced) { synced.len() } else { 0 };
        let lost = written.len() - kept;
        match loss {
            _ if Arc::ptr_eq(synced, written) => written.clone(),
            Bytes::All => written.clone(),
            Bytes::None => synced.clone(),
            Bytes::Cut => Arc::new(written[..kept + lost / 2].to_vec()),
            Bytes::Zeros => Arc::new([&written[..kept], &vec![0; lost]].concat()),
        }
    }
}

type Tree = BTreeMap<PathBuf, Node>;

/// A program's changes of the files in some folders.
#[derive(Debug)]
pub struct Recording {
    folders: Vec<PathBuf>,
    nodes: Vec<NodeState>,
    before: Tree,
    now: Tree,
    changes: Vec<Change>,
    /// How many changes there were after each call.
    points: Vec<usize>,
}

impl Recording {
    /// Runs `command` and records what it does in the folders of that name in `root`.
    #[must_use]
    pub fn of(command: &Command, root: &Path, folders: &[&str]) -> (Faulted, Self) {
        let folders = folders.iter().map(|name| root.join(name)).collect();
        let (nodes, tree) = (Vec::new(), Tree::new());
        let mut recording =
            Self { folders, nodes, before: tree.clone(), now: tree, changes: Vec::new(), points: Vec::new() };
        for folder in recording.folders.clone() {
            recording.begin(&folder);
        }
        for node in &mut recording.nodes {
            node.before = node.now.clone();
        }
        recording.before = recording.now.clone();
        recording.changes.clear();
        let faulted = fault::observe(command, root, &mut |call| {
            recording.note(call);
            if recording.points.last().copied().unwrap_or(0) < recording.changes.len() {
                recording.points.push(recording.changes.len());
            }
        });
        (faulted, recording)
    }

    /// How many moments there are at which the power may go away: one after each call that changes something.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points.len()
    }

    /// What may be lost at some of the moments. What leaves the same disk is there once.
    #[must_use]
    pub fn losses(&self, points: impl IntoIterator<Item = usize>) -> Vec<Loss> {
        let mut losses = Vec::new();
        let mut known = HashSet::new();
        for point in points {
            let point = self.points[point];
            let versions = self.versions(point);
            for names in [Names::All, Names::Synced, Names::LastRename, Names::Some(1), Names::Some(2)] {
                let tree = self.tree(point, names);
                for bytes in [Bytes::All, Bytes::None, Bytes::Cut, Bytes::Zeros] {
                    let mut hasher = DefaultHasher::new();
                    for (path, node) in &tree {
                        let Version { synced, written } = &versions[*node];
                        let lost = (!Arc::ptr_eq(synced, written)).then_some((Arc::as_ptr(synced), bytes));
                        (path, node, Arc::as_ptr(written), lost).hash(&mut hasher);
                    }
                    if known.insert(hasher.finish()) {
                        losses.push(Loss { point, names, bytes });
                    }
                }
            }
        }
        losses
    }

    /// What the last change before a loss was.
    #[must_use]
    pub fn describe(&self, loss: Loss) -> String {
        let last = match &self.changes[loss.point - 1] {
            Change::Bytes(node, bytes) => format!("{} bytes in {node}", bytes.len()),
            other => format!("{other:?}"),
        };
        format!("{loss:?} of {}, after {last}", self.changes.len())
    }

    /// What is on the disk after a loss.
    #[must_use]
    pub fn disk(&self, loss: Loss) -> Disk {
        let versions = self.versions(loss.point);
        let found = |node: Node| {
            let NodeState { attributes, now, .. } = &self.nodes[node];
            let content =
                if now.is_file() { Content::File(versions[node].after(loss.bytes)) } else { now.clone() };
            Found { attributes: attributes.clone(), content }
        };
        let tree = self.tree(loss.point, loss.names);
        let files = tree.into_iter().map(|(path, node)| (path, found(node))).collect();
        Disk { folders: self.folders.clone(), files }
    }

    /// The names that are on the disk.
    fn tree(&self, point: usize, names: Names) -> Tree {
        let mut tree = self.before.clone();
        let changes = &self.changes[..point];
        let kept = kept(changes, names);
        changes.iter().zip(kept).filter(|(_, kept)| *kept).for_each(|(change, _)| apply(&mut tree, change));
        tree
    }

    /// The bytes of all files, by node.
    fn versions(&self, point: usize) -> Vec<Version> {
        let before = self.nodes.iter().map(|node| match &node.before {
            Content::File(bytes) => Version { synced: bytes.clone(), written: bytes.clone() },
            Content::Folder | Content::Link(_) => Version::default(),
        });
        let mut versions: Vec<Version> = before.collect();
        for change in &self.changes[..point] {
            match change {
                Change::Bytes(node, bytes) => versions[*node].written = bytes.clone(),
                Change::SyncFile(node) => versions[*node].sync(),
                Change::SyncAll => versions.iter_mut().for_each(Version::sync),
                _ => {}
            }
        }
        versions
    }

    fn note(&mut self, call: &Call) {
        let path = &call.path;
        match (call.name, &call.new_path) {
            ("sync-all", _) => {
                self.folders.clone().iter().for_each(|folder| self.adopt(folder));
                self.changes.push(Change::SyncAll);
            }
            ("sync", _) if path.is_dir() => self.changes.push(Change::SyncFolder(path.clone())),
            ("sync", _) => {
                if let Some(node) = self.now.get(path) {
                    self.changes.push(Change::SyncFile(*node));
                }
            }
            ("remove", _) => self.change(Change::Remove(path.clone())),
            ("exchange", Some(new)) => self.change(Change::Exchange(path.clone(), new.clone())),
            ("rename", Some(new)) => {
                if self.now.contains_key(path) && self.is_within(new) {
                    self.change(Change::Rename(path.clone(), new.clone()));
                } else if self.now.contains_key(path) {
                    self.change(Change::Remove(path.clone()));
                }
                self.adopt(new);
            }
            ("link", Some(new)) if self.is_within(new) => match self.now.get(path) {
                Some(node) => self.change(Change::Name(new.clone(), *node)),
                None => self.adopt(new),
            },
            // Also where it is made by a call, the file may have been there.
            _ => {
                self.adopt_one(path);
            }
        }
    }

    /// Notes one of the folders that are recorded: it has no parent, and is always there.
    fn begin(&mut self, folder: &Path) {
        let found = Found::read(folder).unwrap();
        let (before, now) = (found.content.clone(), found.content);
        self.now.insert(folder.to_owned(), self.nodes.len());
        self.nodes.push(NodeState { attributes: found.attributes, before, now });
        self.adopt(folder);
    }

    fn is_within(&self, path: &Path) -> bool {
        self.folders.iter().any(|folder| path.starts_with(folder))
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.changes.push(change);
    }

    /// Notes what is at a path now with all below it.
    fn adopt(&mut self, path: &Path) {
        if !self.adopt_one(path) {
            return;
        }
        let known: Vec<PathBuf> = children(&self.now, path).filter(|child| !exists(child)).cloned().collect();
        known.into_iter().for_each(|gone| self.change(Change::Remove(gone)));
        let Ok(found) = fs::read_dir(path) else { return };
        let mut found: Vec<_> = found.flatten().map(|child| child.path()).collect();
        found.sort();
        found.iter().for_each(|child| self.adopt(child));
    }

    /// Notes what is at a path, and the directories above it; whether it is a directory.
    fn adopt_one(&mut self, path: &Path) -> bool {
        if !self.is_within(path) {
            return false;
        }
        let Some(found) = Found::read(path) else { return false };
        let is_folder = found.content == Content::Folder;
        let known = self.now.get(path).copied();
        match (known, &found.content) {
            (Some(node), Content::File(bytes)) if self.nodes[node].now.is_file() => {
                self.nodes[node].attributes = found.attributes;
                if self.nodes[node].now != found.content {
                    self.changes.push(Change::Bytes(node, bytes.clone()));
                    self.nodes[node].now = found.content;
                }
            }
            (Some(node), content) if self.nodes[node].now == *content => {
                self.nodes[node].attributes = found.attributes;
            }
            (_, content) => {
                if let Some(parent) = path.parent().filter(|parent| !self.now.contains_key(*parent)) {
                    self.adopt_one(parent);
                }
                let node = self.nodes.len();
                let before = if content.is_file() { Content::File(Arc::default()) } else { content.clone() };
                self.nodes.push(NodeState { attributes: found.attributes, before, now: content.clone() });
                self.change(Change::Name(path.to_owned(), node));
                if let Content::File(bytes) = content
                    && !bytes.is_empty()
                {
                    self.changes.push(Change::Bytes(node, bytes.clone()));
                }
            }
        }
        is_folder
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// What is directly in a directory.
fn children<'a>(tree: &'a Tree, path: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
    below(tree, path).filter(move |child| child.parent() == Some(path))
}

/// What is in a directory, and it itself.
fn below<'a>(tree: &'a Tree, path: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
    tree.range(path.to_owned()..).map(|(child, _)| child).take_while(move |child| child.starts_with(path))
}

/// Takes a path with all below it out of a tree, under names relative to it.
fn cut(tree: &mut Tree, path: &Path) -> Vec<(PathBuf, Node)> {
    let names: Vec<PathBuf> = below(tree, path).cloned().collect();
    let relative = |name: &PathBuf| name.strip_prefix(path).unwrap().to_owned();
    names.iter().filter_map(|name| Some((relative(name), tree.remove(name)?))).collect()
}

fn paste(tree: &mut Tree, path: &Path, cut: Vec<(PathBuf, Node)>) {
    tree.extend(cut.into_iter().map(|(name, node)| {
        (if name.as_os_str().is_empty() { path.to_owned() } else { path.join(name) }, node)
    }));
}

/// Makes a change of names, if what it needs is there.
fn apply(tree: &mut Tree, change: &Change) {
    let has_parent = |tree: &Tree, path: &Path| path.parent().is_some_and(|parent| tree.contains_key(parent));
    match change {
        Change::Name(path, node) if has_parent(tree, path) => {
            cut(tree, path);
            tree.insert(path.clone(), *node);
        }
        Change::Remove(path) => drop(cut(tree, path)),
        Change::Rename(old, new) if tree.contains_key(old) && has_parent(tree, new) => {
            let moved = cut(tree, old);
            cut(tree, new);
            paste(tree, new, moved);
        }
        Change::Exchange(left, right) if tree.contains_key(left) && tree.contains_key(right) => {
            let (one, other) = (cut(tree, left), cut(tree, right));
            paste(tree, right, one);
            paste(tree, left, other);
        }
        _ => {}
    }
}

/// Which of the changes are on the disk.
fn kept(changes: &[Change], names: Names) -> Vec<bool> {
    let is_sync = |change: &Change| matches!(change, Change::SyncFolder(_) | Change::SyncAll);
    let synced = changes.iter().rposition(is_sync).map_or(0, |last| last + 1);
    let is_rename = |change: &Change| matches!(change, Change::Rename(..) | Change::Exchange(..));
    let renamed = changes.iter().rposition(is_rename);
    let all = 0..changes.len();
    match names {
        Names::All => all.map(|_| true).collect(),
        Names::Synced => all.map(|index| index < synced).collect(),
        Names::LastRename => all.map(|index| index < synced || renamed == Some(index)).collect(),
        Names::Some(seed) => {
            let synced = own_folder_is_synced(changes);
            all.map(|index| synced[index] || is_picked(seed, index)).collect()
        }
    }
}

fn own_folder_is_synced(changes: &[Change]) -> Vec<bool> {
    let mut folders: HashSet<&Path> = HashSet::new();
    let mut is_all = false;
    let mut synced: Vec<bool> = Vec::new();
    for change in changes.iter().rev() {
        let has = |path: &Path| path.parent().is_some_and(|parent| folders.contains(parent));
        synced.push(
            is_all
                || match change {
                    Change::Name(path, _) | Change::Remove(path) => has(path),
                    Change::Rename(old, new) | Change::Exchange(old, new) => has(old) || has(new),
                    _ => true,
                },
        );
        match change {
            Change::SyncFolder(folder) => drop(folders.insert(folder)),
            Change::SyncAll => is_all = true,
            _ => {}
        }
    }
    synced.reverse();
    synced
}

/// Half of all numbers, always the same ones for a seed.
fn is_picked(seed: u64, index: usize) -> bool {
    let mixed = (seed ^ (index as u64).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 63 == 1
}
