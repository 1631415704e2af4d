//! The way from a tree to a layer and back.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{Place, Tar};
use crate::layer::{self, Ownership, ParentOwnership};
use crate::unpack::{Policy, extract_into};
use crate::{BlobSink, LayerFormat, LayerSource, ManifestFormat};

#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>, u32),
    Link(String),
    Directory(Vec<(Vec<u8>, Node)>, u32),
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if byte == 0 || byte == b'/' { b'_' } else { byte });
    let short = prop::collection::vec(byte, 1..8);
    let long = "[a-zé]{60,110}".prop_map(|text| text.into_bytes());
    prop_oneof![4 => short, 1 => long].prop_filter("not a name", |name| name != b"." && name != b"..")
}

fn any_node() -> impl Strategy<Value = Node> {
    let file = (prop::collection::vec(any::<u8>(), 0..2000), 0..0o10000_u32)
        .prop_map(|(content, mode)| Node::File(content, mode | 0o400));
    let link = "[a-z./]{1,120}".prop_map(Node::Link);
    prop_oneof![3 => file, 1 => link].prop_recursive(4, 24, 5, |inner| {
        (prop::collection::vec((any_name(), inner), 0..5), 0..0o10000_u32)
            .prop_map(|(children, mode)| Node::Directory(children, mode | 0o700))
    })
}

fn make(node: &Node, path: &Path) {
    if path.symlink_metadata().is_ok() {
        return;
    }
    match node {
        Node::File(content, mode) => {
            fs::write(path, content).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        Node::Link(target) => symlink(target, path).unwrap(),
        Node::Directory(children, mode) => {
            fs::create_dir(path).unwrap();
            for (name, child) in children {
                make(child, &path.join(OsStr::from_bytes(name)));
            }
            fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
        }
    }
}

/// Name, mode and content or target of all below a directory.
fn snapshot(root: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut paths = vec![root.to_owned()];
    while let Some(path) = paths.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|child| child.unwrap().path()));
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
        } else {
            fs::read(&path).unwrap()
        };
        found.push((path.strip_prefix(root).unwrap().to_owned(), metadata.mode(), content));
    }
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tree_comes_back(children in prop::collection::vec((any_name(), any_node()), 0..5), zstd in any::<bool>()) {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir(&to).unwrap();
        make(&Node::Directory(children, 0o755), &from);
        let ids = rustix::process::geteuid().as_raw();
        let parents = ParentOwnership::Fixed { uid: ids, gid: ids, mode: 0o755 };
        let ownership = Ownership { uid: ids, gid: ids, parents };
        let source = LayerSource::directory(&from, Path::new("/layers/a/b"), ownership).unwrap();
        let format = if zstd { LayerFormat::TarZstd } else { LayerFormat::TarGzip };
        let sink = BlobSink::scratch(directory.path());
        let layer = layer::build(&source, format, ManifestFormat::Oci, &sink).unwrap();
        let policy = Policy::restore("/layers").expecting(layer.diff_id);
        extract_into(fs::File::open(&layer.path).unwrap(), &to, &policy).unwrap();
        prop_assert_eq!(snapshot(&from), snapshot(&to.join("a/b")));
    }

    /// Whatever the bytes are, the answer is a result: no panic, no endless loop, nothing outside.
    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), at in 0..1024_usize, byte in any::<u8>()) {
        let place = Place::new();
        let _ = place.unpack_with(std::mem::take(&mut bytes), &Policy::restore("/"));
        let mut stream = Tar::default().pax(&[("path", "a/b"), ("mtime", "1.5")]).file("x", "content").end();
        stream[at] = byte;
        let _ = place.unpack_with(stream, &Policy::restore("/"));
    }
}

#[test]
fn entries_in_memory_come_back() {
    let place = Place::new();
    let entries = vec![
        layer::Entry::directory("/d", 0o750),
        layer::Entry::file("/d/x", 0o640, "x"),
        layer::Entry { mode: 0o600, ..layer::Entry::directory("/d/p", 0) },
    ];
    let sink = tempfile::tempdir().unwrap();
    let blobs = BlobSink::scratch(sink.path());
    let layer =
        layer::build(&LayerSource::entries(entries), LayerFormat::Tar, ManifestFormat::Docker, &blobs)
            .unwrap();
    place.unpack_with(fs::read(layer.path).unwrap(), &Policy::restore("/")).unwrap();
    assert_eq!(place.text("d/x"), "x");
    assert_eq!(fs::metadata(place.root().join("d/p")).unwrap().mode() & 0o777, 0o600);
}
