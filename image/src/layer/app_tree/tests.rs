use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;
use crate::layer::{ParentOwnership, build, digest as digest_of, slices};
use crate::unpack::{Owner, Policy, extract_into};
use crate::{BlobSink, DiffId, LayerFormat, ManifestFormat, StatIndex};

const NAME: &str = "/work/space";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("app")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path("app").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self) -> AppTree {
        AppTree::read(&self.path("app"), Path::new(NAME), &ownership()).unwrap()
    }

    fn record(&self) -> AppRecord {
        AppRecord::new(&self.read(), Vec::new())
    }

    /// The names in the layer of what changed.
    fn since(&self, record: &AppRecord) -> Vec<String> {
        match self.read().since(record) {
            AppChange::Nothing => Vec::new(),
            AppChange::Some(source, _) => names(&source),
            AppChange::Inexpressible(reason) => vec![reason.to_owned()],
        }
    }

    /// Puts a layer on what is in `target`.
    fn apply(&self, source: &LayerSource, target: &str) {
        let sink = BlobSink::scratch(self.0.path());
        let layer = build(source, LayerFormat::Tar, ManifestFormat::Oci, &sink).unwrap();
        fs::create_dir_all(self.path(target)).unwrap();
        let policy = Policy::rootfs(Owner::Ignore);
        extract_into(fs::File::open(layer.path).unwrap(), &self.path(target), &policy).unwrap();
    }
}

fn ownership() -> Ownership {
    Ownership { uid: 1, gid: 2, parents: ParentOwnership::Fixed { uid: 0, gid: 0, mode: 0o755 } }
}

fn names(source: &LayerSource) -> Vec<String> {
    let mut names = Vec::new();
    source
        .visit(&mut |entry| {
            names.push(entry.path.strip_prefix("/work").unwrap().display().to_string());
            Ok(())
        })
        .unwrap();
    names
}

/// All that is below a directory, with modes, times, targets and content.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|child| child.unwrap().path()));
            "directory".to_owned()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            fs::read_to_string(&path).unwrap()
        };
        let name = path.strip_prefix(root).unwrap().to_owned();
        if !name.as_os_str().is_empty() {
            found.insert(name, format!("{:o} {what}", metadata.mode()));
        }
    }
    found
}

#[test]
fn the_full_layer_is_the_one_without_slices() {
    let place = Place::new();
    for name in ["a/x", "a-b", "b"] {
        place.write(name, name);
    }
    let sliced = slices(&place.path("app"), Path::new(NAME), &[], &ownership()).unwrap();
    let tree = place.read();
    let digest = digest_of(&tree.full()).unwrap();
    assert_eq!(digest, digest_of(&sliced[0]).unwrap());
    let without_end = digest.uncompressed_size / 512 * 512;
    assert!(tree.size() <= without_end && without_end - tree.size() <= 10_240, "{}", tree.size());
}

#[test]
fn only_what_changed_is_in_the_layer() {
    let place = Place::new();
    for name in ["same", "content", "mode", "gone", "tree/a/b", "tree/c", "swap", "deep/er/x", "deep/y"] {
        place.write(name, "old");
    }
    let record = place.record();
    assert!(place.since(&record).is_empty());
    place.write("same", "old");
    assert!(place.since(&record).is_empty(), "written again");
    place.write("content", "new");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(place.path("app/mode"), executable).unwrap();
    fs::remove_file(place.path("app/gone")).unwrap();
    fs::remove_dir_all(place.path("app/tree")).unwrap();
    fs::remove_file(place.path("app/swap")).unwrap();
    place.write("swap/inner", "new");
    fs::remove_file(place.path("app/deep/er/x")).unwrap();
    symlink("same", place.path("app/added")).unwrap();
    let expected = [
        "",
        "space",
        "space/.wh.gone",
        "space/.wh.tree",
        "space/added",
        "space/content",
        "space/deep",
        "space/deep/er",
        "space/deep/er/.wh.x",
        "space/mode",
        "space/swap",
        "space/swap/inner",
    ];
    assert_eq!(place.since(&record), expected);
}

/// The time of modification and the size say the same: only the content tells.
#[test]
fn an_edit_that_keeps_size_and_time_is_found() {
    let place = Place::new();
    place.write("a", "old");
    let record = place.record();
    let modified = fs::metadata(place.path("app/a")).unwrap().modified().unwrap();
    place.write("a", "new");
    let file = fs::File::options().write(true).open(place.path("app/a")).unwrap();
    file.set_modified(modified).unwrap();
    assert_eq!(place.since(&record), ["", "space", "space/a"]);
}

#[test]
fn what_a_layer_cannot_say_is_refused() {
    let place = Place::new();
    place.write("a", "");
    let record = place.record();
    place.write(".wh.b", "");
    assert_eq!(place.since(&record), ["a file of the app has the name of a whiteout"]);
    let tree = AppTree::read(&place.path("app"), Path::new("/other"), &ownership()).unwrap();
    assert!(
        matches!(tree.since(&record), AppChange::Inexpressible(reason) if reason.contains("another name"))
    );
}

#[test]
fn records_come_back_and_damaged_ones_do_not() {
    let place = Place::new();
    place.write("a/b", "text");
    symlink("a", place.path("app/link")).unwrap();
    let record = AppRecord::new(&place.read(), vec![(DiffId::of(b"1"), 7), (DiffId::of(b"2"), 8)]);
    let bytes = record.encode().unwrap();
    assert_eq!(AppRecord::decode(&bytes).unwrap(), record);
    for position in [0, 31, 32, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1;
        assert!(AppRecord::decode(&damaged).is_err(), "{position}");
        assert!(AppRecord::decode(&bytes[..position]).is_err(), "cut at {position}");
    }
}

/// The record would say that a layer holds what it does not.
#[test]
fn an_app_that_is_written_to_meanwhile_is_not_recorded() {
    let place = Place::new();
    place.write("a", "old");
    let recorded = |change: &dyn Fn()| {
        let index = StatIndex::open(&place.path("index"), false);
        let tree = place.read();
        change();
        index.note_app(&tree, vec![(DiffId::of(b"1"), 1)]).unwrap();
        let _ = fs::remove_file(place.path("index/v2/app"));
        index.save().unwrap();
        place.path("index/v2/app").exists()
    };
    assert!(recorded(&|| {}));
    assert!(!recorded(&|| place.write("a", "new")));
    assert!(!recorded(&|| place.write("b", "")));
}

#[derive(Debug, Clone)]
enum Node {
    File(u8, bool),
    Link(u8),
    Directory(bool, Vec<(String, Node)>),
}

fn any_children() -> impl Strategy<Value = Vec<(String, Node)>> {
    let leaf = prop_oneof![
        3 => (0..3_u8, any::<bool>()).prop_map(|(content, executable)| Node::File(content, executable)),
        1 => (0..2_u8).prop_map(Node::Link),
    ];
    let children = |node| prop::collection::vec(("[abc]|a-b|é", node), 0..4);
    let node = leaf.prop_recursive(3, 12, 4, move |inner| {
        (any::<bool>(), children(inner.boxed())).prop_map(|(open, children)| Node::Directory(open, children))
    });
    prop::collection::vec(("[abc]|a-b|é", node), 0..5)
}

fn make(directory: &Path, children: &[(String, Node)]) {
    for (name, node) in children {
        let path = directory.join(name);
        if path.symlink_metadata().is_ok() {
            continue;
        }
        let mode = match node {
            Node::File(content, executable) => {
                fs::write(&path, content.to_string()).unwrap();
                if *executable { 0o755 } else { 0o644 }
            }
            Node::Link(target) => {
                symlink(["a", "../c"][usize::from(*target)], &path).unwrap();
                continue;
            }
            Node::Directory(open, children) => {
                fs::create_dir(&path).unwrap();
                make(&path, children);
                if *open { 0o777 } else { 0o750 }
            }
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever becomes of an app in several builds: the first layer with all that followed is the last full layer.
    #[test]
    fn a_chain_of_changes_is_the_full_app(states in prop::collection::vec(any_children(), 2..6)) {
        let place = Place::new();
        let mut record: Option<AppRecord> = None;
        for state in &states {
            fs::remove_dir_all(place.path("app")).unwrap();
            fs::create_dir(place.path("app")).unwrap();
            make(&place.path("app"), state);
            let tree = place.read();
            match record.as_ref().map(|record| tree.since(record)) {
                None => place.apply(&tree.full(), "chain"),
                Some(AppChange::Some(source, _)) => place.apply(&source, "chain"),
                Some(AppChange::Nothing) => {}
                Some(AppChange::Inexpressible(reason)) => prop_assert!(false, "{}", reason),
            }
            record = Some(AppRecord::decode(&AppRecord::new(&tree, Vec::new()).encode().unwrap()).unwrap());
            let _ = fs::remove_dir_all(place.path("full"));
            place.apply(&tree.full(), "full");
            prop_assert_eq!(listing(&place.path("chain")), listing(&place.path("full")));
        }
    }
}
