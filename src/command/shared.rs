//! Arguments that several commands have.

use anyhow::bail;
use longshore_image::{LayerFormat, LayerFormats, ManifestChoice, Platform};

use super::UsageError;
use crate::settings::Settings;

/// How layers are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Not at all
    #[value(name = "tar")]
    Tar,
    /// With gzip, which every client reads
    #[value(name = "tar+gzip")]
    TarGzip,
    /// With zstd, which Docker reads since version 23
    #[default]
    #[value(name = "tar+zstd")]
    TarZstd,
}

/// `--layer-format`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct LayerFormatArgument {
    /// How new layers are compressed
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "tar+zstd")]
    layer_format: Format,
}

impl LayerFormatArgument {
    /// The format.
    pub(crate) const fn format(self) -> LayerFormat {
        match self.layer_format {
            Format::Tar => LayerFormat::Tar,
            Format::TarGzip => LayerFormat::TarGzip,
            Format::TarZstd => LayerFormat::TarZstd,
        }
    }
}

/// `--layer-format` and `--manifest-format` of commands that write whole images.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FormatArguments {
    /// How layers are compressed: tar, tar+gzip, tar+zstd, or dual for an index of an image with gzip and one with zstd
    /// [default: tar+zstd]
    #[arg(long, value_name = "FORMAT", env = "LONGSHORE_LAYER_FORMAT")]
    pub(crate) layer_format: Option<LayerFormats>,
    /// Whose media types the manifest has: oci, docker, or auto for OCI's unless the registry refuses them
    /// [default: auto]
    #[arg(long, value_name = "FORMAT", env = "LONGSHORE_MANIFEST_FORMAT")]
    pub(crate) manifest_format: Option<ManifestChoice>,
}

impl FormatArguments {
    /// The flags and environment, else the settings.
    pub(crate) fn or(self, settings: &Settings) -> Self {
        Self {
            layer_format: self.layer_format.or(settings.layer_format),
            manifest_format: self.manifest_format.or(settings.manifest_format),
        }
    }

    /// The formats of a new image: zstd with OCI's types, and gzip where Docker's are asked for.
    pub(crate) fn chosen(self) -> (LayerFormats, ManifestChoice) {
        let manifest = self.manifest_format.unwrap_or_default();
        let default = match manifest {
            ManifestChoice::Docker => LayerFormat::TarGzip,
            ManifestChoice::Oci | ManifestChoice::Auto => LayerFormat::TarZstd,
        };
        (self.layer_format.unwrap_or(default.into()), manifest)
    }
}

/// Reads `NAME=VALUE`.
pub(crate) fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is not NAME=VALUE".to_owned()),
    }
}

/// Reads `OS[/ARCH][/VARIANT]`; what pack allows behind it (`:DISTRIBUTION@VERSION`) is ignored.
pub(crate) fn parse_platform(text: &str) -> anyhow::Result<Platform> {
    let mut parts = text.split(':').next().unwrap_or_default().split('/');
    let os = parts.next().unwrap_or_default();
    let architecture = parts.next().map_or_else(|| Platform::host().architecture, str::to_owned);
    let variant = parts.next().map(str::to_owned);
    if os != "linux" || architecture.is_empty() || parts.next().is_some() {
        bail!(UsageError(format!(
            "`{text}` is not a platform that can be built for; write linux/ARCHITECTURE"
        )));
    }
    Ok(Platform { variant, ..Platform::linux(&architecture) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read() {
        for (text, expected) in [
            ("linux/arm64", Some("linux/arm64")),
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("linux/amd64:debian@12", Some("linux/amd64")),
            ("windows/amd64", None),
            ("", None),
            ("linux/a/b/c", None),
        ] {
            assert_eq!(parse_platform(text).ok().map(|platform| platform.to_string()).as_deref(), expected);
        }
    }
}
