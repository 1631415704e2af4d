//! Images as a client sees them: manifest, configuration and what lies in the layers.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use crate::FaultyRegistry;
use crate::layout::digest;

/// What a path of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A folder.
    Folder,
    /// A regular file with these bytes.
    File(Vec<u8>),
    /// A link to this target.
    Link(String),
}

/// One path of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledEntry {
    /// What it is.
    pub content: Content,
    /// The permission bits.
    pub mode: u32,
    /// The owner's user and group ids.
    pub owner: (u64, u64),
    /// Seconds since 1970.
    pub modified: u64,
}

/// One layer, uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledLayer {
    /// The DiffID, computed from the bytes.
    pub diff_id: String,
    /// By absolute path without a slash at the end.
    pub entries: BTreeMap<String, PulledEntry>,
}

/// An image.
#[derive(Debug, Clone)]
pub struct PulledImage {
    /// The digest of the manifest.
    pub digest: String,
    /// The manifest.
    pub manifest: Value,
    /// The configuration.
    pub config: Value,
    /// The layers, lowest first.
    pub layers: Vec<PulledLayer>,
}

impl PulledImage {
    /// The image `repository:tag` of a registry, if there is one.
    ///
    /// # Panics
    /// When it is incomplete or not valid.
    #[must_use]
    pub fn of_registry(registry: &FaultyRegistry, repository: &str, tag: &str) -> Option<Self> {
        let manifest = registry.manifest(repository, tag)?;
        Some(Self::new(&manifest, |digest| {
            registry.blob(repository, digest).unwrap_or_else(|| panic!("{repository} has no blob {digest}"))
        }))
    }

    /// The only image of an OCI layout, if there is a layout.
    ///
    /// # Panics
    /// When it is incomplete or not valid.
    #[must_use]
    pub fn of_layout(folder: &Path) -> Option<Self> {
        let index = std::fs::read(folder.join("index.json")).ok()?;
        let index: Value = serde_json::from_slice(&index).expect("index.json is JSON");
        let blob = |digest: &str| {
            std::fs::read(folder.join("blobs").join(digest.replace(':', "/"))).expect("a blob of the layout")
        };
        let manifest = blob(index["manifests"][0]["digest"].as_str().expect("a manifest in the index"));
        Some(Self::new(&manifest, blob))
    }

    fn new(manifest: &[u8], blob: impl Fn(&str) -> Vec<u8>) -> Self {
        let digest = digest(manifest);
        let manifest: Value = serde_json::from_slice(manifest).expect("the manifest is JSON");
        let config = blob(manifest["config"]["digest"].as_str().expect("a configuration"));
        let config = serde_json::from_slice(&config).expect("the configuration is JSON");
        let layers = manifest["layers"].as_array().expect("layers");
        let layers =
            layers.iter().map(|layer| read_layer(&blob(layer["digest"].as_str().expect("a digest"))));
        Self { digest, config, layers: layers.collect(), manifest }
    }

    /// The highest layer that has `path`.
    #[must_use]
    pub fn layer_with(&self, path: &str) -> Option<&PulledLayer> {
        self.layers.iter().rev().find(|layer| layer.entries.contains_key(path))
    }

    /// What the highest layer that has `path` has there.
    #[must_use]
    pub fn entry(&self, path: &str) -> Option<&PulledEntry> {
        self.layer_with(path).and_then(|layer| layer.entries.get(path))
    }
}

fn read_layer(blob: &[u8]) -> PulledLayer {
    let mut bytes = Vec::new();
    let read = match blob {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut bytes),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            zstd::Decoder::new(blob).and_then(|mut decoder| decoder.read_to_end(&mut bytes))
        }
        plain => {
            bytes.extend_from_slice(plain);
            Ok(plain.len())
        }
    };
    read.expect("a layer can be decompressed");
    let mut entries = BTreeMap::new();
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().expect("a layer is an archive") {
        let mut entry = entry.expect("an entry of a layer");
        let path = entry.path().expect("its path").display().to_string();
        let path = format!("/{}", path.trim_matches('/'));
        let header = entry.header();
        let kind = header.entry_type();
        let (mode, modified) = (header.mode().expect("its mode"), header.mtime().expect("its time"));
        let owner = (header.uid().expect("its owner"), header.gid().expect("its group"));
        let link = entry.link_name().expect("its target").map(|link| link.display().to_string());
        let content = match (kind, link) {
            (tar::EntryType::Directory, _) => Content::Folder,
            (_, Some(target)) => Content::Link(target),
            (_, None) => {
                let mut contents = Vec::new();
                entry.read_to_end(&mut contents).expect("its contents");
                Content::File(contents)
            }
        };
        entries.insert(path, PulledEntry { content, mode, owner, modified });
    }
    PulledLayer { diff_id: digest(&bytes), entries }
}
