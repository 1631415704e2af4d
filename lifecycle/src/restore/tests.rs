//! Restore from a directory cache, whole and damaged.

use longshore_cnb::lifecycle_metadata::{LayerSha, Store};
use longshore_image::layer::{Ownership, ParentOwnership};

use super::*;
use crate::cache::{DirectoryCache, LayerDirectory};

const OWNERSHIP: Ownership =
    Ownership { uid: 1, gid: 1, parents: ParentOwnership::Fixed { uid: 0, gid: 0, mode: 0o755 } };

/// A previous build with a layer of each kind, and an empty layers directory for the next one.
struct Fixture {
    root: tempfile::TempDir,
    group: Group,
    metadata: LifecycleMetadata,
    cached: CacheMetadata,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in
            ["old/acme_web/both", "old/acme_web/cached", "old/sbom/cache/acme_web/cached", "cache", "new"]
        {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        for name in ["acme_web/both/b", "acme_web/cached/c", "sbom/cache/acme_web/cached/sbom.cdx.json"] {
            fs::write(root.path().join("old").join(name), name).unwrap();
        }
        let cache = DirectoryCache::open(root.path().join("cache")).unwrap();
        let mut update = cache.begin().unwrap();
        let mut add = |name: &str| {
            let host = root.path().join("old").join(name);
            let directory = MappedDirectory { host, name: Path::new("/layers").join(name) };
            let layer = LayerDirectory {
                directory: &directory,
                ownership: OWNERSHIP,
                known: None,
                previous: None,
                index: None,
            };
            update.put(&layer).unwrap().diff_id.to_string()
        };
        let layer = |sha: String, launch, cache| LayerMetadata {
            sha,
            data: serde_json::json!({"n": 3}),
            launch,
            cache,
            ..LayerMetadata::default()
        };
        let both = layer(add("acme_web/both"), true, true);
        let cached_only = layer(add("acme_web/cached"), false, true);
        let launch_only = layer(DiffId::of(b"launch").to_string(), true, false);
        let sbom = LayerSha { sha: add("sbom/cache") };
        let layers = |layers: &[(&str, &LayerMetadata)]| BuildpackLayers {
            key: "acme/web".to_owned(),
            version: "1".to_owned(),
            layers: layers.iter().map(|(name, layer)| ((*name).to_owned(), (*layer).clone())).collect(),
            store: Some(Store { metadata: serde_json::json!({"s": 1}) }),
        };
        let cached =
            CacheMetadata { sbom, buildpacks: vec![layers(&[("both", &both), ("cached", &cached_only)])] };
        update.commit(&cached).unwrap();
        let metadata = LifecycleMetadata {
            buildpacks: vec![layers(&[("both", &both), ("launch", &launch_only)])],
            ..LifecycleMetadata::default()
        };
        let element =
            GroupElement { id: "acme/web".to_owned(), version: "2".to_owned(), ..GroupElement::default() };
        let group = Group { buildpacks: vec![element], ..Group::default() };
        Self { root, group, metadata, cached }
    }

    fn restore(&self, skip_layers: bool) -> RestoreOutput {
        let cache = DirectoryCache::open(self.root.path().join("cache")).unwrap();
        restore(&RestoreInput {
            platform_api: PlatformApi::latest(),
            layers: MappedDirectory { host: self.root.path().join("new"), name: PathBuf::from("/layers") },
            group: &self.group,
            metadata: &self.metadata,
            cache: Some(&cache),
            skip_layers,
            owner: None,
        })
        .unwrap()
    }

    fn files(&self) -> Vec<String> {
        fn walk(directory: &Path, root: &Path, files: &mut Vec<String>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, files);
                } else {
                    files.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let root = self.root.path().join("new");
        let mut files = Vec::new();
        walk(&root, &root, &mut files);
        files.sort();
        files
    }

    fn cached_tar(&self, name: &str) -> PathBuf {
        let sha = &self.cached.buildpacks[0].layers[name].sha;
        self.root.path().join("cache/committed").join(format!("{sha}.tar"))
    }
}

#[test]
fn layers_metadata_store_and_sbom_are_restored() {
    let fixture = Fixture::new();
    let output = fixture.restore(false);
    assert_eq!(output.restored, ["acme/web:both", "acme/web:cached"]);
    assert_eq!(
        fixture.files(),
        [
            "acme_web/both.toml",
            "acme_web/both/b",
            "acme_web/cached.sbom.cdx.json",
            "acme_web/cached.toml",
            "acme_web/cached/c",
            "acme_web/launch.toml",
            "acme_web/store.toml"
        ]
    );
    let toml = fs::read_to_string(fixture.root.path().join("new/acme_web/both.toml")).unwrap();
    assert_eq!(toml, "[metadata]\n  n = 3\n", "no types, and an integer stays an integer");
}

#[test]
fn skipping_layers_leaves_the_store() {
    let fixture = Fixture::new();
    fixture.restore(true);
    assert_eq!(fixture.files(), ["acme_web/store.toml"]);
}

/// The reference warns and leaves the metadata, so that the buildpack believes in a layer that is not there.
#[test]
fn a_damaged_cache_costs_the_layer_and_is_healed() {
    let fixture = Fixture::new();
    let (both, cached) = (fixture.cached_tar("both"), fixture.cached_tar("cached"));
    let mut bytes = fs::read(&both).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&both, bytes).unwrap();
    fs::remove_file(&cached).unwrap();
    let output = fixture.restore(false);
    assert!(output.restored.is_empty());
    assert_eq!(fixture.files(), ["acme_web/launch.toml", "acme_web/store.toml"]);
    assert!(!both.exists(), "the next export must write the layer anew");
}

#[test]
fn names_out_of_a_label_cannot_leave_the_directory() {
    let mut fixture = Fixture::new();
    let layers = &mut fixture.metadata.buildpacks[0].layers;
    let launch = layers["launch"].clone();
    for name in ["../../evil", "/evil", "a/b", "..", ""] {
        layers.insert(name.to_owned(), launch.clone());
    }
    fixture.restore(false);
    assert!(!fixture.root.path().join("evil.toml").exists());
    assert_eq!(fixture.files().len(), 7);
}
