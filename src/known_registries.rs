//! What was learnt about registries: which of them take only Docker's media types.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use longshore_image::{LayerFormats, Manifest, ManifestChoice, ManifestFormat, MediaType};
use serde::{Deserialize, Serialize};

use crate::directories::Directories;

/// What was learnt, in `$XDG_STATE_HOME/longshore/registries.toml`.
#[derive(Debug, Default)]
pub(crate) struct KnownRegistries {
    path: PathBuf,
    file: File,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    #[serde(default)]
    registries: BTreeMap<String, Registry>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest_format: Option<ManifestChoice>,
}

impl KnownRegistries {
    /// Reads the file. One that is damaged is worth no more than none.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(crate) fn read(directories: &Directories) -> anyhow::Result<Self> {
        let path = directories.state.join("registries.toml");
        let text = match fs_err::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let file = toml::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!("ignoring `{}`, which is damaged: {error}", path.display());
            File::default()
        });
        Ok(Self { path, file })
    }

    /// The formats for a registry. Where `auto` was chosen and the registry is known to take only Docker's types, these
    /// are chosen, with the layers that they can hold.
    pub(crate) fn formats(
        &self,
        registry: &str,
        layers: Option<LayerFormats>,
        manifest: ManifestChoice,
    ) -> (Option<LayerFormats>, Option<ManifestChoice>) {
        let known = self.file.registries.get(registry).and_then(|known| known.manifest_format);
        if manifest != ManifestChoice::Auto || known != Some(ManifestChoice::Docker) {
            return (layers, Some(manifest));
        }
        tracing::info!(
            "{registry} took only Docker's media types before, so they are used; `{}` says so",
            self.path.display()
        );
        (layers.map(|layers| layers.in_docker().into()), Some(ManifestChoice::Docker))
    }

    /// Remembers a registry where `auto` had to fall back to Docker's types.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn learn(
        &mut self,
        registry: &str,
        choice: ManifestChoice,
        written: &Manifest,
    ) -> anyhow::Result<()> {
        let is_docker = matches!(
            written.media_type(),
            MediaType::Manifest(ManifestFormat::Docker) | MediaType::Index(ManifestFormat::Docker)
        );
        if choice != ManifestChoice::Auto || !is_docker {
            return Ok(());
        }
        let known = self.file.registries.entry(registry.to_owned()).or_default();
        known.manifest_format = Some(ManifestChoice::Docker);
        let text = toml::to_string_pretty(&self.file).context("cannot write what was learnt as TOML")?;
        let directory = self.path.parent().context("the state directory has no parent")?;
        fs_err::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.persist(&self.path).with_context(|| format!("cannot write `{}`", self.path.display()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use longshore_image::{Descriptor, Digest, ImageManifest, LayerFormat};

    use super::*;

    #[test]
    fn a_registry_that_took_only_dockers_types_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state/registries.toml");
        let mut known = KnownRegistries { path: path.clone(), file: File::default() };
        let zstd = Some(LayerFormat::TarZstd.into());
        let auto = ManifestChoice::Auto;
        assert_eq!(known.formats("a.example", zstd, auto), (zstd, Some(auto)));
        let manifest = |family| {
            let config = Descriptor::new(MediaType::Config(family), Digest::of(b""), 0);
            Manifest::image(ImageManifest::new(family, config, Vec::new()))
        };
        known.learn("a.example", auto, &manifest(ManifestFormat::Oci)).unwrap();
        known.learn("a.example", ManifestChoice::Docker, &manifest(ManifestFormat::Docker)).unwrap();
        assert!(!path.exists(), "what was asked for is no news");
        known.learn("a.example", auto, &manifest(ManifestFormat::Docker)).unwrap();
        let file = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let known = KnownRegistries { path, file };
        let gzip = Some(LayerFormat::TarGzip.into());
        assert_eq!(known.formats("a.example", zstd, auto), (gzip, Some(ManifestChoice::Docker)));
        assert_eq!(known.formats("b.example", zstd, auto), (zstd, Some(auto)));
        assert_eq!(known.formats("a.example", zstd, ManifestChoice::Oci), (zstd, Some(ManifestChoice::Oci)));
    }
}
