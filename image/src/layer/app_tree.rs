//! The app directory as a tree of names, modes and content, and what changed in it since another image was made of it: a
//! layer of its own, on top of that image's app layers.
//!
//! Whether a file is the same is decided by its content alone. An app is copied to a fresh directory for each build, so
//! that inodes and times of change say nothing; reading it costs far less than compressing and sending it.

mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::Sha256;
use rayon::prelude::*;

pub use record::AppRecord;
use record::{Kind, Node, Nodes};

use super::entry::{Content, Entry, EntryKind, Ownership};
use super::error::LayerError;
use super::{LayerSource, header, open_file, walk};
use crate::Digest;
use crate::snapshot::encode_name;
use crate::stat_index::{Moment, may_be_newer};

const WHITEOUT: &[u8] = b".wh.";
const BLOCK: u64 = 512;
const BUFFER: usize = 128 << 10;

/// The app directory at one moment, with the digests of its files.
#[derive(Debug, Clone)]
pub struct AppTree {
    host: PathBuf,
    name: PathBuf,
    ownership: Ownership,
    /// By name in the image: a directory before what is in it. The parents of the app directory are among them.
    entries: BTreeMap<Vec<u8>, Entry>,
    nodes: Nodes,
}

/// What became of the app since a record of it was made.
#[derive(Debug, Clone)]
pub enum AppChange {
    /// It is the same.
    Nothing,
    /// What changed, with whiteouts for what went, and the size of its tar in bytes.
    Some(LayerSource, u64),
    /// A layer cannot say what changed, and why not.
    Inexpressible(&'static str),
}

impl AppTree {
    /// Reads directory `host`, which is named `name` in the image: all files once.
    ///
    /// # Errors
    /// When `name` is not absolute and plain, or something of the directory cannot be read.
    pub fn read(host: &Path, name: &Path, ownership: &Ownership) -> Result<Self, LayerError> {
        let name = walk::plain_name(name)?;
        let entries = entries(host, &name, ownership)?;
        let nodes = entries.par_iter().map(|(key, entry)| Ok((key.clone(), node(entry)?)));
        let nodes = nodes.collect::<Result<Nodes, LayerError>>()?;
        Ok(Self { host: host.to_owned(), name, ownership: *ownership, entries, nodes })
    }

    /// The layer with all of it: the same one as [`super::slices`] makes without slices.
    #[must_use]
    pub fn full(&self) -> LayerSource {
        LayerSource::entries(self.entries.values().cloned().collect())
    }

    /// The size in bytes of the tar with all of it, as far as it is names of ordinary lengths.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.nodes.values().map(size).sum()
    }

    /// What changed since the record was made.
    #[must_use]
    pub fn since(&self, record: &AppRecord) -> AppChange {
        let old = &record.nodes;
        if !old.contains_key(self.name.as_os_str().as_bytes()) {
            return AppChange::Inexpressible("the app directory had another name");
        }
        if self.nodes.keys().chain(old.keys()).any(|name| split(name).1.starts_with(WHITEOUT)) {
            return AppChange::Inexpressible("a file of the app has the name of a whiteout");
        }
        let changed = self.nodes.iter().filter(|(name, node)| old.get(*name) != Some(*node));
        let mut names: BTreeSet<&[u8]> = changed.map(|(name, _)| name.as_slice()).collect();
        let gone: Vec<&[u8]> = old.keys().map(Vec::as_slice).filter(|name| self.is_gone(name)).collect();
        if names.is_empty() && gone.is_empty() {
            return AppChange::Nothing;
        }
        // The directories that hold a change are in the layer as they are, so that it can be unpacked alone.
        let changes: Vec<&[u8]> = names.iter().copied().chain(gone.iter().copied()).collect();
        for mut name in changes {
            while !name.is_empty() {
                name = split(name).0;
                names.extend(self.nodes.get_key_value(name).map(|(name, _)| name.as_slice()));
            }
        }
        let size = names.iter().filter_map(|name| self.nodes.get(*name)).map(size).sum::<u64>();
        let size = size + BLOCK * gone.len() as u64;
        let present =
            names.into_iter().filter_map(|name| Some((name.to_vec(), self.entries.get(name)?.clone())));
        let entries: BTreeMap<Vec<u8>, Entry> = present.chain(gone.into_iter().map(whiteout)).collect();
        AppChange::Some(LayerSource::entries(entries.into_values().collect()), size)
    }

    /// Whether a whiteout is needed for a name of another moment. What replaced or removed a directory took along what
    /// was in it.
    fn is_gone(&self, name: &[u8]) -> bool {
        let parent = self.nodes.get(split(name).0);
        !self.nodes.contains_key(name) && parent.is_some_and(|parent| parent.kind == Kind::Directory)
    }

    /// Whether the directory still is what it was when it was read, after `begun`. Files as young as that are read again:
    /// they may have changed without another time to show for it.
    pub(crate) fn is_still_there(&self, begun: Moment) -> Result<bool, LayerError> {
        let now = entries(&self.host, &self.name, &self.ownership)?;
        if now.len() != self.entries.len() {
            return Ok(false);
        }
        for ((name, entry), (old_name, old)) in now.iter().zip(&self.entries) {
            if name != old_name || entry.stat != old.stat || entry.kind != old.kind {
                return Ok(false);
            }
            let is_young = entry.stat.is_some_and(|stat| may_be_newer(&stat, begun));
            if is_young && self.nodes.get(name) != Some(&node(entry)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The directory with all in it and its parents, by name in the image.
fn entries(host: &Path, name: &Path, ownership: &Ownership) -> Result<BTreeMap<Vec<u8>, Entry>, LayerError> {
    let mut entries = BTreeMap::new();
    walk::walk(host, name, ownership, &mut |entry| {
        entries.insert(entry.path.as_os_str().as_bytes().to_vec(), entry);
        Ok(())
    })?;
    Ok(entries)
}

fn whiteout(name: &[u8]) -> (Vec<u8>, Entry) {
    let (parent, base) = split(name);
    let name = [parent, b"/", WHITEOUT, base].concat();
    let entry = Entry::file(OsStr::from_bytes(&name), 0o644, "");
    (name, entry)
}

/// The parent and the last part of an absolute name.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    let slash = name.iter().rposition(|byte| *byte == b'/');
    slash.map_or((b"", name), |slash| (&name[..slash], &name[slash + 1..]))
}

fn node(entry: &Entry) -> Result<Node, LayerError> {
    let kind = match &entry.kind {
        EntryKind::Directory => Kind::Directory,
        EntryKind::File(content) => {
            let (size, digest) = digest(entry, content)?;
            Kind::File { size, digest }
        }
        EntryKind::HardLink(target) => Kind::HardLink { target: encode_name(target.as_os_str().as_bytes()) },
        EntryKind::Symlink(target) => Kind::Symlink { target: encode_name(target.as_os_str().as_bytes()) },
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::CharacterDevice(device) => {
            Kind::CharacterDevice { major: device.major, minor: device.minor }
        }
        EntryKind::BlockDevice(device) => Kind::BlockDevice { major: device.major, minor: device.minor },
    };
    Ok(Node { mode: entry.mode, uid: entry.uid, gid: entry.gid, kind })
}

fn digest(entry: &Entry, content: &Content) -> Result<(u64, Digest), LayerError> {
    let path = match content {
        Content::Bytes(bytes) => return Ok((bytes.len() as u64, Digest::of(bytes))),
        Content::Host { path, .. } => path,
    };
    let mut file = open_file::open(entry.folder.as_ref(), path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER.min(entry.stat.map_or(BUFFER, |stat| stat.size as usize + 1))];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((size, Digest::from_hasher(hasher))),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LayerError::read(path)(error)),
        }
    }
}

/// The bytes of its entry in a tar.
fn size(node: &Node) -> u64 {
    match node.kind {
        Kind::File { size, .. } => BLOCK + size + header::padding(size) as u64,
        _ => BLOCK,
    }
}
