//! Media types of the two families: OCI and Docker schema 2 (image-spec `media-types.md`).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The family whose media types a manifest uses. A manifest never mixes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ManifestFormat {
    /// OCI image-spec 1.1.
    #[default]
    Oci,
    /// Docker image manifest, version 2, schema 2.
    Docker,
}

/// How a layer's tar is stored and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum LayerFormat {
    /// Uncompressed.
    Tar,
    /// Compressed with gzip: every client reads it.
    TarGzip,
    /// Compressed with zstd: Docker 23, containerd 1.5, podman and later read it.
    #[default]
    TarZstd,
}

/// A media type of a blob or manifest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// An image manifest.
    Manifest(ManifestFormat),
    /// An image index, or Docker's manifest list.
    Index(ManifestFormat),
    /// An image configuration.
    Config(ManifestFormat),
    /// A layer. Docker has no official zstd layer; `Layer(Docker, TarZstd)` is read and never written.
    Layer(ManifestFormat, LayerFormat),
    /// The empty descriptor of artifacts.
    Empty,
    /// Any other type, kept as it is.
    Other(String),
}

const TABLE: &[(&str, MediaType)] = {
    use LayerFormat::{Tar, TarGzip, TarZstd};
    use ManifestFormat::{Docker, Oci};
    use MediaType::{Config, Empty, Index, Layer, Manifest};
    &[
        ("application/vnd.oci.image.manifest.v1+json", Manifest(Oci)),
        ("application/vnd.oci.image.index.v1+json", Index(Oci)),
        ("application/vnd.oci.image.config.v1+json", Config(Oci)),
        ("application/vnd.oci.image.layer.v1.tar", Layer(Oci, Tar)),
        ("application/vnd.oci.image.layer.v1.tar+gzip", Layer(Oci, TarGzip)),
        ("application/vnd.oci.image.layer.v1.tar+zstd", Layer(Oci, TarZstd)),
        ("application/vnd.docker.distribution.manifest.v2+json", Manifest(Docker)),
        ("application/vnd.docker.distribution.manifest.list.v2+json", Index(Docker)),
        ("application/vnd.docker.container.image.v1+json", Config(Docker)),
        ("application/vnd.docker.image.rootfs.diff.tar", Layer(Docker, Tar)),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", Layer(Docker, TarGzip)),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", Layer(Docker, TarZstd)),
        ("application/vnd.oci.empty.v1+json", Empty),
    ]
};

impl MediaType {
    /// The four manifest types, for the `Accept` header of every manifest request.
    pub const ACCEPTED_MANIFESTS: &'static str = "application/vnd.oci.image.manifest.v1+json, \
         application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
         application/vnd.docker.distribution.manifest.list.v2+json";

    /// The text that stands in manifests and headers.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if let Self::Other(text) = self {
            return text;
        }
        TABLE.iter().find(|(_, known)| known == self).map_or("", |(text, _)| text)
    }
}

impl From<&str> for MediaType {
    /// Parameters such as `; charset=utf-8` are dropped.
    fn from(text: &str) -> Self {
        let essence = text.split(';').next().unwrap_or_default().trim();
        TABLE
            .iter()
            .find(|(known, _)| *known == essence)
            .map_or_else(|| Self::Other(essence.to_owned()), |(_, media_type)| media_type.clone())
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_type_reads_back() {
        for (text, media_type) in TABLE {
            assert_eq!(media_type.as_str(), *text);
            assert_eq!(&MediaType::from(*text), media_type);
        }
        assert_eq!(MediaType::from("application/x; charset=utf-8").as_str(), "application/x");
    }
}
