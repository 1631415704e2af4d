//! Descriptors: typed, sized pointers to content (image-spec `descriptor.md`), and platforms.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fields::lossless;
use crate::{Digest, Fields, MediaType, json};

/// A pointer to a blob or manifest: its type, digest and size in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default = "no_media_type", skip_serializing_if = "is_no_media_type")]
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
    /// For which platform a manifest of an index is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free annotations, sorted.
    #[serde(default, deserialize_with = "json::null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// All other fields (`urls`, `data`, `artifactType`, ...), kept as they are.
    #[serde(skip)]
    pub other: Fields,
}

lossless!(Descriptor);
lossless!(Platform);

fn no_media_type() -> MediaType {
    MediaType::Other(String::new())
}

fn is_no_media_type(media_type: &MediaType) -> bool {
    media_type.as_str().is_empty()
}

impl Descriptor {
    /// A descriptor without annotations.
    #[must_use]
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            other: Fields::default(),
        }
    }

    /// The same with the unknown fields of `old`, which this content replaces, but for those about the old bytes: what they
    /// are (`data`) and where else (`urls`).
    #[must_use]
    pub fn in_place_of(mut self, old: &Self) -> Self {
        self.other.clone_from(&old.other);
        for name in ["data", "urls"] {
            self.other.remove(name);
        }
        self
    }
}

/// An operating system, an architecture and its variant, in Go's words (image-spec `image-index.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Platform {
    /// `GOARCH`: `amd64`, `arm64`, ...
    pub architecture: String,
    /// `GOOS`: `linux`.
    pub os: String,
    /// The version of the operating system (Windows).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// `v7`, `v8`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// All other fields, kept as they are.
    #[serde(skip)]
    pub other: Fields,
}

impl Platform {
    /// Linux on the architecture this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self::linux(architecture)
    }

    /// Linux on an architecture, in Go's words, without a variant.
    #[must_use]
    pub fn linux(architecture: &str) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            os_version: None,
            variant: None,
            other: Fields::default(),
        }
    }

    /// Whether an image for `offered` runs where `self` is wanted: a variant that either leaves out matches any.
    #[must_use]
    pub fn accepts(&self, offered: &Self) -> bool {
        let variants = self.variant.as_ref().zip(offered.variant.as_ref());
        self.os == offered.os
            && self.architecture == offered.architecture
            && variants.is_none_or(|(wanted, offered)| wanted == offered)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(formatter, "/{variant}"))
    }
}
