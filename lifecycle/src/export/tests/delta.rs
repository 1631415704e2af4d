//! Delta layers of the app: what changed since the previous image, on top of its app layers.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use longshore_image::unpack::{Owner, Policy, extract_into};

use super::*;
use crate::image_layers;

struct Builds {
    fixture: Fixture,
}

impl Builds {
    /// As after a build that left image and record. The app is large enough for some changes to be small.
    fn new() -> Self {
        let fixture = Fixture::new();
        let path = fixture.path("layers/config/metadata.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.split("[[slices]]").next().unwrap()).unwrap();
        fs::write(fixture.path("app/large"), "large".repeat(20_000)).unwrap();
        let mut builds = Self { fixture };
        assert_eq!(builds.build().added_layers, 6);
        builds
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.fixture.path("app").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn build(&mut self) -> ExportOutput {
        self.build_as(AppLayer::Delta)
    }

    fn build_as(&mut self, app_layer: AppLayer) -> ExportOutput {
        let index = StatIndex::open(&self.fixture.path("index"), false);
        let images = ["app:1".to_owned()];
        let input = ExportInput { index: Some(&index), app_layer, ..self.fixture.input(&images) };
        let output = export(&input).unwrap();
        index.save().unwrap();
        self.fixture.analyze("app:1");
        output
    }

    fn layers(&self) -> Vec<String> {
        self.fixture.analyzed.metadata.app.iter().map(|layer| layer.sha.clone()).collect()
    }

    /// The app as a client unpacks it from the app layers of the image, in the order of the image.
    fn unpacked(&self) -> BTreeMap<String, String> {
        let image = self.fixture.image("app:1");
        let root = tempfile::tempdir().unwrap();
        let app = self.layers();
        let pairs = image_layers::pairs(&image);
        let layers: Vec<_> =
            pairs.into_iter().filter(|(diff_id, _)| app.contains(&diff_id.to_string())).collect();
        assert_eq!(layers.iter().map(|(diff_id, _)| diff_id.to_string()).collect::<Vec<_>>(), app);
        for (diff_id, descriptor) in layers {
            let blob = fs::File::open(self.fixture.store.layout().blob_path(descriptor.digest)).unwrap();
            extract_into(blob, root.path(), &Policy::rootfs(Owner::Ignore).expecting(diff_id)).unwrap();
        }
        tree(&root.path().join("workspace"))
    }

    /// A build after a change, which makes `layers` app layers of which one is new.
    fn expect(&mut self, layers: usize) {
        let before = self.layers();
        let output = self.build();
        assert_eq!(self.layers().len(), layers);
        assert_eq!(output.added_layers, 1);
        if layers > 1 {
            assert_eq!(self.layers()[..layers - 1], before);
        }
        assert_eq!(self.unpacked(), tree(&self.fixture.path("app")));
        let history = self.fixture.image("app:1").config.history();
        let of_app = history.iter().filter_map(|entry| entry.created_by.as_deref());
        assert_eq!(of_app.filter(|text| text.starts_with("Application Layer")).count(), layers);
    }
}

fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for child in fs::read_dir(root).unwrap() {
        let path = child.unwrap().path();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(tree(&path).into_iter().map(|(below, what)| (format!("{name}/{below}"), what)));
            found.insert(name, format!("{mode:o}"));
        } else {
            found.insert(name, format!("{mode:o} {}", fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[test]
fn each_change_is_a_layer_on_top() {
    let mut builds = Builds::new();
    builds.write("main.py", "print(2)");
    builds.expect(2);
    builds.write("added/deep/file", "new");
    builds.expect(3);
    fs::remove_file(builds.fixture.path("app/main.py")).unwrap();
    builds.expect(4);
    fs::remove_dir_all(builds.fixture.path("app/static")).unwrap();
    builds.write("static", "a file now");
    builds.expect(5);
    fs::remove_file(builds.fixture.path("app/static")).unwrap();
    builds.write("static/other", "a directory again");
    builds.expect(6);
    let path = builds.fixture.path("app/large");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    // A file whose mode changed is in the layer as a whole, and this one is most of the app.
    builds.expect(1);
    fs::set_permissions(builds.fixture.path("app/static"), fs::Permissions::from_mode(0o700)).unwrap();
    builds.expect(2);
}

#[test]
fn no_change_is_no_layer_and_the_same_image() {
    let mut builds = Builds::new();
    let full = builds.build_as(AppLayer::Full);
    builds.write("main.py", "print(2)");
    let first = builds.build();
    // As in each build, the app is a copy: only inodes and times are others.
    fs::rename(builds.fixture.path("app"), builds.fixture.path("old")).unwrap();
    for (name, text) in [("main.py", "print(2)"), ("static/a.css", "a")] {
        builds.write(name, text);
    }
    builds.write("large", &"large".repeat(20_000));
    let second = builds.build();
    assert_eq!(second.manifest.digest(), first.manifest.digest());
    assert_eq!((second.added_layers, second.reused_layers), (0, 7));
    builds.write("main.py", "print()");
    let again = builds.build_as(AppLayer::Full);
    assert_eq!(again.manifest.digest(), full.manifest.digest(), "a full build knows nothing of changes");
}

#[test]
fn a_long_chain_becomes_one_layer() {
    let mut builds = Builds::new();
    for length in 2..=16 {
        builds.write("main.py", &format!("print({length})"));
        builds.expect(length);
    }
    assert_eq!(builds.build().added_layers, 0, "no change is no reason");
    builds.write("main.py", "print(17)");
    builds.expect(1);
    builds.write("main.py", "print(18)");
    builds.expect(2);
}

#[test]
fn changes_that_are_half_of_the_app_become_one_layer() {
    let mut builds = Builds::new();
    builds.write("half", &"x".repeat(40_000));
    builds.expect(2);
    builds.write("half", &"y".repeat(30_000));
    builds.expect(1);
}

#[test]
fn without_a_record_of_the_previous_image_the_layer_is_full() {
    let mut builds = Builds::new();
    let record = builds.fixture.path("index/v2/app");
    let remove = || fs::remove_file(&record).unwrap();
    let damage = || fs::write(&record, "damaged").unwrap();
    for (name, spoil) in [("one", &remove as &dyn Fn()), ("two", &damage)] {
        builds.write(name, "a change");
        builds.expect(2);
        spoil();
        builds.write(name, "another");
        builds.expect(1);
    }
    // A build without delta layers leaves no record.
    builds.write("main.py", "print(4)");
    builds.build_as(AppLayer::Full);
    builds.write("main.py", "print(5)");
    builds.expect(1);
    builds.fixture.analyzed.previous_image = None;
    builds.write("main.py", "print(6)");
    builds.build();
    assert_eq!(builds.layers().len(), 1, "there is no previous image");
}

#[test]
fn slices_and_other_formats_are_full() {
    let mut builds = Builds::new();
    builds.write("main.py", "print(2)");
    builds.expect(2);
    let index = StatIndex::open(&builds.fixture.path("index"), false);
    let images = ["app:1".to_owned()];
    let input = ExportInput {
        index: Some(&index),
        app_layer: AppLayer::Delta,
        layer_format: Some(LayerFormat::TarGzip.into()),
        ..builds.fixture.input(&images)
    };
    export(&input).unwrap();
    index.save().unwrap();
    builds.fixture.analyze("app:1");
    assert_eq!(builds.layers().len(), 1);
    let metadata = builds.fixture.path("layers/config/metadata.toml");
    let text = fs::read_to_string(&metadata).unwrap() + "[[slices]]\npaths = [\"static\"]\n";
    fs::write(&metadata, text).unwrap();
    builds.build();
    assert_eq!(builds.layers().len(), 2, "a slice, and the rest");
}
