//! The user's settings: `$XDG_CONFIG_HOME/longshore/config.toml`, and what pack's `config.toml` says besides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use longshore_image::{LayerFormats, ManifestChoice};
use longshore_lifecycle::export::AppLayer;
use serde::{Deserialize, Serialize};

use crate::directories::Directories;

/// When an image is looked for in a registry although the local store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PullPolicy {
    /// The registry is asked first; the local store serves images that are only there.
    Always,
    /// The registry is asked for what the local store does not have.
    #[default]
    IfNotPresent,
    /// The registry is never asked.
    Never,
}

/// The settings file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Settings {
    /// The builder of `build` where neither `--builder` nor `project.toml` names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_builder: Option<String>,
    /// The default of `--pull-policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pull_policy: Option<PullPolicy>,
    /// The default of `--app-layer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) app_layer: Option<AppLayer>,
    /// The default of `--layer-format`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layer_format: Option<LayerFormats>,
    /// The default of `--manifest-format`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) manifest_format: Option<ManifestChoice>,
    /// Registries to speak plain HTTP with, or whose certificates are not checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) insecure_registries: Vec<String>,
    /// Mirrors by registry (`*` for all), asked first when images are read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) registry_mirrors: BTreeMap<String, String>,
}

/// What we read of pack's file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PackSettings {
    default_builder_image: Option<String>,
    #[serde(default)]
    registry_mirrors: BTreeMap<String, String>,
}

impl Settings {
    /// Where the settings are.
    pub(crate) fn path(directories: &Directories) -> PathBuf {
        directories.configuration.join("config.toml")
    }

    /// Reads our settings; a file that does not exist is empty settings. A default builder and mirrors that only pack's
    /// file has are taken from there.
    ///
    /// # Errors
    /// When a file exists and cannot be read or is not valid.
    pub(crate) fn read(directories: &Directories) -> anyhow::Result<Self> {
        let mut settings: Self = read_toml(&Self::path(directories))?.unwrap_or_default();
        if settings.default_builder.is_none() || settings.registry_mirrors.is_empty() {
            let pack: PackSettings = read_toml(&directories.pack.join("config.toml"))?.unwrap_or_default();
            let theirs = pack.default_builder_image.filter(|name| !name.is_empty());
            settings.default_builder = settings.default_builder.or(theirs);
            if settings.registry_mirrors.is_empty() {
                settings.registry_mirrors = pack.registry_mirrors;
            }
        }
        Ok(settings)
    }

    /// Changes our settings file. Only what the file itself says is written back, not what came from pack's.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn change(
        directories: &Directories,
        change: impl FnOnce(&mut Self),
    ) -> anyhow::Result<PathBuf> {
        let path = Self::path(directories);
        let mut settings: Self = read_toml(&path)?.unwrap_or_default();
        change(&mut settings);
        let text = toml::to_string_pretty(&settings).context("cannot write the settings as TOML")?;
        fs_err::create_dir_all(&directories.configuration)?;
        let mut file = tempfile::NamedTempFile::new_in(&directories.configuration)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.persist(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path)
    }
}

fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let text = match fs_err::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let value = toml::from_str(&text)
        .with_context(|| format!("the settings in `{}` are not valid", path.display()))?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(root: &Path) -> Directories {
        Directories {
            configuration: root.join("config"),
            data: root.join("data"),
            cache: root.join("cache"),
            state: root.join("state"),
            pack: root.join("pack"),
        }
    }

    #[test]
    fn packs_default_builder_is_used_where_ours_has_none() {
        let root = tempfile::tempdir().unwrap();
        let directories = directories(root.path());
        assert_eq!(Settings::read(&directories).unwrap(), Settings::default());

        fs_err::create_dir(&directories.pack).unwrap();
        fs_err::write(
            directories.pack.join("config.toml"),
            "default-builder-image = \"heroku/builder:24\"\nexperimental = true\n\
             [registry-mirrors]\n\"index.docker.io\" = \"10.0.0.1\"\n",
        )
        .unwrap();
        assert_eq!(Settings::read(&directories).unwrap().registry_mirrors["index.docker.io"], "10.0.0.1");
        assert_eq!(
            Settings::read(&directories).unwrap().default_builder.as_deref(),
            Some("heroku/builder:24")
        );

        Settings::change(&directories, |settings| settings.default_builder = Some("mine".to_owned()))
            .unwrap();
        assert_eq!(Settings::read(&directories).unwrap().default_builder.as_deref(), Some("mine"));
    }

    #[test]
    fn an_invalid_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        let directories = directories(root.path());
        fs_err::create_dir(&directories.configuration).unwrap();
        fs_err::write(Settings::path(&directories), "defualt-builder = 1").unwrap();
        let error = Settings::read(&directories).unwrap_err();
        assert!(error.to_string().contains("config/config.toml"), "{error}");
    }
}
