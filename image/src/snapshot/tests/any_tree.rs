//! Any tree becomes a layer, and the layer the same tree: with all that a layer can hold.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::super::*;
use crate::unpack::{Attributes, Owner, Policy, SpecialFiles, extract_into};
use crate::{BlobSink, LayerFormat, ManifestFormat, layer as layers};

#[derive(Debug, Clone)]
enum Kind {
    /// Content, and where another byte is, beyond a hole.
    File(Vec<u8>, Option<u64>),
    /// Another name of an earlier file.
    HardLink(usize),
    Link(String),
    Directory(Vec<Node>),
    Pipe,
    Device(u32, u32),
}

#[derive(Debug, Clone)]
struct Node {
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    owner: u32,
    attributes: BTreeMap<String, Vec<u8>>,
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if byte == 0 || byte == b'/' { b'_' } else { byte });
    let short = prop::collection::vec(byte, 1..8);
    let long = "[a-zé]{60,110}".prop_map(String::into_bytes);
    let allowed = |name: &Vec<u8>| name != b"." && name != b".." && !name.starts_with(b".wh.");
    prop_oneof![4 => short, 1 => long].prop_filter("not a name of a layer", allowed)
}

fn node(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Node> {
    let value = prop::collection::vec(any::<u8>(), 0..40);
    let attributes = prop::collection::btree_map("user\\.[a-zé\\\\ ]{1,6}", value, 0..3);
    (any_name(), kind, 0..0o10000_u32, 0..70_000_u32, attributes)
        .prop_map(|(name, kind, mode, owner, attributes)| Node { name, kind, mode, owner, attributes })
}

fn any_node() -> impl Strategy<Value = Node> {
    let content = prop::collection::vec(any::<u8>(), 0..2000);
    let leaf = prop_oneof![
        4 => (content, prop::option::of(5_000..200_000_u64))
            .prop_map(|(content, hole)| Kind::File(content, hole)),
        2 => any::<usize>().prop_map(Kind::HardLink),
        1 => "[a-z./]{1,120}".prop_map(Kind::Link),
        1 => Just(Kind::Pipe),
        1 => (0..4096_u32, 0..4096_u32).prop_map(|(major, minor)| Kind::Device(major, minor)),
    ];
    node(leaf)
        .prop_recursive(3, 24, 6, |inner| node(prop::collection::vec(inner, 0..6).prop_map(Kind::Directory)))
}

struct Maker {
    is_root: bool,
    has_attributes: bool,
    files: Vec<PathBuf>,
}

impl Maker {
    fn make(&mut self, node: &Node, directory: &Path) {
        let path = directory.join(OsStr::from_bytes(&node.name));
        if path.symlink_metadata().is_ok() {
            return;
        }
        let special = |file_type, device| {
            rustix::fs::mknodat(CWD, &path, file_type, Mode::RUSR, device).unwrap();
        };
        match &node.kind {
            Kind::File(content, hole) => {
                fs::write(&path, content).unwrap();
                if let Some(at) = hole {
                    fs::File::options().write(true).open(&path).unwrap().write_at(b"x", *at).unwrap();
                }
                self.files.push(path.clone());
            }
            Kind::HardLink(_) if self.files.is_empty() => return,
            // What the file is, its other name says.
            Kind::HardLink(index) => {
                return fs::hard_link(&self.files[index % self.files.len()], &path).unwrap();
            }
            Kind::Link(target) => symlink(target, &path).unwrap(),
            Kind::Directory(children) => {
                fs::create_dir(&path).unwrap();
                for child in children {
                    self.make(child, &path);
                }
            }
            Kind::Pipe => special(FileType::Fifo, 0),
            // The device 0:0 is a whiteout of overlayfs, and no device.
            Kind::Device(major, minor) if self.is_root && (*major, *minor) != (0, 0) => {
                special(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor));
            }
            Kind::Device(..) => return,
        }
        if self.is_root {
            lchown(&path, Some(node.owner), Some(node.owner / 2)).unwrap();
        }
        if matches!(node.kind, Kind::Link(_)) {
            return;
        }
        if self.has_attributes && matches!(node.kind, Kind::File(..) | Kind::Directory(_)) {
            for (name, value) in &node.attributes {
                rustix::fs::setxattr(&path, name.as_str(), value, XattrFlags::empty()).unwrap();
            }
        }
        let least = if matches!(node.kind, Kind::Directory(_)) { 0o700 } else { 0o400 };
        fs::set_permissions(&path, PermissionsExt::from_mode(node.mode | least)).unwrap();
    }
}

/// All that a layer keeps of a tree: by name, what it is, its mode, owner, content or target, device, attributes, and the
/// first of its names.
fn all_of(root: &Path) -> Vec<String> {
    let snapshot = Snapshot::take(&Scope::new(root, &[]).unwrap()).unwrap();
    let mut first = BTreeMap::new();
    let mut all = Vec::new();
    for (name, node) in snapshot.nodes.iter().skip(1) {
        let text = tree::display(name);
        let metadata = tree::path_of(root, name).symlink_metadata().unwrap();
        let first = first.entry(metadata.ino()).or_insert_with(|| text.clone()).clone();
        all.push(format!(
            "{text} {:?} {:o} {}:{} {} {:?} {:?} {:?} {:?} {first}",
            node.kind,
            node.mode,
            node.uid,
            node.gid,
            node.size,
            node.content,
            node.target,
            node.device,
            node.xattrs
        ));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_comes_back_with_all_that_a_layer_holds(
        children in prop::collection::vec(any_node(), 0..6),
        format in prop_oneof![Just(LayerFormat::Tar), Just(LayerFormat::TarGzip), Just(LayerFormat::TarZstd)],
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        let probe = rustix::fs::setxattr(&to, "user.probe", b"", XattrFlags::empty());
        let is_root = rustix::process::geteuid().is_root();
        let mut maker = Maker { is_root, has_attributes: probe.is_ok(), files: Vec::new() };
        for child in &children {
            maker.make(child, &from);
        }
        let changes = Snapshot::empty().changes(&Scope::new(&from, &[]).unwrap()).unwrap();
        let source = layer_of(&changes, &from, Path::new("/"), LayerOwner::Keep).unwrap();
        let sink = BlobSink::scratch(directory.path());
        let layer = layers::build(&source, format, ManifestFormat::Oci, &sink).unwrap();
        let policy = Policy {
            special_files: SpecialFiles::Create,
            attributes: Attributes::Keep,
            ..Policy::rootfs(if is_root { Owner::Keep } else { Owner::Ignore })
        };
        extract_into(fs::File::open(&layer.path).unwrap(), &to, &policy.expecting(layer.diff_id)).unwrap();
        prop_assert_eq!(all_of(&from), all_of(&to));
    }
}
