//! What decides a layer, as far as it can be told without reading files.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::Sha256;

use crate::Digest;
use crate::layer::{Content, Entry, EntryKind, Stat};
use crate::moment::{Moment, Youngest, moment};

/// Whether a file may have changed after `taken` without another time to show for it.
pub(crate) fn may_be_newer(stat: &Stat, taken: Moment) -> bool {
    Youngest::changed(stat.changed).and_at(moment(stat.modified)).may_be_newer(taken)
}

/// What a layer is, as far as the file system tells without its files being read. Its tar may have other names and owners
/// than the files, and files that are nowhere on the disk; a directory may become several layers. What is of a directory,
/// whatever becomes of it, is a [`DirectoryFingerprint`](crate::DirectoryFingerprint).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of all that changes when a file does, and of all else that decides the tar.
    pub(super) exact: Digest,
    /// The same without inodes, owners on disk and times of change: equal for a faithful copy.
    pub(super) shape: Digest,
    /// The same without any times: equal when the files were written anew with as many bytes each.
    pub(super) outline: Digest,
    /// The oldest time of a file's modification in it.
    pub(super) oldest: Moment,
    youngest: Youngest,
}

impl Fingerprint {
    /// Whether a file may have changed after `taken` without another time to show for it.
    pub(super) fn is_racy(&self, taken: Moment) -> bool {
        self.youngest.may_be_newer(taken)
    }
}

/// Takes the fingerprint of a layer from its entries, in their order.
pub(crate) struct Fingerprinter<'a> {
    /// The directory of the layer, by its name in the image. Who moves it changes its `ctime`, and nothing in the layer.
    root: Option<&'a Path>,
    exact: Sha256,
    shape: Sha256,
    outline: Sha256,
    oldest: Moment,
    youngest: Youngest,
    buffer: Vec<u8>,
}

impl<'a> Fingerprinter<'a> {
    /// `order` is how the entries are sorted, and anything else that decides the tar and is not in the entries.
    pub(crate) fn new(order: &[u8], root: Option<&'a Path>) -> Self {
        let mut hasher = Sha256::new();
        hasher.update((order.len() as u64).to_le_bytes());
        hasher.update(order);
        Self {
            root,
            exact: hasher.clone(),
            shape: hasher.clone(),
            outline: hasher,
            oldest: Moment::MAX,
            youngest: Youngest::NONE,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, entry: &Entry) {
        self.buffer.clear();
        let buffer = &mut self.buffer;
        put(buffer, entry.path.as_os_str().as_bytes());
        for number in [entry.mode, entry.uid, entry.gid] {
            buffer.extend(number.to_le_bytes());
        }
        put_kind(buffer, &entry.kind);
        let Some(stat) = entry.stat else {
            buffer.push(0);
            self.outline.update(&*buffer);
            return;
        };
        let is_root = self.root == Some(&entry.path);
        buffer.push(1);
        let is_file = matches!(entry.kind, EntryKind::File(_));
        // The size of a directory and the time of a link say nothing about a copy.
        for number in [i64::from(stat.mode), if is_file { stat.size as i64 } else { 0 }] {
            buffer.extend(number.to_le_bytes());
        }
        self.outline.update(&*buffer);
        let modified = moment(stat.modified);
        if is_file {
            self.oldest = self.oldest.min(modified);
            self.shape.update(modified.to_le_bytes());
        }
        let changed = if is_root { 0 } else { moment(stat.changed) };
        buffer.clear();
        for number in [stat.device, stat.inode, stat.special, stat.size, modified as u64, changed as u64] {
            buffer.extend(number.to_le_bytes());
        }
        for number in [stat.uid, stat.gid] {
            buffer.extend(number.to_le_bytes());
        }
        self.exact.update(&*buffer);
        self.youngest = self.youngest.and_at(modified);
        if !is_root {
            self.youngest = self.youngest.and(Youngest::changed(stat.changed));
        }
    }

    pub(crate) fn finish(self) -> Fingerprint {
        // What the outline has is hashed once: it tells which entries the numbers of the others belong to.
        let outline = self.outline.finish();
        let with_outline = |mut hasher: Sha256| {
            hasher.update(outline);
            Digest::from_hasher(hasher)
        };
        Fingerprint {
            exact: with_outline(self.exact),
            shape: with_outline(self.shape),
            outline: Digest::from_bytes(outline),
            oldest: self.oldest,
            youngest: self.youngest,
        }
    }
}

fn put(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend((bytes.len() as u64).to_le_bytes());
    buffer.extend(bytes);
}

fn put_kind(buffer: &mut Vec<u8>, kind: &EntryKind) {
    let (number, text): (u8, &[u8]) = match kind {
        EntryKind::Directory => (0, b""),
        EntryKind::File(Content::Host { .. }) => (1, b""),
        EntryKind::File(Content::Bytes(bytes)) => (2, bytes),
        EntryKind::HardLink(target) => (3, target.as_os_str().as_bytes()),
        EntryKind::Symlink(target) => (4, target.as_os_str().as_bytes()),
        EntryKind::Fifo => (5, b""),
        EntryKind::CharacterDevice(_) => (6, b""),
        EntryKind::BlockDevice(_) => (7, b""),
    };
    buffer.push(number);
    put(buffer, text);
    if let EntryKind::CharacterDevice(device) | EntryKind::BlockDevice(device) = kind {
        buffer.extend(device.major.to_le_bytes());
        buffer.extend(device.minor.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: Stat = Stat {
        device: 1,
        inode: 2,
        mode: 0o100_644,
        uid: 3,
        gid: 4,
        special: 0,
        size: 5,
        modified: (100, 6),
        changed: (200, 7),
    };

    fn entry(path: &str, stat: Stat) -> Entry {
        let host = Content::Host { path: "/on/the/host".into(), size: stat.size };
        Entry { stat: Some(stat), ..Entry::new(path, 0o644, EntryKind::File(host)) }
    }

    fn of(entries: &[Entry], root: Option<&str>) -> Fingerprint {
        let mut fingerprinter = Fingerprinter::new(b"walk", root.map(Path::new));
        entries.iter().for_each(|entry| fingerprinter.push(entry));
        fingerprinter.finish()
    }

    #[test]
    fn whatever_the_file_system_says_counts() {
        let plain = of(&[entry("/a", STAT)], None);
        assert_eq!(plain, of(&[entry("/a", STAT)], None));
        let copied = [
            Stat { device: 9, ..STAT },
            Stat { inode: 9, ..STAT },
            Stat { uid: 9, ..STAT },
            Stat { gid: 9, ..STAT },
            Stat { changed: (200, 8), ..STAT },
        ];
        for stat in copied {
            let other = of(&[entry("/a", stat)], None);
            assert!(other.exact != plain.exact && other.shape == plain.shape, "{stat:?}");
        }
        let edited =
            [Stat { mode: 0o100_755, ..STAT }, Stat { size: 6, ..STAT }, Stat { modified: (100, 7), ..STAT }];
        for stat in edited {
            let other = of(&[entry("/a", stat)], None);
            assert!(other.exact != plain.exact && other.shape != plain.shape, "{stat:?}");
        }
        let link = |target: &str| Entry::symlink("/a", target);
        assert_ne!(of(&[link("b")], None).exact, of(&[link("c")], None).exact);
        let file = |text: &'static str| Entry::file("/a", 0o644, text);
        assert_ne!(of(&[file("b")], None).exact, of(&[file("c")], None).exact);
        for other in
            [entry("/b", STAT), entry("/a", STAT).owned_by(1, 0), Entry { mode: 0o600, ..entry("/a", STAT) }]
        {
            assert_ne!(of(&[other], None).exact, plain.exact);
        }
    }

    #[test]
    fn who_moves_the_directory_changes_nothing() {
        let moved = Stat { changed: (900, 0), ..STAT };
        let root = of(&[entry("/layers/a/b", STAT)], Some("/layers/a/b"));
        assert_eq!(of(&[entry("/layers/a/b", moved)], Some("/layers/a/b")), root);
        let touched = Stat { modified: (900, 0), ..STAT };
        assert_ne!(of(&[entry("/layers/a/b", touched)], Some("/layers/a/b")).exact, root.exact);
    }

    #[test]
    fn what_is_as_young_as_the_index_is_not_believed() {
        let young = of(&[entry("/a", STAT), entry("/b", Stat { changed: (150, 0), ..STAT })], None);
        for (taken, racy) in
            [((200, 7), true), ((200, 9_000_000), true), ((200, 30_000_000), false), ((190, 0), true)]
        {
            assert_eq!(young.is_racy(moment(taken)), racy, "{taken:?}");
        }
        let modified = of(&[entry("/a", Stat { modified: (300, 0), ..STAT })], None);
        assert!(modified.is_racy(moment((250, 0))) && !modified.is_racy(moment((301, 0))));
        let coarse = of(&[entry("/a", Stat { modified: (200, 0), changed: (200, 0), ..STAT })], None);
        assert!(coarse.is_racy(moment((201, 999_999_999))) && !coarse.is_racy(moment((202, 0))));
        assert!(!of(&[Entry::symlink("/a", "b")], None).is_racy(moment((1, 0))), "nothing of it is on disk");
    }
}
