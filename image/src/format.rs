//! What form an image is written in: how its layers are compressed, and whose media types its manifest has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{LayerFormat, ManifestFormat};

/// The annotation of zstd manifests in an index, by which podman, CRI-O and buildah prefer them (containers/image).
pub const ZSTD_ANNOTATION: &str = "io.github.containers.compression.zstd";

/// How the layers of an image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerFormats {
    /// All in one way.
    One(LayerFormat),
    /// Twice: an index with a gzip manifest, which every client reads, and a zstd one, which those that can prefer.
    Dual,
}

impl LayerFormats {
    /// The format of the first manifest, or of the only one.
    #[must_use]
    pub const fn first(self) -> LayerFormat {
        match self {
            Self::One(format) => format,
            Self::Dual => LayerFormat::TarGzip,
        }
    }

    /// Whether a Docker manifest can hold it: Docker has no media type for zstd.
    #[must_use]
    pub const fn fits(self, family: ManifestFormat) -> bool {
        matches!(
            (self, family),
            (_, ManifestFormat::Oci) | (Self::One(LayerFormat::Tar | LayerFormat::TarGzip), _)
        )
    }

    /// What comes nearest to it in a Docker manifest.
    #[must_use]
    pub const fn in_docker(self) -> LayerFormat {
        match self {
            Self::One(LayerFormat::Tar) => LayerFormat::Tar,
            _ => LayerFormat::TarGzip,
        }
    }
}

impl From<LayerFormat> for LayerFormats {
    fn from(format: LayerFormat) -> Self {
        Self::One(format)
    }
}

/// Whose media types a manifest is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ManifestChoice {
    /// OCI's.
    Oci,
    /// Docker's.
    Docker,
    /// OCI's, and Docker's where the registry refuses those.
    #[default]
    Auto,
}

impl ManifestChoice {
    /// The family that is tried first.
    #[must_use]
    pub const fn family(self) -> ManifestFormat {
        match self {
            Self::Oci | Self::Auto => ManifestFormat::Oci,
            Self::Docker => ManifestFormat::Docker,
        }
    }
}

/// A text that is no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a format; there are {known}")]
pub struct InvalidFormat {
    text: String,
    known: &'static str,
}

impl FromStr for LayerFormats {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, InvalidFormat> {
        match text {
            "tar" => Ok(Self::One(LayerFormat::Tar)),
            "tar+gzip" => Ok(Self::One(LayerFormat::TarGzip)),
            "tar+zstd" => Ok(Self::One(LayerFormat::TarZstd)),
            "dual" => Ok(Self::Dual),
            _ => Err(InvalidFormat {
                text: text.to_owned(),
                known: "`tar`, `tar+gzip`, `tar+zstd` and `dual`",
            }),
        }
    }
}

impl fmt::Display for LayerFormats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::One(LayerFormat::Tar) => "tar",
            Self::One(LayerFormat::TarGzip) => "tar+gzip",
            Self::One(LayerFormat::TarZstd) => "tar+zstd",
            Self::Dual => "dual",
        })
    }
}

impl FromStr for ManifestChoice {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, InvalidFormat> {
        match text {
            "oci" => Ok(Self::Oci),
            // `v2s2` is what skopeo calls it.
            "docker" | "v2s2" => Ok(Self::Docker),
            "auto" => Ok(Self::Auto),
            _ => Err(InvalidFormat { text: text.to_owned(), known: "`oci`, `docker` and `auto`" }),
        }
    }
}

impl fmt::Display for ManifestChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Oci => "oci",
            Self::Docker => "docker",
            Self::Auto => "auto",
        })
    }
}

/// Formats stand as their texts in settings.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(LayerFormats);
serde_as_text!(ManifestChoice);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_read_back_what_they_print() {
        for text in ["tar", "tar+gzip", "tar+zstd", "dual"] {
            assert_eq!(text.parse::<LayerFormats>().unwrap().to_string(), text);
        }
        for text in ["oci", "docker", "auto"] {
            assert_eq!(text.parse::<ManifestChoice>().unwrap().to_string(), text);
        }
        let error = "zip".parse::<LayerFormats>().unwrap_err().to_string();
        assert!(error.contains("`zip`") && error.contains("dual"), "{error}");
        assert!("zip".parse::<ManifestChoice>().is_err());
    }

    #[test]
    fn only_docker_has_limits() {
        let table = [("tar", true), ("tar+gzip", true), ("tar+zstd", false), ("dual", false)];
        for (text, fits) in table {
            let formats: LayerFormats = text.parse().unwrap();
            assert!(formats.fits(ManifestFormat::Oci), "{text}");
            assert_eq!(formats.fits(ManifestFormat::Docker), fits, "{text}");
            assert!(LayerFormats::One(formats.in_docker()).fits(ManifestFormat::Docker), "{text}");
        }
    }
}
