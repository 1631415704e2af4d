mod any_tree;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;
use crate::unpack::{Owner, Policy, extract_into};
use crate::{BlobSink, LayerFormat, ManifestFormat, layer as layers};

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("tree")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn scope(&self) -> Scope {
        Scope::new(&self.path("tree"), &[]).unwrap()
    }

    fn changes(&self, snapshot: &Snapshot) -> Vec<String> {
        let changes = snapshot.changes(&self.scope()).unwrap();
        changes.iter().map(|change| format!("{:?} {}", change.kind, change.path())).collect()
    }

    /// Applies a layer of the changes since to `target`.
    fn apply(&self, snapshot: &Snapshot, target: &str) {
        let changes = snapshot.changes(&self.scope()).unwrap();
        let source = layer_of(&changes, &self.path("tree"), Path::new("/"), LayerOwner::Keep).unwrap();
        let sink = BlobSink::scratch(self.root.path());
        let layer = layers::build(&source, LayerFormat::TarZstd, ManifestFormat::Oci, &sink).unwrap();
        let target = self.path(target);
        fs::create_dir_all(&target).unwrap();
        let mut policy = Policy::rootfs(Owner::Ignore);
        policy.special_files = crate::unpack::SpecialFiles::Create;
        extract_into(fs::File::open(layer.path).unwrap(), &target, &policy).unwrap();
    }

    fn tree(&self, name: &str) -> Vec<String> {
        let scope = Scope::new(&self.path(name), &[]).unwrap();
        let snapshot = Snapshot::take(&scope).unwrap();
        let describe = |(name, node): (&Vec<u8>, &Node)| {
            let (name, target) = (tree::display(name), &node.target);
            format!("{name} {:?} {:o} {:?} {target:?}", node.kind, node.mode, node.content)
        };
        snapshot.nodes.iter().skip(1).map(describe).collect()
    }
}

#[test]
fn each_kind_of_change_is_told() {
    let place = Place::new();
    for name in
        ["same", "content", "mode", "gone", "gone-tree/a/b", "gone-tree/c", "emptied/a", "emptied/b", "d/x"]
    {
        place.write(name, "old");
    }
    symlink("old", place.path("tree/link")).unwrap();
    let snapshot = Snapshot::take(&place.scope()).unwrap();
    assert!(place.changes(&snapshot).is_empty());
    place.write("content", "new");
    fs::set_permissions(place.path("tree/mode"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::remove_file(place.path("tree/gone")).unwrap();
    fs::remove_dir_all(place.path("tree/gone-tree")).unwrap();
    fs::remove_dir_all(place.path("tree/emptied")).unwrap();
    place.write("emptied/new", "new");
    fs::remove_file(place.path("tree/link")).unwrap();
    symlink("new", place.path("tree/link")).unwrap();
    fs::remove_dir_all(place.path("tree/d")).unwrap();
    place.write("d", "a file now");
    place.write("added/x", "");
    let expected = [
        "Added added",
        "Added added/x",
        "Modified content",
        "Modified d",
        "Emptied emptied",
        "Added emptied/new",
        "Removed gone",
        "Removed gone-tree",
        "Modified link",
        "Modified mode",
    ];
    assert_eq!(place.changes(&snapshot), expected);
}

/// `cp -a` and checkouts change inodes and times, and not a byte.
#[test]
fn the_same_content_is_no_change() {
    let place = Place::new();
    place.write("file", "content");
    let snapshot = Snapshot::take(&place.scope()).unwrap();
    let before = fs::metadata(place.path("tree/file")).unwrap().ino();
    place.write("other", "content");
    fs::rename(place.path("tree/other"), place.path("tree/file")).unwrap();
    assert_ne!(fs::metadata(place.path("tree/file")).unwrap().ino(), before);
    assert!(place.changes(&snapshot).is_empty());
}

/// A file that is written in the same tick of the clock has the same times and may have the same size.
#[test]
fn a_change_in_the_moment_of_the_snapshot_is_noticed() {
    let place = Place::new();
    place.write("file", "aaaa");
    let snapshot = Snapshot::take(&place.scope()).unwrap();
    let path = place.path("tree/file");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "bbbb").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(place.changes(&snapshot), ["Modified file"]);
}

#[test]
fn snapshots_come_back_from_their_files() {
    let place = Place::new();
    place.write("ä\\b", "x");
    symlink("target", place.path("tree/link")).unwrap();
    let snapshot = Snapshot::take(&place.scope()).unwrap();
    let file = place.path("snapshot");
    snapshot.write(&file).unwrap();
    assert_eq!(Snapshot::read(&file).unwrap(), snapshot);
    fs::write(&file, "no snapshot").unwrap();
    assert!(Snapshot::read(&file).is_err());
}

#[test]
fn hard_links_stay_links() {
    let place = Place::new();
    place.write("a", "content");
    fs::hard_link(place.path("tree/a"), place.path("tree/b")).unwrap();
    place.apply(&Snapshot::empty(), "out");
    let inode = |name: &str| fs::metadata(place.path(name)).unwrap().ino();
    assert_eq!(inode("out/a"), inode("out/b"));
    assert_eq!(fs::read(place.path("out/b")).unwrap(), b"content");
}

#[test]
fn a_name_of_a_whiteout_is_refused() {
    let place = Place::new();
    place.write(".wh.file", "");
    let changes = Snapshot::empty().changes(&place.scope()).unwrap();
    let result = layer_of(&changes, &place.path("tree"), Path::new("/"), LayerOwner::Keep);
    assert!(matches!(result, Err(SnapshotError::Whiteout { .. })));
}

/// What one may do to a tree.
#[derive(Debug, Clone)]
enum Step {
    Write(String, String, u32),
    Link(String, String),
    Remove(String),
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]", 1..4).prop_map(|parts| parts.join("/"))
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any_path(), "[xy]{0,2}", 0o600..=0o777_u32).prop_map(|(path, text, mode)| Step::Write(path, text, mode)),
        1 => (any_path(), "[ab/]{1,5}").prop_map(|(path, target)| Step::Link(path, target)),
        2 => any_path().prop_map(Step::Remove),
    ]
}

fn run(place: &Place, steps: &[Step]) {
    let tree = place.path("tree");
    let clear = |name: &str| {
        let path = tree.join(name);
        // Whatever is in the way, as a file or a link above it too, goes.
        for above in path.ancestors().take_while(|above| *above != tree) {
            match fs::symlink_metadata(above) {
                Ok(metadata) if !metadata.is_dir() => fs::remove_file(above).unwrap(),
                Ok(_) if above == path => fs::remove_dir_all(above).unwrap(),
                _ => {}
            }
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for step in steps {
        match step {
            Step::Write(name, text, mode) => {
                let path = clear(name);
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, PermissionsExt::from_mode(*mode)).unwrap();
            }
            Step::Link(name, target) => symlink(target, clear(name)).unwrap(),
            Step::Remove(name) => drop(clear(name)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_layers_give_the_tree(
        first in prop::collection::vec(any_step(), 0..12),
        second in prop::collection::vec(any_step(), 0..12),
    ) {
        let place = Place::new();
        run(&place, &first);
        place.apply(&Snapshot::empty(), "out");
        prop_assert_eq!(place.tree("tree"), place.tree("out"));
        let snapshot = Snapshot::take(&place.scope()).unwrap();
        run(&place, &second);
        place.apply(&snapshot, "out");
        prop_assert_eq!(place.tree("tree"), place.tree("out"), "{:?}", place.changes(&snapshot));
    }
}
