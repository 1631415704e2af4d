//! Directories that end up in the image, and buildpacks' layer directories.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use longshore_cnb::group::{GroupElement, directory_name};
use longshore_cnb::layer_toml::LayerToml;
use longshore_cnb::store_toml::StoreToml;
use longshore_cnb::toml_file::{self, TomlFileError};

/// A directory by its two names: a phase may run outside the build environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedDirectory {
    /// Where it is on this machine.
    pub host: PathBuf,
    /// What it is called in the build environment and in the image (`/layers`).
    pub name: PathBuf,
}

impl MappedDirectory {
    /// A directory that has the same name in both places.
    #[must_use]
    pub fn in_place(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { host: path.clone(), name: path }
    }

    /// A file or directory below it.
    #[must_use]
    pub fn join(&self, relative: impl AsRef<Path>) -> Self {
        Self { host: self.host.join(&relative), name: self.name.join(&relative) }
    }
}

/// To whom restored files belong, when the phase runs as root but buildpacks do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

/// The content of `<layers>/<buildpack>` (buildpack.md "Layers").
#[derive(Debug)]
pub(crate) struct BuildpackDirectory {
    /// The layers, sorted by name.
    pub(crate) layers: Vec<FoundLayer>,
    /// `store.toml`.
    pub(crate) store: Option<StoreToml>,
}

/// A layer as a buildpack left it: a directory, a `.toml` file, or both.
#[derive(Debug)]
pub(crate) struct FoundLayer {
    /// `<buildpack id>:<name>`, for messages.
    pub(crate) identifier: String,
    /// The layer's name.
    pub(crate) name: String,
    /// Its directory, if it left one.
    pub(crate) directory: Option<MappedDirectory>,
    /// Its content metadata; the default where there is no file, the reason where the file is malformed.
    pub(crate) content: Result<LayerToml, MalformedLayer>,
}

/// Why a `<layer>.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MalformedLayer {
    /// It cannot be read, or is not TOML.
    #[error(transparent)]
    File(#[from] TomlFileError),
    /// It has the types of Buildpack API 0.5.
    #[error("`{path}` has `launch`, `build` or `cache` outside of its `[types]` table; move them into it")]
    TopLevelTypes {
        /// The file.
        path: PathBuf,
    },
}

/// Why `<layers>/<buildpack>` cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayersDirectoryError {
    /// The directory cannot be listed.
    #[error("cannot read the layers directory `{path}`")]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file in it is malformed.
    #[error(transparent)]
    File(#[from] TomlFileError),
}

impl BuildpackDirectory {
    /// Reads what a buildpack left; nothing if it has no directory.
    pub(crate) fn read(
        layers: &MappedDirectory,
        buildpack: &GroupElement,
    ) -> Result<Self, LayersDirectoryError> {
        let directory = layers.join(directory_name(&buildpack.id));
        let names = list(&directory.host)?;
        let mut layer_names: Vec<&str> =
            names.iter().filter(|(_, is_dir)| *is_dir).map(|(name, _)| &**name).collect();
        let files =
            names.iter().filter(|(_, is_dir)| !is_dir).filter_map(|(name, _)| name.strip_suffix(".toml"));
        let reserved = ["store", "launch", "build"];
        layer_names.extend(files.filter(|name| !reserved.contains(name)));
        layer_names.sort_unstable();
        layer_names.dedup();
        let found = layer_names.into_iter().map(|name| FoundLayer {
            identifier: format!("{}:{name}", buildpack.id),
            name: name.to_owned(),
            directory: Some(directory.join(name)).filter(|directory| directory.host.is_dir()),
            content: read_content(&directory.host.join(format!("{name}.toml"))),
        });
        let layers = found.collect();
        let store = toml_file::read_optional(&directory.host.join("store.toml"))?;
        Ok(Self { layers, store })
    }
}

fn list(directory: &Path) -> Result<Vec<(String, bool)>, LayersDirectoryError> {
    let failed = |source| LayersDirectoryError::List { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.file_type()?.is_dir()))
    };
    entries.map(name).collect::<Result<_, _>>().map_err(failed)
}

fn read_content(path: &Path) -> Result<LayerToml, MalformedLayer> {
    let content: LayerToml = toml_file::read_optional(path)?.unwrap_or_default();
    if content.has_top_level_types() {
        return Err(MalformedLayer::TopLevelTypes { path: path.to_owned() });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_directories_and_files_sorted_by_name() {
        let root = tempfile::tempdir().unwrap();
        let buildpack = GroupElement { id: "acme/web".to_owned(), ..GroupElement::default() };
        let directory = root.path().join("acme_web");
        std::fs::create_dir_all(directory.join("b")).unwrap();
        for (name, text) in [
            ("a.toml", "[types]\nlaunch = true\n"),
            ("b.toml", "[types]\ncache = true\n"),
            ("bad.toml", "="),
            ("old.toml", "launch = true"),
            ("store.toml", "[metadata]\nn = 1\n"),
            ("launch.toml", ""),
            ("build.toml", ""),
            ("b.sbom.cdx.json", ""),
        ] {
            std::fs::write(directory.join(name), text).unwrap();
        }
        let found = BuildpackDirectory::read(&MappedDirectory::in_place(root.path()), &buildpack).unwrap();
        let summary: Vec<_> = found
            .layers
            .iter()
            .map(|layer| {
                let launch = layer.content.as_ref().is_ok_and(|content| content.types.launch);
                (layer.identifier.as_str(), layer.directory.is_some(), launch, layer.content.is_ok())
            })
            .collect();
        assert_eq!(
            summary,
            [
                ("acme/web:a", false, true, true),
                ("acme/web:b", true, false, true),
                ("acme/web:bad", false, false, false),
                ("acme/web:old", false, false, false)
            ]
        );
        assert!(found.store.is_some());
        let none = GroupElement { id: "acme/none".to_owned(), ..GroupElement::default() };
        assert!(
            BuildpackDirectory::read(&MappedDirectory::in_place(root.path()), &none)
                .unwrap()
                .layers
                .is_empty()
        );
    }
}
