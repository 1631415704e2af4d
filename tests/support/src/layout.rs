//! Writing images by hand: tar archives of a few files, and OCI image layouts of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// `sha256:` and the digest of `bytes`.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("writing to a string");
    }
    text
}

/// What one path of a layer is.
#[derive(Debug, Clone)]
enum Entry {
    Folder,
    File(Vec<u8>),
    Link(String),
}

#[derive(Debug, Clone)]
struct Owned {
    entry: Entry,
    mode: u32,
    owner: (u64, u64),
}

/// The files of a layer, in the order of their paths, all as old as the first moment of 1980.
#[derive(Debug, Clone, Default)]
pub struct Files(BTreeMap<String, Owned>);

impl Files {
    /// A folder with this mode and owner.
    pub fn folder(&mut self, path: &str, mode: u32, owner: (u64, u64)) -> &mut Self {
        self.0.insert(path.to_owned(), Owned { entry: Entry::Folder, mode, owner });
        self
    }

    /// A file of root with this mode.
    pub fn file(&mut self, path: &str, mode: u32, contents: impl Into<Vec<u8>>) -> &mut Self {
        self.0.insert(path.to_owned(), Owned { entry: Entry::File(contents.into()), mode, owner: (0, 0) });
        self
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        let entry = Entry::Link(target.to_owned());
        self.0.insert(path.to_owned(), Owned { entry, mode: 0o777, owner: (0, 0) });
        self
    }

    /// The uncompressed archive.
    ///
    /// # Panics
    /// When a path does not fit.
    #[must_use]
    pub fn archive(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, Owned { entry, mode, owner }) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_mtime(315_532_801);
            header.set_uid(owner.0);
            header.set_gid(owner.1);
            header.set_size(0);
            match entry {
                Entry::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    builder.append_data(&mut header, format!("{path}/"), std::io::empty())
                }
                Entry::File(contents) => {
                    header.set_size(contents.len() as u64);
                    builder.append_data(&mut header, path, contents.as_slice())
                }
                Entry::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    builder.append_link(&mut header, path, target)
                }
            }
            .expect("an entry of an archive");
        }
        builder.into_inner().expect("the end of an archive")
    }
}

/// An OCI image layout.
#[derive(Debug, Clone)]
pub struct Layout(PathBuf);

impl Layout {
    /// Opens the layout in `folder`, which is made if there is none.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn open(folder: &Path) -> Self {
        std::fs::create_dir_all(folder.join("blobs/sha256")).expect("the layout's folder");
        let layout = Self(folder.to_path_buf());
        if !folder.join("index.json").exists() {
            std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
                .expect("oci-layout");
            layout.write_index(&json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [],
            }));
        }
        layout
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Writes a blob and returns its descriptor.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let file = self.0.join("blobs").join(digest.replace(':', "/"));
        if !file.exists() {
            std::fs::write(file, bytes).expect("a blob");
        }
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Writes an image under `name`: `config` gets the DiffIDs of `layers`, which are compressed with gzip. Returns
    /// the digest of the manifest.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn image(&self, name: &str, mut config: Value, layers: &[Vec<u8>]) -> String {
        config["rootfs"] = json!({
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>(),
        });
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| self.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(layer)))
            .collect();
        let config = serde_json::to_vec(&config).expect("the configuration as JSON");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        });
        let manifest = serde_json::to_vec(&manifest).expect("the manifest as JSON");
        let mut descriptor = self.blob("application/vnd.oci.image.manifest.v1+json", &manifest);
        descriptor["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name,
        });
        self.name(name, descriptor);
        digest(&manifest)
    }

    fn name(&self, name: &str, descriptor: Value) {
        let mut index = self.index();
        let manifests = index["manifests"].as_array_mut().expect("the index's manifests");
        manifests.retain(|other| other["annotations"]["org.opencontainers.image.ref.name"] != name);
        manifests.push(descriptor);
        self.write_index(&index);
    }

    /// The layout's index.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn index(&self) -> Value {
        let bytes = std::fs::read(self.0.join("index.json")).expect("index.json");
        serde_json::from_slice(&bytes).expect("index.json is JSON")
    }

    fn write_index(&self, index: &Value) {
        std::fs::write(self.0.join("index.json"), index.to_string()).expect("index.json");
    }
}

/// `bytes` compressed with gzip.
///
/// # Panics
/// Never: it is done in memory.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("compression in memory")
}
