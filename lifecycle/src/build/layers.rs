//! The layers that a buildpack leaves behind.
//!
//! Spec: buildpack.md "Layer Types" and "Layers".

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use longshore_cnb::layer_toml::{LayerToml, LayerTypes};
use longshore_cnb::toml_file;

use super::error::BuildError;

/// Files of the buildpack, not of layers.
const NOT_LAYERS: [&str; 3] = ["build.toml", "launch.toml", "store.toml"];

/// A layer with a `<layer>.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) name: OsString,
    pub(super) types: LayerTypes,
}

/// Reads the types of the layers in a buildpack's directory, and sets those aside that are for nothing: later
/// buildpacks must not come to depend on them. The layers are sorted by name.
pub(super) fn settle(directory: &Path) -> Result<Vec<Layer>, BuildError> {
    let mut layers = Vec::new();
    for entry in fs_err::read_dir(directory).map_err(|source| BuildError::io("list", directory, source))? {
        let entry = entry.map_err(|source| BuildError::io("list", directory, source))?;
        let file_name = entry.file_name();
        let Some(name) = file_name.as_bytes().strip_suffix(b".toml") else { continue };
        if NOT_LAYERS.iter().any(|other| file_name == *other) || entry.path().is_dir() {
            continue;
        }
        let types = read_types(&entry.path())?;
        layers.push(Layer { name: OsString::from_vec(name.to_vec()), types });
    }
    layers.sort_by(|one, other| one.name.cmp(&other.name));
    for layer in layers.iter().filter(|layer| layer.types.is_ignored()) {
        set_aside(&directory.join(&layer.name))?;
    }
    Ok(layers)
}

fn read_types(path: &Path) -> Result<LayerTypes, BuildError> {
    let layer: LayerToml =
        toml_file::read(path).map_err(|source| BuildError::Layer { source: Box::new(source) })?;
    if layer.has_top_level_types() {
        return Err(BuildError::rule(path, "'launch', 'build' and 'cache' belong into the table [types]"));
    }
    Ok(layer.types)
}

/// Renames `<layer>/` to `<layer>.ignore/`.
fn set_aside(layer: &Path) -> Result<(), BuildError> {
    let mut name = layer.as_os_str().to_owned();
    name.push(".ignore");
    let ignored = Path::new(&name);
    if !layer.is_dir() {
        return Ok(());
    }
    // One may be left from an earlier build in the same directory, and a directory that is not empty is not replaced.
    match fs_err::remove_dir_all(ignored) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(BuildError::io("remove", ignored, error));
        }
        _ => {}
    }
    fs_err::rename(layer, ignored).map_err(|source| BuildError::io("set aside", layer, source))
}
