//! The files of an image, from the headers of its layers and the digests of contents.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::Sha256;

use super::Difference;
use crate::unpack::Limits;
use crate::unpack::ahead::read_ahead;
use crate::unpack::header::{Entry, Kind};
use crate::unpack::name::{self, Place};
use crate::unpack::reader::TarReader;
use crate::unpack::whiteout::{self, Whiteout};
use crate::{DiffId, Digest, UnpackError, decompress};

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    kind: Kind,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    link: Vec<u8>,
    device: (u32, u32),
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    content: Option<Digest>,
}

/// The files of the layers so far, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Files(BTreeMap<Vec<u8>, File>);

impl Files {
    /// Puts a layer over them.
    pub(super) fn apply(&mut self, blob: impl Read + Send, expected: DiffId) -> Result<(), UnpackError> {
        let reader = decompress(blob).map_err(UnpackError::Read)?;
        let actual = read_ahead(reader, |reader| self.apply_tar(TarReader::new(reader, Limits::default())))?;
        if actual == expected { Ok(()) } else { Err(UnpackError::DiffId { expected, actual }) }
    }

    fn apply_tar(&mut self, mut tar: TarReader) -> Result<DiffId, UnpackError> {
        let mut written = BTreeSet::new();
        while let Some(entry) = tar.next()? {
            let Ok(Place::Inside(path)) = name::place(&entry.path, None) else { continue };
            match whiteout::parse(&path) {
                Some(Ok(Whiteout::Opaque { directory })) => self.remove_below(directory, &written),
                Some(Ok(Whiteout::File { path, .. })) => {
                    self.remove_below(&path, &written);
                    if !written.contains(&path) {
                        self.0.remove(&path);
                    }
                }
                Some(_) => {}
                None if path.is_empty() => {}
                None => {
                    let file = self.read(&mut tar, &entry)?;
                    if file.kind != Kind::Directory {
                        self.remove_below(&path, &BTreeSet::new());
                    }
                    self.0.insert(path.clone(), file);
                    written.insert(path);
                }
            }
        }
        Ok(tar.finish()?.0)
    }

    fn read(&self, tar: &mut TarReader, entry: &Entry) -> Result<File, UnpackError> {
        if entry.kind == Kind::HardLink
            && let Ok(Place::Inside(target)) = name::place(&entry.link, None)
            && let Some(file) = self.0.get(&target)
        {
            return Ok(file.clone());
        }
        let mut content = None;
        if entry.kind == Kind::File {
            let mut hasher = Sha256::new();
            while !tar.is_content_read() {
                tar.content(|part| hasher.update(part))?;
            }
            content = Some(Digest::from_hasher(hasher));
        }
        Ok(File {
            kind: entry.kind,
            mode: entry.mode & 0o7777,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            link: entry.link.clone(),
            device: entry.device,
            attributes: entry.attributes.clone(),
            content,
        })
    }

    /// Removes what is in a directory, but not what this layer has put there.
    fn remove_below(&mut self, directory: &[u8], written: &BTreeSet<Vec<u8>>) {
        let prefix = if directory.is_empty() { Vec::new() } else { [directory, b"/"].concat() };
        let below = self.0.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let below: Vec<_> =
            below.map(|(path, _)| path.clone()).filter(|path| !written.contains(path)).collect();
        for path in below {
            self.0.remove(&path);
        }
    }
}

/// Files that are only in one, or not the same in both, in the order of names.
pub(super) fn compare(before: &Files, after: &Files) -> Vec<Difference> {
    let names: BTreeSet<&Vec<u8>> = before.0.keys().chain(after.0.keys()).collect();
    let difference = |path: &Vec<u8>| {
        let (old, new) = (before.0.get(path), after.0.get(path));
        let name = format!("/{}", name::display(path).display());
        let (before, after) = match (old, new) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(old), Some(new)) => describe_both(old, new),
            (old, new) => (old.map(describe), new.map(describe)),
        };
        Some(Difference { name, before, after })
    };
    names.into_iter().filter_map(difference).collect()
}

fn kind(file: &File) -> &'static str {
    match file.kind {
        Kind::File => "file",
        Kind::HardLink => "hard link",
        Kind::Symlink => "link",
        Kind::CharacterDevice => "character device",
        Kind::BlockDevice => "block device",
        Kind::Directory => "directory",
        Kind::Fifo => "named pipe",
    }
}

fn describe(file: &File) -> String {
    match file.kind {
        Kind::File => format!("{}, {} bytes", kind(file), file.size),
        Kind::Symlink => format!("{} to {}", kind(file), name::display(&file.link).display()),
        _ => kind(file).to_owned(),
    }
}

/// Only in what they differ.
fn describe_both(old: &File, new: &File) -> (Option<String>, Option<String>) {
    let mut parts = (Vec::new(), Vec::new());
    if old.kind != new.kind || old.link != new.link || old.device != new.device {
        parts = (vec![describe(old)], vec![describe(new)]);
    } else if old.content != new.content {
        let short = |file: &File| {
            let digest = file.content.map(|digest| digest.hex().chars().take(12).collect::<String>());
            format!("{} bytes, {}", file.size, digest.unwrap_or_default())
        };
        parts = (vec![short(old)], vec![short(new)]);
    }
    let mut add = |name: &str, old: String, new: String| {
        if old != new {
            parts.0.push(format!("{name} {old}"));
            parts.1.push(format!("{name} {new}"));
        }
    };
    add("mode", format!("{:o}", old.mode), format!("{:o}", new.mode));
    add("owner", format!("{}:{}", old.uid, old.gid), format!("{}:{}", new.uid, new.gid));
    let names = old.attributes.iter().chain(&new.attributes).map(|(name, _)| name.as_slice());
    for name in names.collect::<BTreeSet<_>>() {
        add(&format!("attribute {}", String::from_utf8_lossy(name)), value(old, name), value(new, name));
    }
    (Some(parts.0.join(", ")), Some(parts.1.join(", ")))
}

/// The value of an extended attribute as text, or its size and digest.
fn value(file: &File, name: &[u8]) -> String {
    let Some((_, value)) = file.attributes.iter().find(|(known, _)| known == name) else {
        return "missing".to_owned();
    };
    match std::str::from_utf8(value) {
        Ok(text) if text.len() <= 40 && !text.contains(char::is_control) => format!("`{text}`"),
        _ => {
            let digest: String = Digest::of(value).hex().chars().take(12).collect();
            format!("{} bytes, {digest}", value.len())
        }
    }
}
