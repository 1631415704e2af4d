//! What the registry holds.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Fault, Logged};

#[derive(Debug, Clone)]
pub(super) struct StoredManifest {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) address: SocketAddr,
    pub(super) encrypted: bool,
    pub(super) faults: Vec<Fault>,
    /// By repository and digest.
    pub(super) blobs: HashMap<(String, String), Bytes>,
    /// By repository and tag or digest.
    pub(super) manifests: BTreeMap<(String, String), StoredManifest>,
    /// What has arrived, by upload.
    pub(super) uploads: HashMap<String, Vec<u8>>,
    /// What is left of the uses of tokens, by token.
    pub(super) tokens: HashMap<String, u32>,
    pub(super) log: Vec<Logged>,
    pub(super) serial: u64,
    /// Whether a test put something in past the checks.
    pub(super) tampered: bool,
}

/// `sha256:` and the digest of bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl State {
    pub(super) fn new(address: SocketAddr, encrypted: bool, faults: Vec<Fault>) -> Self {
        Self {
            address,
            encrypted,
            faults,
            blobs: HashMap::new(),
            manifests: BTreeMap::new(),
            uploads: HashMap::new(),
            tokens: HashMap::new(),
            log: Vec::new(),
            serial: 0,
            tampered: false,
        }
    }

    /// `SCHEME://HOST:PORT`.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.encrypted { "https" } else { "http" }, self.address)
    }

    pub(super) fn has(&self, fault: &Fault) -> bool {
        self.faults.contains(fault)
    }

    pub(super) fn find<T>(&self, find: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.iter().find_map(find)
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn tags(&self, repository: &str) -> Vec<(String, String)> {
        self.manifests
            .iter()
            .filter(|((owner, name), _)| owner == repository && !name.starts_with("sha256:"))
            .map(|((_, tag), manifest)| (tag.clone(), digest(&manifest.bytes)))
            .collect()
    }

    /// What a manifest needs and the repository does not have.
    pub(super) fn missing(&self, repository: &str, manifest: &Value) -> Vec<String> {
        let digest_of = |descriptor: &Value| descriptor["digest"].as_str().unwrap_or_default().to_owned();
        let list = |name: &str| manifest[name].as_array().cloned().unwrap_or_default();
        let config = manifest.get("config").cloned();
        let blobs = config.into_iter().chain(list("layers")).map(|descriptor| digest_of(&descriptor));
        let lacks_blob = |digest: &String| !self.blobs.contains_key(&(repository.to_owned(), digest.clone()));
        let lacks_manifest =
            |digest: &String| !self.manifests.contains_key(&(repository.to_owned(), digest.clone()));
        let children = list("manifests").into_iter().map(|descriptor| digest_of(&descriptor));
        blobs.filter(lacks_blob).chain(children.filter(lacks_manifest)).collect()
    }

    pub(super) fn assert_complete(&self) {
        for ((repository, name), stored) in &self.manifests {
            let manifest: Value = serde_json::from_slice(&stored.bytes).expect("a manifest is JSON");
            let missing = self.missing(repository, &manifest);
            assert!(missing.is_empty(), "{repository}:{name} lacks {missing:?}");
        }
        for ((repository, name), bytes) in &self.blobs {
            assert_eq!(&digest(bytes), name, "a blob of {repository} has other bytes");
        }
    }
}
