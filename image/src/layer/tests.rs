//! The DiffIDs of `fixtures/vectors/layers.json`, which the reference lifecycle produced, from a model of the tree in
//! memory and, where the test may set owners, from the tree on disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Vectors {
    tree: Vec<Node>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Node {
    path: PathBuf,
    #[serde(rename = "type")]
    kind: String,
    mode: Option<String>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    text: String,
    times: Option<usize>,
    target: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    path: Option<PathBuf>,
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    size: u64,
    diff_id: DiffId,
}

impl Node {
    fn mode(&self) -> u32 {
        self.mode.as_deref().map_or(0o777, |mode| u32::from_str_radix(mode, 8).unwrap())
    }

    fn text(&self) -> String {
        self.text.repeat(self.times.unwrap_or(1))
    }

    fn on_disk(&self, root: &Path) -> PathBuf {
        root.join(self.path.strip_prefix("/").unwrap())
    }
}

fn vectors() -> Vectors {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/vectors/layers.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

impl Case {
    fn ownership(&self) -> Ownership {
        Ownership { uid: self.uid, gid: self.gid, parents: ParentOwnership::OnDisk }
    }

    fn check(&self, source: &LayerSource) {
        let expected = LayerDigest { diff_id: self.diff_id, uncompressed_size: self.size };
        assert_eq!(digest(source).unwrap(), expected, "{}", self.name);
    }
}

/// The entries that a walk of the tree would find, without a tree.
fn model(tree: &[Node], case: &Case, directory: &Path) -> Vec<Entry> {
    let texts: BTreeMap<_, _> = tree.iter().map(|node| (node.path.clone(), node.text())).collect();
    let modes: BTreeMap<_, _> = tree.iter().map(|node| (node.path.clone(), node.mode())).collect();
    let entry = |node: &Node| {
        let (mode, kind) = match node.kind.as_str() {
            "dir" => (node.mode(), EntryKind::Directory),
            "file" => (node.mode(), EntryKind::File(Content::Bytes(node.text().into()))),
            "fifo" => (node.mode(), EntryKind::Fifo),
            "symlink" => (0o777, EntryKind::Symlink(node.target.clone().unwrap())),
            "hardlink" => {
                let target = node.target.as_ref().unwrap();
                (modes[target], EntryKind::File(Content::Bytes(texts[target].clone().into())))
            }
            other => panic!("{other}"),
        };
        Entry::new(&node.path, mode, kind).owned_by(case.uid, case.gid)
    };
    let parents = tree.iter().filter(|node| directory != node.path && directory.starts_with(&node.path));
    let mut parents: Vec<Entry> = parents.map(|node| entry(node).owned_by(node.uid, node.gid)).collect();
    let mut below: Vec<Entry> =
        tree.iter().filter(|node| node.path.starts_with(directory)).map(entry).collect();
    if case.kind == "layer-dir" {
        below.sort_by(|left, right| left.path.cmp(&right.path));
    } else {
        below = slices::divide(directory, below, &[]).unwrap().remove(0);
    }
    parents.extend(below);
    parents
}

#[test]
fn a_model_of_the_tree_gives_the_diff_ids_of_the_reference() {
    let vectors = vectors();
    for case in &vectors.cases {
        let source = match (case.kind.as_str(), &case.path) {
            ("layer-dir" | "app-dir", Some(directory)) => {
                LayerSource::entries(model(&vectors.tree, case, directory))
            }
            ("process-types", _) => process_types(case.types.iter().map(String::as_str)),
            ("app-dir-empty", _) => LayerSource::entries(vec![]),
            other => panic!("{other:?}"),
        };
        case.check(&source);
    }
}

fn make_tree(tree: &[Node], root: &Path) {
    for node in tree {
        let path = node.on_disk(root);
        match node.kind.as_str() {
            "dir" => fs::create_dir_all(&path).unwrap(),
            "file" => fs::write(&path, node.text()).unwrap(),
            "symlink" => symlink(node.target.as_ref().unwrap(), &path).unwrap(),
            "hardlink" => {
                let target = node.target.as_ref().unwrap().strip_prefix("/").unwrap();
                fs::hard_link(root.join(target), &path).unwrap();
            }
            "fifo" => {
                let mode = rustix::fs::Mode::from_raw_mode(node.mode());
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }
            other => panic!("{other}"),
        }
    }
    for node in tree.iter().filter(|node| !matches!(node.kind.as_str(), "symlink" | "hardlink")) {
        let path = node.on_disk(root);
        chown(&path, Some(node.uid), Some(node.gid)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(node.mode())).unwrap();
    }
}

#[test]
fn a_tree_on_disk_gives_the_diff_ids_of_the_reference() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may give files to other users");
        return;
    }
    let vectors = vectors();
    let root = tempfile::tempdir().unwrap();
    make_tree(&vectors.tree, root.path());
    for case in &vectors.cases {
        let Some(directory) = &case.path else { continue };
        let host = root.path().join(directory.strip_prefix("/").unwrap());
        case.check(&match case.kind.as_str() {
            "layer-dir" => LayerSource::directory(&host, directory, case.ownership()).unwrap(),
            _ => slices(&host, directory, &[], &case.ownership()).unwrap().remove(0),
        });
    }
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Half of the bytes repeat, so that the codecs have something to do.
        if state & 0x8000_0000 == 0 { b'a' } else { (state >> 16) as u8 }
    };
    (0..size).map(|_| next()).collect()
}

/// A tree with small and large files, more than one chunk of them.
fn large_tree() -> (tempfile::TempDir, LayerSource) {
    let root = tempfile::tempdir().unwrap();
    for index in 0..600 {
        fs::write(root.path().join(format!("small-{index}")), noise(index * 11)).unwrap();
    }
    fs::write(root.path().join("large"), noise(9 << 20)).unwrap();
    let fixed = ParentOwnership::Fixed { uid: 0, gid: 0, mode: 0o755 };
    let ownership = Ownership { uid: 1, gid: 2, parents: fixed };
    let source = LayerSource::directory(root.path(), Path::new("/layers/a/b"), ownership).unwrap();
    (root, source)
}

#[test]
fn a_blob_reads_back_as_the_tar_of_its_diff_id() {
    let (_root, source) = large_tree();
    let sink = tempfile::tempdir().unwrap();
    for format in [LayerFormat::Tar, LayerFormat::TarGzip, LayerFormat::TarZstd] {
        let blobs = BlobSink::new(sink.path());
        let layer = build(&source, format, ManifestFormat::Oci, &blobs).unwrap();
        assert_eq!(build(&source, format, ManifestFormat::Oci, &blobs).unwrap(), layer);
        let blob = fs::read(&layer.path).unwrap();
        assert_eq!(crate::Digest::of(&blob), layer.descriptor.digest);
        assert_eq!(blob.len() as u64, layer.descriptor.size);
        let mut tar = Vec::new();
        match format {
            LayerFormat::Tar => tar = blob,
            LayerFormat::TarGzip => {
                std::io::copy(&mut flate2::bufread::MultiGzDecoder::new(&*blob), &mut tar).map(drop).unwrap();
            }
            LayerFormat::TarZstd => tar = zstd::decode_all(&*blob).unwrap(),
        }
        assert_eq!(DiffId::of(&tar), layer.diff_id);
        assert_eq!(digest(&source).unwrap().diff_id, layer.diff_id);
        assert_eq!(tar.len() as u64, layer.uncompressed_size);
    }
    assert_eq!(fs::read_dir(sink.path()).unwrap().count(), 3);
}

#[test]
fn a_layer_that_fails_leaves_nothing() {
    let entries = vec![
        Entry::file("/large", 0o644, noise(9 << 20)),
        Entry::host_file("/missing", 0o644, Path::new("/nonexistent/file")),
    ];
    let sink = tempfile::tempdir().unwrap();
    let blobs = BlobSink::new(sink.path());
    let result = build(&LayerSource::entries(entries), LayerFormat::TarZstd, ManifestFormat::Oci, &blobs);
    assert!(matches!(result, Err(LayerError::Read { .. })), "{result:?}");
    assert_eq!(fs::read_dir(sink.path()).unwrap().count(), 0);
}

#[test]
fn names_in_the_image_are_absolute_and_plain() {
    let ownership = Ownership { uid: 0, gid: 0, parents: ParentOwnership::OnDisk };
    for name in ["", "/", "layers", "/a/../b", "/a/.."] {
        assert!(LayerSource::directory(Path::new("/tmp"), Path::new(name), ownership).is_err(), "{name}");
    }
    assert!(LayerSource::directory(Path::new("/tmp"), Path::new("/a/./b/"), ownership).is_ok());
}

/// Base images come as a tar of another tool; its names and times must survive.
#[test]
fn a_tar_that_is_there_already_is_taken_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (tar, blobs) = (directory.path().join("x.tar"), BlobSink::scratch(directory.path()));
    for bytes in [noise(9 << 20), noise(100), Vec::new()] {
        fs::write(&tar, &bytes).unwrap();
        let source = LayerSource::tar(&tar);
        let layer = build(&source, LayerFormat::Tar, ManifestFormat::Oci, &blobs).unwrap();
        assert_eq!(layer.diff_id, DiffId::of(&bytes));
        assert_eq!(fs::read(&layer.path).unwrap(), bytes);
    }
}

/// Row 45 of the fault table: somebody writes to a file, and makes it longer and shorter, while it is read. Either that is
/// told, or the entry is one that readers of tars can use.
#[test]
fn row_45_a_file_that_changes_while_it_is_read_is_an_error_or_a_whole_entry() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let root = tempfile::tempdir().unwrap();
    let tree = root.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let path = tree.join("file");
    fs::write(&path, noise(1 << 20)).unwrap();
    let ownership = Ownership { uid: 0, gid: 0, parents: ParentOwnership::OnDisk };
    let source = LayerSource::directory(&tree, Path::new("/tree"), ownership).unwrap();
    let blobs = root.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::options().write(true).open(&path).unwrap();
            for round in 0_u64.. {
                file.set_len((1 << 20) + round % 7 * 100_000).unwrap();
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut changed = 0;
        for _ in 0..200 {
            let built = build(&source, LayerFormat::Tar, ManifestFormat::Oci, &BlobSink::scratch(&blobs));
            match built {
                Err(LayerError::Changed { path: told }) => {
                    assert_eq!(told, path);
                    changed += 1;
                }
                Err(error) => panic!("{error:?}"),
                Ok(layer) => {
                    let bytes = fs::read(&layer.path).unwrap();
                    assert_eq!(DiffId::of(&bytes), layer.diff_id);
                    let mut archive = tar::Archive::new(&bytes[..]);
                    let sizes: Vec<u64> = archive
                        .entries()
                        .unwrap()
                        .map(|entry| std::io::copy(&mut entry.unwrap(), &mut std::io::sink()).unwrap())
                        .collect();
                    assert_eq!(sizes.len(), 2);
                    fs::remove_file(layer.path).unwrap();
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(changed > 0, "the file never changed while it was read");
    });
    assert_eq!(fs::read_dir(&blobs).unwrap().count(), 0);
}

/// Files that change once or twice while they are read do not keep a layer from being made; those that always change do.
#[test]
fn a_layer_whose_files_change_is_begun_again_twice() {
    let changed = || LayerError::Changed { path: "log".into() };
    let other = || LayerError::Stopped;
    let make = |results: Vec<Result<u8, LayerError>>| {
        let (mut results, mut begun) = (results.into_iter(), 0);
        let made = patiently(|| {
            begun += 1;
            results.next().unwrap()
        });
        (made, begun)
    };
    assert!(matches!(make(vec![Ok(1)]), (Ok(1), 1)));
    assert!(matches!(make(vec![Err(changed()), Ok(2)]), (Ok(2), 2)));
    assert!(matches!(make(vec![Err(changed()), Err(changed()), Ok(3)]), (Ok(3), 3)));
    let always = (0..9).map(|_| Err(changed())).collect();
    assert!(matches!(make(always), (Err(LayerError::Changed { .. }), 3)));
    assert!(matches!(make(vec![Err(other()), Ok(1)]), (Err(LayerError::Stopped), 1)));
    assert!(matches!(make(vec![Err(changed()), Err(other()), Ok(1)]), (Err(LayerError::Stopped), 2)));
}
