//! What an app was when its layers were made, as a file: compressed JSON behind its digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::AppTree;
use crate::snapshot::{decode_name, encode_name};
use crate::{DiffId, Digest};

/// The version of the format.
const VERSION: u32 = 1;
const DIGEST: usize = 32;
/// The compression: it is written at each build, and mostly names and digests.
const LEVEL: i32 = 3;

/// By name in the image.
pub(super) type Nodes = BTreeMap<Vec<u8>, Node>;

/// A file of any kind, as far as it decides its entry in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    #[serde(flatten)]
    pub(super) kind: Kind,
}

/// What it is; names as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum Kind {
    Directory,
    File { size: u64, digest: Digest },
    HardLink { target: String },
    Symlink { target: String },
    Fifo,
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

/// What an app was when its layers were made: what the layers are together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRecord {
    layers: Vec<(DiffId, u64)>,
    pub(super) nodes: Nodes,
}

#[derive(Serialize, Deserialize)]
struct File {
    longshore_app: u32,
    layers: Vec<(DiffId, u64)>,
    nodes: BTreeMap<String, Node>,
}

impl AppRecord {
    /// The record of a tree that was made into layers, lowest first, each with the size of its tar in bytes.
    #[must_use]
    pub fn new(tree: &AppTree, layers: Vec<(DiffId, u64)>) -> Self {
        Self { layers, nodes: tree.nodes.clone() }
    }

    /// Its layers, lowest first, each with the size of its tar in bytes.
    #[must_use]
    pub fn layers(&self) -> &[(DiffId, u64)] {
        &self.layers
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, std::io::Error> {
        let nodes = self.nodes.iter().map(|(name, node)| (encode_name(name), node.clone())).collect();
        let file = File { longshore_app: VERSION, layers: self.layers.clone(), nodes };
        let content = zstd::encode_all(serde_json::to_vec(&file)?.as_slice(), LEVEL)?;
        Ok([Digest::of(&content).as_bytes().as_slice(), &content].concat())
    }

    /// The record; why not, when the bytes are not those of one.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (digest, content) = bytes.split_at_checked(DIGEST).ok_or("it is too short")?;
        if Digest::of(content).as_bytes().as_slice() != digest {
            return Err("its content is not that of its digest".to_owned());
        }
        let text = zstd::decode_all(content).map_err(|error| error.to_string())?;
        let file: File = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        if file.longshore_app != VERSION {
            return Err(format!("it has version {}", file.longshore_app));
        }
        let nodes = file.nodes.into_iter().map(|(name, node)| Some((decode_name(&name)?, node)));
        let nodes = nodes.collect::<Option<_>>().ok_or("a name in it is damaged")?;
        Ok(Self { layers: file.layers, nodes })
    }
}
