use super::*;
use crate::layer::{self, Entry};
use crate::test_images::reference;
use crate::{
    BlobSource, Descriptor, Digest, ImageManifest, LayerFormat, LayerSource, LocalStore, Manifest,
    ManifestFormat, MediaType, Platform,
};

fn put(store: &LocalStore, name: &str, layers: Vec<Vec<Entry>>, change: impl Fn(&mut Config)) -> Image {
    let name = reference(name);
    let layers: Vec<_> = layers
        .into_iter()
        .map(|entries| {
            let source = LayerSource::entries(entries);
            layer::build(&source, LayerFormat::TarGzip, ManifestFormat::Oci, &store.sink()).unwrap()
        })
        .collect();
    let mut config = Config::new(&Platform::host());
    config.set_diff_ids(&layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>());
    change(&mut config);
    let bytes = config.to_bytes();
    let blob =
        Descriptor::new(MediaType::Config(ManifestFormat::Oci), Digest::of(&bytes), bytes.len() as u64);
    store.write_blob(&name, &blob, &BlobSource::Bytes(bytes), None).unwrap();
    let layers = layers.into_iter().map(|layer| layer.descriptor).collect();
    let manifest = Manifest::image(ImageManifest::new(ManifestFormat::Oci, blob, layers));
    store.put_manifest(&name, &manifest).unwrap();
    store.resolve(&name, &Platform::host()).unwrap().unwrap()
}

fn told(differences: &[Difference]) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    differences
        .iter()
        .map(|one| format!("{}: {} | {}", one.name, text(&one.before), text(&one.after)))
        .collect()
}

#[test]
fn layers_files_and_fields_that_differ_are_told() {
    let root = tempfile::tempdir().unwrap();
    let store = LocalStore::open(root.path()).unwrap();
    let base = || {
        vec![
            Entry::directory("/d", 0o755),
            Entry::file("/d/gone", 0o644, "x"),
            Entry::file("/d/same", 0o644, "x"),
            Entry::file("/mode", 0o644, "x"),
            Entry::file("/content", 0o644, "x"),
        ]
    };
    let before = put(&store, "a", vec![base()], |config| config.set_env("A", "1"));
    let top = vec![
        Entry::file("/d/.wh.gone", 0o644, ""),
        Entry::file("/mode", 0o600, "x"),
        Entry::file("/content", 0o644, "yy"),
        Entry::symlink("/link", "d"),
    ];
    let after = put(&store, "b", vec![base(), top], |config| {
        config.set_env("A", "2");
        config.set_user("1000");
    });
    let side = |image| Side { image, store: &store };
    let found = diff(side(&before), side(&after)).unwrap();
    assert_eq!(found.common_layers, 1);
    assert_eq!(found.layers.len(), 1);
    assert_eq!(told(&found.config), ["config.Env.A: 1 | 2", "config.User: - | 1000"]);
    let files = told(&found.files);
    assert_eq!(files[0].split(':').next(), Some("/content"));
    assert_eq!(
        files[1..],
        ["/d/gone: file, 1 bytes | -", "/link: - | link to d", "/mode: mode 644 | mode 600"]
    );
    let with = |name: &str, value: &str| Entry {
        xattrs: vec![(format!("user.{name}"), value.into())],
        ..Entry::file("/x", 0o644, "x")
    };
    let (one, other) = (
        put(&store, "c", vec![vec![with("a", "1")]], |_| {}),
        put(&store, "d", vec![vec![with("b", "\x01")]], |_| {}),
    );
    let files = told(&diff(side(&one), side(&other)).unwrap().files);
    assert_eq!(
        files,
        [
            "/x: attribute user.a `1`, attribute user.b missing | attribute user.a missing, attribute user.b 1 bytes, 4bf5122f3445"
        ]
    );
    let same = diff(side(&before), side(&before)).unwrap();
    assert_eq!((same.layers.len(), same.config.len(), same.files.len()), (0, 0, 0));
}
